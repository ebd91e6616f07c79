//! A topology that knows that it processes again: notifications are held back until then, over restarts and repartitions.

use std::collections::HashMap;

use headwater_streams::serdes::{i64, nullable, string};
use headwater_streams::{
    Consumed, Grouped, Materialized, MemoryStore, Processor, ProcessorContext, ProcessorError, Produced,
    StoreBackend, StreamsBuilder, TimeWindows, TopologyTestDriver, time_windowed,
};

use crate::support::*;

/// Marks what it is told about.
struct Tell;

impl Processor<String, i64, String, String> for Tell {
    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), ProcessorError> {
        let again = if cx.is_reprocessing() { "again" } else { "new" };
        Ok(cx.forward(key, format!("{value} {again}"))?)
    }
}

/// Counts by value, behind a repartition; each count is told, and notified if it is new.
fn counting() -> TopologyTestDriver {
    let builder = StreamsBuilder::new("app");
    let counts = builder
        .stream("in", Consumed::with(string(), string()))
        .group_by(|_, value| value.clone(), Grouped::with(string(), string()).named("by-value"))
        .count(Materialized::named("counts"))
        .to_stream()
        .map_values(Option::unwrap_or_default);
    counts.process(|| Tell, &[]).to("told", Produced::with(string(), string()));
    counts.skip_reprocessed().to("notified", Produced::with(string(), i64()));
    TopologyTestDriver::with_partitions(builder.build().unwrap(), &|_| 2).unwrap()
}

#[test]
fn what_was_there_at_the_reset_is_counted_again_and_not_notified_again() {
    let mut driver = counting();
    for (key, value) in [("a", "x"), ("b", "x"), ("c", "y")] {
        text(&mut driver, "in", key, value, 5);
    }
    assert_eq!(numbers(&mut driver, "notified").len(), 3);
    assert!(texts(&mut driver, "told").iter().all(|told| told.contains("new")));

    driver.reprocess().unwrap();
    let mut told = texts(&mut driver, "told");
    told.sort();
    assert_eq!(told, ["x=1 again@5", "x=2 again@5", "y=1 again@5"]);
    assert_eq!(numbers(&mut driver, "notified"), Vec::<String>::new());
    text(&mut driver, "in", "a", "x", 6);
    assert_eq!(texts(&mut driver, "told"), ["x=3 new@6"]);
    assert_eq!(numbers(&mut driver, "notified"), ["x=3@6"]);
    driver.crash_and_wipe().unwrap();
    text(&mut driver, "in", "b", "y", 7);
    assert_eq!(numbers(&mut driver, "notified"), ["y=2@7"]);
}

#[test]
fn a_crash_in_the_middle_does_not_make_the_rest_new() {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(|| Tell, &[])
        .to("told", Produced::with(string(), string()));
    let topology = builder.build().unwrap();
    let id = headwater_streams::TaskId { subtopology: 0, partition: 0 };
    let input = headwater_streams::TopicPartition::new("in", 0);
    let start = |metadata: &str| {
        let count = |_: &str| Some(1);
        let mut task = topology.task(id, Default::default(), topology.new_globals(), &count).unwrap();
        task.set_stream_time(&input, metadata);
        task
    };
    let records = |offsets: std::ops::Range<i64>| {
        let record = |offset: i64| headwater_streams::Record {
            offset,
            key: Some("k".into()),
            value: Some(offset.to_be_bytes().to_vec().into()),
            ..Default::default()
        };
        offsets.map(record).collect::<Vec<_>>()
    };
    let told = |task: &mut headwater_streams::Task| -> Vec<String> {
        let text =
            |output: headwater_streams::Output| String::from_utf8(output.value.unwrap().to_vec()).unwrap();
        task.take_output().into_iter().map(text).collect()
    };
    let mut task = start(&headwater_streams::reprocess_until(3));
    task.enqueue(&input, records(0..2)).unwrap();
    task.process(9, 0).unwrap();
    assert_eq!(told(&mut task), ["0 again", "1 again"]);
    assert!(task.is_reprocessing());
    let (_, offset, metadata) = task.positions().remove(0);
    let mut task = start(&metadata);
    task.enqueue(&input, records(offset..5)).unwrap();
    assert!(task.is_reprocessing());
    task.process(9, 0).unwrap();
    assert_eq!(told(&mut task), ["2 again", "3 new", "4 new"]);
    assert!(!task.is_reprocessing());
    let (_, _, metadata) = task.positions().remove(0);
    assert_eq!(metadata.split(';').count(), 5, "{metadata}");
}

#[test]
fn a_window_that_closes_since_a_partition_is_idle_is_new_once_all_is_processed_again() {
    let mut builder = StreamsBuilder::new("app");
    builder.watermark_idleness(ms(5_000));
    builder
        .stream_of_topics(&["busy", "silent"], Consumed::with(string(), i64()))
        .group_by_key(Grouped::new())
        .windowed_by(TimeWindows::of(ms(100)))
        .emit_on_close()
        .count(Materialized::named("counts"))
        .to_stream()
        .skip_reprocessed()
        .to("notified", Produced::with(time_windowed(string(), ms(100)), nullable(i64())));
    let topology = builder.build().unwrap();
    let id = headwater_streams::TaskId { subtopology: 0, partition: 0 };
    let backend: Box<dyn StoreBackend> = Box::new(MemoryStore::new());
    let stores = HashMap::from([("counts".to_owned(), backend)]);
    let mut task = topology.task(id, stores, topology.new_globals(), &|_| Some(1)).unwrap();
    let busy = headwater_streams::TopicPartition::new("busy", 0);
    task.set_stream_time(&busy, &headwater_streams::reprocess_until(2));
    task.process(9, 0).unwrap();
    let record = |offset: i64, timestamp: i64| headwater_streams::Record {
        offset,
        timestamp,
        key: Some("k".into()),
        value: Some(offset.to_be_bytes().to_vec().into()),
        ..Default::default()
    };
    task.enqueue(&busy, vec![record(0, 10), record(1, 310)]).unwrap();
    task.process(9, 4_000).unwrap();
    assert!(task.take_output().is_empty() && !task.is_reprocessing());
    task.punctuate(6_000).unwrap();
    assert_eq!(task.take_output().len(), 1);
}
