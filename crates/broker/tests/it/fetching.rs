//! What a consumer gets: long polls, limits, offsets.

use std::time::{Duration, Instant};

use headwater_broker::{Broker, Config};
use headwater_wire::messages::fetch_request::FetchPartition;
use headwater_wire::messages::fetch_request::ForgottenTopic;
use headwater_wire::messages::fetch_response::PartitionData;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid};

use crate::common::{self, Raw, batch, batches, fetch, start};

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

/// librdkafka 0082: its consumer drops a response that is longer than it asked for, and asks again for ever.
#[tokio::test]
async fn a_batch_that_does_not_fit_behind_another_waits_for_the_next_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let large = "x".repeat(10_000);
    for partition in [0, 1] {
        raw.produce("t", partition, batch(&[&large])).await;
    }
    let mut request = fetch("t", 0, 0).with_max_bytes(12_000);
    request.topics[0]
        .partitions
        .push(FetchPartition::default().with_partition(1).with_partition_max_bytes(1 << 20));
    let response = raw.call(&request, 11).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(batches(partitions[0].records.clone().unwrap()).len(), 1);
    assert_eq!(partitions[1].records.as_ref().unwrap().len(), 0);
    assert_eq!((partitions[1].error_code, partitions[1].high_watermark), (0, 1));
}

#[tokio::test]
async fn enough_bytes_are_enough_though_no_whole_number_of_batches_fits() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let size = batch(&["some value"]).len() as i32;
    for _ in 0..3 {
        raw.produce("t", 0, batch(&["some value"])).await;
    }
    // Two batches fit into the partition's limit, and three are there.
    let limit = 2 * size + size / 2;
    let mut request = fetch("t", 0, 0).with_max_wait_ms(LONG_MS).with_min_bytes(limit);
    request.topics[0].partitions[0].partition_max_bytes = limit;
    let begun = Instant::now();
    let response = raw.call(&request, 11).await;
    assert!(begun.elapsed() < Duration::from_millis(LONG_MS as u64));
    assert_eq!(batches(response.responses[0].partitions[0].records.clone().unwrap()).len(), 2);
}

#[tokio::test]
async fn a_minimum_above_what_a_response_may_hold_does_not_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["some value"])).await;
    let request = fetch("t", 0, 0).with_max_wait_ms(LONG_MS).with_min_bytes(1 << 20).with_max_bytes(20);
    let begun = Instant::now();
    let response = raw.call(&request, 11).await;
    assert!(begun.elapsed() < Duration::from_millis(LONG_MS as u64));
    assert_eq!(batches(response.responses[0].partitions[0].records.clone().unwrap()).len(), 1);
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

#[tokio::test]
async fn records_of_any_size_arrive_whole_in_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let topics = Some(vec![MetadataRequestTopic::default().with_name(Some("t".to_owned().into()))]);
    let known = raw.call(&MetadataRequestData::default().with_topics(topics), 12).await;
    let sizes = [10, 130_000, 900_000, 3_000, 400_000];
    for (n, size) in sizes.iter().enumerate() {
        let value = n.to_string().repeat(*size);
        assert_eq!(raw.produce("t", n as i32 % 2, batch(&[&value])).await.error_code, 0);
    }
    for version in 4..=17 {
        let mut request = fetch("t", 0, 0);
        request.topics[0]
            .partitions
            .push(FetchPartition::default().with_partition(1).with_partition_max_bytes(16 << 20));
        if version >= 13 {
            request.topics[0].topic = KafkaString::default();
            request.topics[0].topic_id = known.topics[0].topic_id;
        }
        let response = raw.call(&request, version).await;
        for (index, partition) in response.responses[0].partitions.iter().enumerate() {
            let found = batches(partition.records.clone().unwrap());
            let values = found.iter().map(|(_, records)| records[0].value.as_ref().unwrap().len());
            let expected: Vec<usize> = sizes.iter().skip(index).step_by(2).copied().collect();
            assert_eq!(values.collect::<Vec<_>>(), expected, "v{version} partition {index}");
        }
    }
}

#[tokio::test]
async fn a_response_that_nobody_reads_ends_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Config {
        transfer_timeout: Duration::from_millis(300),
        max_connections: 1,
        ..common::config(dir.path())
    };
    let broker = Broker::start(limits).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let value = "x".repeat(1_000_000);
    for _ in 0..30 {
        assert_eq!(raw.produce("t", 0, batch(&[&value])).await.error_code, 0);
    }
    let mut request = fetch("t", 0, 0);
    request.topics[0].partitions[0].partition_max_bytes = 32 << 20;
    raw.send(&request, 11).await;
    loop {
        // There is a place when the connection before has ended.
        let mut next = Raw::connect(&broker).await;
        next.send(&ApiVersionsRequestData::default(), 0).await;
        if next.frame().await.is_ok() {
            break;
        }
    }
    assert!(raw.frame().await.is_err(), "it was cut short");
}

