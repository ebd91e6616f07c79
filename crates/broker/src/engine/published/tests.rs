//! Directories in which an older version let a client create one of Kafka's own topics.

use std::path::Path;

use headwater_coordinator::{Coordinator, Settings, TopicRecord};
use headwater_log::{ColdFile, Isolation, Log, Move};
use headwater_wire::BatchHeader;

use super::*;
use crate::engine::state::State;
use crate::engine::worker::{begin, look};
use crate::mirror::{Home, LogDisk};
use crate::{Broker, Config};

const NAME: &str = "__consumer_offsets";
const FOREIGN: [u8; 16] = [7; 16];

fn config(directory: &Path) -> Config {
    let listen = "127.0.0.1:0".parse().unwrap();
    Config { data_dir: directory.to_owned(), listen, ..Config::default() }
}

fn opened(directory: &Path) -> (Home, Log<LogDisk>) {
    let config = config(directory);
    let home = Home::claim(&config).unwrap();
    let log = begin(&home, look(&home, &config, None).unwrap()).unwrap();
    (home, log)
}

fn format(directory: &Path) -> serde_json::Value {
    let marker = std::fs::read(directory.join(crate::directory::MARKER)).unwrap();
    serde_json::from_slice::<serde_json::Value>(&marker).unwrap()["format"].clone()
}

/// The files of the log with their bytes.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let log = crate::directory::log_of(directory);
    let named = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path();
    let paths = std::fs::read_dir(log).unwrap().map(named);
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// The topic as a client made it, with a record of its own or without, and an offset that a group has committed.
fn leave(directory: &Path, configs: &[(&str, &str)], records: bool) {
    let (_home, mut log) = opened(directory);
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let topic = TopicRecord { name: NAME.to_owned(), id: FOREIGN, partitions: 1, configs };
    let id = PartitionId { topic_id: topic.id, partition: 0 };
    log.create_partition(id).unwrap();
    if records {
        let mut batch = BatchBuilder::default();
        batch.push(1, None, Some(b"somebody's"), &[]);
        let batch = batch.build(Compression::None, None, false).unwrap();
        log.append(id, &batch, Origin::Broker, Durability::Synced, 1).unwrap();
    }
    let offset = OffsetRecord {
        group_id: "billing".to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        offset: 5,
        leader_epoch: -1,
        metadata: String::new(),
        committed_ms: clock::wall(),
        sequence: 1,
    };
    let mut state = State::default();
    for record in [StateRecord::Topic(topic), StateRecord::Offset(offset)] {
        state.push(&mut log, &record, clock::wall()).unwrap();
    }
    state.flush(&mut log, &Coordinator::new(Settings::default()), clock::wall()).unwrap();
    let (ticket, outcome) = log.begin_commit().unwrap().run();
    outcome.unwrap();
    log.end_commit(ticket, Ok(())).unwrap();
}

/// The topic as the state has it now.
fn left(directory: &Path) -> Option<TopicRecord> {
    let (_home, log) = opened(directory);
    let mut coordinator = Coordinator::new(Settings::default());
    State::replay(&log.reader(), &mut coordinator, 1, |_| {}).unwrap();
    coordinator.topic(NAME).cloned()
}

fn is_ours(topic: &TopicRecord) -> bool {
    topic.id != FOREIGN && topic.partitions == 50 && PublishedTopic::is_as_made(topic)
}

#[tokio::test]
async fn an_empty_topic_of_a_client_makes_room_for_the_brokers_own() {
    for configs in [&[][..], &[("cleanup.policy", "delete")], &[("cleanup.policy", "compact,delete")]] {
        let directory = tempfile::tempdir().unwrap();
        leave(directory.path(), configs, false);
        Broker::start(config(directory.path())).await.unwrap().shutdown().await;
        let topic = left(directory.path()).expect("the group's offset is told");
        assert!(is_ours(&topic), "{topic:?}");
    }
}

#[tokio::test]
async fn one_that_holds_records_is_not_deleted_unasked_and_the_way_out_is_told() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &[], true);
    let refused = Broker::start(config(directory.path())).await.err().expect("it does not start").to_string();
    for part in [NAME, "1 partitions", "cleanup.policy=delete", "headwater.internal.topics.enable=false"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(left(directory.path()).unwrap().id, FOREIGN, "nothing was touched");
    let mut without = config(directory.path());
    without.set("headwater.internal.topics.enable=false").unwrap();
    Broker::start(without).await.unwrap().shutdown().await;
    assert_eq!(left(directory.path()), None);
    Broker::start(config(directory.path())).await.unwrap().shutdown().await;
    assert!(is_ours(&left(directory.path()).unwrap()));
}

