//! Tables that keep versions: against a model, over crashes, in joins and queries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_model::{Bytes, Header, Record, TopicPartition};
use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, Grouped, InternalTopicKind, Joined, KTable, KeyQuery, Materialized, MultiVersionedKeyQuery,
    Processor, ProcessorContext, ProcessorError, Produced, Query, RangeQuery, Serde, SerdeError, SerdeRef,
    StreamsBuilder, TableJoined, TimeWindows, TopologyError, TopologyTestDriver, VersionedKeyQuery,
    VersionedRecord, VersionedStateStore, time_windowed,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::*;

const HISTORY: i64 = 5_000;

fn versioned(builder: &StreamsBuilder) -> KTable<String, i64> {
    let kept = Materialized::named("rows").json().versioned(ms(HISTORY as u64));
    builder.table("rows", Consumed::with(string(), i64()), kept)
}

fn row(driver: &mut TopologyTestDriver, key: &str, value: Option<i64>, time: i64) {
    driver.pipe("rows", (&string(), &nullable(i64())), (&key.to_owned(), &value), time).unwrap();
}

fn as_of(driver: &TopologyTestDriver, key: &str, as_of: Option<i64>) -> Option<(i64, i64)> {
    let query = Query::VersionedKey(VersionedKeyQuery { key: key.to_owned(), as_of });
    let rows = driver.query("rows", &query).unwrap().unwrap();
    rows.first().map(|row| (row["timestamp"].as_i64().unwrap(), row["value"].as_i64().unwrap()))
}

/// What a history must be: versions by key and time, those that came too late left out.
#[derive(Default)]
struct Model {
    rows: BTreeMap<String, BTreeMap<i64, Option<i64>>>,
    now: i64,
    dropped: u64,
}

impl Model {
    /// False if the update is too late.
    fn put(&mut self, key: &str, value: Option<i64>, time: i64) -> bool {
        self.now = self.now.max(time);
        if time < self.now - HISTORY {
            self.dropped += 1;
            return false;
        }
        self.rows.entry(key.to_owned()).or_default().insert(time, value);
        true
    }

    fn latest(&self, key: &str) -> Option<(i64, i64)> {
        let (time, value) = self.rows.get(key)?.last_key_value()?;
        Some((*time, (*value)?))
    }

    fn as_of(&self, key: &str, time: i64) -> Option<(i64, i64)> {
        if time < self.now - HISTORY {
            return self.latest(key).filter(|(from, _)| *from <= time);
        }
        self.ever(key, time)
    }

