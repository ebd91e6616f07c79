//! Answers that `cargo xtask differential` found to differ from Kafka Streams' once.

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, Grouped, JoinWindows, Joined, Materialized, Produced, Repartitioned, SessionWindows,
    StreamJoined, StreamsBuilder, TableJoined, TopologyTestDriver, session_windowed,
};

use crate::support::{driver, ms, number, sessions, text, texts, tombstone};

fn repartitioned(left_join: bool) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    let keys = nullable(string());
    let rows = builder.table("rows", Consumed::with(keys.clone(), string()), Materialized::new());
    let stream = builder.stream("in", Consumed::with(keys.clone(), string()));
    let through = stream.repartition(Repartitioned::with(keys.clone(), string()).named("through"));
    through.to("out", Produced::with(keys.clone(), string()));
    if left_join {
        through.left_join(&rows, |value, _| value, Joined::with(keys, string()));
    } else {
        through.join(&rows, |value, _| value, Joined::with(keys, string()));
    }
    driver(builder)
}

/// KIP-962.
#[test]
fn null_keys_go_through_a_repartition_topic_only_for_a_left_join() {
    for (left_join, expected) in [(true, 1), (false, 0)] {
        let mut driver = repartitioned(left_join);
        driver.pipe_input("in", None, Some("v".into()), 1).unwrap();
        assert_eq!(driver.read_output("out").len(), expected);
        assert_eq!(driver.metrics().skipped_null_key, u64::from(!left_join));
    }
}

#[test]
fn a_foreign_key_result_has_the_time_of_the_change_and_a_deletion_that_of_the_later_row() {
    let builder = StreamsBuilder::new("app");
    let table = |topic| builder.table(topic, Consumed::with(string(), string()), Materialized::new());
    let (left, right) = (table("left"), table("right"));
    let foreign = |_: &String, value: &String| Some(value.clone());
    left.join_foreign(&right, foreign, |left, right| format!("{left}{right}"), TableJoined::new())
        .to("out", Produced::with(string(), string()));
    let mut driver = driver(builder);
    text(&mut driver, "right", "f", "1", 50);
    text(&mut driver, "left", "k", "f", 20);
    text(&mut driver, "right", "f", "2", 10);
    text(&mut driver, "right", "f", "3", 60);
    tombstone(&mut driver, "left", "k", 30);
    assert_eq!(texts(&mut driver, "out"), ["k=f1@50", "k=f2@10", "k=f3@60", "k=-@60"]);
}

fn last_sessions() -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by_session(SessionWindows::with_gap(ms(10)).grace(ms(5)))
        .count(Materialized::new())
        .suppress_until_window_closes(None)
        .to("out", Produced::with(session_windowed(string()), i64()));
    driver(builder)
}

#[test]
fn the_last_result_of_a_session_comes_after_gap_and_grace_and_once() {
    let mut driver = last_sessions();
    number(&mut driver, "in", "k", 0, 0);
    number(&mut driver, "in", "other", 0, 14);
    assert!(sessions(&mut driver, "out").is_empty());
    number(&mut driver, "in", "other", 0, 15);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,0]=1@0"]);
    // In time for a session of its own, but not for the one that has closed.
    number(&mut driver, "in", "k", 0, 5);
    number(&mut driver, "in", "other", 0, 100);
    assert_eq!(sessions(&mut driver, "out"), ["k[5,5]=1@5", "other[14,15]=2@15"]);
}

/// The record that closes a session may extend it.
#[test]
fn a_session_that_is_extended_by_the_record_that_closes_it_has_no_last_result_yet() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by_session(SessionWindows::with_gap(ms(10)))
        .count(Materialized::new())
        .suppress_until_window_closes(None)
        .to("out", Produced::with(session_windowed(string()), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "in", "k", 0, 0);
    number(&mut driver, "in", "k", 0, 10);
    assert!(sessions(&mut driver, "out").is_empty());
    number(&mut driver, "in", "k", 0, 21);
    assert_eq!(sessions(&mut driver, "out"), ["k[0,10]=2@10"]);
}

#[test]
fn unmatched_records_of_one_time_come_right_side_first() {
    let builder = StreamsBuilder::new("app");
    let stream = builder.stream("in", Consumed::with(string(), string()));
    let left = stream.filter(|_, value| value.starts_with('l'));
    let right = stream.filter(|_, value| value.starts_with('r'));
    let pair = |left: Option<&String>, right: Option<&String>| format!("{left:?}{right:?}").len().to_string();
    let serdes = StreamJoined::with(string(), string(), string());
    left.outer_join_stream(&right, pair, JoinWindows::of(ms(10)), serdes)
        .to("out", Produced::with(string(), string()));
    let mut driver = driver(builder);
    text(&mut driver, "in", "a", "l", 0);
    text(&mut driver, "in", "b", "r", 0);
    text(&mut driver, "in", "c", "l", 50);
    let keys: Vec<String> = texts(&mut driver, "out").into_iter().map(|row| row[..1].to_owned()).collect();
    assert_eq!(keys, ["b", "a"]);
}
