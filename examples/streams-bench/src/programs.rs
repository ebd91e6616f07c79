//! The programs. Keys are text, values are bytes; they are changed in the same way as in `Programs.java`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater::streams::serdes::{bytes, i64, string};
use headwater::streams::{
    Consumed, Grouped, Joined, KStream, Materialized, Produced, StreamsBuilder, TimeWindows, Topology,
    time_windowed,
};

use crate::Failure;
use crate::seen::{Seen, hash, hash_of};

const WINDOW: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
/// What a stateless program keeps of a value, and a join of the table's.
const KEPT: usize = 50;
const ADDED: usize = 8;

#[derive(Clone, Copy)]
pub enum Program {
    Stateless,
    Count,
    Window,
    Join,
}

impl Program {
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "stateless" => Ok(Self::Stateless),
            "count" => Ok(Self::Count),
            "window" => Ok(Self::Window),
            "join" => Ok(Self::Join),
            other => Err(format!("no program is called {other:?}: stateless, count, window, join")),
        }
    }
}

#[derive(Clone, Copy)]
pub struct Topics<'a> {
    pub input: &'a str,
    pub table: &'a str,
    pub output: &'a str,
}

pub fn topology(
    program: Program,
    application_id: &str,
    topics: Topics<'_>,
    seen: &Arc<Seen>,
) -> Result<Topology, Failure> {
    let builder = StreamsBuilder::new(application_id);
    let counted = Arc::clone(seen);
    let input =
        builder.stream(topics.input, Consumed::with(string(), bytes())).peek(move |_, _| counted.record());
    match program {
        Program::Stateless => stateless(&input, topics.output, seen),
        Program::Count => count(&input, topics.output, seen),
        Program::Window => window(&input, topics.output, seen),
        Program::Join => join(&builder, &input, topics, seen),
    }
    Ok(builder.build()?)
}

fn beginning(value: &Bytes, most: usize) -> Bytes {
    value.slice(..value.len().min(most))
}

fn stateless(input: &KStream<String, Bytes>, output: &str, seen: &Arc<Seen>) {
    let seen = Arc::clone(seen);
    input
        .filter(|_, value| value.first().is_some_and(|first| first % 2 == 0))
        .map_values(|value| beginning(&value, KEPT))
        .peek(move |key, value| seen.output(|| key.clone(), || hash(value)))
        .to(output, Produced::with(string(), bytes()));
}

fn count(input: &KStream<String, Bytes>, output: &str, seen: &Arc<Seen>) {
    let seen = Arc::clone(seen);
    input
        .group_by_key(Grouped::with(string(), bytes()))
        .count(Materialized::named("counts"))
        .to_stream()
        .without_tombstones()
        .peek(move |key, count| seen.output(|| key.clone(), || hash_of(*count)))
        .to(output, Produced::with(string(), i64()));
}

fn window(input: &KStream<String, Bytes>, output: &str, seen: &Arc<Seen>) {
    let seen = Arc::clone(seen);
    input
        .group_by_key(Grouped::with(string(), bytes()))
        .windowed_by(TimeWindows::of(WINDOW).grace(GRACE))
        .aggregate(
            || 0,
            |_, value, sum| sum + i64::from(value.first().copied().unwrap_or_default()),
            Materialized::named("sums").value_serde(i64()),
        )
        .to_stream()
        .without_tombstones()
        .peek(move |key, sum| seen.output(|| format!("{}@{}", key.key, key.start), || hash_of(*sum)))
        .to(output, Produced::with(time_windowed(string(), WINDOW), i64()));
}

fn join(builder: &StreamsBuilder, input: &KStream<String, Bytes>, topics: Topics<'_>, seen: &Arc<Seen>) {
    let rows = builder.table(topics.table, Consumed::with(string(), bytes()), Materialized::named("rows"));
    let seen = Arc::clone(seen);
    let joined =
        |value: Bytes, row: &Bytes| -> Bytes { [&value[..], &beginning(row, ADDED)].concat().into() };
    input
        .join(&rows, joined, Joined::with(string(), bytes()))
        .peek(move |key, value| seen.output(|| key.clone(), || hash(value)))
        .to(topics.output, Produced::with(string(), bytes()));
}
