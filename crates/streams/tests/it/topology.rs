//! Building: names, sub-topologies, partition counts, mistakes, scheduling.

use std::collections::{BTreeSet, HashMap};

use headwater_model::{Record, TopicPartition};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Grouped, InternalTopic, InternalTopicKind, Joined, Materialized, MemoryStore, Produced,
    Repartitioned, StoreBackend, StreamsBuilder, Task, TaskId, TimeWindows, Topology, TopologyError,
};

use crate::support::*;

fn one(_: &str) -> Option<i32> {
    Some(1)
}

fn strings() -> Consumed<String, String> {
    Consumed::with(string(), string())
}

fn counting() -> StreamsBuilder {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", strings())
        .group_by(|_, v| v.clone(), Grouped::with(string(), string()))
        .windowed_by(TimeWindows::of(ms(1000)).grace(ms(500)))
        .count(Materialized::named("counts"));
    builder
}

#[test]
fn a_repartition_topic_cuts_the_graph_and_names_are_stable() {
    let description = counting().build().unwrap().describe();
    assert_eq!(description, counting().build().unwrap().describe());
    let names: Vec<Vec<&str>> = description
        .subtopologies
        .iter()
        .map(|part| part.nodes.iter().map(|node| node.name.as_str()).collect())
        .collect();
    assert_eq!(
        names[0],
        ["KSTREAM-SOURCE-0000000000", "KSTREAM-KEY-SELECT-0000000001", "counts-repartition-sink"]
    );
    assert_eq!(names[1], ["counts-repartition-source", "KSTREAM-AGGREGATE-0000000002"]);
    assert_eq!(description.subtopologies[1].nodes[1].stores, ["counts"]);
    assert!(description.to_string().contains("Sub-topology: 1"));
    let json = serde_json::to_value(&description).unwrap();
    assert_eq!(json["subtopologies"][0]["nodes"][0]["topics"][0], "in");
}

