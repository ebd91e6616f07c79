//! What was acknowledged is there after any end, and the directory keeps its one owner.

use std::path::Path;

use headwater_broker::{Broker, Config, CoordinatorSettings, LogSettings, StartError};
use headwater_wire::messages::*;

use crate::common::{self, Raw, batch, batches, config, fetch, start};
use crate::process::Process;

#[tokio::test]
async fn everything_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let process = Process::start(dir.path(), None);
        let mut raw = Raw::to(&process.address).await;
        if round == 0 {
            raw.create_topic("t", 1).await;
        }
        assert_eq!(raw.values("t", 0, true).await[..acknowledged.len()], acknowledged);
        acknowledged = raw.values("t", 0, true).await;
        for n in 0..50 {
            let value = format!("{round}-{n}");
            assert_eq!(raw.produce("t", 0, batch(&[&value])).await.error_code, 0);
            acknowledged.push(value);
        }
        // Under way when the end comes: there or not, but never torn.
        raw.send(&common::produce(None, "t", 0, batch(&["perhaps"])), 9).await;
    }
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.values("t", 0, true).await[..acknowledged.len()], acknowledged);
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), None);
    let refused = Broker::start(config(dir.path())).await.err().expect("refused");
    assert!(matches!(refused, StartError::Locked { .. }), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains(&process.id().to_string()) && text.contains(&dir.path().display().to_string()),
        "{text}"
    );
    drop(process);
    start(dir.path()).await.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let refused =
        Broker::start(Config { listen, ..config(&dir.path().join("data")) }).await.err().expect("refused");
    let text = refused.to_string();
    assert!(
        text.contains(&listen.to_string()) && text.contains("--listen") && text.contains("port 0"),
        "{text}"
    );
    assert!(!dir.path().join("data").exists());
}

/// Flips a bit of the first place in the log that holds `text`.
fn damage(directory: &Path, text: &[u8]) -> std::path::PathBuf {
    for entry in std::fs::read_dir(directory.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("{} is nowhere in the log", String::from_utf8_lossy(text));
}

#[tokio::test]
async fn a_damaged_batch_is_refused_and_everything_else_is_served() {
    const CORRUPT_MESSAGE: i16 = 2;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    for round in 0..20 {
        raw.produce("t", round % 2, batch(&[&format!("value {round:02}")])).await;
    }
    broker.shutdown().await;
    damage(dir.path(), b"value 07");
    for round in 0..2 {
        let broker = start(dir.path()).await;
        let mut raw = Raw::connect(&broker).await;
        let fetched = raw.call(&fetch("t", 1, 3), 12).await;
        assert_eq!(fetched.responses[0].partitions[0].error_code, CORRUPT_MESSAGE);
        let before = raw.call(&fetch("t", 1, 0), 12).await;
        let records = before.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(batches(records).len(), 3, "up to the damage");
        let behind = raw.call(&fetch("t", 1, 4), 12).await;
        let records = behind.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(batches(records).len(), 6 + round, "from behind it");
        assert_eq!(raw.values("t", 0, true).await.len(), 10);
        assert_eq!(raw.produce("t", 1, batch(&["more"])).await.error_code, 0);
        broker.shutdown().await;
    }
}

#[tokio::test]
async fn damage_of_the_brokers_own_state_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("precious-topic", 1).await;
    broker.shutdown().await;
    let file = damage(dir.path(), b"precious-topic");
    let refused = Broker::start(config(dir.path())).await.err().expect("refused");
    assert!(matches!(refused, StartError::State { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
}

/// Commits positions until a snapshot of the broker's state is due.
async fn commit_positions(raw: &mut Raw, topic: &str, rounds: i64) {
    for round in 0..rounds {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(round)
                .with_committed_metadata(Some("m".repeat(4000).into()))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic.to_owned().into())
            .with_partitions((0..100).map(partition).collect());
        let request = OffsetCommitRequestData::default()
            .with_group_id("g".to_owned().into())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        assert_eq!(raw.call(&request, 7).await.topics[0].partitions[99].error_code, 0);
    }
}

#[tokio::test]
async fn damage_of_the_brokers_own_state_is_made_up_for_by_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("precious-topic", 100).await;
    commit_positions(&mut raw, "precious-topic", 8).await;
    assert_eq!(raw.produce("precious-topic", 7, batch(&["value"])).await.error_code, 0);
    broker.shutdown().await;
    // The record by which the topic was created.
    damage(dir.path(), b"precious-topic");
    for _ in 0..3 {
        let broker = start(dir.path()).await;
        let mut raw = Raw::connect(&broker).await;
        assert_eq!(raw.values("precious-topic", 7, true).await, ["value"]);
        let all = OffsetFetchRequestGroup::default().with_group_id("g".to_owned().into()).with_topics(None);
        let fetched = raw.call(&OffsetFetchRequestData::default().with_groups(vec![all]), 8).await;
        let offsets = &fetched.groups[0].topics[0].partitions;
        assert_eq!(offsets.len(), 100);
        assert!(offsets.iter().all(|offset| offset.committed_offset == 7));
        broker.shutdown().await;
    }
}

#[tokio::test]
async fn the_brokers_own_state_does_not_pile_up() {
    const PARTITIONS: i32 = 100;
    let dir = tempfile::tempdir().unwrap();
    // What Kafka's own topics tell of it is the cleaner's to keep small.
    let limits = || Config {
        log: LogSettings { segment_bytes: 1 << 20, ..LogSettings::default() },
        coordinator: CoordinatorSettings { internal_topics: false, ..CoordinatorSettings::default() },
        ..config(dir.path())
    };
    let broker = Broker::start(limits()).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", PARTITIONS).await;
    let rounds = 150;
    commit_positions(&mut raw, "t", rounds).await;
    broker.shutdown().await;
    let size = |path: &Path| -> u64 {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let left = size(&dir.path().join("log"));
    assert!(left < 12 << 20, "{left} bytes are left of 60 MB");
    let broker = Broker::start(limits()).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let all = OffsetFetchRequestGroup::default().with_group_id("g".to_owned().into()).with_topics(None);
    let fetched = raw.call(&OffsetFetchRequestData::default().with_groups(vec![all]), 8).await;
    let offsets = &fetched.groups[0].topics[0].partitions;
    assert_eq!(offsets.len(), PARTITIONS as usize);
    assert!(offsets.iter().all(|offset| offset.committed_offset == rounds - 1));
}
