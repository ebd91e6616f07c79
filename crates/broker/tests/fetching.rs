//! What a consumer gets: long polls, limits, offsets.

mod common;

use std::time::{Duration, Instant};

use common::{Raw, batch, batches, fetch, start};
use headwater_wire::messages::fetch_request::FetchPartition;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaUuid};

/// Far above what any wait in these tests should take, far below what hangs the suite.
const LONG_MS: i32 = 30_000;

#[tokio::test]
async fn a_long_poll_ends_when_data_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut reader, mut writer) = (Raw::connect(&broker).await, Raw::connect(&broker).await);
    writer.create_topic("t", 3).await;
    let begun = Instant::now();
    reader.send(&fetch("t", 1, 0).with_max_wait_ms(LONG_MS), 11).await;
    writer.produce("t", 0, batch(&["elsewhere"])).await;
    writer.produce("t", 1, batch(&["here"])).await;
    let response = reader.receive::<FetchRequestData>(11, 0).await;
    assert!(begun.elapsed() < Duration::from_millis(LONG_MS as u64));
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.high_watermark, 1);
    assert_eq!(batches(data.records.clone().unwrap()).len(), 1);
}

#[tokio::test]
async fn a_long_poll_without_data_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let begun = Instant::now();
    let response = raw.call(&fetch("t", 0, 0).with_max_wait_ms(150), 11).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
    let data = &response.responses[0].partitions[0];
    assert_eq!((data.error_code, data.records.as_ref().map(|records| records.len())), (0, Some(0)));
}

#[tokio::test]
async fn fetch_waits_until_min_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut reader, mut writer) = (Raw::connect(&broker).await, Raw::connect(&broker).await);
    writer.create_topic("t", 1).await;
    let size = batch(&["some value"]).len() as i32;
    reader.send(&fetch("t", 0, 0).with_max_wait_ms(LONG_MS).with_min_bytes(3 * size), 11).await;
    for _ in 0..3 {
        writer.produce("t", 0, batch(&["some value"])).await;
    }
    let response = reader.receive::<FetchRequestData>(11, 0).await;
    assert_eq!(batches(response.responses[0].partitions[0].records.clone().unwrap()).len(), 3);
}

#[tokio::test]
async fn the_first_batch_is_whole_and_the_limits_hold_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let large = "x".repeat(10_000);
    for partition in [0, 0, 1] {
        raw.produce("t", partition, batch(&[&large])).await;
    }
    let mut request = fetch("t", 0, 0).with_max_bytes(100);
    request.topics[0]
        .partitions
        .push(FetchPartition::default().with_partition(1).with_partition_max_bytes(100));
    let response = raw.call(&request, 11).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(batches(partitions[0].records.clone().unwrap()).len(), 1);
    assert_eq!(partitions[1].records.as_ref().unwrap().len(), 0);
    assert_eq!(partitions[1].high_watermark, 1);
}

#[tokio::test]
async fn an_offset_within_a_batch_returns_the_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["a", "b", "c"])).await;
    raw.produce("t", 0, batch(&["d"])).await;
    let data = raw.fetch("t", 0, 2, false).await;
    let found = batches(data.records.unwrap());
    assert_eq!(found.iter().map(|(header, _)| header.base_offset).collect::<Vec<_>>(), [0, 3]);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for (topic, partition, offset, code) in [
        ("t", 0, 5, ErrorCode::OffsetOutOfRange),
        ("t", 0, -1, ErrorCode::OffsetOutOfRange),
        ("t", 7, 0, ErrorCode::UnknownTopicOrPartition),
        ("u", 0, 0, ErrorCode::UnknownTopicOrPartition),
    ] {
        let response = raw.call(&fetch(topic, partition, offset).with_max_wait_ms(LONG_MS), 11).await;
        assert_eq!(response.responses[0].partitions[0].error_code, code.code(), "{topic}/{partition}");
    }
    let response = raw.call(&fetch("t", 0, 0).with_session_id(5).with_session_epoch(1), 11).await;
    assert_eq!(response.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[tokio::test]
async fn topics_are_fetched_by_id_until_they_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut raw, mut other) = (Raw::connect(&broker).await, Raw::connect(&broker).await);
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["a"])).await;
    let topics = Some(vec![MetadataRequestTopic::default().with_name(Some("t".to_owned().into()))]);
    let known = raw.call(&MetadataRequestData::default().with_topics(topics), 12).await;
    let id = known.topics[0].topic_id;
    assert_ne!(id, KafkaUuid::ZERO);
    let by_id = |offset| {
        let mut request = fetch("", 0, offset).with_max_wait_ms(LONG_MS);
        request.topics[0].topic_id = id;
        request
    };
    let response = raw.call(&by_id(0), 13).await;
    assert_eq!(batches(response.responses[0].partitions[0].records.clone().unwrap()).len(), 1);
    raw.send(&by_id(1), 13).await;
    let delete = DeleteTopicsRequestData::default().with_topic_names(vec!["t".to_owned().into()]);
    assert_eq!(other.call(&delete, 5).await.responses[0].error_code, 0);
    let response = raw.receive::<FetchRequestData>(13, 0).await;
    let code = ErrorCode::from(response.responses[0].partitions[0].error_code);
    assert!(matches!(code, ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition), "{code}");
    assert_eq!(
        raw.call(&by_id(1), 13).await.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicId.code()
    );
}

async fn position(raw: &mut Raw, timestamp: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let response = raw.call(&ListOffsetsRequestData::default().with_topics(vec![topic]), 7).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    (partition.offset, partition.timestamp)
}

#[tokio::test]
async fn positions_are_found_by_time_and_move_with_deleted_records() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let mut builder = headwater_wire::BatchBuilder::new();
    for timestamp in [1000, 3000, 2000] {
        builder.push(timestamp, None, Some(b"v"), &[]);
    }
    let timed = builder.build(headwater_wire::Compression::None, None, false).unwrap();
    assert_eq!(raw.produce("t", 0, timed).await.error_code, 0);
    assert_eq!(position(&mut raw, -2).await, (0, -1));
    assert_eq!(position(&mut raw, -1).await, (3, -1));
    assert_eq!(position(&mut raw, -3).await, (1, 3000));
    assert_eq!(position(&mut raw, 1500).await, (1, 3000));
    assert_eq!(position(&mut raw, 4000).await, (-1, -1));
    let partition = DeleteRecordsPartition::default().with_offset(2);
    let topic =
        DeleteRecordsTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let deleted = raw.call(&DeleteRecordsRequestData::default().with_topics(vec![topic]), 1).await;
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 2);
    assert_eq!(position(&mut raw, -2).await, (2, -1));
    assert_eq!(raw.fetch("t", 0, 1, false).await.error_code, ErrorCode::OffsetOutOfRange.code());
}
