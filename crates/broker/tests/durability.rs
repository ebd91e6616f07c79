//! What was acknowledged is there after any end, and the directory keeps its one owner.

mod common;

use std::path::Path;

use common::process::{self, Process};
use common::{Raw, batch, config, start};
use headwater_broker::{Broker, Config, LogSettings, StartError};
use headwater_wire::messages::*;

/// Not a test by itself: what [`Process`] runs, in a process of its own.
#[tokio::test]
async fn serve_until_killed() {
    process::serve_until_killed().await;
}

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

#[tokio::test]
async fn a_damaged_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for _ in 0..20 {
        raw.produce("t", 0, batch(&["some value"])).await;
    }
    broker.shutdown().await;
    let wal = std::fs::read_dir(dir.path().join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, bytes).unwrap();
    let refused = Broker::start(config(dir.path())).await.err().expect("refused");
    assert!(matches!(refused, StartError::Log { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(wal.file_name().unwrap().to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn the_brokers_own_state_does_not_pile_up() {
    const PARTITIONS: i32 = 100;
    let dir = tempfile::tempdir().unwrap();
    let limits = || Config { log: LogSettings { segment_bytes: 1 << 20 }, ..config(dir.path()) };
    let broker = Broker::start(limits()).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", PARTITIONS).await;
    let rounds = 150;
    for round in 0..rounds {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(round)
                .with_committed_metadata(Some("m".repeat(4000).into()))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name("t".to_owned().into())
            .with_partitions((0..PARTITIONS).map(partition).collect());
        let request = OffsetCommitRequestData::default()
            .with_group_id("g".to_owned().into())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        assert_eq!(raw.call(&request, 7).await.topics[0].partitions[99].error_code, 0);
    }
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
