//! Random input against naive recomputation, and crashes against an uninterrupted run.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::Record;
use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, Grouped, JoinWindows, Materialized, Produced, SessionWindows, StreamJoined, StreamsBuilder,
    TimeWindows, TopologyTestDriver, session_windowed, time_windowed,
};
use proptest::prelude::*;

use crate::support::*;

/// Key, value and time of an event.
type Event = (u8, i64, i64);

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((0..4_u8, 0..100_i64, 0..400_i64), 0..120)
}

/// Events in the order of time, each delayed by up to `jitter`.
fn ordered(mut events: Vec<Event>, jitter: i64) -> Vec<Event> {
    events.sort_by_key(|(key, value, time)| (time + (value * 7 + i64::from(*key) * 13) % jitter, *time));
    events
}

fn feed(driver: &mut TopologyTestDriver, events: &[Event]) {
    for (key, value, time) in events {
        number(driver, "in", &format!("k{key}"), *value, *time);
    }
}

/// The last value of each key of a topic.
fn last<K: Ord>(rows: Vec<(K, Option<i64>, i64)>) -> BTreeMap<K, i64> {
    let mut table = BTreeMap::new();
    for (key, value, _) in rows {
        match value {
            Some(value) => table.insert(key, value),
            None => table.remove(&key),
        };
    }
    table
}

const SIZE: i64 = 50;
const GRACE: i64 = 30;

fn hopping() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(ms(SIZE as u64)).advance(ms(20)).grace(ms(GRACE as u64)))
        .reduce(|a, b| a + b, Materialized::named("sums"))
        .to("out", Produced::with(time_windowed(string(), ms(SIZE as u64)), i64()));
    builder
}

fn sessions_of(gap: u64, grace: u64) -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by_session(SessionWindows::with_gap(ms(gap)).grace(ms(grace)))
        .reduce(|a, b| a + b, Materialized::named("sessions"))
        .to("out", Produced::with(session_windowed(string()), i64()));
    builder
}

/// Everything at once, so that crashes meet every kind of store. Only a stream's join with a table is missing: after a
/// crash both inputs are there, and are read in the order of time instead of arrival.
fn everything() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let window = ms(SIZE as u64);
    let input = builder.stream("in", Consumed::with(string(), i64()));
    let by_parity =
        input.group_by(|_, v| format!("p{}", v % 2), Grouped::with(string(), i64()).named("parity"));
    by_parity
        .windowed_by(TimeWindows::of(window).grace(ms(GRACE as u64)))
        .count(Materialized::named("windows"))
        .suppress_until_window_closes(Some("final"))
        .to("windows", Produced::with(time_windowed(string(), window), i64()));
    by_parity
        .windowed_by_session(SessionWindows::with_gap(ms(10)).grace(ms(GRACE as u64)))
        .count(Materialized::named("sessions"))
        .to("sessions", Produced::with(session_windowed(string()), i64()));
    let rows = builder.table("rows", Consumed::with(string(), i64()), Materialized::named("rows"));
    rows.group_by(|_, v| (format!("g{}", v % 3), *v), Grouped::with(string(), i64()))
        .reduce(|sum, v| sum + v, |sum, v| sum - v, Materialized::named("sums"))
        .to("sums", Produced::with(string(), i64()));
    let out = || Produced::with(string(), i64());
    let serdes = StreamJoined::with(string(), i64(), i64()).named("pair");
    let windows = JoinWindows::of(ms(15)).grace(ms(10));
    let other = builder.stream("other", Consumed::with(string(), i64()));
    let pair = |a: Option<&i64>, b: Option<&i64>| a.copied().unwrap_or(-1) * 1000 + b.copied().unwrap_or(-1);
    input.outer_join_stream(&other, pair, windows, serdes).to("pairs", out());
    builder
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Input(Event),
    Other(Event),
    /// A value below 10 deletes.
    Row(Event),
    Commit,
    Crash,
    Wipe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = || (0..4_u8, 0..100_i64, 0..400_i64);
    let step = prop_oneof![
        4 => event().prop_map(Step::Input),
        3 => event().prop_map(Step::Other),
        3 => event().prop_map(Step::Row),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec(step, 0..80)
}

