//! bench-6: transactions of a hundred records over six partitions.

use anyhow::Result;

use crate::bench::context::Context;
use crate::bench::outcome::{Metric, Outcome, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::server::Durability::{self, Synced, Unsynced};
use crate::bench::server::Side;
use crate::bench::transactions::Transactions;

pub const METHOD: &str = "One process of librdkafka producers, each in a thread of its own: begin, 100 records of 1 KiB \
    over 6 partitions, flush, commit, again for 8 s after 3 s of warm-up; linger 5 ms, idempotence as transactions ask \
    for it, transaction.timeout.ms by default. The commit's time is that of `rd_kafka_commit_transaction` alone, as \
    everything has been flushed before it. CPU is the server's, for a whole transaction. The protocol is KIP-890's \
    first version on both, as librdkafka 2.12.1 speaks it. \"Without transactions\": the same records, sent and flushed \
    in the same way by an idempotent producer, ours against ours.";

struct Shape {
    name: &'static str,
    producers: u32,
    ours: Durability,
    peer: Durability,
    ratio: Option<f64>,
}

const SHAPES: &[Shape] = &[
    Shape { name: "1 producer, synced", producers: 1, ours: Synced, peer: Synced, ratio: Some(20.0) },
    Shape { name: "8 producers, synced", producers: 8, ours: Synced, peer: Synced, ratio: Some(10.0) },
    Shape { name: "1 producer, unsynced", producers: 1, ours: Unsynced, peer: Unsynced, ratio: None },
    Shape { name: "8 producers, unsynced", producers: 8, ours: Unsynced, peer: Unsynced, ratio: None },
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
        let mut transactions = Metric::higher("transactions", "a second");
        transactions.target = self.ratio.map(Target::Ratio);
        let metrics = [
            transactions,
            Metric::lower("commit p50", "ms"),
            Metric::lower("commit p99", "ms").target(Target::Ours(3.0)),
            Metric::lower("server CPU", "µs a transaction").target(Target::Ratio(0.1)),
            Metric::higher("without transactions", "of the same batches a second"),
        ];
        let (ours, peer) = (Entry::new(Side::Ours, self.ours), Entry::new(Side::Peer, self.peer));
        let (name, pairs) = (self.name, context.pairs(7));
        let case = Case { bench: "transactions", name, ours, peer, metrics: &metrics, pairs };
        case.run(context, |entry| {
            let server = context.server(entry.side)?;
            let topic = context.new_topic();
            server.create_topic(&topic, 6, &entry.configs())?;
            let payloads = context.payloads(1024)?;
            let timing = context.timing(3.0, 8.0);
            let mut client = Transactions {
                topic: &topic,
                payloads: &payloads.path,
                producers: self.producers,
                records: 100,
                partitions: 6,
                size: 1000,
                plain: false,
                warmup: timing.warmup,
                seconds: timing.seconds,
                properties: &[("linger.ms", "5"), ("enable.idempotence", "true")],
            };
            let sample = client.run(&context.drivers.transactions, server)?;
            client.plain = true;
            let plain = client.run(&context.drivers.transactions, server)?.values["transactions"];
            server.delete_topic(&topic)?;
            server.settle()?;
            Ok((sample.set("without transactions", plain), server.command.clone()))
        })
    }
}
