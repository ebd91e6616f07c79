//! Retention, compaction and the removal of files, as clients see them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use headwater_broker::{Broker, CleanerConfig, Config, LogSettings};
use headwater_model::Record;
use headwater_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use headwater_wire::messages::*;
use headwater_wire::{BatchBuilder, Compression, Producer};

use crate::common::{self, Raw, batches, config, damage};

const SEGMENT: u64 = 256 << 10;

fn eager(directory: &Path) -> Config {
    let cleaner = CleanerConfig {
        retention_check: Duration::from_millis(20),
        backoff: Duration::from_millis(20),
        dedupe_bytes: 4 << 20,
        ..CleanerConfig::default()
    };
    let log = LogSettings { segment_bytes: SEGMENT, ..LogSettings::default() };
    Config { cleaner, log, ..config(directory) }
}

async fn create(raw: &mut Raw, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name((*name).to_owned().into())
            .with_value(Some((*value).to_owned().into()))
    });
    let topic = CreatableTopic::default()
        .with_name(name.to_owned().into())
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
    let created = raw.call(&request, 5).await;
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn keyed(records: &[(&str, Option<&str>)], timestamp: i64, producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    builder.build(Compression::Lz4, producer, producer.is_some()).unwrap()
}

/// All records from the log start on.
async fn records(raw: &mut Raw, topic: &str) -> Vec<Record> {
    let mut all = Vec::new();
    let mut at = list_offsets(raw, topic, -2).await;
    let end = list_offsets(raw, topic, -1).await;
    while at < end {
        let data = raw.fetch(topic, 0, at, false).await;
        assert_eq!(data.error_code, 0);
        let found = batches(data.records.unwrap_or_default());
        assert!(!found.is_empty(), "nothing at {at} below {end}");
        for (header, records) in found {
            at = header.last_offset() + 1;
            if !header.is_control() {
                all.extend(records);
            }
        }
    }
    all
}

async fn list_offsets(raw: &mut Raw, topic: &str, timestamp: i64) -> i64 {
    use headwater_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic =
        ListOffsetsTopic::default().with_name(topic.to_owned().into()).with_partitions(vec![partition]);
    let listed = raw.call(&ListOffsetsRequestData::default().with_topics(vec![topic]), 5).await;
    listed.topics[0].partitions[0].offset
}

/// Waits until what is looked at is so.
macro_rules! until {
    ($what:expr, $condition:expr) => {
        let mut left = 1500;
        while !$condition {
            left -= 1;
            assert!(left > 0, "{} did not happen", $what);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
}

fn fold(records: Vec<Record>) -> BTreeMap<Bytes, Bytes> {
    let mut table = BTreeMap::new();
    for record in records {
        let key = record.key.expect("a key");
        match record.value {
            Some(value) => drop(table.insert(key, value)),
            None => drop(table.remove(&key)),
        }
    }
    table
}

fn log_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory.join("log")).unwrap().filter_map(Result::ok);
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[tokio::test]
async fn compaction_keeps_the_last_value_of_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let eager_topic =
        [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.01")];
    create(&mut raw, "t", &eager_topic).await;
    let padding = "x".repeat(500);
    for round in 0..200 {
        let values: Vec<String> = (0..20).map(|key| format!("{round} {key} {padding}")).collect();
        let keys: Vec<String> = (0..20).map(|key| format!("key {key}")).collect();
        let pairs: Vec<_> =
            keys.iter().zip(&values).map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
        assert_eq!(raw.produce("t", 0, keyed(&pairs, now(), None)).await.error_code, 0);
    }
    assert_eq!(raw.produce("t", 0, keyed(&[("key 3", None)], now(), None)).await.error_code, 0);
    until!("compaction", records(&mut raw, "t").await.len() <= 21);
    let compacted = records(&mut raw, "t").await;
    assert!(compacted.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert!(compacted.iter().any(|record| record.value.is_none()), "the tombstone stays for its time");
    let table = fold(compacted);
    assert_eq!(table.len(), 19);
    assert!(table.values().all(|value| value.starts_with(b"199 ")));
    assert_eq!(list_offsets(&mut raw, "t", -1).await, 4001, "offsets go on where they were");
    until!("the removal of files", log_bytes(dir.path()) < 4 * SEGMENT);
    broker.shutdown().await;
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(fold(records(&mut raw, "t").await), table, "the same after a restart");
    assert_eq!(list_offsets(&mut raw, "t", -1).await, 4001);
}

/// Who needs all of a file at once, as an index that is built again or a backup does, has it in memory.
#[tokio::test]
async fn compaction_writes_no_file_that_is_much_larger_than_a_journal() {
    const KEYS: usize = 250;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let eager_topic =
        [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.01")];
    create(&mut raw, "t", &eager_topic).await;
    let mut rng = 7_u64;
    for number in 0..KEYS {
        let noise: String = (0..20_000)
            .map(|_| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + (rng >> 59) as u8)
            })
            .collect();
        let key = format!("key {number}");
        let batch = keyed(&[(key.as_str(), Some(noise.as_str()))], now(), None);
        assert_eq!(raw.produce("t", 0, batch).await.error_code, 0);
    }
    let runs = || -> Vec<u64> {
        let files = std::fs::read_dir(dir.path().join("log")).unwrap().filter_map(Result::ok);
        let runs = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "run"));
        runs.filter_map(|run| Some(run.metadata().ok()?.len())).collect()
    };
    until!("compaction", runs().iter().sum::<u64>() > 3 << 20);
    let largest = runs().into_iter().max().unwrap();
    assert!(largest < 2 << 20, "{largest} bytes in one file");
    let before = records(&mut raw, "t").await;
    assert_eq!(before.len(), KEYS);
    drop(raw);
    broker.shutdown().await;
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    assert_eq!(records(&mut Raw::connect(&broker).await, "t").await, before);
}

