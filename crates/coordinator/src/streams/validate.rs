//! What a StreamsGroupHeartbeat must say, before anybody looks at the group.
//!
//! Refuses what Apache Kafka 4.3 refuses, too: static members, patterns of source topics, warm-up tasks, offsets of tasks.

use super::request::StreamsGroupHeartbeat;
use super::{JOIN, LEAVE_STATIC};
use crate::error::{Error, Failure};

fn refused(message: impl Into<String>) -> Result<(), Failure> {
    Err(Failure::new(Error::InvalidRequest, message))
}

/// # Errors
/// `INVALID_REQUEST` or `STREAMS_INVALID_TOPOLOGY`, with what is wrong.
pub(super) fn check(beat: &StreamsGroupHeartbeat) -> Result<(), Failure> {
    check_supported(beat)?;
    let empty = |text: &Option<String>| text.as_deref().is_some_and(str::is_empty);
    let roles = [&beat.active, &beat.standby, &beat.warmup];
    let said = roles.iter().filter(|role| role.is_some()).count();
    match () {
        () if beat.member_id.is_empty() => return refused("MemberId can't be empty."),
        () if beat.group_id.is_empty() => return refused("GroupId can't be empty."),
        () if empty(&beat.rack_id) => return refused("RackId can't be empty."),
        () if beat.member_epoch < LEAVE_STATIC => {
            let epoch = beat.member_epoch;
            return refused(format!("MemberEpoch is {epoch}, but must be greater than or equal to -2."));
        }
        () if beat.member_epoch == LEAVE_STATIC => return refused("InstanceId can't be null."),
        () if said != 0 && said != roles.len() => {
            return refused("If one task-type is non-null, all must be non-null.");
        }
        () => {}
    }
    if beat.member_epoch == JOIN { check_join(beat) } else { Ok(()) }
}

fn check_supported(beat: &StreamsGroupHeartbeat) -> Result<(), Failure> {
    match () {
        () if beat.instance_id.is_some() => refused("Static membership is not yet supported."),
        () if beat.tells_offsets => refused("TaskOffsets are not supported yet."),
        () if beat.warmup.as_ref().is_some_and(|tasks| !tasks.is_empty()) => {
            refused("WarmupTasks are not supported yet.")
        }
        () if beat.has_patterns => refused("Regular expressions for source topics are not supported yet."),
        () => Ok(()),
    }
}

fn check_join(beat: &StreamsGroupHeartbeat) -> Result<(), Failure> {
    if beat.rebalance_timeout_ms.is_none() {
        return refused("RebalanceTimeoutMs must be provided in first request.");
    }
    for (role, tasks) in
        [("ActiveTasks", &beat.active), ("StandbyTasks", &beat.standby), ("WarmupTasks", &beat.warmup)]
    {
        if !tasks.as_ref().is_some_and(|tasks| tasks.is_empty()) {
            return refused(format!("{role} must be empty when (re-)joining."));
        }
    }
    let Some(topology) = &beat.topology else {
        return refused("Topology must be non-null when (re-)joining.");
    };
    if topology.epoch < 0 {
        return refused("the topology's epoch must not be negative");
    }
    let changelogs = topology.subtopologies.values().flat_map(|one| &one.state_changelog_topics);
    for (name, topic) in changelogs {
        if topic.partitions != 0 {
            let message = format!(
                "Changelog topic {name} must have an undefined partition count, but it is set to {}.",
                topic.partitions
            );
            return Err(Failure::new(Error::StreamsInvalidTopology, message));
        }
    }
    Ok(())
}
