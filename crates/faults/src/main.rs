//! Real faults against a real `headwater`: processes killed at every system call, power cut on real
//! file systems, disks that lie, fill up and flip bits, and a verifier that remembers every
//! acknowledgement. `docs/reliability.md` describes each fault and how to replay a seed.

mod broker;
mod capture;
mod case;
mod cases;
mod clients;
mod cluster;
mod edit;
mod eos;
mod history;
mod kafka;
mod proxy;
mod readback;
mod record;
mod report;
mod strace;
mod verify;
mod volume;
mod workload;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use case::Context;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask faults",
    about = "Faults put to a real headwater, and what it did about them"
)]
struct Arguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// The log: crashes, power cuts, bad disks
    Log(Options),
    /// Connections: lost answers, pauses, abuse
    Wire(Options),
    /// Transactions: messages that come late, twice or over other connections; kills within a commit
    Transactions(Options),
    /// Groups: storms of members, rolling restarts
    Groups(Options),
    /// Histories of our clients and others', through the checker for the twelve anomalies
    History(Options),
    /// Starts a broker behind a proxy that keeps the requests of whatever clients come: seeds for the fuzzer
    Capture {
        /// The binary to start [default: the release build of this workspace]
        #[arg(long)]
        headwater: Option<PathBuf>,
        /// Where the requests go, a file each
        directory: PathBuf,
    },
    /// Mistakes planted in the broker, each of which the checker must find
    Planted(Options),
    /// Our clients and services on three nodes of Apache Kafka, of which one at a time is lost and comes back
    Cluster(cluster::Options),
    /// Exactly-once under fire: random topologies, killed and stopped processes, damaged stores
    Eos(eos::Options),
    /// The service that `eos` kills
    #[command(hide = true)]
    EosService(eos::service::Options),
}

#[derive(clap::Args)]
struct Options {
    /// The binary under test [default: the release build of this workspace]
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// Where all randomness comes from [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Name the faults and stop
    #[arg(long)]
    list: bool,
    /// Every point and many seeds: hours rather than minutes
    #[arg(long)]
    long: bool,
    /// So many runs of each fault
    #[arg(long)]
    runs: Option<usize>,
    /// One point of a sweep, as a failure prints it
    #[arg(long)]
    at: Option<String>,
    /// Where data directories are made
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Print JSON: one object a fault
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let (suite, cases, options) = match Arguments::parse().suite {
        Suite::Log(options) => ("log", cases::LOG, options),
        Suite::Wire(options) => ("wire", cases::WIRE, options),
        Suite::Transactions(options) => ("transactions", cases::TRANSACTIONS, options),
        Suite::Groups(options) => ("groups", cases::GROUPS, options),
        Suite::History(options) => ("history", cases::HISTORY, options),
        Suite::Capture { headwater, directory } => return captured(headwater, directory),
        Suite::Planted(options) => ("planted", cases::PLANTED, options),
        Suite::Cluster(options) => return ended(cluster::run(&options)),
        Suite::Eos(options) => return ended(eos::run(&options)),
        Suite::EosService(options) => return ended(eos::service::run(&options)),
    };
    if let Some(error) = volume::enter_namespace() {
        eprintln!("faults: without a mount namespace of its own: {error}");
    }
    ended(run(suite, cases, &options))
}

fn ended(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn captured(headwater: Option<PathBuf>, directory: PathBuf) -> ExitCode {
    match headwater.map_or_else(|| build(false), Ok).and_then(|headwater| capture::run(headwater, directory))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn run(suite: &'static str, cases: &'static [case::Case], options: &Options) -> Result<bool> {
    let wanted = |case: &&case::Case| options.only.as_ref().is_none_or(|part| case.name.contains(part));
    let cases: Vec<&case::Case> = cases.iter().filter(wanted).collect();
    if options.list {
        for case in cases {
            println!("{:<22} {:<8} {}", case.name, case.promise, case.about);
        }
        return Ok(true);
    }
    if cases.is_empty() {
        bail!("no fault has a name with {:?}; see --list", options.only);
    }
    let context = context(suite, options)?;
    eprintln!("faults: {} with seed {}", context.headwater.display(), context.seed);
    let mut reports = Vec::new();
    for case in cases {
        eprintln!("{} ({}): {}", case.name, case.promise, case.about);
        let report = case.report(&context);
        report::print_details(&report);
        reports.push(report);
    }
    match options.json {
        true => report::print_json(&reports, &context),
        false => report::print_table(&reports, &context),
    }
    let passed = !reports.iter().any(|report| report::has_failed(report, &context));
    if passed {
        let _ = std::fs::remove_dir(&context.directory);
    }
    Ok(passed)
}

fn context(suite: &'static str, options: &Options) -> Result<Context> {
    let headwater = match &options.headwater {
        Some(path) => path.clone(),
        None => build(suite == "planted")?,
    };
    let help = Command::new(&headwater).args(["up", "--help"]).output();
    let help = help.with_context(|| format!("running {} up --help", headwater.display()))?;
    let directory = match &options.directory {
        Some(directory) => directory.clone(),
        None => tempfile::Builder::new().prefix("headwater-faults-").tempdir()?.keep(),
    };
    Ok(Context {
        suite,
        takes_config: String::from_utf8_lossy(&help.stdout).contains("--config"),
        headwater: std::path::absolute(headwater)?,
        seed: options.seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000)),
        long: options.long,
        runs: options.runs,
        at: options.at.clone(),
        directory: std::path::absolute(directory)?,
        ci: std::env::var("CI").is_ok_and(|value| value == "true"),
        memory: Default::default(),
    })
}

/// The release build of the command; Cargo decides whether there is something to do.
fn build(planted: bool) -> Result<PathBuf> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["build", "--release", "--package", "headwater-cli", "--message-format", "json"])
        .args(planted.then_some("--features=planted-bugs"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running cargo build")?;
    if !output.status.success() {
        bail!("the release build of headwater failed");
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let built = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executable =
        built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    executable.context("cargo named no executable")
}
