//! The classic group protocol and its administration.

use headwater_coordinator::{
    GroupDescription, Heartbeat, JoinGroup, JoinedGroup, LeavingMember, Request, Response, SyncGroup, code,
};
use headwater_model::acl::ResourceType::Group;
use headwater_wire::KafkaString;
use headwater_wire::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponseData};
use headwater_wire::messages::describe_groups_response::{
    DescribeGroupsResponseData, DescribedGroup, DescribedGroupMember,
};
use headwater_wire::messages::join_group_response::{JoinGroupResponseData, JoinGroupResponseMember};
use headwater_wire::messages::leave_group_response::{LeaveGroupResponseData, MemberResponse};
use headwater_wire::messages::list_groups_response::{ListGroupsResponseData, ListedGroup};
use headwater_wire::messages::{
    DeleteGroupsRequestData, DescribeGroupsRequestData, HeartbeatRequestData, HeartbeatResponseData,
    JoinGroupRequestData, LeaveGroupRequestData, ListGroupsRequestData, SyncGroupRequestData,
    SyncGroupResponseData,
};

use super::{Call, CallError, once_by, optional, rights, text, texts};

/// KIP-394: a member first gets its id.
const KNOWN_MEMBER_ID: i16 = 4;
/// KIP-814: a returning leader need not assign.
const SKIP_ASSIGNMENT: i16 = 9;
/// The protocol's name may be absent.
const NULLABLE_PROTOCOL: i16 = 7;
/// KIP-345: several members leave at once.
const MANY_LEAVE: i16 = 3;
/// KIP-1043: an unknown group is an error.
const UNKNOWN_GROUP: i16 = 6;

pub async fn join(call: &Call, request: JoinGroupRequestData) -> Result<JoinGroupResponseData, CallError> {
    if let Err(code) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        return Ok(JoinGroupResponseData::default()
            .with_error_code(code.code())
            .with_generation_id(-1)
            .with_protocol_name((call.version < NULLABLE_PROTOCOL).then(KafkaString::default)));
    }
    let protocols = request.protocols.into_iter().map(|protocol| (text(&protocol.name), protocol.metadata));
    let join = JoinGroup {
        group_id: text(&request.group_id),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        protocol_type: text(&request.protocol_type),
        protocols: protocols.collect(),
        require_known_member_id: call.version >= KNOWN_MEMBER_ID,
        supports_skipping_assignment: call.version >= SKIP_ASSIGNMENT,
    };
    let Response::JoinGroup(joined) = call.ask(Request::JoinGroup(join)).await? else {
        return Err(call.mismatch());
    };
    Ok(joined_group(joined, call.version))
}

fn joined_group(joined: JoinedGroup, version: i16) -> JoinGroupResponseData {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(member.member_id.into())
            .with_group_instance_id(member.instance_id.map(Into::into))
            .with_metadata(member.metadata)
    });
    let nothing = (version < NULLABLE_PROTOCOL).then(KafkaString::default);
    JoinGroupResponseData::default()
        .with_error_code(code(joined.error))
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(Into::into))
        .with_protocol_name(joined.protocol.map(Into::into).or(nothing))
        .with_leader(joined.leader.into())
        .with_skip_assignment(joined.skip_assignment && version >= SKIP_ASSIGNMENT)
        .with_member_id(joined.member_id.into())
        .with_members(members.collect())
}

pub async fn sync(call: &Call, request: SyncGroupRequestData) -> Result<SyncGroupResponseData, CallError> {
    if let Err(code) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        return Ok(SyncGroupResponseData::default().with_error_code(code.code()));
    }
    let assignments = request.assignments.into_iter();
    let sync = SyncGroup {
        group_id: text(&request.group_id),
        generation: request.generation_id,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
        protocol_type: optional(&request.protocol_type),
        protocol: optional(&request.protocol_name),
        assignments: assignments.map(|one| (text(&one.member_id), one.assignment)).collect(),
    };
    let Response::SyncGroup(synced) = call.ask(Request::SyncGroup(sync)).await? else {
        return Err(call.mismatch());
    };
    Ok(SyncGroupResponseData::default()
        .with_error_code(code(synced.error))
        .with_protocol_type(synced.protocol_type.map(Into::into))
        .with_protocol_name(synced.protocol.map(Into::into))
        .with_assignment(synced.assignment))
}

pub async fn heartbeat(
    call: &Call,
    request: HeartbeatRequestData,
) -> Result<HeartbeatResponseData, CallError> {
    if let Err(code) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        return Ok(HeartbeatResponseData::default().with_error_code(code.code()));
    }
    let beat = Heartbeat {
        group_id: text(&request.group_id),
        generation: request.generation_id,
        member_id: text(&request.member_id),
        instance_id: optional(&request.group_instance_id),
    };
    let Response::Heartbeat(error) = call.ask(Request::Heartbeat(beat)).await? else {
        return Err(call.mismatch());
    };
    Ok(HeartbeatResponseData::default().with_error_code(code(error)))
}

