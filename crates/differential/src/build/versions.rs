//! Tables that keep their versions, and streams that are joined with them.

use headwater_streams::serdes::string;
use headwater_streams::{Consumed, Joined, KGroupedStream};

use super::aggregations::{counts, kept, millis, without_nulls};
use super::joins::pair;
use super::{Build, Stream, Table, texts};
use crate::case::{At, How, Kind, Step};
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::VersionedTable { topic, history } => {
            let options = kept(build).versioned(millis(history));
            let table = build.builder.table(topic, Consumed::with(texts(), string()), options);
            build.tables(table)
        }
        Step::ToVersionedTable { of, history } => {
            let options = kept(build).versioned(millis(history));
            let table = build.stream(of).to_table_with_tombstones(options);
            build.tables(table)
        }
        Step::AggregateVersions { of, key, how, history } => {
            let table = aggregated(build, &without_nulls(build, of, key), how, history);
            build.tables(table)
        }
        Step::JoinVersions { left, right, kind, grace } => {
            let stream = joined(build, left, right, kind, grace);
            build.streams(stream)
        }
        _ => false,
    }
}

fn aggregated(build: &Build, grouped: &KGroupedStream<Text, String>, how: How, history: u64) -> Table {
    let history = millis(history);
    match how {
        How::Count => grouped.count(counts(build).versioned(history)).map_values(|count| count.to_string()),
        How::Reduce => {
            grouped.reduce(|sum, value| functions::reduce(&sum, &value), kept(build).versioned(history))
        }
        How::Aggregate => grouped.aggregate(
            String::new,
            |_, value, sum| functions::add(Some(&value), &sum),
            kept(build).versioned(history),
        ),
    }
}

fn joined(build: &Build, left: At, right: At, kind: Kind, grace: Option<u64>) -> Stream {
    let (stream, table) = (build.stream(left), build.table(right));
    let options = Joined::with(texts(), texts()).named(build.name("j"));
    let options = match grace {
        Some(grace) => options.grace(millis(grace)),
        None => options,
    };
    match kind {
        Kind::Inner => stream.join(&table, |value, row| pair(&value, Some(row)), options),
        _ => stream.left_join(&table, |value, row| pair(&value, row), options),
    }
}