    /// The version that held at a time, however long ago.
    fn ever(&self, key: &str, time: i64) -> Option<(i64, i64)> {
        let (from, value) = self.rows.get(key)?.range(..=time).next_back()?;
        Some((*from, (*value)?))
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Key, value (below 10 deletes), how late.
    Row(u8, i64, i64),
    Event(u8, i64, i64),
    Commit,
    Crash,
    Wipe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let late = || prop_oneof![4 => 0..500_i64, 2 => 0..3_000_i64, 1 => 0..9_000_i64];
    let step = prop_oneof![
        8 => (0..4_u8, 0..100_i64, late()).prop_map(|(key, value, late)| Step::Row(key, value, late)),
        4 => (0..4_u8, 0..100_i64, late()).prop_map(|(key, value, late)| Step::Event(key, value, late)),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec(step, 0..80)
}

fn time_of(place: usize, late: i64) -> i64 {
    (place as i64 * 300 - late).max(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_version_within_the_history_is_there_as_in_a_model(steps in steps()) {
        let builder = StreamsBuilder::new("app");
        let table = versioned(&builder);
        table.to_stream().to("updates", Produced::with(string(), nullable(i64())));
        table.group_by(|_, v| (format!("g{}", v % 3), *v), Grouped::with(string(), i64()))
            .reduce(|sum, v| sum + v, |sum, v| sum - v, Materialized::named("sums"))
            .to("sums", Produced::with(string(), i64()));
        let mut driver = driver(builder);
        driver.manual_commit();
        let mut model = Model::default();
        let (mut forwarded, mut dropped_before) = (0, 0);
        for (place, step) in steps.iter().enumerate() {
            match *step {
                Step::Row(key, value, late) | Step::Event(key, value, late) => {
                    let (key, time) = (format!("k{key}"), time_of(place, late));
                    let value = (value >= 10).then_some(value);
                    row(&mut driver, &key, value, time);
                    forwarded += usize::from(model.put(&key, value, time));
                }
                Step::Commit => {
                    driver.commit().unwrap();
                    dropped_before = model.dropped;
                }
                Step::Crash => driver.crash().unwrap(),
                Step::Wipe => driver.crash_and_wipe().unwrap(),
            }
        }
        for _ in 0..3 {
            driver.commit().unwrap();
        }
        prop_assert!(driver.metrics().dropped_late >= model.dropped - dropped_before);
        for key in 0..4 {
            let key = format!("k{key}");
            prop_assert_eq!(as_of(&driver, &key, None), model.latest(&key), "latest of {}", key);
            for time in (0..=model.now + 1).step_by(97) {
                let (found, expected) = (as_of(&driver, &key, Some(time)), model.as_of(&key, time));
                // Until it is written to, a restored store does not know where its history begins.
                let restored = time < model.now - HISTORY && found == model.ever(&key, time);
                prop_assert!(found == expected || restored, "{key} at {time}: {found:?}, not {expected:?}");
            }
        }
        // All that was not too late goes on as a stream; what is summed up are the latest rows.
        prop_assert_eq!(driver.read_output("updates").len(), forwarded);
        let mut expected = BTreeMap::new();
        for (_, value) in (0..4).filter_map(|key| model.latest(&format!("k{key}"))) {
            *expected.entry(format!("g{}", value % 3)).or_insert(0) += value;
        }
        let rows = driver.read("sums", (&string(), &i64()));
        let sums: BTreeMap<_, _> = rows.into_iter().filter_map(|(key, sum, _)| Some((key, sum?))).collect();
        let left: BTreeMap<_, _> = sums.into_iter().filter(|(_, sum)| *sum != 0).collect();
        prop_assert_eq!(left, expected);
        // A restored store has the same versions in its history.
        let versions = |driver: &TopologyTestDriver| {
            let query = |key| Query::MultiVersionedKey(MultiVersionedKeyQuery {
                key: format!("k{key}"), from: (model.now - HISTORY).max(0), to: i64::MAX, limit: 1_000,
            });
            (0..4).flat_map(|key| driver.query("rows", &query(key)).unwrap().unwrap()).collect::<Vec<Value>>()
        };
        let before = versions(&driver);
        driver.crash_and_wipe().unwrap();
        prop_assert_eq!(versions(&driver), before);
    }

    #[test]
    fn a_stream_is_joined_with_the_version_of_its_time_after_its_grace(steps in steps(), grace in 0..4_000_i64) {
        let builder = StreamsBuilder::new("app");
        let table = versioned(&builder);
        let events = builder.stream("events", Consumed::with(string(), i64()));
        let later = Joined::with(string(), i64()).named("later").grace(ms(grace as u64));
        let pair = |event: i64, row: Option<&i64>| event * 1_000 + row.copied().unwrap_or(-1);
        events.left_join(&table, pair, later).to("later", Produced::with(string(), i64()));
        events.left_join(&table, pair, Joined::new()).to("now", Produced::with(string(), i64()));
        let mut driver = driver(builder);
        let mut model = Model::default();
        let mut waiting: BTreeSet<(i64, String, usize, i64)> = BTreeSet::new();
        let (mut now, mut expected_now, mut expected_later) = (0, Vec::new(), Vec::new());
        for (place, step) in steps.iter().enumerate() {
            match *step {
                Step::Row(key, value, late) => {
                    let (key, time) = (format!("k{key}"), time_of(place, late));
                    let value = (value >= 10).then_some(value);
                    row(&mut driver, &key, value, time);
                    model.put(&key, value, time);
                }
                Step::Event(key, value, late) => {
                    let (key, time) = (format!("k{key}"), time_of(place, late));
                    number(&mut driver, "events", &key, value, time);
                    let joined = |key: &str, value: i64, time: i64| {
                        let row = model.as_of(key, time).map_or(-1, |(_, row)| row);
                        format!("{key}={}@{time}", value * 1_000 + row)
                    };
                    expected_now.push(joined(&key, value, time));
                    now = now.max(time);
                    // Ready ones come before a late one, which is not held back.
                    waiting.insert((time, key, place, value));
                    let late = time < now - grace;
                    let ready: Vec<_> = waiting.iter().filter(|w| w.0 <= now - grace).cloned().collect();
                    for entry in &ready {
                        waiting.remove(entry);
                    }
                    let lines = ready.iter().map(|(time, key, _, value)| joined(key, *value, *time));
                    expected_later.extend(lines);
                    prop_assert!(!late || ready.len() == 1, "nothing else was ready");
                }
                Step::Commit => driver.commit().unwrap(),
                Step::Crash => driver.crash().unwrap(),
                Step::Wipe => driver.crash_and_wipe().unwrap(),
            }
        }
        prop_assert_eq!(numbers(&mut driver, "now"), expected_now);
        prop_assert_eq!(numbers(&mut driver, "later"), expected_later);
    }
}

#[test]
fn an_older_update_does_not_replace_a_later_one_and_is_told_as_a_stream_only() {
    let builder = StreamsBuilder::new("app");
    let table = versioned(&builder);
    let other = builder.table("other", Consumed::with(string(), i64()), Materialized::new());
    table.to_stream().to("updates", Produced::with(string(), nullable(i64())));
    table.join(&other, |a, b| a * 100 + b).to("joined", Produced::with(string(), i64()));
    table.filter(|_, v| *v > 1).to("large", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "other", "k", 7, 0);
    row(&mut driver, "k", Some(2), 20);
    row(&mut driver, "k", Some(3), 10);
    row(&mut driver, "k", Some(1), 15);
    assert_eq!(numbers(&mut driver, "updates"), ["k=2@20", "k=3@10", "k=1@15"]);
    assert_eq!(numbers(&mut driver, "joined"), ["k=207@20"]);
    // In the history of the filtered table, the row ends at 15.
    assert_eq!(numbers(&mut driver, "large"), ["k=2@20", "k=3@10", "k=-@15"]);
    assert_eq!((as_of(&driver, "k", None), as_of(&driver, "k", Some(19))), (Some((20, 2)), Some((15, 1))));
    assert_eq!(driver.metrics().out_of_order_table_updates, 2);
    // The same time again replaces.
    row(&mut driver, "k", Some(4), 20);
    assert_eq!(as_of(&driver, "k", None), Some((20, 4)));
    assert_eq!(numbers(&mut driver, "joined"), ["k=407@20"]);
}

#[test]
fn all_versions_in_a_range_are_told_with_the_time_until_which_they_held() {
    let builder = StreamsBuilder::new("app");
    versioned(&builder);
    let mut driver = driver(builder);
    for (value, time) in [(Some(1), 10), (Some(2), 20), (None, 30), (Some(4), 40)] {
        row(&mut driver, "k", value, time);
    }
    row(&mut driver, "z", Some(9), 40);
    let versions = |from, to| {
        let query = MultiVersionedKeyQuery { key: "k".to_owned(), from, to, limit: 100 };
        let rows = driver.query("rows", &Query::MultiVersionedKey(query)).unwrap().unwrap();
        let shown = |row: &Value| format!("{}@{}-{}", row["value"], row["timestamp"], row["valid_to"]);
        rows.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(versions(0, 100), ["4@40-null", "2@20-30", "1@10-20"]);
    assert_eq!(versions(15, 25), ["2@20-30", "1@10-20"]);
    assert_eq!(versions(20, 20), ["2@20-30"]);
    assert_eq!(versions(30, 39), Vec::<String>::new());
    assert_eq!(versions(0, 9), Vec::<String>::new());
    let all = RangeQuery { from: None, to: None, limit: 10 };
    let rows = driver.query("rows", &Query::Range(all)).unwrap().unwrap();
    assert_eq!(rows.iter().map(|row| row["value"].as_i64().unwrap()).collect::<Vec<_>>(), [4, 9]);
    let one = driver.query("rows", &Query::Key(KeyQuery { key: "z".to_owned() })).unwrap().unwrap();
    assert_eq!(one[0]["value"], 9);
}

#[test]
fn what_held_before_the_history_goes_and_a_deleted_key_leaves_nothing() {
    let builder = StreamsBuilder::new("app");
    versioned(&builder);
    let mut driver = driver(builder);
    for time in 0..20 {
        row(&mut driver, "busy", Some(time), time * 1_000);
        row(&mut driver, &format!("gone{time}"), Some(1), time * 1_000);
        row(&mut driver, &format!("gone{time}"), None, time * 1_000 + 1);
    }
    assert_eq!(as_of(&driver, "busy", Some(13_500)), None, "older than the history, and not the latest");
    let before = driver.backend("rows", 0).unwrap().len();
    row(&mut driver, "busy", Some(20), 40_000);
    row(&mut driver, "busy", Some(21), 50_000);
    driver.commit().unwrap();
    // Versions and the index, of what is left, the two latest of one key; and where the history begins.
    let after = driver.backend("rows", 0).unwrap().len();
    assert!(before > 30 && after <= 5, "{before} entries, then {after}");
    assert_eq!(as_of(&driver, "busy", Some(49_999)), Some((40_000, 20)));
}

#[test]
fn the_changelog_is_kafka_streams_and_ends_with_the_latest_version() {
    let builder = StreamsBuilder::new("app");
    versioned(&builder);
    let topology = builder.build().unwrap();
    let topics = topology.internal_topics(&|_| Some(1)).unwrap();
    assert_eq!(
        (topics[0].name.as_str(), topics[0].kind),
        ("app-rows-changelog", InternalTopicKind::Changelog)
    );
    let config = |name: &str| topics[0].configs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(config("cleanup.policy"), Some("compact"));
    assert_eq!(config("min.compaction.lag.ms"), Some("86405000"));
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    row(&mut driver, "k", Some(2), 20);
    row(&mut driver, "k", Some(1), 10);
    let log = driver.log(&TopicPartition::new("app-rows-changelog", 0));
    let shown: Vec<_> = log.iter().map(|r| (r.timestamp, r.value.as_ref().map(|v| v[7]))).collect();
    assert_eq!(shown, [(20, Some(2)), (10, Some(1)), (20, Some(2))]);
    assert!(log.iter().all(|record| record.key.as_deref() == Some(b"k")));
}

/// Keeps versions by hand: a value of the key "<key>?<time>" is a question.
struct Historian(VersionedStateStore<String, i64>);

impl Processor<String, i64, String, i64> for Historian {
    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if let Some((key, time)) = key.split_once('?') {
            let found = match time {
                "" => cx.get_latest(&self.0, &key.to_owned())?,
                time => cx.get_as_of(&self.0, &key.to_owned(), time.parse()?)?,
            };
            let VersionedRecord { value, timestamp } =
                found.unwrap_or(VersionedRecord { value: -1, timestamp: 0 });
            return Ok(cx.forward_at(key.to_owned(), value, timestamp)?);
        }
        let time = cx.timestamp();
        if !cx.put_version(&self.0, &key, (value >= 0).then_some(value), time)? {
            cx.forward(key, -2)?;
        }
        Ok(())
    }
}

#[test]
fn processors_put_and_get_versions() {
    let builder = StreamsBuilder::new("app");
    let kept = Materialized::with("kept", string(), i64()).versioned(ms(100));
    let store = builder.add_versioned_store(kept);
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || Historian(store.clone()), &["kept"])
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    for (value, time) in [(1, 10), (3, 30), (2, 20), (-1, 40)] {
        number(&mut driver, "in", "k", value, time);
    }
    for question in ["k?19", "k?20", "k?39", "k?", "k?9"] {
        number(&mut driver, "in", question, 0, 40);
    }
    assert_eq!(numbers(&mut driver, "out"), ["k=1@10", "k=2@20", "k=3@30", "k=-1@0", "k=-1@0"]);
    driver.crash_and_wipe().unwrap();
    number(&mut driver, "in", "k?25", 0, 125);
    number(&mut driver, "in", "k?24", 0, 125);
    number(&mut driver, "in", "k", 9, 24);
    assert_eq!(numbers(&mut driver, "out"), ["k=2@20", "k=-1@0", "k=-2@24"]);
}

#[test]
fn without_grace_nothing_waits_and_with_it_headers_and_order_are_kept() {
    for (grace, at_once) in [(0, 2), (10, 0)] {
        let builder = StreamsBuilder::new("app");
        let table = versioned(&builder);
        let events = builder.stream("events", Consumed::with(string(), i64()));
        let later = Joined::with(string(), i64()).named("later").grace(ms(grace));
        let pair = |event: i64, row: Option<&i64>| event * 10 + row.copied().unwrap_or(0);
        events.left_join(&table, pair, later).to("later", Produced::with(string(), i64()));
        let mut driver = driver(builder);
        let mut event = |key: &'static str, value: i64, timestamp: i64| {
            let headers = vec![Header { key: format!("h{value}"), value: None }];
            let (key, value) = (Some(key.into()), Some(value.to_be_bytes().to_vec().into()));
            driver.pipe_record("events", Record { offset: 0, timestamp, key, value, headers }).unwrap();
            driver.read_output("later")
        };
        let first: Vec<_> = [event("b", 1, 20), event("a", 2, 20)].concat();
        assert_eq!(first.len(), at_once, "with a grace of {grace} ms");
        let rest: Vec<_> = first.into_iter().chain(event("c", 3, 30)).collect();
        let shown = |r: &Record| {
            format!("{:?}@{} {}", r.key.as_deref().unwrap()[0] as char, r.timestamp, r.headers[0].key)
        };
        let shown: Vec<_> = rest.iter().map(shown).collect();
        // What waits goes in the order of time and key.
        let expected: &[_] =
            if grace == 0 { &["'b'@20 h1", "'a'@20 h2", "'c'@30 h3"] } else { &["'a'@20 h2", "'b'@20 h1"] };
        assert_eq!(shown, expected);
    }
}

#[test]
fn records_of_one_key_and_time_wait_without_being_read_again() {
    let builder = StreamsBuilder::new("app");
    let kept = Materialized::named("rows").versioned(ms(100));
    let table = builder.table("rows", Consumed::with(string(), string()), kept);
    let events = builder.stream("events", Consumed::with(string(), string()));
    let later = Joined::with(string(), string()).named("later").grace(ms(10));
    events
        .left_join(&table, |event, _: Option<&String>| event, later)
        .to("out", Produced::with(string(), string()));
    let mut task = Counting::new(builder);
    for _ in 0..300 {
        assert_eq!(task.step(&["events"], "k", 5), 0);
    }
    assert_eq!(task.step(&["events"], "k", 20), 300);
    let read = task.asked.read.load(Ordering::Relaxed);
    assert!(read < 1_000, "{read} entries were read");
}

#[test]
fn windows_behind_a_join_with_a_grace_wait_for_what_it_holds_back() {
    for behind_a_topic in [false, true] {
        let builder = StreamsBuilder::new("app");
        let table = versioned(&builder);
        let events = builder.stream("events", Consumed::with(string(), i64()));
        let later = Joined::with(string(), i64()).named("later").grace(ms(10));
        let joined = events.left_join(&table, |event, _: Option<&i64>| event, later);
        let grouped = match behind_a_topic {
            true => joined.group_by(|key, _| key.clone(), Grouped::with(string(), i64()).named("again")),
            false => joined.group_by_key(Grouped::with(string(), i64())),
        };
        grouped
            .windowed_by(TimeWindows::of(ms(5)))
            .emit_on_close()
            .count(Materialized::named("counts"))
            .to("out", Produced::with(time_windowed(string(), ms(5)), i64()));
        let mut driver = driver(builder);
        let mut told = Vec::new();
        for time in [1, 3, 12, 14, 30, 50] {
            number(&mut driver, "events", "k", 0, time);
            // What is held back, and what has been told, survive.
            driver.crash_and_wipe().unwrap();
            told.extend(time_windows(&mut driver, "out", 5));
        }
        assert_eq!(told[..2], ["k[0,5]=2@3", "k[10,15]=2@14"], "behind a topic: {behind_a_topic}");
    }
}

#[test]
fn versions_are_kept_of_rows_only() {
    let kept = || Materialized::named("kept").versioned(ms(5));
    let refused = |build: &dyn Fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new("app");
        build(&builder);
        let error = builder.build().err();
        assert!(matches!(&error, Some(TopologyError::InvalidWindow { .. })), "{error:?}");
    };
    let grouped = |builder: &StreamsBuilder| {
        builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new())
    };
    refused(&|builder| drop(grouped(builder).windowed_by(TimeWindows::of(ms(10))).count(kept())));
    refused(&|builder| drop(builder.global_table("in", Consumed::with(string(), i64()), kept())));
    refused(&|builder| {
        let counts =
            grouped(builder).windowed_by(TimeWindows::of(ms(10))).count(Materialized::named("counts"));
        let key = time_windowed(string(), ms(10));
        let versions = Materialized::with("kept", key, i64()).versioned(ms(50));
        counts.materialized(versions).suppress_until_window_closes(None);
    });
    refused(&|builder| {
        builder.add_versioned_store(Materialized::with("kept", string(), i64()));
        grouped(builder).count(Materialized::new());
    });
}