/// Partitions of a response, with how many batches each has.
fn news(response: &FetchResponseData) -> Vec<(i32, usize)> {
    assert_eq!(response.error_code, 0, "{response:?}");
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let count = |partition: &PartitionData| batches(partition.records.clone().unwrap()).len();
    partitions.map(|partition| (partition.partition_index, count(partition))).collect()
}

#[tokio::test]
async fn a_fetch_session_is_told_only_what_is_new_on_any_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut raw, mut other) = (Raw::connect(&broker).await, Raw::connect(&broker).await);
    raw.create_topic("t", 3).await;
    let partition = |index, offset| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20)
    };
    let request = |id, epoch, partitions: Vec<FetchPartition>| {
        let mut request = fetch("t", 0, 0).with_session_id(id).with_session_epoch(epoch);
        match partitions.is_empty() {
            true => request.topics.clear(),
            false => request.topics[0].partitions = partitions,
        }
        request
    };
    let all = (0..3).map(|index| partition(index, 0)).collect();
    let begun = raw.call(&request(0, 0, all), 12).await;
    let id = begun.session_id;
    assert_ne!(id, 0);
    assert_eq!(news(&begun), [(0, 0), (1, 0), (2, 0)]);
    assert!(news(&raw.call(&request(id, 1, vec![]), 12).await).is_empty());
    let waiting = request(id, 2, vec![]).with_max_wait_ms(LONG_MS);
    raw.send(&waiting, 12).await;
    other.produce("t", 1, batch(&["a"])).await;
    assert_eq!(news(&raw.receive::<FetchRequestData>(12, 0).await), [(1, 1)]);
    let third = other.call(&request(id, 3, vec![partition(1, 1)]), 12).await;
    assert_eq!((news(&third), third.session_id), (vec![], id), "its high watermark is known");
    other.produce("t", 2, batch(&["b"])).await;
    let mut forgetting = request(id, 4, vec![]);
    forgetting.forgotten_topics_data =
        vec![ForgottenTopic::default().with_topic("t".to_owned().into()).with_partitions(vec![2])];
    assert!(news(&other.call(&forgetting, 12).await).is_empty());
    let refused = other.call(&request(id, 4, vec![]), 12).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    let refused = other.call(&request(id, 5, vec![]), 13).await;
    assert_eq!(refused.error_code, ErrorCode::FetchSessionTopicIdError.code());
    let ended = other.call(&request(id, -1, vec![partition(2, 0)]), 12).await;
    assert_eq!((news(&ended), ended.session_id), (vec![(2, 1)], 0));
    let gone = other.call(&request(id, 5, vec![]), 12).await;
    assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

async fn position(raw: &mut Raw, timestamp: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let response = raw.call(&ListOffsetsRequestData::default().with_topics(vec![topic]), 7).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    (partition.offset, partition.timestamp)
}

async fn delete_before(raw: &mut Raw, offset: i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let deleted = raw.call(&DeleteRecordsRequestData::default().with_topics(vec![topic]), 1).await;
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, offset);
}

#[tokio::test]
async fn however_many_batches_were_deleted_positions_are_found_by_time_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for timestamp in 1_000..1_020 {
        let mut builder = headwater_wire::BatchBuilder::new();
        builder.push(timestamp, None, Some(b"v"), &[]);
        let batch = builder.build(headwater_wire::Compression::None, None, false).unwrap();
        assert_eq!(raw.produce("t", 0, batch).await.error_code, 0);
    }
    delete_before(&mut raw, 15).await;
    assert_eq!(position(&mut raw, 0).await, (15, 1_015));
    assert_eq!(position(&mut raw, 1_017).await, (17, 1_017));
    assert_eq!(position(&mut raw, -3).await, (19, 1_019));
}

#[tokio::test]
async fn two_positions_of_a_partition_at_once_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let partition = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name("t".to_owned().into()).with_partitions(vec![
        partition(0),
        partition(1),
        partition(0),
    ]);
    let response = raw.call(&ListOffsetsRequestData::default().with_topics(vec![topic]), 7).await;
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|one| one.error_code).collect();
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(codes, [invalid, 0, invalid]);
}

#[tokio::test]
async fn what_an_open_transaction_has_before_the_start_of_the_log_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = raw.begin("open", "t").await;
    let open = common::batch_of(&["open"], Some(producer), true);
    assert_eq!(raw.produce_as(Some("open"), "t", 0, open).await.error_code, 0);
    assert_eq!(raw.produce("t", 0, batch(&["a", "b"])).await.base_offset, 1);
    delete_before(&mut raw, 2).await;
    let found = raw.fetch("t", 0, 2, true).await;
    assert_eq!((found.error_code, found.log_start_offset, found.last_stable_offset), (0, 2, 2));
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
    delete_before(&mut raw, 2).await;
    assert_eq!(position(&mut raw, -2).await, (2, -1));
    // As in Apache Kafka, which looks at what it has on disk.
    assert_eq!(position(&mut raw, -3).await, (1, 3000));
    assert_eq!(raw.fetch("t", 0, 1, false).await.error_code, ErrorCode::OffsetOutOfRange.code());
}
