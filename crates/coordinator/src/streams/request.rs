//! What may be asked of streams groups, and what is answered.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{StreamsEndpoint, StreamsMemberRecord, StreamsTopology, TaskId, Tasks};
use crate::error::Failure;
use crate::request::NewTopic;

/// KIP-1071; what is `None` is as in the heartbeat before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsGroupHeartbeat {
    pub group_id: String,
    /// Chosen by the member.
    pub member_id: String,
    /// 0 joins, −1 leaves.
    pub member_epoch: i32,
    /// Of the endpoints that the member knows.
    pub endpoint_epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub rebalance_timeout_ms: Option<i32>,
    pub topology: Option<StreamsTopology>,
    /// The topology names topics by regular expressions.
    pub has_patterns: bool,
    pub active: Option<BTreeSet<TaskId>>,
    pub standby: Option<BTreeSet<TaskId>>,
    pub warmup: Option<BTreeSet<TaskId>>,
    pub process_id: Option<String>,
    pub user_endpoint: Option<StreamsEndpoint>,
    pub client_tags: Option<BTreeMap<String, String>>,
    /// The member tells how far its stores are.
    pub tells_offsets: bool,
    /// Every member of the group is to end.
    pub shutdown_application: bool,
}

impl StreamsGroupHeartbeat {
    /// What the member says it has; `None` when it does not say.
    pub(super) fn owned(&self) -> Option<Tasks> {
        let (active, standby, warmup) = (self.active.clone()?, self.standby.clone()?, self.warmup.clone()?);
        Some(Tasks { active, standby, warmup })
    }
}

/// What a member of a streams group learns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsGroupBeat {
    pub member_id: String,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    pub status: Vec<StreamsStatus>,
    /// `None` when the member knows it.
    pub tasks: Option<Tasks>,
    pub endpoint_epoch: i32,
    /// `None` when the member knows them.
    pub endpoints: Option<Vec<EndpointPartitions>>,
    /// Internal topics that must be created before tasks are assigned.
    pub missing: Vec<NewTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsStatus {
    pub kind: StreamsStatusKind,
    pub detail: String,
}

/// Kafka's names; the order is the code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamsStatusKind {
    StaleTopology,
    MissingSourceTopics,
    IncorrectlyPartitionedTopics,
    MissingInternalTopics,
    ShutdownApplication,
    AssignmentDelayed,
}

impl StreamsStatusKind {
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// Which partitions the process at an endpoint answers for: topics with their partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPartitions {
    pub endpoint: StreamsEndpoint,
    pub active: BTreeMap<String, BTreeSet<i32>>,
    pub standby: BTreeMap<String, BTreeSet<i32>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsGroupDescription {
    pub group_id: String,
    pub error: Option<Failure>,
    /// Kafka's names: `Empty`, `NotReady`, `Assigning`, `Reconciling`, `Stable`; empty on error.
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    /// With the partitions of internal topics as far as they are known.
    pub topology: Option<StreamsTopology>,
    pub members: Vec<StreamsMemberDescription>,
}

impl StreamsGroupDescription {
    pub(super) fn unknown(group_id: String) -> Self {
        Self {
            error: Some(Failure::no_such_group(&group_id, "streams")),
            group_id,
            state: "",
            epoch: 0,
            assignment_epoch: 0,
            topology: None,
            members: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsMemberDescription {
    pub record: StreamsMemberRecord,
    pub epoch: i32,
    pub assignment: Tasks,
    /// What it should have at the group's assignment epoch.
    pub target: Tasks,
}
