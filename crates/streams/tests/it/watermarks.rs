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

/// Counts by value; windows are told when they close. `hops` repartition topics lie between.
fn driver(interval: Option<Duration>, hops: usize) -> TopologyTestDriver {
    let mut builder = StreamsBuilder::new("app");
    if let Some(interval) = interval {
        builder.watermark_interval(interval);
    }
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
