//! bench-7: ten thousand partitions and two thousand connections, each with little to say.

use std::fs;

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::openloop::OpenLoop;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::process;
use crate::bench::server::Durability::{self, Synced, Unsynced};
use crate::bench::server::{Server, Side};

pub const METHOD: &str = "One process holds 2,000 librdkafka producers, each with a connection of its own; together \
    they are due 200,000 messages of 100 B a second (100/s each) to one topic of 10,000 partitions, open loop. A \
    producer keeps to one partition for its linger of 500 ms, so that a request carries about 50 messages: 4,000 \
    requests a second. Both servers were started for this benchmark and stay up for all its cases; the topic is new \
    for every run. Metadata: the mean over the 2,000 clients, each for its own topic, one after the other, and what one \
    client waits for all topics.";

const PROPERTIES: [(&str, &str); 5] = [
    ("acks", "all"),
    ("linger.ms", "500"),
    ("partitioner", "random"),
    ("sticky.partitioning.linger.ms", "500"),
    ("topic.metadata.refresh.interval.ms", "300000"),
];

const METRICS: [Metric; 9] = [
    Metric::lower("server CPU", "µs a message").target(Target::Ratio(0.2)),
    Metric::lower("RSS", "MiB").target(Target::Ratio(0.1)),
    Metric::higher("records", "acknowledged/s"),
    Metric::lower("p50", "ms"),
    Metric::lower("p99", "ms"),
    Metric::lower("connect and metadata", "ms"),
    Metric::lower("metadata of all", "ms"),
    Metric::lower("open files", "files"),
    Metric::lower("files on disk", "files"),
];

/// Each with its durability class and its topics and partitions.
const CASES: [(&str, Durability, (u32, u32)); 3] = [
    ("10,000 partitions, unsynced", Unsynced, (100, 100)),
    ("10,000 partitions, synced", Synced, (100, 100)),
    ("1 partition, synced", Synced, (1, 1)),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let wanted: Vec<_> = CASES.iter().filter(|(name, ..)| context.options.wants(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let dir = context.work.join("many");
    let start = |side: Side| context.recipe(side, &dir, &[])?.start();
    let (ours, peer) = (start(Side::Ours)?, start(Side::Peer)?);
    context.warm(&ours)?;
    context.warm(&peer)?;
    for (name, durability, (topics, partitions)) in wanted {
        let shape = ((*topics).min(context.quick_or(10, 100)), *partitions);
        let outcome = measure(context, name, *durability, shape, [&ours, &peer]);
        done(outcome.unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
    }
    ours.stop()?;
    peer.stop()?;
    Ok(fs::remove_dir_all(&dir)?)
}

fn measure(
    context: &Context,
    name: &str,
    durability: Durability,
    (topics, partitions): (u32, u32),
    servers: [&Server; 2],
) -> Result<Outcome> {
    for server in servers {
        context.offers(server, durability)?;
    }
    let (ours, peer) = (Entry::new(Side::Ours, durability), Entry::new(Side::Peer, durability));
    let case = Case { bench: "many", name, ours, peer, metrics: &METRICS, pairs: context.pairs(7) };
    case.run(context, |entry| {
        let server = servers[usize::from(entry.side == Side::Peer)];
        let topic = context.new_topic();
        let names: Vec<String> = match topics {
            1 => vec![topic.clone()],
            _ => (0..topics).map(|at| format!("{topic}-{at}")).collect(),
        };
        for name in &names {
            server.create_topic(name, partitions, &entry.configs())?;
        }
        let sample = swarm(context, server, &topic, topics)?;
        for name in &names {
            server.delete_topic(name)?;
        }
        server.settle()?;
        Ok((sample, server.command.clone()))
    })
}

fn swarm(context: &Context, server: &Server, topic: &str, topics: u32) -> Result<Sample> {
    let payloads = context.payloads(100)?;
    let timing = context.timing(3.0, 10.0);
    let clients = context.quick_or(100, 2000);
    let client = OpenLoop {
        topic,
        payloads: &payloads.path,
        rate: f64::from(clients) * 100.0,
        seconds: timing.seconds,
        warmup: timing.warmup,
        clients,
        topics,
        seed: context.options.seed,
        properties: &PROPERTIES,
        ..OpenLoop::default()
    };
    let running = client.start(&context.drivers.open_loop, &server.bootstrap)?;
    let before = server.cpu()?;
    let open = process::open_files(server.pid())? as f64;
    let sample = running.finish()?;
    let cpu = server.cpu()? - before;
    let acknowledged = sample.values["acknowledged"];
    Ok(sample
        .set("server CPU", cpu * 1e6 / acknowledged)
        .set("RSS", process::rss_mib(server.pid())?)
        .set("open files", open)
        .set("files on disk", process::files_and_bytes(&server.data).0 as f64))
}
