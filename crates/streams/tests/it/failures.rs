//! Functions and processors that fail, and where their records go; duplicates.

use headwater_model::Record;
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Deduplicated, Grouped, Joined, KStream, Materialized, ProcessingHandler, ProcessingResponse,
    Processor, ProcessorContext, ProcessorError, Produced, SessionWindows, StreamsBuilder, TaskError,
    TimeWindows, TopologyTestDriver, session_windowed, time_windowed,
};
use proptest::prelude::*;

use crate::support::*;

/// Fails on what is no number; everything is counted first.
fn parsing(handler: ProcessingHandler) -> TopologyTestDriver {
    let mut builder = StreamsBuilder::new("app");
    builder.processing_handler(handler);
    builder.dead_letter_topic("chosen");
    let texts = builder.stream("in", Consumed::with(string(), string()));
    texts
        .group_by_key(Grouped::new())
        .count(Materialized::named("counts"))
        .to("counts", Produced::with(string(), i64()));
    texts
        .try_map_values(|text: String| text.parse::<i64>())
        .named("parse")
        .to("out", Produced::with(string(), i64()));
    driver(builder)
}

fn header(record: &Record, name: &str) -> Option<String> {
    let found = record.headers.iter().find(|header| header.key == format!("__streams.errors.{name}"))?;
    String::from_utf8(found.value.as_ref()?.to_vec()).ok()
}

#[test]
fn a_failure_stops_the_task_unless_the_handler_says_otherwise() {
    let mut failing = parsing(ProcessingHandler::Fail);
    let error =
        failing.pipe("in", (&string(), &string()), (&"k".to_owned(), &"one".to_owned()), 0).unwrap_err();
    assert!(matches!(&error, TaskError::Processor { node, .. } if node == "parse"), "{error}");

    let mut driver = parsing(ProcessingHandler::Continue);
    for value in ["1", "one", "2"] {
        text(&mut driver, "in", "k", value, 5);
    }
    assert_eq!(numbers(&mut driver, "out"), ["k=1@5", "k=2@5"]);
    // What came before the failure stays, as in Kafka Streams.
    assert_eq!(numbers(&mut driver, "counts"), ["k=1@5", "k=2@5", "k=3@5"]);
    assert_eq!(driver.metrics().processing_errors, 1);
}

#[test]
fn a_dead_letter_has_the_bytes_that_were_read_and_says_where_and_why() {
    let mut driver = parsing(ProcessingHandler::DeadLetter("dead".to_owned()));
    text(&mut driver, "in", "k", "1", 4);
    text(&mut driver, "in", "k", "one", 5);
    let letters = driver.read_output("dead");
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"k"[..]), Some(&b"one"[..])));
    assert_eq!(letter.timestamp, 5);
    assert_eq!(header(letter, "topic").as_deref(), Some("in"));
    assert_eq!((header(letter, "partition"), header(letter, "offset")), (Some("0".into()), Some("1".into())));
    assert!(header(letter, "exception").unwrap().contains("parse"));
    assert!(header(letter, "message").unwrap().contains("invalid digit"));
}

#[test]
fn a_function_chooses_by_what_it_is_told() {
    let mut driver = parsing(ProcessingHandler::choose(|failure| {
        assert_eq!((failure.node, failure.topic, failure.partition), ("parse", "in", 0));
        match failure.value.map(|value| &value[..]) {
            Some(b"skip") => ProcessingResponse::Continue,
            Some(b"keep") => ProcessingResponse::DeadLetter("chosen".to_owned()),
            _ => ProcessingResponse::Fail,
        }
    }));
    text(&mut driver, "in", "k", "skip", 1);
    text(&mut driver, "in", "k", "keep", 2);
    assert_eq!(driver.read_output("chosen").len(), 1);
    let stop = (&"k".to_owned(), &"stop".to_owned());
    assert!(driver.pipe("in", (&string(), &string()), stop, 3).is_err());
}

#[test]
fn a_function_of_many_results_may_fail_as_one_of_a_single_result() {
    let parse = |text: &str| text.split(' ').map(str::parse::<i64>).collect::<Result<Vec<_>, _>>();
    let mut builder = StreamsBuilder::new("app");
    builder.processing_handler(ProcessingHandler::Continue);
    let texts = builder.stream("in", Consumed::with(string(), string()));
    texts
        .flat_map_values_with_key(|key, text: String| [format!("{key}0"), text])
        .filter(|_, text| !text.starts_with('k'))
        .try_flat_map_values(move |text: String| parse(&text))
        .named("values")
        .to("values", Produced::with(string(), i64()));
    texts
        .try_flat_map(move |key, text: String| {
            let numbers = parse(&text)?;
            Ok::<_, std::num::ParseIntError>(numbers.into_iter().map(move |n| (format!("{key}{n}"), n)))
        })
        .named("pairs")
        .to("pairs", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    for value in ["1 2", "3 x", "4"] {
        text(&mut driver, "in", "k", value, 5);
    }
    assert_eq!(numbers(&mut driver, "values"), ["k=1@5", "k=2@5", "k=4@5"]);
    assert_eq!(numbers(&mut driver, "pairs"), ["k1=1@5", "k2=2@5", "k4=4@5"]);
    assert_eq!(driver.metrics().processing_errors, 2);
}

/// Fails on negative numbers, after it has forwarded them.
struct Fussy;

impl Processor<String, i64, String, i64> for Fussy {
    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        cx.forward(key, value)?;
        if value < 0 { Err("negative".into()) } else { Ok(()) }
    }
}

