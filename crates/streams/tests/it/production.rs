//! Records that cannot be written: left out or made dead letters as a handler says, and only those.

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Bytes, Consumed, DeadLetter, Grouped, Materialized, Produced, ProductionHandler, ProductionProblem,
    ProductionResponse, RefusedOutput, Serde, SerdeError, SerdeRef, StreamsBuilder, TaskError, Topology,
    TopologyTestDriver,
};
use std::sync::{Arc, Mutex};

/// Texts but one.
struct Picky;

impl Serde<String> for Picky {
    fn serialize(&self, _: &str, value: &String) -> Result<Bytes, SerdeError> {
        match value.as_str() {
            "unspeakable" => Err(SerdeError::new("no bytes for that")),
            text => Ok(Bytes::from(text.to_owned())),
        }
    }

    fn deserialize(&self, _: &str, bytes: &Bytes) -> Result<String, SerdeError> {
        String::from_utf8(bytes.to_vec()).map_err(|error| SerdeError::new(error.to_string()))
    }
}

fn picky() -> SerdeRef<String> {
    Arc::new(Picky)
}

/// Copies texts, and counts them by themselves.
fn topology(handler: ProductionHandler) -> Topology {
    let mut builder = StreamsBuilder::new("copies");
    builder.production_handler(handler).dead_letter_topic("unsent");
    let texts = builder.stream("texts", Consumed::with(string(), string()));
    texts.to("copies", Produced::with(string(), picky()).named("copy"));
    texts
        .group_by(|_, text| text.clone(), Grouped::with(picky(), string()).named("by-text"))
        .count(Materialized::named("counts"))
        .to("counts", Produced::with(string(), i64()));
    builder.build().unwrap()
}

fn pipe(driver: &mut TopologyTestDriver, text: &str) -> Result<(), TaskError> {
    driver.pipe("texts", (&string(), &string()), (&"k".to_owned(), &text.to_owned()), 7)
}

fn values(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    let read = driver.read_output(topic).into_iter();
    read.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn without_a_handler_the_task_fails_and_says_which_record_of_which_sink_it_was() {
    let mut driver = TopologyTestDriver::new(topology(ProductionHandler::Fail)).unwrap();
    let error = pipe(&mut driver, "unspeakable").unwrap_err();
    assert!(matches!(&error, TaskError::Serialize { node, .. } if node == "copy"), "{error}");
}

#[test]
fn what_has_no_bytes_is_a_dead_letter_of_the_record_that_was_read_and_the_rest_flows() {
    let handler = ProductionHandler::DeadLetter("unsent".to_owned());
    let mut driver = TopologyTestDriver::new(topology(handler)).unwrap();
    for text in ["a", "unspeakable", "b"] {
        pipe(&mut driver, text).unwrap();
    }
    assert_eq!(values(&mut driver, "copies"), ["a", "b"]);
    let letters = driver.read_output("unsent");
    assert_eq!(letters.len(), 2, "of the sink, and of the repartition topic");
    let letter = DeadLetter::read(&letters[0]).unwrap();
    assert_eq!((letter.topic.as_str(), letter.partition, letter.offset), ("texts", 0, 1));
    assert_eq!(letter.exception, "SerializationError in copy");
    assert_eq!(letters[0].value.as_deref(), Some(&b"unspeakable"[..]));
    assert_eq!(driver.metrics().production_errors, 2);
}

#[test]
fn what_is_too_large_for_its_topic_is_known_to_the_byte_before_it_is_sent() {
    let mut driver = TopologyTestDriver::new(topology(ProductionHandler::Continue)).unwrap();
    // 61 of the batch; of the record two for its length, three of its own, one each for the lengths of key and headers, two
    // for that of the value; then key and value.
    driver.max_message_bytes("copies", 61 + 9 + 1 + 100);
    for length in [100, 101, 99] {
        pipe(&mut driver, &"x".repeat(length)).unwrap();
    }
    let lengths: Vec<usize> = values(&mut driver, "copies").iter().map(String::len).collect();
    assert_eq!(lengths, [100, 99]);
    assert_eq!(driver.read_output("counts").len(), 3, "what is fit for another topic goes there");
}

#[test]
fn a_record_that_the_broker_refused_is_decided_about_when_it_comes_again() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let handler = ProductionHandler::choose(move |failure| {
        heard.lock().unwrap().push((failure.target.to_owned(), failure.offset, failure.problem.clone()));
        match failure.value.is_some_and(|value| **value == *b"bad") {
            true => ProductionResponse::DeadLetter("unsent".to_owned()),
            false => ProductionResponse::Fail,
        }
    });
    let mut driver = TopologyTestDriver::new(topology(handler)).unwrap();
    driver.refuse(RefusedOutput {
        topic: "copies".to_owned(),
        timestamp: 7,
        key: Some(Bytes::from("k")),
        value: Some(Bytes::from("bad")),
        error: "InvalidRecord".to_owned(),
        message: "no schema has it".to_owned(),
    });
    for text in ["good", "bad"] {
        pipe(&mut driver, text).unwrap();
    }
    assert_eq!(values(&mut driver, "copies"), ["good"]);
    let letter = DeadLetter::read(&driver.read_output("unsent")[0]).unwrap();
    assert_eq!(letter.exception, "InvalidRecord in copy");
    assert!(letter.message.contains("no schema has it"), "{letter:?}");
    let problem = ProductionProblem::Refused {
        error: "InvalidRecord".to_owned(),
        message: "no schema has it".to_owned(),
    };
    assert_eq!(*asked.lock().unwrap(), [("copies".to_owned(), 1, problem)]);
    let error = pipe(&mut driver, "unspeakable").unwrap_err();
    assert!(matches!(error, TaskError::Serialize { .. }), "{error}");
}