#[test]
fn what_comes_out_of_order_does_not_go_through_a_foreign_key() {
    let builder = StreamsBuilder::new("app");
    let rows = versioned(&builder);
    let kept = Materialized::named("names").versioned(ms(HISTORY as u64));
    let names = builder.table("names", Consumed::with(string(), i64()), kept);
    let joined = TableJoined::new().named("joined");
    rows.left_join_foreign(
        &names,
        |_, v| Some(format!("n{}", v % 3)),
        |v, n: Option<&i64>| v * 100 + n.unwrap_or(&0),
        joined,
    )
    .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "names", "n1", 7, 20);
    row(&mut driver, "k", Some(1), 20);
    assert_eq!(numbers(&mut driver, "out"), ["k=107@20"]);
    row(&mut driver, "k", Some(2), 10);
    number(&mut driver, "names", "n1", 8, 10);
    assert!(numbers(&mut driver, "out").is_empty());
    number(&mut driver, "names", "n1", 9, 30);
    assert_eq!(numbers(&mut driver, "out"), ["k=109@30"]);
}

#[test]
fn grace_without_enough_history_is_refused() {
    for (history, grace) in [(None, 1), (Some(5), 6)] {
        let builder = StreamsBuilder::new("app");
        let kept = Materialized::named("rows");
        let kept = match history {
            Some(history) => kept.versioned(ms(history)),
            None => kept,
        };
        let table = builder.table("rows", Consumed::with(string(), i64()), kept);
        let events = builder.stream("events", Consumed::with(string(), i64()));
        let joined = Joined::with(string(), i64()).named("late").grace(ms(grace));
        events.join(&table, |a, b| a + b, joined).to("out", Produced::with(string(), i64()));
        let error = builder.build().err().unwrap();
        assert!(matches!(&error, TopologyError::InvalidWindow { node, .. } if node == "late"), "{error}");
    }
}