#[tokio::test]
async fn tombstones_go_when_their_time_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "20"),
        ("min.cleanable.dirty.ratio", "0"),
        ("delete.retention.ms", "100"),
    ];
    create(&mut raw, "t", &configs).await;
    raw.produce("t", 0, keyed(&[("a", Some("1")), ("b", Some("1"))], now(), None)).await;
    raw.produce("t", 0, keyed(&[("a", None)], now(), None)).await;
    for round in 0..1500 {
        // A cleaning needs something new to clean.
        let value = round.to_string();
        raw.produce("t", 0, keyed(&[("c", Some(value.as_str()))], now(), None)).await;
        if records(&mut raw, "t").await.iter().all(|record| record.key.as_deref() != Some(b"a")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the tombstone never went");
}

#[tokio::test]
async fn compaction_stops_at_an_open_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(
        &mut raw,
        "t",
        &[("cleanup.policy", "compact"), ("segment.ms", "20"), ("min.cleanable.dirty.ratio", "0")],
    )
    .await;
    for round in 0..10 {
        let value = round.to_string();
        raw.produce("t", 0, keyed(&[("a", Some(value.as_str()))], now(), None)).await;
    }
    let producer = raw.begin("tx", "t").await;
    let open = keyed(&[("a", Some("open"))], now(), Some(producer));
    assert_eq!(raw.produce_as(Some("tx"), "t", 0, open).await.error_code, 0);
    for round in 0..10 {
        let value = format!("behind {round}");
        raw.produce("t", 0, keyed(&[("b", Some(value.as_str()))], now(), None)).await;
    }
    until!("compaction before the transaction", records(&mut raw, "t").await.len() <= 12);
    let left = records(&mut raw, "t").await;
    let behind = left.iter().filter(|record| record.key.as_deref() == Some(b"b")).count();
    assert_eq!(behind, 10, "nothing behind the open transaction is touched");
}

#[tokio::test]
async fn old_records_go_and_future_ones_hold() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, "aged", &[("retention.ms", "60000")]).await;
    create(&mut raw, "sized", &[("retention.bytes", "3000")]).await;
    create(&mut raw, "kept", &[("retention.ms", "-1")]).await;
    for topic in ["aged", "kept"] {
        for (minutes, value) in [(-10, "old"), (-5, "older than a minute"), (0, "young"), (-10, "behind it")]
        {
            let batch = keyed(&[("k", Some(value))], now() + minutes * 60_000, None);
            assert_eq!(raw.produce(topic, 0, batch).await.error_code, 0);
        }
    }
    for _ in 0..50 {
        raw.produce("sized", 0, keyed(&[("k", Some("some value of some length"))], now(), None)).await;
    }
    until!("retention by age", list_offsets(&mut raw, "aged", -2).await == 2);
    until!("retention by size", list_offsets(&mut raw, "sized", -2).await > 10);
    assert_eq!(list_offsets(&mut raw, "kept", -2).await, 0);
    assert_eq!(records(&mut raw, "aged").await.len(), 2, "a young batch holds what follows it");
    let size: usize = records(&mut raw, "sized").await.len();
    assert!((20..50).contains(&size), "{size} records are left");
    let data = raw.fetch("aged", 0, 0, false).await;
    assert_eq!(data.error_code, 1, "what is gone is out of range");
}