#[test]
fn explicit_names_are_asked_for_where_a_generated_one_would_outlive_the_version() {
    let build = |store: Option<&str>, repartition: Option<&str>| {
        let mut builder = StreamsBuilder::new("app");
        builder.explicit_names();
        let options = Repartitioned::with(string(), string());
        let options = match repartition {
            Some(name) => options.named(name),
            None => options,
        };
        let kept = match store {
            Some(name) => Materialized::named(name),
            None => Materialized::new(),
        };
        // The table's topic is its changelog, so its name is nobody's.
        builder.table("rows", strings(), Materialized::new());
        let stream = builder.stream("in", strings()).repartition(options);
        stream.group_by(|_, v| v.clone(), Grouped::with(string(), string()).named("by-value")).count(kept);
        builder.build().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(build(Some("counts"), Some("again")), Ok(()));
    let error = build(None, Some("again")).unwrap_err();
    assert!(error.contains("KSTREAM-AGGREGATE-") && error.contains("Materialized::named"), "{error}");
    let error = build(Some("counts"), None).unwrap_err();
    assert!(error.contains("KSTREAM-REPARTITION-") && error.contains("Repartitioned::named"), "{error}");
}

#[test]
fn internal_topics_have_the_partitions_and_settings_they_need() {
    let topics = counting().build().unwrap().internal_topics(&|_| Some(3)).unwrap();
    let seen: Vec<_> = topics.iter().map(|t| (t.name.as_str(), t.partitions, t.kind)).collect();
    assert_eq!(
        seen,
        [
            ("app-counts-repartition", 3, InternalTopicKind::Repartition),
            ("app-counts-changelog", 3, InternalTopicKind::Changelog)
        ]
    );
    let retention = (1500 + 24 * 60 * 60 * 1000).to_string();
    assert!(topics[1].configs.contains(&("retention.ms".to_owned(), retention)));
    assert!(topics[1].configs.contains(&("cleanup.policy".to_owned(), "compact,delete".to_owned())));
    let tasks = counting().build().unwrap().tasks(&|_| Some(3));
    assert_eq!(tasks.len(), 6);
    assert_eq!(tasks[5].to_string(), "1_2");
}

fn joining(repartition: bool) -> Topology {
    let builder = StreamsBuilder::new("app");
    let table = builder.table("rows", strings(), Materialized::new());
    let stream = builder.stream("in", strings());
    let options = Repartitioned::with(string(), string()).named("again");
    let stream = if repartition { stream.repartition(options) } else { stream };
    stream.join(&table, |a, b| a + b, Joined::new().named("enrich"));
    builder.build().unwrap()
}

#[test]
fn a_repartition_topic_without_partitions_is_refused() {
    for partitions in [0, -1] {
        let builder = StreamsBuilder::new("app");
        let options = Repartitioned::with(string(), string()).named("again").partitions(partitions);
        builder.stream("in", strings()).repartition(options).to("out", Produced::with(string(), string()));
        let error = builder.build().err().unwrap();
        assert!(error.to_string().contains("at least one partition"), "{error}");
    }
}

#[test]
fn each_subtopology_says_what_it_reads_writes_and_keeps() {
    let topology = joining(true);
    let counts = |topic: &str| Some(if topic == "rows" { 3 } else { 2 });
    let parts = topology.subtopology_topics(&counts).unwrap();
    let names = |topics: &[InternalTopic]| -> Vec<(String, i32)> {
        topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect()
    };
    let again = "app-again-repartition".to_owned();
    let (reads, joins): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.sources.contains("in"));
    let (reads, joins) = (reads[0], joins[0]);
    assert_eq!(reads.sources, BTreeSet::from(["in".to_owned()]));
    assert_eq!(reads.repartition_sinks, BTreeSet::from([again.clone()]));
    assert!(
        reads.repartition_sources.is_empty() && reads.changelogs.is_empty() && reads.copartitions.is_empty()
    );
    assert_eq!(joins.sources, BTreeSet::from(["rows".to_owned()]));
    assert_eq!(names(&joins.repartition_sources), [(again.clone(), 3)]);
    assert_eq!(joins.copartitions, BTreeSet::from([BTreeSet::from([again, "rows".to_owned()])]));
    // A table of a topic of users has no changelog of its own; what is counted has.
    assert!(joins.changelogs.is_empty());
    let counted = counting().build().unwrap().subtopology_topics(&|_| Some(3)).unwrap();
    assert_eq!(names(&counted[1].changelogs), [("app-counts-changelog".to_owned(), 3)]);
    assert!(counted[0].changelogs.is_empty());
}

