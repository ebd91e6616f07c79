//! bench-5's other question: what a flow notices of another reader that catches up from disk.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::context::{Context, Timing};
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::performance::{Consume, Consumed};
use crate::bench::server::Durability::Unsynced;
use crate::bench::server::{Server, Side};

use super::consume::drop_caches;
use super::end_to_end::flow;

pub const NAME: &str = "1,000 messages/s end to end beside a cold catch-up, unsynced";

const RATE: f64 = 1e3;
/// The reader's end ends the flow long before.
const LONGEST: f64 = 900.0;

const METRICS: [Metric; 8] = [
    Metric::lower("p99 beside over alone", "times").target(Target::Ours(1.2)),
    Metric::lower("p99 beside over beside a reader of the other server", "times"),
    Metric::lower("p99 beside", "ms"),
    Metric::lower("p99 beside a reader of the other server", "ms"),
    Metric::lower("p99.9 beside", "ms"),
    Metric::lower("p99 alone", "ms"),
    Metric::lower("p99.9 alone", "ms"),
    Metric::higher("catch-up", "MB/s"),
];

/// `history` holds `records` records on both servers.
pub fn measure(context: &Context, history: &str, records: u64) -> Result<Outcome> {
    let (ours, peer) = (Entry::new(Side::Ours, Unsynced), Entry::new(Side::Peer, Unsynced));
    let (name, pairs) = (NAME, context.pairs(7));
    let case = Case { bench: "consume", name, ours, peer, metrics: &METRICS, pairs };
    case.run(context, |entry| {
        let server = context.server(entry.side)?;
        // Each flow's own, as its consumer reads a topic from the beginning.
        let topics = [context.new_topic(), context.new_topic(), context.new_topic()];
        for topic in &topics {
            server.create_topic(topic, 6, &entry.configs())?;
        }
        let other = context.server(entry.side.other())?;
        let sample = alone_and_beside(context, [server, other], &topics, (history, records))?;
        for topic in &topics {
            server.delete_topic(topic)?;
        }
        server.settle()?;
        Ok((sample, server.command.clone()))
    })
}

/// A flow while history was read.
struct Beside {
    flow: Sample,
    read: Consumed,
    lasted: f64,
    shown: String,
}

fn alone_and_beside(
    context: &Context,
    [server, other]: [&Server; 2],
    topics: &[String; 3],
    history: (&str, u64),
) -> Result<Sample> {
    let timing = context.timing(2.0, 10.0);
    // Cold for both, so that the reader is all that differs.
    drop_caches()?;
    let alone = flow(context, server, &topics[0], RATE, timing)?.finish()?;
    let beside_reader = |of: &Server, topic: &str| -> Result<Beside> {
        server.settle()?;
        drop_caches()?;
        let flowing = flow(context, server, topic, RATE, Timing { seconds: LONGEST, ..timing })?;
        std::thread::sleep(Duration::from_secs_f64(timing.warmup));
        let group = context.new_topic();
        let (topic, records) = history;
        let reader = Consume { topic, group: &group, records };
        let reader = reader.start(&context.drivers.performance, &of.bootstrap)?;
        let shown = reader.shown.clone();
        let begun = Instant::now();
        let read = reader.finish()?;
        let lasted = begun.elapsed().as_secs_f64();
        Ok(Beside { flow: flowing.stop()?, read, lasted, shown })
    };
    let Beside { flow: beside, read, lasted, shown } = beside_reader(server, &topics[1])?;
    let apart = beside_reader(other, &topics[2])?.flow;
    let figure = |sample: &Sample, key: &str| sample.values[key];
    let driver = format!("{}` beside `{shown}", beside.driver);
    let (p99, others) = (figure(&beside, "p99"), figure(&apart, "p99"));
    Ok(Sample { driver, ..Sample::default() }
        .set("p99 beside over alone", p99 / figure(&alone, "p99"))
        .set("p99 beside over beside a reader of the other server", p99 / others)
        .set("p99 beside", p99)
        .set("p99 beside a reader of the other server", others)
        .set("p99.9 beside", figure(&beside, "p99.9"))
        .set("p99 alone", figure(&alone, "p99"))
        .set("p99.9 alone", figure(&alone, "p99.9"))
        .set("catch-up", read.bytes / 1e6 / read.seconds)
        .set("reader lasted", lasted))
}
