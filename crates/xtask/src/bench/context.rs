//! What every benchmark of one run shares: the drivers, the machine, the payloads, and two warm servers.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::Options;
use super::java;
use super::librdkafka::{self, Drivers};
use super::machine::{self, Machine};
use super::payload::{self, Payloads};
use super::performance::Produce;
use super::server::{Durability, Recipe, Server, Side};
use super::tls::Tls;
use crate::kafka;

/// The fairness rules' warm-up of a JVM.
const WARM_SECONDS: f64 = 60.0;
const WARM_RECORDS: f64 = 2e6;

pub struct Context {
    pub options: Options,
    pub binary: PathBuf,
    pub work: PathBuf,
    pub drivers: Drivers,
    pub tls: Option<Tls>,
    pub tools: PathBuf,
    pub machine: Machine,
    pub versions: BTreeMap<String, String>,
    servers: OnceCell<(Server, Server)>,
    topics: Cell<u32>,
    payloads: RefCell<BTreeMap<usize, Rc<Payloads>>>,
}

/// How long one run takes.
#[derive(Clone, Copy)]
pub struct Timing {
    pub warmup: f64,
    pub seconds: f64,
}

impl Context {
    pub fn new(options: Options) -> Result<Self> {
        let binary = binary(options.headwater.as_deref())?;
        let work = options.dir.clone().unwrap_or_else(|| kafka::cache().join("bench/work"));
        // What an interrupted run left.
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
        let mut drivers = librdkafka::build(options.tls)?;
        let tls = if options.tls { Some(Tls::new(&work)?) } else { None };
        if let Some(tls) = &tls {
            drivers = tls.drivers(&drivers)?;
        }
        let tools = java::fetch()?;
        eprintln!("bench: measuring this machine's limits");
        let machine = machine::describe(&work, options.quick)?;
        let versions = versions(&binary, options.headwater.is_some())?;
        Ok(Self {
            options,
            binary,
            work,
            drivers,
            tls,
            tools,
            machine,
            versions,
            servers: OnceCell::new(),
            topics: Cell::new(0),
            payloads: RefCell::default(),
        })
    }

    pub fn pairs(&self, usual: usize) -> usize {
        self.options.pairs.unwrap_or(if self.options.quick { 1 } else { usual })
    }

    pub fn timing(&self, warmup: f64, seconds: f64) -> Timing {
        if self.options.quick {
            Timing { warmup: warmup.min(1.0), seconds: seconds.min(2.0) }
        } else {
            Timing { warmup, seconds }
        }
    }

