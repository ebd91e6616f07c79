//! bench-10: what compaction gives back, what it costs, and what a foreground flow notices of it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::bench::context::Context;
use crate::bench::openloop::{OpenLoop, Running};
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::process::files_and_bytes;
use crate::bench::server::{Server, Side};

pub const METHOD: &str = "10 million updates of 100 B on 200,000 uniformly drawn keys (the list asks for 50 M on 1 M; the \
    same 50 updates a key) go to a compacted topic of 6 partitions, segment.bytes 16 MiB, \
    min.cleanable.dirty.ratio 0.5, as fast as librdkafka sends, while 5,000 messages/s of 100 B flow to another topic \
    in an open loop; the same flow goes on, counted apart, when the load has ended, while the data directory is watched \
    until it has not shrunk for 40 s. Three steps a run: the \
    foreground alone; the load with compaction; the same load into a topic that is not compacted. Cleaning CPU is the \
    server's in the second step less that in the third, what it takes for the flow alone in the same time taken off both. \
    Reclaimed is what was sent, 120 B a record, less what the data directory grew by. Both servers stay up, in \
    their default durability class.";

const RECORD_ON_DISK: f64 = 120.0;

const FOREGROUND_RATE: f64 = 5_000.0;
/// Longer than the cleaners rest between two looks (15 s), twice: what is found to be due may be cleaned at the next.
const QUIET: Duration = Duration::from_secs(40);
/// What a flow needs to have figures.
const SHORTEST: Duration = Duration::from_secs(6);
const LONGEST: Duration = Duration::from_secs(240);
/// Seconds of a flow that is stopped.
const ENDLESS: f64 = 3600.0;
const FOREGROUND: [(&str, &str); 2] = [("acks", "all"), ("linger.ms", "0")];
const LOAD: [(&str, &str); 3] = [("acks", "all"), ("linger.ms", "5"), ("batch.size", "65536")];

const METRICS: [Metric; 9] = [
    Metric::higher("reclaimed per CPU", "MB per CPU-s").target(Target::Ratio(3.0)),
    Metric::higher("reclaimed", "MB"),
    Metric::lower("to steady size", "s"),
    Metric::lower("cleaning CPU", "CPU-s"),
    Metric::lower("foreground p99 after the load over idle", "times").target(Target::Ours(1.2)),
    Metric::lower("foreground p99 after the load", "ms"),
    Metric::lower("foreground p99 beside the load over idle", "times"),
    Metric::lower("foreground p99 beside the load over plain load", "times"),
    Metric::lower("foreground p99 beside the load", "ms"),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let name = "50 updates a key beside a foreground flow";
    if !context.options.wants(name) {
        return Ok(());
    }
    let dir = context.work.join("compact");
    let start = |side: Side| -> Result<Server> {
        let server = context.recipe(side, &dir, &[])?.start()?;
        context.warm(&server)?;
        Ok(server)
    };
    let servers = [start(Side::Ours)?, start(Side::Peer)?];
    let (ours, peer) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
    let case = Case { bench: "compact", name, ours, peer, metrics: &METRICS, pairs: context.pairs(7) };
    let outcome = case.run(context, |entry| {
        let server = &servers[usize::from(entry.side == Side::Peer)];
        Ok((measure(context, server)?, server.command.clone()))
    });
    done(outcome.unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
    for server in servers {
        server.stop()?;
    }
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
}

fn measure(context: &Context, server: &Server) -> Result<Sample> {
    let segment = ("segment.bytes", context.quick_or("1048576", "16777216"));
    let compact = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.5"), segment];
    let (foreground_topic, compacted_topic, plain_topic) =
        (context.new_topic(), context.new_topic(), context.new_topic());
    server.create_topic(&foreground_topic, 6, &[])?;
    let flow = |seconds| foreground(context, server, &foreground_topic, seconds);
    server.settle()?;
    let running = flow(context.quick_or(3.0, 10.0))?;
    let (before, begun) = (server.cpu()?, Instant::now());
    let alone = running.finish()?;
    let usual = (server.cpu()? - before) / begun.elapsed().as_secs_f64();
    // What a deleted topic left must be gone before the directory is measured.
    until_steady(server, Duration::from_secs(3))?;
    let base = files_and_bytes(&server.data).1;
    server.create_topic(&compacted_topic, 6, &compact)?;
    let step = Step { context, server, usual, flow: &flow };
    let compacted = step.run(&compacted_topic, QUIET)?;
    let kept = compacted.steady.bytes.saturating_sub(base) as f64;
    server.create_topic(&plain_topic, 6, &[segment])?;
    let plain = step.run(&plain_topic, Duration::ZERO)?;
    for topic in [foreground_topic.as_str(), &compacted_topic, &plain_topic] {
        server.delete_topic(topic)?;
    }
    let cleaning = (compacted.cpu - plain.cpu).max(0.01);
    let written = compacted.load.values["sent"] * RECORD_ON_DISK;
    let reclaimed = (written - kept).max(0.0) / 1e6;
    let (alone, beside) = (alone.values["p99"], compacted.flow.values["p99"]);
    let after = compacted.cleaning_flow.values["p99"];
    Ok(Sample { driver: compacted.load.driver, ..Sample::default() }
        .set("reclaimed", reclaimed)
        .set("reclaimed per CPU", reclaimed / cleaning)
        .set("to steady size", compacted.steady.after)
        .set("cleaning CPU", cleaning)
        .set("foreground p99 after the load", after)
        .set("foreground p99 after the load over idle", after / alone)
        .set("foreground p99 beside the load", beside)
        .set("foreground p99 beside the load over idle", beside / alone)
        .set("foreground p99 beside the load over plain load", beside / plain.flow.values["p99"]))
}

struct BesideLoad {
    load: Sample,
    flow: Sample,
    /// From the load's end until the directory rests: beside whatever cleaning is left to do.
    cleaning_flow: Sample,
    steady: Steady,
    /// Less what the server takes for the foreground alone in the same time.
    cpu: f64,
}

struct Step<'a> {
    context: &'a Context,
    server: &'a Server,
    /// CPU seconds a second for the foreground alone.
    usual: f64,
    flow: &'a dyn Fn(f64) -> Result<Running>,
}

