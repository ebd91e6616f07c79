//! The group's assignor: whole tasks, balanced and sticky.
//!
//! Members say in their user data which tasks they ran and of which they have state; `balance.rs` decides. A partition
//! belongs to exactly one task, so the assigned partitions name the tasks and no user data travels back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use headwater_client::{Assignment, Assignor, MemberSubscription};
use headwater_model::{Bytes, TopicPartition};
use headwater_streams::TaskId;

use crate::app::Shared;
use crate::balance::{MemberState, balance};

/// The protocol's name in JoinGroup.
const PROTOCOL: &str = "headwater-streams";

/// Every task with the partitions it reads.
pub(crate) type TaskInputs = BTreeMap<TaskId, Vec<TopicPartition>>;

/// The tasks of the given partitions.
pub(crate) fn tasks_of(tasks: &TaskInputs, partitions: &[TopicPartition]) -> Vec<TaskId> {
    let partitions: BTreeSet<&TopicPartition> = partitions.iter().collect();
    let assigned = tasks.iter().filter(|(_, inputs)| inputs.iter().any(|input| partitions.contains(input)));
    assigned.map(|(task, _)| *task).collect()
}

/// The tasks that one member ran last; its thread writes, its assignor reads.
#[derive(Clone, Default)]
pub(crate) struct Owned(Arc<Mutex<Vec<TaskId>>>);

impl Owned {
    pub fn set(&self, tasks: Vec<TaskId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }

    fn get(&self) -> Vec<TaskId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Assigns tasks for the group's leader, and describes this member to it.
pub(crate) struct StreamsAssignor {
    tasks: Arc<TaskInputs>,
    owned: Owned,
    /// The group's background task outlives the thread a little; it must not keep the stores open.
    shared: Weak<Shared>,
}

impl StreamsAssignor {
    pub fn new(shared: &Arc<Shared>, owned: Owned) -> Self {
        Self { tasks: shared.tasks.clone(), owned, shared: Arc::downgrade(shared) }
    }

    fn stored(&self) -> Vec<TaskId> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        shared.stores.held().unwrap_or_else(|error| {
            tracing::warn!(%error, "list local state; the assignment may move tasks away from it");
            Vec::new()
        })
    }
}

impl Assignor for StreamsAssignor {
    fn name(&self) -> &str {
        PROTOCOL
    }

    fn user_data(&self) -> Option<Bytes> {
        Some(MemberState::new(&self.owned.get(), &self.stored()).encode())
    }

    fn assign(
        &self,
        _partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, Assignment> {
        let states = members
            .iter()
            .map(|member| (member.member_id.clone(), MemberState::decode(member.user_data.as_ref())))
            .collect();
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        let assigned = balance(&tasks, &states).into_iter();
        assigned
            .map(|(member, tasks)| {
                let partitions =
                    tasks.iter().filter_map(|task| self.tasks.get(task)).flatten().cloned().collect();
                (member, Assignment { partitions, user_data: None })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(subtopology: i32, partition: i32) -> TaskId {
        TaskId { subtopology, partition }
    }

    #[test]
    fn all_inputs_of_a_task_go_to_one_member() {
        let inputs =
            |names: &[&str], partition| names.iter().map(|n| TopicPartition::new(*n, partition)).collect();
        let tasks: TaskInputs = (0..3)
            .flat_map(|p| [(task(0, p), inputs(&["a", "b"], p)), (task(1, p), inputs(&["c"], p))])
            .collect();
        let assignor =
            StreamsAssignor { tasks: Arc::new(tasks), owned: Owned::default(), shared: Weak::new() };
        let member = |id: &str, owned: &[TaskId]| MemberSubscription {
            member_id: id.to_owned(),
            instance_id: None,
            topics: Vec::new(),
            owned: Vec::new(),
            user_data: Some(MemberState::new(owned, &[]).encode()),
        };
        let owned = [task(0, 0), task(0, 1), task(1, 2)];
        let assigned = assignor.assign(&BTreeMap::new(), &[member("x", &[]), member("y", &owned)]);
        assert_eq!(tasks_of(&assignor.tasks, &assigned["y"].partitions), owned);
        let sizes: usize = assigned.values().map(|assignment| assignment.partitions.len()).sum();
        assert_eq!(sizes, 9);
        for partition in &assigned["x"].partitions {
            assert!(!assigned["y"].partitions.contains(partition));
        }
    }
}
