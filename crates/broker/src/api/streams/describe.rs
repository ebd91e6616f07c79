//! StreamsGroupDescribe.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::{
    InternalTopic, Request, Response, StreamsGroupDescription, StreamsMemberDescription, StreamsTopology,
    Subtopology, TaskId, Tasks,
};
use headwater_model::acl::ResourceType::Group;
use headwater_wire::KafkaString;
use headwater_wire::messages::StreamsGroupDescribeRequestData;
use headwater_wire::messages::streams_group_describe_response as wire;
use headwater_wire::messages::streams_group_describe_response::{
    DescribedGroup, StreamsGroupDescribeResponseData,
};

use crate::api::consumer_groups::HIDDEN;
use crate::api::{Call, CallError, once_by, rights, texts};

pub async fn describe(
    call: &Call,
    mut request: StreamsGroupDescribeRequestData,
) -> Result<StreamsGroupDescribeResponseData, CallError> {
    once_by(&mut request.group_ids, Clone::clone);
    let (allowed, refused) =
        call.part(rights::DESCRIBE_GROUP, texts(&request.group_ids), |group_id: &String| group_id);
    let Response::DescribeStreamsGroups(groups) = call.ask(Request::DescribeStreamsGroups(allowed)).await?
    else {
        return Err(call.mismatch());
    };
    let shown = |group: StreamsGroupDescription| {
        if !sees_topics(call, &group) {
            return DescribedGroup::default()
                .with_group_id(group.group_id.into())
                .with_error_code(rights::DESCRIBE_TOPIC.refusal().code())
                .with_error_message(Some(KafkaString::from_static(HIDDEN)));
        }
        let operations =
            request.include_authorized_operations.then(|| call.operations(Group, &group.group_id));
        let described = described(group);
        match operations {
            Some(operations) => described.with_authorized_operations(operations),
            None => described,
        }
    };
    let refused = refused.into_iter().map(|group_id| {
        DescribedGroup::default()
            .with_group_id(group_id.into())
            .with_error_code(rights::DESCRIBE_GROUP.refusal().code())
    });
    let groups = groups.into_iter().map(shown).chain(refused).collect();
    Ok(StreamsGroupDescribeResponseData::default().with_groups(groups))
}

/// A group with topics that the client may not know of is not shown at all, as in Kafka.
fn sees_topics(call: &Call, group: &StreamsGroupDescription) -> bool {
    let named = group.topology.iter().flat_map(StreamsTopology::required_topics);
    named.into_iter().all(|name| call.sees(rights::DESCRIBE_TOPIC, name))
}

fn described(group: StreamsGroupDescription) -> DescribedGroup {
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
        .with_topology(group.topology.map(|one| Box::new(topology(one))))
        .with_members(group.members.into_iter().map(member).collect())
}

fn topology(topology: StreamsTopology) -> wire::Topology {
    let subtopologies = topology.subtopologies.into_iter().map(subtopology).collect();
    wire::Topology::default().with_epoch(topology.epoch).with_subtopologies(Some(subtopologies))
}

fn subtopology((id, one): (String, Subtopology)) -> wire::Subtopology {
    let names = |names: BTreeSet<String>| names.into_iter().map(KafkaString::from).collect();
    wire::Subtopology::default()
        .with_subtopology_id(id.into())
        .with_source_topics(names(one.source_topics))
        .with_repartition_sink_topics(names(one.repartition_sink_topics))
        .with_repartition_source_topics(one.repartition_source_topics.into_iter().map(internal).collect())
        .with_state_changelog_topics(one.state_changelog_topics.into_iter().map(internal).collect())
}

fn internal((name, topic): (String, InternalTopic)) -> wire::TopicInfo {
    wire::TopicInfo::default()
        .with_name(name.into())
        .with_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_topic_configs(pairs(topic.configs))
}

fn pairs(pairs: BTreeMap<String, String>) -> Vec<wire::KeyValue> {
    let one = |(key, value): (String, String)| {
        wire::KeyValue::default().with_key(key.into()).with_value(value.into())
    };
    pairs.into_iter().map(one).collect()
}

fn member(member: StreamsMemberDescription) -> wire::Member {
    let StreamsMemberDescription { record, epoch, assignment, target } = member;
    let endpoint = record.user_endpoint.map(|endpoint| {
        Box::new(wire::Endpoint::default().with_host(endpoint.host.into()).with_port(endpoint.port))
    });
    wire::Member::default()
        .with_member_id(record.member_id.into())
        .with_member_epoch(epoch)
        .with_rack_id(record.rack_id.map(Into::into))
        .with_client_id(record.client_id.into())
        .with_client_host(record.client_host.into())
        .with_topology_epoch(record.topology_epoch)
        .with_process_id(record.process_id.into())
        .with_user_endpoint(endpoint)
        .with_client_tags(pairs(record.client_tags))
        .with_assignment(tasks(&assignment))
        .with_target_assignment(tasks(&target))
}

fn tasks(tasks: &Tasks) -> wire::Assignment {
    wire::Assignment::default()
        .with_active_tasks(ids(&tasks.active))
        .with_standby_tasks(ids(&tasks.standby))
        .with_warmup_tasks(ids(&tasks.warmup))
}

fn ids(tasks: &BTreeSet<TaskId>) -> Vec<wire::TaskIds> {
    let mut by_subtopology = BTreeMap::<&String, Vec<i32>>::new();
    for (id, partition) in tasks {
        by_subtopology.entry(id).or_default().push(*partition);
    }
    let one = |(id, partitions): (&String, Vec<i32>)| {
        wire::TaskIds::default().with_subtopology_id(id.clone().into()).with_partitions(partitions)
    };
    by_subtopology.into_iter().map(one).collect()
}
