//! bench-9: how long a group is at work on itself.

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::outcome::{Metric, Outcome, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::rebalance::Rebalance;
use crate::bench::server::Side;

pub const METHOD: &str = "Ten librdkafka consumers in one process subscribe to a topic of 10 partitions; a second after \
    each has its own, 900 partitions are added; then every member leaves and comes back, one after the other. Times run \
    from the event to the moment when every partition has exactly one owner and every member a partition, by the \
    members' own account, read every 10 ms. Heartbeats every second, as set by client or group. Classic: \
    cooperative-sticky, and topic.metadata.refresh.interval.ms=1000, as the leader alone finds new partitions. CPU is \
    the server's for the whole run.";

const CLASSIC: [(&str, &str); 4] = [
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("heartbeat.interval.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "1000"),
];
const CONSUMER: [(&str, &str); 2] =
    [("group.protocol", "consumer"), ("topic.metadata.refresh.interval.ms", "1000")];

type Properties = &'static [(&'static str, &'static str)];

/// Each with its clients' properties and what the partitions added may take, in milliseconds.
const CASES: [(&str, Properties, Option<f64>); 2] = [
    ("consumer protocol, 10 members, 900 partitions added", &CONSUMER, Some(1000.0)),
    ("classic protocol, 10 members, 900 partitions added", &CLASSIC, None),
];

/// The group's own heartbeat is the server's to say; the same on both.
const PROPERTIES: [(&str, &str); 2] =
    [("group.consumer.heartbeat.interval.ms", "1000"), ("group.consumer.min.heartbeat.interval.ms", "1000")];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let wanted: Vec<_> = CASES.iter().filter(|(name, ..)| context.options.wants(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let dir = context.work.join("rebalance");
    let start = |side: Side| context.recipe(side, &dir, &PROPERTIES)?.start();
    let servers = [start(Side::Ours)?, start(Side::Peer)?];
    for (name, properties, target) in wanted {
        let mut added = Metric::lower("partitions added", "ms");
        added.target = target.map(Target::Ours);
        let metrics = [
            Metric::lower("all joined", "ms"),
            added,
            Metric::lower("rolling restart", "ms"),
            Metric::lower("server CPU", "ms"),
        ];
        let (ours, peer) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
        let case = Case { bench: "rebalance", name, ours, peer, metrics: &metrics, pairs: context.pairs(5) };
        let outcome = case.run(context, |entry| {
            let server = &servers[usize::from(entry.side == Side::Peer)];
            let topic = context.new_topic();
            server.create_topic(&topic, 10, &[])?;
            let group = Rebalance { topic: &topic, members: 10, partitions: 10, added: 900, properties };
            let sample = group.run(&context.drivers.rebalance, server)?;
            server.delete_topic(&topic)?;
            Ok((sample, server.command.clone()))
        });
        done(outcome.unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
    }
    let [ours, peer] = servers;
    ours.stop()?;
    peer.stop()?;
    Ok(std::fs::remove_dir_all(&dir)?)
}
