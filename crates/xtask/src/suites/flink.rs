//! Apache Flink's own Kafka connector: jobs on Flink's local cluster that copy one topic to another, while the job's process
//! and the broker are killed.
//!
//! Flink is not asked what it did: a program of ours tells each record that the broker acknowledged and each that a reader
//! of committed records finds, and the two lists are compared.

mod stage;

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::account::{Times, same};
use super::ledger::Outcome;
use super::{Choice, Ran, classes, servers};
use crate::kafka;
use stage::{Job, Load, Programs, Stage};

const SUITE: &str = "flink";
const VERSION: &str = "5.0.0-2.2";
const POM: &str = include_str!("../../kafka/flink-pom.xml");
const LOGGING: &str = include_str!("../../kafka/flink-log4j2.properties");
const IN: &str = "source";
const OUT: &str = "copy";
const GROUP: &str = "copier";
const PARTITIONS: u32 = 4;
/// So many more must be committed between two kills.
const EACH: u64 = 2000;

type Case = (&'static str, fn(&mut Stage<'_>) -> Result<()>);

const CASES: [Case; 10] = [
    ("bounded-exactly-once", |stage| bounded(stage, "plain", &[])),
    ("bounded-batch", |stage| bounded(stage, "plain", &[("flink.execution.runtime-mode", "BATCH")])),
    ("bounded-read-committed", |stage| {
        bounded(stage, "transactional", &[("source.isolation.level", "read_committed")])
    }),
    ("records-unchanged", |stage| bounded(stage, "varied", &[("sink.compression.type", "zstd")])),
    ("exactly-once-killed", |stage| killed(stage, "EXACTLY_ONCE", "INCREMENTING")),
    ("exactly-once-killed-pooling", |stage| killed(stage, "EXACTLY_ONCE", "POOLING")),
    ("at-least-once-killed", |stage| killed(stage, "AT_LEAST_ONCE", "INCREMENTING")),
    ("partitions-discovered", discovered),
    ("timestamps", timestamps),
    ("committed-offsets", committed_offsets),
];

pub fn run(choice: &Choice) -> Result<Vec<Ran>> {
    classes::ensure_java()?;
    let jars = kafka::fetch_into(kafka::cache().join(format!("apache-flink-kafka-{VERSION}")), POM)?;
    let classes = classes::compiled(SUITE, &jars)?;
    let work = servers::work(SUITE, choice.side())?;
    let logging = work.join("log4j2.properties");
    fs::write(&logging, LOGGING).with_context(|| format!("writing {}", logging.display()))?;
    let programs = Programs { jars, classes, logging };
    servers::build(choice)?;
    let mut ran = Vec::new();
    for (test, play) in CASES.iter().filter(|(test, _)| choice.wants(test)) {
        let dir = work.join(test);
        fs::create_dir_all(&dir)?;
        let recipe = servers::recipe(choice, &dir, &[("num.partitions", "4")])?;
        let begun = Instant::now();
        let mut stage = Stage::new(&programs, &dir, recipe)?;
        let outcome = match play(&mut stage) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                eprintln!("         {error:#}");
                Outcome::Failed
            }
        };
        stage.stop()?;
        let seconds = begun.elapsed().as_secs();
        eprintln!("{:8} {seconds:4} s  {test}  {}", outcome.word(), dir.display());
        ran.push(Ran { test: (*test).to_owned(), outcome, seconds });
    }
    Ok(ran)
}

/// What `count` records from number `first` on are unless a case says otherwise.
fn load(first: u64, count: u64) -> Load<'static> {
    Load { topic: IN, kind: "plain", first, count, rate: 0, partitions: (0, PARTITIONS), time: an_hour_ago() }
}

/// Whole hours, so that every load of a case has the same.
fn an_hour_ago() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (now / 3600 - 1) * 3_600_000
}

/// What a job is told unless a case says otherwise, which comes after it.
const JOB: [(&str, &str); 6] = [
    ("in", IN),
    ("out", OUT),
    ("start", "earliest"),
    ("stop", "never"),
    ("guarantee", "EXACTLY_ONCE"),
    ("source.group.id", GROUP),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    JOB.iter().chain(more).copied().collect()
}

fn topics(stage: &Stage<'_>) -> Result<()> {
    stage.topic(IN, PARTITIONS)?;
    stage.topic(OUT, PARTITIONS)
}

/// A job that ends where the topic ended when it began.
fn bounded(stage: &mut Stage<'_>, kind: &'static str, more: &[(&str, &str)]) -> Result<()> {
    topics(stage)?;
    let count = if kind == "varied" { 1000 } else { 20_000 };
    let produced = stage.produce("produced", &Load { kind, ..load(0, count) })?;
    let mut settings = with(&[("stop", "latest")]);
    settings.extend(more);
    stage.job(&settings)?.finish()?;
    same(&produced, &stage.read("read", OUT, produced.len())?, Times::Once)
}

