//! The benchmarks, one family a file.

pub mod compact;
pub mod consume;
pub mod end_to_end;
pub mod latency;
pub mod many;
pub mod nats;
pub mod produce;
pub mod rabbitmq;
pub mod rebalance;
pub mod start;
pub mod state;
pub mod streams;
mod tail;
pub mod transactions;

use anyhow::Result;

use super::context::Context;
use super::outcome::Outcome;

/// A benchmark that can be asked for by name.
pub struct Benchmark {
    pub name: &'static str,
    /// Its number in the list that sets the targets.
    pub number: u32,
    pub title: &'static str,
    pub method: &'static str,
    /// Calls back with every case as soon as it is measured.
    pub run: fn(&Context, &mut dyn FnMut(Outcome)) -> Result<()>,
}

pub const ALL: &[Benchmark] = &[
    Benchmark {
        name: "produce-unsynced",
        number: 1,
        title: "Produce throughput, acknowledged from the page cache",
        method: produce::METHOD,
        run: produce::unsynced,
    },
    Benchmark {
        name: "produce-synced",
        number: 2,
        title: "Produce throughput, on disk before the acknowledgement",
        method: produce::METHOD,
        run: produce::synced,
    },
    Benchmark {
        name: "rabbitmq",
        number: 2,
        title: "Produce throughput beside a RabbitMQ stream with publisher confirms",
        method: rabbitmq::METHOD,
        run: rabbitmq::run,
    },
    Benchmark {
        name: "latency",
        number: 3,
        title: "Produce latency, open loop",
        method: latency::METHOD,
        run: latency::run,
    },
    Benchmark {
        name: "nats",
        number: 3,
        title: "Acknowledged messages a second beside NATS, on disk before the acknowledgement",
        method: nats::METHOD,
        run: nats::run,
    },
    Benchmark {
        name: "end-to-end",
        number: 4,
        title: "End-to-end latency, open loop",
        method: end_to_end::METHOD,
        run: end_to_end::run,
    },
    Benchmark {
        name: "consume",
        number: 5,
        title: "Consume: from the page cache, cold, many groups, beside a tail",
        method: consume::METHOD,
        run: consume::run,
    },
    Benchmark {
        name: "transactions",
        number: 6,
        title: "Transactions",
        method: transactions::METHOD,
        run: transactions::run,
    },
    Benchmark {
        name: "many",
        number: 7,
        title: "Many partitions, many clients",
        method: many::METHOD,
        run: many::run,
    },
    Benchmark {
        name: "start",
        number: 8,
        title: "Start, restart, footprint",
        method: start::METHOD,
        run: start::run,
    },
    Benchmark {
        name: "rebalance",
        number: 9,
        title: "Group rebalance",
        method: rebalance::METHOD,
        run: rebalance::run,
    },
    Benchmark {
        name: "compact",
        number: 10,
        title: "Compaction beside a foreground flow",
        method: compact::METHOD,
        run: compact::run,
    },
    Benchmark {
        name: "streams",
        number: 11,
        title: "Stream library: four small programs",
        method: streams::METHOD,
        run: streams::run,
    },
    Benchmark {
        name: "state",
        number: 12,
        title: "State: a wiped store, a killed instance",
        method: state::METHOD,
        run: state::run,
    },
];
