//! `watermark_interval`: what is final behind a repartition topic does not wait for a record in each of its partitions.

use std::time::Duration;

use headwater_model::partition;
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, TopologyTestDriver, time_windowed,
};

use crate::support::*;

const SIZE: u64 = 100;
const SECOND: Duration = Duration::from_secs(1);

fn driver(interval: Option<Duration>, hops: usize) -> TopologyTestDriver {
    let mut builder = StreamsBuilder::new("app");
    if let Some(interval) = interval {
        builder.watermark_interval(interval);
    }
    counting(builder, hops)
}

/// Counts by value; windows are told when they close. `hops` repartition topics lie between.
fn counting(builder: StreamsBuilder, hops: usize) -> TopologyTestDriver {
    let mut stream = builder.stream("in", Consumed::with(string(), i64()));
    for hop in 1..hops {
        let grouped = format!("hop{hop}");
        stream = stream
            .select_key(|_, group| format!("h{group}"))
            .repartition(headwater_streams::Repartitioned::with(string(), i64()).named(&grouped));
    }
    stream
        .group_by(|_, group| format!("g{group}"), Grouped::with(string(), i64()).named("by-group"))
        .windowed_by(TimeWindows::of(ms(SIZE)))
        .emit_on_close()
        .count(Materialized::named("counts"))
        .to("out", Produced::with(time_windowed(string(), ms(SIZE)), i64()));
    TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| 2).unwrap()
}

/// A key, or with `g` a group, that Kafka's partitioner sends to `lane` of two.
fn name_of(prefix: &str, lane: i32) -> (String, i64) {
    let mut names = (0..).map(|n| (format!("{prefix}{n}"), n));
    names.find(|(name, _)| partition::for_key(name.as_bytes(), 2) == lane).unwrap()
}

/// Windows of the group that were told so far: start and count.
fn told(driver: &mut TopologyTestDriver) -> Vec<(i64, i64)> {
    let read = driver.read("out", (&time_windowed(string(), ms(SIZE)), &i64()));
    read.into_iter().map(|(window, count, _)| (window.start, count.unwrap())).collect()
}

/// Each source partition writes to its own group only: neither group hears of the other partition's time by records.
fn feed(driver: &mut TopologyTestDriver, times: &[i64]) {
    for lane in [0, 1] {
        let (key, group) = (name_of("k", lane).0, name_of("g", lane).1);
        for time in times {
            number(driver, "in", &key, group, *time);
        }
    }
}

#[test]
fn a_window_closes_without_a_record_of_each_source_partition() {
    let mut silent = driver(None, 1);
    feed(&mut silent, &[10, 20, 300]);
    silent.advance_time(10 * SECOND).unwrap();
    assert_eq!(told(&mut silent), [], "nobody says that the other partition's time has come");

    let mut telling = driver(Some(SECOND), 1);
    feed(&mut telling, &[10, 20, 300]);
    telling.advance_time(2 * SECOND).unwrap();
    assert_eq!(told(&mut telling), [(0, 2), (0, 2)]);
    // What is said twice says nothing.
    telling.advance_time(10 * SECOND).unwrap();
    assert_eq!(told(&mut telling), []);
    feed(&mut telling, &[310, 500]);
    telling.advance_time(2 * SECOND).unwrap();
    assert_eq!(told(&mut telling), [(300, 2), (300, 2)]);
}

#[test]
fn the_time_goes_through_several_repartition_topics() {
    let mut driver = driver(Some(SECOND), 3);
    feed(&mut driver, &[10, 20, 300]);
    for _ in 0..3 {
        driver.advance_time(2 * SECOND).unwrap();
    }
    assert_eq!(told(&mut driver), [(0, 2), (0, 2)]);
}

