//! Where replicas are and who leads: every partition has one, on the only node, so nothing can be moved or elected.

use std::collections::HashMap;

use headwater_wire::messages::alter_partition_reassignments_request::ReassignablePartition;
use headwater_wire::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponseData, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use headwater_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponseData,
};
use headwater_wire::messages::elect_leaders_response::{
    ElectLeadersResponseData, PartitionResult, ReplicaElectionResult,
};
use headwater_wire::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponseData;
use headwater_wire::messages::{
    AlterPartitionReassignmentsRequestData, AlterReplicaLogDirsRequestData, ElectLeadersRequestData,
    ListPartitionReassignmentsRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::rights;
use super::{Call, CallError};
use crate::NODE_ID;

/// Election types are 0 (preferred) and 1 (unclean).
const ELECTIONS: [i8; 2] = [0, 1];
/// From here on a response has one error for all of it.
const ERROR_FOR_ALL: i16 = 1;

fn exists(call: &Call, topic: &KafkaString, index: i32) -> bool {
    call.shared.catalog.by_name(topic.as_str()).is_some_and(|topic| topic.partition(index).is_some())
}

pub async fn elect_leaders(
    call: &Call,
    request: ElectLeadersRequestData,
) -> Result<ElectLeadersResponseData, CallError> {
    let response = ElectLeadersResponseData::default();
    if let Err(code) = call.check_cluster(rights::ALTER_CLUSTER) {
        return Ok(match call.version >= ERROR_FOR_ALL {
            true => response.with_error_code(code.code()),
            false => response.with_replica_election_results(unelected(request, code)),
        });
    }
    let legal = ELECTIONS.contains(&request.election_type);
    if !legal && call.version >= ERROR_FOR_ALL {
        return Ok(response.with_error_code(ErrorCode::InvalidRequest.code()));
    }
    // Whoever asks for all partitions is told only of those that changed or could not.
    let wanted = request.topic_partitions.unwrap_or_default();
    let elected = wanted.into_iter().map(|topic| {
        let result = |&index: &i32| {
            let (code, why) = match exists(call, &topic.topic, index) {
                _ if !legal => (ErrorCode::InvalidRequest, "an election is 0 (preferred) or 1 (unclean)"),
                true => (ErrorCode::ElectionNotNeeded, "the only replica leads already"),
                false => (ErrorCode::UnknownTopicOrPartition, "there is no such partition"),
            };
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(code.code())
                .with_error_message(Some(KafkaString::from_static(why)))
        };
        let results = topic.partitions.iter().map(result).collect();
        ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(results)
    });
    Ok(response.with_replica_election_results(elected.collect()))
}

fn unelected(request: ElectLeadersRequestData, code: ErrorCode) -> Vec<ReplicaElectionResult> {
    let topics = request.topic_partitions.into_iter().flatten().map(|topic| {
        let result =
            |&index: &i32| PartitionResult::default().with_partition_id(index).with_error_code(code.code());
        let results = topic.partitions.iter().map(result).collect();
        ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(results)
    });
    topics.collect()
}

pub async fn reassign(
    call: &Call,
    request: AlterPartitionReassignmentsRequestData,
) -> Result<AlterPartitionReassignmentsResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::ALTER_CLUSTER) {
        return Ok(AlterPartitionReassignmentsResponseData::default().with_error_code(code.code()));
    }
    let reassigned = request.topics.into_iter().map(|topic| {
        let result = |wanted: &ReassignablePartition| {
            let response =
                ReassignablePartitionResponse::default().with_partition_index(wanted.partition_index);
            match refusal(wanted, exists(call, &topic.name, wanted.partition_index)) {
                Some((code, why)) => {
                    response.with_error_code(code.code()).with_error_message(Some(why.into()))
                }
                None => response,
            }
        };
        let partitions = topic.partitions.iter().map(result).collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    Ok(AlterPartitionReassignmentsResponseData::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(reassigned.collect()))
}

/// To be where it is already is the only assignment of a partition that can be had.
fn refusal(wanted: &ReassignablePartition, exists: bool) -> Option<(ErrorCode, String)> {
    if !exists {
        return Some((ErrorCode::UnknownTopicOrPartition, "there is no such partition".to_owned()));
    }
    let Some(replicas) = &wanted.replicas else {
        let why = "no reassignment of this partition is in progress".to_owned();
        return Some((ErrorCode::NoReassignmentInProgress, why));
    };
    match replicas.iter().find(|node| **node != NODE_ID) {
        Some(node) => {
            let why = format!("there is no broker {node}: the only one is {NODE_ID}");
            Some((ErrorCode::InvalidReplicaAssignment, why))
        }
        None if replicas.len() != 1 => {
            let why = format!("a partition needs exactly one replica here, on broker {NODE_ID}");
            Some((ErrorCode::InvalidReplicaAssignment, why))
        }
        None => None,
    }
}

pub async fn reassignments(
    call: &Call,
    _: ListPartitionReassignmentsRequestData,
) -> Result<ListPartitionReassignmentsResponseData, CallError> {
    let refused = call.check_cluster(rights::DESCRIBE_CLUSTER).err();
    let code = refused.unwrap_or(ErrorCode::None).code();
    Ok(ListPartitionReassignmentsResponseData::default().with_error_code(code))
}

pub async fn log_dirs(
    call: &Call,
    request: AlterReplicaLogDirsRequestData,
) -> Result<AlterReplicaLogDirsResponseData, CallError> {
    let allowed = call.check_cluster(rights::ALTER_CLUSTER);
    let only = call.shared.config.log_dir();
    let mut results: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
    let mut places = HashMap::new();
    for dir in request.dirs {
        let known = dir.path.as_str() == only;
        for topic in dir.topics {
            let result = |&index: &i32| {
                let code = match exists(call, &topic.name, index) {
                    _ if let Err(code) = allowed => code,
                    _ if !known => ErrorCode::LogDirNotFound,
                    false => ErrorCode::UnknownTopicOrPartition,
                    true => ErrorCode::None,
                };
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code.code())
            };
            let partitions = topic.partitions.iter().map(result).collect::<Vec<_>>();
            // A topic whose partitions should go to several directories is answered once.
            let place = *places.entry(topic.name.as_str().to_owned()).or_insert(results.len());
            match results.get_mut(place) {
                Some(of_topic) => of_topic.partitions.extend(partitions),
                None => results.push(
                    AlterReplicaLogDirTopicResult::default()
                        .with_topic_name(topic.name)
                        .with_partitions(partitions),
                ),
            }
        }
    }
    Ok(AlterReplicaLogDirsResponseData::default().with_results(results))
}
