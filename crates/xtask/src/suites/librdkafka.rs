//! librdkafka's own tests that need a broker, each number in a process of its own.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::ledger::{Ledger, Outcome};
use super::{Choice, Ran};
use super::{scripts, servers};
use crate::bench::librdkafka::{VERSION, WITHOUT, copy_source, run as build_step, source};
use crate::bench::process::{self, Owned};
use crate::kafka;

/// Half as much again as the longest test takes on Apache Kafka.
const LIMIT: Duration = Duration::from_secs(600);
const AT_ONCE: usize = 2;
/// Compression is tested with gzip: without zlib the suite would skip it.
const WITH: &str = "--disable-zlib";
/// Kafka's own default: without it the first member is assigned everything before the others come.
const KAFKAS_DELAY_MS: &str = "3000";
/// The quick part is what passed and took at most so many seconds: all of it takes about a minute and a half.
const QUICK_SECONDS: u64 = 8;

/// The protocol that the tests' consumers use where the test does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    Classic,
    /// KIP-848.
    Consumer,
}

impl Groups {
    fn suite(self) -> &'static str {
        match self {
            Groups::Classic => "librdkafka",
            Groups::Consumer => "librdkafka-consumer",
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Groups::Classic => "classic",
            Groups::Consumer => "consumer",
        }
    }
}

/// One test of the suite's table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    name: String,
    /// How the server must be set up.
    scenario: &'static str,
}

impl Test {
    fn number(&self) -> &str {
        self.name.get(..4).unwrap_or(&self.name)
    }
}

pub fn run(groups: Groups, choice: &Choice, ledger: &Ledger) -> Result<Vec<Ran>> {
    let tree = build()?;
    let table = fs::read_to_string(tree.join("tests/test.c")).context("reading the suite's table")?;
    let wanted = |test: &Test| {
        let row = ledger.row(groups.suite(), &test.name);
        let quick = row.ours == Outcome::Passed && row.seconds <= QUICK_SECONDS;
        choice.wants(&test.name) && (!choice.quick || quick)
    };
    let tests: Vec<Test> = broker_tests(&table).into_iter().filter(wanted).collect();
    let work = servers::work(groups.suite(), choice.side())?;
    let mut ran = Vec::new();
    for (scenario, on_use) in [("default", "true"), ("noautocreate", "false")] {
        let tests: Vec<&Test> = tests.iter().filter(|test| test.scenario == scenario).collect();
        if tests.is_empty() {
            continue;
        }
        let dir = work.join(scenario);
        let properties = [
            ("num.partitions", "4"),
            ("auto.create.topics.enable", on_use),
            ("group.initial.rebalance.delay.ms", KAFKAS_DELAY_MS),
        ];
        let server = servers::start(choice, &dir, &properties)?;
        let conf = dir.join("test.conf");
        fs::write(&conf, format!("bootstrap.servers={}\ntest.timeout.multiplier=2\n", server.bootstrap))?;
        let scripts = scripts::write(&dir)?;
        let brokers = &server.bootstrap;
        let batch =
            Batch { groups, tree: &tree, dir: &dir, conf: &conf, scenario, scripts: &scripts, brokers };
        ran.extend(batch.run(&tests, ledger)?);
        server.stop()?;
    }
    Ok(ran)
}

/// The tests that need a broker, from the suite's own table in `test.c`.
fn broker_tests(source: &str) -> Vec<Test> {
    let table = source.split("struct test tests[] = {").nth(1).unwrap_or_default();
    let table = table.split("{NULL}").next().unwrap_or_default();
    let entry = |text: &str| {
        let name = text.split(',').next()?.trim().to_owned();
        let elsewhere = text.contains("TEST_F_LOCAL") || text.contains("TEST_F_MANUAL");
        let scenario = if text.contains("\"noautocreate\"") { "noautocreate" } else { "default" };
        (!elsewhere).then_some(Test { name, scenario })
    };
    table.split("_TEST(").skip(1).filter_map(entry).collect()
}

/// The tests of one scenario on one server.
struct Batch<'a> {
    groups: Groups,
    tree: &'a Path,
    dir: &'a Path,
    conf: &'a Path,
    scenario: &'a str,
    /// Kafka's own scripts, which some tests call.
    scripts: &'a Path,
    brokers: &'a str,
}

