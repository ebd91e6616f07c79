//! The processor API: stores, forwarding, punctuations.

mod support;

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Materialized, Processor, ProcessorContext, ProcessorError, Produced, PunctuationType,
    ScheduleId, StateStore, StreamsBuilder, TaskError, TopologyError,
};
use support::*;

/// Forwards the first record of each key; reports how many keys it knows when a punctuation is due.
struct FirstOnly {
    seen: StateStore<String, i64>,
    every: PunctuationType,
}

impl Processor<String, i64, String, i64> for FirstOnly {
    fn init(&mut self, cx: &mut ProcessorContext<'_, '_, String, i64>) -> Result<(), ProcessorError> {
        cx.schedule(ms(10), self.every);
        Ok(())
    }

    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if value < 0 {
            return Err("negative".into());
        }
        if cx.get(&self.seen, &key)?.is_none() {
            cx.put(&self.seen, &key, value)?;
            cx.forward(key, value)?;
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: ScheduleId,
        time: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let known = cx.all(&self.seen)?;
        for (key, _) in known.iter().filter(|(_, first)| *first == 0) {
            cx.delete(&self.seen, key)?;
        }
        cx.forward_at("known".to_owned(), known.len() as i64, time)?;
        Ok(())
    }
}

fn builder(every: PunctuationType) -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let seen = builder.add_store(Materialized::with("seen", string(), i64()));
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || FirstOnly { seen: seen.clone(), every }, &["seen"])
        .named("first-only")
        .to("out", Produced::with(string(), i64()));
    builder
}

#[test]
fn a_processor_keeps_state_and_is_punctuated_by_stream_time() {
    let mut driver = driver(builder(PunctuationType::StreamTime));
    for (key, value, time) in [("a", 1, 5), ("a", 2, 6), ("b", 0, 12), ("c", 1, 41), ("b", 3, 42)] {
        number(&mut driver, "in", key, value, time);
    }
    // "b" was forgotten by the punctuation at 12; those of 20, 30 and 40 fall together at 41.
    assert_eq!(
        numbers(&mut driver, "out"),
        ["a=1@5", "known=1@5", "b=0@12", "known=2@12", "c=1@41", "known=2@41", "b=3@42"]
    );
}

#[test]
fn wall_clock_punctuations_come_when_time_advances() {
    let mut driver = driver(builder(PunctuationType::WallClock));
    number(&mut driver, "in", "a", 1, 500);
    driver.advance_time(ms(9)).unwrap();
    assert_eq!(numbers(&mut driver, "out"), ["a=1@500"]);
    driver.advance_time(ms(1)).unwrap();
    assert_eq!(numbers(&mut driver, "out"), ["known=1@10"]);
}

#[test]
fn a_failing_processor_stops_the_task_with_its_name_and_reason() {
    let mut driver = driver(builder(PunctuationType::WallClock));
    let error = driver.pipe("in", (&string(), &i64()), (&"k".to_owned(), &-1), 0).unwrap_err();
    let TaskError::Processor { node, message } = error else { panic!("{error}") };
    assert_eq!((node.as_str(), message.as_str()), ("first-only", "negative"));
}

#[test]
fn a_processor_cannot_use_a_store_that_nobody_added() {
    let builder = StreamsBuilder::new("app");
    let other = StreamsBuilder::new("other").add_store(Materialized::with("seen", string(), i64()));
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || FirstOnly { seen: other.clone(), every: PunctuationType::WallClock }, &["seen"]);
    let error = builder.build().err().unwrap();
    assert!(matches!(&error, TopologyError::UnknownStore { store, .. } if store == "seen"), "{error}");
}
