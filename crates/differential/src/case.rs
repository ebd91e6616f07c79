//! A case: a topology in steps, and what happens to it. Both sides read it, ours as values and Kafka Streams' as JSON.
//!
//! Each step adds a handle (a split several) and points to earlier ones by their place.

use serde::Serialize;

/// A place among the handles.
pub type At = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Count,
    Reduce,
    Aggregate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Inner,
    Left,
    Outer,
}

/// How records are cut into windows; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "cut", rename_all = "snake_case")]
pub enum Windows {
    Fixed { size: u64, advance: u64, grace: u64 },
    Sliding { difference: u64, grace: u64 },
    Sessions { gap: u64, grace: u64 },
}

/// When a window's results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    Updates,
    /// The last one alone, by suppression.
    Last,
    /// The last one alone, by the operator itself.
    Closed,
}

/// New values; see `functions.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueFunction {
    /// The value, changed.
    Mark,
    /// Key and value; never null.
    Keyed,
    /// Some values become null.
    Sift,
    /// What follows a mark; null if nothing does.
    Strip,
}

/// New keys; see `functions.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFunction {
    /// One of three by key and value; never null.
    Bucket,
    /// The key as it was.
    Same,
    /// The key, changed.
    Primed,
    /// One of three, or null.
    Holes,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Step {
    Stream {
        topic: &'static str,
        extracts: bool,
    },
    /// Several topics as one stream.
    StreamOfTopics {
        topics: [&'static str; 2],
    },
    Sink {
        of: At,
        topic: String,
    },
    Filter {
        of: At,
        modulus: u32,
        rest: u32,
    },
    FilterNot {
        of: At,
        modulus: u32,
        rest: u32,
    },
    /// Only values that begin with this mark.
    Marked {
        of: At,
        mark: &'static str,
    },
    Map {
        of: At,
        key: KeyFunction,
        function: ValueFunction,
    },
    MapValues {
        of: At,
        function: ValueFunction,
    },
    FlatMap {
        of: At,
        least: u32,
    },
    FlatMapValues {
        of: At,
        least: u32,
    },
    SelectKey {
        of: At,
        key: KeyFunction,
    },
    Peek {
        of: At,
    },
    /// Other times, by key and value.
    Timestamp {
        of: At,
    },
    Merge {
        left: At,
        right: At,
    },
    Repartition {
        of: At,
        partitions: Option<i32>,
    },
    /// One handle per modulus, and one for the rest if it is wanted.
    Split {
        of: At,
        moduli: Vec<u32>,
        rest: bool,
    },
    Aggregate {
        of: At,
        key: Option<KeyFunction>,
        how: How,
    },
    AggregateWindows {
        of: At,
        key: Option<KeyFunction>,
        how: How,
        size: u64,
        advance: u64,
        grace: u64,
        last: bool,
    },
    AggregateSessions {
        of: At,
        key: Option<KeyFunction>,
        how: How,
        gap: u64,
        grace: u64,
        last: bool,
    },
    /// Streams without nulls.
    Windowed {
        of: At,
        key: Option<KeyFunction>,
        how: How,
        windows: Windows,
        tell: Tell,
    },
    /// Two streams in one aggregate, each with a function of its own.
    Cogroup {
        left: At,
        right: At,
    },
    CogroupWindows {
        left: At,
        right: At,
        windows: Windows,
    },
    FromWindows {
        of: At,
    },
    WindowedFilter {
        of: At,
        modulus: u32,
        rest: u32,
    },
    WindowedMapValues {
        of: At,
        function: ValueFunction,
    },
    /// The windows of each key in one row.
    WindowedGroup {
        of: At,
        how: How,
    },
    JoinWindowed {
        left: At,
        right: At,
        kind: Kind,
    },
    /// A table that keeps its versions for so long.
    VersionedTable {
        topic: &'static str,
        history: u64,
    },
    ToVersionedTable {
        of: At,
        history: u64,
    },
    /// An aggregate that keeps its versions.
    AggregateVersions {
        of: At,
        key: Option<KeyFunction>,
        how: How,
        history: u64,
    },
    /// A stream and a table with versions.
    JoinVersions {
        left: At,
        right: At,
        kind: Kind,
        grace: Option<u64>,
    },
    Table {
        topic: &'static str,
        kept: bool,
        extracts: bool,
    },
    Global {
        topic: &'static str,
    },
    ToTable {
        of: At,
        kept: bool,
    },
    ToStream {
        of: At,
    },
    TableFilter {
        of: At,
        modulus: u32,
        rest: u32,
        kept: bool,
    },
    TableMapValues {
        of: At,
        function: ValueFunction,
        kept: bool,
    },
    TableGroup {
        of: At,
        key: KeyFunction,
        how: How,
    },
    JoinTable {
        left: At,
        right: At,
        kind: Kind,
    },
    /// The row is named by the value, or by key and value.
    JoinGlobal {
        left: At,
        right: At,
        kind: Kind,
        by_key: bool,
    },
    JoinStreams {
        left: At,
        right: At,
        kind: Kind,
        before: u64,
        after: u64,
        grace: u64,
    },
    JoinTables {
        left: At,
        right: At,
        kind: Kind,
        kept: bool,
    },
    /// The foreign key is told by the value, or by key and value.
    JoinForeign {
        left: At,
        right: At,
        kind: Kind,
        kept: bool,
        by_key: bool,
    },
    /// With a store of its own, or that of an earlier one.
    Process {
        of: At,
        stream_time: Option<u64>,
        wall_clock: Option<u64>,
        shares: Option<At>,
    },
    /// With a store that keeps versions, in which it looks so far back.
    ProcessVersions {
        of: At,
        history: u64,
        back: i64,
    },
}

/// What happens, in this order.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Event {
    Record {
        topic: &'static str,
        key: Option<String>,
        value: Option<String>,
        at: i64,
        header: Option<String>,
    },
    /// The wall clock moves on by so many milliseconds.
    Clock { wall: u64 },
}

/// A topology and what happens to it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Program {
    pub steps: Vec<Step>,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Case {
    pub id: u64,
    #[serde(skip)]
    pub family: &'static str,
    #[serde(flatten)]
    pub program: Program,
    /// Kafka Streams runs it once more with aggregates that begin with null, not with a value; see the ledger.
    pub bare: bool,
}

impl Program {
    /// The topics that are read back, in the order in which both sides do.
    pub fn sinks(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Sink { topic, .. } => Some(topic.as_str()),
            _ => None,
        })
    }

    pub fn has(&self, step: impl Fn(&Step) -> bool) -> bool {
        self.steps.iter().any(step)
    }
}

/// A record that came out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The event after which it was read.
    pub event: usize,
    pub topic: String,
    pub key: Option<String>,
    pub value: Option<String>,
    pub at: i64,
    pub headers: String,
}
