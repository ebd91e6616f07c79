//! FindCoordinator: it is always this node.

use headwater_model::acl::CLUSTER_NAME;
use headwater_wire::messages::FindCoordinatorRequestData;
use headwater_wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponseData};
use headwater_wire::{ErrorCode, KafkaString};

use super::rights::{self, Right};
use super::{Call, CallError};
use crate::NODE_ID;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// KIP-932: of `group:topic-id:partition`.
const SHARE: i8 = 2;

pub async fn find(
    call: &Call,
    request: FindCoordinatorRequestData,
) -> Result<FindCoordinatorResponseData, CallError> {
    let keys = match call.version >= 4 {
        true => &request.coordinator_keys[..],
        false => std::slice::from_ref(&request.key),
    };
    let refused = match (call.shared.engine.fenced(), request.key_type) {
        (Some(reason), _) => Some((ErrorCode::CoordinatorNotAvailable, reason.to_string())),
        (None, SHARE) if !keys.iter().all(|key| is_share_key(key.as_str())) => {
            let message = "a share key is GROUP:TOPIC-ID:PARTITION".to_owned();
            Some((ErrorCode::InvalidRequest, message))
        }
        (None, GROUP | TRANSACTION | SHARE) => None,
        (None, other) => {
            Some((ErrorCode::InvalidRequest, format!("there is no coordinator of type {other}")))
        }
    };
    let (host, port) = call.node();
    let kind = request.key_type;
    let coordinator = |key: KafkaString| {
        let (right, resource) = needed(kind, &key);
        match &refused {
            None if !call.may(right, resource) => Coordinator::default()
                .with_key(key)
                .with_node_id(-1)
                .with_port(-1)
                .with_error_code(right.refusal().code()),
            None => Coordinator::default()
                .with_key(key)
                .with_node_id(NODE_ID)
                .with_host(host.clone())
                .with_port(port),
            Some((error, message)) => Coordinator::default()
                .with_key(key)
                .with_node_id(-1)
                .with_port(-1)
                .with_error_code(error.code())
                .with_error_message(Some(message.clone().into())),
        }
    };
    if call.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
        return Ok(FindCoordinatorResponseData::default().with_coordinators(coordinators));
    }
    let found = coordinator(request.key);
    Ok(FindCoordinatorResponseData::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port))
}

/// The right, and the name of what it must be on.
fn needed(kind: i8, key: &KafkaString) -> (Right, &str) {
    match kind {
        GROUP => (rights::DESCRIBE_GROUP, key.as_str()),
        SHARE => (rights::CLUSTER_ACTION, CLUSTER_NAME),
        _ => (rights::DESCRIBE_TRANSACTIONAL_ID, key.as_str()),
    }
}

fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let (partition, topic, group) = (parts.next(), parts.next(), parts.next());
    partition.is_some_and(|index| index.parse::<u32>().is_ok())
        && topic.is_some_and(|topic| !topic.is_empty())
        && group.is_some_and(|group| !group.is_empty())
}
