//! OffsetFetch: what groups have committed, by topic name up to v9 and by topic id from v10.

use std::collections::HashSet;

use headwater_coordinator::{
    FetchedGroup, FetchedOffset, OffsetFetch, OffsetFetchGroup, Request, Response, code,
};
use headwater_model::TopicPartition;
use headwater_wire::messages::OffsetFetchRequestData;
use headwater_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use headwater_wire::messages::offset_fetch_response::{
    OffsetFetchResponseData, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid};

use super::offsets::{BY_TOPIC_ID, by_topic};
use super::rights;
use super::topic_ids::TopicIds;
use super::{Call, CallError, optional, text};

/// The response has an error of its own; before, each partition has it.
const ERROR_FOR_ALL: i16 = 2;
/// KIP-709: offsets of several groups at once.
const MANY_GROUPS: i16 = 8;
/// Of a topic's name.
const LONGEST_TOPIC: usize = 249;
/// KIP-848: the member that asks is checked.
const MEMBER: i16 = 9;

pub async fn fetch(
    call: &Call,
    mut request: OffsetFetchRequestData,
) -> Result<OffsetFetchResponseData, CallError> {
    let length = |name: &KafkaString| match call.version >= BY_TOPIC_ID {
        true => LONGEST_TOPIC,
        false => name.as_str().len(),
    };
    let of_groups = request.groups.iter().flat_map(|group| group.topics.iter().flatten());
    let of_groups = of_groups.map(|topic| (length(&topic.name), topic.partition_indexes.len()));
    let of_one = request.topics.iter().flatten();
    let of_one = of_one.map(|topic| (length(&topic.name), topic.partition_indexes.len()));
    call.bear(of_groups.chain(of_one))?;
    // The same group may be asked for some topics here and others there; all of them it tells once.
    let mut whole = HashSet::new();
    request.groups.retain(|group| group.topics.is_some() || whole.insert(group.group_id.clone()));
    let many = call.version >= MANY_GROUPS;
    // Of each group the topics by id, in the order of the groups.
    let mut named = Vec::new();
    let groups = match many {
        true => request
            .groups
            .iter()
            .map(|group| {
                let mut topics = TopicIds::new(call, call.version >= BY_TOPIC_ID);
                let asked = of_group(group, &mut topics, call.version);
                named.push(topics);
                asked
            })
            .collect(),
        false => vec![OffsetFetchGroup {
            group_id: text(&request.group_id),
            member: None,
            partitions: request.topics.as_deref().map(places),
        }],
    };
    let groups = allowed(call, groups);
    let asked = groups.iter().filter_map(|group| Some(group.as_ref().ok()?.0.clone())).collect();
    let fetch = OffsetFetch { groups: asked, require_stable: request.require_stable };
    let Response::OffsetFetch(fetched) = call.ask(Request::OffsetFetch(fetch)).await? else {
        return Err(call.mismatch());
    };
    let mut fetched = fetched.into_iter();
    let mut named = named.into_iter();
    let mut response = OffsetFetchResponseData::default();
    for asked in groups {
        let outcome = match asked {
            Ok((asked, refused)) => match fetched.next() {
                Some(found) => Ok(visible(call, found, asked.partitions.is_none(), refused)),
                None => return Err(call.mismatch()),
            },
            Err(group_id) => Err(group_id),
        };
        match (named.next(), outcome) {
            (Some(named), Ok(found)) => response.groups.push(group(found, named)),
            (Some(_), Err(group_id)) => response.groups.push(refused_group(group_id)),
            (None, Ok(found)) => response.topics = topics(found.offsets),
            (None, Err(_)) if call.version < ERROR_FOR_ALL => response.topics = refused_partitions(&request),
            (None, Err(_)) => response.error_code = rights::DESCRIBE_GROUP.refusal().code(),
        }
    }
    Ok(response)
}

/// A group to ask for, with the partitions of it that are refused; or the id of a group that is refused.
type Asked = Result<(OffsetFetchGroup, Vec<TopicPartition>), String>;

fn allowed(call: &Call, groups: Vec<OffsetFetchGroup>) -> Vec<Asked> {
    let allowed = |group: OffsetFetchGroup| {
        if !call.may(rights::DESCRIBE_GROUP, &group.group_id) {
            return Err(group.group_id);
        }
        let Some(partitions) = group.partitions else { return Ok((group, Vec::new())) };
        let (allowed, refused) =
            call.part(rights::DESCRIBE_TOPIC, partitions, |partition: &TopicPartition| &partition.topic);
        Ok((OffsetFetchGroup { partitions: Some(allowed), ..group }, refused))
    };
    groups.into_iter().map(allowed).collect()
}

