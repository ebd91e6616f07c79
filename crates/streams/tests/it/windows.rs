//! Windows, sessions, grace and suppression.

use std::sync::atomic::Ordering;

use headwater_model::partition;
use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, Produced, Query, Repartitioned, SessionQuery, SessionWindows,
    StreamsBuilder, TimeWindows, TopicPartition, TopologyError, TopologyTestDriver, WindowRangeQuery,
    session_windowed, time_windowed,
};

use crate::support::*;

fn windowed(windows: TimeWindows, size: u64) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by(windows)
        .reduce(|a, b| a + b, Materialized::named("sums").json())
        .to("out", Produced::with(time_windowed(string(), ms(size)), i64()));
    driver(builder)
}

fn sessioned(windows: SessionWindows) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by_session(windows)
        .count(Materialized::named("sessions").json())
        .to("out", Produced::with(session_windowed(string()), i64()));
    driver(builder)
}

#[test]
fn a_join_of_windows_is_final_when_both_sides_are() {
    let builder = StreamsBuilder::new("app");
    let grouped = builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let prompt = grouped.windowed_by(TimeWindows::of(ms(10))).count(Materialized::named("prompt"));
    let windows = TimeWindows::of(ms(10)).grace(ms(10));
    let patient = grouped.windowed_by(windows).count(Materialized::named("patient"));
    prompt
        .join(&patient, |prompt, patient| prompt * 100 + patient)
        .materialized(Materialized::with("joined", time_windowed(string(), ms(10)), i64()))
        .suppress_until_window_closes(None)
        .to("out", Produced::with(time_windowed(string(), ms(10)), i64()));
    let mut driver = driver(builder);
    for time in [1, 12, 5, 15, 25] {
        number(&mut driver, "in", "k", 0, time);
    }
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[0,10]=102@5"]);
}

#[test]
fn what_was_emitted_is_not_stepped_over_with_every_record() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), string()))
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(ms(10)))
        .count(Materialized::named("counts"))
        .suppress_until_window_closes(None)
        .to("out", Produced::with(time_windowed(string(), ms(10)), i64()));
    let mut task = Counting::new(builder);
    let written: usize = (0..500).map(|time| task.step(&["in"], "k", time)).sum();
    assert_eq!(written, 49);
    let from_the_start = task.asked.from_the_start.load(Ordering::Relaxed);
    assert!(from_the_start < 5, "{from_the_start} times from the start");
}

/// As Kafka Streams' `WindowedStreamPartitioner` has it, where a repartition topic goes by all bytes of the key.
#[test]
fn all_windows_of_a_key_lie_in_the_partition_of_the_key() {
    let builder = StreamsBuilder::new("app");
    let numbers = builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let windows = time_windowed(string(), ms(10));
    let sums = numbers.windowed_by(TimeWindows::of(ms(10))).count(Materialized::new()).to_stream();
    sums.to("windows", Produced::with(windows.clone(), nullable(i64())));
    sums.repartition(Repartitioned::with(windows.clone(), nullable(i64())).named("again"))
        .to("shared", Produced::with(windows, nullable(i64())));
    numbers
        .windowed_by_session(SessionWindows::with_gap(ms(1)))
        .count(Materialized::new())
        .to("sessions", Produced::with(session_windowed(string()), i64()));
    let count = |topic: &str| if topic == "in" { 2 } else { 7 };
    let mut driver = TopologyTestDriver::with_partitions(builder.build().unwrap(), &count).unwrap();
    let keys: Vec<String> = (0..9).map(|key| format!("k{key}")).collect();
    for (key, window) in keys.iter().flat_map(|key| (0..9).map(move |window| (key, window))) {
        number(&mut driver, "in", key, 1, window * 10);
    }
    let in_place = |topic: &str, tail: usize, partitions: i32| {
        let mut wrong = 0;
        for partition in 0..partitions {
            for record in driver.log(&TopicPartition::new(topic, partition)) {
                let key = record.key.as_ref().unwrap();
                let place = partition::for_key(&key[..key.len() - tail], partitions);
                wrong += usize::from(place != partition);
            }
        }
        wrong
    };
    assert_eq!([("windows", 8), ("sessions", 16)].map(|(topic, tail)| in_place(topic, tail, 7)), [0, 0]);
    assert_eq!(in_place("app-again-repartition", 0, 2), 0, "by all bytes");
    assert!(driver.log(&TopicPartition::new("windows", 0)).len() < 81);
}

#[test]
fn a_late_record_counts_until_stream_time_reaches_window_end_plus_grace_exactly() {
    let mut driver = windowed(TimeWindows::of(ms(10)).grace(ms(5)), 10);
    number(&mut driver, "in", "k", 1, 3);
    number(&mut driver, "in", "other", 1, 14);
    number(&mut driver, "in", "k", 2, 9);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[0,10]=1@3", "other[10,20]=1@14", "k[0,10]=3@9"]);
    number(&mut driver, "in", "other", 1, 15);
    number(&mut driver, "in", "k", 4, 9);
    assert_eq!(time_windows(&mut driver, "out", 10), ["other[10,20]=2@15"]);
    assert_eq!(driver.metrics().dropped_late, 1);
}

#[test]
fn a_window_keeps_the_highest_timestamp_it_saw() {
    let mut driver = windowed(TimeWindows::of(ms(10)), 10);
    number(&mut driver, "in", "k", 1, 8);
    number(&mut driver, "in", "k", 1, 2);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[0,10]=1@8", "k[0,10]=2@8"]);
}

