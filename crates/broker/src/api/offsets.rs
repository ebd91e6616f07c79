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

use super::rights::{self, Right};
use super::topic_ids::TopicIds;
use super::{Call, CallError, optional, text};

/// KIP-848: a member commits with its epoch.
const MEMBER_EPOCHS: i16 = 9;
/// Topics are named by their ids, in OffsetCommit and OffsetFetch.
pub const BY_TOPIC_ID: i16 = 10;
/// KIP-890: of a transaction that the group is not in, a client of this version knows that it can be aborted.
const ABORTABLE: i16 = 4;
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

/// What became of a partition, as a code.
type Outcome = (TopicPartition, i16);

/// By topic, what the coordinator answered and then what it was not asked.
fn outcomes(
    results: Vec<PartitionResult>,
    refused: impl IntoIterator<Item = TopicPartition>,
    refusal: ErrorCode,
) -> Vec<(KafkaString, Vec<Outcome>)> {
    let answered = results.into_iter().map(|result| (result.partition, code(result.error)));
    let refused = refused.into_iter().map(|partition| (partition, refusal.code()));
    by_topic(answered.chain(refused), |(partition, _)| &partition.topic)
}

/// Parts the offsets of topics that the client may read from the others.
fn readable(call: &Call, offsets: Vec<NewOffset>) -> (Vec<NewOffset>, Vec<TopicPartition>) {
    let (allowed, refused) = call.part(rights::READ_TOPIC, offsets, |offset| &offset.partition.topic);
    (allowed, refused.into_iter().map(|offset| offset.partition).collect())
}

fn first_refusal(checks: &[(Right, &KafkaString)], call: &Call) -> Option<ErrorCode> {
    checks.iter().find_map(|(right, name)| call.check(*right, name.as_str()).err())
}

/// Whoever commits offsets of a topic reads it with that group.
fn read_through(call: &Call, group: &KafkaString, results: &[PartitionResult]) {
    let mut last = None;
    for PartitionResult { partition, .. } in results.iter().filter(|result| result.error.is_none()) {
        if last.replace(&partition.topic) != Some(&partition.topic) {
            call.reads_through(&partition.topic, group.as_str());
        }
    }
}

pub async fn commit(
    call: &Call,
    request: OffsetCommitRequestData,
) -> Result<OffsetCommitResponseData, CallError> {
    call.bear(request.topics.iter().map(|topic| (topic.name.as_str().len(), topic.partitions.len())))?;
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
    if let Err(refusal) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        let all = offsets.into_iter().map(|offset| offset.partition);
        return Ok(committed(outcomes(Vec::new(), all, refusal), &topics, refusal));
    }
    let (offsets, refused) = readable(call, offsets);
    let commit = OffsetCommit {
        group_id: text(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        knows_member_epochs: call.version >= MEMBER_EPOCHS,
        offsets,
    };
    let Response::OffsetCommit(results) = call.ask(Request::OffsetCommit(commit)).await? else {
        return Err(call.mismatch());
    };
    read_through(call, &request.group_id, &results);
    let outcomes = outcomes(results, refused, rights::READ_TOPIC.refusal());
    Ok(committed(outcomes, &topics, ErrorCode::UnknownTopicId))
}

/// `unknown` is what is said of ids that no topic has.
fn committed(
    outcomes: Vec<(KafkaString, Vec<Outcome>)>,
    topics: &TopicIds<'_>,
    unknown: ErrorCode,
) -> OffsetCommitResponseData {
    let known = outcomes.into_iter().filter_map(|(name, partitions)| {
        let (name, id) = topics.told(name)?;
        let partition = |(partition, code): Outcome| committed_partition(partition.partition, code);
        let partitions = partitions.into_iter().map(partition).collect();
        Some(
            OffsetCommitResponseTopic::default()
                .with_name(name)
                .with_topic_id(id)
                .with_partitions(partitions),
        )
    });
    let unknown = topics.unknown.iter().map(|(id, partitions)| {
        let refused = |&index| committed_partition(index, unknown.code());
        OffsetCommitResponseTopic::default()
            .with_topic_id(*id)
            .with_partitions(partitions.iter().map(refused).collect())
    });
    OffsetCommitResponseData::default().with_topics(known.chain(unknown).collect())
}

