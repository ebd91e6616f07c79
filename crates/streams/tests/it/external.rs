//! Stores that a database keeps: what may be built, and what is said of it.

use std::collections::HashMap;
use std::time::Duration;

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    ColumnType, Consumed, ExternalTable, Grouped, KStream, Materialized, MemoryStore, Produced, Record,
    StoreBackend, StreamsBuilder, TaskId, TimeWindows, Topology, TopologyError, TopologyTestDriver,
};

fn table() -> ExternalTable {
    ExternalTable::named("levels").key(ColumnType::Text).value(ColumnType::BigInt)
}

fn stream(builder: &StreamsBuilder) -> KStream<String, i64> {
    builder.stream("moves", Consumed::with(string(), i64()))
}

/// Sums by key, kept as `materialized` says.
fn sums(materialized: Materialized<String, i64>) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new("app");
    stream(&builder)
        .group_by_key(Grouped::with(string(), i64()))
        .reduce(|sum, pieces| sum + pieces, materialized)
        .to_stream()
        .without_tombstones()
        .to("levels", Produced::with(string(), i64()));
    builder.build()
}

fn refused(built: Result<Topology, TopologyError>) -> String {
    match built {
        Err(error @ TopologyError::External { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was built"),
    }
}

#[test]
fn it_has_no_changelog_and_describe_says_what_is_effectively_once() {
    let topology = sums(Materialized::named("levels").external(table())).unwrap();
    assert_eq!(topology.internal_topics(&|_| Some(2)).unwrap(), []);
    assert_eq!(topology.external_stores().into_iter().collect::<Vec<_>>(), [("levels".to_owned(), table())]);
    let described = topology.describe();
    let part = &described.subtopologies[0];
    assert_eq!((&part.stores[0].external, &part.stores[0].changelog), (&Some(table()), &None));
    assert_eq!(part.at_least_once, ["levels"]);
    let text = described.to_string();
    assert!(
        text.contains("External store: levels (table: levels; with the input positions, effectively once)")
    );
    assert!(text.contains("At least once: sub-topology 0 writes to levels"), "{text}");
    let inside = sums(Materialized::named("levels")).unwrap().describe();
    assert!(inside.subtopologies[0].at_least_once.is_empty());
    assert!(!serde_json::to_string(&inside).unwrap().contains("external"), "old descriptions stay equal");
}

#[test]
fn what_cannot_be_committed_together_is_not_built() {
    let builder = StreamsBuilder::new("app");
    let moves = stream(&builder).group_by_key(Grouped::with(string(), i64()));
    moves.count(Materialized::named("outside").external(table()));
    moves.count(Materialized::named("inside"));
    let why = refused(builder.build());
    assert!(
        why.contains("\"outside\"") && why.contains("\"inside\"") && why.contains("repartition()"),
        "{why}"
    );

    let builder = StreamsBuilder::new("app");
    stream(&builder).group_by_key(Grouped::with(string(), i64())).count(Materialized::named("inside"));
    builder
        .stream("others", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with(string(), i64()))
        .count(Materialized::named("outside").external(table()));
    assert!(builder.build().is_ok(), "they are of different tasks");
}

#[test]
fn what_a_database_does_not_keep_is_refused_with_what_to_leave_out() {
    for (table, what) in [
        (ExternalTable::named("Levels"), "lower-case"),
        (ExternalTable::named("1; DROP TABLE levels"), "lower-case"),
        (ExternalTable::named("headwater_positions"), "runtime's own"),
        (table().key(ColumnType::Json), "Bytes or Text"),
    ] {
        assert!(refused(sums(Materialized::named("levels").external(table))).contains(what));
    }
    let external = || Materialized::named("levels").external(table());
    assert!(refused(sums(external().json())).contains("json"));
    assert!(refused(sums(external().config("retention.ms", "1"))).contains("config"));
    let builder = StreamsBuilder::new("app");
    stream(&builder)
        .group_by_key(Grouped::with(string(), i64()))
        .windowed_by(TimeWindows::of(Duration::from_secs(1)))
        .count(external());
    assert!(refused(builder.build()).contains("windows"));
    let builder = StreamsBuilder::new("app");
    builder.table("rows", Consumed::with(string(), i64()), external().versioned(Duration::from_secs(1)));
    assert!(refused(builder.build()).contains("versions"));
    let builder = StreamsBuilder::new("app");
    for topic in ["one", "two"] {
        builder.table(topic, Consumed::with(string(), i64()), Materialized::named(topic).external(table()));
    }
    assert!(refused(builder.build()).contains("each its own"));
}

#[test]
fn a_table_that_is_outside_is_not_restored_from_its_topic() {
    let builder = StreamsBuilder::new("app");
    builder.table("rows", Consumed::with(string(), i64()), Materialized::named("rows").external(table()));
    let info = builder.build().unwrap().stores(0).remove(0);
    assert_eq!((info.changelog, info.source_topic, info.external), (None, false, Some(table())));
}

#[test]
fn moving_a_store_outside_needs_the_input_again() {
    let inside = sums(Materialized::named("levels")).unwrap().describe();
    let outside = sums(Materialized::named("levels").external(table())).unwrap().describe();
    let told = inside.diff(&outside).to_string();
    assert!(told.contains("levels is kept in table levels") && told.contains("before inside"), "{told}");
}

#[test]
fn a_task_tells_which_keys_it_has_to_ask_for() {
    let topology = sums(Materialized::named("levels").external(table())).unwrap();
    let backends: HashMap<String, Box<dyn StoreBackend>> =
        HashMap::from([("levels".to_owned(), Box::new(MemoryStore::new()) as Box<_>)]);
    let id = TaskId { subtopology: 0, partition: 0 };
    let mut task = topology.task(id, backends, topology.new_globals(), &|_| Some(1)).unwrap();
    let input = task.inputs().remove(0);
    let record = |key: &'static str| Record {
        key: Some(key.into()),
        value: Some(1_i64.to_be_bytes().to_vec().into()),
        timestamp: 1,
        ..Record::default()
    };
    task.enqueue(&input, vec![record("a")]).unwrap();
    let keys = ["a".into(), "b".into()];
    assert_eq!(task.lacking("levels", &keys), keys);
    task.process(10, 0).unwrap();
    assert_eq!(task.lacking("levels", &keys), ["b"]);
    assert!(task.lacking("another", &keys).is_empty());
}

#[test]
fn the_test_driver_keeps_it_over_a_crash() {
    let topology = sums(Materialized::named("levels").external(table())).unwrap();
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    for _ in 0..2 {
        driver.pipe("moves", (&string(), &i64()), (&"tea".to_owned(), &3), 1).unwrap();
        driver.crash().unwrap();
    }
    let last = driver.read_output("levels").pop().unwrap();
    assert_eq!(last.value.unwrap()[..], 6_i64.to_be_bytes());
}
