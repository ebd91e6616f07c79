//! The metadata quorum and the features, as a KRaft cluster of one node would answer.

use headwater_wire::messages::describe_quorum_response::{
    DescribeQuorumResponseData, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use headwater_wire::messages::update_features_request::FeatureUpdateKey;
use headwater_wire::messages::update_features_response::{
    UpdatableFeatureResult, UpdateFeaturesResponseData,
};
use headwater_wire::messages::{DescribeQuorumRequestData, UpdateFeaturesRequestData};
use headwater_wire::{ErrorCode, KafkaString};

use super::rights;
use super::versions::feature_level;
use super::{Call, CallError};
use crate::NODE_ID;
use crate::engine::STATE_PARTITION;

/// What KRaft calls its log; ours is the coordinator's.
const METADATA: &str = "__cluster_metadata";
/// From here on the nodes of the quorum are named (KIP-853).
const NODES: i16 = 2;
/// From here on one error stands for all features.
const ERROR_FOR_ALL: i16 = 2;

pub async fn describe(
    call: &Call,
    request: DescribeQuorumRequestData,
) -> Result<DescribeQuorumResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::DESCRIBE_CLUSTER) {
        return Ok(DescribeQuorumResponseData::default().with_error_code(code.code()));
    }
    let end = call.shared.reader.offsets(STATE_PARTITION).map_or(0, |offsets| offsets.high_watermark);
    let topics = request.topics.into_iter().map(|topic| {
        let of_metadata = topic.topic_name.as_str() == METADATA;
        let partition = |index: i32| match of_metadata && index == 0 {
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

/// Features are what this build has: only what is true already can be asked for.
pub async fn update_features(
    call: &Call,
    request: UpdateFeaturesRequestData,
) -> Result<UpdateFeaturesResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::ALTER_CLUSTER) {
        return Ok(UpdateFeaturesResponseData::default().with_error_code(code.code()));
    }
    let results: Vec<_> = request.feature_updates.into_iter().map(update).collect();
    let response = UpdateFeaturesResponseData::default();
    if call.version < ERROR_FOR_ALL {
        return Ok(response.with_results(results));
    }
    let refused = results.into_iter().find(|result| result.error_code != 0);
    Ok(match refused {
        Some(refused) => {
            response.with_error_code(refused.error_code).with_error_message(refused.error_message)
        }
        None => response,
    })
}

fn update(wanted: FeatureUpdateKey) -> UpdatableFeatureResult {
    let name = wanted.feature.as_str();
    let refused = match feature_level(name) {
        None => Some((ErrorCode::InvalidUpdateVersion, format!("this broker has no feature {name}"))),
        Some(level) if level != wanted.max_version_level => {
            let why = format!("{name} is at level {level} in this build and cannot be set to another");
            Some((ErrorCode::FeatureUpdateFailed, why))
        }
        Some(_) => None,
    };
    let result = UpdatableFeatureResult::default().with_feature(wanted.feature);
    match refused {
        Some((code, why)) => result.with_error_code(code.code()).with_error_message(Some(why.into())),
        None => result,
    }
}
