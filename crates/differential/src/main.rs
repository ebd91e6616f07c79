//! Random topologies on random input, on Apache Kafka Streams' own `TopologyTestDriver` and on ours, compared record by
//! record. `docs/streams-differential.md` says what is drawn and which differences are meant.

mod build;
mod case;
mod compare;
mod draw;
mod families;
mod functions;
mod input;
mod java;
mod ledger;
mod ours;
mod report;
mod shrink;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

use compare::{Verdict, compare};
use java::Java;
use report::Report;

/// So many differing cases are made small and shown; of more only the numbers.
const SHOWN: usize = 3;

#[derive(Parser)]
#[command(bin_name = "cargo xtask differential", about = "crates/streams beside Apache Kafka Streams")]
struct Arguments {
    /// What the cases are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many cases
    #[arg(long, default_value_t = 10_000)]
    cases: u64,
    /// Only the case of this number, with all that both sides wrote
    #[arg(long)]
    case: Option<u64>,
    /// Only cases of this family
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(families::names()))]
    family: Option<String>,
    /// Where Kafka Streams' jars are
    #[arg(long)]
    jars: PathBuf,
    /// Where the Java side is compiled to
    #[arg(long)]
    classes: PathBuf,
}

impl Arguments {
    fn draw(&self, id: u64) -> case::Case {
        families::draw(self.seed, id, self.family.as_deref())
    }

    fn ids(&self) -> std::ops::Range<u64> {
        self.case.map_or(0..self.cases, |case| case..case + 1)
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing differs that is not explained.
fn run(arguments: &Arguments) -> Result<bool> {
    ensure!(!arguments.ids().is_empty(), "--cases must be at least 1");
    java::compile(&arguments.jars, &arguments.classes)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut java = Java::start(&arguments.jars, &arguments.classes, workers)?;
    let mut report = Report::new(arguments.seed, arguments.family.as_deref());
    sweep(arguments, &mut java, &mut report)?;
    if let (Some(id), true) = (arguments.case, report.differing.is_empty()) {
        let case = arguments.draw(id);
        let rows = java.ask(&case)?;
        report.show(&case, &compare(&case, rows)?);
    }
    report.differing.sort_unstable();
    for &id in report.differing.iter().take(SHOWN) {
        // What a side failed with has been told.
        if let Ok(smallest) = shrink::shrink(arguments.draw(id), &mut java) {
            report.show(&smallest.case, &smallest.compared);
        }
    }
    report.more(SHOWN);
    java.stop()?;
    println!("{}", report.json()?);
    Ok(report.differing.is_empty())
}

/// Asks for every case while answers come in, and compares them.
fn sweep(arguments: &Arguments, java: &mut Java, report: &mut Report) -> Result<()> {
    let Java { questions, answers, .. } = java;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| arguments.ids().try_for_each(|id| questions.put(&arguments.draw(id))));
        for _ in arguments.ids() {
            let (id, rows) = answers.next()?;
            let case = arguments.draw(id);
            match rows.and_then(|rows| compare(&case, rows)) {
                Ok(compared) => report.add(&case, &compared),
                Err(error) => report.failed(&case, &error),
            }
        }
        asking.join().map_err(|_| anyhow::anyhow!("the thread that asks panicked"))?
    })
}

/// Whether a verdict is one to tell of.
pub fn differs(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Different)
}