/// Bytes that have a form in JSON.
struct Raw;

impl Serde<Vec<u8>> for Raw {
    fn serialize(&self, _topic: &str, value: &Vec<u8>) -> Result<Bytes, SerdeError> {
        Ok(Bytes::from(value.clone()))
    }

    fn deserialize(&self, _topic: &str, bytes: &Bytes) -> Result<Vec<u8>, SerdeError> {
        Ok(bytes.to_vec())
    }
}

#[test]
fn a_range_has_keys_of_any_bytes_in_their_order() {
    let raw: SerdeRef<Vec<u8>> = Arc::new(Raw);
    let builder = StreamsBuilder::new("app");
    let kept = Materialized::named("rows").json().versioned(ms(HISTORY as u64));
    builder.table("rows", Consumed::with(raw.clone(), i64()), kept);
    let mut driver = driver(builder);
    let full = |count: usize, last: u8| [&vec![0xff; count][..], &[last]].concat();
    let keys = [vec![b'k'], full(7, 0), full(8, 0), full(8, 9), full(14, 0xff), full(15, 0xff), full(16, 0)];
    for (key, time) in keys.iter().flat_map(|key| [(key, 10), (key, 6_000), (key, 12_000)]) {
        driver.pipe("rows", (&raw, &i64()), (key, &time), time).unwrap();
    }
    let range = |from: Option<&Vec<u8>>, to: Option<&Vec<u8>>| {
        let text = |key: Option<&Vec<u8>>| key.map(|key| serde_json::to_string(key).unwrap());
        let query = Query::Range(RangeQuery { from: text(from), to: text(to), limit: 100 });
        let rows = driver.query("rows", &query).unwrap().unwrap();
        rows.iter().map(|row| serde_json::from_value(row["key"].clone()).unwrap()).collect::<Vec<Vec<u8>>>()
    };
    for first in 0..keys.len() {
        assert_eq!(range(Some(&keys[first]), None), keys[first..]);
        assert_eq!(range(None, Some(&keys[first])), keys[..=first]);
        assert_eq!(range(Some(&keys[first]), Some(&keys[first])), keys[first..=first]);
    }
    assert_eq!(range(None, None), keys);
}
