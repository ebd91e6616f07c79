//! The consumer group protocol (KIP-848): heartbeats, and groups as tools see them.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::{
    AssignedTopic, Compiled, ConsumerGroupBeat, ConsumerGroupDescription, ConsumerGroupHeartbeat,
    ConsumerMemberDescription, Failure, Request, Response, TopicId, TopicPartitionId,
    check_consumer_heartbeat,
};
use headwater_model::acl::ResourceType;
use headwater_wire::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, ConsumerGroupDescribeResponseData, DescribedGroup, Member,
    TopicPartitions as DescribedPartitions,
};
use headwater_wire::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use headwater_wire::messages::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponseData, TopicPartitions,
};
use headwater_wire::messages::{ConsumerGroupDescribeRequestData, ConsumerGroupHeartbeatRequestData};
use headwater_wire::{ErrorCode, KafkaString};

use super::rights;
use super::{Call, CallError, once_by, optional, text, texts, uuid};

/// KIP-1082: members make their own ids.
const NAMES_ITSELF: i16 = 1;
/// ConsumerGroupDescribe tells who speaks which protocol.
const MEMBER_TYPE: i16 = 1;
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;
/// Of a group that is hidden for its topics; without it a tool speaks of a topic that nobody named.
pub const HIDDEN: &str = "the group uses topics that the client may not describe: see headwater acl list";

