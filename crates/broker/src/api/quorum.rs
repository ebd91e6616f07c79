//! The metadata quorum and the features, as a KRaft cluster of one node would answer.

use std::collections::HashSet;

use headwater_coordinator::{Failure, FeatureChange, FeatureUpdate, Request, Response};
use headwater_model::acl::CLUSTER_NAME;
use headwater_wire::messages::describe_quorum_response::{
    DescribeQuorumResponseData, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use headwater_wire::messages::update_features_request::FeatureUpdateKey;
use headwater_wire::messages::update_features_response::{
    UpdatableFeatureResult, UpdateFeaturesResponseData,
};
use headwater_wire::messages::{
    DescribeQuorumRequestData, UnregisterBrokerRequestData, UnregisterBrokerResponseData,
    UpdateFeaturesRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::{Call, CallError, rights, text};
use crate::NODE_ID;
use crate::engine::STATE_PARTITION;

/// What KRaft calls its log; ours is the coordinator's.
const METADATA: &str = "__cluster_metadata";
/// From here on the nodes of the quorum are named (KIP-853).
const NODES: i16 = 2;
/// From here on no feature has an error of its own.
const ERROR_FOR_ALL: i16 = 2;

pub async fn describe(
    call: &Call,
    mut request: DescribeQuorumRequestData,
) -> Result<DescribeQuorumResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::DESCRIBE_CLUSTER) {
        return Ok(DescribeQuorumResponseData::default().with_error_code(code.code()));
    }
    let end = call.shared.reader.offsets(STATE_PARTITION).map_or(0, |offsets| offsets.high_watermark);
    let of_metadata = names_metadata(&request);
    // What is named again and again would make a long answer of a short request.
    let mut named = HashSet::new();
    for topic in &mut request.topics {
        let name = topic.topic_name.clone();
        topic.partitions.retain(|partition| named.insert((name.clone(), partition.partition_index)));
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index: i32| match of_metadata {
            true => quorum(end, call.version),
            false => PartitionData::default()
                .with_partition_index(index)
                .with_error_code(ErrorCode::UnknownTopicOrPartition.code()),
        };
        let partitions = topic.partitions.iter().map(|wanted| partition(wanted.partition_index)).collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    let response = DescribeQuorumResponseData::default().with_topics(topics.collect());
    Ok(if call.version >= NODES { response.with_nodes(vec![node(call)]) } else { response })
}

/// Whether the one partition of the metadata is asked for, and nothing else: as in Apache Kafka, all else is unknown.
fn names_metadata(request: &DescribeQuorumRequestData) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name.as_str() == METADATA && partition.partition_index == 0
}

fn quorum(end: i64, version: i16) -> PartitionData {
    let leader = ReplicaState::default().with_replica_id(NODE_ID).with_log_end_offset(end);
    // The leader does not fetch from itself, so it has no times to tell.
    let leader = match version >= 1 {
        true => leader.with_last_fetch_timestamp(-1).with_last_caught_up_timestamp(-1),
        false => leader,
    };
    PartitionData::default()
        .with_leader_id(NODE_ID)
        .with_leader_epoch(1)
        .with_high_watermark(end)
        .with_current_voters(vec![leader])
}

fn node(call: &Call) -> Node {
    let (host, port) = call.node();
    let listener = Listener::default()
        .with_name(KafkaString::from_static("CONTROLLER"))
        .with_host(host)
        .with_port(u16::try_from(port).unwrap_or(0));
    Node::default().with_node_id(NODE_ID).with_listeners(vec![listener])
}

/// Takes a broker out that is gone for good (KIP-631); here is one, which is not.
pub async fn unregister(
    call: &Call,
    request: UnregisterBrokerRequestData,
) -> Result<UnregisterBrokerResponseData, CallError> {
    let response = UnregisterBrokerResponseData::default();
    if let Err(code) = call.check_cluster(rights::ALTER_CLUSTER) {
        return Ok(response.with_error_code(code.code()));
    }
    let (code, message) = match request.broker_id {
        NODE_ID => (
            ErrorCode::InvalidRequest,
            "the only broker cannot leave its cluster: stop it instead".to_owned(),
        ),
        other => (
            ErrorCode::BrokerIdNotRegistered,
            format!("there is no broker {other}: the only one is {NODE_ID}"),
        ),
    };
    Ok(response.with_error_code(code.code()).with_error_message(Some(message.into())))
}

pub async fn update_features(
    call: &Call,
    request: UpdateFeaturesRequestData,
) -> Result<UpdateFeaturesResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::ALTER_CLUSTER) {
        return Ok(UpdateFeaturesResponseData::default().with_error_code(code.code()));
    }
    let updates = request.feature_updates.iter().map(|update| wanted(update, call.version)).collect();
    let update = Request::UpdateFeatures { updates, validate_only: request.validate_only };
    let Response::UpdateFeatures(result) = call.ask(update).await? else { return Err(call.mismatch()) };
    let response = UpdateFeaturesResponseData::default();
    // All are changed or none, so that one error stands for all.
    if let Err(Failure { error, message }) = result {
        return Ok(response.with_error_code(error.code()).with_error_message(Some(message.into())));
    }
    for update in request.feature_updates.iter().filter(|_| !request.validate_only) {
        let detail = || Some(format!("{}={}", update.feature, update.max_version_level));
        call.changed(rights::ALTER_CLUSTER, CLUSTER_NAME, detail);
    }
    if call.version >= ERROR_FOR_ALL {
        return Ok(response);
    }
    let result = |update: FeatureUpdateKey| UpdatableFeatureResult::default().with_feature(update.feature);
    Ok(response.with_results(request.feature_updates.into_iter().map(result).collect()))
}

fn wanted(update: &FeatureUpdateKey, version: i16) -> FeatureUpdate {
    let change = match version {
        0 if update.allow_downgrade => FeatureChange::Downgrade,
        0 => FeatureChange::Upgrade,
        _ => FeatureChange::from_wire(update.upgrade_type),
    };
    FeatureUpdate { name: text(&update.feature), level: update.max_version_level, change }
}