pub async fn leave(call: &Call, request: LeaveGroupRequestData) -> Result<LeaveGroupResponseData, CallError> {
    if let Err(code) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        return Ok(LeaveGroupResponseData::default().with_error_code(code.code()));
    }
    let members = match call.version >= MANY_LEAVE {
        true => request
            .members
            .iter()
            .map(|member| LeavingMember {
                member_id: text(&member.member_id),
                instance_id: optional(&member.group_instance_id),
            })
            .collect(),
        false => vec![LeavingMember { member_id: text(&request.member_id), instance_id: None }],
    };
    let leave = Request::LeaveGroup { group_id: text(&request.group_id), members };
    let Response::LeaveGroup { error, members } = call.ask(leave).await? else { return Err(call.mismatch()) };
    if call.version < MANY_LEAVE {
        let error = error.or(members.first().and_then(|member| member.error));
        return Ok(LeaveGroupResponseData::default().with_error_code(code(error)));
    }
    let members = members.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(member.member_id.into())
            .with_group_instance_id(member.instance_id.map(Into::into))
            .with_error_code(code(member.error))
    });
    Ok(LeaveGroupResponseData::default().with_error_code(code(error)).with_members(members.collect()))
}

/// More states or types than there will ever be. The engine compares each with those of every group.
const MOST_WORDS: usize = 64;

/// Each once, and in small letters, as they are compared.
fn words(filter: &[KafkaString]) -> Vec<String> {
    let mut words = Vec::new();
    for word in filter {
        let word = word.as_str().to_ascii_lowercase();
        if !words.contains(&word) {
            words.push(word);
        }
        if words.len() == MOST_WORDS {
            break;
        }
    }
    words
}

pub async fn list(call: &Call, request: ListGroupsRequestData) -> Result<ListGroupsResponseData, CallError> {
    let sees_all = call.sees_cluster(rights::DESCRIBE_CLUSTER);
    if !sees_all && !call.may_see_some(rights::DESCRIBE_GROUP) {
        return Ok(ListGroupsResponseData::default());
    }
    let filter =
        Request::ListGroups { states: words(&request.states_filter), types: words(&request.types_filter) };
    let Response::ListGroups(mut groups) = call.ask(filter).await? else { return Err(call.mismatch()) };
    if !sees_all {
        groups.retain(|group| call.sees(rights::DESCRIBE_GROUP, &group.group_id));
    }
    let groups = groups.into_iter().map(|group| {
        ListedGroup::default()
            .with_group_id(group.group_id.into())
            .with_protocol_type(group.protocol_type.into())
            .with_group_state(KafkaString::from_static(group.state))
            .with_group_type(KafkaString::from_static(group.kind))
    });
    Ok(ListGroupsResponseData::default().with_groups(groups.collect()))
}

pub async fn describe(
    call: &Call,
    mut request: DescribeGroupsRequestData,
) -> Result<DescribeGroupsResponseData, CallError> {
    once_by(&mut request.groups, Clone::clone);
    let (allowed, refused) = call.part(rights::DESCRIBE_GROUP, texts(&request.groups), String::as_str);
    let Response::DescribeGroups(groups) = call.ask(Request::DescribeGroups(allowed)).await? else {
        return Err(call.mismatch());
    };
    let show = |group: GroupDescription| {
        let operations =
            request.include_authorized_operations.then(|| call.operations(Group, &group.group_id));
        let described = described(group, call.version);
        match operations {
            Some(operations) => described.with_authorized_operations(operations),
            None => described,
        }
    };
    let refusal = |group: String| {
        let code = rights::DESCRIBE_GROUP.refusal().code();
        DescribedGroup::default().with_group_id(group.into()).with_error_code(code)
    };
    let groups = groups.into_iter().map(show).chain(refused.into_iter().map(refusal)).collect();
    Ok(DescribeGroupsResponseData::default().with_groups(groups))
}

fn described(group: GroupDescription, version: i16) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(member.member_id.into())
            .with_group_instance_id(member.instance_id.map(Into::into))
            .with_client_id(member.client_id.into())
            .with_client_host(member.client_host.into())
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    let error = group.error.filter(|_| version >= UNKNOWN_GROUP);
    DescribedGroup::default()
        .with_error_code(code(error))
        .with_error_message(error.map(|error| error.to_string().into()))
        .with_group_id(group.group_id.into())
        .with_group_state(KafkaString::from_static(group.state))
        .with_protocol_type(group.protocol_type.into())
        .with_protocol_data(group.protocol.into())
        .with_members(members.collect())
}

pub async fn delete(
    call: &Call,
    request: DeleteGroupsRequestData,
) -> Result<DeleteGroupsResponseData, CallError> {
    let (allowed, refused) = call.part(rights::DELETE_GROUP, texts(&request.groups_names), String::as_str);
    let Response::DeleteGroups(groups) = call.ask(Request::DeleteGroups(allowed)).await? else {
        return Err(call.mismatch());
    };
    let refusal = rights::DELETE_GROUP.refusal().code();
    let done = groups.into_iter().map(|(group, error)| (group, code(error)));
    let results = done.chain(refused.into_iter().map(|group| (group, refusal))).map(|(group, code)| {
        DeletableGroupResult::default().with_group_id(group.into()).with_error_code(code)
    });
    Ok(DeleteGroupsResponseData::default().with_results(results.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_groups_are_filtered_by_each_word_is_looked_for_once() {
        let of = |filter: &[&'static str]| {
            words(&filter.iter().copied().map(KafkaString::from_static).collect::<Vec<_>>())
        };
        assert_eq!(of(&["Stable", "stable", "EMPTY", "Stable"]), ["stable", "empty"]);
        let many: Vec<KafkaString> = (0..1_000).map(|at| KafkaString::from(format!("s{at}"))).collect();
        assert_eq!(words(&many).len(), MOST_WORDS);
    }
}
