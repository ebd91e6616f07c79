//! The project's own chores: `cargo xtask test`, `cargo xtask faults log`, `cargo xtask bench`, `cargo xtask kafka start|stop`.

mod bench;
mod faults;
mod fuzz;
mod kafka;
mod suite;
mod suites;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Headwater's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format check, lints and every test; what needs a program that is missing is skipped with a line
    /// that says how to get it (and fails when CI=true)
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Real faults against the real binary: kill -9 at system calls, power cuts, bad disks, late messages; see
    /// docs/reliability.md
    #[command(disable_help_flag = true)]
    Faults {
        /// `log`, `wire`, `transactions`, `groups`, `history` or `planted`, and options; `log --help` names them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Bytes that a coverage-guided fuzzer makes up, for one of `request`, `batch`, `sasl`, `groups`; see docs/reliability.md
    Fuzz(fuzz::Options),
    /// Headwater beside Apache Kafka in the same run; see docs/benchmarks.md
    Bench(bench::Options),
    /// Other people's test suites against the embedded broker; see docs/suites.md
    Suites(suites::Options),
    /// A real Apache Kafka, fetched by Maven, for the tests and for trying things
    Kafka {
        #[command(subcommand)]
        action: KafkaAction,
    },
}

#[derive(Subcommand)]
enum KafkaAction {
    /// Start one node on 127.0.0.1 and print its bootstrap address
    Start {
        /// Where it keeps its data; the same directory resumes
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Port of the Kafka listener; 0 takes a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Stop the node of a directory
    Stop {
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test { filter } => suite::run(filter.as_deref()),
        Chore::Faults { arguments } => faults::run(&arguments),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Bench(options) => bench::run(options),
        Chore::Suites(options) => suites::run(options),
        Chore::Kafka { action: KafkaAction::Start { dir, port } } => {
            kafka::start(&dir.unwrap_or_else(kafka::default_dir), port)
                .map(|bootstrap| println!("{bootstrap}"))
        }
        Chore::Kafka { action: KafkaAction::Stop { dir } } => {
            kafka::stop(&dir.unwrap_or_else(kafka::default_dir))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