#[test]
fn a_partition_that_stays_behind_holds_it_back_and_a_crash_changes_nothing() {
    let mut driver = driver(Some(SECOND), 1);
    feed(&mut driver, &[10]);
    let (key, group) = (name_of("k", 0).0, name_of("g", 0).1);
    number(&mut driver, "in", &key, group, 300);
    driver.advance_time(5 * SECOND).unwrap();
    assert_eq!(told(&mut driver), [], "the other source partition is at 10");
    driver.crash().unwrap();
    let (key, group) = (name_of("k", 1).0, name_of("g", 1).1);
    number(&mut driver, "in", &key, group, 400);
    driver.advance_time(5 * SECOND).unwrap();
    assert_eq!(told(&mut driver), [(0, 1), (0, 1)]);
}

/// Of two source partitions the first has records, of the first group; those of the second come later, or never.
fn idling(hops: usize) -> (TopologyTestDriver, impl Fn(&mut TopologyTestDriver, i32, i64)) {
    let mut builder = StreamsBuilder::new("app");
    builder.watermark_interval(SECOND).watermark_idleness(5 * SECOND);
    let pipe = |driver: &mut TopologyTestDriver, lane: i32, time: i64| {
        number(driver, "in", &name_of("k", lane).0, name_of("g", 0).1, time);
    };
    let mut driver = counting(builder, hops);
    [10, 20, 300].into_iter().for_each(|time| pipe(&mut driver, 0, time));
    driver.advance_time(4 * SECOND).unwrap();
    pipe(&mut driver, 0, 310);
    assert_eq!(told(&mut driver), [], "nobody has heard of the other partition");
    for _ in 0..hops {
        driver.advance_time(2 * SECOND / u32::try_from(hops).unwrap()).unwrap();
    }
    (driver, pipe)
}

#[test]
fn an_idle_partition_is_not_waited_for_until_it_has_records_again() {
    let (mut driver, pipe) = idling(1);
    assert_eq!(told(&mut driver), [(0, 2)]);
    // What was told takes no more records.
    pipe(&mut driver, 1, 50);
    assert_eq!(driver.metrics().dropped_late, 1);
    pipe(&mut driver, 1, 320);
    pipe(&mut driver, 0, 500);
    assert_eq!(told(&mut driver), [], "it is waited for");
    pipe(&mut driver, 1, 600);
    assert_eq!(told(&mut driver), [(300, 3)]);
}

#[test]
fn who_starts_again_knows_which_partitions_are_idle() {
    let (mut driver, pipe) = idling(1);
    assert_eq!(told(&mut driver), [(0, 2)]);
    driver.crash().unwrap();
    pipe(&mut driver, 0, 450);
    assert_eq!(told(&mut driver), [(300, 2)]);
}

#[test]
fn that_a_partition_is_idle_goes_through_several_repartition_topics() {
    let (mut driver, _) = idling(2);
    assert_eq!(told(&mut driver), [(0, 2)]);
}

#[test]
fn of_several_topics_one_that_is_idle_is_not_waited_for() {
    let mut builder = StreamsBuilder::new("app");
    builder.watermark_idleness(5 * SECOND);
    builder
        .stream_of_topics(&["busy", "silent"], Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(ms(SIZE)))
        .emit_on_close()
        .count(Materialized::named("counts"))
        .to("out", Produced::with(time_windowed(string(), ms(SIZE)), i64()));
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    number(&mut driver, "busy", "k", 0, 10);
    driver.advance_time(4 * SECOND).unwrap();
    number(&mut driver, "busy", "k", 0, 310);
    assert_eq!(told(&mut driver), []);
    driver.advance_time(2 * SECOND).unwrap();
    assert_eq!(told(&mut driver), [(0, 1)]);
    number(&mut driver, "silent", "k", 0, 50);
    number(&mut driver, "silent", "k", 0, 320);
    assert_eq!(driver.metrics().dropped_late, 1);
    number(&mut driver, "busy", "k", 0, 500);
    assert_eq!(told(&mut driver), [], "it is waited for again");
    number(&mut driver, "silent", "k", 0, 500);
    assert_eq!(told(&mut driver), [(300, 2)]);
}
