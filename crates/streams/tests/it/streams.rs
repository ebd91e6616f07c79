//! Stateless operators, branching, repartitioning, bad input.

use headwater_model::{Bytes, Header, Record};
use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, DeserializationHandler, Grouped, Materialized, ProcessingHandler, ProcessingResponse, Produced,
    Repartitioned, StreamsBuilder, TaskError, TopicPartition, TopologyError, TopologyTestDriver,
};

use crate::support::*;

fn strings() -> Consumed<String, String> {
    Consumed::with(string(), string())
}

fn out() -> Produced<String, String> {
    Produced::with(string(), string())
}

#[test]
fn stateless_operators_run_in_order_and_keep_time() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", strings())
        .filter(|_, value| !value.is_empty())
        .filter_not(|key, _| key == "skip")
        .map_values(|value| value.to_uppercase())
        .flat_map_values(|value| value.chars().map(|c| c.to_string()).collect::<Vec<_>>())
        .map(|key, value| (format!("{key}!"), value))
        .to("out", out());
    let mut driver = driver(builder);
    text(&mut driver, "in", "a", "xy", 7);
    text(&mut driver, "in", "a", "", 8);
    text(&mut driver, "in", "skip", "z", 9);
    assert_eq!(texts(&mut driver, "out"), ["a!=X@7", "a!=Y@7"]);
}

#[test]
fn a_new_timestamp_is_what_follows_sees_and_a_negative_one_skips_the_record() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .with_timestamp(|_, v| *v)
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "in", "k", 7, 100);
    number(&mut driver, "in", "k", -1, 101);
    assert_eq!(numbers(&mut driver, "out"), ["k=7@7"]);
    assert_eq!(driver.metrics().skipped_invalid_timestamp, 1);
}

#[test]
fn a_record_takes_the_first_branch_that_wants_it_and_the_last_one_takes_the_rest() {
    let builder = StreamsBuilder::new("app");
    let branches = builder.stream("in", strings()).split(vec![
        Box::new(|_, value: &String| value.len() > 2),
        Box::new(|_, value: &String| value.len() > 1),
    ]);
    for (branch, topic) in branches.iter().zip(["long", "middle", "rest"]) {
        branch.to(topic, out());
    }
    branches[0].merge(&branches[2]).to("merged", out());
    let mut driver = driver(builder);
    for value in ["aaa", "bb", "c"] {
        text(&mut driver, "in", "k", value, 0);
    }
    assert_eq!(texts(&mut driver, "long"), ["k=aaa@0"]);
    assert_eq!(texts(&mut driver, "middle"), ["k=bb@0"]);
    assert_eq!(texts(&mut driver, "rest"), ["k=c@0"]);
    assert_eq!(texts(&mut driver, "merged"), ["k=aaa@0", "k=c@0"]);
}

#[test]
fn headers_travel_to_sinks_through_repartition_topics() {
    let builder = StreamsBuilder::new("app");
    let options = Repartitioned::with(string(), string()).named("again");
    builder.stream("in", strings()).select_key(|_, v| v.clone()).repartition(options).to("out", out());
    let mut driver = driver(builder);
    let headers = vec![Header { key: "trace".to_owned(), value: Some(Bytes::from_static(b"1")) }];
    let record = Record {
        key: Some("k".into()),
        value: Some("v".into()),
        headers: headers.clone(),
        ..Record::default()
    };
    driver.pipe_record("in", record).unwrap();
    assert_eq!(driver.internal_topics()[0].name, "app-again-repartition");
    let sent = driver.read_output("out");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].headers, headers);
    assert_eq!(sent[0].key.as_deref(), Some(&b"v"[..]));
}

#[test]
fn nulls_are_skipped_and_counted_unless_the_serde_knows_them() {
    let builder = StreamsBuilder::new("app");
    builder.stream("plain", strings()).to("out", out());
    let open = Consumed::with(nullable(string()), nullable(string()));
    builder.stream("open", open).to("both", Produced::with(nullable(string()), nullable(string())));
    let open = Consumed::with(nullable(string()), string());
    builder
        .stream("counted", open)
        .group_by_key(Grouped::new())
        .count(Materialized::named("counts"))
        .to("counts", Produced::with(nullable(string()), i64()));
    let mut driver = driver(builder);
    driver.pipe_input("plain", None, Some("v".into()), 0).unwrap();
    driver.pipe_input("plain", Some("k".into()), None, 0).unwrap();
    assert_eq!(driver.read_output("out").len(), 0);
    assert_eq!(driver.metrics().skipped_null_key, 1);
    assert_eq!(driver.metrics().skipped_null_value, 1);
    driver.pipe_input("open", None, None, 0).unwrap();
    let both = driver.read_output("both");
    assert_eq!((both.len(), both[0].key.clone(), both[0].value.clone()), (1, None, None));
    driver.pipe_input("counted", None, Some("v".into()), 0).unwrap();
    driver.pipe_input("counted", Some("k".into()), Some("v".into()), 0).unwrap();
    assert_eq!(numbers(&mut driver, "counts"), ["k=1@0"]);
    assert_eq!(driver.metrics().skipped_null_key, 2);
}

