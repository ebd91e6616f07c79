//! One member's next step towards its target: give up, wait, take.
//!
//! Pure: what is free is asked, nothing is changed. A member keeps its epoch until it has given up all that its target
//! lacks; then it takes the target's epoch and whatever of its target nobody else has.

use std::collections::{BTreeMap, BTreeSet};

use super::ConsumerGroup;
use super::records::{ConsumerGroupChange, CurrentAssignment, MemberState};
use crate::context::Context;
use crate::records::{TopicId, TopicPartitionId};
use crate::topics::Topics;

type Epochs = BTreeMap<TopicPartitionId, i32>;

/// What decides a member's next step.
pub(super) struct Step<'a> {
    pub target_epoch: i32,
    pub target: &'a BTreeSet<TopicPartitionId>,
    /// The topics that the member reads and that exist.
    pub subscribed: &'a BTreeSet<TopicId>,
    /// What the member says it has; `None` when it does not say.
    pub owned: Option<&'a BTreeSet<TopicPartitionId>>,
    /// The subscription has changed: what it left out must go even before there is another target.
    pub narrowed: bool,
    /// Whether nobody else has this partition.
    pub is_free: &'a dyn Fn(&TopicPartitionId) -> bool,
}

impl Step<'_> {
    pub fn next(&self, member: &CurrentAssignment) -> CurrentAssignment {
        match member.state {
            MemberState::Stable if member.epoch != self.target_epoch => self.towards_target(member),
            MemberState::UnreleasedPartitions => self.towards_target(member),
            MemberState::UnrevokedPartitions if !self.still_has(&member.revoking) => {
                self.towards_target(member)
            }
            _ if self.narrowed => self.without_unsubscribed(member),
            _ => member.clone(),
        }
    }

    fn still_has(&self, revoking: &Epochs) -> bool {
        self.owned.is_none_or(|owned| owned.iter().any(|partition| revoking.contains_key(partition)))
    }

    fn wants(&self, partition: &TopicPartitionId) -> bool {
        self.target.contains(partition) && self.subscribed.contains(&partition.0)
    }

    fn towards_target(&self, member: &CurrentAssignment) -> CurrentAssignment {
        let (kept, revoking): (Epochs, Epochs) =
            member.assigned.iter().partition(|(partition, _)| self.wants(partition));
        if !revoking.is_empty() && self.still_has(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            return CurrentAssignment { state, assigned: kept, revoking, ..at(member, member.epoch) };
        }
        let missing = self
            .target
            .iter()
            .filter(|partition| self.subscribed.contains(&partition.0) && !kept.contains_key(*partition));
        let (free, taken): (Vec<TopicPartitionId>, Vec<_>) =
            missing.partition(|partition| (self.is_free)(partition));
        let state = match taken.is_empty() {
            true => MemberState::Stable,
            false => MemberState::UnreleasedPartitions,
        };
        let mut assigned = kept;
        assigned.extend(free.into_iter().map(|partition| (partition, self.target_epoch)));
        CurrentAssignment { state, assigned, revoking: Epochs::new(), ..at(member, self.target_epoch) }
    }

    fn without_unsubscribed(&self, member: &CurrentAssignment) -> CurrentAssignment {
        let (kept, gone): (Epochs, Epochs) =
            member.assigned.iter().partition(|(partition, _)| self.subscribed.contains(&partition.0));
        if gone.is_empty() {
            return member.clone();
        }
        let mut revoking = member.revoking.clone();
        revoking.extend(gone);
        match self.still_has(&revoking) {
            true => CurrentAssignment {
                state: MemberState::UnrevokedPartitions,
                assigned: kept,
                revoking,
                ..member.clone()
            },
            false => CurrentAssignment { assigned: kept, ..member.clone() },
        }
    }
}

/// The member at an epoch, remembering the one before.
fn at(member: &CurrentAssignment, epoch: i32) -> CurrentAssignment {
    let previous_epoch = if epoch == member.epoch { member.previous_epoch } else { member.epoch };
    CurrentAssignment { epoch, previous_epoch, member_id: member.member_id.clone(), ..Default::default() }
}

impl ConsumerGroup {
    /// Takes a member one step further and writes down what changed.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        member_id: &str,
        owned: Option<&BTreeSet<TopicPartitionId>>,
        narrowed: bool,
    ) {
        let Some(member) = self.members.get(member_id) else { return };
        if member.is_reconciled_to(self.epochs.assignment_epoch) && !narrowed {
            return;
        }
        let subscribed = self.subscribed(&member.record, topics);
        let step = Step {
            target_epoch: self.epochs.assignment_epoch,
            target: &member.target,
            subscribed: &subscribed,
            owned,
            narrowed,
            is_free: &|partition| self.owners.get(partition).is_none_or(|owner| owner == member_id),
        };
        let next = step.next(&member.current);
        if next != member.current {
            self.record(cx, ConsumerGroupChange::Current(next));
        }
    }
}