/// A job that goes on and on: its process is killed, then the broker, then its process again, while records come.
fn killed(stage: &mut Stage<'_>, guarantee: &str, naming: &str) -> Result<()> {
    topics(stage)?;
    let settings = with(&[("guarantee", guarantee), ("naming", naming)]);
    let producing = stage.producing("produced", &Load { rate: 1000, ..load(0, 0) })?;
    let mut job = stage.job(&settings)?;
    further(stage, &mut job)?;
    job.kill()?;
    job = stage.again(&settings)?;
    further(stage, &mut job)?;
    stage.kill_broker()?;
    further(stage, &mut job)?;
    // Not just after a checkpoint, as the first time.
    std::thread::sleep(std::time::Duration::from_millis(250));
    job.kill()?;
    job = stage.again(&settings)?;
    further(stage, &mut job)?;
    let produced = producing.stop()?;
    stage.through(&mut job, GROUP, (IN, PARTITIONS), produced.len() as u64)?;
    let read = stage.read("read", OUT, produced.len())?;
    job.kill()?;
    eprintln!("         {} records produced, {} read", produced.len(), read.len());
    let times = if guarantee == "EXACTLY_ONCE" { Times::Once } else { Times::AtLeastOnce };
    same(&produced, &read, times)
}

/// Until so many more are committed.
fn further(stage: &Stage<'_>, job: &mut Job) -> Result<()> {
    let before = stage.committed(GROUP, IN, PARTITIONS);
    stage.through(job, GROUP, (IN, PARTITIONS), before + EACH)
}

/// A job by a pattern finds a topic's new partitions, and a new topic, while it runs.
fn discovered(stage: &mut Stage<'_>) -> Result<()> {
    let (first, second) = ("discovered-first", "discovered-second");
    stage.topic(first, 2)?;
    stage.topic(OUT, PARTITIONS)?;
    let mut produced =
        stage.produce("produced-1", &Load { topic: first, partitions: (0, 2), ..load(0, EACH) })?;
    let settings = with(&[("pattern", "discovered-.*"), ("source.partition.discovery.interval.ms", "500")]);
    let mut job = stage.job(&settings)?;
    stage.through(&mut job, GROUP, (first, 2), EACH)?;
    stage.told("partitions", &["partitions", first, "4"])?;
    let load = Load { topic: first, partitions: (2, 2), ..load(EACH, EACH) };
    produced.extend(stage.produce("produced-2", &load)?);
    stage.topic(second, 2)?;
    let load = Load { topic: second, first: 2 * EACH, partitions: (0, 2), ..load };
    produced.extend(stage.produce("produced-3", &load)?);
    stage.through(&mut job, GROUP, (first, 4), 2 * EACH)?;
    stage.through(&mut job, GROUP, (second, 2), EACH)?;
    let read = stage.read("read", OUT, produced.len())?;
    job.kill()?;
    same(&produced, &read, Times::Once)
}

/// A job from one time to another takes what was produced between them.
fn timestamps(stage: &mut Stage<'_>) -> Result<()> {
    topics(stage)?;
    let time = load(0, 0).time;
    stage.produce("before", &Load { time, ..load(0, EACH) })?;
    let produced = stage.produce("produced", &Load { time, ..load(EACH, EACH) })?;
    stage.produce("after", &Load { time, ..load(2 * EACH, EACH) })?;
    // Each record is a millisecond after the one before.
    let (start, stop) = ((time + EACH).to_string(), (time + 2 * EACH).to_string());
    stage.job(&with(&[("start", &start), ("stop", &stop)]))?.finish()?;
    same(&produced, &stage.read("read", OUT, produced.len())?, Times::Once)
}

/// The offsets that a job commits with its checkpoints are seen by admins, and another job begins at them.
fn committed_offsets(stage: &mut Stage<'_>) -> Result<()> {
    topics(stage)?;
    let before = stage.produce("before", &load(0, 2 * EACH))?;
    let mut job = stage.job(&JOB)?;
    stage.through(&mut job, GROUP, (IN, PARTITIONS), 2 * EACH)?;
    same(&before, &stage.read("read-before", OUT, before.len())?, Times::Once)?;
    job.kill()?;
    let told = stage.told("group", &["group", GROUP])?;
    let each = 2 * EACH / u64::from(PARTITIONS);
    let mut expected: Vec<String> =
        (0..PARTITIONS).map(|partition| format!("offset {IN}-{partition} {each} of {each}")).collect();
    // Flink assigns partitions itself: nobody joins the group.
    expected.extend(["group Empty with 0 members".to_owned(), "listed".to_owned()]);
    if let Some(missing) = expected.iter().find(|line| !told.lines().any(|said| said == *line)) {
        bail!("an admin is not told {missing:?} but {told:?}");
    }
    let produced = stage.produce("produced", &load(2 * EACH, EACH))?;
    stage.topic("later", PARTITIONS)?;
    stage.job(&with(&[("out", "later"), ("start", "committed"), ("stop", "latest")]))?.finish()?;
    let read = stage.read("read", "later", produced.len())?;
    same(&produced, &read, Times::Once).context("from the committed offsets on")
}