    pub fn quick_or<T>(&self, quick: T, full: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// The payload file of a size, written once a run.
    pub fn payloads(&self, size: usize) -> Result<Rc<Payloads>> {
        if let Some(known) = self.payloads.borrow().get(&size) {
            return Ok(Rc::clone(known));
        }
        let written = Rc::new(payload::write(&self.work, self.options.seed, size)?);
        self.payloads.borrow_mut().insert(size, Rc::clone(&written));
        Ok(written)
    }

    /// A topic name that this run has not used.
    pub fn new_topic(&self) -> String {
        self.topics.set(self.topics.get() + 1);
        format!("bench-{}", self.topics.get())
    }

    pub fn recipe(&self, side: Side, dir: &Path, properties: &[(&str, &str)]) -> Result<Recipe> {
        let mut all: Vec<(String, String)> =
            properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if side == Side::Ours {
            all.extend(self.options.config.iter().filter_map(|pair| {
                pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
            }));
        }
        Recipe::new(side, &self.binary, dir, &all, self.tls.as_ref())
    }

    /// The two servers that the throughput and latency benchmarks share, warm.
    pub fn server(&self, side: Side) -> Result<&Server> {
        if self.servers.get().is_none() {
            let start = |side: Side| -> Result<Server> {
                eprintln!("bench: starting {}", side.name());
                let server = self.recipe(side, &self.work.join("shared"), &[])?.start()?;
                self.warm(&server)?;
                Ok(server)
            };
            let pair = (start(Side::Ours)?, start(Side::Peer)?);
            // Only this thread fills the cell.
            let _ = self.servers.set(pair);
        }
        let (ours, peer) = self.servers.get().context("the servers were started above")?;
        Ok(if side == Side::Ours { ours } else { peer })
    }

    /// Both get the same warm-up, though only one is a JVM.
    pub fn warm(&self, server: &Server) -> Result<()> {
        let payloads = self.payloads(1024)?;
        let (begun, mut records) = (Instant::now(), 0.0);
        let (seconds, wanted) = self.quick_or((3.0, 0.0), (WARM_SECONDS, WARM_RECORDS));
        while begun.elapsed().as_secs_f64() < seconds || records < wanted {
            let topic = self.new_topic();
            server.create_topic(&topic, 6, &[])?;
            let (message, size) = (payloads.one.as_str(), 1024);
            let run = Produce { topic: &topic, size, message, batch: 16384, linger_ms: 5, properties: &[] };
            let share = (seconds / 3.0).clamp(1.0, 20.0);
            let sample = run.run(&self.drivers.performance, server, 0.5, share)?;
            records += sample.values["total"];
            eprintln!(
                "bench: warming {}: {records:.0} records, {:.0} s of {seconds:.0} s",
                server.side.name(),
                begun.elapsed().as_secs_f64()
            );
            server.delete_topic(&topic)?;
        }
        server.settle()
    }

    /// Whether a server takes the topic configuration of a durability class; an error says that it does not.
    pub fn offers(&self, server: &Server, durability: Durability) -> Result<()> {
        let topic = self.new_topic();
        let configs: Vec<_> = durability.config(server.side).into_iter().collect();
        server.create_topic(&topic, 1, &configs)?;
        server.delete_topic(&topic)
    }

    /// Ends both servers and removes what they wrote.
    pub fn close(self) -> Result<()> {
        if let Some((ours, peer)) = self.servers.into_inner() {
            ours.stop()?;
            peer.stop()?;
        }
        fs::remove_dir_all(&self.work).with_context(|| format!("removing {}", self.work.display()))
    }
}

fn binary(given: Option<&Path>) -> Result<PathBuf> {
    let Some(given) = given else {
        eprintln!("bench: building headwater in release mode");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let mut build = Command::new(cargo);
        let built = build
            .args(["build", "--release", "--workspace", "--bin", "headwater"])
            .current_dir(&root)
            .status()?;
        if !built.success() {
            bail!("the release build failed");
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        return Ok(target.join("release/headwater"));
    };
    given.canonicalize().with_context(|| format!("no binary at {}", given.display()))
}

fn versions(binary: &Path, given: bool) -> Result<BTreeMap<String, String>> {
    let said = |program: &Path, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program).args(arguments).output();
        let output = output.with_context(|| format!("running {}", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    };
    // A binary that was handed in may be of any commit; then its checksum names it.
    let origin = if given {
        let sum = said(Path::new("sha256sum"), &[&binary.to_string_lossy()])?;
        format!("binary with SHA-256 {}…", &sum[..sum.len().min(16)])
    } else {
        format!("commit {}", said(Path::new("git"), &["describe", "--always", "--dirty"])?)
    };
    let mut versions = BTreeMap::new();
    let headwater = said(binary, &["--version"])?;
    let number = headwater.trim_start_matches("headwater ");
    versions.insert("Headwater".to_owned(), format!("{number} ({origin})"));
    versions.insert("Apache Kafka".to_owned(), kafka::VERSION.to_owned());
    versions.insert("Java".to_owned(), said(Path::new("java"), &["-version"])?);
    versions.insert("librdkafka".to_owned(), librdkafka::VERSION.to_owned());
    Ok(versions)
}
