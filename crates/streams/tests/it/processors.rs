//! The processor API: stores, forwarding, punctuations.

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, FixedKeyProcessor, FixedKeyProcessorContext, GlobalKTable, Grouped, Materialized,
    Nondeterminism, ProcessingHandler, Processor, ProcessorContext, ProcessorError, Produced,
    PunctuationType, ScheduleId, StateStore, StreamsBuilder, TableReader, TaskError, TopologyError,
    TopologyTestDriver, VersionedStateStore,
};

use crate::support::*;

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
    let rows = driver.rows("seen", (&string(), &i64()));
    assert_eq!(rows, [("a".to_owned(), 1, 5), ("b".to_owned(), 3, 42), ("c".to_owned(), 1, 41)]);
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

/// Does as the record says.
struct Careless {
    kept: StateStore<Option<String>, i64>,
    versions: VersionedStateStore<Option<String>, i64>,
}

impl Processor<Option<String>, i64, String, i64> for Careless {
    fn process(
        &mut self,
        key: Option<String>,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        match value {
            0 => cx.forward_at("k".to_owned(), 0, -5)?,
            1 | 2 => {
                let time = if value == 1 { -5 } else { 5 };
                cx.put_version(&self.versions, &key, Some(1), time)?;
            }
            3 => {
                cx.get_latest(&self.versions, &key)?;
            }
            4 => cx.put(&self.kept, &key, 1)?,
            _ => cx.forward("fine".to_owned(), value)?,
        }
        Ok(())
    }
}

#[test]
fn negative_times_and_null_keys_are_refused_and_the_handler_decides() {
    let careless = |handler: ProcessingHandler| {
        let mut builder = StreamsBuilder::new("app");
        builder.processing_handler(handler);
        let (text, nullable_text) = (string(), nullable(string()));
        let kept = builder.add_store(Materialized::with("kept", nullable_text.clone(), i64()));
        let options = Materialized::with("versions", nullable_text.clone(), i64()).versioned(ms(1_000));
        let versions = builder.add_versioned_store(options);
        let make = move || Careless { kept: kept.clone(), versions: versions.clone() };
        builder
            .stream("in", Consumed::with(nullable_text, i64()))
            .process(make, &["kept", "versions"])
            .named("careless")
            .to("out", Produced::with(text, i64()));
        driver(builder)
    };
    let pipe = |driver: &mut TopologyTestDriver, value: i64| {
        let key = if value == 1 { Some("k".to_owned()) } else { None };
        driver.pipe("in", (&nullable(string()), &i64()), (&key, &value), 7)
    };
    for (value, named) in [(0, "-5"), (1, "-5"), (2, "null key"), (3, "null key"), (4, "null key")] {
        let error = pipe(&mut careless(ProcessingHandler::Fail), value).unwrap_err();
        let TaskError::Processor { node, message } = &error else { panic!("{value}: {error}") };
        assert!(node == "careless" && message.contains(named), "{value}: {error}");
    }
    let mut patient = careless(ProcessingHandler::Continue);
    (0..=5).for_each(|value| pipe(&mut patient, value).unwrap());
    assert_eq!(
        (numbers(&mut patient, "out"), patient.metrics().processing_errors),
        (vec!["fine=5@7".into()], 5)
    );
}

#[test]
fn punctuations_end_with_the_end_of_time() {
    let mut driver = driver(builder(PunctuationType::StreamTime));
    for time in [5, i64::MAX - 3, i64::MAX] {
        number(&mut driver, "in", "a", 1, time);
    }
    let told = numbers(&mut driver, "out");
    assert_eq!(told, ["a=1@5".to_owned(), "known=1@5".to_owned(), format!("known=1@{}", i64::MAX - 3)]);
}

/// Tells the keys from the record's to "d", once, at the second punctuation; then it has ended its schedule.
struct Ranged {
    seen: StateStore<String, i64>,
    schedule: Option<ScheduleId>,
    other: Option<ScheduleId>,
    due: usize,
}

impl Processor<String, i64, String, i64> for Ranged {
    fn init(&mut self, cx: &mut ProcessorContext<'_, '_, String, i64>) -> Result<(), ProcessorError> {
        self.schedule = Some(cx.schedule(ms(10), PunctuationType::StreamTime));
        self.other = Some(cx.schedule(ms(10), PunctuationType::StreamTime));
        Ok(())
    }

    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if let Some(other) = self.other.take() {
            cx.cancel(other);
        }
        cx.put(&self.seen, &key, value)?;
        Ok(())
    }

    fn punctuate(
        &mut self,
        schedule: ScheduleId,
        time: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        assert_eq!(Some(schedule), self.schedule, "the other was cancelled before it was due");
        self.due += 1;
        if self.due == 2 {
            for (key, value) in cx.range(&self.seen, Some(&"b".to_owned()), Some(&"d".to_owned()))? {
                cx.forward_at(key, value, time)?;
            }
            cx.cancel(schedule);
        }
        Ok(())
    }
}