#[tokio::test]
async fn a_topic_that_stays_does_not_keep_the_files_of_those_that_go() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, "stays", &[("retention.ms", "-1")]).await;
    create(&mut raw, "goes", &[("retention.bytes", "1000"), ("retention.ms", "-1")]).await;
    let padding = "y".repeat(20_000);
    let mut rng = 7_u64;
    for round in 0..200 {
        let noise: String = (0..padding.len())
            .map(|_| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + (rng >> 59) as u8)
            })
            .collect();
        raw.produce("goes", 0, keyed(&[("k", Some(noise.as_str()))], now(), None)).await;
        let value = format!("stays {round}");
        raw.produce("stays", 0, keyed(&[("k", Some(value.as_str()))], now(), None)).await;
    }
    until!("the removal of files", log_bytes(dir.path()) < 5 * SEGMENT);
    let stays = records(&mut raw, "stays").await;
    assert_eq!(stays.len(), 200);
    assert!(stays.iter().enumerate().all(|(at, record)| record.offset == at as i64));
    broker.shutdown().await;
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(records(&mut raw, "stays").await, stays);
}

/// The file that it is in stays; all others go as they would.
#[tokio::test]
async fn a_damaged_batch_keeps_no_other_file_from_going() {
    let dir = tempfile::tempdir().unwrap();
    let mut lazy = eager(dir.path());
    lazy.cleaner.backoff = Duration::from_secs(3600);
    lazy.cleaner.retention_check = Duration::from_secs(3600);
    let broker = Broker::start(lazy).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, "stays", &[("retention.ms", "-1")]).await;
    create(&mut raw, "goes", &[("retention.bytes", "1000"), ("retention.ms", "-1")]).await;
    let padding = "y".repeat(20_000);
    for round in 0..200 {
        assert_eq!(raw.produce("goes", 0, common::batch(&[&padding])).await.error_code, 0);
        let value = format!("stays {round:03}");
        assert_eq!(raw.produce("stays", 0, common::batch(&[&value])).await.error_code, 0);
    }
    drop(raw);
    broker.shutdown().await;
    assert!(log_bytes(dir.path()) > 12 * SEGMENT);
    damage(dir.path(), "stays 001");
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    until!("the removal of files", log_bytes(dir.path()) < 8 * SEGMENT);
    let mut raw = Raw::connect(&broker).await;
    for at in 0..200 {
        let refused = raw.fetch("stays", 0, at, false).await.error_code;
        assert_eq!(refused, if at == 1 { 2 } else { 0 }, "offset {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_moves_to_a_cold_store_and_is_read_from_there() {
    let (dir, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tiered = || Config {
        cold_store: Some(format!("file://{}", store.path().display())),
        cold_local_bytes: 2 * SEGMENT,
        ..eager(dir.path())
    };
    let broker = Broker::start(tiered()).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, "t", &[("retention.ms", "-1")]).await;
    let mut rng = 7_u64;
    let mut sent = Vec::new();
    for _ in 0..300 {
        let noise: String = (0..10_000)
            .map(|_| {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + (rng >> 59) as u8)
            })
            .collect();
        raw.produce("t", 0, keyed(&[("k", Some(noise.as_str()))], now(), None)).await;
        sent.push(noise);
    }
    // A file that has gone from here was first put down as being there.
    let moved = || -> Vec<PathBuf> {
        let Some(cluster) = std::fs::read_dir(store.path()).unwrap().next() else { return Vec::new() };
        let objects = std::fs::read_dir(cluster.unwrap().path()).unwrap();
        let local = objects.map(|object| dir.path().join("log").join(object.unwrap().file_name()));
        local.filter(|file| !file.exists()).collect()
    };
    until!("the move of old files", moved().len() > 2 && log_bytes(dir.path()) < 6 * SEGMENT);
    let moved = moved();
    let read = |records: Vec<Record>| -> Vec<String> {
        let text = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        records.into_iter().map(text).collect()
    };
    assert!(read(records(&mut raw, "t").await) == sent, "all of it is read, wherever it is");
    broker.shutdown().await;
    let broker = Broker::start(tiered()).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(list_offsets(&mut raw, "t", 0).await, 0, "a search by time finds what is far");
    assert!(read(records(&mut raw, "t").await) == sent, "after a restart, too");
    broker.shutdown().await;
    // What a move that was killed left behind goes, and nothing else.
    let cluster = std::fs::read_dir(store.path()).unwrap().next().unwrap().unwrap().path();
    let orphan = cluster.join(headwater_log::FileId::run(999_999).name());
    std::fs::write(&orphan, "nobody knows of this").unwrap();
    std::fs::write(cluster.join("README"), "this is nobody's file").unwrap();
    let mut sweeping = tiered();
    sweeping.cleaner.cold_orphan_grace = Duration::from_millis(200);
    let broker = Broker::start(sweeping).await.unwrap();
    until!("the removal of what nobody needs", !orphan.exists());
    assert!(cluster.join("README").exists());
    let mut raw = Raw::connect(&broker).await;
    assert!(read(records(&mut raw, "t").await) == sent, "what is needed stays");
    broker.shutdown().await;
    for file in moved {
        // Some have come back while they were read.
        let _ = std::fs::remove_file(file);
    }
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let mut refused = 0;
    for at in 0..300 {
        refused = refused.max(raw.fetch("t", 0, at, false).await.error_code);
    }
    assert_eq!(refused, 56, "without its store the broker says KAFKA_STORAGE_ERROR, and loses nothing");
    broker.shutdown().await;
    let broker = Broker::start(tiered()).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    assert!(read(records(&mut raw, "t").await) == sent, "with it all is there again");
}

