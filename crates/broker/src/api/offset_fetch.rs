//! OffsetFetch: what groups have committed, by topic name up to v9 and by topic id from v10.

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
use headwater_wire::{ErrorCode, KafkaUuid};

use super::offsets::{BY_TOPIC_ID, by_topic};
use super::topic_ids::TopicIds;
use super::{Call, CallError, optional, text};

/// KIP-709: offsets of several groups at once.
const MANY_GROUPS: i16 = 8;
/// KIP-848: the member that asks is checked.
const MEMBER: i16 = 9;

pub async fn fetch(
    call: &Call,
    request: OffsetFetchRequestData,
) -> Result<OffsetFetchResponseData, CallError> {
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
    let fetch = OffsetFetch { groups, require_stable: request.require_stable };
    let Response::OffsetFetch(fetched) = call.ask(Request::OffsetFetch(fetch)).await? else {
        return Err(call.mismatch());
    };
    let response = OffsetFetchResponseData::default();
    Ok(match many {
        true => {
            let groups = fetched.into_iter().zip(named).map(|(fetched, topics)| group(fetched, topics));
            response.with_groups(groups.collect())
        }
        false => response.with_topics(fetched.into_iter().flat_map(|group| topics(group.offsets)).collect()),
    })
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

fn group(fetched: FetchedGroup, named: TopicIds<'_>) -> OffsetFetchResponseGroup {
    let known = by_topic(fetched.offsets, |offset| &offset.partition.topic);
    let known = known.into_iter().filter_map(|(name, offsets)| {
        let (name, id) = named.told(name)?;
        let partition = |offset: FetchedOffset| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(offset.partition.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(offset.metadata.into()))
                .with_error_code(code(offset.error))
        };
        let partitions = offsets.into_iter().map(partition).collect();
        Some(
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_topic_id(id)
                .with_partitions(partitions),
        )
    });
    let unknown = named.unknown.iter().filter(|_| fetched.error.is_none()).map(unknown);
    OffsetFetchResponseGroup::default()
        .with_error_code(code(fetched.error))
        .with_group_id(fetched.group_id.into())
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
