//! The offsets of share groups: what Kafka's administrators send to a broker about them.

use std::collections::{HashMap, HashSet};

use headwater_coordinator::{
    Error, ShareOffset, ShareRequest, ShareResponse, TopicId, TopicPartitionId, code,
};
use headwater_log::PartitionId;
use headwater_wire::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic as AlteringTopic;
use headwater_wire::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponseData, AlterShareGroupOffsetsResponsePartition as AlteredPartition,
    AlterShareGroupOffsetsResponseTopic as AlteredTopic,
};
use headwater_wire::messages::delete_share_group_offsets_response::{
    DeleteShareGroupOffsetsResponseData, DeleteShareGroupOffsetsResponseTopic as DeletedTopic,
};
use headwater_wire::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic as WantedTopic,
};
use headwater_wire::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseData, DescribeShareGroupOffsetsResponseGroup as DescribedGroup,
    DescribeShareGroupOffsetsResponsePartition as DescribedPartition,
    DescribeShareGroupOffsetsResponseTopic as DescribedTopic,
};
use headwater_wire::messages::{
    AlterShareGroupOffsetsRequestData, DeleteShareGroupOffsetsRequestData,
    DescribeShareGroupOffsetsRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use crate::api::positions::allowed;
use crate::api::{Call, CallError, rights, text, uuid};

/// Why a topic is refused, in words.
fn why(refusal: ErrorCode, name: &KafkaString) -> KafkaString {
    let name = name.as_str();
    match refusal {
        ErrorCode::TopicAuthorizationFailed => {
            format!("the client may not do this with the topic '{name}': see headwater acl list").into()
        }
        _ => format!("there is no topic '{name}'").into(),
    }
}

pub async fn describe(
    call: &Call,
    mut request: DescribeShareGroupOffsetsRequestData,
) -> Result<DescribeShareGroupOffsetsResponseData, CallError> {
    // As OffsetFetch has it: some topics here and others there, and all of them once.
    let mut whole = HashSet::new();
    request.groups.retain(|group| group.topics.is_some() || whole.insert(group.group_id.clone()));
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(describe_group(call, group).await?);
    }
    Ok(DescribeShareGroupOffsetsResponseData::default().with_groups(groups))
}

async fn describe_group(
    call: &Call,
    wanted: DescribeShareGroupOffsetsRequestGroup,
) -> Result<DescribedGroup, CallError> {
    if let Err(code) = call.check(rights::DESCRIBE_GROUP, wanted.group_id.as_str()) {
        return Ok(DescribedGroup::default().with_group_id(wanted.group_id).with_error_code(code.code()));
    }
    let (partitions, others) = match wanted.topics {
        None => (None, Vec::new()),
        Some(topics) => {
            let (places, others) = identify(call, topics);
            (Some(places), others)
        }
    };
    let group_id = text(&wanted.group_id);
    let request = ShareRequest::DescribeOffsets { group_id, partitions };
    let ShareResponse::DescribeOffsets(described) = call.share(request).await? else {
        return Err(call.mismatch());
    };
    let response = DescribedGroup::default().with_group_id(wanted.group_id);
    Ok(match described {
        Ok(offsets) => {
            let mut topics = by_topic(call, offsets);
            topics.extend(others.into_iter().map(refused));
            response.with_topics(topics)
        }
        Err(error) => {
            response.with_error_code(error.code()).with_error_message(Some(error.to_string().into()))
        }
    })
}

/// The partitions of the topics that there are for the client, and the other topics.
fn identify(call: &Call, topics: Vec<WantedTopic>) -> (Vec<TopicPartitionId>, Vec<(WantedTopic, ErrorCode)>) {
    let mut places = Vec::new();
    let mut refused = Vec::new();
    for topic in topics {
        match allowed(call, rights::DESCRIBE_TOPIC, topic.topic_name.as_str()) {
            Ok(found) => places.extend(topic.partitions.iter().map(|index| (found.id(), *index))),
            Err(code) => refused.push((topic, code)),
        }
    }
    (places, refused)
}