impl Batch<'_> {
    fn run(&self, tests: &[&Test], ledger: &Ledger) -> Result<Vec<Ran>> {
        let known = |test: &Test| ledger.row(self.groups.suite(), &test.name).seconds;
        let mut numbers: Vec<&str> = tests.iter().map(|test| test.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let longest = |number: &&str| {
            tests.iter().filter(|test| test.number() == *number).map(|test| known(test)).max()
        };
        numbers.sort_by_key(longest);
        let queue: Mutex<VecDeque<&str>> = Mutex::new(numbers.into());
        let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
        let work = || -> Result<Vec<Ran>> {
            let mut ran = Vec::new();
            while let Some(number) = next() {
                ran.extend(self.number(number, tests)?);
            }
            Ok(ran)
        };
        let joined = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
        });
        let mut ran = Vec::new();
        for one in joined {
            ran.extend(one.map_err(|_| anyhow::anyhow!("a worker panicked"))??);
        }
        Ok(ran)
    }

    /// Runs one number; the suite may have several tests of it.
    fn number(&self, number: &str, tests: &[&Test]) -> Result<Vec<Ran>> {
        let (log, report) = (self.dir.join(format!("{number}.log")), self.dir.join(format!("{number}.json")));
        let output = File::create(&log)?;
        let mut command = process::tied("./test-runner");
        command.current_dir(self.tree.join("tests")).args(["-p1", "-L"]);
        command.env("LD_LIBRARY_PATH", "../src:../src-cpp").env_remove("CI");
        command.env("TESTS", number).env("TEST_SCENARIO", self.scenario).env("TEST_REPORT", &report);
        command.env("TEST_CONSUMER_GROUP_PROTOCOL", self.groups.protocol());
        command.env("KAFKA_PATH", self.scripts).env("BROKERS", self.brokers);
        command.env("RDKAFKA_TEST_CONF", self.conf).env("TEST_KAFKA_VERSION", kafka::VERSION);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let begun = Instant::now();
        let ended = Owned::spawn(&mut command)?.finish(LIMIT);
        let seconds = begun.elapsed().as_secs();
        let report: Option<Value> =
            fs::read(&report).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut ran = Vec::new();
        for test in tests.iter().filter(|test| test.number() == number) {
            let state = report.as_ref().and_then(|report| report["tests"][&test.name]["state"].as_str());
            let outcome = match state {
                Some("PASSED") => Outcome::Passed,
                Some("SKIPPED") => Outcome::Skipped,
                None if ended.is_err() => Outcome::Endless,
                _ => Outcome::Failed,
            };
            eprintln!("{:8} {seconds:4} s  {}  {}", outcome.word(), test.name, log.display());
            ran.push(Ran { test: test.name.clone(), outcome, seconds });
        }
        Ok(ran)
    }
}

/// The suite's runner, built once in the cache.
fn build() -> Result<PathBuf> {
    let tree = kafka::cache().join(format!("librdkafka-{VERSION}-suites"));
    if !tree.join(".complete").exists() {
        eprintln!("suites: building librdkafka {VERSION} and its tests in {} (once)", tree.display());
        copy_source(&source()?, &tree)?;
        let without = WITHOUT.iter().filter(|flag| **flag != WITH);
        build_step(Command::new("./configure").arg("--disable-ssl").args(without).current_dir(&tree))?;
        build_step(Command::new("nice").args(["make", "-j1", "libs"]).current_dir(&tree))?;
        build_step(Command::new("nice").args(["make", "-j1", "-C", "tests", "build"]).current_dir(&tree))?;
        fs::write(tree.join(".complete"), "")?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_need_a_broker_are_taken_from_the_table() {
        let table = "struct test tests[] = {\n {.name = \"<MAIN>\"},\n _TEST(0004_conf, TEST_F_LOCAL),\n\
                     _TEST(0005_order, 0),\n _TEST(0107_topic_recreate,\n 0,\n .scenario = \"noautocreate\"),\n\
                     _TEST(8000_idle, TEST_F_MANUAL),\n {NULL}};\n _TEST(9999_not, 0)";
        let test = |name: &str, scenario| Test { name: name.to_owned(), scenario };
        assert_eq!(
            broker_tests(table),
            [test("0005_order", "default"), test("0107_topic_recreate", "noautocreate")]
        );
    }
}
