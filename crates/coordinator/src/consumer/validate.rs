//! What a ConsumerGroupHeartbeat must say, before anybody looks at the group.

use super::assignor::ASSIGNORS;
use super::subscription::Pattern;
use super::{JOIN, LEAVE, LEAVE_STATIC};
use crate::error::{Error, Failure};
use crate::request::ConsumerGroupHeartbeat;

/// What is wrong with a heartbeat whatever the group is.
///
/// # Errors
/// `INVALID_REQUEST`, `UNSUPPORTED_ASSIGNOR` or `INVALID_REGULAR_EXPRESSION`, each with what is wrong.
pub fn check(beat: &ConsumerGroupHeartbeat) -> Result<(), Failure> {
    let refused = |message: &str| Err(Failure::new(Error::InvalidRequest, message));
    let empty = |text: &Option<String>| text.as_deref().is_some_and(str::is_empty);
    match () {
        () if beat.group_id.is_empty() => return refused("GroupId can't be empty."),
        () if empty(&beat.instance_id) => return refused("InstanceId can't be empty."),
        () if empty(&beat.rack_id) => return refused("RackId can't be empty."),
        () if beat.member_epoch < LEAVE_STATIC => return refused("MemberEpoch is invalid."),
        () if beat.member_id.is_empty() && (beat.names_itself || beat.member_epoch != JOIN) => {
            return refused("MemberId can't be empty.");
        }
        () => {}
    }
    match beat.member_epoch {
        JOIN => check_join(beat)?,
        LEAVE_STATIC if beat.instance_id.is_none() => {
            return refused("InstanceId can't be null when the MemberEpoch is -2.");
        }
        LEAVE | LEAVE_STATIC => return Ok(()),
        _ => {}
    }
    if let Some(name) = beat.assignor.as_deref().filter(|name| !ASSIGNORS.contains(name)) {
        let known = ASSIGNORS.join(", ");
        let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
        return Err(Failure::new(Error::UnsupportedAssignor, message));
    }
    match beat.regex.as_deref().filter(|regex| !regex.is_empty()) {
        Some(regex) => Pattern::of(regex, beat.compiled.as_ref()).map(drop),
        None => Ok(()),
    }
}

fn check_join(beat: &ConsumerGroupHeartbeat) -> Result<(), Failure> {
    let refused = |message: &str| Err(Failure::new(Error::InvalidRequest, message));
    match () {
        () if beat.rebalance_timeout_ms.is_none() => {
            refused("RebalanceTimeoutMs must be provided in first request.")
        }
        () if !beat.owned.as_ref().is_some_and(|owned| owned.is_empty()) => {
            refused("TopicPartitions must be empty when (re-)joining.")
        }
        () if beat.topics.is_none() && beat.regex.is_none() => {
            refused("SubscribedTopicNames or SubscribedTopicRegex must be set in first request.")
        }
        () => Ok(()),
    }
}