pub async fn heartbeat(
    call: &Call,
    request: ConsumerGroupHeartbeatRequestData,
) -> Result<ConsumerGroupHeartbeatResponseData, CallError> {
    if let Some(code) = refused(call, &request) {
        return Ok(ConsumerGroupHeartbeatResponseData::default().with_error_code(code.code()));
    }
    let beat = ConsumerGroupHeartbeat {
        group_id: text(&request.group_id),
        member_id: text(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: optional(&request.instance_id),
        rack_id: optional(&request.rack_id),
        rebalance_timeout_ms: (request.rebalance_timeout_ms >= 0).then_some(request.rebalance_timeout_ms),
        topics: request.subscribed_topic_names.as_deref().map(texts),
        regex: optional(&request.subscribed_topic_regex),
        compiled: None,
        assignor: optional(&request.server_assignor),
        owned: request.topic_partitions.as_deref().map(owned),
        names_itself: call.version >= NAMES_ITSELF,
    };
    let beat = match looked_at(call, beat).await? {
        Ok(beat) => beat,
        Err(failure) => return Ok(failed(failure)),
    };
    let Response::ConsumerGroupHeartbeat(answer) = call.ask(Request::ConsumerGroupHeartbeat(beat)).await?
    else {
        return Err(call.mismatch());
    };
    Ok(match answer {
        Ok(beat) => answered(ConsumerGroupHeartbeatResponseData::default(), beat),
        Err(failure) => failed(failure),
    })
}

/// One with an expression is compiled and looked at where that keeps nobody waiting, before it goes to the only thread that
/// writes: to find out that an expression becomes too large takes a while.
async fn looked_at(
    call: &Call,
    mut beat: ConsumerGroupHeartbeat,
) -> Result<Result<ConsumerGroupHeartbeat, Failure>, CallError> {
    // Who leaves asks for nothing.
    let asks = |regex: &&String| !regex.is_empty() && beat.member_epoch >= 0;
    let Some(regex) = beat.regex.as_ref().filter(asks).cloned() else { return Ok(Ok(beat)) };
    let looking = tokio::task::spawn_blocking(move || {
        beat.compiled = Some(Compiled::new(&regex));
        check_consumer_heartbeat(&beat).map(|()| beat)
    });
    looking.await.map_err(|_| call.mismatch())
}

fn failed(failure: Failure) -> ConsumerGroupHeartbeatResponseData {
    ConsumerGroupHeartbeatResponseData::default()
        .with_error_code(failure.error.code())
        .with_error_message(Some(failure.message.into()))
}

/// A group to read, and topics that the client may know of.
fn refused(call: &Call, request: &ConsumerGroupHeartbeatRequestData) -> Option<ErrorCode> {
    let group = call.check(rights::READ_GROUP, request.group_id.as_str());
    let topics = request.subscribed_topic_names.iter().flatten();
    let mut topics = topics.filter_map(|name| call.check(rights::DESCRIBE_TOPIC, name.as_str()).err());
    group.err().or_else(|| topics.next())
}

fn owned(topics: &[Owned]) -> BTreeSet<TopicPartitionId> {
    let of_topic = |topic: &Owned| {
        let id = topic.topic_id.to_bytes();
        topic.partitions.iter().map(move |partition| (id, *partition)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

fn answered(
    response: ConsumerGroupHeartbeatResponseData,
    beat: ConsumerGroupBeat,
) -> ConsumerGroupHeartbeatResponseData {
    response
        .with_member_id(Some(beat.member_id.into()))
        .with_member_epoch(beat.member_epoch)
        .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
        .with_assignment(beat.assignment.map(|partitions| Box::new(assignment(&partitions))))
}

fn assignment(partitions: &BTreeSet<TopicPartitionId>) -> Assignment {
    let mut topics = BTreeMap::<TopicId, Vec<i32>>::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(id, partitions)| {
        TopicPartitions::default().with_topic_id(uuid(id)).with_partitions(partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

pub async fn describe(
    call: &Call,
    mut request: ConsumerGroupDescribeRequestData,
) -> Result<ConsumerGroupDescribeResponseData, CallError> {
    once_by(&mut request.group_ids, Clone::clone);
    let (allowed, refused) =
        call.part(rights::DESCRIBE_GROUP, texts(&request.group_ids), |group_id: &String| group_id);
    let describe = Request::DescribeConsumerGroups(allowed);
    let Response::DescribeConsumerGroups(groups) = call.ask(describe).await? else {
        return Err(call.mismatch());
    };
    let groups = groups.into_iter().map(|group| match sees_topics(call, &group) {
        true => {
            let asked = request.include_authorized_operations && group.error.is_none();
            let operations = asked.then(|| call.operations(ResourceType::Group, &group.group_id));
            let described = described(group, call.version);
            match operations {
                Some(operations) => described.with_authorized_operations(operations),
                None => described,
            }
        }
        false => DescribedGroup::default()
            .with_group_id(group.group_id.into())
            .with_error_code(rights::DESCRIBE_TOPIC.refusal().code())
            .with_error_message(Some(KafkaString::from_static(HIDDEN))),
    });
    let refused = refused.into_iter().map(|group_id| {
        DescribedGroup::default()
            .with_group_id(group_id.into())
            .with_error_code(rights::DESCRIBE_GROUP.refusal().code())
    });
    Ok(ConsumerGroupDescribeResponseData::default().with_groups(groups.chain(refused).collect()))
}

/// A group with topics that the client may not know of is not shown at all, as in Kafka.
fn sees_topics(call: &Call, group: &ConsumerGroupDescription) -> bool {
    let topics = group.members.iter().flat_map(|member| member.assignment.iter().chain(&member.target));
    topics.map(|topic| topic.name.as_str()).all(|name| call.sees(rights::DESCRIBE_TOPIC, name))
}

fn described(group: ConsumerGroupDescription, version: i16) -> DescribedGroup {
    let response = DescribedGroup::default().with_group_id(group.group_id.into());
    if let Some(failure) = group.error {
        return response
            .with_error_code(failure.error.code())
            .with_error_message(Some(failure.message.into()));
    }
    response
        .with_group_state(KafkaString::from_static(group.state))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(group.assignor.into())
        .with_members(group.members.into_iter().map(|one| member(one, version)).collect())
}

fn member(member: ConsumerMemberDescription, version: i16) -> Member {
    let kind = if member.is_classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER };
    let response = Member::default()
        .with_member_id(member.member_id.into())
        .with_instance_id(member.instance_id.map(Into::into))
        .with_rack_id(member.rack_id.map(Into::into))
        .with_member_epoch(member.epoch)
        .with_client_id(member.client_id.into())
        .with_client_host(member.client_host.into())
        .with_subscribed_topic_names(member.topics.into_iter().map(Into::into).collect())
        // As Apache Kafka has it, empty where there is none.
        .with_subscribed_topic_regex(Some(member.regex.unwrap_or_default().into()))
        .with_assignment(described_assignment(member.assignment))
        .with_target_assignment(described_assignment(member.target));
    if version >= MEMBER_TYPE { response.with_member_type(kind) } else { response }
}

fn described_assignment(topics: Vec<AssignedTopic>) -> DescribedAssignment {
    let topics = topics.into_iter().map(|topic| {
        DescribedPartitions::default()
            .with_topic_id(uuid(topic.id))
            .with_topic_name(topic.name.into())
            .with_partitions(topic.partitions)
    });
    DescribedAssignment::default().with_topic_partitions(topics.collect())
}
