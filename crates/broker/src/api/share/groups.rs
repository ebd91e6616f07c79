//! ShareGroupHeartbeat and ShareGroupDescribe.

use headwater_coordinator::{
    ShareGroupDescription, ShareHeartbeat, ShareMemberDescription, ShareRequest, ShareResponse, code,
};
use headwater_model::acl::ResourceType::Group;
use headwater_wire::messages::share_group_describe_response::{
    Assignment as Described, DescribedGroup, Member, ShareGroupDescribeResponseData,
    TopicPartitions as DescribedPartitions,
};
use headwater_wire::messages::share_group_heartbeat_response::{
    Assignment, ShareGroupHeartbeatResponseData, TopicPartitions,
};
use headwater_wire::messages::{ShareGroupDescribeRequestData, ShareGroupHeartbeatRequestData};
use headwater_wire::{ErrorCode, KafkaString};

use crate::api::consumer_groups::HIDDEN;
use crate::api::{Call, CallError, once_by, optional, rights, text, texts, uuid};

/// What Kafka calls the only assignor that share groups have.
const ASSIGNOR: &str = "simple";
/// `authorized_operations` where nobody asked.
const NOT_ASKED: i32 = i32::MIN;

pub async fn heartbeat(
    call: &Call,
    request: ShareGroupHeartbeatRequestData,
) -> Result<ShareGroupHeartbeatResponseData, CallError> {
    if let Some(code) = refused(call, &request) {
        return Ok(ShareGroupHeartbeatResponseData::default().with_error_code(code.code()));
    }
    let beat = ShareHeartbeat {
        group_id: text(&request.group_id),
        member_id: text(&request.member_id),
        member_epoch: request.member_epoch,
        rack: optional(&request.rack_id),
        subscription: request.subscribed_topic_names.as_deref().map(texts),
    };
    let ShareResponse::Heartbeat(outcome) = call.share(ShareRequest::Heartbeat(beat)).await? else {
        return Err(call.mismatch());
    };
    let assigned = match outcome {
        Ok(assigned) => assigned,
        Err(failure) => {
            return Ok(ShareGroupHeartbeatResponseData::default()
                .with_error_code(failure.error.code())
                .with_error_message(Some(failure.message.into())));
        }
    };
    let assignment = assigned.assignment.map(|topics| {
        let topics = topics.into_iter().map(|(id, partitions)| {
            TopicPartitions::default().with_topic_id(uuid(id)).with_partitions(partitions)
        });
        Box::new(Assignment::default().with_topic_partitions(topics.collect()))
    });
    Ok(ShareGroupHeartbeatResponseData::default()
        .with_member_id(Some(assigned.member_id.into()))
        .with_member_epoch(assigned.member_epoch)
        .with_heartbeat_interval_ms(assigned.heartbeat_interval_ms)
        .with_assignment(assignment))
}

pub async fn describe(
    call: &Call,
    mut request: ShareGroupDescribeRequestData,
) -> Result<ShareGroupDescribeResponseData, CallError> {
    once_by(&mut request.group_ids, Clone::clone);
    let (allowed, refused) =
        call.part(rights::DESCRIBE_GROUP, texts(&request.group_ids), |group_id: &String| group_id);
    let ShareResponse::Describe(groups) = call.share(ShareRequest::Describe(allowed)).await? else {
        return Err(call.mismatch());
    };
    let unseen = |group_id: String, code: ErrorCode| {
        DescribedGroup::default().with_group_id(group_id.into()).with_error_code(code.code())
    };
    let groups = groups.into_iter().map(|described| match sees_topics(call, &described) {
        true => {
            let operations =
                request.include_authorized_operations.then(|| call.operations(Group, &described.group_id));
            let shown = group(described);
            match operations.filter(|_| shown.error_code == 0) {
                Some(operations) => shown.with_authorized_operations(operations),
                None => shown,
            }
        }
        false => unseen(described.group_id, rights::DESCRIBE_TOPIC.refusal())
            .with_error_message(Some(KafkaString::from_static(HIDDEN))),
    });
    let refused = refused.into_iter().map(|group_id| unseen(group_id, rights::DESCRIBE_GROUP.refusal()));
    Ok(ShareGroupDescribeResponseData::default().with_groups(groups.chain(refused).collect()))
}

/// A group to read, and topics that the client may know of.
fn refused(call: &Call, request: &ShareGroupHeartbeatRequestData) -> Option<ErrorCode> {
    let group = call.check(rights::READ_GROUP, request.group_id.as_str());
    let topics = request.subscribed_topic_names.iter().flatten();
    let mut topics = topics.filter_map(|name| call.check(rights::DESCRIBE_TOPIC, name.as_str()).err());
    group.err().or_else(|| topics.next())
}

/// A group with topics that the client may not know of is not shown at all, as in Kafka.
fn sees_topics(call: &Call, group: &ShareGroupDescription) -> bool {
    let topics = group.members.iter().flat_map(|member| &member.assignment);
    topics.map(|(_, name, _)| name.as_str()).all(|name| call.sees(rights::DESCRIBE_TOPIC, name))
}

fn group(described: ShareGroupDescription) -> DescribedGroup {
    let message = described.error.map(|_| format!("share group '{}' does not exist", described.group_id));
    DescribedGroup::default()
        .with_error_code(code(described.error))
        .with_error_message(message.map(Into::into))
        .with_group_id(described.group_id.into())
        .with_group_state(KafkaString::from_static(described.state))
        .with_group_epoch(described.epoch)
        .with_assignment_epoch(described.epoch)
        .with_assignor_name(KafkaString::from_static(ASSIGNOR))
        .with_authorized_operations(NOT_ASKED)
        .with_members(described.members.into_iter().map(member).collect())
}

fn member(described: ShareMemberDescription) -> Member {
    let topics = described.assignment.into_iter().map(|(id, name, partitions)| {
        DescribedPartitions::default()
            .with_topic_id(uuid(id))
            .with_topic_name(name.into())
            .with_partitions(partitions)
    });
    Member::default()
        .with_member_id(described.member_id.into())
        .with_rack_id(described.rack.map(Into::into))
        .with_member_epoch(described.member_epoch)
        .with_client_id(described.client_id.into())
        .with_client_host(described.client_host.into())
        .with_subscribed_topic_names(described.subscription.into_iter().map(Into::into).collect())
        .with_assignment(Described::default().with_topic_partitions(topics.collect()))
}
