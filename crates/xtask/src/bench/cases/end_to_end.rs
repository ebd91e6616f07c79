//! bench-4: from when a message was due to its arrival at a consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::bench::context::{Context, Timing};
use crate::bench::openloop::{OpenLoop, Running};
use crate::bench::outcome::{Metric, Outcome, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::performance::{Consume, Produce};
use crate::bench::server::Durability::{self, Synced, Unsynced};
use crate::bench::server::{Server, Side};

pub const METHOD: &str = "The open-loop client of bench-3, which also reads the topic's 6 partitions with a consumer of \
    its own: a latency runs from when the message was due, which it carries, to its arrival, on one monotonic clock. \
    100 B records, linger 0, acks=all, the consumer's settings by default; 2 s of warm-up, then 10 s. With a catch-up \
    reader: meanwhile another process reads 4 GiB of another topic from its beginning, again and again in groups of its \
    own.";

const LINGER_ZERO: [(&str, &str); 4] =
    [("acks", "all"), ("linger.ms", "0"), ("partitioner", "random"), ("sticky.partitioning.linger.ms", "0")];
const HISTORY: &str = "bench-history";

struct Shape {
    name: &'static str,
    rate: f64,
    ours: Durability,
    catching_up: bool,
    targets: [Option<Target>; 4],
}

const fn shape(name: &'static str, rate: f64, ours: Durability) -> Shape {
    Shape { name, rate, ours, catching_up: false, targets: [None; 4] }
}

const SHAPES: &[Shape] = &[
    Shape {
        targets: [Some(Target::Ratio(0.5)), None, Some(Target::Ratio(0.1)), Some(Target::Ratio(0.1))],
        ..shape("1,000 messages/s, unsynced", 1e3, Unsynced)
    },
    Shape {
        targets: [None, Some(Target::Ours(1.0)), None, Some(Target::Ratio(0.1))],
        ..shape("10,000 messages/s, unsynced", 1e4, Unsynced)
    },
    Shape { catching_up: true, ..shape("10,000 messages/s with a catch-up reader, unsynced", 1e4, Unsynced) },
    shape("1,000 messages/s, ours synced against Kafka unsynced", 1e3, Synced),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    for shape in SHAPES.iter().filter(|shape| context.options.wants(shape.name)) {
        let outcome = shape.measure(context);
        done(outcome.unwrap_or_else(|error| Outcome::failed(shape.name, format!("{error:#}"))));
    }
    Ok(())
}

impl Shape {
    fn measure(&self, context: &Context) -> Result<Outcome> {
        let mut metrics = [
            Metric::lower("p50", "ms"),
            Metric::lower("p99", "ms"),
            Metric::lower("p99.9", "ms"),
            Metric::lower("server CPU", "µs a message"),
            Metric::higher("records", "consumed/s"),
        ];
        for (metric, target) in metrics.iter_mut().zip(self.targets) {
            metric.target = target;
        }
        let records = context.quick_or(64 << 10, 4 << 20);
        if self.catching_up {
            for side in Side::BOTH {
                fill(context, context.server(side)?, records)?;
            }
        }
        let (ours, peer) = (Entry::new(Side::Ours, self.ours), Entry::new(Side::Peer, Unsynced));
        let (name, pairs) = (self.name, context.pairs(7));
        let case = Case { bench: "end-to-end", name, ours, peer, metrics: &metrics, pairs };
        let outcome = case.run(context, |entry| {
            let server = context.server(entry.side)?;
            let topic = context.new_topic();
            server.create_topic(&topic, 6, &entry.configs())?;
            let running = flow(context, server, &topic, self.rate, context.timing(2.0, 10.0))?;
            let before = server.cpu()?;
            let reader = self.catching_up.then(|| CatchingUp::start(context, server, records));
            let sample = running.finish()?;
            let cpu = server.cpu()? - before;
            reader.map_or(Ok(()), CatchingUp::stop)?;
            let consumed = sample.values["acknowledged"];
            server.delete_topic(&topic)?;
            server.settle()?;
            Ok((sample.set("server CPU", cpu * 1e6 / consumed), server.command.clone()))
        })?;
        if self.catching_up {
            for side in Side::BOTH {
                context.server(side)?.delete_topic(HISTORY)?;
            }
        }
        Ok(outcome)
    }
}

/// The open loop of `rate` messages a second through `topic` and back, connected and begun.
pub(super) fn flow(
    context: &Context,
    server: &Server,
    topic: &str,
    rate: f64,
    timing: Timing,
) -> Result<Running> {
    let payloads = context.payloads(100)?;
    let client = OpenLoop {
        topic,
        payloads: &payloads.path,
        size: 100,
        rate,
        seconds: timing.seconds,
        warmup: timing.warmup,
        seed: context.options.seed,
        end_to_end: true,
        properties: &LINGER_ZERO,
        ..OpenLoop::default()
    };
    client.start(&context.drivers.open_loop, &server.bootstrap)
}

fn fill(context: &Context, server: &Server, records: u64) -> Result<()> {
    eprintln!("bench: end-to-end: filling {} with {records} records", server.side.name());
    server.create_topic(HISTORY, 6, &[])?;
    let payloads = context.payloads(1024)?;
    let (message, size) = (payloads.one.as_str(), 1024);
    let run = Produce { topic: HISTORY, size, message, batch: 65_536, linger_ms: 5, properties: &[] };
    run.fill(&context.drivers.performance, &server.bootstrap, records)?;
    server.settle()
}

/// A process that reads the history, and the next when it has ended.
struct CatchingUp {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl CatchingUp {
    fn start(context: &Context, server: &Server, records: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (program, bootstrap) = (context.drivers.performance.clone(), server.bootstrap.clone());
        let (name, seen) = (context.new_topic(), Arc::clone(&over));
        let read = move || {
            for turn in 0.. {
                let group = format!("{name}-{turn}");
                let mut reading =
                    Consume { topic: HISTORY, group: &group, records }.start(&program, &bootstrap)?;
                while reading.is_running()? {
                    if seen.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Ok(())
        };
        Self { over, thread: Some(std::thread::spawn(read)) }
    }

    fn stop(mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|_| bail!("the catch-up reader panicked")))
    }
}
