//! What the processing threads tell the outside: phase, tasks, restore progress and node counts.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use headwater_streams::{HeldKey, TaskId};
use serde::Serialize;
use tokio::sync::watch;

use crate::skew::ClockSkew;

/// How far the application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Loading global tables or waiting for an assignment.
    Starting,
    Running,
    /// All threads have ended, after a stop or a failure. It is the last one.
    Stopped,
}

/// One assigned task; at first it does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// Changelog records still to be restored, by offset distance; 0 once it runs.
    pub restoring: u64,
    pub running: bool,
    /// Committed records per node since the task was assigned.
    pub node_counts: BTreeMap<String, u64>,
    /// It is still before where its input ended when the application was reset.
    pub reprocessing: bool,
    /// How the clocks of those who write its inputs stand to the one here, by `topic/partition`; of what it has received.
    pub skew: BTreeMap<String, ClockSkew>,
    /// The keys that its quarantine holds.
    #[serde(skip)]
    pub held: Vec<HeldKey>,
}

/// One copy of another instance's task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StandbyStatus {
    /// Changelog records that it lacks, by offset distance.
    pub lag: u64,
}

struct State {
    tasks: BTreeMap<TaskId, TaskStatus>,
    standbys: BTreeMap<TaskId, StandbyStatus>,
}

/// Shared between processing threads and the HTTP side.
pub(crate) struct Board {
    phase: watch::Sender<Phase>,
    state: RwLock<State>,
}

impl Board {
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            state: RwLock::new(State { tasks: BTreeMap::new(), standbys: BTreeMap::new() }),
        }
    }

    /// Every change is one assignment, so a panic elsewhere leaves it whole.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// What has stopped stays so.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let goes_on = *now != Phase::Stopped && *now != phase;
            if goes_on {
                *now = phase;
            }
            goes_on
        });
    }

    pub fn tasks(&self) -> BTreeMap<TaskId, TaskStatus> {
        self.read().tasks.clone()
    }

    /// Whether it is assigned to this process.
    pub fn has_task(&self, task: TaskId) -> bool {
        self.read().tasks.contains_key(&task)
    }

    pub fn set_task(&self, task: TaskId, status: TaskStatus) {
        self.write().tasks.insert(task, status);
    }

    pub fn remove_task(&self, task: TaskId) {
        self.write().tasks.remove(&task);
    }

    pub fn standbys(&self) -> BTreeMap<TaskId, StandbyStatus> {
        self.read().standbys.clone()
    }

    pub fn set_standby(&self, task: TaskId, status: StandbyStatus) {
        self.write().standbys.insert(task, status);
    }

    pub fn remove_standby(&self, task: TaskId) {
        self.write().standbys.remove(&task);
    }

    /// Ready: an assignment has come and nothing is being restored.
    pub fn ready(&self) -> bool {
        self.phase() == Phase::Running && self.read().tasks.values().all(|task| task.running)
    }
}
