//! Producers of a partition and the hand at a transaction that hangs (KIP-664): what `kafka-transactions` sends.

use std::collections::HashSet;

use headwater_log::LogError;
use headwater_wire::messages::describe_producers_request::TopicRequest;
use headwater_wire::messages::describe_producers_response::{
    DescribeProducersResponseData, PartitionResponse, ProducerState, TopicResponse,
};
use headwater_wire::messages::write_txn_markers_request::WritableTxnMarker;
use headwater_wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersResponseData,
};
use headwater_wire::messages::{DescribeProducersRequestData, WriteTxnMarkersRequestData};
use headwater_wire::{ErrorCode, KafkaString};

use super::rights;
use super::{Call, CallError};
use crate::engine::Marker;

pub async fn describe(
    call: &Call,
    mut request: DescribeProducersRequestData,
) -> Result<DescribeProducersResponseData, CallError> {
    // What is named again and again would make a long answer of a short request.
    let mut named = HashSet::new();
    for topic in &mut request.topics {
        let name = topic.name.clone();
        topic.partition_indexes.retain(|index| named.insert((name.clone(), *index)));
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| described(call, &topic, *index));
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    Ok(DescribeProducersResponseData::default().with_topics(topics.collect()))
}

fn described(call: &Call, topic: &TopicRequest, index: i32) -> PartitionResponse {
    let response = PartitionResponse::default().with_partition_index(index);
    if let Err(code) = call.check(rights::READ_TOPIC, topic.name.as_str()) {
        return response.with_error_code(code.code());
    }
    let place = call.shared.catalog.by_name(topic.name.as_str()).and_then(|topic| topic.partition(index));
    let Some(Ok(producers)) = place.map(|place| call.shared.reader.producers(place)) else {
        return response
            .with_error_code(ErrorCode::UnknownTopicOrPartition.code())
            .with_error_message(Some(KafkaString::from_static("there is no such partition")));
    };
    let state = |producer: headwater_log::ActiveProducer| {
        ProducerState::default()
            .with_producer_id(producer.id)
            .with_producer_epoch(i32::from(producer.epoch))
            .with_last_sequence(producer.last_sequence)
            .with_last_timestamp(producer.last_written)
            .with_coordinator_epoch(0)
            .with_current_txn_start_offset(producer.open_since.unwrap_or(-1))
    };
    response.with_active_producers(producers.into_iter().map(state).collect())
}

/// Ends transactions in single partitions, whatever the coordinator knows of them: for those it has forgotten.
pub async fn write_markers(
    call: &Call,
    request: WriteTxnMarkersRequestData,
) -> Result<WriteTxnMarkersResponseData, CallError> {
    let allowed = match call.sees_cluster(rights::CLUSTER_ACTION) {
        true => Ok(()),
        false => call.check_cluster(rights::ALTER_CLUSTER),
    };
    // Once, as a topic may come or go while the engine writes: its answers are told by their order.
    let places: Vec<_> = request.markers.iter().flat_map(|marker| places(call, marker)).collect();
    let markers = match allowed {
        Ok(()) => places.iter().flatten().copied().collect(),
        Err(_) => Vec::new(),
    };
    let mut written = call.shared.engine.write_markers(markers).await?.into_iter();
    let mut codes = places.iter().map(|place| match place.as_ref().map(|_| written.next()) {
        _ if let Err(code) = allowed => code,
        Some(Some(Ok(()))) => ErrorCode::None,
        Some(Some(Err(LogError::InvalidProducerEpoch { .. }))) => ErrorCode::InvalidProducerEpoch,
        Some(Some(Err(LogError::UnknownPartition(_)))) | None => ErrorCode::UnknownTopicOrPartition,
        Some(_) => ErrorCode::KafkaStorageError,
    });
    let results = request.markers.iter().map(|marker| {
        let topics = marker.topics.iter().map(|topic| {
            let result = |&index: &i32| {
                let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code.code())
            };
            let partitions = topic.partition_indexes.iter().map(result).collect();
            WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics)
    });
    Ok(WriteTxnMarkersResponseData::default().with_markers(results.collect()))
}

/// One for each partition that is named, in the order of the request; `None` where there is no such partition.
fn places<'a>(call: &'a Call, marker: &'a WritableTxnMarker) -> impl Iterator<Item = Option<Marker>> + 'a {
    marker.topics.iter().flat_map(move |topic| {
        let found = call.shared.catalog.by_name(topic.name.as_str());
        topic.partition_indexes.iter().map(move |&index| {
            Some(Marker {
                partition: found.as_ref()?.partition(index)?,
                producer_id: marker.producer_id,
                producer_epoch: marker.producer_epoch,
                commit: marker.transaction_result,
            })
        })
    })
}