/// What an older build wrote it can read again: its number stays, and no byte of the log is touched.
#[tokio::test]
async fn a_start_that_is_refused_leaves_the_way_back_open() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &[], true);
    let marker = directory.path().join(crate::directory::MARKER);
    std::fs::write(&marker, r#"{"format": 2, "cluster_id": "kept"}"#).unwrap();
    let before = files(directory.path());
    assert!(Broker::start(config(directory.path())).await.is_err(), "somebody's records are there");
    assert_eq!(format(directory.path()), 2);
    assert_eq!(files(directory.path()), before);
    let mut without = config(directory.path());
    without.set("headwater.internal.topics.enable=false").unwrap();
    Broker::start(without).await.unwrap().shutdown().await;
    assert_eq!(format(directory.path()), headwater_log::FORMAT);
}

/// What the broker writes of a group's offset; its partition of 50 is as Kafka has it.
fn told(group: &str) -> (i32, Vec<u8>) {
    let offset = OffsetRecord {
        group_id: group.to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        offset: 5,
        leader_epoch: -1,
        metadata: String::new(),
        committed_ms: clock::wall(),
        sequence: 1,
    };
    let published = published_offset(&offset);
    (published_partition(&published.id, 50), published.key)
}

/// The offsets topic as the broker has made it, with another policy.
async fn changed(directory: &Path, policy: &str) -> TopicRecord {
    leave(directory, &[], false);
    Broker::start(config(directory)).await.unwrap().shutdown().await;
    let mut topic = left(directory).expect("the group's offset is told");
    topic.configs.insert("cleanup.policy".to_owned(), policy.to_owned());
    put(directory, &topic, |_| {});
    topic
}

/// Writes a topic to the state, and what `more` stages.
fn put(directory: &Path, topic: &TopicRecord, more: impl FnOnce(&mut Log<LogDisk>)) {
    let (_home, mut log) = opened(directory);
    let mut state = State::default();
    state.push(&mut log, &StateRecord::Topic(topic.clone()), clock::wall()).unwrap();
    state.flush(&mut log, &Coordinator::new(Settings::default()), clock::wall()).unwrap();
    more(&mut log);
    let (ticket, outcome) = log.begin_commit().unwrap().run();
    outcome.unwrap();
    log.end_commit(ticket, Ok(())).unwrap();
}

/// An older version let an administrator change it. The topic stays, with its records, and all groups are told again.
#[tokio::test]
async fn one_whose_policy_alone_was_changed_is_the_brokers_own() {
    for policy in ["delete", "compact,delete"] {
        let directory = tempfile::tempdir().unwrap();
        let before = changed(directory.path(), policy).await;
        let (partition, key) = told("billing");
        let id = PartitionId { topic_id: before.id, partition };
        let ends = |log: &Log<LogDisk>| log.reader().offsets(id).unwrap();
        let first = ends(&opened(directory.path()).1);
        Broker::start(config(directory.path())).await.unwrap().shutdown().await;
        let after = left(directory.path()).unwrap();
        assert_eq!((after.id, PublishedTopic::is_as_made(&after)), (before.id, true), "{policy}: {after:?}");
        let (_home, log) = opened(directory.path());
        assert_eq!(ends(&log).log_start, first.log_start);
        assert_eq!(ends(&log).high_watermark, first.high_watermark + 1, "told again");
        let last = log.reader().read(id, first.high_watermark, 1, Isolation::Uncommitted).unwrap().records;
        let header = BatchHeader::read(&last).unwrap();
        let records = headwater_wire::batch::decode(&header, &last).unwrap();
        assert_eq!(records[0].key.as_deref(), Some(key.as_slice()));
    }
}

/// One record of somebody else's is enough.
#[tokio::test]
async fn one_whose_policy_was_changed_and_that_holds_other_records_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let topic = changed(directory.path(), "delete").await;
    let (ours, key) = told("billing");
    // In the right form, and where no broker writes it.
    let id = PartitionId { topic_id: topic.id, partition: (ours + 1) % 50 };
    put(directory.path(), &topic, |log| {
        let mut batch = BatchBuilder::default();
        batch.push(1, Some(&key), Some(b"somebody's"), &[]);
        let batch = batch.build(Compression::None, None, false).unwrap();
        log.append(id, &batch, Origin::Broker, Durability::Synced, 1).unwrap();
    });
    let refused = Broker::start(config(directory.path())).await.err().expect("it does not start").to_string();
    assert!(refused.contains("cleanup.policy=delete"), "{refused}");
}

