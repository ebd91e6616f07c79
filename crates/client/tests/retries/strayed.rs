//! A consumer one of whose partitions must look up where to go on, and gets no answer to that.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_client::{AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, ErrorCode};
use headwater_model::TopicPartition;
use headwater_wire::messages::fetch_request::FetchPartition;
use headwater_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use headwater_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use headwater_wire::messages::{
    FetchRequestData, FetchResponseData, ListOffsetsRequestData, ListOffsetsResponseData,
};
use headwater_wire::{ApiKey, BatchBuilder, Compression, batch};

use crate::scripted::{self, Asked, TOPIC};

/// Without a leader, as far as ListOffsets is concerned.
const STRAYED: i32 = 0;
const HEALTHY: i32 = 1;

fn fetched(wanted: &FetchPartition) -> PartitionData {
    let data = PartitionData::default().with_partition_index(wanted.partition);
    if wanted.partition == STRAYED {
        return data.with_error_code(ErrorCode::OffsetOutOfRange.code());
    }
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(b"v"), &[]);
    let mut one = BytesMut::from(&builder.build(Compression::None, None, false).unwrap()[..]);
    batch::assign_offset(&mut one, wanted.fetch_offset, 1);
    let end = wanted.fetch_offset + 1;
    data.with_high_watermark(end).with_last_stable_offset(end).with_records(Some(one.freeze()))
}

fn answer(mut asked: Asked<'_>) -> Option<()> {
    match asked.key {
        ApiKey::Fetch => {
            let request = FetchRequestData::read(&mut asked.body, asked.version).unwrap();
            let partitions = request.topics[0].partitions.iter().map(fetched).collect();
            let topic = FetchableTopicResponse::default()
                .with_topic(TOPIC.to_owned().into())
                .with_partitions(partitions);
            let response = FetchResponseData::default().with_responses(vec![topic]);
            response.write(asked.answer, asked.version).unwrap();
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequestData::read(&mut asked.body, asked.version).unwrap();
            let partition = ListOffsetsPartitionResponse::default()
                .with_partition_index(request.topics[0].partitions[0].partition_index)
                .with_error_code(ErrorCode::LeaderNotAvailable.code());
            let topic = ListOffsetsTopicResponse::default()
                .with_name(TOPIC.to_owned().into())
                .with_partitions(vec![partition]);
            let response = ListOffsetsResponseData::default().with_topics(vec![topic]);
            response.write(asked.answer, asked.version).unwrap();
        }
        other => panic!("{other:?}"),
    }
    Some(())
}

#[tokio::test]
async fn a_partition_that_finds_no_offset_holds_up_no_other() {
    let versions = [(ApiKey::Fetch, 12), (ApiKey::ListOffsets, 5)];
    let address = scripted::start(&versions, || vec![1, 1], answer).await;
    let client = Client::connect(ClientConfig::new(address, "strayed")).await.unwrap();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        isolation: headwater_client::Isolation::Uncommitted,
        max_wait: Duration::from_millis(50),
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(&client, config);
    let at = |partition| (TopicPartition::new(TOPIC, partition), 7);
    consumer.assign(vec![at(STRAYED), at(HEALTHY)]);
    let (begun, mut read) = (Instant::now(), 0);
    while read < 20 {
        assert!(begun.elapsed() < Duration::from_secs(10), "only {read} records came");
        let fetched = consumer.poll(Duration::from_millis(200)).await.unwrap();
        read += fetched.iter().map(|fetched| fetched.records.len()).sum::<usize>();
    }
}
