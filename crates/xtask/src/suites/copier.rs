//! Apache Kafka's own system test of transactions, on one broker: its copiers move a topic to another, each batch in a
//! transaction with the offsets it came from, while they or the broker are killed and stopped.
//!
//! Kafka runs it by ducktape, on several machines; what is started and killed is the same, and so is the claim: who reads what
//! is committed, meanwhile or afterwards, finds each record once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::account::{Times, same};
use super::ledger::Outcome;
use super::{Choice, Ran, scripts, servers};
use crate::bench::process::{self, Owned};
use crate::bench::server::{Recipe, Server};

const SUITE: &str = "copier";
const IN: &str = "input";
const OUT: &str = "output";
const GROUP: &str = "copiers";
const RECORDS: usize = 100_000;
/// So many more must be committed before each bounce.
const EACH: u64 = 8000;
const BOUNCES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(180);

struct Case {
    name: &'static str,
    /// Partitions of the input and of the output; with one of each, order is compared, too.
    partitions: (u32, u32),
    copiers: usize,
    /// What they are told beside the topics.
    told: &'static [&'static str],
    bounces: &'static [Bounce],
}

/// What is ended and started again, and by which signal.
enum Bounce {
    Broker(&'static str),
    Copiers(&'static str),
}

/// Longer than a broker needs to come back: who is away that long would be fenced, and a copier gives up then.
const LONG: &str = "--transaction-timeout 60000";
/// A copier that comes again waits until the transaction of the one before it has ended, at the latest by this.
const SHORT: &str = "--transaction-timeout 10000";
const METADATA: &str = "--use-group-metadata";

const CASES: [Case; 6] = [
    Case {
        name: "broker-killed",
        partitions: (2, 3),
        copiers: 2,
        told: &[LONG, METADATA],
        bounces: &[Bounce::Broker("KILL")],
    },
    Case {
        name: "broker-stopped-in-order",
        partitions: (1, 1),
        copiers: 1,
        told: &[LONG],
        bounces: &[Bounce::Broker("TERM")],
    },
    Case {
        name: "copiers-killed-in-order",
        partitions: (1, 1),
        copiers: 1,
        told: &[SHORT, METADATA],
        bounces: &[Bounce::Copiers("KILL")],
    },
    Case {
        name: "copiers-stopped",
        partitions: (2, 3),
        copiers: 2,
        told: &[SHORT],
        bounces: &[Bounce::Copiers("TERM")],
    },
    Case {
        name: "group-killed-with-aborts",
        partitions: (9, 9),
        copiers: 3,
        told: &[SHORT, METADATA, "--group-mode --enable-random-aborts"],
        bounces: &[Bounce::Copiers("KILL")],
    },
    Case {
        name: "all-killed",
        partitions: (2, 3),
        copiers: 2,
        told: &["--transaction-timeout 30000", METADATA],
        bounces: &[Bounce::Broker("KILL"), Bounce::Copiers("KILL")],
    },
];

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    let work = servers::work(SUITE, choice.side())?;
    let bin = scripts::write(&work)?.join("bin");
    servers::build(choice)?;
    let mut ran = Vec::new();
    for case in CASES.iter().filter(|case| choice.wants(case.name)) {
        let dir = work.join(case.name);
        fs::create_dir_all(&dir)?;
        let recipe = servers::recipe(choice, &dir, &[("num.partitions", "4")])?;
        let begun = Instant::now();
        let server = recipe.start()?;
        let mut stage = Stage { bin: &bin, dir: &dir, case, recipe: &recipe, server, started: 0 };
        let outcome = match stage.play() {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                eprintln!("         {error:#}");
                Outcome::Failed
            }
        };
        stage.server.stop()?;
        let seconds = begun.elapsed().as_secs();
        eprintln!("{:8} {seconds:4} s  {}  {}", outcome.word(), case.name, dir.display());
        ran.push(Ran { test: case.name.to_owned(), outcome, seconds });
    }
    Ok(ran)
}

struct Stage<'a> {
    bin: &'a Path,
    dir: &'a Path,
    case: &'a Case,
    recipe: &'a Recipe,
    server: Server,
    /// So many copiers were started here, which names their logs.
    started: usize,
}

