//! bench-11: four small programs on our library and on Kafka Streams, each on its own broker, both on Apache Kafka, and
//! Kafka Streams on both brokers.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::context::Context;
use crate::bench::openloop::OpenLoop;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::process;
use crate::bench::server::{Server, Side};
use crate::bench::streams::{Application, Heap, Job, Libraries};

pub const METHOD: &str = "Four programs: filter and map; a count by key; a sum by key in tumbling windows of 10 s with 5 s of \
    grace; a join with a table. Records of 100 B on a million keys, 4 partitions, exactly-once, a commit every 100 ms, \
    state on disk with its changelog, one thread; Kafka Streams with its default cache and a heap of 2 GiB. Both \
    applications stay up for a case, Kafka Streams after two minutes of work. For each run one of them is stopped \
    (SIGSTOP, for 8 s at most) while its input is filled by librdkafka, and the clock runs from its going on until its group \
    has committed the last record. Memory is a case of its own, in which Kafka Streams has a heap that grows to 256 MiB at \
    most: with 2 GiB, RSS would say how much it was given. Before the first run both read the same topic, and the last output of each key is compared. Topics \
    are in each broker's default durability class (Headwater synced, Apache Kafka unsynced).";

const PARTITIONS: u32 = 4;
const KEYS: u64 = 1_000_000;
/// What the records of one run take at most.
const SLOWEST: Duration = Duration::from_secs(600);
/// How often the committed offsets are asked for.
const ASKED_EVERY: Duration = Duration::from_millis(5);
const WARM: Duration = Duration::from_secs(120);
/// Until caches and buffers are full.
const MEMORY_RUNS: u32 = 4;
const LOAD: [(&str, &str); 3] = [("acks", "all"), ("linger.ms", "5"), ("batch.size", "65536")];

pub(super) struct Program {
    name: &'static str,
    records: u64,
    /// Records a second and CPU of both against Kafka Streams on Apache Kafka.
    wall: f64,
    cpu: f64,
}

const PROGRAMS: [Program; 4] = [
    Program { name: "stateless", records: 4_000_000, wall: 2.0, cpu: 0.5 },
    Program { name: "count", records: 1_000_000, wall: 8.0, cpu: 1.0 / 8.0 },
    Program { name: "window", records: 1_000_000, wall: 8.0, cpu: 1.0 / 8.0 },
    Program { name: "join", records: 2_000_000, wall: 6.0, cpu: 1.0 / 6.0 },
];

/// Library and broker of one who is measured.
pub(super) type Stack = (Side, Side);

/// What is told apart by each.
const STACKS: [(&str, Stack, Stack); 3] = [
    ("ours on ours, theirs on theirs", (Side::Ours, Side::Ours), (Side::Peer, Side::Peer)),
    ("both on Apache Kafka", (Side::Ours, Side::Peer), (Side::Peer, Side::Peer)),
    ("Kafka Streams on Headwater and on Apache Kafka", (Side::Peer, Side::Ours), (Side::Peer, Side::Peer)),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let cases = PROGRAMS.iter().flat_map(|program| STACKS.iter().map(move |stacks| (program, stacks)));
    let name = |program: &Program, what: &str| format!("{}: {what}", program.name);
    let wanted: Vec<_> =
        cases.filter(|(program, (what, ..))| context.options.wants(&name(program, what))).collect();
    let memories = PROGRAMS.iter().map(|program| (name(program, "memory"), program));
    let measured: Vec<_> = memories.filter(|(name, _)| context.options.wants(name)).collect();
    if wanted.is_empty() && measured.is_empty() {
        return Ok(());
    }
    let libraries = Libraries::build(&context.work)?;
    let mut verified = "";
    for (program, (what, ours, peer)) in wanted {
        if verified != program.name {
            verify(context, &libraries, program)?;
            verified = program.name;
        }
        let name = name(program, what);
        let outcome = measure(context, &libraries, &name, program, (*ours, *peer));
        done(outcome.unwrap_or_else(|error| Outcome::failed(&name, format!("{error:#}"))));
    }
    for (name, program) in measured {
        let outcome = memory(context, &libraries, &name, program);
        done(outcome.unwrap_or_else(|error| Outcome::failed(&name, format!("{error:#}"))));
    }
    Ok(())
}

/// One application with its topics.
pub(super) struct Stage<'a> {
    context: &'a Context,
    pub server: &'a Server,
    pub input: String,
    table: String,
    output: String,
    id: String,
    /// How many records the input has been filled with.
    pub filled: Cell<u64>,
}

