//! Consumer groups of the consumer protocol (KIP-848): the coordinator assigns, members follow at their own pace.
//!
//! Owns one group's members, epochs and assignments; every durable change goes through [`ConsumerGroup::record`], so that
//! a replay of its records is the group. Sessions and time-outs are not durable: they begin anew at a start.
//! Invariant: a partition has at most one owner; who gave it up, or is out, has said so before another gets it.

mod assignor;
mod classic;
mod describe;
mod embedded;
mod heartbeat;
mod leave;
mod membership;
mod migration;
mod offsets;
mod reconcile;
mod records;
mod requests;
mod subscription;
mod target;
mod timeouts;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TimestampMs;

pub use assignor::ASSIGNORS;
pub(crate) use offsets::Committer;
pub use records::*;
pub(crate) use timeouts::Timeouts;
pub use validate::check as check_consumer_heartbeat;

use crate::context::Context;
use crate::records::{StateRecord, TopicPartitionId};
use subscription::Pattern;

/// The member epoch with which a member joins.
const JOIN: i32 = 0;
/// The member epoch with which a member leaves for good.
const LEAVE: i32 = -1;
/// The member epoch with which a static member leaves to come back.
const LEAVE_STATIC: i32 = -2;

#[derive(Debug)]
struct Member {
    record: ConsumerMemberRecord,
    target: BTreeSet<TopicPartitionId>,
    current: CurrentAssignment,
    session_deadline: TimestampMs,
    /// Until when it must have given up what it was told to.
    revocation_deadline: Option<TimestampMs>,
    /// Classic protocol: until when it must have joined again.
    rejoin_deadline: Option<TimestampMs>,
    /// Classic protocol: until when it must have asked for its assignment.
    sync_deadline: Option<TimestampMs>,
}

impl Member {
    fn new(record: ConsumerMemberRecord) -> Self {
        let current =
            CurrentAssignment { member_id: record.member_id.clone(), ..CurrentAssignment::default() };
        Self {
            record,
            target: BTreeSet::new(),
            current,
            session_deadline: TimestampMs::MAX,
            revocation_deadline: None,
            rejoin_deadline: None,
            sync_deadline: None,
        }
    }

    fn is_classic(&self) -> bool {
        self.record.classic.is_some()
    }

    /// Whether it has all it should have at this epoch.
    fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }
}

#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    id: String,
    epochs: GroupEpochs,
    members: BTreeMap<String, Member>,
    /// Member ids by instance id.
    instances: BTreeMap<String, String>,
    /// Who has, or may still have, each partition.
    owners: BTreeMap<TopicPartitionId, String>,
    /// The regular expressions of the members, resolved.
    patterns: BTreeMap<String, Pattern>,
    /// Which state of the topics the patterns and the metadata hash were made of, and of who may see them.
    seen: Option<(u64, u64)>,
    /// When the targets were computed last; `None` after a restart.
    assigned_ms: Option<TimestampMs>,
}

impl ConsumerGroup {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Changes the group and writes down the change.
    fn record(&mut self, cx: &mut Context, change: ConsumerGroupChange) {
        self.apply(&change, cx.now);
        cx.append(StateRecord::ConsumerGroup { group_id: self.id.clone(), change });
    }

    /// Makes one change; the same at replay as in life.
    pub fn apply(&mut self, change: &ConsumerGroupChange, now: TimestampMs) {
        match change {
            ConsumerGroupChange::Epochs(epochs) => self.epochs = epochs.clone(),
            ConsumerGroupChange::Member(record) => self.put_member(record.clone()),
            ConsumerGroupChange::MemberRemoved { member_id } => self.remove_member(member_id),
            ConsumerGroupChange::Target { member_id, partitions } => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.target = partitions.clone();
                }
            }
            ConsumerGroupChange::Current(current) => self.put_current(current.clone(), now),
        }
    }

    fn put_member(&mut self, record: ConsumerMemberRecord) {
        if let Some(instance) = &record.instance_id {
            self.instances.insert(instance.clone(), record.member_id.clone());
        }
        match self.members.get_mut(&record.member_id) {
            Some(member) => member.record = record,
            None => drop(self.members.insert(record.member_id.clone(), Member::new(record))),
        }
    }

    fn remove_member(&mut self, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        self.disown(&member.current);
        if let Some(instance) = &member.record.instance_id
            && self.instances.get(instance).is_some_and(|current| current == member_id)
        {
            self.instances.remove(instance);
        }
    }

    fn put_current(&mut self, current: CurrentAssignment, now: TimestampMs) {
        let Some(member) = self.members.get_mut(&current.member_id) else { return };
        let waits = current.state == MemberState::UnrevokedPartitions && !member.is_classic();
        let deadline = now.saturating_add(member.record.rebalance_timeout_ms.into());
        member.revocation_deadline = waits.then_some(deadline);
        let before = std::mem::replace(&mut member.current, current.clone());
        self.disown(&before);
        for partition in current.assigned.keys().chain(current.revoking.keys()) {
            self.owners.insert(*partition, current.member_id.clone());
        }
    }

    fn disown(&mut self, assignment: &CurrentAssignment) {
        for partition in assignment.assigned.keys().chain(assignment.revoking.keys()) {
            if self.owners.get(partition).is_some_and(|owner| *owner == assignment.member_id) {
                self.owners.remove(partition);
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
                ConsumerGroupChange::Member(member.record.clone()),
                ConsumerGroupChange::Target { member_id, partitions: member.target.clone() },
                ConsumerGroupChange::Current(member.current.clone()),
            ]
        });
        [ConsumerGroupChange::Epochs(self.epochs.clone())]
            .into_iter()
            .chain(members)
            .map(|change| StateRecord::ConsumerGroup { group_id: self.id.clone(), change })
    }
}
