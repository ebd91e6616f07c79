//! Offsets of partitions: by time, by leader epoch, and where a log begins.

use std::collections::HashSet;
use std::sync::Arc;

use headwater_log::{FileId, Isolation, LogError, PartitionId};
use headwater_model::{Offset, TimestampMs};
use headwater_wire::ErrorCode;
use headwater_wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponseData, DeleteRecordsTopicResult,
};
use headwater_wire::messages::list_offsets_request::ListOffsetsPartition;
use headwater_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponseData, ListOffsetsTopicResponse,
};
use headwater_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponseData, OffsetForLeaderTopicResult,
};
use headwater_wire::messages::{
    DeleteRecordsRequestData, ListOffsetsRequestData, OffsetForLeaderEpochRequestData,
};

use super::rights::Right;
use super::{Call, CallError, rights};
use crate::broker::Shared;
use crate::catalog::Topic;

/// From here on a position comes with its epoch.
const LEADER_EPOCH: i16 = 4;
const LATEST: TimestampMs = -1;
const EARLIEST: TimestampMs = -2;
/// KIP-734
const MAX_TIMESTAMP: TimestampMs = -3;
/// KIP-405: the earliest that is on the broker itself, which is all of it.
const EARLIEST_LOCAL: TimestampMs = -4;
/// KIP-1005: the last in tiered storage, where there is nothing.
const LATEST_TIERED: TimestampMs = -5;
/// KIP-1023: the first that waits for tiered storage, where nothing does.
const EARLIEST_PENDING_UPLOAD: TimestampMs = -6;
/// Positions that stand for no time, and the version from which a client may ask for them.
const SPECIAL: [(TimestampMs, i16); 6] = [
    (LATEST, 1),
    (EARLIEST, 1),
    (MAX_TIMESTAMP, 7),
    (EARLIEST_LOCAL, 8),
    (LATEST_TIERED, 9),
    (EARLIEST_PENDING_UPLOAD, 11),
];

/// A time, or a position that this version knows.
fn is_known(timestamp: TimestampMs, version: i16) -> bool {
    timestamp >= 0 || SPECIAL.iter().any(|(known, since)| *known == timestamp && version >= *since)
}

pub async fn list(
    call: &Call,
    request: ListOffsetsRequestData,
) -> Result<ListOffsetsResponseData, CallError> {
    let (shared, mismatch) = (Arc::clone(&call.shared), call.mismatch());
    let call = call.clone();
    // A search by time reads batches.
    let listing = shared.cold.reading(move || {
        let isolation =
            if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted };
        let mut far = Vec::new();
        let twice = named_twice(&request);
        let topics = request.topics.iter().map(|topic| {
            let found = allowed(&call, rights::DESCRIBE_TOPIC, topic.name.as_str());
            let answer = |partition: &ListOffsetsPartition| {
                if twice.contains(&(topic.name.as_str(), partition.partition_index)) {
                    return refused(partition.partition_index, ErrorCode::InvalidRequest);
                }
                let place = found.as_ref().map_err(|code| *code);
                let place = place.and_then(|topic| partition_of(topic, partition.partition_index));
                let response = match is_known(partition.timestamp, call.version) {
                    true => answer(&call.shared, place, partition, isolation, &mut far),
                    false => refused(partition.partition_index, ErrorCode::UnsupportedVersion),
                };
                if call.version < LEADER_EPOCH { response.with_leader_epoch(-1) } else { response }
            };
            let partitions = topic.partitions.iter().map(answer).collect();
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        (ListOffsetsResponseData::default().with_topics(topics), far)
    });
    listing.await.map_err(|_| mismatch)
}

/// As Apache Kafka has it, who asks for two positions of a partition at once gets none.
fn named_twice(request: &ListOffsetsRequestData) -> HashSet<(&str, i32)> {
    let (mut named, mut twice) = (HashSet::new(), HashSet::new());
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = (topic.name.as_str(), partition.partition_index);
            if !named.insert(place) {
                twice.insert(place);
            }
        }
    }
    twice
}

/// The topic, when there is one and the client may.
pub fn allowed(call: &Call, right: Right, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    call.check(right, name)?;
    existing(call, name)
}

