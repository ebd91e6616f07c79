//! What is durable of a streams group: its epochs, its topology, and of each member what it is, should get and has.
//!
//! Owns the records; replaying a group's changes in their order gives the group ([`super::StreamsGroup::apply`]).

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TimestampMs;
use serde::{Deserialize, Serialize};

/// A subtopology and a partition of its input.
pub type TaskId = (String, i32);

/// One change of a streams group; the first one of a group that is not there creates it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamsGroupChange {
    Epochs(StreamsEpochs),
    Topology(StreamsTopology),
    /// A new member, or what a known one now is.
    Member(StreamsMemberRecord),
    /// The member and all it had are gone.
    MemberRemoved {
        member_id: String,
    },
    /// What a member should have at the assignment epoch.
    Target {
        member_id: String,
        tasks: Tasks,
    },
    /// What a member has.
    Current(StreamsAssignment),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamsEpochs {
    /// Counts the changes of members, topics and settings; the first is 2, so that 1 is a member without an assignment.
    pub epoch: i32,
    /// The group epoch that the members' targets were computed for.
    pub assignment_epoch: i32,
    /// The topology's epoch when all its topics are there; −1 before that.
    pub validated_topology_epoch: i32,
    /// A digest of the topology's topics and their partitions at `epoch`.
    pub metadata_hash: u64,
    /// The setting that `epoch` stands for.
    pub num_standby_replicas: i32,
    /// When the targets were computed; 0 before that.
    pub assigned_ms: TimestampMs,
    pub timestamp: TimestampMs,
}

impl Default for StreamsEpochs {
    fn default() -> Self {
        Self {
            epoch: 0,
            assignment_epoch: 0,
            validated_topology_epoch: -1,
            metadata_hash: 0,
            num_standby_replicas: 0,
            assigned_ms: 0,
            timestamp: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamsMemberRecord {
    pub member_id: String,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub topology_epoch: i32,
    /// Members of one process share its state on disk.
    pub process_id: String,
    /// Where the process answers interactive queries.
    pub user_endpoint: Option<StreamsEndpoint>,
    pub client_tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamsEndpoint {
    pub host: String,
    pub port: u16,
}

/// What an application reads, keeps and passes on, as its first member said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamsTopology {
    pub epoch: i32,
    /// By id.
    pub subtopologies: BTreeMap<String, Subtopology>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Subtopology {
    /// Topics of users.
    pub source_topics: BTreeSet<String>,
    pub repartition_sink_topics: BTreeSet<String>,
    /// By name.
    pub repartition_source_topics: BTreeMap<String, InternalTopic>,
    /// By name.
    pub state_changelog_topics: BTreeMap<String, InternalTopic>,
    /// Source topics, repartition topics included, that must have equally many partitions.
    pub copartition_groups: BTreeSet<BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InternalTopic {
    /// 0 when it follows from other topics.
    pub partitions: i32,
    /// 0 for the broker's default.
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
}

/// Tasks of one member by what it is to do with them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tasks {
    pub active: BTreeSet<TaskId>,
    pub standby: BTreeSet<TaskId>,
    pub warmup: BTreeSet<TaskId>,
}

/// Tasks that a member has, or may still have; each active one with the epoch from which the member has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnedTasks {
    pub active: BTreeMap<TaskId, i32>,
    pub standby: BTreeSet<TaskId>,
    pub warmup: BTreeSet<TaskId>,
}

impl OwnedTasks {
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Without the epochs.
    pub fn tasks(&self) -> Tasks {
        Tasks {
            active: self.active.keys().cloned().collect(),
            standby: self.standby.clone(),
            warmup: self.warmup.clone(),
        }
    }

    /// Whether some task is there in the same role.
    pub(super) fn meets(&self, other: &Tasks) -> bool {
        other.active.iter().any(|task| self.active.contains_key(task))
            || !self.standby.is_disjoint(&other.standby)
            || !self.warmup.is_disjoint(&other.warmup)
    }

    /// Whether every one of these tasks is there in the same role.
    pub(super) fn covers(&self, other: &Tasks) -> bool {
        other.active.iter().all(|task| self.active.contains_key(task))
            && other.standby.is_subset(&self.standby)
            && other.warmup.is_subset(&self.warmup)
    }
}

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StreamsMemberState {
    /// It has all it should have at its epoch.
    #[default]
    Stable,
    /// It must give up tasks before anything else.
    UnrevokedTasks,
    /// It waits for tasks that others, or its own process, still have.
    UnreleasedTasks,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamsAssignment {
    pub member_id: String,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: StreamsMemberState,
    pub assigned: OwnedTasks,
    /// What the member was told to give up, and may still have.
    pub revoking: OwnedTasks,
}
