//! bench-5: reading what is in the page cache, what is only on disk, and the same by many groups at once.

use std::fs;

use anyhow::{Context as _, Result};

use crate::bench::context::Context;
use crate::bench::java;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::performance::{Consume, Consuming, Produce};
use crate::bench::server::{Server, Side};

use super::tail;

pub const METHOD: &str = "One topic of 6 partitions is filled once on each server by librdkafka with 1 KiB records in \
    16 KiB batches (4 GiB, so that both stay in the page cache) and read once before anything is measured, as Headwater \
    writes past the page cache what nobody follows; every run reads it from the beginning in a group of \
    its own. Throughput is the client's, from its first record on; CPU is the server's over the whole run, joining the \
    group included. Cold: `drop_caches` before the run. Eight groups: eight processes at once, each a quarter of the \
    topic, throughput summed over the slowest one's time. A tail beside a cold catch-up: the flow of bench-4, 100 B at \
    1,000 messages/s in an open loop through another topic of 6 partitions and back, unsynced. First alone: \
    `drop_caches`, then 2 s of warm-up and 10 s that count. Then `drop_caches` again, 2 s of warm-up, and one group of \
    librdkafka's reads the whole history while the flow goes on; what counts is what was due from the reader's start \
    to its end, which ends the flow (joining and leaving the group included). The ratio is of these two p99s of one \
    run on one server. Then the same with a reader of the other server's history, which takes as much of the two cores \
    from the flow's clients: what is the same there is not this server's doing.";

const TOPIC: &str = "bench-consume";

#[derive(Clone, Copy)]
enum Reader {
    Librdkafka { groups: u32, cold: bool },
    Java,
}

const METRICS: [Metric; 2] = [
    Metric::higher("throughput", "MB/s").target(Target::Ratio(1.0)),
    Metric::lower("server CPU", "µs a record").target(Target::Ratio(1.0)),
];
const COLD: [Metric; 2] = [
    Metric::higher("throughput", "MB/s").target(Target::Ratio(1.3)),
    Metric::lower("server CPU", "µs a record"),
];

const CASES: [(&str, Reader, &[Metric]); 4] = [
    ("librdkafka, one group, page cache", Reader::Librdkafka { groups: 1, cold: false }, &METRICS),
    ("Java, one group, page cache", Reader::Java, &METRICS),
    ("librdkafka, eight groups, page cache", Reader::Librdkafka { groups: 8, cold: false }, &METRICS),
    ("librdkafka, one group, cold", Reader::Librdkafka { groups: 1, cold: true }, &COLD),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let wanted: Vec<_> = CASES.iter().filter(|(name, ..)| context.options.wants(name)).collect();
    let beside = context.options.wants(tail::NAME);
    if wanted.is_empty() && !beside {
        return Ok(());
    }
    let records = context.quick_or(128 << 10, 4 << 20);
    for side in Side::BOTH {
        fill(context, context.server(side)?, records)?;
        read_in_groups(context, context.server(side)?, 1, records)?;
    }
    for (name, reader, metrics) in wanted {
        let outcome = measure(context, name, *reader, metrics, records);
        done(outcome.unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
    }
    if beside {
        let outcome = tail::measure(context, TOPIC, records);
        done(outcome.unwrap_or_else(|error| Outcome::failed(tail::NAME, format!("{error:#}"))));
    }
    for side in Side::BOTH {
        context.server(side)?.delete_topic(TOPIC)?;
    }
    Ok(())
}

fn fill(context: &Context, server: &Server, records: u64) -> Result<()> {
    eprintln!("bench: consume: filling {} with {records} records", server.side.name());
    server.create_topic(TOPIC, 6, &[])?;
    let payloads = context.payloads(1024)?;
    let (message, size) = (payloads.one.as_str(), 1024);
    let run = Produce { topic: TOPIC, size, message, batch: 16_384, linger_ms: 5, properties: &[] };
    run.fill(&context.drivers.performance, &server.bootstrap, records)?;
    server.settle()
}

fn measure(
    context: &Context,
    name: &str,
    reader: Reader,
    metrics: &[Metric],
    records: u64,
) -> Result<Outcome> {
    let (ours, peer) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
    let case = Case { bench: "consume", name, ours, peer, metrics, pairs: context.pairs(7) };
    case.run(context, |entry| {
        let server = context.server(entry.side)?;
        let sample = match reader {
            Reader::Java => java::consume(&context.tools, server, TOPIC, &context.new_topic(), records)?,
            Reader::Librdkafka { groups, cold } => {
                if cold {
                    drop_caches()?;
                }
                let each = if groups == 1 { records } else { records / 4 };
                read_in_groups(context, server, groups, each)?
            }
        };
        server.settle()?;
        Ok((sample, server.command.clone()))
    })
}

fn read_in_groups(context: &Context, server: &Server, groups: u32, records: u64) -> Result<Sample> {
    let before = server.cpu()?;
    let start = |_| -> Result<Consuming> {
        let group = context.new_topic();
        let run = Consume { topic: TOPIC, group: &group, records };
        run.start(&context.drivers.performance, &server.bootstrap)
    };
    let running: Vec<Consuming> = (0..groups).map(start).collect::<Result<_>>()?;
    let driver = running[0].shown.clone();
    let consumed = running.into_iter().map(Consuming::finish).collect::<Result<Vec<_>>>()?;
    let cpu = server.cpu()? - before;
    let total = |part: fn(&_) -> f64| consumed.iter().map(part).sum::<f64>();
    let slowest = consumed.iter().map(|reader| reader.seconds).fold(0.0, f64::max);
    let (records, driver_cpu) = (total(|reader| reader.records), total(|reader| reader.driver_cpu));
    // Two cores are what both have here; a driver that takes more than the server decides the clock.
    let driver_bound = driver_cpu / slowest >= 0.9 && driver_cpu > cpu;
    let sample = Sample { driver, driver_bound, ..Sample::default() };
    Ok(sample
        .set("throughput", total(|reader| reader.bytes) / 1e6 / slowest)
        .set("server CPU", cpu * 1e6 / records)
        .set("driver CPU", driver_cpu * 1e6 / records))
}

pub(super) fn drop_caches() -> Result<()> {
    std::process::Command::new("sync").status()?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache (a cold read needs root)")
}
