//! `cargo xtask eos`: exactly-once under fire (docs/reliability.md).
//!
//! Each round makes a topology, its input and its accidents from a seed: processes of a service are killed, stopped and
//! started again, their stores wiped, damaged or put back to an older state, the broker is killed, too. In the end what
//! the service wrote is compared with what an oracle computes from the input.

mod bugs;
mod events;
mod input;
mod instance;
mod judge;
mod oracle;
mod plan;
mod round;
mod schedule;
mod server;
pub mod service;
mod sessions;
mod sliding;
#[cfg(test)]
mod tests;
mod topology;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use judge::Verdict;
use round::Round;
use schedule::Done;
use server::Server;

/// A planted mistake that so many rounds do not show counts as not found.
const PLAYS: u64 = 6;

#[derive(clap::Args)]
pub struct Options {
    /// Where topologies, inputs and schedules come from [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Rounds until so many minutes have passed; without it one round
    #[arg(long)]
    minutes: Option<u64>,
    /// So many rounds
    #[arg(long)]
    runs: Option<u64>,
    /// How long a round's accidents go on
    #[arg(long, default_value_t = 25)]
    seconds: u64,
    /// On three nodes of Apache Kafka, of which one at a time is lost, instead of our broker
    #[arg(long)]
    cluster: bool,
    /// A deliberate mistake of the service (needs the feature planted-bugs)
    #[arg(long)]
    plant: Option<String>,
    /// Each deliberate mistake in turn, until it is found
    #[arg(long, conflicts_with = "plant")]
    planted: bool,
    /// Only deliberate mistakes whose name contains this
    #[arg(long, requires = "planted")]
    only: Option<String>,
    /// The broker [default: the release build of this workspace]
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// Where everything is kept; it stays when something is wrong
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The program of `cargo xtask`, which starts and kills nodes of Apache Kafka
    #[arg(long, env = "HEADWATER_XTASK")]
    xtask: Option<PathBuf>,
}

/// What all rounds came to.
#[derive(Default)]
struct Tally {
    rounds: u64,
    /// Those whose groups were joined by the streams protocol.
    streams: u64,
    records: usize,
    done: Done,
    verdict: Verdict,
    /// Processes that ended by themselves: a service goes on after all of this.
    ends: usize,
}

/// Whether nothing was lost, nothing came twice, and all was right; of planted mistakes, whether each was found.
pub fn run(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let directory = match &options.directory {
        Some(directory) => directory.clone(),
        None => tempfile::Builder::new().prefix("headwater-eos-").tempdir()?.keep(),
    };
    let directory = std::path::absolute(directory)?;
    std::fs::create_dir_all(&directory)?;
    let headwater = match (&options.headwater, options.cluster) {
        (Some(path), _) => Some(std::path::absolute(path)?),
        (None, false) => Some(crate::build(false)?),
        (None, true) => None,
    };
    let stage = Stage { options, headwater, directory: &directory };
    let passed = if options.planted { stage.planted(seed)? } else { stage.rounds(seed)? };
    if passed && options.directory.is_none() {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(passed)
}

struct Stage<'a> {
    options: &'a Options,
    headwater: Option<PathBuf>,
    directory: &'a Path,
}

