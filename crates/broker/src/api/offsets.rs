//! Committed offsets of groups, by themselves and in transactions.

use headwater_coordinator::{
    FetchedGroup, FetchedOffset, NewOffset, OffsetCommit, OffsetFetch, OffsetFetchGroup, PartitionResult,
    Request, Response, TxnOffsetCommit, code,
};
use headwater_model::TopicPartition;
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
use headwater_wire::{ErrorCode, KafkaString};

use super::rights::{self, Right};
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
    let offsets = offsets.collect::<Vec<_>>();
    if let Err(refusal) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        let all = offsets.into_iter().map(|offset| offset.partition);
        return Ok(committed(outcomes(Vec::new(), all, refusal)));
    }
    let (offsets, refused) = readable(call, offsets);
    let commit = OffsetCommit {
        group_id: text(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        offsets,
    };
    let Response::OffsetCommit(results) = call.ask(Request::OffsetCommit(commit)).await? else {
        return Err(call.mismatch());
    };
    Ok(committed(outcomes(results, refused, rights::READ_TOPIC.refusal())))
}

fn committed(outcomes: Vec<(KafkaString, Vec<Outcome>)>) -> OffsetCommitResponseData {
    let topics = outcomes.into_iter().map(|(name, partitions)| {
        let partition = |(partition, code): Outcome| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition)
                .with_error_code(code)
        };
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    OffsetCommitResponseData::default().with_topics(topics.collect())
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
    let offsets = offsets.collect::<Vec<_>>();
    let needed = [
        (rights::WRITE_TRANSACTIONAL_ID, &request.transactional_id),
        (rights::READ_GROUP, &request.group_id),
    ];
    if let Some(refusal) = first_refusal(&needed, call) {
        let all = offsets.into_iter().map(|offset| offset.partition);
        return Ok(committed_in_transaction(outcomes(Vec::new(), all, refusal)));
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
    Ok(committed_in_transaction(outcomes(results, refused, rights::READ_TOPIC.refusal())))
}

fn committed_in_transaction(outcomes: Vec<(KafkaString, Vec<Outcome>)>) -> TxnOffsetCommitResponseData {
    let topics = outcomes.into_iter().map(|(name, partitions)| {
        let partition = |(partition, code): Outcome| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition)
                .with_error_code(code)
        };
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    TxnOffsetCommitResponseData::default().with_topics(topics.collect())
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
    let groups = allowed(call, groups);
    let asked = groups.iter().filter_map(|group| Some(group.as_ref().ok()?.0.clone())).collect();
    let fetch = OffsetFetch { groups: asked, require_stable: request.require_stable };
    let Response::OffsetFetch(fetched) = call.ask(Request::OffsetFetch(fetch)).await? else {
        return Err(call.mismatch());
    };
    let mut fetched = fetched.into_iter();
    let mut response = OffsetFetchResponseData::default();
    for asked in groups {
        let outcome = match asked {
            Ok((asked, refused)) => match fetched.next() {
                Some(found) => Ok(visible(call, found, asked.partitions.is_none(), refused)),
                None => return Err(call.mismatch()),
            },
            Err(group_id) => Err(group_id),
        };
        response = match call.version >= MANY_GROUPS {
            true => {
                response.groups.push(outcome.map_or_else(refused_group, group));
                response
            }
            false => match outcome {
                Ok(group) => response.with_topics(topics(group)),
                Err(_) => response.with_error_code(rights::DESCRIBE_GROUP.refusal().code()),
            },
        };
    }
    Ok(response)
}

/// A group to ask for, with the partitions of it that are refused; or the id of a group that is refused.
type Asked = Result<(OffsetFetchGroup, Vec<TopicPartition>), String>;

fn allowed(call: &Call, groups: Vec<OffsetFetchGroup>) -> Vec<Asked> {
    let allowed = |OffsetFetchGroup { group_id, partitions }| {
        if !call.may(rights::DESCRIBE_GROUP, &group_id) {
            return Err(group_id);
        }
        let Some(partitions) = partitions else {
            return Ok((OffsetFetchGroup { group_id, partitions: None }, Vec::new()));
        };
        let (allowed, refused) =
            call.part(rights::DESCRIBE_TOPIC, partitions, |partition: &TopicPartition| &partition.topic);
        Ok((OffsetFetchGroup { group_id, partitions: Some(allowed) }, refused))
    };
    groups.into_iter().map(allowed).collect()
}

/// A group's offsets as the client may see them: with their codes.
struct Visible {
    group_id: String,
    offsets: Vec<(FetchedOffset, i16)>,
}

fn visible(call: &Call, found: FetchedGroup, all: bool, refused: Vec<TopicPartition>) -> Visible {
    let FetchedGroup { group_id, mut offsets } = found;
    if all {
        offsets.retain(|offset| call.sees(rights::DESCRIBE_TOPIC, &offset.partition.topic));
    }
    let nothing = |partition| FetchedOffset {
        partition,
        offset: -1,
        leader_epoch: -1,
        metadata: String::new(),
        error: None,
    };
    let code_of = |offset: FetchedOffset| {
        let code = code(offset.error);
        (offset, code)
    };
    let refusal = rights::DESCRIBE_TOPIC.refusal().code();
    let refused = refused.into_iter().map(|partition| (nothing(partition), refusal));
    Visible { group_id, offsets: offsets.into_iter().map(code_of).chain(refused).collect() }
}

fn refused_group(group_id: String) -> OffsetFetchResponseGroup {
    let code = rights::DESCRIBE_GROUP.refusal().code();
    OffsetFetchResponseGroup::default().with_group_id(group_id.into()).with_error_code(code)
}

fn group(Visible { group_id, offsets }: Visible) -> OffsetFetchResponseGroup {
    let topics =
        by_topic(offsets, |(offset, _)| &offset.partition.topic).into_iter().map(|(name, offsets)| {
            let partition = |(offset, code): (FetchedOffset, i16)| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(offset.partition.partition)
                    .with_committed_offset(offset.offset)
                    .with_committed_leader_epoch(offset.leader_epoch)
                    .with_metadata(Some(offset.metadata.into()))
                    .with_error_code(code)
            };
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(offsets.into_iter().map(partition).collect())
        });
    OffsetFetchResponseGroup::default().with_group_id(group_id.into()).with_topics(topics.collect())
}

fn topics(group: Visible) -> Vec<OffsetFetchResponseTopic> {
    let offsets = by_topic(group.offsets, |(offset, _)| &offset.partition.topic);
    let topics = offsets.into_iter().map(|(name, offsets)| {
        let partition = |(offset, code): (FetchedOffset, i16)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(offset.partition.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(offset.metadata.into()))
                .with_error_code(code)
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
