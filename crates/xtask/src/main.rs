//! The project's own chores: `cargo xtask test`, `cargo xtask faults log|cluster`, `cargo xtask bench`, `cargo xtask kafka start|stop`.

mod bench;
mod differential;
mod faults;
mod fuzz;
mod go;
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
    /// Real faults against the real binary: kill -9 at system calls, power cuts, bad disks, late messages; nodes of a
    /// cluster that are lost; see docs/reliability.md and docs/cluster.md
    #[command(disable_help_flag = true)]
    Faults {
        /// `log`, `wire`, `transactions`, `groups`, `history`, `planted` or `cluster`, and options; `log --help` names
        /// them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Random topologies on Kafka Streams' own test driver and on ours; see docs/streams-differential.md
    #[command(disable_help_flag = true)]
    Differential {
        /// `--seed`, `--cases`, `--case`, `--family`; `--help` names them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Exactly-once under fire: random topologies whose processes and broker are killed, stopped and damaged, against an
    /// oracle; see docs/reliability.md
    #[command(disable_help_flag = true)]
    Eos {
        /// `--seed S --minutes M`, `--cluster`, …; `--help` names them
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
    /// Start one node on 127.0.0.1, or a cluster of several, and print the bootstrap addresses
    Start {
        /// So many nodes, each of them broker and controller
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Where it keeps its data; the same directory resumes
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Port of a single node's Kafka listener; 0 takes a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// With TLS, SASL, client certificates and an authorizer; prints the files that lead a client in, too
        #[arg(long)]
        secure: bool,
        /// With `transaction.version` 1: transactions as they were before KIP-890
        #[arg(long, conflicts_with = "secure")]
        old_transactions: bool,
    },
    /// Stop the node of a directory, or its nodes
    Stop {
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// kill -9 one node of a cluster
    Kill(Node),
    /// Stop one node of a cluster where it is (SIGSTOP); its connections stay
    Pause(Node),
    /// Start a node that was killed, or let one go on that was paused
    Restart(Node),
}

#[derive(clap::Args)]
struct Node {
    /// Its number, from 1
    number: usize,
    /// The directory of the cluster
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Node {
    fn dir(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(kafka::nodes::default_dir)
    }
}

fn kafka(action: KafkaAction) -> anyhow::Result<()> {
    use kafka::nodes;
    match action {
        KafkaAction::Start { nodes: 1, dir, port, old_transactions: true, .. } => {
            println!(
                "{}",
                kafka::start_with_old_transactions(&dir.unwrap_or_else(kafka::default_dir), port)?
            );
        }
        KafkaAction::Start { nodes: 1, dir, port, secure, .. } => start_one(dir, port, secure)?,
        KafkaAction::Start { secure: true, .. } | KafkaAction::Start { old_transactions: true, .. } => {
            anyhow::bail!("--secure and --old-transactions are for a single node: leave --nodes out")
        }
        KafkaAction::Start { nodes: count, dir, .. } => {
            let bootstrap = nodes::start(&dir.unwrap_or_else(nodes::default_dir), count)?;
            println!("{bootstrap}");
        }
        KafkaAction::Stop { dir } => {
            let dirs = dir.map_or_else(|| vec![kafka::default_dir(), nodes::default_dir()], |dir| vec![dir]);
            for dir in dirs {
                match nodes::is_cluster(&dir) {
                    true => nodes::stop(&dir)?,
                    false => kafka::stop(&dir)?,
                }
            }
        }
        KafkaAction::Kill(node) => nodes::kill(&node.dir(), node.number)?,
        KafkaAction::Pause(node) => nodes::pause(&node.dir(), node.number)?,
        KafkaAction::Restart(node) => nodes::restart(&node.dir(), node.number)?,
    }
    Ok(())
}

fn start_one(dir: Option<PathBuf>, port: u16, secure: bool) -> anyhow::Result<()> {
    let dir = dir.unwrap_or_else(kafka::default_dir);
    let bootstrap = if secure { kafka::start_secured(&dir, port)? } else { kafka::start(&dir, port)? };
    println!("{bootstrap}");
    for way in kafka::secure::WAYS.iter().filter(|_| secure) {
        println!("{}", dir.join(format!("{way}.properties")).display());
    }
    Ok(())
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test { filter } => suite::run(filter.as_deref()),
        Chore::Faults { arguments } => faults::run(&arguments),
        Chore::Differential { arguments } => differential::run(&arguments),
        Chore::Eos { arguments } => faults::eos(arguments),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Bench(options) => bench::run(options),
        Chore::Suites(options) => suites::run(options),
        Chore::Kafka { action } => kafka(action),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
