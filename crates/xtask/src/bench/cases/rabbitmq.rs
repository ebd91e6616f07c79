//! bench-2 again, with another peer: how much one producer gets confirmed by a stream of RabbitMQ.

use anyhow::Result;

use crate::bench::both::{Both, Peer};
use crate::bench::context::Context;
use crate::bench::outcome::{Metric, Outcome, Sample};
use crate::bench::pairs::{Case, Entry};
use crate::bench::performance::Produce;
use crate::bench::rabbitmq::{Publish, Rabbit};
use crate::bench::server::Durability::{self, Synced, Unsynced};
use crate::bench::server::Side;

pub const METHOD: &str = "RabbitMQ: one node with its stream plugin, a new stream of one copy for each run; its \
    client is its own `perfTest` (Go stream client 1.8.3), one publisher on one connection of the stream protocol, \
    every message confirmed. RabbitMQ confirms a stream's messages from the page cache and, as its manual says, never \
    flushes them (those counted are of its log and of a stream's creation and removal), so its class is unsynced, and \
    three of four cases set ours, synced, against that. Headwater: a new topic of one partition; its client is \
    `rdkafka_performance`, one producer, acks=all, not idempotent. 1,024 B a message, at most 10,000 unacknowledged, \
    which is `perfTest`'s own limit; one seeded message of printable noise again and again here, the time and zeros \
    there, compressed by neither. The drivers differ, one in C on Kafka's protocol and one in Go on RabbitMQ's, and \
    share the machine's cores with the servers: throughput is what server and client reach together and says little \
    of a server alone; compare the server's CPU a record. 16 and 300 KiB batches: librdkafka's batches of at most \
    that size (linger 5 and 50 ms), and 16 or 300 messages as one sub-entry, which RabbitMQ, too, stores and confirms \
    as a whole; 300 is the most that `perfTest` takes. Each client's own batches: librdkafka's defaults (up to 1 MB, \
    5 ms), and 200 messages a request, which RabbitMQ keeps apart. RabbitMQ's connections have segments of 1,448 B as \
    on Ethernet, because confirms in the loopback's large ones wait 200 ms each for room in the small receive buffer \
    that the client asks for. Throughput and the server's CPU are those of five seconds after three of warm-up, read \
    at the same moments. Both servers run all the time; between runs topic and stream are deleted and the disk \
    synced.";

struct Shape {
    name: &'static str,
    ours: Durability,
    batch: usize,
    linger_ms: u32,
    /// `perfTest`'s options for the same.
    way: &'static [&'static str],
}

const SMALL: &[&str] = &["--batch-size", "16", "--sub-entry-size", "16"];
const LARGE: &[&str] = &["--batch-size", "300", "--sub-entry-size", "300"];

const SHAPES: [Shape; 4] = [
    Shape {
        name: "ours synced against RabbitMQ unsynced: 16 KiB batches",
        ours: Synced,
        batch: 16_384,
        linger_ms: 5,
        way: SMALL,
    },
    Shape {
        name: "ours synced against RabbitMQ unsynced: 300 KiB batches",
        ours: Synced,
        batch: 300 * 1024,
        linger_ms: 50,
        way: LARGE,
    },
    Shape {
        name: "ours synced against RabbitMQ unsynced: each client's own batches",
        ours: Synced,
        batch: 1_000_000,
        linger_ms: 5,
        way: &[],
    },
    Shape { name: "both unsynced: 16 KiB batches", ours: Unsynced, batch: 16_384, linger_ms: 5, way: SMALL },
];

const METRICS: [Metric; 2] =
    [Metric::higher("throughput", "MB/s"), Metric::lower("server CPU", "µs a record")];
const SIZE: usize = 1024;
const IN_FLIGHT: (&str, &str) = ("queue.buffering.max.messages", "10000");

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let wanted: Vec<_> = SHAPES.iter().filter(|shape| context.options.wants(shape.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(both) = Both::<Rabbit>::start(context)? else { return Ok(()) };
    for shape in wanted {
        let outcome = both.measure(shape);
        done(outcome.unwrap_or_else(|error| Outcome::failed(shape.name, format!("{error:#}"))));
    }
    both.stop()
}

impl Both<'_, Rabbit> {
    fn measure(&self, shape: &Shape) -> Result<Outcome> {
        let (ours, peer) = (Entry::new(Side::Ours, shape.ours), Entry::other(self.theirs.name, Unsynced));
        let flushes = [&ours, &peer]
            .map(|entry| self.count_flushes(shape.name, entry, "total", || self.once(shape, entry, 2.0)));
        let (name, pairs) = (shape.name, self.context.pairs(7));
        let case = Case { bench: Rabbit::BENCH, name, ours, peer, metrics: &METRICS, pairs };
        self.pairs(&case, flushes, |entry| self.once(shape, entry, 5.0))
    }

    /// One run into a topic or stream of its own.
    fn once(&self, shape: &Shape, entry: &Entry, seconds: f64) -> Result<Sample> {
        let (timing, name) = (self.context.timing(3.0, seconds), self.context.new_topic());
        if entry.side == Side::Peer {
            let run = Publish { stream: &name, size: SIZE, way: shape.way };
            let sample = run.run(&self.theirs, timing.warmup, timing.seconds)?;
            self.theirs.delete(&name)?;
            return Ok(sample);
        }
        self.ours.create_topic(&name, 1, &entry.configs())?;
        let payloads = self.context.payloads(SIZE)?;
        let run = Produce {
            topic: &name,
            size: SIZE,
            message: &payloads.one,
            batch: shape.batch,
            linger_ms: shape.linger_ms,
            properties: &[IN_FLIGHT],
        };
        let program = &self.context.drivers.performance;
        let sample = run.run(program, &self.ours, timing.warmup, timing.seconds)?;
        self.ours.delete_topic(&name)?;
        Ok(sample)
    }
}
