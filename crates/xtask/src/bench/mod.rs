//! `cargo xtask bench`: Headwater beside its peers in the same run, with drivers that nobody here wrote.
//!
//! Owns the fairness: interleaved pairs, equal clients and payloads, durability classes proved by counted flushes, and
//! claims that are an interval's worse end. The document is written from the figures, losses first, never by hand.

mod both;
mod cases;
mod context;
mod flushes;
pub mod java;
pub mod librdkafka;
mod machine;
mod nats;
mod openloop;
mod outcome;
mod pairs;
mod payload;
mod performance;
pub mod process;
mod rabbitmq;
mod rebalance;
mod record;
mod report;
pub mod server;
mod stats;
mod streams;
mod tls;
mod transactions;
mod window;
mod wire;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use cases::{ALL, Benchmark};
use context::Context;
use outcome::Outcome;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Benchmarks to run (see --list); none means all
    names: Vec<String>,
    /// The binary to measure; without it the workspace is built in release mode
    #[arg(long, value_name = "PATH")]
    headwater: Option<PathBuf>,
    /// Pairs a case, instead of each benchmark's own number
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// One pair and small sizes, for trying the harness; its figures are kept nowhere
    #[arg(long)]
    quick: bool,
    /// Seed of payloads and keys
    #[arg(long, default_value_t = 20_261_125)]
    seed: u64,
    /// Only cases whose name contains this; may repeat
    #[arg(long = "case", value_name = "TEXT")]
    cases: Vec<String>,
    /// The drivers speak TLS, to both servers; the cases are kept beside those without
    #[arg(long)]
    tls: bool,
    /// A server property for Headwater, as `headwater up --config` takes it; may repeat
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Where both servers keep their data; emptied before and after [default: in the cache directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write docs/benchmarks.md from the last full result of every benchmark
    #[arg(long)]
    write: bool,
    /// Say which benchmarks there are
    #[arg(long)]
    list: bool,
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|text| case.contains(text.as_str()))
    }

    fn chosen(&self) -> Result<Vec<&'static Benchmark>> {
        if let Some(unknown) = self.names.iter().find(|name| ALL.iter().all(|known| known.name != **name)) {
            bail!("there is no benchmark {unknown}; `cargo xtask bench --list` lists them");
        }
        let wanted = |known: &&Benchmark| match self.names.as_slice() {
            [] => !self.tls || tls::OFFERED.contains(&known.name),
            names => names.iter().any(|name| name == known.name),
        };
        let chosen: Vec<_> = ALL.iter().filter(wanted).collect();
        if let Some(other) = chosen.iter().find(|known| self.tls && !tls::OFFERED.contains(&known.name)) {
            bail!("{} has no case by TLS; these have: {}", other.name, tls::OFFERED.join(", "));
        }
        Ok(chosen)
    }
}

pub fn run(options: Options) -> Result<()> {
    if options.list {
        for benchmark in ALL {
            println!("{:18} bench-{:<3} {}", benchmark.name, benchmark.number, benchmark.title);
        }
        return Ok(());
    }
    if options.quick && options.write {
        bail!("figures of --quick mean nothing, so they are never written");
    }
    let chosen = options.chosen()?;
    let (quick, write, named) = (options.quick, options.write, !options.names.is_empty());
    // `--write` alone writes what is known.
    if named || !write {
        let context = Context::new(options)?;
        for benchmark in &chosen {
            measure(&context, benchmark, quick)?;
        }
        context.close()?;
    }
    if write {
        report::write()?;
    }
    Ok(())
}

/// Keeps every case as soon as it is there, so that an interrupted run loses one.
fn measure(context: &Context, benchmark: &Benchmark, quick: bool) -> Result<()> {
    let mut kept = Ok(());
    (benchmark.run)(context, &mut |mut outcome: Outcome| {
        if context.tls.is_some() {
            outcome.case.push_str(tls::SUFFIX);
        }
        println!("{}", report::case(&outcome));
        if !quick && kept.is_ok() {
            kept = record::store(context, benchmark.name, &[outcome]);
        }
    })?;
    kept
}