#[test]
fn a_schedule_can_be_cancelled_and_a_store_be_read_between_two_keys() {
    let builder = StreamsBuilder::new("app");
    let seen = builder.add_store(Materialized::with("seen", string(), i64()));
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || Ranged { seen: seen.clone(), schedule: None, other: None, due: 0 }, &["seen"])
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(builder);
    for (place, key) in ["a", "b", "d", "c", "e"].into_iter().enumerate() {
        number(&mut driver, "in", key, place as i64, 5);
    }
    assert!(numbers(&mut driver, "out").is_empty());
    for time in [15, 25, 35] {
        number(&mut driver, "in", "z", 9, time);
    }
    assert_eq!(numbers(&mut driver, "out"), ["b=1@15", "c=3@15", "d=2@15"]);
}

/// Forwards each value with the sum of its key so far, or fails as it is told.
struct Sums {
    sums: StateStore<String, i64>,
    eager: bool,
}

impl FixedKeyProcessor<String, i64, i64> for Sums {
    fn init(&mut self, cx: &mut FixedKeyProcessorContext<'_, '_, String, i64>) -> Result<(), ProcessorError> {
        if self.eager {
            cx.schedule(ms(10), PunctuationType::StreamTime);
        }
        Ok(())
    }

    fn process(
        &mut self,
        key: &String,
        value: i64,
        cx: &mut FixedKeyProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let sum = cx.get(&self.sums, key)?.unwrap_or(0) + value;
        cx.put(&self.sums, key, sum)?;
        cx.forward(value)?;
        let later = cx.timestamp() + 1;
        cx.forward_at(sum, later)?;
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: ScheduleId,
        _: i64,
        cx: &mut FixedKeyProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        cx.forward(0)?;
        Ok(())
    }
}

#[test]
fn a_processor_of_values_keeps_keys_so_that_nothing_is_repartitioned_behind_it() {
    let sums = |eager: bool| {
        let builder = StreamsBuilder::new("app");
        let sums = builder.add_store(Materialized::with("sums", string(), i64()));
        let processed = builder
            .stream("in", Consumed::with(string(), i64()))
            .process_values(move || Sums { sums: sums.clone(), eager }, &["sums"])
            .named("sum");
        processed.to("out", Produced::with(string(), i64()));
        processed
            .group_by_key(Grouped::with(string(), i64()))
            .count(Materialized::named("counts"))
            .to("counts", Produced::with(string(), i64()));
        driver(builder)
    };
    let mut driver = sums(false);
    let internal: Vec<&str> = driver.internal_topics().iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(internal, ["app-sums-changelog", "app-counts-changelog"]);
    for (key, value, time) in [("a", 1, 5), ("b", 2, 6), ("a", 3, 7)] {
        number(&mut driver, "in", key, value, time);
    }
    assert_eq!(numbers(&mut driver, "out"), ["a=1@5", "a=1@6", "b=2@6", "b=2@7", "a=3@7", "a=4@8"]);
    assert_eq!(numbers(&mut driver, "counts").last().unwrap(), "a=4@8");

    let error = sums(true).pipe("in", (&string(), &i64()), (&"k".to_owned(), &1), 0).unwrap_err();
    let TaskError::Processor { node, message } = &error else { panic!("{error}") };
    assert!(node == "sum" && message.contains("no key to keep"), "{error}");
}

/// Forwards a value with the rows of its key: of a table, of one derived from it, and of a global one.
struct Enriched {
    rows: TableReader<String, i64>,
    large: TableReader<String, i64>,
    global: GlobalKTable<String, i64>,
}

impl Processor<String, i64, String, String> for Enriched {
    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), ProcessorError> {
        let (row, large) = (cx.row(&self.rows, &key)?, cx.row(&self.large, &key)?);
        let global = cx.global_row(&self.global, &key)?;
        let text = format!("{value} {row:?} {:?} {global:?}", large.map(|(value, _)| value));
        cx.forward(key, text)?;
        Ok(())
    }
}

