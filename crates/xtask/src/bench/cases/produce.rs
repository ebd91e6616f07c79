//! bench-1 and bench-2: produce throughput in both durability classes, and ours across them.

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::flushes::Counter;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::server::Durability::{self, Synced, Unsynced};
use crate::bench::server::{Server, Side};
use crate::bench::{java, performance};

pub const METHOD: &str = "Every run writes to a new topic for some seconds after a warm-up (librdkafka 1 s + 5 s, \
    3 s + 5 s where one is synced, Java 4 s + 5 s); throughput and the server's CPU are those of the time after the warm-up, read at the same moments. \
    Both servers run all the time, one rests while the other is measured; between runs the topic is deleted and the \
    disk synced. librdkafka sends one seeded message of printable noise again and again (its tool has no payload \
    file), so only the Java rows compress. librdkafka's in-flight limit, and idempotence, are each client's default.";

#[derive(Clone, Copy)]
enum Driver {
    /// Batch size and linger.
    Librdkafka(usize, u32),
    Java(&'static [(&'static str, &'static str)]),
}

struct Shape {
    name: &'static str,
    driver: Driver,
    size: usize,
    partitions: u32,
    ours: Entry,
    peer: Entry,
    wall: Option<f64>,
    cpu: Option<f64>,
}

const fn shape(name: &'static str, driver: Driver, size: usize, partitions: u32) -> Shape {
    let (ours, peer) = (Entry::new(Side::Ours, Unsynced), Entry::new(Side::Peer, Unsynced));
    Shape { name, driver, size, partitions, ours, peer, wall: None, cpu: None }
}

impl Shape {
    const fn between(mut self, ours: Durability, peer: Durability) -> Self {
        self.ours = Entry::new(Side::Ours, ours);
        self.peer = Entry::new(Side::Peer, peer);
        self
    }

    const fn against_ourselves(mut self) -> Self {
        self.ours = Entry::new(Side::Ours, Synced);
        self.peer = Entry::new(Side::Ours, Unsynced);
        self
    }

    const fn wall(mut self, ratio: f64) -> Self {
        self.wall = Some(ratio);
        self
    }

    const fn cpu(mut self, ratio: f64) -> Self {
        self.cpu = Some(ratio);
        self
    }
}

const SMALL: Driver = Driver::Librdkafka(16_384, 5);
const MEDIUM: Driver = Driver::Librdkafka(65_536, 5);
const LARGE: Driver = Driver::Librdkafka(1_000_000, 50);
const JAVA: Driver = Driver::Java(&[]);
const JAVA_LZ4: Driver = Driver::Java(&[("compression.type", "lz4")]);
const JAVA_LARGE: Driver = Driver::Java(&[("batch.size", "1000000"), ("linger.ms", "50")]);

const UNSYNCED: &[Shape] = &[
    shape("librdkafka, 1 KiB records, 16 KiB batches, 6 partitions", SMALL, 1024, 6).wall(2.5).cpu(1.0 / 6.0),
    shape("librdkafka, 1 KiB records, 64 KiB batches, 6 partitions", MEDIUM, 1024, 6),
    shape("librdkafka, 1 KiB records, 1 MB batches, 6 partitions", LARGE, 1024, 6).wall(1.3).cpu(0.5),
    shape("librdkafka, 100 B records, 64 KiB batches, 6 partitions", MEDIUM, 100, 6),
    shape("Java defaults, 1 KiB records, 6 partitions", JAVA, 1024, 6).cpu(0.25),
    shape("Java, lz4, 1 KiB records, 6 partitions", JAVA_LZ4, 1024, 6),
    shape("Java, 1 KiB records, 1 MB batches, 6 partitions", JAVA_LARGE, 1024, 6),
];

const SYNCED: &[Shape] = &[
    synced_shape("(a) librdkafka, 16 KiB batches, 1 partition", SMALL, 1).wall(15.0).cpu(1.0 / 12.0),
    synced_shape("(a) librdkafka, 16 KiB batches, 16 partitions", SMALL, 16).wall(15.0).cpu(1.0 / 12.0),
    synced_shape("(a) librdkafka, 16 KiB batches, 64 partitions", SMALL, 64).wall(15.0).cpu(1.0 / 12.0),
    synced_shape("(a) librdkafka, 16 KiB batches, 1,000 partitions", SMALL, 1000).wall(15.0).cpu(1.0 / 12.0),
    synced_shape("(a) Java defaults, 1 partition", JAVA, 1).wall(10.0).cpu(1.0 / 12.0),
    synced_shape("(a) Java defaults, 64 partitions", JAVA, 64).wall(10.0).cpu(1.0 / 12.0),
    synced_shape("(b) librdkafka, 1 MB batches, 1 partition", LARGE, 1).wall(3.0),
    synced_shape("(b) Java, 1 MB batches, 1 partition", JAVA_LARGE, 1).wall(2.2),
    across("ours synced against Kafka unsynced: librdkafka, 16 KiB batches", SMALL, 1024),
    across("ours synced against Kafka unsynced: librdkafka, 64 KiB batches", MEDIUM, 1024),
    across("ours synced against Kafka unsynced: librdkafka, 1 MB batches", LARGE, 1024),
    across("ours synced against Kafka unsynced: librdkafka, 100 B records, 64 KiB batches", MEDIUM, 100),
    across("ours synced against Kafka unsynced: Java defaults", JAVA, 1024),
    shape("ours synced against ours unsynced: librdkafka, 16 KiB batches", SMALL, 1024, 6)
        .against_ourselves()
        .wall(0.9),
];

const fn synced_shape(name: &'static str, driver: Driver, partitions: u32) -> Shape {
    shape(name, driver, 1024, partitions).between(Synced, Synced)
}

const fn across(name: &'static str, driver: Driver, size: usize) -> Shape {
    shape(name, driver, size, 6).between(Synced, Unsynced).wall(1.0)
}

pub fn unsynced(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    all(context, "produce-unsynced", UNSYNCED, 7, done)
}

pub fn synced(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    all(context, "produce-synced", SYNCED, 11, done)
}

fn all(
    context: &Context,
    bench: &str,
    shapes: &[Shape],
    pairs: usize,
    done: &mut dyn FnMut(Outcome),
) -> Result<()> {
    for shape in shapes.iter().filter(|shape| context.options.wants(shape.name)) {
        let outcome = shape.measure(context, bench, context.pairs(pairs));
        done(outcome.unwrap_or_else(|error| Outcome::failed(shape.name, format!("{error:#}"))));
    }
    Ok(())
}

impl Shape {
    fn metrics(&self) -> [Metric; 2] {
        let (mut wall, mut cpu) =
            (Metric::higher("throughput", "MB/s"), Metric::lower("server CPU", "µs a record"));
        wall.target = self.wall.map(Target::Ratio);
        cpu.target = self.cpu.map(Target::Ratio);
        [wall, cpu]
    }

