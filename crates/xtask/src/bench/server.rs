//! One of the two servers under measurement: how it is started, asked, stopped and killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::process::{self, Owned};
use super::tls::Tls;
use super::wire::{Client, INVALID_CONFIG, TOPIC_ALREADY_EXISTS};
use crate::kafka;

/// Heap and collector as Kafka's own start script sets them, with the heap fixed.
pub const JVM: [&str; 7] = [
    "-server",
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];
/// A deleted topic's files must not be written back during the next measurement.
const QUICK_DELETE: [(&str, &str); 2] =
    [("log.segment.delete.delay.ms", "0"), ("log.initial.task.delay.ms", "500")];
const START_LIMIT: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Ours,
    Peer,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Ours, Side::Peer];

    pub const fn name(self) -> &'static str {
        match self {
            Side::Ours => "Headwater",
            Side::Peer => "Apache Kafka",
        }
    }

    pub const fn other(self) -> Self {
        match self {
            Side::Ours => Side::Peer,
            Side::Peer => Side::Ours,
        }
    }
}

/// When an acknowledgement is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Durability {
    /// From the page cache.
    Unsynced,
    /// On disk before it.
    Synced,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Unsynced => "unsynced",
            Durability::Synced => "synced",
        }
    }

    /// The topic configuration that asks for it. `flush.messages` is the topic's form of
    /// `log.flush.interval.messages`.
    pub fn config(self, side: Side) -> Option<(&'static str, &'static str)> {
        match (side, self) {
            (Side::Ours, Durability::Unsynced) => Some(("headwater.durability", "unsynced")),
            (Side::Peer, Durability::Synced) => Some(("flush.messages", "1")),
            (Side::Ours, Durability::Synced) | (Side::Peer, Durability::Unsynced) => None,
        }
    }
}

/// How to start a server again and again on the same data and address.
pub struct Recipe {
    pub side: Side,
    pub data: PathBuf,
    /// Where drivers come in.
    pub bootstrap: String,
    plain: String,
    prepared: Option<kafka::Prepared>,
    binary: PathBuf,
    http: String,
    /// Kafka-style server properties.
    pub properties: Vec<(String, String)>,
    client_config: Option<PathBuf>,
}

impl Recipe {
    pub fn new(
        side: Side,
        binary: &Path,
        dir: &Path,
        properties: &[(String, String)],
        tls: Option<&Tls>,
    ) -> Result<Self> {
        let dir = dir.join(if side == Side::Ours { "headwater" } else { "kafka" });
        fs::create_dir_all(&dir)?;
        let prepared = if side == Side::Peer { Some(kafka::prepare(&dir, 0)?) } else { None };
        let plain = match &prepared {
            Some(prepared) => prepared.bootstrap.clone(),
            None => format!("127.0.0.1:{}", kafka::free_port()?),
        };
        let http = format!("127.0.0.1:{}", kafka::free_port()?);
        let data = dir.join("data");
        let mut properties = properties.to_vec();
        let mut bootstrap = plain.clone();
        if let Some(tls) = tls {
            let (address, more) = tls.listener(side, &plain, prepared.as_ref())?;
            properties.extend(more);
            bootstrap = address;
        }
        let client_config = tls.map(Tls::client_properties);
        let binary = binary.to_owned();
        Ok(Self { side, data, bootstrap, plain, prepared, binary, http, properties, client_config })
    }

    fn command(&self) -> Result<Command> {
        if let Some(prepared) = &self.prepared {
            let own = self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let properties: Vec<_> = QUICK_DELETE.into_iter().chain(own).collect();
            let node = prepared.command(&JVM, &properties)?;
            let mut tied = process::tie(&node);
            let log = File::options().append(true).open(prepared.log())?;
            tied.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            return Ok(tied);
        }
        let mut command = process::tied(&self.binary.to_string_lossy());
        command.args(["up", "--http", &self.http, "--data-dir"]).arg(&self.data);
        if self.bootstrap == self.plain {
            command.args(["--listen", &self.plain]);
        }
        for (key, value) in &self.properties {
            command.args(["--config", &format!("{key}={value}")]);
        }
        let log = File::create(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    pub fn log(&self) -> PathBuf {
        self.prepared.as_ref().map_or_else(|| self.data.with_extension("log"), kafka::Prepared::log)
    }

    /// Starts the process and returns at once.
    pub fn spawn(&self) -> Result<Server> {
        let mut command = self.command()?;
        let shown = process::shown(&command);
        let process = Owned::spawn(&mut command)?;
        let (side, data) = (self.side, self.data.clone());
        let (bootstrap, plain) = (self.bootstrap.clone(), self.plain.clone());
        let (client_config, log) = (self.client_config.clone(), self.log());
        Ok(Server { side, process, bootstrap, plain, client_config, command: shown, data, log })
    }

    /// Starts the process and waits until it creates topics.
    pub fn start(&self) -> Result<Server> {
        let mut server = self.spawn()?;
        let begun = Instant::now();
        loop {
            if let Some(status) = server.process.0.try_wait()? {
                bail!("{} ended with {status}; see {}", self.side.name(), self.log().display());
            }
            if server.create_topic("bench-ready", 1, &[]).is_ok() {
                return Ok(server);
            }
            if begun.elapsed() > START_LIMIT {
                bail!("{} did not serve; see {}", self.side.name(), self.log().display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub struct Server {
    pub side: Side,
    pub process: Owned,
    /// Where drivers come in.
    pub bootstrap: String,
    /// Where the harness does, which knows no TLS.
    plain: String,
    /// What Kafka's own tools are told, if they need more than the address.
    pub client_config: Option<PathBuf>,
    pub command: String,
    pub data: PathBuf,
    log: PathBuf,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn cpu(&self) -> Result<f64> {
        process::cpu_seconds(self.pid()).with_context(|| self.gone())
    }

    fn gone(&self) -> String {
        format!("{} is gone; see {}", self.side.name(), self.log.display())
    }

    /// Creates a topic; one that exists already is fine.
    pub fn create_topic(&self, name: &str, partitions: u32, configs: &[(&str, &str)]) -> Result<()> {
        let (error, why) = Client::connect(&self.plain)?.create_topic(name, partitions as i32, configs)?;
        match error {
            0 | TOPIC_ALREADY_EXISTS => Ok(()),
            INVALID_CONFIG => bail!("not offered by this build of {}: {why}", self.side.name()),
            code => bail!("{} refused to create topic {name}: error {code}, {why}", self.side.name()),
        }
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let error = Client::connect(&self.plain)?.delete_topic(name)?;
        if error != 0 {
            bail!("{} refused to delete topic {name}: error {error}", self.side.name());
        }
        Ok(())
    }

    /// The sum of a group's committed offsets in a topic.
    pub fn committed(&self, group: &str, topic: &str, partitions: u32) -> Result<u64> {
        let committed = Client::connect(&self.plain)?.committed(group, topic, partitions);
        committed.with_context(|| format!("asking {} for the offsets of {group}", self.side.name()))
    }

    /// Waits until what the last run left is written and the server rests, so that the next run does not pay for it.
    pub fn settle(&self) -> Result<()> {
        process::settle(self.pid()).with_context(|| self.gone())
    }

    pub fn stop(mut self) -> Result<()> {
        process::signal(self.pid(), "TERM")?;
        self.process.finish(Duration::from_secs(60)).map(drop)
    }
}