fn committed_partition(index: i32, code: i16) -> OffsetCommitResponsePartition {
    OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
}

pub async fn commit_in_transaction(
    call: &Call,
    request: TxnOffsetCommitRequestData,
) -> Result<TxnOffsetCommitResponseData, CallError> {
    call.bear(request.topics.iter().map(|topic| (topic.name.as_str().len(), topic.partitions.len())))?;
    let offsets = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| NewOffset {
            partition: TopicPartition::new(topic.name.as_str(), partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: optional(&partition.committed_metadata),
        })
    });
    let offsets = offsets.collect::<Vec<_>>();
    let needed = [
        (rights::WRITE_TRANSACTIONAL_ID, &request.transactional_id),
        (rights::READ_GROUP, &request.group_id),
    ];
    if let Some(refusal) = first_refusal(&needed, call) {
        let all = offsets.into_iter().map(|offset| offset.partition);
        return Ok(committed_in_transaction(call, outcomes(Vec::new(), all, refusal)));
    }
    let (offsets, refused) = readable(call, offsets);
    let commit = TxnOffsetCommit {
        transactional_id: text(&request.transactional_id),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        group_id: text(&request.group_id),
        generation: request.generation_id,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        implicit: call.version >= IMPLICIT_GROUP,
        offsets,
    };
    let Response::TxnOffsetCommit(results) = call.ask(Request::TxnOffsetCommit(commit)).await? else {
        return Err(call.mismatch());
    };
    read_through(call, &request.group_id, &results);
    Ok(committed_in_transaction(call, outcomes(results, refused, rights::READ_TOPIC.refusal())))
}

fn committed_in_transaction(
    call: &Call,
    outcomes: Vec<(KafkaString, Vec<Outcome>)>,
) -> TxnOffsetCommitResponseData {
    let known = |code: i16| match call.version >= ABORTABLE && code == ErrorCode::InvalidTxnState.code() {
        true => ErrorCode::TransactionAbortable.code(),
        false => code,
    };
    let topics = outcomes.into_iter().map(|(name, partitions)| {
        let partition = |(partition, code): Outcome| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition)
                .with_error_code(known(code))
        };
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    TxnOffsetCommitResponseData::default().with_topics(topics.collect())
}

pub async fn delete(
    call: &Call,
    request: OffsetDeleteRequestData,
) -> Result<OffsetDeleteResponseData, CallError> {
    call.bear(request.topics.iter().map(|topic| (topic.name.as_str().len(), topic.partitions.len())))?;
    let partitions = request.topics.iter().flat_map(|topic| {
        let place = |index| TopicPartition::new(topic.name.as_str(), index);
        topic.partitions.iter().map(move |partition| place(partition.partition_index))
    });
    let partitions = partitions.collect();
    if let Err(refusal) = call.check(rights::DELETE_GROUP, request.group_id.as_str()) {
        return Ok(OffsetDeleteResponseData::default().with_error_code(refusal.code()));
    }
    let (partitions, refused) =
        call.part(rights::READ_TOPIC, partitions, |partition: &TopicPartition| &partition.topic);
    let delete = Request::OffsetDelete { group_id: text(&request.group_id), partitions };
    let Response::OffsetDelete { error, partitions } = call.ask(delete).await? else {
        return Err(call.mismatch());
    };
    let refusal = rights::READ_TOPIC.refusal();
    let topics = outcomes(partitions, refused, refusal).into_iter().map(|(name, partitions)| {
        let partition = |(partition, code): Outcome| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition)
                .with_error_code(code)
        };
        OffsetDeleteResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    Ok(OffsetDeleteResponseData::default().with_error_code(code(error)).with_topics(topics.collect()))
}
