//! Grouped streams: without windows, in windows of fixed size, in sessions.

use std::time::Duration;

use headwater_streams::serdes::{i64 as integers, string};
use headwater_streams::{
    Grouped, KGroupedStream, KStream, KTable, Materialized, SessionWindows, TimeWindows, Windowed,
};

use super::{Build, Handle, Stream, WindowedTable, texts};
use crate::case::{At, How, KeyFunction, Step};
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::Aggregate { of, key, how } => {
            let grouped = without_nulls(build, of, key);
            let table = match how {
                How::Count => grouped.count(counts(build)).map_values(|count| count.to_string()),
                How::Reduce => grouped.reduce(|sum, value| functions::reduce(&sum, &value), kept(build)),
                How::Aggregate => grouped.aggregate(
                    String::new,
                    |_, value, sum| functions::add(Some(&value), &sum),
                    kept(build),
                ),
            };
            build.tables(table)
        }
        Step::AggregateWindows { of, key, how, size, advance, grace, last } => {
            let windows = TimeWindows::of(millis(size)).advance(millis(advance)).grace(millis(grace));
            let table = self::windows(build, (of, key, how), windows, last);
            build.made(Handle::Windowed(table))
        }
        Step::AggregateSessions { of, key, how, gap, grace, last } => {
            let table = sessions(
                build,
                (of, key, how),
                SessionWindows::with_gap(millis(gap)).grace(millis(grace)),
                last,
            );
            build.made(Handle::Windowed(table))
        }
        Step::FromWindows { of } => {
            build.streams(build.windowed(of).to_stream().select_key(|window: &Windowed<Text>, _| {
                Some(format!("{}@{}/{}", functions::text(window.key.as_deref()), window.start, window.end))
            }))
        }
        _ => false,
    }
}

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub fn kept(build: &Build) -> Materialized<Text, String> {
    Materialized::with(build.name("s"), texts(), string())
}

pub fn counts(build: &Build) -> Materialized<Text, i64> {
    Materialized::with(build.name("s"), texts(), integers())
}

/// By a new key, or by the one there is.
fn by<V: Clone + Send + 'static>(
    stream: KStream<Text, V>,
    key: Option<KeyFunction>,
    text: fn(&V) -> Option<&str>,
    grouped: Grouped<Text, V>,
) -> KGroupedStream<Text, V> {
    match key {
        None => stream.group_by_key(grouped),
        Some(function) => {
            stream.group_by(move |key, value| functions::key(function, key, text(value)), grouped)
        }
    }
}

pub fn without_nulls(build: &Build, of: At, key: Option<KeyFunction>) -> KGroupedStream<Text, String> {
    named_without_nulls(build, "g", of, key)
}

/// With a name of its own beside others of one step.
pub fn named_without_nulls(
    build: &Build,
    name: &str,
    of: At,
    key: Option<KeyFunction>,
) -> KGroupedStream<Text, String> {
    let text: fn(&String) -> Option<&str> = |value| Some(value);
    let grouped = Grouped::with(texts(), string()).named(build.name(name));
    by(build.stream(of).without_tombstones(), key, text, grouped)
}

fn with_nulls(build: &Build, of: At, key: Option<KeyFunction>) -> KGroupedStream<Text, Text> {
    let stream: Stream = build.stream(of);
    let grouped = Grouped::with(texts(), texts()).named(build.name("g"));
    by(stream, key, |value| value.as_deref(), grouped)
}

/// Only the last result of each window, if that is wanted.
pub fn last<V: Clone + Send + 'static>(
    wanted: bool,
    table: KTable<Windowed<Text>, V>,
) -> KTable<Windowed<Text>, V> {
    if wanted { table.suppress_until_window_closes(None) } else { table }
}

fn windows(
    build: &Build,
    (of, key, how): (At, Option<KeyFunction>, How),
    windows: TimeWindows,
    wanted: bool,
) -> WindowedTable {
    match how {
        How::Count => last(wanted, with_nulls(build, of, key).windowed_by(windows).count(counts(build)))
            .map_values(|count| count.to_string()),
        How::Reduce => {
            let windowed = without_nulls(build, of, key).windowed_by(windows);
            last(wanted, windowed.reduce(|sum, value| functions::reduce(&sum, &value), kept(build)))
        }
        How::Aggregate => {
            let windowed = with_nulls(build, of, key).windowed_by(windows);
            let add = |_: &Text, value: Text, sum: String| functions::add(value.as_deref(), &sum);
            last(wanted, windowed.aggregate(String::new, add, kept(build)))
        }
    }
}

fn sessions(
    build: &Build,
    (of, key, how): (At, Option<KeyFunction>, How),
    windows: SessionWindows,
    wanted: bool,
) -> WindowedTable {
    match how {
        How::Count => {
            last(wanted, with_nulls(build, of, key).windowed_by_session(windows).count(counts(build)))
                .map_values(|count| count.to_string())
        }
        How::Reduce => {
            let windowed = without_nulls(build, of, key).windowed_by_session(windows);
            last(wanted, windowed.reduce(|sum, value| functions::reduce(&sum, &value), kept(build)))
        }
        How::Aggregate => {
            let windowed = with_nulls(build, of, key).windowed_by_session(windows);
            let add = |_: &Text, value: Text, sum: String| functions::add(value.as_deref(), &sum);
            let merge = |_: &Text, earlier: String, later: String| functions::reduce(&earlier, &later);
            last(wanted, windowed.aggregate(String::new, add, merge, kept(build)))
        }
    }
}