/// A group's offsets as the client may see them: with their codes.
struct Visible {
    group_id: String,
    error: i16,
    offsets: Vec<(FetchedOffset, i16)>,
}

fn visible(call: &Call, found: FetchedGroup, all: bool, refused: Vec<TopicPartition>) -> Visible {
    let FetchedGroup { group_id, error, mut offsets } = found;
    if all {
        offsets.retain(|offset| call.sees(rights::DESCRIBE_TOPIC, &offset.partition.topic));
    }
    let code_of = |offset: FetchedOffset| {
        let code = code(offset.error);
        (offset, code)
    };
    let refusal = rights::DESCRIBE_TOPIC.refusal().code();
    let refused = refused.into_iter().map(|partition| (nothing(partition), refusal));
    let offsets = offsets.into_iter().map(code_of).chain(refused).collect();
    Visible { group_id, error: code(error), offsets }
}

/// What is told of an offset that is not shown.
fn nothing(partition: TopicPartition) -> FetchedOffset {
    FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: String::new(), error: None }
}

fn refused_partitions(request: &OffsetFetchRequestData) -> Vec<OffsetFetchResponseTopic> {
    let code = rights::DESCRIBE_GROUP.refusal().code();
    let asked = request.topics.as_deref().map(places).unwrap_or_default();
    topics(asked.into_iter().map(|place| (nothing(place), code)).collect())
}

fn refused_group(group_id: String) -> OffsetFetchResponseGroup {
    let code = rights::DESCRIBE_GROUP.refusal().code();
    OffsetFetchResponseGroup::default().with_group_id(group_id.into()).with_error_code(code)
}

fn places(topics: &[OffsetFetchRequestTopic]) -> Vec<TopicPartition> {
    let of_topic = |topic: &OffsetFetchRequestTopic| {
        let place = |&index| TopicPartition::new(topic.name.as_str(), index);
        topic.partition_indexes.iter().map(place).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

fn of_group(group: &OffsetFetchRequestGroup, topics: &mut TopicIds<'_>, version: i16) -> OffsetFetchGroup {
    let member = optional(&group.member_id).filter(|_| version >= MEMBER);
    let partitions = group.topics.as_ref().map(|asked| {
        let mut places = Vec::new();
        for topic in asked {
            let indexes = &topic.partition_indexes;
            let Some(name) = topics.name(&topic.name, topic.topic_id, || indexes.clone()) else { continue };
            places.extend(indexes.iter().map(|&index| TopicPartition::new(name.as_str(), index)));
        }
        places
    });
    OffsetFetchGroup {
        group_id: text(&group.group_id),
        member: member.map(|member| (member, group.member_epoch)),
        partitions,
    }
}

fn group(found: Visible, named: TopicIds<'_>) -> OffsetFetchResponseGroup {
    let known = by_topic(found.offsets, |(offset, _)| &offset.partition.topic);
    let known = known.into_iter().filter_map(|(name, offsets)| {
        let (name, id) = named.told(name)?;
        let partition = |(offset, code): (FetchedOffset, i16)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(offset.partition.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(offset.metadata.into()))
                .with_error_code(code)
        };
        let partitions = offsets.into_iter().map(partition).collect();
        Some(
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_topic_id(id)
                .with_partitions(partitions),
        )
    });
    let unknown = named.unknown.iter().filter(|_| found.error == 0).map(unknown);
    OffsetFetchResponseGroup::default()
        .with_error_code(found.error)
        .with_group_id(found.group_id.into())
        .with_topics(known.chain(unknown).collect())
}

fn unknown((id, partitions): &(KafkaUuid, Vec<i32>)) -> OffsetFetchResponseTopics {
    let partition = |&index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(Default::default()))
            .with_error_code(ErrorCode::UnknownTopicId.code())
    };
    OffsetFetchResponseTopics::default()
        .with_topic_id(*id)
        .with_partitions(partitions.iter().map(partition).collect())
}

fn topics(offsets: Vec<(FetchedOffset, i16)>) -> Vec<OffsetFetchResponseTopic> {
    let topics =
        by_topic(offsets, |(offset, _)| &offset.partition.topic).into_iter().map(|(name, offsets)| {
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