#[tokio::test]
async fn one_that_is_compacted_serves_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &[("cleanup.policy", "compact")], false);
    Broker::start(config(directory.path())).await.unwrap().shutdown().await;
    assert_eq!(left(directory.path()).unwrap().id, FOREIGN);
}

/// The topic's file is in a cold store that the start is not told of: the broker serves, says so, and touches nothing.
#[tokio::test]
async fn one_that_nobody_can_look_into_does_not_keep_the_broker_from_serving() {
    let directory = tempfile::tempdir().unwrap();
    let far = tempfile::tempdir().unwrap();
    leave(directory.path(), &[], true);
    let moved = cool(directory.path(), far.path());
    let broker = Broker::start(config(directory.path())).await.expect("it serves");
    let told = broker.observer().diagnose().await.unwrap().findings;
    let told = told.iter().find(|finding| finding.kind == "internal_topic_unread").expect("it is said");
    assert!(told.what.contains(NAME) && told.next.contains("headwater.cold.store"), "{told:?}");
    broker.shutdown().await;
    assert_eq!(left(directory.path()).unwrap().id, FOREIGN, "nothing was touched");
    // When it can be looked into, it is judged as ever.
    let log = crate::directory::log_of(directory.path());
    std::fs::copy(far.path().join(&moved), log.join(&moved)).unwrap();
    let refused = Broker::start(config(directory.path())).await.err().expect("it does not start").to_string();
    assert!(refused.contains(NAME), "{refused}");
}

/// Nothing is told there meanwhile; the start that can look makes up for it.
#[tokio::test]
async fn what_was_not_told_meanwhile_is_told_by_the_start_that_can_look() {
    let directory = tempfile::tempdir().unwrap();
    let far = tempfile::tempdir().unwrap();
    let before = changed(directory.path(), "delete").await;
    let moved = cool(directory.path(), far.path());
    Broker::start(config(directory.path())).await.expect("it serves").shutdown().await;
    assert_eq!(left(directory.path()).unwrap(), before, "it stays as it was");
    let log = crate::directory::log_of(directory.path());
    std::fs::copy(far.path().join(&moved), log.join(&moved)).unwrap();
    Broker::start(config(directory.path())).await.unwrap().shutdown().await;
    let after = left(directory.path()).unwrap();
    assert_eq!((after.id, PublishedTopic::is_as_made(&after)), (before.id, true), "{after:?}");
    let (partition, _) = told("billing");
    let (_home, log) = opened(directory.path());
    let offsets = log.reader().offsets(PartitionId { topic_id: before.id, partition }).unwrap();
    assert!(offsets.high_watermark >= 2, "told at first, and again: {offsets:?}");
}

/// Copies the records of the topic to a file of their own, which the log is told to be in a cold store only. Returns its
/// name.
fn cool(directory: &Path, far: &Path) -> String {
    let topic = left(directory).unwrap();
    let (_home, mut log) = opened(directory);
    let reader = log.reader();
    let id = (0..topic.partitions)
        .map(|partition| PartitionId { topic_id: topic.id, partition })
        .find(|id| reader.offsets(*id).unwrap().high_watermark > 0)
        .expect("records");
    let commit = |log: &mut Log<LogDisk>| {
        let (ticket, outcome) = log.begin_commit().unwrap().run();
        outcome.unwrap();
        log.end_commit(ticket, Ok(())).unwrap();
    };
    let extents = reader.usage(id).unwrap().extents;
    let mut run = reader.begin_run(log.take_run_number()).unwrap();
    for extent in &extents {
        reader.each_batch(id, extent, |bytes| run.push(id, &bytes)).unwrap();
    }
    let replaces = extents.iter().map(|extent| extent.file).collect();
    let extents: Vec<_> = run.finish().unwrap().into_iter().map(|(_, extent)| extent).collect();
    let file = extents[0].file;
    log.install(Move { id, replaces, extents, cleaned: None, aborted: Vec::new() }).unwrap();
    commit(&mut log);
    let path = crate::directory::log_of(directory).join(file.name());
    let length = std::fs::metadata(&path).unwrap().len();
    // Nothing is compared that does not come from a store.
    log.cool(ColdFile { file, length, crc: 0 }).unwrap();
    commit(&mut log);
    drop(log);
    std::fs::copy(&path, far.join(file.name())).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.name()
}
