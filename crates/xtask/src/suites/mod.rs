//! `cargo xtask suites`: other people's test suites against the embedded broker.
//!
//! Owns the list of what passes, which only grows: a test that passed once and fails now fails the command. What Apache
//! Kafka makes of the same test stands beside it, so that a failure says whose it is.

mod account;
mod admin;
mod classes;
mod connect;
mod copier;
mod flink;
mod go;
mod ledger;
mod librdkafka;
mod node;
mod old;
mod page;
mod programs;
mod python;
mod quick;
mod scripts;
mod servers;
mod streams;
mod tools;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::bench::server::Side;
use ledger::{Ledger, Outcome};
use librdkafka::Groups;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// librdkafka's own tests, those that need a broker
    Librdkafka(Choice),
    /// The same tests with the consumer protocol of KIP-848 for every group
    LibrdkafkaConsumer(Choice),
    /// Every method of Kafka's Java AdminClient
    Admin(Choice),
    /// Apache Kafka's own command-line tools
    Tools(Choice),
    /// Apache Kafka's own system test of transactions: copiers and the broker killed and stopped
    Copier(Choice),
    /// Apache Kafka's own smoke test of Kafka Streams
    Streams(Choice),
    /// Python's clients, each with a program of ours
    Python(Choice),
    /// Apache Kafka Connect with exactly-once, one worker killed
    Connect(Choice),
    /// Apache Flink's Kafka connector with exactly-once, the job and the broker killed
    Flink(Choice),
    /// Clients of years ago: Java's 2.8, librdkafka 1.9, Python's
    Old(Choice),
    /// Node's clients, each with a program of ours
    Node(Choice),
    /// Go's clients, each with a program of ours
    Go(Choice),
    /// franz-go's own tests
    FranzGo(Choice),
    /// segmentio/kafka-go's own tests
    KafkaGo(Choice),
    /// kafka-python's own tests
    KafkaPython(Choice),
    /// At most three minutes: a part of librdkafka's tests, and the programs with Node's and Go's clients
    Quick,
    /// Writes docs/suites.md from the committed outcomes
    Page,
}

#[derive(Args, Default)]
pub struct Choice {
    /// Only tests whose name begins with this, such as 0011; may repeat
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// The part that takes at most three minutes
    #[arg(long)]
    quick: bool,
    /// Run on Apache Kafka instead, for the column beside ours
    #[arg(long)]
    kafka: bool,
    /// Add new passes to the committed list and write docs/suites.md
    #[arg(long)]
    write: bool,
    /// The binary to test; without it the workspace is built for debugging
    #[arg(long, value_name = "PATH")]
    headwater: Option<PathBuf>,
}

impl Choice {
    fn side(&self) -> Side {
        if self.kafka { Side::Peer } else { Side::Ours }
    }

    fn wants(&self, test: &str) -> bool {
        self.tests.is_empty() || self.tests.iter().any(|wanted| test.starts_with(wanted.as_str()))
    }
}

/// One test that was run.
pub struct Ran {
    pub test: String,
    pub outcome: Outcome,
    pub seconds: u64,
}

pub fn run(options: Options) -> Result<()> {
    let (suite, choice) = match options.suite {
        Suite::Page => return page::write(&Ledger::read()?),
        Suite::Librdkafka(choice) => ("librdkafka", choice),
        Suite::Admin(choice) => ("admin", choice),
        Suite::Tools(choice) => ("tools", choice),
        Suite::Copier(choice) => ("copier", choice),
        Suite::Streams(choice) => ("streams", choice),
        Suite::Python(choice) => ("python", choice),
        Suite::LibrdkafkaConsumer(choice) => ("librdkafka-consumer", choice),
        Suite::Connect(choice) => ("connect", choice),
        Suite::Flink(choice) => ("flink", choice),
        Suite::Old(choice) => ("old", choice),
        Suite::Node(choice) => ("node", choice),
        Suite::Go(choice) => ("go", choice),
        Suite::FranzGo(choice) => ("franz-go", choice),
        Suite::KafkaGo(choice) => ("kafka-go", choice),
        Suite::KafkaPython(choice) => ("kafka-python", choice),
        Suite::Quick => return quick(None),
    };
    one(suite, &choice)
}

/// What CI runs, on this binary; without one the workspace is built.
pub fn quick(headwater: Option<PathBuf>) -> Result<()> {
    quick::run(headwater)
}

fn tests_of(suite: &str, choice: &Choice, ledger: &Ledger) -> Result<Vec<Ran>> {
    match suite {
        "admin" => admin::run(choice),
        "tools" => tools::run(choice),
        "copier" => copier::run(choice),
        "streams" => streams::run(choice),
        "python" => python::run(choice),
        "connect" => connect::run(choice),
        "flink" => flink::run(choice),
        "old" => old::run(choice),
        "node" => node::run(choice),
        "go" => go::run(choice),
        "franz-go" => go::own_tests(choice),
        "kafka-go" => go::kafka_go_tests(choice),
        "kafka-python" => python::own_tests(choice),
        "librdkafka-consumer" => librdkafka::run(Groups::Consumer, choice, ledger),
        _ => librdkafka::run(Groups::Classic, choice, ledger),
    }
}

/// Runs one suite, says what it came to and keeps it if that is wanted.
fn one(suite: &str, choice: &Choice) -> Result<()> {
    let ledger = Ledger::read()?;
    let mut ran = tests_of(suite, choice, &ledger)?;
    let lost = ledger.judge(suite, choice.side(), &ran).lost_tests();
    if choice.quick && !lost.is_empty() {
        // Some tests measure time, which a busy machine spoils; what fails twice is a failure.
        eprintln!("suites: once more: {}", lost.join(", "));
        let again = Choice {
            tests: lost.clone(),
            quick: true,
            headwater: choice.headwater.clone(),
            ..Choice::default()
        };
        ran.retain(|ran| !lost.contains(&ran.test));
        ran.extend(tests_of(suite, &again, &ledger)?.into_iter().filter(|ran| lost.contains(&ran.test)));
    }
    if ran.is_empty() {
        bail!("no test of {suite} has such a name");
    }
    let verdict = ledger.judge(suite, choice.side(), &ran);
    print!("{verdict}");
    if choice.write {
        // Another run may have written meanwhile.
        let mut ledger = Ledger::read()?;
        ledger.take(suite, choice.side(), &ran);
        ledger.write()?;
        page::write(&ledger)?;
    }
    if verdict.is_worse() {
        bail!("tests that passed before do not pass");
    }
    Ok(())
}
