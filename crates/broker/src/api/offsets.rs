//! Committed offsets of groups, by themselves and in transactions.

use headwater_coordinator::{
    NewOffset, OffsetCommit, PartitionResult, Request, Response, TxnOffsetCommit, code,
};
use headwater_model::TopicPartition;
use headwater_wire::messages::offset_commit_response::{
    OffsetCommitResponseData, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use headwater_wire::messages::offset_delete_response::{
    OffsetDeleteResponseData, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use headwater_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponseData, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use headwater_wire::messages::{
    OffsetCommitRequestData, OffsetDeleteRequestData, TxnOffsetCommitRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::topic_ids::TopicIds;
use super::{Call, CallError, optional, text};

/// KIP-848: a member commits with its epoch.
const MEMBER_EPOCHS: i16 = 9;
/// Topics are named by their ids, in OffsetCommit and OffsetFetch.
pub const BY_TOPIC_ID: i16 = 10;
/// KIP-890: the group joins the transaction by committing.
const IMPLICIT_GROUP: i16 = 5;

/// Neighbours of one topic under the topic's name: the shape of every response here.
pub fn by_topic<T>(
    items: impl IntoIterator<Item = T>,
    topic: impl Fn(&T) -> &str,
) -> Vec<(KafkaString, Vec<T>)> {
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
    let mut topics = TopicIds::new(call, call.version >= BY_TOPIC_ID);
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let indexes = || topic.partitions.iter().map(|partition| partition.partition_index).collect();
        let Some(name) = topics.name(&topic.name, topic.topic_id, indexes) else { continue };
        offsets.extend(topic.partitions.iter().map(|partition| NewOffset {
            partition: TopicPartition::new(name.as_str(), partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: optional(&partition.committed_metadata),
        }));
    }
    let commit = OffsetCommit {
        group_id: text(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        knows_member_epochs: call.version >= MEMBER_EPOCHS,
        offsets,
    };
    let Response::OffsetCommit(committed) = call.ask(Request::OffsetCommit(commit)).await? else {
        return Err(call.mismatch());
    };
    let known = results(committed).into_iter().filter_map(|(name, results)| {
        let (name, id) = topics.told(name)?;
        let partition =
            |result: PartitionResult| committed_partition(result.partition.partition, code(result.error));
        let partitions = results.into_iter().map(partition).collect();
        Some(
            OffsetCommitResponseTopic::default()
                .with_name(name)
                .with_topic_id(id)
                .with_partitions(partitions),
        )
    });
    let unknown = topics.unknown.iter().map(|(id, partitions)| {
        let refused = |&index| committed_partition(index, ErrorCode::UnknownTopicId.code());
        OffsetCommitResponseTopic::default()
            .with_topic_id(*id)
            .with_partitions(partitions.iter().map(refused).collect())
    });
    Ok(OffsetCommitResponseData::default().with_topics(known.chain(unknown).collect()))
}

fn committed_partition(index: i32, code: i16) -> OffsetCommitResponsePartition {
    OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
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