#[test]
fn join_partners_with_other_partition_counts_are_refused_with_both_counts() {
    let counts = |topic: &str| Some(if topic == "rows" { 3 } else { 2 });
    let error = joining(false).internal_topics(&counts).unwrap_err();
    let text = error.to_string();
    for part in ["enrich", "\"in\" (2 partitions)", "\"rows\" (3 partitions)"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(joining(false).tasks(&counts).is_empty());
    let topics = joining(true).internal_topics(&counts).unwrap();
    assert_eq!((topics[0].name.as_str(), topics[0].partitions), ("app-again-repartition", 3));
}

#[test]
fn mistakes_are_named() {
    let error = joining(false).internal_topics(&|topic| (topic == "in").then_some(1)).unwrap_err();
    assert!(matches!(&error, TopologyError::UnknownTopic { topic, .. } if topic == "rows"), "{error}");

    let error = StreamsBuilder::new("app").build().err().unwrap();
    assert!(matches!(error, TopologyError::NoSource { .. }));

    let error = StreamsBuilder::new("white space").build().err().unwrap();
    assert!(matches!(&error, TopologyError::InvalidName { given, .. } if given == "white space"));

    let builder = StreamsBuilder::new("app");
    builder.stream("in", strings());
    builder.stream("in", strings());
    assert!(
        matches!(builder.build().err().unwrap(), TopologyError::TopicReadTwice { topic, .. } if topic == "in")
    );

    let builder = StreamsBuilder::new("app");
    let grouped = builder.stream("in", strings()).group_by_key(Grouped::new());
    grouped.count(Materialized::named("twice"));
    grouped.count(Materialized::named("twice"));
    let error = builder.build().err().unwrap();
    assert!(matches!(&error, TopologyError::Duplicate { kind: "store", name } if name == "twice"), "{error}");

    let builder = StreamsBuilder::new("app");
    builder
        .stream("in", strings())
        .map(|k, v| (v, k))
        .group_by_key(Grouped::new())
        .count(Materialized::named("c"));
    assert!(matches!(builder.build().err().unwrap(), TopologyError::NoSerde { what: "key", .. }));
}

#[test]
fn two_aggregations_of_one_grouping_share_its_repartition_topic() {
    let builder = StreamsBuilder::new("app");
    let grouped =
        builder.stream("in", strings()).group_by(|_, v| v.clone(), Grouped::with(string(), string()));
    grouped.count(Materialized::named("a"));
    grouped.count(Materialized::named("b"));
    let topics = builder.build().unwrap().internal_topics(&|_| Some(1)).unwrap();
    assert_eq!(topics.iter().filter(|t| t.kind == InternalTopicKind::Repartition).count(), 1);
}

fn two_inputs() -> (Task, TopicPartition, TopicPartition) {
    let builder = StreamsBuilder::new("app");
    let (a, b) = (
        builder.stream("a", Consumed::with(string(), i64())),
        builder.stream("b", Consumed::with(string(), i64())),
    );
    a.merge(&b).to("out", Produced::with(string(), i64()));
    let topology = builder.build().unwrap();
    let task = topology
        .task(TaskId { subtopology: 0, partition: 0 }, HashMap::new(), topology.new_globals(), &one)
        .unwrap();
    (task, TopicPartition::new("a", 0), TopicPartition::new("b", 0))
}

fn records(first: i64, times: &[i64]) -> Vec<Record> {
    let record = |(n, time): (usize, &i64)| Record {
        offset: first + n as i64,
        timestamp: *time,
        key: Some("k".into()),
        value: Some(time.to_be_bytes().to_vec().into()),
        headers: Vec::new(),
    };
    times.iter().enumerate().map(record).collect()
}

fn times(task: &mut Task) -> Vec<i64> {
    task.take_output().iter().map(|output| output.timestamp).collect()
}

#[test]
fn the_smallest_timestamp_goes_first_across_inputs() {
    let (mut task, a, b) = two_inputs();
    task.enqueue(&a, records(0, &[1, 5, 6])).unwrap();
    task.enqueue(&b, records(0, &[2, 3, 9])).unwrap();
    task.process(usize::MAX, 0).unwrap();
    assert_eq!(times(&mut task), [1, 2, 3, 5, 6, 9]);
    assert_eq!(task.stream_time(), 9);
}

#[test]
fn an_empty_input_is_waited_for_while_it_lags_and_then_for_the_idle_time() {
    let (mut task, a, b) = two_inputs();
    task.set_max_task_idle(100);
    task.set_fetched_to(&b, 0);
    task.set_end_offset(&b, 1);
    task.enqueue(&a, records(0, &[5])).unwrap();
    assert_eq!(task.process(9, 1_000_000).unwrap(), 0);
    task.enqueue(&b, records(0, &[3])).unwrap();
    assert_eq!(task.process(9, 1_000_000).unwrap(), 1);
    assert_eq!(times(&mut task), [3]);
    // Both ends are reached: only the idle time is left.
    assert_eq!(task.process(9, 1_000_099).unwrap(), 0);
    assert_eq!(task.process(9, 1_000_100).unwrap(), 1);
    assert_eq!(times(&mut task), [5]);
}

#[test]
fn positions_are_those_of_what_was_processed_and_carry_the_clocks() {
    let (mut task, a, b) = two_inputs();
    task.enqueue(&a, records(10, &[1, 50])).unwrap();
    task.enqueue(&b, records(7, &[2])).unwrap();
    task.process(2, 0).unwrap();
    task.set_fetched_to(&b, 9);
    let positions = task.positions();
    assert_eq!((positions[0].1, positions[1].1), (11, 9));
    let (mut next, ..) = two_inputs();
    next.set_stream_time(&a, &positions[0].2);
    assert_eq!(next.stream_time(), 2);
    next.set_stream_time(&a, "something else");
    next.set_stream_time(&a, "hw2;x;9;");
    assert_eq!(next.stream_time(), 2);
}

#[test]
fn a_task_needs_a_backend_for_each_of_its_stores() {
    let topology = counting().build().unwrap();
    let id = TaskId { subtopology: 1, partition: 0 };
    let error = topology.task(id, HashMap::new(), topology.new_globals(), &one).err().unwrap();
    assert!(error.to_string().contains("counts"), "{error}");
    let backend = Box::new(MemoryStore::new()) as Box<dyn StoreBackend>;
    let task = topology
        .task(id, HashMap::from([("counts".to_owned(), backend)]), topology.new_globals(), &one)
        .unwrap();
    assert_eq!(task.stores()[0].changelog.as_deref(), Some("app-counts-changelog"));
    assert!(
        topology
            .task(TaskId { subtopology: 9, partition: 0 }, HashMap::new(), topology.new_globals(), &one)
            .is_err()
    );
}

#[test]
fn tasks_and_topologies_can_move_between_threads() {
    fn send<T: Send>() {}
    fn sync<T: Send + Sync>() {}
    send::<Task>();
    sync::<Topology>();
}

#[test]
fn topics_that_come_and_go_rename_nothing() {
    let described = |existing: &[&str]| {
        let mut builder = StreamsBuilder::new("app");
        builder.existing_topics(existing.iter().map(|topic| (*topic).to_owned()));
        builder
            .stream_matching(|topic| topic.contains("orders"), Consumed::with(string(), string()))
            .group_by(|_, value| value.clone(), Grouped::with(string(), string()))
            .count(Materialized::new());
        builder.build().map(|topology| {
            let partitions = |topic: &str| Some(if topic.ends_with("us") { 3 } else { 2 });
            let internal = topology.internal_topics(&partitions).unwrap();
            let names: Vec<_> = internal.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
            (topology.source_topics(), names)
        })
    };
    let (few, before) = described(&["orders.eu", "app-orders-changelog", "bills"]).unwrap();
    let (more, after) = described(&["orders.eu", "orders.us", "other"]).unwrap();
    assert_eq!((few.len(), more), (1, vec!["orders.eu".to_owned(), "orders.us".to_owned()]));
    assert_eq!(
        before.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        after.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    assert!(
        after.iter().all(|(_, partitions)| *partitions == 3) && before.iter().all(|(_, count)| *count == 2)
    );
    assert!(matches!(described(&["bills"]), Err(TopologyError::NoTopic { .. })));
}

#[test]
fn a_rule_leaves_out_kafkas_own_topics_and_none_that_is_only_called_alike() {
    let mut builder = StreamsBuilder::new("app");
    let own = ["__consumer_offsets", "__transaction_state", "__share_group_state", "app-counts-changelog"];
    let others = ["__debezium-heartbeat.shop", "orders"];
    builder.existing_topics(own.into_iter().chain(others).map(str::to_owned));
    builder
        .stream_matching(|_| true, Consumed::with(string(), string()))
        .to("out", Produced::with(string(), string()));
    assert_eq!(builder.build().unwrap().source_topics(), others);
}
