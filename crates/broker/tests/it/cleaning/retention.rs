//! Retention by age and size, the clock that it believes, and the files that go with what is deleted.

use std::path::Path;
use std::time::Duration;

use headwater_broker::{Broker, LogSettings};

use super::support::{SEGMENT, eager, keyed, list_offsets, log_bytes, noise, now, records, until};
use crate::common::{self, Raw, batches, config, damage};

#[tokio::test]
async fn old_records_go_and_future_ones_hold() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(eager(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create("aged", &[("retention.ms", "60000")]).await;
    raw.create("sized", &[("retention.bytes", "3000")]).await;
    raw.create("kept", &[("retention.ms", "-1")]).await;
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
    raw.create("stays", &[("retention.ms", "-1")]).await;
    raw.create("goes", &[("retention.bytes", "1000"), ("retention.ms", "-1")]).await;
    let mut rng = 7_u64;
    for round in 0..200 {
        let noise = noise(&mut rng, 20_000);
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
    raw.create("stays", &[("retention.ms", "-1")]).await;
    raw.create("goes", &[("retention.bytes", "1000"), ("retention.ms", "-1")]).await;
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
    raw.create("t", &[("retention.ms", "-1")]).await;
    let producer = raw.begin("tx", "t").await;
    let batch = keyed(&[("k", Some("v"))], YEAR_2001, Some(producer));
    assert_eq!(raw.produce_as(Some("tx"), "t", 0, batch).await.error_code, 0);
    assert_eq!(raw.end_transaction("tx", producer, true).await, 0);
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
        raw.create(&sized, &[("retention.bytes", "500")]).await;
        if !accepted {
            raw.create("aged", &[("retention.ms", "1000")]).await;
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
            raw.create("t", &[]).await;
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