    fn measure(&self, context: &Context, bench: &str, pairs: usize) -> Result<Outcome> {
        for entry in [&self.ours, &self.peer] {
            if let Some(durability) = entry.durability {
                context.offers(context.server(entry.side)?, durability)?;
            }
        }
        let flushes = [&self.ours, &self.peer].map(|entry| self.count_flushes(context, entry));
        let metrics = self.metrics();
        let (name, ours, peer) = (self.name, self.ours, self.peer);
        let case = Case { bench, name, ours, peer, metrics: &metrics, pairs };
        let mut outcome = case.run(context, |entry| {
            let server = context.server(entry.side)?;
            let sample = self.once(context, server, entry, 5.0)?;
            server.settle()?;
            Ok((sample, server.command.clone()))
        })?;
        for (contestant, counted) in outcome.contestants.iter_mut().zip(flushes) {
            contestant.flushes = Some(counted.unwrap_or_else(|error| format!("not counted: {error:#}")));
        }
        if let Driver::Java(_) = self.driver {
            let ratio = context.payloads(self.size)?.ratio;
            outcome.notes.push(format!(
                "payload file of seed {}: gzip -1 makes it {ratio:.2} times smaller",
                context.options.seed
            ));
        }
        Ok(outcome)
    }

    /// A synced server first works off the many small batches that the first milliseconds sent.
    fn warmup(&self) -> f64 {
        let synced = [self.ours, self.peer].iter().any(|entry| entry.durability == Some(Synced));
        if synced { 3.0 } else { 1.0 }
    }

    /// One run into a topic of its own.
    fn once(&self, context: &Context, server: &Server, entry: &Entry, seconds: f64) -> Result<Sample> {
        let topic = context.new_topic();
        server.create_topic(&topic, self.partitions, &entry.configs())?;
        let payloads = context.payloads(self.size)?;
        let size = self.size;
        let sample = match self.driver {
            Driver::Librdkafka(batch, linger_ms) => {
                let timing = context.timing(self.warmup(), seconds);
                let (topic, message) = (topic.as_str(), payloads.one.as_str());
                let run = performance::Produce { topic, size, message, batch, linger_ms, properties: &[] };
                run.run(&context.drivers.performance, server, timing.warmup, timing.seconds)
            }
            Driver::Java(properties) => {
                let timing = context.timing(4.0, seconds);
                let run = java::Produce { topic: &topic, size, payloads: &payloads.path, properties };
                run.run(&context.tools, server, timing.warmup, timing.seconds)
            }
        };
        server.delete_topic(&topic)?;
        sample
    }

    /// A short run under `strace`, which is not timed.
    fn count_flushes(&self, context: &Context, entry: &Entry) -> Result<String> {
        let server = context.server(entry.side)?;
        eprintln!("bench: {}: counting flushes of {}", self.name, entry.name());
        let counter = Counter::attach(server.pid(), &context.work)?;
        let sample = self.once(context, server, entry, 2.0);
        let flushes = counter.detach()?;
        server.settle()?;
        Ok(flushes.describe(sample?.values["total"]))
    }
}
