//! Joins of all kinds.

use headwater_streams::serdes::string;
use headwater_streams::{JoinWindows, Joined, KTable, Payload, StreamJoined, TableJoined};

use super::aggregations::millis;
use super::{Build, Stream, Table, tables, texts};
use crate::case::{At, Kind, Step};
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::JoinTable { left, right, kind } => {
            let stream = with_table(build, left, right, kind);
            build.streams(stream)
        }
        Step::JoinGlobal { left, right, kind, by_key } => {
            let stream = with_global(build, (left, right), kind, by_key);
            build.streams(stream)
        }
        Step::JoinStreams { left, right, kind, before, after, grace } => {
            let windows =
                JoinWindows::of(millis(0)).before(millis(before)).after(millis(after)).grace(millis(grace));
            let stream = of_streams(build, left, right, kind, windows);
            build.streams(stream)
        }
        Step::JoinTables { left, right, kind, kept } => {
            let table = of_tables(&build.table(left), &build.table(right), kind);
            let table = tables::kept(build, kept, table);
            build.tables(table)
        }
        Step::JoinForeign { left, right, kind, kept, by_key } => {
            let table = by_foreign_key(build, (left, right), kind, by_key);
            let table = tables::kept(build, kept, table);
            build.tables(table)
        }
        _ => false,
    }
}

/// What a stream's value and a row make. Nulls of streams do not come so far; if one did, the result would tell.
pub fn pair(left: &Text, right: Option<&String>) -> Text {
    Some(functions::join(left.as_deref(), right.map(String::as_str)))
}

fn rows(left: &str, right: Option<&String>) -> String {
    functions::join(Some(left), right.map(String::as_str))
}

/// The key of the row in another table that this one refers to.
fn refers(by_key: bool, key: &Text, value: &str) -> Option<Text> {
    let foreign =
        if by_key { functions::foreign_of(key, Some(value)) } else { functions::foreign(Some(value)) };
    foreign.map(Some)
}

fn with_table(build: &Build, left: At, right: At, kind: Kind) -> Stream {
    let (stream, table) = (build.stream(left), build.table(right));
    let options = Joined::with(texts(), texts()).named(build.name("j"));
    match kind {
        Kind::Inner => stream.join(&table, |value, row| pair(&value, Some(row)), options),
        _ => stream.left_join(&table, |value, row| pair(&value, row), options),
    }
}

/// It takes no serde of the stream's, which after `map_values` has none of its own, so nulls are taken out before.
fn with_global(build: &Build, (left, right): (At, At), kind: Kind, by_key: bool) -> Stream {
    let (stream, table) = (build.stream(left).without_tombstones(), build.global(right));
    let select = move |key: &Text, value: &String| refers(by_key, key, value);
    let joined = match kind {
        Kind::Inner => stream.join_global(&table, select, |value, row| rows(&value, Some(row))),
        _ => stream.left_join_global(&table, select, |value, row| rows(&value, row)),
    };
    joined.map_values(Some)
}

fn of_streams(build: &Build, left: At, right: At, kind: Kind, windows: JoinWindows) -> Stream {
    let (left, right) = (build.stream(left), build.stream(right));
    let options = StreamJoined::with(texts(), texts(), texts()).named(build.name("j"));
    let both = |left: &Text, right: Option<&Text>| pair(left, right.and_then(Option::as_ref));
    let either = move |left: Option<&Text>, right: Option<&Text>| both(left.unwrap_or(&None), right);
    match kind {
        Kind::Inner => left.join_stream(&right, move |left, right| both(left, Some(right)), windows, options),
        Kind::Left => left.left_join_stream(&right, both, windows, options),
        Kind::Outer => left.outer_join_stream(&right, either, windows, options),
    }
}

fn either(left: Option<&String>, right: Option<&String>) -> String {
    functions::join(left.map(String::as_str), right.map(String::as_str))
}

pub fn of_tables<K: Payload>(
    left: &KTable<K, String>,
    right: &KTable<K, String>,
    kind: Kind,
) -> KTable<K, String> {
    match kind {
        Kind::Inner => left.join(right, |left, right| rows(left, Some(right))),
        Kind::Left => left.left_join(right, |left, right| rows(left, right)),
        Kind::Outer => left.outer_join(right, either),
    }
}

fn by_foreign_key(build: &Build, (left, right): (At, At), kind: Kind, by_key: bool) -> Table {
    let (left, right) = (build.table(left), build.table(right));
    let options = TableJoined::new()
        .named(build.name("f"))
        .key_serde(texts())
        .value_serde(string())
        .foreign_key_serde(texts())
        .other_value_serde(string())
        .result_serde(string());
    let select = move |key: &Text, value: &String| refers(by_key, key, value);
    match kind {
        Kind::Inner => left.join_foreign(&right, select, |left, right| rows(left, Some(right)), options),
        _ => left.left_join_foreign(&right, select, |left, right| rows(left, right), options),
    }
}
