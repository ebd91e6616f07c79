//! Sliding windows: against a recomputation, and at their edges.

use std::collections::BTreeMap;

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, Produced, Query, SlidingWindows, StreamsBuilder, TopologyError,
    WindowRangeQuery, time_windowed,
};
use proptest::prelude::*;

use crate::support::*;

const SIZE: i64 = 10;

fn sliding(grace: u64) -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let windows = SlidingWindows::of_time_difference_and_grace(ms(SIZE as u64), ms(grace));
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by_sliding(windows)
        .late_to("late", Produced::with(string(), i64()))
        .reduce(|a, b| a + b, Materialized::named("sums").json())
        .to("out", Produced::with(time_windowed(string(), ms(SIZE as u64)), i64()));
    builder
}

/// All windows that the records make, each with its sum: one that ends at each record, one that begins after it if that
/// holds any; what would begin before 0 begins at 0.
fn recomputed(records: &[(u8, i64, i64)]) -> BTreeMap<(String, i64), i64> {
    let mut expected = BTreeMap::new();
    for (key, _, time) in records {
        for start in [(time - SIZE).max(0), time + 1] {
            let inside = |(k, _, t): &&(u8, i64, i64)| k == key && (start..=start + SIZE).contains(t);
            let held: Vec<_> = records.iter().filter(inside).collect();
            if !held.is_empty() {
                expected.insert((format!("k{key}"), start), held.iter().map(|(_, value, _)| value).sum());
            }
        }
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_records_makes_the_windows_of_a_recomputation(
        records in prop::collection::vec((0..3_u8, 1..100_i64, 0..60_i64), 0..40),
        crash in 0..60_usize,
    ) {
        let mut driver = driver(sliding(10_000));
        for (place, (key, value, time)) in records.iter().enumerate() {
            if place == crash {
                driver.crash_and_wipe().unwrap();
            }
            number(&mut driver, "in", &format!("k{key}"), *value, *time);
        }
        let rows = driver.read("out", (&time_windowed(string(), ms(SIZE as u64)), &i64()));
        let found: BTreeMap<_, _> =
            rows.into_iter().filter_map(|(w, v, _)| Some(((w.key, w.start), v?))).collect();
        prop_assert_eq!(found, recomputed(&records));
        prop_assert_eq!(driver.metrics().dropped_late, 0);
    }
}

#[test]
fn windows_come_into_being_as_records_need_them() {
    let mut driver = driver(sliding(100));
    number(&mut driver, "in", "k", 1, 20);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[10,20]=1@20"]);
    // Its own window, which the first one shares, and the one after the first.
    number(&mut driver, "in", "k", 2, 25);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[21,31]=2@25", "k[15,25]=3@25"]);
    // Out of order: it joins what reaches over it, and gets a window after it with what follows.
    number(&mut driver, "in", "k", 4, 22);
    let seen = time_windows(&mut driver, "out", 10);
    assert_eq!(seen, ["k[21,31]=6@25", "k[15,25]=7@25", "k[12,22]=5@22", "k[23,33]=2@25"]);
}

#[test]
fn early_records_share_the_window_that_begins_at_zero() {
    let mut driver = driver(sliding(100));
    number(&mut driver, "in", "k", 1, 3);
    number(&mut driver, "in", "k", 2, 7);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[0,10]=1@3", "k[4,14]=2@7", "k[0,10]=3@7"]);
    number(&mut driver, "in", "k", 4, 1);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[2,12]=3@7", "k[0,10]=7@7"]);
}

#[test]
fn a_record_is_late_when_even_the_window_after_it_has_closed() {
    let mut driver = driver(sliding(5));
    number(&mut driver, "in", "k", 1, 100);
    number(&mut driver, "in", "other", 1, 114);
    driver.read_output("out");
    // [90,100] ended 14 ms ago, grace is 5: only windows that end at 109 or later take a record.
    number(&mut driver, "in", "k", 2, 99);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[100,110]=1@100"]);
    assert_eq!(numbers(&mut driver, "late"), ["k=2@99"]);
    number(&mut driver, "in", "k", 2, 98);
    assert!(time_windows(&mut driver, "out", 10).is_empty());
    assert_eq!((numbers(&mut driver, "late").len(), driver.metrics().dropped_late), (1, 2));
}

#[test]
fn sliding_windows_answer_queries_and_are_described() {
    let topology = sliding(5).build().unwrap();
    let text = topology.describe().to_string();
    assert!(text.contains("KSTREAM-AGGREGATE-0000000001 (stores: [sums])"), "{text}");
    let mut driver = headwater_streams::TopologyTestDriver::new(topology).unwrap();
    number(&mut driver, "in", "k", 1, 20);
    number(&mut driver, "in", "k", 2, 25);
    let query = WindowRangeQuery { key: Some("k".to_owned()), from: 12, to: 21, limit: 9 };
    let rows = driver.query("sums", &Query::WindowRange(query)).unwrap().unwrap();
    let seen: Vec<_> = rows.iter().map(|r| (r["start"].as_i64(), r["end"].as_i64())).collect();
    assert_eq!(seen, [(Some(15), Some(25)), (Some(21), Some(31))]);
}

#[test]
fn a_time_difference_of_nothing_is_refused() {
    let builder = StreamsBuilder::new("app");
    let grouped = builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let nothing = SlidingWindows::of_time_difference_with_no_grace(ms(0));
    grouped.windowed_by_sliding(nothing).count(Materialized::new());
    let error = builder.build().err().unwrap();
    assert!(matches!(error, TopologyError::InvalidWindow { .. }), "{error}");
}

#[test]
fn a_window_takes_records_until_stream_time_is_past_its_end_and_grace() {
    let mut driver = driver(sliding(5));
    number(&mut driver, "in", "k", 1, 100);
    number(&mut driver, "in", "other", 1, 105);
    number(&mut driver, "in", "k", 2, 100);
    assert_eq!(time_windows(&mut driver, "out", 10)[2..], ["k[90,100]=3@100"]);
    number(&mut driver, "in", "other", 1, 106);
    driver.read_output("out");
    number(&mut driver, "in", "k", 4, 100);
    assert!(time_windows(&mut driver, "out", 10).is_empty());
    assert_eq!(numbers(&mut driver, "late"), ["k=4@100"]);
}
