//! bench-3 again, with another peer: how many single messages a second one producer gets onto the disk.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::bench::both::{Both, Peer};
use crate::bench::context::Context;
use crate::bench::nats::{self, Nats, Publish};
use crate::bench::openloop::OpenLoop;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::process;
use crate::bench::server::Durability::Synced;
use crate::bench::server::Side;

pub const METHOD: &str = "NATS: one server with JetStream, `sync_interval: always`, one stream in files, one copy, \
    emptied before each run; its client is its own `nats bench` (natscli 0.5.0), one connection. Headwater: a new topic \
    of one partition, synced; its client is the one of bench-3 on librdkafka as a closed loop, one connection, linger \
    0, acks=all, not idempotent. 100 B messages, one seeded line again and again at NATS, seeded lines here. \
    128 in flight, one message each: `async --batch 128` sends 128 messages, waits for the acknowledgement of each and \
    sends the next 128; our client sends one as soon as one is acknowledged, and every message is a request of its own \
    (batch.num.messages=1), so that, as at NATS, nothing is put together before the server has it. 128 in flight, put \
    together by the client: `atomic --batch 128` commits 128 messages as one batch, which NATS flushes together; our client \
    keeps 128 unacknowledged and librdkafka makes batches of them as it likes. One in flight: `sync`, and our client \
    with one. A first run that is not counted says how many messages take about ten seconds. Throughput is acknowledged \
    messages over the client's own time, CPU is the server's over the whole run. Both servers run all the time, and \
    both get no more of a warm-up than the first run.";

const IN_FLIGHT: u32 = 128;

struct Shape {
    name: &'static str,
    way: &'static [&'static str],
    in_flight: u32,
    properties: &'static [(&'static str, &'static str)],
    metrics: &'static [Metric],
}

const ACKS: (&str, &str) = ("acks", "all");
const NO_LINGER: (&str, &str) = ("linger.ms", "0");
const ONE_EACH: (&str, &str) = ("batch.num.messages", "1");

const RECORDS: Metric = Metric::higher("records", "acknowledged/s");
const CPU: Metric = Metric::lower("server CPU", "µs a message");

const SHAPES: [Shape; 3] = [
    Shape {
        name: "128 in flight, one message each",
        way: &["async", "--batch", "128"],
        in_flight: IN_FLIGHT,
        properties: &[ACKS, NO_LINGER, ONE_EACH],
        metrics: &[RECORDS.target(Target::Ratio(5.0)), CPU],
    },
    Shape {
        name: "128 in flight, put together by the client",
        way: &["atomic", "--batch", "128"],
        in_flight: IN_FLIGHT,
        properties: &[ACKS, NO_LINGER],
        metrics: &[RECORDS, CPU],
    },
    Shape {
        name: "one in flight",
        way: &["sync"],
        in_flight: 1,
        properties: &[ACKS, NO_LINGER],
        metrics: &[
            Metric::lower("p50", "ms"),
            Metric::lower("p99", "ms"),
            Metric::lower("p99.9", "ms"),
            RECORDS,
            CPU,
        ],
    },
];

const SIZE: usize = 100;

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let wanted: Vec<_> = SHAPES.iter().filter(|shape| context.options.wants(shape.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(both) = Both::<Nats>::start(context)? else { return Ok(()) };
    fs::write(both.payload(), &context.payloads(SIZE)?.one)?;
    for shape in wanted {
        let outcome = both.measure(shape);
        done(outcome.unwrap_or_else(|error| Outcome::failed(shape.name, format!("{error:#}"))));
    }
    both.stop()
}

impl Both<'_, Nats> {
    /// A file whose content is the message.
    fn payload(&self) -> PathBuf {
        self.dir.join("payload")
    }

    fn measure(&self, shape: &Shape) -> Result<Outcome> {
        let (ours, peer) = (Entry::new(Side::Ours, Synced), Entry::other(nats::NAME, Synced));
        let (seconds, first) = self.context.quick_or((1.0, 500), (10.0, 5_000));
        let count = |entry: &Entry| -> Result<u64> {
            let rate = self.once(shape, entry, first)?.values["records"];
            Ok(((rate * seconds) as u64).max(first))
        };
        let counts = [count(&ours)?, count(&peer)?];
        let flushes = [&ours, &peer].map(|entry| {
            let messages = self.context.quick_or(500, 5_000);
            self.count_flushes(shape.name, entry, "acknowledged", || self.once(shape, entry, messages))
        });
        let (name, pairs) = (shape.name, self.context.pairs(7));
        let case = Case { bench: Nats::BENCH, name, ours, peer, metrics: shape.metrics, pairs };
        self.pairs(&case, flushes, |entry| {
            self.once(shape, entry, counts[usize::from(entry.side == Side::Peer)])
        })
    }

    fn once(&self, shape: &Shape, entry: &Entry, messages: u64) -> Result<Sample> {
        let before = process::cpu_seconds(self.pid(entry))?;
        let sample = match entry.side {
            Side::Ours => self.produce(shape, entry, messages)?,
            Side::Peer => {
                let (payload, work) = (&self.payload(), &self.context.work);
                let run = Publish { way: shape.way, messages, size: SIZE, payload, work };
                run.run(&self.theirs)?
            }
        };
        let cpu = process::cpu_seconds(self.pid(entry))? - before;
        let figure = |key: &str| sample.values[key];
        let (busy, driver) = (cpu / figure("seconds"), figure("driver busy"));
        let each = cpu * 1e6 / figure("acknowledged");
        let driver_bound = driver >= 0.9 && driver > busy;
        Ok(Sample { driver_bound, ..sample }.set("server CPU", each).set("server busy", busy))
    }

    fn produce(&self, shape: &Shape, entry: &Entry, messages: u64) -> Result<Sample> {
        let topic = self.context.new_topic();
        self.ours.create_topic(&topic, 1, &entry.configs())?;
        let payloads = self.context.payloads(SIZE)?;
        let client = OpenLoop {
            topic: &topic,
            payloads: &payloads.path,
            size: SIZE,
            count: messages,
            in_flight: shape.in_flight,
            seed: self.context.options.seed,
            properties: shape.properties,
            ..OpenLoop::default()
        };
        let sample = client.start(&self.context.drivers.open_loop, &self.ours.bootstrap)?.finish()?;
        self.ours.delete_topic(&topic)?;
        Ok(sample)
    }
}
