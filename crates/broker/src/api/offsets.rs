//! Committed offsets of groups, by themselves and in transactions.

use headwater_coordinator::{
    FetchedGroup, FetchedOffset, NewOffset, OffsetCommit, OffsetFetch, OffsetFetchGroup, PartitionResult,
    Request, Response, TxnOffsetCommit, code,
};
use headwater_model::TopicPartition;
use headwater_wire::KafkaString;
use headwater_wire::messages::offset_commit_response::{
    OffsetCommitResponseData, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use headwater_wire::messages::offset_delete_response::{
    OffsetDeleteResponseData, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use headwater_wire::messages::offset_fetch_response::{
    OffsetFetchResponseData, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use headwater_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponseData, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use headwater_wire::messages::{
    OffsetCommitRequestData, OffsetDeleteRequestData, OffsetFetchRequestData, TxnOffsetCommitRequestData,
};

use super::{Call, CallError, optional, text};

/// KIP-709: offsets of several groups at once.
const MANY_GROUPS: i16 = 8;
/// KIP-890: the group joins the transaction by committing.
const IMPLICIT_GROUP: i16 = 5;

/// Neighbours of one topic under the topic's name: the shape of every response here.
fn by_topic<T>(items: impl IntoIterator<Item = T>, topic: impl Fn(&T) -> &str) -> Vec<(KafkaString, Vec<T>)> {
    let mut topics: Vec<(KafkaString, Vec<T>)> = Vec::new();
    for item in items {
        match topics.last_mut().filter(|(name, _)| name.as_str() == topic(&item)) {
            Some((_, of_topic)) => of_topic.push(item),
            None => topics.push((topic(&item).to_owned().into(), vec![item])),
        }
    }
    topics
}

fn results(results: Vec<PartitionResult>) -> Vec<(KafkaString, Vec<PartitionResult>)> {
    by_topic(results, |result| &result.partition.topic)
}

pub async fn commit(
    call: &Call,
    request: OffsetCommitRequestData,
) -> Result<OffsetCommitResponseData, CallError> {
    let offsets = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| NewOffset {
            partition: TopicPartition::new(topic.name.as_str(), partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: optional(&partition.committed_metadata),
        })
    });
    let commit = OffsetCommit {
        group_id: text(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        offsets: offsets.collect(),
    };
    let Response::OffsetCommit(committed) = call.ask(Request::OffsetCommit(commit)).await? else {
        return Err(call.mismatch());
    };
    let topics = results(committed).into_iter().map(|(name, partitions)| {
        let partition = |result: PartitionResult| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(result.partition.partition)
                .with_error_code(code(result.error))
        };
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    Ok(OffsetCommitResponseData::default().with_topics(topics.collect()))
}

pub async fn commit_in_transaction(
    call: &Call,
    request: TxnOffsetCommitRequestData,
) -> Result<TxnOffsetCommitResponseData, CallError> {
    let offsets = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| NewOffset {
            partition: TopicPartition::new(topic.name.as_str(), partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: optional(&partition.committed_metadata),
        })
    });
    let commit = TxnOffsetCommit {
        transactional_id: text(&request.transactional_id),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        group_id: text(&request.group_id),
        generation: request.generation_id,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        implicit: call.version >= IMPLICIT_GROUP,
        offsets: offsets.collect(),
    };
    let Response::TxnOffsetCommit(committed) = call.ask(Request::TxnOffsetCommit(commit)).await? else {
        return Err(call.mismatch());
    };
    let topics = results(committed).into_iter().map(|(name, partitions)| {
        let partition = |result: PartitionResult| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(result.partition.partition)
                .with_error_code(code(result.error))
        };
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    Ok(TxnOffsetCommitResponseData::default().with_topics(topics.collect()))
}

pub async fn fetch(
    call: &Call,
    request: OffsetFetchRequestData,
) -> Result<OffsetFetchResponseData, CallError> {
    let places = |name: &KafkaString, partitions: &[i32]| {
        partitions.iter().map(|&index| TopicPartition::new(name.as_str(), index)).collect::<Vec<_>>()
    };
    let groups = match call.version >= MANY_GROUPS {
        true => request
            .groups
            .iter()
            .map(|group| OffsetFetchGroup {
                group_id: text(&group.group_id),
                partitions: group.topics.as_ref().map(|topics| {
                    topics.iter().flat_map(|topic| places(&topic.name, &topic.partition_indexes)).collect()
                }),
            })
            .collect(),
        false => vec![OffsetFetchGroup {
            group_id: text(&request.group_id),
            partitions: request.topics.as_ref().map(|topics| {
                topics.iter().flat_map(|topic| places(&topic.name, &topic.partition_indexes)).collect()
            }),
        }],
    };
    let fetch = OffsetFetch { groups, require_stable: request.require_stable };
    let Response::OffsetFetch(groups) = call.ask(Request::OffsetFetch(fetch)).await? else {
        return Err(call.mismatch());
    };
    let response = OffsetFetchResponseData::default();
    Ok(match call.version >= MANY_GROUPS {
        true => response.with_groups(groups.into_iter().map(group).collect()),
        false => response.with_topics(groups.into_iter().flat_map(|group| topics(group.offsets)).collect()),
    })
}

fn group(FetchedGroup { group_id, offsets }: FetchedGroup) -> OffsetFetchResponseGroup {
    let topics = by_topic(offsets, |offset| &offset.partition.topic).into_iter().map(|(name, offsets)| {
        let partition = |offset: FetchedOffset| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(offset.partition.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(offset.metadata.into()))
                .with_error_code(code(offset.error))
        };
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_partitions(offsets.into_iter().map(partition).collect())
    });
    OffsetFetchResponseGroup::default().with_group_id(group_id.into()).with_topics(topics.collect())
}

fn topics(offsets: Vec<FetchedOffset>) -> Vec<OffsetFetchResponseTopic> {
    let topics = by_topic(offsets, |offset| &offset.partition.topic).into_iter().map(|(name, offsets)| {
        let partition = |offset: FetchedOffset| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(offset.partition.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(offset.metadata.into()))
                .with_error_code(code(offset.error))
        };
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(offsets.into_iter().map(partition).collect())
    });
    topics.collect()
}

pub async fn delete(
    call: &Call,
    request: OffsetDeleteRequestData,
) -> Result<OffsetDeleteResponseData, CallError> {
    let partitions = request.topics.iter().flat_map(|topic| {
        let place = |index| TopicPartition::new(topic.name.as_str(), index);
        topic.partitions.iter().map(move |partition| place(partition.partition_index))
    });
    let delete =
        Request::OffsetDelete { group_id: text(&request.group_id), partitions: partitions.collect() };
    let Response::OffsetDelete { error, partitions } = call.ask(delete).await? else {
        return Err(call.mismatch());
    };
    let topics = results(partitions).into_iter().map(|(name, partitions)| {
        let partition = |result: PartitionResult| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(result.partition.partition)
                .with_error_code(code(result.error))
        };
        OffsetDeleteResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    Ok(OffsetDeleteResponseData::default().with_error_code(code(error)).with_topics(topics.collect()))
}
