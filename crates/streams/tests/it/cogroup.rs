//! Several streams, of different types, aggregated into one table.

use std::collections::BTreeMap;

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    CogroupedKStream, Consumed, Grouped, KeyQuery, Materialized, Produced, Query, SessionWindows,
    SlidingWindows, StreamsBuilder, TimeWindows, TopologyError, TopologyTestDriver, session_windowed,
    time_windowed,
};
use proptest::prelude::*;

use crate::support::*;

/// Numbers count as they are, texts by their length; the texts are grouped anew.
fn cogrouped(builder: &StreamsBuilder) -> CogroupedKStream<String, i64> {
    let numbers = builder.stream("numbers", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let texts = builder
        .stream("texts", Consumed::with(string(), string()))
        .group_by(|key, _| key.to_lowercase(), Grouped::with(string(), string()).named("texts"));
    numbers
        .cogroup(|_, number, sum: i64| sum + number)
        .cogroup(&texts, |_, text: String, sum| sum + text.len() as i64)
}

fn kept(name: &str) -> Materialized<String, i64> {
    Materialized::named(name).value_serde(i64()).json()
}

fn everything() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let cogrouped = cogrouped(&builder);
    cogrouped.aggregate(|| 0, kept("sums")).to("sums", Produced::with(string(), i64()));
    builder
}

#[derive(Debug, Clone)]
enum Step {
    Number(u8, i64),
    Text(u8, usize),
    Commit,
    Crash,
    Wipe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..5_u8, 0..100_i64).prop_map(|(key, number)| Step::Number(key, number)),
        4 => (0..5_u8, 0..20_usize).prop_map(|(key, length)| Step::Text(key, length)),
        2 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Wipe),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_aggregate_is_the_sum_over_all_streams_also_after_crashes(steps in steps()) {
        let mut driver = TopologyTestDriver::with_partitions(everything().build().unwrap(), &|_| 3).unwrap();
        driver.manual_commit();
        let mut expected = BTreeMap::new();
        for (time, step) in steps.iter().enumerate() {
            match step {
                Step::Number(key, number_) => {
                    number(&mut driver, "numbers", &format!("k{key}"), *number_, time as i64);
                    *expected.entry(format!("k{key}")).or_insert(0) += number_;
                }
                Step::Text(key, length) => {
                    text(&mut driver, "texts", &format!("K{key}"), &"x".repeat(*length), time as i64);
                    *expected.entry(format!("k{key}")).or_insert(0) += *length as i64;
                }
                Step::Commit => driver.commit().unwrap(),
                Step::Crash => driver.crash().unwrap(),
                Step::Wipe => driver.crash_and_wipe().unwrap(),
            }
        }
        for _ in 0..3 {
            driver.commit().unwrap();
        }
        let rows = driver.read("sums", (&string(), &i64()));
        let found: BTreeMap<_, _> = rows.into_iter().filter_map(|(key, sum, _)| Some((key, sum?))).collect();
        prop_assert_eq!(&found, &expected);
        for (key, sum) in expected {
            let row = driver.query("sums", &Query::Key(KeyQuery { key })).unwrap().unwrap();
            prop_assert_eq!(row[0]["value"].as_i64(), Some(sum));
        }
    }
}

#[test]
fn cogrouped_streams_are_windowed_in_every_way() {
    let builder = StreamsBuilder::new("app");
    let cogrouped = cogrouped(&builder);
    let size = ms(10);
    let grace = ms(100);
    let out = || Produced::with(time_windowed(string(), size), i64());
    cogrouped
        .windowed_by(TimeWindows::of(size).grace(grace))
        .aggregate(|| 0, kept("tumbling"))
        .to("tumbling", out());
    cogrouped
        .windowed_by_sliding(SlidingWindows::of_time_difference_and_grace(size, grace))
        .aggregate(|| 0, kept("sliding"))
        .to("sliding", out());
    cogrouped
        .windowed_by_session(SessionWindows::with_gap(size).grace(grace))
        .aggregate(|| 0, |_, a, b| a + b, kept("sessions"))
        .to("sessions", Produced::with(session_windowed(string()), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "numbers", "k", 1, 12);
    text(&mut driver, "texts", "K", "abc", 18);
    assert_eq!(time_windows(&mut driver, "tumbling", 10), ["k[10,20]=1@12", "k[10,20]=4@18"]);
    let sliding = time_windows(&mut driver, "sliding", 10);
    assert_eq!(sliding, ["k[2,12]=1@12", "k[13,23]=3@18", "k[8,18]=4@18"]);
    assert_eq!(sessions(&mut driver, "sessions"), ["k[12,12]=1@12", "k[12,12]=-@12", "k[12,18]=4@18"]);
}

#[test]
fn names_are_kafka_streams_and_one_repartition_topic_serves_all_aggregates() {
    let topology = everything().build().unwrap();
    let text = topology.describe().to_string();
    assert!(text.contains("COGROUPKSTREAM-AGGREGATE-") && text.contains("COGROUPKSTREAM-MERGE-"), "{text}");
    let topics = topology.internal_topics(&|_| Some(4)).unwrap();
    let names: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["app-texts-repartition", "app-sums-changelog"]);
    assert!(topics.iter().all(|topic| topic.partitions == 4));
}

#[test]
fn streams_that_are_not_copartitioned_are_refused() {
    let builder = StreamsBuilder::new("app");
    let stream =
        |topic: &str| builder.stream(topic, Consumed::with(string(), i64())).group_by_key(Grouped::new());
    let sum = |_: &String, value: i64, sum: i64| sum + value;
    stream("a").cogroup(sum).cogroup(&stream("b"), sum).aggregate(|| 0, kept("sums"));
    let topology = builder.build().unwrap();
    let error = topology.internal_topics(&|topic| Some(if topic == "a" { 2 } else { 3 })).err().unwrap();
    assert!(matches!(error, TopologyError::NotCopartitioned { .. }), "{error}");
}