/// The program that keeps a row for each key.
pub(super) fn count_program() -> &'static Program {
    &PROGRAMS[1]
}

impl<'a> Stage<'a> {
    pub fn new(context: &'a Context, broker: Side, program: &Program) -> Result<Self> {
        let server = context.server(broker)?;
        let topic = context.new_topic();
        let name = |of: &str| format!("{topic}-{of}");
        let stage = Self {
            context,
            server,
            input: name("in"),
            table: name("table"),
            output: name("out"),
            id: topic.clone(),
            filled: Cell::new(0),
        };
        for topic in [&stage.input, &stage.output] {
            server.create_topic(topic, PARTITIONS, &[])?;
        }
        server.create_topic(&stage.table, PARTITIONS, &[("cleanup.policy", "compact")])?;
        if program.name == "join" {
            let rows = context.quick_or(10_000, 2 * KEYS);
            stage.fill(&stage.table, rows, context.options.seed)?;
        }
        Ok(stage)
    }

    fn fill(&self, topic: &str, count: u64, seed: u64) -> Result<()> {
        self.fill_keys(topic, count, self.context.quick_or(10_000, KEYS), seed)
    }

    pub fn fill_keys(&self, topic: &str, count: u64, keys: u64, seed: u64) -> Result<()> {
        let payloads = self.context.payloads(100)?;
        let load = OpenLoop {
            topic,
            payloads: &payloads.path,
            count,
            keys,
            seed,
            properties: &LOAD,
            ..OpenLoop::default()
        };
        load.start(&self.context.drivers.open_loop, &self.server.bootstrap)?.finish().map(drop)
    }

    /// The application's id, which is its group's.
    fn application(&self, side: Side) -> String {
        format!("{}-{}", self.id, if side == Side::Ours { "headwater" } else { "kafka-streams" })
    }

    /// Where an application of the library has its state.
    pub fn state_dir(&self, side: Side) -> PathBuf {
        self.dir().join(self.application(side))
    }

    fn dir(&self) -> PathBuf {
        self.context.work.join("streams")
    }

    pub fn start(
        &self,
        libraries: &Libraries,
        side: Side,
        program: &Program,
        (verify, heap): (bool, Heap),
    ) -> Result<Application> {
        let dir = self.dir();
        let id = self.application(side);
        let job = Job {
            program: program.name,
            bootstrap: &self.server.bootstrap,
            application_id: &id,
            input: &self.input,
            table: &self.table,
            output: &self.output,
            dir: &dir,
            threads: 1,
            guarantee: "exactly_once_v2",
            verify,
            heap,
        };
        Application::start(libraries, side, &job)
    }

    /// The records of one run, from the moment when they are all there until they are all committed.
    fn turn(
        &self,
        (application, side): (&mut Application, Side),
        program: &Program,
        seed: u64,
    ) -> Result<Sample> {
        let records = self.context.quick_or(program.records / 20, program.records);
        application.pause()?;
        let filled = self.fill(&self.input, records, seed);
        self.filled.set(self.filled.get() + records);
        let cpu =
            || -> Result<(f64, f64)> { Ok((process::cpu_seconds(application.pid())?, self.server.cpu()?)) };
        let (ours, broker) = cpu()?;
        let begun = Instant::now();
        application.go_on()?;
        filled?;
        self.until_committed(application, side)?;
        let took = begun.elapsed().as_secs_f64();
        let (ours_after, broker_after) = (process::cpu_seconds(application.pid())?, self.server.cpu()?);
        let records = records as f64;
        Ok(Sample { driver: application.shown.clone(), ..Sample::default() }
            .set("throughput", records / took / 1e3)
            .set("library CPU", (ours_after - ours) * 1e6 / records)
            .set("broker CPU", (broker_after - broker) * 1e6 / records)
            .set("RSS", process::rss_mib(application.pid())?))
    }

    /// Waits until the group has committed all that the input was filled with.
    pub fn until_committed(&self, application: &mut Application, side: Side) -> Result<()> {
        let (group, begun) = (self.application(side), Instant::now());
        let mut committed = 0;
        while committed < self.filled.get() {
            ensure!(
                begun.elapsed() < SLOWEST,
                "{} has committed {committed} of {} records after {} s",
                application.shown,
                self.filled.get(),
                SLOWEST.as_secs()
            );
            application.until(SLOWEST, |_| true)?;
            std::thread::sleep(ASKED_EVERY);
            committed = self.server.committed(&group, &self.input, PARTITIONS)?;
        }
        Ok(())
    }

