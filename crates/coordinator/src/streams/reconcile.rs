//! One member's next step towards its target: give up, wait, take.
//!
//! Pure: what is held is asked, nothing is changed. A member keeps its epoch until it has given up all that its target
//! lacks; then it takes the target's epoch and whatever of its target is free. An active task is free when nobody has it
//! active and its own process not in another role; a copy is free when its own process does not have the task at all.

use std::collections::BTreeSet;

use super::StreamsGroup;
use super::records::{OwnedTasks, StreamsAssignment, StreamsGroupChange, StreamsMemberState, TaskId, Tasks};
use super::target::Goal;
use crate::context::Context;

/// Who has, or may still have, what.
pub(super) struct Held {
    active: BTreeSet<TaskId>,
    /// In any role by the member's own process.
    here: BTreeSet<TaskId>,
}

/// What decides a member's next step.
pub(super) struct Step<'a> {
    pub goal: &'a Goal,
    /// What the member says it has; `None` when it does not say.
    pub owned: Option<&'a Tasks>,
    pub held: &'a Held,
}

impl Step<'_> {
    pub fn next(&self, member: &StreamsAssignment) -> StreamsAssignment {
        match member.state {
            StreamsMemberState::Stable if member.epoch == self.goal.epoch => member.clone(),
            StreamsMemberState::UnrevokedTasks if self.still_has(&member.revoking) => member.clone(),
            // Kafka's members get on by one epoch when they have given up what they should, even if there is more.
            StreamsMemberState::UnrevokedTasks => self.towards_goal(member, member.epoch.saturating_add(1)),
            _ => self.towards_goal(member, member.epoch),
        }
    }

    fn still_has(&self, revoking: &OwnedTasks) -> bool {
        self.owned.is_none_or(|owned| revoking.meets(owned))
    }

    fn towards_goal(&self, member: &StreamsAssignment, epoch: i32) -> StreamsAssignment {
        let target = &self.goal.tasks;
        let (kept, revoking) = split(&member.assigned, target);
        if !revoking.is_empty() && self.still_has(&revoking) {
            let state = StreamsMemberState::UnrevokedTasks;
            return StreamsAssignment { state, assigned: kept, revoking, ..at(member, epoch) };
        }
        let mut assigned = kept;
        let mut waits = false;
        for task in &target.active {
            if assigned.active.contains_key(task) {
                continue;
            }
            match self.held.active.contains(task) || self.held.here.contains(task) {
                true => waits = true,
                false => drop(assigned.active.insert(task.clone(), self.goal.epoch)),
            }
        }
        for (wanted, has) in
            [(&target.standby, &mut assigned.standby), (&target.warmup, &mut assigned.warmup)]
        {
            for task in wanted {
                if has.contains(task) {
                    continue;
                }
                match self.held.here.contains(task) {
                    true => waits = true,
                    false => drop(has.insert(task.clone())),
                }
            }
        }
        let state = match waits {
            true => StreamsMemberState::UnreleasedTasks,
            false => StreamsMemberState::Stable,
        };
        StreamsAssignment { state, assigned, revoking: OwnedTasks::default(), ..at(member, self.goal.epoch) }
    }
}

/// What of the assigned tasks the target has in the same role, and what it has not.
fn split(assigned: &OwnedTasks, target: &Tasks) -> (OwnedTasks, OwnedTasks) {
    let part = |tasks: &BTreeSet<TaskId>, wanted: &BTreeSet<TaskId>| {
        tasks.iter().cloned().partition(|task| wanted.contains(task))
    };
    let (active, gone_active) = assigned
        .active
        .iter()
        .map(|(task, epoch)| (task.clone(), *epoch))
        .partition(|(task, _)| target.active.contains(task));
    let (standby, gone_standby) = part(&assigned.standby, &target.standby);
    let (warmup, gone_warmup) = part(&assigned.warmup, &target.warmup);
    (
        OwnedTasks { active, standby, warmup },
        OwnedTasks { active: gone_active, standby: gone_standby, warmup: gone_warmup },
    )
}

/// The member at an epoch, remembering the one before.
fn at(member: &StreamsAssignment, epoch: i32) -> StreamsAssignment {
    let previous_epoch = if epoch == member.epoch { member.previous_epoch } else { member.epoch };
    StreamsAssignment { epoch, previous_epoch, member_id: member.member_id.clone(), ..Default::default() }
}

impl StreamsGroup {
    /// Takes a member one step further and writes down what changed.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Context,
        member_id: &str,
        owned: Option<&Tasks>,
        goal: &Goal,
    ) {
        let Some(member) = self.members.get(member_id) else { return };
        if member.is_reconciled_to(goal.epoch) {
            return;
        }
        let held = self.held(&member.record.process_id);
        let next = Step { goal, owned, held: &held }.next(&member.current);
        if next != member.current {
            self.record(cx, StreamsGroupChange::Current(next));
        }
    }

    fn held(&self, process_id: &str) -> Held {
        let mut held = Held { active: BTreeSet::new(), here: BTreeSet::new() };
        for member in self.members.values() {
            let here = member.record.process_id == process_id;
            for tasks in [&member.current.assigned, &member.current.revoking] {
                held.active.extend(tasks.active.keys().cloned());
                if here {
                    held.here.extend(tasks.active.keys().cloned());
                    held.here.extend(tasks.standby.iter().chain(&tasks.warmup).cloned());
                }
            }
        }
        held
    }
}