#[test]
fn a_processor_reads_rows_of_tables_that_others_keep() {
    let builder = StreamsBuilder::new("app");
    let numbers = || Consumed::with(string(), i64());
    let table = builder.table("rows", numbers(), Materialized::named("rows"));
    let (rows, large) = (table.reader(), table.filter(|_, value| *value > 5).map_values(|v| v * 10).reader());
    let global = builder.global_table("global", numbers(), Materialized::named("everywhere"));
    assert_eq!((rows.stores(), large.stores()), (vec!["rows"], vec!["rows"]));
    let make = move || Enriched { rows: rows.clone(), large: large.clone(), global: global.clone() };
    builder
        .stream("in", numbers())
        .process(make, &["rows", "everywhere"])
        .named("enrich")
        .to("out", Produced::with(string(), string()));
    let topology = builder.build().unwrap();
    let described = topology.describe();
    let mut nodes = described.subtopologies.iter().flat_map(|part| &part.nodes);
    let enrich = nodes.find(|node| node.name == "enrich").unwrap();
    assert_eq!(enrich.stores, ["rows", "everywhere"]);
    assert_eq!(enrich.nondeterminism, [Nondeterminism::GlobalTable]);
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    number(&mut driver, "in", "k", 1, 1);
    number(&mut driver, "rows", "k", 4, 2);
    number(&mut driver, "global", "k", 7, 3);
    number(&mut driver, "in", "k", 2, 4);
    number(&mut driver, "rows", "k", 6, 5);
    number(&mut driver, "in", "k", 3, 6);
    assert_eq!(
        texts(&mut driver, "out"),
        ["k=1 None None None@1", "k=2 Some((4, 2)) None Some(7)@4", "k=3 Some((6, 5)) Some(60) Some(7)@6"]
    );
}

/// Tells when it is called.
struct Anchored(PunctuationType);

impl Processor<String, i64, String, i64> for Anchored {
    fn init(&mut self, cx: &mut ProcessorContext<'_, '_, String, i64>) -> Result<(), ProcessorError> {
        cx.schedule_from(25, ms(10), self.0);
        Ok(())
    }

    fn process(
        &mut self,
        _: String,
        _: i64,
        _: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: ScheduleId,
        time: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        cx.forward("at".to_owned(), time)?;
        Ok(())
    }
}

fn anchored(kind: PunctuationType) -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || Anchored(kind), &[])
        .to("out", Produced::with(string(), i64()));
    driver(builder)
}

#[test]
fn a_schedule_may_begin_at_a_moment_and_go_on_in_whole_intervals_from_it() {
    let mut driver = anchored(PunctuationType::WallClock);
    for step in [24, 1, 9, 1, 12] {
        driver.advance_time(ms(step)).unwrap();
    }
    // At 24, 25, 34, 35 and 47.
    assert_eq!(numbers(&mut driver, "out"), ["at=25@25", "at=35@35", "at=47@47"]);
    // A task that starts at 47 goes on at 55.
    driver.crash().unwrap();
    for step in [1, 6, 1] {
        driver.advance_time(ms(step)).unwrap();
    }
    assert_eq!(numbers(&mut driver, "out"), ["at=55@55"]);

    let mut driver = anchored(PunctuationType::StreamTime);
    for time in [5, 24, 26, 34, 35] {
        number(&mut driver, "in", "k", 1, time);
    }
    assert_eq!(numbers(&mut driver, "out"), ["at=26@26", "at=35@35"]);
}

/// Says where what it is given came from; punctuations are passed on to the next one.
struct Origins;

impl Processor<String, i64, String, String> for Origins {
    fn process(
        &mut self,
        key: String,
        _: i64,
        cx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), ProcessorError> {
        let origin = cx.origin().map(|(topic, partition, offset)| format!("{topic}/{partition}/{offset}"));
        cx.forward(key, origin.unwrap_or_else(|| "nowhere".to_owned()))?;
        Ok(())
    }
}

#[test]
fn what_a_punctuation_forwards_comes_of_no_record() {
    let builder = StreamsBuilder::new("app");
    let numbers = builder.stream("in", Consumed::with(string(), i64()));
    let origins = Produced::with(string(), string());
    let punctuated = numbers.process(|| Anchored(PunctuationType::StreamTime), &[]);
    numbers.merge(&punctuated).process(|| Origins, &[]).to("out", origins);
    let mut driver = driver(builder);
    for time in [5, 26, 27] {
        number(&mut driver, "in", "k", 1, time);
    }
    assert_eq!(texts(&mut driver, "out"), ["k=in/0/0@5", "k=in/0/1@26", "at=nowhere@26", "k=in/0/2@27"]);
}