impl Step<'_> {
    /// The load into `topic` with the foreground beside it, and the wait for the directory to rest.
    fn run(&self, topic: &str, quiet: Duration) -> Result<BesideLoad> {
        let (before, begun) = (self.server.cpu()?, Instant::now());
        let flowing = (self.flow)(ENDLESS)?;
        let load = load(self.context, self.server, topic)?;
        let flow = flowing.stop()?;
        let flowing = (self.flow)(ENDLESS)?;
        let steady = until_steady(self.server, quiet.max(SHORTEST))?;
        let cleaning_flow = flowing.stop()?;
        let cpu = self.server.cpu()? - before - self.usual * begun.elapsed().as_secs_f64();
        Ok(BesideLoad { load, flow, cleaning_flow, steady, cpu })
    }
}

fn foreground(context: &Context, server: &Server, topic: &str, seconds: f64) -> Result<Running> {
    let payloads = context.payloads(100)?;
    let client = OpenLoop {
        topic,
        payloads: &payloads.path,
        rate: FOREGROUND_RATE,
        seconds,
        warmup: context.quick_or(1.0, 2.0),
        seed: context.options.seed,
        properties: &FOREGROUND,
        ..OpenLoop::default()
    };
    client.start(&context.drivers.open_loop, &server.bootstrap)
}

fn load(context: &Context, server: &Server, topic: &str) -> Result<Sample> {
    let payloads = context.payloads(100)?;
    let (count, keys) = context.quick_or((500_000, 10_000), (10_000_000, 200_000));
    let client = OpenLoop {
        topic,
        payloads: &payloads.path,
        count,
        keys,
        seed: context.options.seed,
        properties: &LOAD,
        ..OpenLoop::default()
    };
    client.start(&context.drivers.open_loop, &server.bootstrap)?.finish()
}

struct Steady {
    bytes: u64,
    /// Seconds after the load's end.
    after: f64,
}

/// Waits until the directory has stopped shrinking.
fn until_steady(server: &Server, quiet: Duration) -> Result<Steady> {
    let begun = Instant::now();
    let mut least = files_and_bytes(&server.data).1;
    let mut changed = begun;
    while changed.elapsed() < quiet && begun.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(200));
        let bytes = files_and_bytes(&server.data).1;
        if bytes < least - least / 200 {
            (least, changed) = (bytes, Instant::now());
        }
    }
    Ok(Steady { bytes: least, after: (changed - begun).as_secs_f64() })
}
