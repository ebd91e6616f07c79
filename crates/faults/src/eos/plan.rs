//! A random topology as a plan, from which the service builds the real one and the oracle computes what must come out.

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::events::Event;

/// Keys of input topics are `k0` … of so many.
pub const KEYS: u64 = 12;

/// A topic that the harness writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    pub topic: String,
    pub partitions: i32,
}

/// A stream of events, made of earlier ones (by their places). A flat map makes several events of one, each with a key of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Step {
    Source { source: usize },
    Filter { of: usize, modulo: u64 },
    MapValues { of: usize, add: i64 },
    SelectKey { of: usize, rekey: Rekey },
    Map { of: usize, rekey: Rekey, add: i64 },
    FlatMap { of: usize, rekey: Rekey, copies: i64 },
    Branch { of: usize, modulo: u64, first: bool },
    Merge { left: usize, right: usize },
    Repartition { of: usize, partitions: i32 },
}

/// Another key for an event, from its id.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Rekey {
    pub salt: u64,
    pub keys: u64,
}

impl Rekey {
    pub fn key(self, id: u64) -> String {
        let mixed = (id ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        format!("k{}", mixed % self.keys)
    }

    /// The key of one of several events that are made of one.
    pub fn copy(self, event: Event, copy: i64) -> String {
        self.key(event.id.wrapping_add(copy.unsigned_abs()))
    }

    /// The row of another table that an event refers to: of one in five to none.
    pub fn row(self, event: Event) -> Option<String> {
        (!event.passes(5)).then(|| self.key(event.id))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Inner,
    Left,
    Outer,
}

/// What is done with a stream at the end; the result goes to a topic of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Shape {
    Copy,
    Count,
    Reduce,
    Aggregate,
    Windowed {
        size: i64,
        advance: i64,
        grace: i64,
        suppressed: bool,
    },
    Sessions {
        gap: i64,
    },
    /// Windows that are told once, when they close.
    Closing {
        size: i64,
        advance: i64,
        grace: i64,
    },
    /// Windows around each event.
    Sliding {
        difference: i64,
    },
    /// Two streams in one aggregate.
    Cogroup {
        other: usize,
    },
    /// Each event once, however often it is in the stream.
    Deduplicate,
    /// An aggregate by an operator written by hand.
    Process,
    /// The stream's events with the rows of a table.
    StreamTable {
        table: usize,
    },
    /// The counts of the stream with the rows of a table.
    TableTable {
        table: usize,
        kind: Kind,
    },
    /// Two tables.
    Tables {
        table: usize,
        other: usize,
        kind: Kind,
    },
    /// A table's rows by another key.
    Regroup {
        table: usize,
        groups: u64,
    },
    StreamStream {
        other: usize,
        before: i64,
        after: i64,
        grace: i64,
        kind: Kind,
    },
    /// The stream's events with the rows of a global table that they name.
    Global {
        refers: Rekey,
    },
    /// The stream's events with the rows of a table with versions; with a grace they wait so long for those.
    Versions {
        table: usize,
        history: i64,
        grace: Option<i64>,
    },
    /// Some rows of a table, in a store of their own or not.
    Filtered {
        table: usize,
        modulo: u64,
        kept: bool,
    },
    /// A table's rows with the rows of another that they refer to.
    Foreign {
        table: usize,
        other: usize,
        refers: Rekey,
        kind: Kind,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct End {
    pub of: usize,
    /// `None` keeps the key; joins always have one, so that both sides are partitioned alike.
    pub rekey: Option<Rekey>,
    pub shape: Shape,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub application: String,
    pub streams: Vec<Source>,
    pub tables: Vec<Source>,
    /// Tables that every instance holds.
    #[serde(default)]
    pub globals: Vec<Source>,
    pub steps: Vec<Step>,
    pub ends: Vec<End>,
    pub threads: usize,
    pub commit_ms: u64,
    pub session_ms: u64,
    pub transaction_ms: u64,
    #[serde(default)]
    pub copies: Copies,
    #[serde(default)]
    pub writes: Writes,
    /// The group is joined by the streams protocol.
    #[serde(default)]
    pub broker_assigns: bool,
}

/// When what is committed is written to the stores.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Writes {
    /// Fewer changes do not wait.
    pub at_once: usize,
    pub delay_ms: u64,
    /// From so many on, changes of a store become a table of their own.
    pub table_from: usize,
}

impl Writes {
    /// Plans have few keys: half of them write as if there were many.
    fn random(random: &mut StdRng) -> Self {
        Self {
            at_once: [0, 2_000][random.random_range(0..2)],
            delay_ms: [200, 1_000][random.random_range(0..2)],
            table_from: [1, 5_000][random.random_range(0..2)],
        }
    }
}

/// Copies of state on other instances, and when tasks move to them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Copies {
    pub standbys: usize,
    /// With less to restore than this a task moves at once. 0 warms up whenever anything is lacking.
    pub acceptable_lag: u64,
    pub probing_ms: u64,
    /// How often snapshots are taken; 0 takes none.
    #[serde(default)]
    pub snapshot_ms: u64,
    /// How long stores of tasks that have moved away are kept; 0 keeps them for the round.
    #[serde(default)]
    pub cleanup_ms: u64,
}

impl Copies {
    /// Of the rounds three in five have standbys, two in three snapshots, and two in three remove what has moved away.
    fn random(random: &mut StdRng) -> Self {
        let standbys = [0, 0, 1, 1, 2][random.random_range(0..5)];
        let acceptable_lag = [0, 20, 10_000][random.random_range(0..3)];
        let probing_ms = random.random_range(700..3000);
        let snapshot_ms = [0, 150, 600][random.random_range(0..3)];
        // Without another draw, so that a seed stays the round that it was.
        let cleanup_ms = match probing_ms % 3 {
            0 => 0,
            1 => 300,
            _ => 1500,
        };
        Self { standbys, acceptable_lag, probing_ms, snapshot_ms, cleanup_ms }
    }
}

impl Plan {
    pub fn random(application: &str, random: &mut StdRng) -> Self {
        let source = |name: String, partitions| Source { topic: format!("{application}-{name}"), partitions };
        let streams: Vec<Source> = (0..random.random_range(1..=3))
            .map(|index| source(format!("events{index}"), random.random_range(1..=4)))
            .collect();
        let alike = random.random_range(1..=4);
        let tables: Vec<Source> = (0..2).map(|index| source(format!("rows{index}"), alike)).collect();
        let mut steps: Vec<Step> = (0..streams.len()).map(|source| Step::Source { source }).collect();
        for _ in 0..random.random_range(2..=5) {
            let step = step(steps.len(), random);
            steps.push(step);
        }
        let split = split(&streams, &steps);
        // Whatever else there is, something counts: counts show each record that is lost or comes twice.
        let count =
            End { of: random.random_range(0..steps.len()), rekey: Some(rekey(random)), shape: Shape::Count };
        let mut ends = vec![count];
        for _ in 0..random.random_range(3..=5) {
            let end = end(&split, random);
            ends.push(end);
        }
        let mut plan = Self {
            application: application.to_owned(),
            streams,
            tables,
            globals: Vec::new(),
            steps,
            ends,
            threads: random.random_range(1..=2),
            commit_ms: [30, 60, 150][random.random_range(0..3)],
            session_ms: 6000,
            // A stopped process wakes up before its transaction has timed out, or after; as a member yet, or not.
            transaction_ms: [2500, 5000, 15_000][random.random_range(0..3)],
            copies: Copies::random(random),
            writes: Writes::random(random),
            broker_assigns: false,
        };
        // Drawn apart, so that a seed keeps the ends, the input and the accidents that it had before there were these.
        let mut apart = random.clone();
        let of = apart.random_range(0..plan.steps.len());
        plan.steps.push(Step::FlatMap { of, rekey: rekey(&mut apart), copies: apart.random_range(1..=3) });
        let split = self::split(&plan.streams, &plan.steps);
        for _ in 0..2 {
            plan.ends.push(another_end(&split, &mut apart));
        }
        if plan.ends.iter().any(|end| matches!(end.shape, Shape::Global { .. })) {
            plan.globals.push(source("globals".to_owned(), apart.random_range(1..=4)));
        }
        plan
    }