impl Stage<'_> {
    fn server(&self, directory: &Path) -> Result<Server> {
        match &self.headwater {
            Some(headwater) if !self.options.cluster => Server::ours(headwater, directory),
            _ => {
                let xtask =
                    self.options.xtask.as_ref().context("--cluster needs --xtask or HEADWATER_XTASK")?;
                Server::cluster(&std::path::absolute(xtask)?, self.directory)
            }
        }
    }

    fn is_over(&self, begun: Instant, rounds: u64) -> bool {
        match (self.options.runs, self.options.minutes) {
            (Some(runs), None) => rounds >= runs,
            (runs, Some(minutes)) => {
                begun.elapsed() >= Duration::from_secs(60 * minutes)
                    || runs.is_some_and(|runs| rounds >= runs)
            }
            (None, None) => rounds >= 1,
        }
    }

    fn rounds(&self, seed: u64) -> Result<bool> {
        let mut tally = Tally::default();
        let mut kept: Option<Server> = None;
        let begun = Instant::now();
        for number in 0.. {
            if self.is_over(begun, number) {
                break;
            }
            let plant = self.options.plant.clone();
            let server = self.round(number, seed + number, plant, kept.take(), &mut tally)?;
            // A cluster takes long to start; topics of each round have names of their own.
            kept = self.options.cluster.then_some(server);
        }
        let (done, verdict) = (tally.done, &tally.verdict);
        println!(
            "{}",
            json!({
                "suite": "eos", "seed": seed, "cluster": self.options.cluster, "rounds": tally.rounds,
                "streams_rounds": tally.streams,
                "kills": done.kills + done.broker_kills, "broker_kills": done.broker_kills, "pauses": done.pauses,
                "wipes": done.wipes, "flips": done.flips, "older": done.older, "scalings": done.scalings, "damaged": done.damaged,
                "ended": tally.ends, "records": tally.records, "lost": verdict.lost,
                "duplicated": verdict.duplicated, "wrong": verdict.wrong.len(),
            })
        );
        Ok(verdict.passed() && tally.ends == 0)
    }

    fn round(
        &self,
        number: u64,
        seed: u64,
        plant: Option<String>,
        server: Option<Server>,
        tally: &mut Tally,
    ) -> Result<Server> {
        let bug = plant.as_deref().map_or_else(String::new, |plant| format!("-{plant}"));
        let directory = self.directory.join(format!("round-{seed}{bug}"));
        eprintln!("eos: round with seed {seed} in {}", directory.display());
        std::fs::create_dir_all(&directory)?;
        let replay = self.replay(seed, plant.as_deref());
        let context = || format!("replay: {replay}\nkept: {}", directory.display());
        let server = server.map_or_else(|| self.server(&directory), Ok)?;
        let length = Duration::from_secs(self.options.seconds);
        let (played, server) =
            round::play(&Round { number, seed, length, plant, directory: &directory }, server)
                .with_context(context)?;
        let protocol = if played.broker_assigns { "streams" } else { "classic" };
        eprintln!(
            "eos: group.protocol={protocol}, {} records, processed {:?} after all was back",
            played.records, played.drained
        );
        if played.verdict.passed() && played.ends.is_empty() {
            std::fs::remove_dir_all(&directory)?;
        } else {
            played.verdict.wrong.iter().chain(&played.ends).for_each(|line| eprintln!("eos: {line}"));
            eprintln!("eos: {}", context());
        }
        tally.rounds += 1;
        tally.streams += u64::from(played.broker_assigns);
        tally.records += played.records;
        tally.done.add(played.done);
        tally.ends += played.ends.len();
        tally.verdict.add(played.verdict);
        Ok(server)
    }

    fn replay(&self, seed: u64, plant: Option<&str>) -> String {
        let cluster = if self.options.cluster { " --cluster" } else { "" };
        let plant = plant.map_or_else(String::new, |plant| format!(" --plant {plant}"));
        format!("cargo xtask eos --seed {seed} --seconds {}{cluster}{plant}", self.options.seconds)
    }

    fn planted(&self, seed: u64) -> Result<bool> {
        let wanted = |name: &str| self.options.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
        let (mut found, mut missed) = (Vec::new(), Vec::new());
        for (name, _) in bugs::BUGS.iter().filter(|(name, _)| wanted(name)) {
            bugs::plant(Some(name))?;
            match self.found(name, seed)? {
                Some(plays) => {
                    eprintln!("eos: {name} was found in round {plays}");
                    found.push(*name);
                }
                None => missed.push(*name),
            }
        }
        if found.is_empty() && missed.is_empty() {
            bail!("no mistake has a name with {:?}", self.options.only);
        }
        println!(
            "{}",
            json!({"suite": "eos", "seed": seed, "planted": found.len() + missed.len(), "found": found, "missed": missed})
        );
        Ok(missed.is_empty())
    }

    /// The round that shows the mistake.
    fn found(&self, name: &str, seed: u64) -> Result<Option<u64>> {
        for play in 0..PLAYS {
            let mut tally = Tally::default();
            self.round(play, seed + play, Some(name.to_owned()), None, &mut tally)?;
            if !tally.verdict.passed() {
                return Ok(Some(play + 1));
            }
        }
        Ok(None)
    }
}