#[test]
fn hopping_windows_overlap_and_close_one_by_one() {
    let mut driver = windowed(TimeWindows::of(ms(10)).advance(ms(5)), 10);
    number(&mut driver, "in", "k", 1, 7);
    number(&mut driver, "in", "k", 2, 12);
    assert_eq!(
        time_windows(&mut driver, "out", 10),
        ["k[0,10]=1@7", "k[5,15]=1@7", "k[5,15]=3@12", "k[10,20]=2@12"]
    );
    // [0,10] has closed at 12, [5,15] has not.
    number(&mut driver, "in", "k", 4, 9);
    assert_eq!(time_windows(&mut driver, "out", 10), ["k[5,15]=7@12"]);
    assert_eq!(driver.metrics().dropped_late, 1);
}

#[test]
fn windows_answer_queries_by_key_and_time_and_expire_after_their_retention() {
    let mut driver = windowed(TimeWindows::of(ms(60_000)), 60_000);
    for minute in 0..5 {
        number(&mut driver, "in", "a", minute, minute * 60_000);
        number(&mut driver, "in", "b", 1, minute * 60_000);
    }
    let query = |from, to, key: Option<&str>| {
        let key = key.map(str::to_owned);
        Query::WindowRange(WindowRangeQuery { key, from, to, limit: 100 })
    };
    let rows = driver.query("sums", &query(180_000, 240_000, Some("a"))).unwrap().unwrap();
    let seen: Vec<_> =
        rows.iter().map(|r| (r["start"].as_i64().unwrap(), r["value"].as_i64().unwrap())).collect();
    assert_eq!(seen, [(180_000, 3), (240_000, 4)]);
    assert_eq!(rows[0]["end"], 240_000);
    let keys = driver.query("sums", &query(240_000, 240_000, None)).unwrap().unwrap();
    assert_eq!(keys.iter().map(|r| r["key"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    // A retention of a minute with segments of a minute: the first windows are gone.
    let old = driver.query("sums", &query(0, 120_000, None)).unwrap().unwrap();
    assert!(old.is_empty(), "{old:?}");
}

#[test]
fn sessions_merge_and_the_merged_ones_get_tombstones() {
    let mut driver = sessioned(SessionWindows::with_gap(ms(10)).grace(ms(100)));
    number(&mut driver, "in", "k", 0, 0);
    number(&mut driver, "in", "k", 0, 20);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,0]=1@0", "k[20,20]=1@20"]);
    // Exactly one gap away from both.
    number(&mut driver, "in", "k", 0, 10);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,0]=-@0", "k[20,20]=-@20", "k[0,20]=3@20"]);
    number(&mut driver, "in", "k", 0, 31);
    assert_eq!(sessions(&mut driver, "out"), ["k[31,31]=1@31"]);
    number(&mut driver, "in", "k", 0, 5);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,20]=-@20", "k[0,20]=4@20"]);
    let query = Query::Session(SessionQuery { key: Some("k".to_owned()), from: 15, to: 18, limit: 9 });
    let rows = driver.query("sessions", &query).unwrap().unwrap();
    assert_eq!((rows.len(), rows[0]["start"].as_i64(), rows[0]["end"].as_i64()), (1, Some(0), Some(20)));
}

#[test]
fn a_session_closes_when_stream_time_is_past_end_gap_and_grace() {
    let mut driver = sessioned(SessionWindows::with_gap(ms(10)).grace(ms(5)));
    number(&mut driver, "in", "k", 0, 0);
    number(&mut driver, "in", "other", 0, 15);
    number(&mut driver, "in", "k", 0, 0);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,0]=1@0", "other[15,15]=1@15", "k[0,0]=1@0"]);
    number(&mut driver, "in", "other", 0, 16);
    number(&mut driver, "in", "late", 0, 0);
    assert_eq!(driver.metrics().dropped_late, 1);
    // Late by itself, but it extends an open session.
    number(&mut driver, "in", "other", 0, 5);
    assert_eq!(sessions(&mut driver, "out").last().unwrap(), "other[5,16]=3@16");
    assert_eq!(driver.metrics().dropped_late, 1);
}

#[test]
fn a_suppressed_window_comes_once_after_it_has_closed() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(ms(10)).grace(ms(5)))
        .count(Materialized::named("counts"))
        .suppress_until_window_closes(Some("final"))
        .to("out", Produced::with(time_windowed(string(), ms(10)), i64()));
    let mut driver = driver(builder);
    for (key, time) in [("a", 1), ("b", 2), ("a", 9), ("a", 12), ("b", 14)] {
        number(&mut driver, "in", key, 0, time);
    }
    assert!(time_windows(&mut driver, "out", 10).is_empty());
    driver.crash_and_wipe().unwrap();
    number(&mut driver, "in", "a", 0, 15);
    assert_eq!(time_windows(&mut driver, "out", 10), ["a[0,10]=2@9", "b[0,10]=1@2"]);
    number(&mut driver, "in", "a", 0, 16);
    assert!(time_windows(&mut driver, "out", 10).is_empty());
}

#[test]
fn windows_that_cannot_be_are_refused_by_name() {
    let builder = StreamsBuilder::new("app");
    let grouped = builder.stream("in", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let short = Materialized::named("short").retention(ms(5));
    grouped.windowed_by(TimeWindows::of(ms(10))).count(short);
    let error = builder.build().err().unwrap();
    assert!(matches!(&error, TopologyError::InvalidWindow { node, .. } if node == "short"), "{error}");
}