#[test]
fn a_record_that_does_not_decode_is_left_out_and_counted_where_that_is_the_rule() {
    let mut builder = StreamsBuilder::new("app");
    builder.deserialization_handler(DeserializationHandler::Continue);
    builder.stream("in", Consumed::with(string(), i64())).to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    driver.pipe_input("in", Some("k".into()), Some("bad".into()), 0).unwrap();
    number(&mut driver, "in", "k", 1, 1);
    assert_eq!(numbers(&mut driver, "out"), ["k=1@1"]);
    assert_eq!(driver.metrics().deserialization_errors, 1);
}

#[test]
fn a_record_that_does_not_decode_goes_to_the_dead_letters_and_the_rest_flows() {
    let mut builder = StreamsBuilder::new("app");
    builder.deserialization_handler(DeserializationHandler::DeadLetter("dead".to_owned()));
    builder.stream("in", Consumed::with(string(), i64())).to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    let original = vec![Header { key: "h".to_owned(), value: None }];
    let bad = Record {
        timestamp: 5,
        key: Some("k".into()),
        value: Some("bad".into()),
        headers: original,
        offset: 0,
    };
    driver.pipe_record("in", bad).unwrap();
    number(&mut driver, "in", "k", 1, 6);
    assert_eq!(numbers(&mut driver, "out"), ["k=1@6"]);
    let dead = driver.read_output("dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"bad"[..]));
    assert_eq!(dead[0].timestamp, 5);
    let keys: Vec<&str> = dead[0].headers.iter().map(|h| h.key.as_str()).collect();
    let error = |name: &str| format!("__streams.errors.{name}");
    let names = ["exception", "message", "topic", "partition", "offset"].map(error);
    assert_eq!((keys[0], &keys[1..]), ("h", &names.each_ref().map(String::as_str)[..]));
    assert_eq!(dead[0].headers[5].value.as_deref(), Some(&b"0"[..]));
    assert_eq!(driver.metrics().deserialization_errors, 1);
}

#[test]
fn a_function_chooses_what_becomes_of_a_record_that_does_not_decode_by_what_it_is_told() {
    let mut builder = StreamsBuilder::new("app");
    let choose = DeserializationHandler::choose(|failure| {
        assert_eq!((failure.what, failure.topic, failure.partition), ("value", "in", 0));
        assert!(failure.node.starts_with("KSTREAM-SOURCE") && !failure.message.is_empty());
        match failure.record.value.as_deref() {
            Some(b"skip") => ProcessingResponse::Continue,
            Some(b"keep") => ProcessingResponse::DeadLetter("dead".to_owned()),
            _ => ProcessingResponse::Fail,
        }
    });
    assert!(choose == choose.clone() && choose != DeserializationHandler::Continue);
    builder.deserialization_handler(choose).dead_letter_topic("dead");
    builder.stream("in", Consumed::with(string(), i64())).to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    for (value, time) in [("skip", 1), ("keep", 2)] {
        driver.pipe_input("in", Some("k".into()), Some(value.into()), time).unwrap();
    }
    number(&mut driver, "in", "k", 7, 3);
    assert_eq!(numbers(&mut driver, "out"), ["k=7@3"]);
    let dead = driver.read_output("dead");
    assert_eq!((dead.len(), dead[0].timestamp, dead[0].value.as_deref()), (1, 2, Some(&b"keep"[..])));
    assert_eq!(driver.metrics().deserialization_errors, 2);
    let error = driver.pipe_input("in", Some("k".into()), Some("stop".into()), 4).unwrap_err();
    assert!(matches!(&error, TaskError::Deserialize { offset: 3, what: "value", .. }), "{error}");
}

#[test]
fn without_a_handler_a_record_that_does_not_decode_stops_the_task() {
    let builder = StreamsBuilder::new("app");
    builder.stream("in", Consumed::with(string(), i64())).to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    let error = driver.pipe_input("in", Some("k".into()), Some("bad".into()), 0).unwrap_err();
    assert!(matches!(&error, TaskError::Deserialize { topic, offset: 0, .. } if topic == "in"), "{error}");
}

#[test]
fn event_time_comes_from_the_extractor_and_negative_times_are_skipped() {
    let builder = StreamsBuilder::new("app");
    let consumed = Consumed::with(string(), i64()).timestamp_extractor(|_, value, _| *value);
    builder.stream("in", consumed).to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "in", "k", 42, 1);
    number(&mut driver, "in", "k", -1, 1);
    assert_eq!(numbers(&mut driver, "out"), ["k=42@42"]);
    assert_eq!(driver.metrics().skipped_invalid_timestamp, 1);
}