/// All outputs of a run; crashes happen only if `crashes`.
fn run(steps: &[Step], crashes: bool) -> (Vec<Vec<Record>>, Vec<usize>) {
    let topology = everything().build().unwrap();
    let mut driver = TopologyTestDriver::with_partitions(topology, &|_| 2).unwrap();
    driver.manual_commit();
    for (place, step) in steps.iter().enumerate() {
        // Steady time, with jitter: about a third of the records is late for something.
        let at = |time: i64| (place as i64) * 12 + time % 60;
        match *step {
            Step::Input((key, value, time)) => number(&mut driver, "in", &format!("k{key}"), value, at(time)),
            Step::Other((key, value, time)) => {
                number(&mut driver, "other", &format!("k{key}"), value, at(time))
            }
            Step::Row((key, value, time)) => {
                let value = (value >= 10).then_some(value);
                let serdes = (&string(), &nullable(i64()));
                driver.pipe("rows", serdes, (&format!("k{key}"), &value), at(time)).unwrap();
            }
            Step::Commit => driver.commit().unwrap(),
            Step::Crash if crashes => driver.crash().unwrap(),
            Step::Wipe if crashes => driver.crash_and_wipe().unwrap(),
            Step::Crash | Step::Wipe => {}
        }
    }
    // What crashed tasks had read but not committed is read again.
    for _ in 0..4 {
        driver.commit().unwrap();
    }
    let topics = ["windows", "sessions", "sums", "pairs"];
    let outputs = topics.iter().map(|topic| driver.read_output(topic)).collect();
    let stores = ["windows", "sessions", "sums", "rows", "pair-this-join-store"];
    let sizes = |store: &&str| (0..2).map(|p| driver.backend(store, p).unwrap().len()).sum();
    (outputs, stores.iter().map(sizes).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn windowed_sums_equal_a_recomputation_with_drops(events in events(), jitter in 1..120_i64) {
        let events = ordered(events, jitter);
        let mut driver = driver(hopping());
        feed(&mut driver, &events);
        let (mut expected, mut dropped, mut now) = (BTreeMap::new(), 0, i64::MIN);
        for (key, value, time) in &events {
            now = now.max(*time);
            let starts = (0..).map(|n| n * 20).take_while(|start| start <= time).filter(|start| start + SIZE > *time);
            let (open, closed): (Vec<i64>, Vec<i64>) = starts.partition(|start| start + SIZE + GRACE > now);
            dropped += u64::from(!closed.is_empty());
            for start in open {
                *expected.entry((format!("k{key}"), start)).or_insert(0) += value;
            }
        }
        let rows = driver.read("out", (&time_windowed(string(), ms(SIZE as u64)), &i64()));
        let found: BTreeMap<_, _> = last(rows).into_iter().map(|(w, v)| ((w.key, w.start), v)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(driver.metrics().dropped_late, dropped);
    }

    #[test]
    fn sessions_equal_a_recomputation_when_nothing_is_too_late(events in events(), jitter in 1..120_i64) {
        let events = ordered(events, jitter);
        let mut driver = driver(sessions_of(7, 10_000));
        feed(&mut driver, &events);
        let mut by_key: BTreeMap<u8, Vec<(i64, i64)>> = BTreeMap::new();
        for (key, value, time) in &events {
            by_key.entry(*key).or_default().push((*time, *value));
        }
        let mut expected = BTreeMap::new();
        for (key, mut all) in by_key {
            all.sort_unstable();
            let mut open: Option<(i64, i64, i64)> = None;
            for (time, value) in all {
                open = Some(match open {
                    Some((start, end, sum)) if time - end <= 7 => (start, time, sum + value),
                    done => {
                        if let Some((start, end, sum)) = done {
                            expected.insert((format!("k{key}"), start, end), sum);
                        }
                        (time, time, value)
                    }
                });
            }
            if let Some((start, end, sum)) = open {
                expected.insert((format!("k{key}"), start, end), sum);
            }
        }
        let rows = driver.read("out", (&session_windowed(string()), &i64()));
        let found: BTreeMap<_, _> = last(rows).into_iter().map(|(w, v)| ((w.key, w.start, w.end), v)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(driver.metrics().dropped_late, 0);
    }

    #[test]
    fn late_records_are_dropped_from_sessions_as_a_naive_model_says(events in events(), jitter in 1..300_i64) {
        let events = ordered(events, jitter);
        let mut driver = driver(sessions_of(7, 20));
        feed(&mut driver, &events);
        let (mut sessions, mut dropped, mut now) = (BTreeMap::<(u8, i64, i64), i64>::new(), 0, 0);
        for (key, value, time) in &events {
            let before = now;
            now = now.max(*time);
            let touch = |(k, start, end): &(u8, i64, i64)| {
                k == key && *end >= time - 7 && *start <= time + 7 && end + 7 + 20 > before
            };
            let touched: Vec<_> = sessions.keys().filter(|s| touch(s)).copied().collect();
            let start = touched.iter().map(|s| s.1).fold(*time, i64::min);
            let end = touched.iter().map(|s| s.2).fold(*time, i64::max);
            if end + 7 + 20 < now {
                dropped += 1;
                continue;
            }
            let sum: i64 = touched.iter().filter_map(|s| sessions.remove(s)).sum();
            sessions.insert((*key, start, end), sum + value);
        }
        let expected: BTreeMap<_, _> =
            sessions.into_iter().map(|((k, start, end), sum)| ((format!("k{k}"), start, end), sum)).collect();
        let rows = driver.read("out", (&session_windowed(string()), &i64()));
        let found: BTreeMap<_, _> = last(rows).into_iter().map(|(w, v)| ((w.key, w.start, w.end), v)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(driver.metrics().dropped_late, dropped);
    }

    #[test]
    fn a_table_aggregate_equals_the_sum_over_the_rows_that_are_left(
        updates in prop::collection::vec((0..8_u8, prop::option::of(0..50_i64)), 0..100)
    ) {
        let builder = StreamsBuilder::new("app");
        builder
            .table("in", Consumed::with(string(), i64()), Materialized::new())
            .group_by(|_, v| (format!("g{}", v % 3), *v), Grouped::with(string(), i64()))
            .reduce(|sum, v| sum + v, |sum, v| sum - v, Materialized::named("sums"))
            .to("out", Produced::with(string(), i64()));
        let mut driver = TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| 3).unwrap();
        let mut rows = BTreeMap::new();
        let mut groups = BTreeSet::new();
        for (key, value) in updates {
            let serdes = (&string(), &nullable(i64()));
            driver.pipe("in", serdes, (&format!("k{key}"), &value), 0).unwrap();
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
            groups.extend(value.map(|value| value % 3));
        }
        let sum = |g: i64| rows.values().filter(|v| **v % 3 == g).sum::<i64>();
        let expected: BTreeMap<_, _> = groups.into_iter().map(|g| (format!("g{g}"), sum(g))).collect();
        let rows = driver.read("out", (&string(), &i64()));
        prop_assert_eq!(last(rows), expected);
    }

    #[test]
    fn crashes_and_restores_change_no_result(steps in steps()) {
        prop_assert_eq!(outcome(run(&steps, true)), outcome(run(&steps, false)));
    }
}

/// Final windows and pairs as multisets; sessions and sums as they are in the end, for how far a commit reaches decides in
/// which order their parts come together.
fn outcome((outputs, sizes): (Vec<Vec<Record>>, Vec<usize>)) -> (Vec<Vec<String>>, Vec<usize>) {
    let shown = outputs.into_iter().enumerate().map(|(topic, records)| {
        let lines = if matches!(topic, 1 | 2) { latest(records) } else { records };
        let mut lines: Vec<String> =
            lines.iter().map(|r| format!("{:?}={:?}@{}", r.key, r.value, r.timestamp)).collect();
        lines.sort_unstable();
        lines
    });
    (shown.collect(), sizes)
}

/// The last record of each key, without those that a tombstone deleted.
fn latest(records: Vec<Record>) -> Vec<Record> {
    let by_key: BTreeMap<_, _> = records.into_iter().map(|record| (record.key.clone(), record)).collect();
    by_key.into_values().filter(|record| record.value.is_some()).collect()
}
