//! Streams groups (KIP-1071): the coordinator knows the topology of a Kafka Streams application and assigns its tasks.
//!
//! Owns one group's members, topology, epochs and assignments; every durable change goes through
//! [`StreamsGroup::record`], so that a replay of its records is the group. Sessions, time-outs and what is known of topics
//! are not durable: they begin anew at a start. Refuses to create topics: it says which are missing.
//! Invariant: an active task has at most one owner, and a process has a task in one role only.

mod assignor;
mod configs;
mod configure;
mod describe;
mod endpoints;
mod heartbeat;
mod leave;
mod offsets;
mod reconcile;
mod records;
mod request;
mod requests;
mod target;
mod timeouts;
mod topology;
mod validate;

use std::collections::BTreeMap;

use headwater_model::TimestampMs;

pub use configs::StreamsDefaults;
pub(crate) use configs::StreamsSettings;
pub use records::*;
pub use request::*;

use crate::context::Context;
use crate::records::StateRecord;
use configure::Configured;

/// The member epoch with which a member joins.
const JOIN: i32 = 0;
/// The member epoch with which a member leaves.
const LEAVE: i32 = -1;
/// The member epoch with which a static member would leave to come back.
const LEAVE_STATIC: i32 = -2;

#[derive(Debug)]
struct Member {
    record: StreamsMemberRecord,
    target: Tasks,
    current: StreamsAssignment,
    session_deadline: TimestampMs,
    /// Until when it must have given up what it was told to.
    revocation_deadline: Option<TimestampMs>,
}

impl Member {
    fn new(record: StreamsMemberRecord) -> Self {
        let current =
            StreamsAssignment { member_id: record.member_id.clone(), ..StreamsAssignment::default() };
        let target = Tasks::default();
        Self { record, target, current, session_deadline: TimestampMs::MAX, revocation_deadline: None }
    }

    /// Whether it has all it should have at this epoch.
    fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == StreamsMemberState::Stable && self.current.epoch == epoch
    }
}

#[derive(Debug, Default)]
pub(crate) struct StreamsGroup {
    id: String,
    epochs: StreamsEpochs,
    topology: Option<StreamsTopology>,
    members: BTreeMap<String, Member>,
    /// The topology over the topics of `topics_version`.
    configured: Option<Configured>,
    topics_version: Option<u64>,
    /// Until when an empty group waits for more members.
    delayed_until: Option<TimestampMs>,
    /// Who asked all members to end; until the group is empty.
    shutdown_by: Option<String>,
    /// Counts what has changed of the endpoints.
    endpoint_epoch: i32,
}

impl StreamsGroup {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Changes the group and writes down the change.
    fn record(&mut self, cx: &mut Context, change: StreamsGroupChange) {
        self.apply(&change, cx.now);
        cx.append(StateRecord::StreamsGroup { group_id: self.id.clone(), change });
    }

    /// Makes one change; the same at replay as in life.
    pub fn apply(&mut self, change: &StreamsGroupChange, now: TimestampMs) {
        match change {
            StreamsGroupChange::Epochs(epochs) => self.epochs = epochs.clone(),
            StreamsGroupChange::Topology(topology) => {
                self.topology = Some(topology.clone());
                self.topics_version = None;
            }
            StreamsGroupChange::Member(record) => match self.members.get_mut(&record.member_id) {
                Some(member) => member.record = record.clone(),
                None => drop(self.members.insert(record.member_id.clone(), Member::new(record.clone()))),
            },
            StreamsGroupChange::MemberRemoved { member_id } => {
                self.members.remove(member_id);
                if self.members.is_empty() {
                    self.shutdown_by = None;
                }
            }
            StreamsGroupChange::Target { member_id, tasks } => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.target = tasks.clone();
                }
            }
            StreamsGroupChange::Current(current) => {
                let Some(member) = self.members.get_mut(&current.member_id) else { return };
                let deadline = now.saturating_add(member.record.rebalance_timeout_ms.into());
                let waits = current.state == StreamsMemberState::UnrevokedTasks;
                member.revocation_deadline = waits.then_some(deadline);
                member.current = current.clone();
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether nothing would be lost with it.
    pub fn is_nothing(&self) -> bool {
        self.is_empty() && self.epochs.epoch == 0
    }

    /// When the group changed last.
    pub fn changed_ms(&self) -> TimestampMs {
        self.epochs.timestamp
    }

    /// The group in as few records as possible.
    pub fn snapshot(&self) -> impl Iterator<Item = StateRecord> + '_ {
        let members = self.members.values().flat_map(|member| {
            let member_id = member.record.member_id.clone();
            [
                StreamsGroupChange::Member(member.record.clone()),
                StreamsGroupChange::Target { member_id, tasks: member.target.clone() },
                StreamsGroupChange::Current(member.current.clone()),
            ]
        });
        let topology = self.topology.clone().map(StreamsGroupChange::Topology);
        [StreamsGroupChange::Epochs(self.epochs.clone())]
            .into_iter()
            .chain(topology)
            .chain(members)
            .map(|change| StateRecord::StreamsGroup { group_id: self.id.clone(), change })
    }
}