    /// The topic of an end's results.
    pub fn output(&self, end: usize) -> String {
        format!("{}-out{end}", self.application)
    }

    /// The topic between two halves of the topology that `name` leads to.
    pub fn repartition(&self, name: &str) -> String {
        format!("{}-{name}-repartition", self.application)
    }

    /// The partitions of topics that must be there before the topology can be built.
    pub fn partitions(&self, topic: &str) -> Option<i32> {
        let known = self.streams.iter().chain(&self.tables).chain(&self.globals);
        known.into_iter().find(|source| source.topic == topic).map(|source| source.partitions)
    }
}

fn rekey(random: &mut StdRng) -> Rekey {
    Rekey { salt: random.random_range(0..1 << 20), keys: random.random_range(2..=KEYS) }
}

fn step(steps: usize, random: &mut StdRng) -> Step {
    let mut of = || random.random_range(0..steps);
    let (of, other) = (of(), of());
    match random.random_range(0..8) {
        0 => Step::Filter { of, modulo: random.random_range(2..=5) },
        1 => Step::MapValues { of, add: random.random_range(1..=9) },
        2 => Step::SelectKey { of, rekey: rekey(random) },
        3 => Step::Map { of, rekey: rekey(random), add: random.random_range(1..=9) },
        4 => Step::Branch { of, modulo: random.random_range(2..=4), first: random.random_bool(0.5) },
        5 | 6 if of != other => Step::Merge { left: of, right: other },
        5 | 6 => Step::Filter { of, modulo: 2 },
        _ => Step::Repartition { of, partitions: random.random_range(1..=4) },
    }
}

/// Whether the records of a key may be in several partitions, as when streams of differently many partitions are merged.
/// What groups such a stream as it is is refused; Kafka Streams counts each key in several places.
fn split(streams: &[Source], steps: &[Step]) -> Vec<bool> {
    // Partitions, if all of the stream is partitioned alike, and whether its key has changed since.
    let mut places: Vec<(Option<i32>, bool)> = Vec::new();
    for step in steps {
        places.push(match *step {
            Step::Source { source } => (Some(streams[source].partitions), false),
            Step::Filter { of, .. } | Step::MapValues { of, .. } | Step::Branch { of, .. } => places[of],
            Step::SelectKey { of, .. } | Step::Map { of, .. } | Step::FlatMap { of, .. } => {
                (places[of].0, true)
            }
            Step::Repartition { partitions, .. } => (Some(partitions), false),
            Step::Merge { left, right } => {
                let (left, right) = (places[left], places[right]);
                (left.0.filter(|_| left.0 == right.0), left.1 || right.1)
            }
        });
    }
    places.into_iter().map(|(partitions, rekeyed)| partitions.is_none() && !rekeyed).collect()
}

fn end(split: &[bool], random: &mut StdRng) -> End {
    let (of, other) = (random.random_range(0..split.len()), random.random_range(0..split.len()));
    let kind = [Kind::Inner, Kind::Left, Kind::Outer][random.random_range(0..3)];
    let table = random.random_range(0..2);
    let shape = match random.random_range(0..14) {
        0 => Shape::Copy,
        1 => Shape::Count,
        2 => Shape::Reduce,
        3 => Shape::Aggregate,
        4..=6 => {
            let size = random.random_range(1..=8) * 250;
            let advance = if random.random_bool(0.5) { size } else { 250 };
            let grace = random.random_range(0..=4) * 250;
            Shape::Windowed { size, advance, grace, suppressed: random.random_bool(0.5) }
        }
        7 => Shape::Sessions { gap: random.random_range(50..=400) },
        8 | 9 => Shape::StreamTable { table },
        10 => Shape::TableTable { table, kind },
        11 => Shape::Tables { table, other: 1 - table, kind },
        12 => Shape::Regroup { table, groups: random.random_range(2..=5) },
        _ => Shape::StreamStream {
            other,
            before: random.random_range(0..=300),
            after: random.random_range(0..=300),
            grace: random.random_range(0..=500),
            kind: if random.random_bool(0.5) { Kind::Left } else { Kind::Inner },
        },
    };
    // Of a join both sides get the key; what is grouped may keep the one that it has.
    let keeps =
        !matches!(shape, Shape::StreamTable { .. } | Shape::TableTable { .. } | Shape::StreamStream { .. });
    let rekey = (!keeps || split[of] || random.random_bool(0.7)).then(|| rekey(random));
    End { of, rekey, shape }
}

fn another_end(split: &[bool], random: &mut StdRng) -> End {
    let (of, other) = (random.random_range(0..split.len()), random.random_range(0..split.len()));
    let table = random.random_range(0..2);
    let inner_or_left = if random.random_bool(0.5) { Kind::Left } else { Kind::Inner };
    let shape = match random.random_range(0..11) {
        0 => {
            let size = random.random_range(1..=8) * 250;
            let advance = if random.random_bool(0.5) { size } else { 250 };
            Shape::Closing { size, advance, grace: random.random_range(0..=4) * 250 }
        }
        1 => Shape::Sliding { difference: random.random_range(20..=400) },
        2 => Shape::Cogroup { other },
        3 => Shape::Deduplicate,
        4 => Shape::Process,
        5 => Shape::StreamStream {
            other,
            before: random.random_range(0..=300),
            after: random.random_range(0..=300),
            grace: random.random_range(0..=500),
            kind: Kind::Outer,
        },
        6 => Shape::Global { refers: rekey(random) },
        7 => {
            let grace = random.random_bool(0.7).then(|| random.random_range(0..=2000));
            let history = grace.unwrap_or(0) + [500, 3_600_000][random.random_range(0..2)];
            Shape::Versions { table, history, grace }
        }
        8 => Shape::Filtered { table, modulo: random.random_range(2..=4), kept: random.random_bool(0.5) },
        _ => Shape::Foreign { table, other: 1 - table, refers: rekey(random), kind: inner_or_left },
    };
    // Of these both sides get the key, or each record comes through a topic.
    let through = matches!(
        shape,
        Shape::Cogroup { .. } | Shape::Deduplicate | Shape::StreamStream { .. } | Shape::Versions { .. }
    );
    let rekey = (through || split[of] || random.random_bool(0.7)).then(|| rekey(random));
    End { of, rekey, shape }
}