fn existing(call: &Call, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    call.shared.catalog.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn partition_of(topic: &Topic, index: i32) -> Result<PartitionId, ErrorCode> {
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Adds files that are not here to `far`.
fn answer(
    shared: &Shared,
    place: Result<PartitionId, ErrorCode>,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
    far: &mut Vec<FileId>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
    let found = match place {
        Err(code) => Err(code),
        Ok(_) if wanted.current_leader_epoch > 0 => Err(ErrorCode::UnknownLeaderEpoch),
        Ok(place) => position(shared, place, wanted.timestamp, isolation).map_err(|error| match error {
            LogError::Far { id, .. } => {
                far.push(id);
                ErrorCode::KafkaStorageError
            }
            error => code(&error),
        }),
    };
    match found {
        Ok(Some((offset, timestamp))) => {
            response.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(0)
        }
        Ok(None) => response.with_offset(-1).with_timestamp(-1),
        Err(code) => refused(wanted.partition_index, code),
    }
}

fn refused(index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.code())
        .with_offset(-1)
        .with_timestamp(-1)
}

/// Offset and timestamp; the latter −1 where only a position was asked for.
fn position(
    shared: &Shared,
    place: PartitionId,
    timestamp: TimestampMs,
    isolation: Isolation,
) -> Result<Option<(Offset, TimestampMs)>, LogError> {
    let offsets = shared.reader.offsets(place)?;
    let end = if isolation == Isolation::Committed { offsets.last_stable } else { offsets.high_watermark };
    let found = match timestamp {
        LATEST => return Ok(Some((end, -1))),
        EARLIEST | EARLIEST_LOCAL => return Ok(Some((offsets.log_start, -1))),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(None),
        MAX_TIMESTAMP => shared.reader.max_timestamp_offset(place)?,
        timestamp => shared.reader.offset_for_time(place, timestamp)?,
    };
    Ok(found.filter(|(offset, _)| *offset < end))
}

/// There was only ever epoch 0.
pub async fn for_leader_epoch(
    call: &Call,
    request: OffsetForLeaderEpochRequestData,
) -> Result<OffsetForLeaderEpochResponseData, CallError> {
    let is_broker = call.sees_cluster(rights::CLUSTER_ACTION);
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.topic.as_str();
        let found = match is_broker {
            true => existing(call, name),
            false => allowed(call, rights::DESCRIBE_TOPIC, name),
        };
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let response = EpochEndOffset::default().with_partition(wanted.partition);
            let place = found.as_ref().map_err(|code| *code);
            let place = place.and_then(|topic| partition_of(topic, wanted.partition));
            match place.map(|place| call.shared.reader.offsets(place)) {
                Ok(Ok(_)) if wanted.current_leader_epoch > 0 => {
                    response.with_error_code(ErrorCode::UnknownLeaderEpoch.code())
                }
                Ok(Ok(offsets)) if wanted.leader_epoch == 0 => {
                    response.with_leader_epoch(0).with_end_offset(offsets.high_watermark)
                }
                Ok(Ok(_)) => response,
                Err(code) => response.with_error_code(code.code()),
                Ok(Err(_)) => response.with_error_code(ErrorCode::UnknownTopicOrPartition.code()),
            }
        });
        OffsetForLeaderTopicResult::default().with_partitions(partitions.collect()).with_topic(topic.topic)
    });
    Ok(OffsetForLeaderEpochResponseData::default().with_topics(topics.collect()))
}

pub async fn delete_records(
    call: &Call,
    request: DeleteRecordsRequestData,
) -> Result<DeleteRecordsResponseData, CallError> {
    let mut before = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = allowed(call, rights::DELETE_TOPIC, topic.name.as_str());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let place = found.as_ref().map_err(|code| *code);
            let place = place.and_then(|topic| partition_of(topic, wanted.partition_index));
            // What is only compacted keeps the last record of each key, however old.
            let may_go = found.as_ref().is_ok_and(|topic| topic.settings.delete);
            let place = if may_go { place } else { place.and(Err(ErrorCode::PolicyViolation)) };
            before.extend(place.map(|place| (place, wanted.offset)));
            partitions.push((wanted.partition_index, place.map(drop)));
        }
        topics.push((topic.name, partitions));
    }
    let mut deleted = call.shared.engine.delete_records(before).await?.into_iter();
    let mut result = |(index, found): (i32, Result<(), ErrorCode>)| {
        let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
        let outcome = match found.map(|()| deleted.next()) {
            Ok(Some(outcome)) => outcome.map_err(|error| code(&error)),
            Ok(None) => Err(ErrorCode::UnknownServerError),
            Err(code) => Err(code),
        };
        match outcome {
            Ok(low_watermark) => result.with_low_watermark(low_watermark),
            Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
        }
    };
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(&mut result).collect();
        DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions)
    });
    Ok(DeleteRecordsResponseData::default().with_topics(topics.collect()))
}

fn code(error: &LogError) -> ErrorCode {
    match error {
        LogError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        error => {
            tracing::error!(%error, "the log cannot be read");
            ErrorCode::KafkaStorageError
        }
    }
}