fn by_topic(call: &Call, offsets: Vec<ShareOffset>) -> Vec<DescribedTopic> {
    let mut topics: Vec<DescribedTopic> = Vec::new();
    for offset in offsets {
        let (topic_id, index) = offset.partition;
        let Some(topic) = call.shared.catalog.by_id(&topic_id) else { continue };
        if !call.sees(rights::DESCRIBE_TOPIC, topic.name()) {
            continue;
        }
        let partition = position(call, topic.partition(index), offset);
        match topics.last_mut().filter(|last| last.topic_id == uuid(topic_id)) {
            Some(last) => last.partitions.push(partition),
            None => topics.push(
                DescribedTopic::default()
                    .with_topic_name(topic.name().to_owned().into())
                    .with_topic_id(uuid(topic_id))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    topics
}

fn refused((topic, code): (WantedTopic, ErrorCode)) -> DescribedTopic {
    let refused = |index| {
        DescribedPartition::default()
            .with_partition_index(index)
            .with_start_offset(-1)
            .with_error_code(code.code())
            .with_error_message(Some(why(code, &topic.topic_name)))
    };
    let partitions = topic.partitions.iter().copied().map(refused).collect();
    DescribedTopic::default().with_partitions(partitions).with_topic_name(topic.topic_name)
}

/// Lag is what is neither finished nor gone; −1 where nothing was read yet.
fn position(call: &Call, place: Option<PartitionId>, offset: ShareOffset) -> DescribedPartition {
    let described = DescribedPartition::default()
        .with_partition_index(offset.partition.1)
        .with_start_offset(offset.start)
        .with_lag(-1);
    let Some(offsets) = place.and_then(|place| call.shared.reader.offsets(place).ok()) else {
        return described.with_error_code(ErrorCode::UnknownTopicOrPartition.code());
    };
    match offset.start {
        ..0 => described,
        start => {
            let start = start.max(offsets.log_start);
            let lag = (offsets.high_watermark - start - offset.finished).max(0);
            described.with_start_offset(start).with_lag(lag)
        }
    }
}

/// A topic whose offsets the client may change.
fn readable(call: &Call, name: &KafkaString) -> Result<TopicId, ErrorCode> {
    allowed(call, rights::READ_TOPIC, name.as_str()).map(|topic| topic.id())
}

pub async fn alter(
    call: &Call,
    request: AlterShareGroupOffsetsRequestData,
) -> Result<AlterShareGroupOffsetsResponseData, CallError> {
    if let Err(code) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        return Ok(AlterShareGroupOffsetsResponseData::default().with_error_code(code.code()));
    }
    let found: Vec<_> = request.topics.iter().map(|topic| readable(call, &topic.topic_name)).collect();
    let mut offsets = Vec::new();
    for (topic, found) in request.topics.iter().zip(&found) {
        if let Ok(id) = *found {
            let partitions = topic.partitions.iter().filter(|one| one.start_offset >= 0);
            offsets.extend(partitions.map(|one| ((id, one.partition_index), one.start_offset)));
        }
    }
    // As in Kafka, where nothing is left to be done nobody asks for the group.
    let altered = match offsets.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let alter = ShareRequest::AlterOffsets { group_id: text(&request.group_id), offsets };
            let ShareResponse::AlterOffsets(altered) = call.share(alter).await? else {
                return Err(call.mismatch());
            };
            altered
        }
    };
    let response = AlterShareGroupOffsetsResponseData::default();
    Ok(match altered {
        Ok(altered) => {
            let altered = altered.into_iter().collect();
            let topics = request.topics.into_iter().zip(found);
            let topics = topics.map(|(topic, found)| altered_topic(topic, found, &altered));
            response.with_responses(topics.collect())
        }
        Err(failure) => {
            response.with_error_code(failure.error.code()).with_error_message(Some(failure.message.into()))
        }
    })
}

fn altered_topic(
    topic: AlteringTopic,
    found: Result<TopicId, ErrorCode>,
    altered: &HashMap<TopicPartitionId, Option<Error>>,
) -> AlteredTopic {
    let partitions = topic.partitions.iter().map(|one| {
        let error = match found.map(|id| altered.get(&(id, one.partition_index))) {
            Ok(Some(error)) => code(*error),
            // An offset below 0 was not asked for.
            Ok(None) => ErrorCode::InvalidRequest.code(),
            Err(refusal) => refusal.code(),
        };
        AlteredPartition::default().with_partition_index(one.partition_index).with_error_code(error)
    });
    AlteredTopic::default()
        .with_partitions(partitions.collect())
        .with_topic_name(topic.topic_name)
        .with_topic_id(uuid(found.unwrap_or_default()))
}

pub async fn delete(
    call: &Call,
    request: DeleteShareGroupOffsetsRequestData,
) -> Result<DeleteShareGroupOffsetsResponseData, CallError> {
    if let Err(code) = call.check(rights::DELETE_GROUP, request.group_id.as_str()) {
        return Ok(DeleteShareGroupOffsetsResponseData::default().with_error_code(code.code()));
    }
    let found: Vec<_> = request.topics.iter().map(|topic| readable(call, &topic.topic_name)).collect();
    let topics: Vec<TopicId> = found.iter().flatten().copied().collect();
    let deleted = match topics.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let delete = ShareRequest::DeleteOffsets { group_id: text(&request.group_id), topics };
            let ShareResponse::DeleteOffsets(deleted) = call.share(delete).await? else {
                return Err(call.mismatch());
            };
            deleted
        }
    };
    let deleted = match deleted {
        Ok(deleted) => deleted,
        Err(failure) => {
            return Ok(DeleteShareGroupOffsetsResponseData::default()
                .with_error_code(failure.error.code())
                .with_error_message(Some(failure.message.into())));
        }
    };
    let topics = request.topics.into_iter().zip(found).map(|(topic, found)| {
        let response = DeletedTopic::default();
        let response = match found {
            Ok(id) => {
                let refused = deleted.iter().find(|(of, _)| *of == id).and_then(|(_, error)| *error);
                response.with_topic_id(uuid(id)).with_error_code(refused.map_or(0, |error| error.code()))
            }
            Err(refusal) => response
                .with_error_code(refusal.code())
                .with_error_message(Some(why(refusal, &topic.topic_name))),
        };
        response.with_topic_name(topic.topic_name)
    });
    Ok(DeleteShareGroupOffsetsResponseData::default().with_responses(topics.collect()))
}
