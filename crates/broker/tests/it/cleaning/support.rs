//! A broker whose cleaner has much to do, and what is in its log.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use headwater_broker::{CleanerConfig, Config, LogSettings};
use headwater_model::Record;
use headwater_wire::messages::*;
use headwater_wire::{BatchBuilder, Compression, Producer};

use crate::common::{Raw, batches, config};

pub const SEGMENT: u64 = 256 << 10;

pub fn eager(directory: &Path) -> Config {
    let cleaner = CleanerConfig {
        retention_check: Duration::from_millis(20),
        backoff: Duration::from_millis(20),
        dedupe_bytes: 4 << 20,
        ..CleanerConfig::default()
    };
    let log = LogSettings { segment_bytes: SEGMENT, ..LogSettings::default() };
    Config { cleaner, log, ..config(directory) }
}

pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub fn keyed(records: &[(&str, Option<&str>)], timestamp: i64, producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    builder.build(Compression::Lz4, producer, producer.is_some()).unwrap()
}

/// Text that hardly gets smaller.
pub fn noise(rng: &mut u64, length: usize) -> String {
    let next = |_| {
        *rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (*rng >> 59) as u8)
    };
    (0..length).map(next).collect()
}

/// All records from the log start on.
pub async fn records(raw: &mut Raw, topic: &str) -> Vec<Record> {
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

pub async fn list_offsets(raw: &mut Raw, topic: &str, timestamp: i64) -> i64 {
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
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
}
pub(crate) use until;

pub fn log_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory.join("log")).unwrap().filter_map(Result::ok);
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
