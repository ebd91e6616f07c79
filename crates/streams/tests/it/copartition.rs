//! Merged streams, and streams and tables, whose topics have other partition counts: refused where records of one key have to meet.

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Deduplicated, Grouped, Joined, KStream, Materialized, Processor, ProcessorContext,
    ProcessorError, Produced, Repartitioned, StreamsBuilder, TableReader, TimeWindows, TopologyError,
    TopologyTestDriver,
};

use crate::support::*;

type Numbers = KStream<String, i64>;

/// Topic `wide` has three partitions, every other one has two.
fn counts(topic: &str) -> Option<i32> {
    Some(if topic == "wide" { 3 } else { 2 })
}

/// What is built of `wide` and `narrow`, merged.
fn merged(build: impl FnOnce(&StreamsBuilder, Numbers)) -> Result<Vec<(String, i32)>, TopologyError> {
    let builder = StreamsBuilder::new("app");
    let wide = builder.stream("wide", Consumed::with(string(), i64()));
    let narrow = builder.stream("narrow", Consumed::with(string(), i64()));
    build(&builder, wide.merge(&narrow));
    let topics = builder.build().unwrap().internal_topics(&counts)?;
    Ok(topics.into_iter().map(|topic| (topic.name, topic.partitions)).collect())
}

fn refused(what: &str, build: impl FnOnce(&StreamsBuilder, Numbers)) {
    let error = merged(build).expect_err(what);
    let text = error.to_string();
    assert!(matches!(error, TopologyError::NotCopartitioned { .. }), "{what}: {text}");
    for part in [what, "\"wide\" (3 partitions)", "\"narrow\" (2 partitions)", "repartition()"] {
        assert!(text.contains(part), "{what}: {text}");
    }
}

#[test]
fn whatever_meets_by_key_is_refused_with_both_counts_and_the_way_out() {
    refused("counted", |_, merged| {
        merged.group_by_key(Grouped::new()).count(Materialized::named("counted"));
    });
    refused("windowed", |_, merged| {
        let windows = merged.group_by_key(Grouped::new()).windowed_by(TimeWindows::of(ms(10)));
        windows.count(Materialized::named("windowed"));
    });
    refused("latest", |_, merged| drop(merged.to_table(Materialized::named("latest"))));
    refused("once", |_, merged| {
        drop(merged.deduplicate_by_key(ms(10), Deduplicated::with(string(), i64()).named("once")));
    });
    refused("enriched", |builder, merged| {
        let rows = builder.table("rows", Consumed::with(string(), i64()), Materialized::new());
        merged.join(&rows, |a, b| a + b, Joined::new().named("enriched"));
    });
}

#[test]
fn what_needs_no_key_or_gets_a_new_one_is_not() {
    let passed = merged(|_, merged| merged.to("out", Produced::with(string(), i64()))).unwrap();
    assert!(passed.is_empty(), "{passed:?}");
    let grouped = merged(|_, merged| {
        let by = Grouped::with(string(), i64()).named("by");
        merged.group_by(|_, value| value.to_string(), by).count(Materialized::named("counted"));
    });
    let topic = |name: &str| (format!("app-{name}"), 3);
    assert_eq!(grouped.unwrap(), [topic("by-repartition"), topic("counted-changelog")]);
}

/// `narrow` goes through a topic that has as many partitions as `wide`, without having been told.
fn repartitioned() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    let wide = builder.stream("wide", Consumed::with(string(), i64()));
    let narrow = builder.stream("narrow", Consumed::with(string(), i64()));
    let narrow = narrow.repartition(Repartitioned::with(string(), i64()).named("again"));
    wide.merge(&narrow)
        .group_by_key(Grouped::new())
        .count(Materialized::named("counts"))
        .to("out", Produced::with(string(), i64()));
    builder
}

#[test]
fn a_repartition_of_one_side_makes_one_count_of_each_key() {
    let topology = repartitioned().build().unwrap();
    let topics = topology.internal_topics(&counts).unwrap();
    assert!(topics.iter().all(|topic| topic.partitions == 3), "{topics:?}");
    let mut driver = TopologyTestDriver::with_partitions(topology, &|topic| counts(topic).unwrap()).unwrap();
    for n in 0..60 {
        let topic = if n % 2 == 0 { "wide" } else { "narrow" };
        number(&mut driver, topic, &format!("k{}", n % 3), n, n);
    }
    let mut last = std::collections::BTreeMap::new();
    last.extend(driver.read("out", (&string(), &i64())).into_iter().map(|(key, count, _)| (key, count)));
    assert!(last.len() == 3 && last.values().all(|count| *count == Some(20)), "{last:?}");
}

/// Forwards what a table has.
struct Rows(TableReader<String, i64>);

impl Processor<String, i64, String, i64> for Rows {
    fn process(
        &mut self,
        key: String,
        _: i64,
        cx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if let Some((value, _)) = cx.row(&self.0, &key)? {
            cx.forward(key, value)?;
        }
        Ok(())
    }
}

#[test]
fn a_processor_that_reads_a_table_needs_it_partitioned_as_its_stream_is() {
    let read = |stream: &str, table: &str| {
        let builder = StreamsBuilder::new("app");
        let numbers = || Consumed::with(string(), i64());
        let rows = builder.table(table, numbers(), Materialized::named("rows")).reader();
        let reader = rows.clone();
        builder
            .stream(stream, numbers())
            .process(move || Rows(reader.clone()), &rows.stores())
            .named("look-up")
            .for_each(|_, _| {});
        builder.build().unwrap().internal_topics(&counts)
    };
    assert!(read("other", "narrow").is_ok());
    for (stream, table) in [("wide", "narrow"), ("narrow", "wide")] {
        let error = read(stream, table).err().unwrap();
        assert!(matches!(error, TopologyError::NotCopartitioned { .. }), "{error}");
        assert!(error.to_string().contains("look-up"), "{error}");
    }
}