    pub fn delete(&self) -> Result<()> {
        [&self.input, &self.table, &self.output]
            .into_iter()
            .try_for_each(|topic| self.server.delete_topic(topic))
    }
}

/// Both read the same topic on Apache Kafka: what each key has come to must be the same.
fn verify(context: &Context, libraries: &Libraries, program: &Program) -> Result<()> {
    eprintln!("bench: streams, {}: comparing outputs", program.name);
    let stage = Stage::new(context, Side::Peer, program)?;
    let records = context.quick_or(20_000, 200_000);
    stage.fill(&stage.input, records, context.options.seed)?;
    stage.filled.set(records);
    let mut digests = Vec::new();
    for side in Side::BOTH {
        let mut application = stage.start(libraries, side, program, (true, Heap::Ample))?;
        stage.until_committed(&mut application, side)?;
        // Nothing is held back by a cache any more; what came last is said within a moment.
        std::thread::sleep(Duration::from_secs(1));
        let said = application.said();
        ensure!(said.processed == records, "{} processed {} of {records}", application.shown, said.processed);
        digests
            .push(said.digest.with_context(|| format!("{} said nothing of its output", application.shown))?);
        application.stop()?;
    }
    stage.delete()?;
    if digests[0] != digests[1] {
        bail!("{}: the two libraries do not have the same results", program.name);
    }
    Ok(())
}

fn measure(
    context: &Context,
    libraries: &Libraries,
    name: &str,
    program: &Program,
    (ours, peer): (Stack, Stack),
) -> Result<Outcome> {
    let libraries_alone = ours.1 == peer.1;
    let mut wall = Metric::higher("throughput", "1,000 records/s");
    let mut cpu = Metric::lower("library CPU", "µs a record");
    if ours.0 != peer.0 {
        (wall.target, cpu.target) = (Some(Target::Ratio(program.wall)), Some(Target::Ratio(program.cpu)));
    }
    if libraries_alone {
        wall.target = None;
    }
    let metrics = [wall, cpu, Metric::lower("broker CPU", "µs a record")];
    let stages = [Stage::new(context, ours.1, program)?, Stage::new(context, peer.1, program)?];
    let mut applications = [
        stages[0].start(libraries, ours.0, program, (false, Heap::Ample))?,
        stages[1].start(libraries, peer.0, program, (false, Heap::Ample))?,
    ];
    let sides = [ours.0, peer.0];
    let mut seed = context.options.seed;
    for (at, (library, _)) in [ours, peer].into_iter().enumerate() {
        let warm =
            if library == Side::Peer { context.quick_or(Duration::ZERO, WARM) } else { Duration::ZERO };
        let begun = Instant::now();
        loop {
            seed += 1;
            stages[at].turn((&mut applications[at], sides[at]), program, seed)?;
            if begun.elapsed() >= warm {
                break;
            }
        }
    }
    // The side says whose library it is, but for the case that compares brokers.
    let (entry, other) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
    let case =
        Case { bench: "streams", name, ours: entry, peer: other, metrics: &metrics, pairs: context.pairs(5) };
    let outcome = case.run(context, |entry| {
        let at = usize::from(entry.side == Side::Peer);
        seed += 1;
        let sample = stages[at].turn((&mut applications[at], sides[at]), program, seed)?;
        stages[at].server.settle()?;
        Ok((sample, stages[at].server.command.clone()))
    });
    applications.into_iter().try_for_each(Application::stop)?;
    stages.iter().try_for_each(Stage::delete)?;
    outcome
}

/// What the two processes take after some runs, each on Apache Kafka.
fn memory(context: &Context, libraries: &Libraries, name: &str, program: &Program) -> Result<Outcome> {
    let metrics = [Metric::lower("RSS", "MiB").target(Target::Ratio(1.0 / 8.0))];
    let (entry, other) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
    let case =
        Case { bench: "streams", name, ours: entry, peer: other, metrics: &metrics, pairs: context.pairs(3) };
    let mut seed = context.options.seed;
    case.run(context, |entry| {
        let stage = Stage::new(context, Side::Peer, program)?;
        let mut application = stage.start(libraries, entry.side, program, (false, Heap::Needed))?;
        let mut sample = Sample::default();
        for _ in 0..context.quick_or(1, MEMORY_RUNS) {
            seed += 1;
            sample = stage.turn((&mut application, entry.side), program, seed)?;
        }
        application.stop()?;
        stage.delete()?;
        stage.server.settle()?;
        Ok((sample, stage.server.command.clone()))
    })
}