#[test]
fn a_changed_key_is_counted_in_its_own_partition() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", strings())
        .group_by(|_, value| value.clone(), Grouped::with(string(), string()))
        .count(Materialized::named("counts").json())
        .to("out", Produced::with(string(), i64()));
    let mut driver = TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| 4).unwrap();
    assert_eq!(driver.internal_topics()[0].name, "app-counts-repartition");
    assert_eq!(driver.internal_topics()[0].partitions, 4);
    for n in 0..40 {
        text(&mut driver, "in", &format!("k{n}"), &format!("v{}", n % 3), n);
    }
    let rows = driver.read("out", (&string(), &i64()));
    for (value, expected) in [("v0", 14), ("v1", 13), ("v2", 13)] {
        let last = rows.iter().rfind(|(key, ..)| key == value).unwrap();
        assert_eq!(last.1, Some(expected), "{value}");
    }
}

/// How many records each of three partitions of a topic has.
fn lying(driver: &TopologyTestDriver, topic: &str) -> [usize; 3] {
    [0, 1, 2].map(|partition| driver.log(&TopicPartition::new(topic, partition)).len())
}

#[test]
fn a_partitioner_chooses_by_key_value_and_number_and_is_asked_about_tombstones_too() {
    let by_length = |_: &String, value: Option<&String>, partitions: i32| {
        value.map_or(partitions - 1, |value| value.len() as i32 - 1)
    };
    let mut builder = StreamsBuilder::new("app");
    builder.processing_handler(ProcessingHandler::Continue);
    builder.stream("in", strings()).to("out", out().partitioner(by_length));
    let rows = builder.table("rows", strings(), Materialized::named("rows"));
    rows.to("changes", out().partitioner(by_length));
    let mut driver = TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| 3).unwrap();
    for value in ["a", "b", "bb", "far too long"] {
        text(&mut driver, "in", "k", value, 0);
    }
    // The last one has no partition to go to.
    assert_eq!((lying(&driver, "out"), driver.metrics().processing_errors), ([2, 1, 0], 1));
    text(&mut driver, "rows", "k", "a", 0);
    tombstone(&mut driver, "rows", "k", 1);
    assert_eq!(lying(&driver, "changes"), [1, 0, 1]);
}

#[test]
fn a_partition_that_there_is_not_fails_the_sink_and_says_how_many_there_are() {
    let builder = StreamsBuilder::new("app");
    builder.stream("in", strings()).to("out", out().named("far").partitioner(|_, _, partitions| partitions));
    let mut driver = driver(builder);
    let error = driver.pipe("in", (&string(), &string()), (&"k".to_owned(), &"v".to_owned()), 0).unwrap_err();
    let TaskError::Processor { node, message } = &error else { panic!("{error}") };
    assert!(node == "far" && message.contains("partition 1 of topic \"out\", which has 1"), "{error}");
}

#[test]
fn each_record_may_choose_its_topic_with_its_headers_and_its_time() {
    let builder = StreamsBuilder::new("app");
    builder.stream("in", strings()).to_chosen(|_, value| format!("to-{value}"), out().named("chosen"));
    let topology = builder.build().unwrap();
    assert!(topology.describe().to_string().contains("Sink: chosen (topic: as each record says)"));
    assert!(topology.sink_topics().is_empty());
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    let headers = vec![Header { key: "trace".to_owned(), value: Some(Bytes::from("7")) }];
    let (key, value) = (Some(Bytes::from("k")), Some(Bytes::from("a")));
    let record = Record { timestamp: 5, key, value, headers: headers.clone(), ..Record::default() };
    driver.pipe_record("in", record).unwrap();
    text(&mut driver, "in", "k", "b", 6);
    let sent = driver.read_output("to-a");
    assert_eq!((sent.len(), sent[0].timestamp, &sent[0].headers), (1, 5, &headers));
    assert_eq!(texts(&mut driver, "to-b"), ["k=b@6"]);

    let builder = StreamsBuilder::new("app");
    let produced = out().partitioner(|_, _, _| 0);
    builder.stream("in", strings()).to_chosen(|_, value| value.clone(), produced);
    let error = builder.build().err().unwrap();
    assert!(matches!(&error, TopologyError::InvalidWindow { .. }), "{error}");
    assert!(error.to_string().contains("Produced::partitioner"), "{error}");
}
