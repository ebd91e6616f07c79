//! History in a cold store: it is read from there, and a store is one broker's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_broker::{Broker, Config};
use headwater_model::Record;

use super::support::{SEGMENT, eager, keyed, list_offsets, log_bytes, noise, now, records, until};
use crate::common::Raw;

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
    raw.create("t", &[("retention.ms", "-1")]).await;
    let mut rng = 7_u64;
    let mut sent = Vec::new();
    for _ in 0..300 {
        let noise = noise(&mut rng, 10_000);
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
    let value = |mut number: u64| noise(&mut number, 10_000);
    let broker = Broker::start(tiered(first.path(), store.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create("t", &[("retention.ms", "-1")]).await;
    for number in 0..200 {
        raw.produce("t", 0, keyed(&[("k", Some(&value(number)))], now(), None)).await;
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
        raw.produce("t", 0, keyed(&[("k", Some(&value(number)))], now(), None)).await;
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
