//! bench-3: how long an acknowledgement takes at a fixed rate, measured from when the message was due.

use std::time::Duration;

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::java;
use crate::bench::machine::flush_loop_p99;
use crate::bench::openloop::OpenLoop;
use crate::bench::outcome::{Metric, Outcome, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::server::Durability::{self, Synced, Unsynced};
use crate::bench::server::Side;

pub const METHOD: &str = "An open-loop client on librdkafka: message i is due at start + i / rate whatever the server \
    does, and its latency runs from when it was due to its acknowledgement, on one monotonic clock, into a histogram \
    with steps of 1.6 %. A message that was never acknowledged counts with the age it has when the run ends, 10 s \
    after the last was due. 100 B records, linger 0, 6 partitions, random partitioner, acks=all; 2 s of warm-up, then \
    10 s. The bare flush loop writes 4 KiB with O_DIRECT and O_DSYNC into blocks already written, one every millisecond \
    for 3 s right before each run, and does nothing else. `EndToEndLatency` is a closed loop: it sends the next record \
    when the last one has been consumed, and its percentiles are whole milliseconds.";

const LINGER_ZERO: [(&str, &str); 4] =
    [("acks", "all"), ("linger.ms", "0"), ("partitioner", "random"), ("sticky.partitioning.linger.ms", "0")];

struct Shape {
    name: &'static str,
    rate: f64,
    peer: Durability,
    targets: [Option<Target>; 3],
    /// Beside a bare loop of flushes of the same rate.
    over_flushes: bool,
}

const OVER_FLUSHES: &str = "p99 over a bare flush loop's";

const SHAPES: &[Shape] = &[
    Shape {
        name: "1,000 messages/s, synced",
        rate: 1e3,
        peer: Synced,
        targets: [Some(Target::Ours(0.3)), Some(Target::Ours(1.0)), Some(Target::Ours(2.0))],
        over_flushes: true,
    },
    Shape {
        name: "10,000 messages/s, synced",
        rate: 1e4,
        peer: Synced,
        targets: [None, Some(Target::Ours(2.0)), None],
        over_flushes: false,
    },
    Shape {
        name: "1,000 messages/s, ours synced against Kafka unsynced",
        rate: 1e3,
        peer: Unsynced,
        targets: [None; 3],
        over_flushes: false,
    },
    Shape {
        name: "10,000 messages/s, ours synced against Kafka unsynced",
        rate: 1e4,
        peer: Unsynced,
        targets: [None; 3],
        over_flushes: false,
    },
];

/// Name and the peer's class of the cases of Kafka's own tool.
const END_TO_END: [(&str, Durability); 2] = [
    ("EndToEndLatency, closed loop, synced", Synced),
    ("EndToEndLatency, closed loop, ours synced against Kafka unsynced", Unsynced),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    for shape in SHAPES.iter().filter(|shape| context.options.wants(shape.name)) {
        let outcome = shape.measure(context);
        done(outcome.unwrap_or_else(|error| Outcome::failed(shape.name, format!("{error:#}"))));
    }
    for (name, peer) in END_TO_END.iter().filter(|(name, _)| context.options.wants(name)) {
        let outcome = end_to_end(context, name, *peer);
        done(outcome.unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
    }
    Ok(())
}

fn end_to_end(context: &Context, name: &str, peer: Durability) -> Result<Outcome> {
    let metrics = [
        Metric::lower("mean", "ms"),
        Metric::lower("p99", "ms"),
        Metric::lower("p99.9", "ms"),
        Metric::lower("server CPU", "µs a message"),
    ];
    let (ours, peer) = (Entry::new(Side::Ours, Synced), Entry::new(Side::Peer, peer));
    let case = Case { bench: "latency", name, ours, peer, metrics: &metrics, pairs: context.pairs(7) };
    case.run(context, |entry| {
        let server = context.server(entry.side)?;
        let topic = context.new_topic();
        server.create_topic(&topic, 1, &entry.configs())?;
        let sample = java::end_to_end(&context.tools, server, &topic, context.quick_or(500, 5000))?;
        server.delete_topic(&topic)?;
        server.settle()?;
        Ok((sample, server.command.clone()))
    })
}

impl Shape {
    fn measure(&self, context: &Context) -> Result<Outcome> {
        let mut metrics = [
            Metric::lower("p50", "ms"),
            Metric::lower("p99", "ms"),
            Metric::lower("p99.9", "ms"),
            Metric::lower(OVER_FLUSHES, "times").target(Target::Ours(2.0)),
            Metric::lower("longest", "ms"),
            Metric::lower("server CPU", "µs a message"),
            Metric::higher("records", "acknowledged/s"),
        ];
        for (metric, target) in metrics.iter_mut().zip(self.targets) {
            metric.target = target;
        }
        let (ours, peer) = (Entry::new(Side::Ours, Synced), Entry::new(Side::Peer, self.peer));
        let (name, pairs) = (self.name, context.pairs(7));
        let loop_for = Duration::from_millis(context.quick_or(300, 3000));
        let case = Case { bench: "latency", name, ours, peer, metrics: &metrics, pairs };
        let mut outcome = case.run(context, |entry| {
            let server = context.server(entry.side)?;
            let topic = context.new_topic();
            server.create_topic(&topic, 6, &entry.configs())?;
            let payloads = context.payloads(100)?;
            let timing = context.timing(2.0, 10.0);
            let client = OpenLoop {
                topic: &topic,
                payloads: &payloads.path,
                size: 100,
                rate: self.rate,
                seconds: timing.seconds,
                warmup: timing.warmup,
                seed: context.options.seed,
                properties: &LINGER_ZERO,
                ..OpenLoop::default()
            };
            // Where the file system takes no direct writes, the figure is left out.
            let flush =
                self.over_flushes.then(|| flush_loop_p99(&context.work, loop_for)).and_then(Result::ok);
            let mut sample = client.run(&context.drivers.open_loop, server)?;
            if let Some(flush) = flush {
                let p99 = sample.values["p99"];
                sample = sample.set("flush loop p99", flush).set(OVER_FLUSHES, p99 / flush);
            }
            server.delete_topic(&topic)?;
            server.settle()?;
            Ok((sample, server.command.clone()))
        })?;
        let bare = context.machine.limits.iter().filter(|limit| limit.name.contains("4 KiB"));
        outcome
            .notes
            .extend(bare.map(|limit| format!("{} alone, in the same run: {}", limit.name, limit.value)));
        Ok(outcome)
    }
}