impl Stage<'_> {
    fn play(&mut self) -> Result<()> {
        let (inputs, outputs) = self.case.partitions;
        self.server.create_topic(IN, inputs, &[])?;
        self.server.create_topic(OUT, outputs, &[])?;
        self.produce()?;
        let mut copiers = self.copiers()?;
        let (mut meanwhile, seen) = self.read("meanwhile", &["--max-messages", &RECORDS.to_string()])?;
        for _ in 0..BOUNCES {
            for bounce in self.case.bounces {
                self.further()?;
                match bounce {
                    Bounce::Broker(signal) => self.bounce_broker(signal)?,
                    Bounce::Copiers(signal) => {
                        // All at once: the others would copy all while one closes.
                        copiers.iter().try_for_each(|copier| process::signal(copier.pid(), signal))?;
                        copiers.iter_mut().try_for_each(|copier| copier.finish(PATIENCE).map(drop))?;
                        copiers = self.copiers()?;
                    }
                }
            }
        }
        self.through(RECORDS as u64)?;
        meanwhile.finish(PATIENCE).context("who read meanwhile has not found all")?;
        drop(copiers);
        let (mut afterwards, found) = self.read("afterwards", &["--timeout-ms", "8000"])?;
        afterwards.finish(PATIENCE)?;
        self.verify(&seen).context("who read meanwhile")?;
        self.verify(&found).context("who read afterwards")
    }

    /// The numbers from 0 on.
    fn produce(&self) -> Result<()> {
        let log = self.dir.join("producer.log");
        let mut producer = self.tool("kafka-verifiable-producer");
        producer.args(["--topic", IN, "--acks", "-1", "--max-messages", &RECORDS.to_string()]);
        let output = File::create(&log)?;
        producer.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let code = Owned::spawn(&mut producer)?.finish(PATIENCE)?;
        let said = fs::read_to_string(&log)?;
        if code != 0 || !said.contains(&format!("\"acked\":{RECORDS}")) {
            bail!("the producer ended with {code} before all was acknowledged; see {}", log.display());
        }
        Ok(())
    }

    fn copiers(&mut self) -> Result<Vec<Owned>> {
        (0..self.case.copiers).map(|number| self.copier(number)).collect()
    }

    fn copier(&mut self, number: usize) -> Result<Owned> {
        self.started += 1;
        let output = File::create(self.dir.join(format!("copier-{number}-{}.log", self.started)))?;
        let mut copier = process::tied(&self.script("kafka-transactional-copier"));
        copier.args(["--broker-list", &self.recipe.bootstrap, "--input-topic", IN, "--output-topic", OUT]);
        copier.args(["--input-partition", &number.to_string(), "--consumer-group", GROUP]);
        copier.args(["--transactional-id", &format!("copier-{number}"), "--transaction-size", "300"]);
        copier.args(self.case.told.iter().flat_map(|words| words.split(' ')));
        copier.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Owned::spawn(&mut copier)
    }

    /// A reader of what is committed, and the file of what it finds.
    fn read(&self, name: &str, more: &[&str]) -> Result<(Owned, PathBuf)> {
        let found = self.dir.join(format!("{name}.txt"));
        let mut reader = self.tool("kafka-console-consumer");
        reader.args(["--topic", OUT, "--group", name, "--from-beginning"]);
        reader.args(["--isolation-level", "read_committed"]).args(more);
        reader.stdin(Stdio::null()).stdout(File::create(&found)?);
        reader.stderr(File::create(self.dir.join(format!("{name}.log")))?);
        Ok((Owned::spawn(&mut reader)?, found))
    }

    fn tool(&self, name: &str) -> Command {
        let mut tool = process::tied(&self.script(name));
        tool.args(["--bootstrap-server", &self.recipe.bootstrap]);
        tool
    }

    fn script(&self, name: &str) -> String {
        self.bin.join(format!("{name}.sh")).display().to_string()
    }

    /// Ends the broker, and starts it again on what it left.
    fn bounce_broker(&mut self, signal: &str) -> Result<()> {
        process::signal(self.server.pid(), signal)?;
        let _code = self.server.process.finish(PATIENCE)?;
        self.server = self.recipe.start()?;
        Ok(())
    }

    /// Until so many more records are copied, or all.
    fn further(&self) -> Result<()> {
        self.through((self.copied() + EACH).min(RECORDS as u64))
    }

    /// The offsets that the transactions have committed; 0 while the broker does not answer.
    fn copied(&self) -> u64 {
        self.server.committed(GROUP, IN, self.case.partitions.0).unwrap_or(0)
    }

    fn through(&self, count: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let copied = self.copied();
            if copied >= count {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{copied} records copied, not {count}, after {PATIENCE:?}; see {}", self.dir.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn verify(&self, found: &Path) -> Result<()> {
        let text = fs::read_to_string(found).with_context(|| format!("reading {}", found.display()))?;
        let found = numbers(&text);
        let produced: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
        same(&produced, &found, Times::Once)?;
        if self.case.partitions == (1, 1) && produced != found {
            bail!("all records are there, but not in their order");
        }
        Ok(())
    }
}

/// What a console consumer printed, without what its log printed between.
fn numbers(text: &str) -> Vec<String> {
    let is_number = |line: &&str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    text.lines().filter(is_number).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_taken_from_an_output() {
        let said = "0\n1\n2026 WARN a fetch was answered with 3\n\n12\n";
        assert_eq!(numbers(said), ["0", "1", "12"]);
    }

    #[test]
    fn each_copier_has_its_partition() {
        for case in &CASES {
            let grouped = case.told.iter().any(|words| words.contains("--group-mode"));
            assert!(grouped || case.partitions.0 as usize == case.copiers, "{}", case.name);
        }
    }
}