#[test]
fn a_processor_that_fails_is_asked_about_once_even_below_another_one() {
    let mut builder = StreamsBuilder::new("app");
    builder.processing_handler(ProcessingHandler::DeadLetter("dead".to_owned()));
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(|| Fussy, &[])
        .process(|| Fussy, &[])
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    number(&mut driver, "in", "k", -1, 0);
    number(&mut driver, "in", "k", 1, 0);
    assert_eq!(numbers(&mut driver, "out"), ["k=-1@0", "k=1@0"]);
    // The inner one's failure is over when the outer one fails itself.
    assert_eq!(driver.read_output("dead").len(), 2);
}

fn not_negative(sum: Option<i64>) -> Result<i64, &'static str> {
    sum.filter(|sum| *sum >= 0).ok_or("negative")
}

fn input(builder: &StreamsBuilder) -> KStream<String, i64> {
    builder.stream("in", Consumed::with(string(), i64()))
}

fn windows(builder: &StreamsBuilder) {
    input(builder)
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(ms(10)))
        .emit_on_close()
        .reduce(|a, b| a + b, Materialized::named("sums"))
        .to_stream()
        .try_map_values(not_negative)
        .to("out", Produced::with(time_windowed(string(), ms(10)), i64()));
}

fn suppressed_sessions(builder: &StreamsBuilder) {
    input(builder)
        .group_by_key(Grouped::new())
        .windowed_by_session(SessionWindows::with_gap(ms(10)))
        .reduce(|a, b| a + b, Materialized::named("sums"))
        .suppress_until_window_closes(Some("final"))
        .to_stream()
        .try_map_values(not_negative)
        .to("out", Produced::with(session_windowed(string()), i64()));
}

fn join_with_a_grace(builder: &StreamsBuilder, grace: u64) {
    let kept = Materialized::named("rows").versioned(ms(100));
    let table = builder.table("rows", Consumed::with(string(), i64()), kept);
    input(builder)
        .left_join(
            &table,
            |value, _: Option<&i64>| value,
            Joined::with(string(), i64()).named("later").grace(ms(grace)),
        )
        .try_map_values(|value: i64| not_negative(Some(value)))
        .to("out", Produced::with(string(), i64()));
}

/// The value and the offset in the only letter, after a record that fails and one for another key.
fn letter_of(build: &dyn Fn(&StreamsBuilder), second: i64) -> (Option<headwater_streams::Bytes>, String) {
    let mut builder = StreamsBuilder::new("app");
    builder.processing_handler(ProcessingHandler::DeadLetter("dead".to_owned()));
    build(&builder);
    let mut driver = driver(builder);
    number(&mut driver, "in", "k", -1, 0);
    number(&mut driver, "in", "other", 5, second);
    let mut letters = driver.read_output("dead");
    assert_eq!((letters.len(), driver.metrics().processing_errors), (1, 1));
    let letter = letters.remove(0);
    assert_eq!(letter.key.is_some(), letter.value.is_some());
    (letter.value.clone(), header(&letter, "offset").unwrap())
}

#[test]
fn a_letter_of_what_has_become_final_has_no_bytes_of_the_record_that_made_it_so() {
    let none = (None, "1".to_owned());
    assert_eq!(letter_of(&windows, 100), none);
    // The second closes the session before it comes, or, where it might have extended it, after.
    assert_eq!(letter_of(&suppressed_sessions, 100), none);
    assert_eq!(letter_of(&suppressed_sessions, 10), none);
    assert_eq!(letter_of(&|builder| join_with_a_grace(builder, 10), 100), none);
    // What need not wait is the record at hand.
    let (value, offset) = letter_of(&|builder| join_with_a_grace(builder, 0), 100);
    assert_eq!((value.as_deref(), &*offset), (Some(&(-1_i64).to_be_bytes()[..]), "0"));
}

const INTERVAL: i64 = 100;

fn once() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .deduplicate_by_id(
            |_, value| (*value > 0).then_some(*value),
            i64(),
            ms(INTERVAL as u64),
            Deduplicated::new().named("once"),
        )
        .to("out", Produced::with(string(), i64()));
    builder
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn only_the_first_of_an_id_within_the_interval_goes_on(
        records in prop::collection::vec((0..2_u8, 0..4_i64, 0..250_i64, 0..8_u8), 0..80)
    ) {
        let mut driver = driver(once());
        let (mut expected, mut now, mut dropped) = (Vec::new(), 0, 0);
        let mut seen: Vec<(u8, i64, i64)> = Vec::new();
        for (place, (key, id, late, crash)) in records.iter().enumerate() {
            if *crash == 0 {
                driver.crash_and_wipe().unwrap();
                dropped = 0;
            }
            let time = (place as i64 * 20 - late).max(0);
            number(&mut driver, "in", &format!("k{key}"), *id, time);
            now = now.max(time);
            let same = |(k, i, t): &(u8, i64, i64)| {
                k == key && i == id && *t >= now - INTERVAL && *t <= time + INTERVAL
            };
            if *id > 0 && seen.iter().any(same) {
                dropped += 1;
                continue;
            }
            if *id > 0 && time >= now - INTERVAL {
                seen.push((*key, *id, time));
            }
            expected.push(format!("k{key}={id}@{time}"));
        }
        prop_assert_eq!(numbers(&mut driver, "out"), expected);
        prop_assert_eq!(driver.metrics().dropped_duplicates, dropped);
    }
}