/// Objects of files, by name.
fn objects(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let Some(cluster) = std::fs::read_dir(store).unwrap().next() else { return BTreeMap::new() };
    let all = std::fs::read_dir(cluster.unwrap().path()).unwrap().map(|object| object.unwrap().path());
    all.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// A data directory as `headwater restore` makes it: all files are here, and the store does not know it.
fn restore(from: &Path, store: &Path, to: &Path) {
    std::fs::copy(from.join("headwater.json"), to.join("headwater.json")).unwrap();
    std::fs::create_dir(to.join("log")).unwrap();
    for entry in std::fs::read_dir(from.join("log")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join("log").join(path.file_name().unwrap())).unwrap();
    }
    for (name, bytes) in objects(store) {
        std::fs::write(to.join("log").join(name), bytes).unwrap();
    }
    std::fs::remove_file(to.join("log").join("cold-owner")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_broker_leaves_the_first_ones_place_in_the_store_alone_and_says_so() {
    let [first, second, store, other] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let tiered = |dir: &Path, store: &Path| Config {
        cold_store: Some(format!("file://{}", store.display())),
        cold_local_bytes: 2 * SEGMENT,
        ..eager(dir)
    };
    let is_told = |broker: &Broker| {
        let findings = broker.observer().health().findings;
        findings.into_iter().find(|finding| finding.kind == "cold_store_not_ours")
    };
    let noise = |seed: u64, length: usize| -> String {
        let next = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        std::iter::successors(Some(seed), next)
            .map(|x| char::from(b'a' + (x >> 59) as u8))
            .take(length)
            .collect()
    };
    let broker = Broker::start(tiered(first.path(), store.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, "t", &[("retention.ms", "-1")]).await;
    for number in 0..200 {
        raw.produce("t", 0, keyed(&[("k", Some(&noise(number, 10_000)))], now(), None)).await;
    }
    until!("the move of old files", objects(store.path()).len() > 3);
    assert_eq!(is_told(&broker), None, "it is its own place");
    broker.shutdown().await;
    let before = objects(store.path());
    restore(first.path(), store.path(), second.path());

    let broker = Broker::start(tiered(second.path(), store.path())).await.unwrap();
    until!("a word of it", is_told(&broker).is_some());
    let told = is_told(&broker).unwrap();
    assert!(told.next.contains("prefix of its own"), "{told:?}");
    let mut raw = Raw::connect(&broker).await;
    for number in 200..400 {
        raw.produce("t", 0, keyed(&[("k", Some(&noise(number, 10_000)))], now(), None)).await;
    }
    // More than it may have here, for many rounds of the cleaner.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(log_bytes(second.path()) > 8 * SEGMENT);
    assert!(objects(store.path()) == before, "nothing was put there, written over or removed");
    let all = records(&mut raw, "t").await;
    assert_eq!(all.len(), 400);
    broker.shutdown().await;

    let broker = Broker::start(tiered(second.path(), other.path())).await.unwrap();
    until!("the move to its own place", log_bytes(second.path()) < 6 * SEGMENT);
    assert_eq!(is_told(&broker), None);
    let mut raw = Raw::connect(&broker).await;
    assert!(records(&mut raw, "t").await == all);
    assert!(objects(store.path()) == before);
}

const YEAR_2001: i64 = 1_000_000_000_000;

/// A data directory that was used last in 2001.
fn of_2001(directory: &Path) {
    use headwater_log::{Durability, Log, Origin, PartitionId, RealDisk};
    std::fs::create_dir(directory.join("log")).unwrap();
    let marker =
        format!(r#"{{"format": {}, "cluster_id": "WLy-lWSxQcmEJoK81ELxZw"}}"#, headwater_log::FORMAT);
    std::fs::write(directory.join("headwater.json"), marker).unwrap();
    let disk = std::sync::Arc::new(RealDisk::new(directory.join("log")));
    let mut log = Log::open(disk, LogSettings::default()).unwrap();
    let id = PartitionId { topic_id: [9; 16], partition: 0 };
    log.create_partition(id).unwrap();
    let batch = keyed(&[("k", Some("v"))], YEAR_2001, None);
    log.append(id, &batch, Origin::Broker, Durability::Synced, YEAR_2001).unwrap();
    for _ in 0..2 {
        let (ticket, outcome) = log.begin_commit().unwrap().run();
        log.end_commit(ticket, outcome).unwrap();
        log.roll();
    }
}

/// It would keep from deletion all that follows it, until that year has come.
#[tokio::test]
async fn a_clock_that_is_not_believed_stamps_no_marker() {
    let dir = tempfile::tempdir().unwrap();
    of_2001(dir.path());
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, "t", &[("retention.ms", "-1")]).await;
    let producer = raw.begin("tx", "t").await;
    let batch = keyed(&[("k", Some("v"))], YEAR_2001, Some(producer));
    assert_eq!(raw.produce_as(Some("tx"), "t", 0, batch).await.error_code, 0);
    let end = EndTxnRequestData::default()
        .with_transactional_id("tx".to_owned().into())
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_committed(true);
    assert_eq!(raw.call(&end, 3).await.error_code, 0);
    let read = batches(raw.fetch("t", 0, 0, false).await.records.unwrap_or_default());
    let marker = read.iter().map(|(header, _)| header).find(|header| header.is_control());
    let stamped = marker.expect("a marker").max_timestamp;
    assert!((YEAR_2001..YEAR_2001 + 86_400_000).contains(&stamped), "{stamped}");
}

#[tokio::test]
async fn a_clock_that_has_jumped_far_ahead_deletes_nothing_by_age() {
    let dir = tempfile::tempdir().unwrap();
    of_2001(dir.path());
    for accepted in [false, true] {
        let mut config = eager(dir.path());
        config.cleaner.accept_clock_jump = accepted;
        let broker = Broker::start(config).await.unwrap();
        let mut raw = Raw::connect(&broker).await;
        let sized = format!("sized-{accepted}");
        create(&mut raw, &sized, &[("retention.bytes", "500")]).await;
        if !accepted {
            create(&mut raw, "aged", &[("retention.ms", "1000")]).await;
            let old = keyed(&[("k", Some("old"))], now() - 600_000, None);
            assert_eq!(raw.produce("aged", 0, old).await.error_code, 0);
        }
        let mut start = 0;
        for _ in 0..2 {
            for _ in 0..10 {
                raw.produce(&sized, 0, keyed(&[("k", Some("some value of some length"))], now(), None)).await;
            }
            until!("retention by size", list_offsets(&mut raw, &sized, -2).await > start);
            start = list_offsets(&mut raw, &sized, -2).await;
        }
        match accepted {
            false => assert_eq!(list_offsets(&mut raw, "aged", -2).await, 0, "the clock is not believed"),
            true => {
                until!("retention by age", list_offsets(&mut raw, "aged", -2).await == 1);
            }
        }
        broker.shutdown().await;
    }
}

#[tokio::test]
async fn many_restarts_do_not_leave_many_files() {
    const RESTARTS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(dir.path().join("log")).unwrap().count();
    let mut written = Vec::new();
    for round in 0..RESTARTS {
        let broker = Broker::start(config(dir.path())).await.unwrap();
        let mut raw = Raw::connect(&broker).await;
        if round == 0 {
            create(&mut raw, "t", &[]).await;
        }
        let value = format!("value {round}");
        assert_eq!(raw.produce("t", 0, common::batch(&[&value])).await.error_code, 0);
        written.push(value);
        drop(raw);
        broker.shutdown().await;
    }
    assert!(files() > RESTARTS, "each leaves its journal: {}", files());
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while files() > 40 {
        assert!(std::time::Instant::now() < deadline, "{} files are left", files());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(Raw::connect(&broker).await.values("t", 0, true).await, written);
    broker.shutdown().await;
    let broker = Broker::start(config(dir.path())).await.unwrap();
    assert_eq!(Raw::connect(&broker).await.values("t", 0, true).await, written);
    broker.shutdown().await;
}
