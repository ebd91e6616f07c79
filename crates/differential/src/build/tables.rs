//! Tables, what is derived from them, and grouped ones.

use headwater_streams::serdes::{i64 as integers, string};
use headwater_streams::{Consumed, Grouped, KGroupedTable, Materialized};

use super::{Build, Handle, Table, texts};
use crate::case::{At, How, KeyFunction, Step};
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::Table { topic, extracts, .. } => {
            let options = store(build);
            let consumed = Consumed::with(texts(), string());
            let consumed = if extracts {
                consumed.timestamp_extractor(|_, value: &String, record| {
                    functions::time(Some(value), record.timestamp)
                })
            } else {
                consumed
            };
            let table = build.builder.table(topic, consumed, options);
            build.tables(table)
        }
        Step::Global { topic } => {
            let options = Materialized::named(build.name("s"));
            let table = build.builder.global_table(topic, Consumed::with(texts(), string()), options);
            build.made(Handle::Global(table))
        }
        Step::ToTable { of, .. } => {
            let table = build.stream(of).to_table_with_tombstones(store(build));
            build.tables(table)
        }
        Step::ToStream { of } => build.streams(build.table(of).to_stream()),
        Step::TableFilter { of, modulus, rest, kept } => {
            let table = build
                .table(of)
                .filter(move |key, value: &String| functions::keeps(modulus, rest, key, Some(value)));
            let table = self::kept(build, kept, table);
            build.tables(table)
        }
        Step::TableMapValues { of, function, kept } => {
            let map = move |key: &Text, value: String| {
                functions::value(function, key, Some(&value)).unwrap_or_default()
            };
            let table = self::kept(build, kept, build.table(of).map_values_with_key(map));
            build.tables(table)
        }
        Step::TableGroup { of, key, how } => {
            let table = group(build, of, key, how);
            build.tables(table)
        }
        _ => false,
    }
}

fn store(build: &Build) -> Materialized<Text, String> {
    Materialized::with(build.name("s"), texts(), string())
}

/// In a store of its own, if that is wanted.
pub fn kept(build: &Build, wanted: bool, table: Table) -> Table {
    if wanted { table.materialized(store(build)) } else { table }
}

fn group(build: &Build, of: At, key: KeyFunction, how: How) -> Table {
    let select = move |from: &Text, value: &String| (functions::key(key, from, Some(value)), value.clone());
    let grouped = build.table(of).group_by(select, Grouped::with(texts(), string()).named(build.name("g")));
    aggregated(build, &grouped, how)
}

pub fn aggregated(build: &Build, grouped: &KGroupedTable<Text, String>, how: How) -> Table {
    match how {
        How::Count => grouped
            .count(Materialized::with(build.name("s"), texts(), integers()))
            .map_values(|count| count.to_string()),
        How::Reduce => grouped.reduce(
            |sum, value| functions::reduce(&sum, &value),
            |sum, value| functions::subtract(&value, &sum),
            store(build),
        ),
        How::Aggregate => grouped.aggregate(
            String::new,
            |_, value, sum| functions::add(Some(&value), &sum),
            |_, value, sum| functions::subtract(&value, &sum),
            store(build),
        ),
    }
}
