//! Compaction: the last value of every key stays, and in files of a sensible size.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use headwater_broker::Broker;
use headwater_model::Record;

use super::support::{SEGMENT, eager, keyed, list_offsets, log_bytes, noise, now, records, until};
use crate::common::Raw;

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

#[tokio::test]
async fn compaction_keeps_the_last_value_of_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let eager_topic =
        [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0.01")];
    raw.create("t", &eager_topic).await;
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
    raw.create("t", &eager_topic).await;
    let mut rng = 7_u64;
    for number in 0..KEYS {
        let noise = noise(&mut rng, 20_000);
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
    raw.create("t", &configs).await;
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
    raw.create(
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
