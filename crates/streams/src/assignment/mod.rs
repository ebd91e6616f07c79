//! Which process runs which task, which keeps copies of its stores, and which warms up before it takes over (KIP-441).
//!
//! Pure: the same facts give the same plan, whoever computes it. The steps:
//!
//! 1. `target`: who ought to run what. Tasks stay where they run; what has to move goes where most of its state is; no
//!    thread has two stateful tasks, or two tasks, more than another.
//! 2. `moves`: who runs what now. A task whose new process lacks more than `acceptable.recovery.lag` records stays with
//!    one that does not, and the new one gets a warm-up; a later (probing) rebalance finishes the move. Standbys likewise.
//! 3. `threads`: the tasks of a process are spread over its threads.
//!
//! Kafka Streams' `HighAvailabilityTaskAssignor` does 2 alike; its target is a round robin that knows nothing of who runs
//! what, so that more tasks move.

mod moves;
mod shares;
mod target;
mod threads;

use std::collections::{BTreeMap, BTreeSet};

use crate::task::TaskId;

/// Settings of the plan, by Kafka Streams' names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignmentConfigs {
    /// `acceptable.recovery.lag`: with at most so many records to restore a process may take a task over at once.
    pub acceptable_recovery_lag: u64,
    /// `max.warmup.replicas`: how many copies at once may be made only so that tasks can move. At least 1.
    pub max_warmup_replicas: usize,
    /// `num.standby.replicas`: copies of each stateful task beside the one that runs.
    pub num_standby_replicas: usize,
}

impl Default for AssignmentConfigs {
    fn default() -> Self {
        Self { acceptable_recovery_lag: 10_000, max_warmup_replicas: 2, num_standby_replicas: 0 }
    }
}

/// The tasks to distribute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks {
    /// With a changelog, and how many records of it a process without any state restores.
    pub stateful: BTreeMap<TaskId, u64>,
    /// Without anything that could be restored.
    pub stateless: BTreeSet<TaskId>,
}

/// What one member of the group, a thread of a process, had when it joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Tasks that it ran.
    pub active: BTreeSet<TaskId>,
    /// Tasks of which it kept copies.
    pub standby: BTreeSet<TaskId>,
}

/// One process: its threads share their stores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientState {
    /// Its threads by their ids in the group.
    pub members: BTreeMap<String, MemberState>,
    /// How many records its stores of a task lack; 0 for what it runs. A task that is not here would be restored
    /// from nothing.
    pub lags: BTreeMap<TaskId, u64>,
}

impl ClientState {
    fn had_active(&self, task: TaskId) -> bool {
        self.members.values().any(|member| member.active.contains(&task))
    }

    fn had_standby(&self, task: TaskId) -> bool {
        self.members.values().any(|member| member.standby.contains(&task))
    }

    fn capacity(&self) -> usize {
        self.members.len()
    }
}

/// What one member is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberPlan {
    pub active: BTreeSet<TaskId>,
    /// Standbys and warm-ups: to the member they are the same.
    pub standby: BTreeSet<TaskId>,
}

/// Who does what from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssignmentPlan {
    /// By process and member.
    pub members: BTreeMap<String, BTreeMap<String, MemberPlan>>,
    /// Copies that are there only until their task can move, by process.
    pub warmups: BTreeMap<String, BTreeSet<TaskId>>,
    /// Something has yet to move: another rebalance is to look whether it can.
    pub probing: bool,
}

/// Distributes `tasks` over processes by their names, and there over members by theirs.
pub fn assign(
    tasks: &Tasks,
    clients: &BTreeMap<String, ClientState>,
    configs: &AssignmentConfigs,
) -> AssignmentPlan {
    let with_threads: BTreeMap<String, ClientState> = clients
        .iter()
        .filter(|(_, client)| client.capacity() > 0)
        .map(|(id, client)| (id.clone(), client.clone()))
        .collect();
    if with_threads.is_empty() {
        return AssignmentPlan::default();
    }
    let facts = Facts { tasks, clients: &with_threads, configs };
    let target = target::stateful(&facts);
    let stateless = target::stateless(&facts, &target);
    let moved = moves::plan(&facts, &target);
    threads::spread(&facts, moved, &stateless)
}

/// Tasks by process.
type Placed = BTreeMap<String, BTreeSet<TaskId>>;

struct Facts<'a> {
    tasks: &'a Tasks,
    clients: &'a BTreeMap<String, ClientState>,
    configs: &'a AssignmentConfigs,
}

impl Facts<'_> {
    fn lag(&self, client: &ClientState, task: TaskId) -> u64 {
        let whole = self.tasks.stateful.get(&task).copied().unwrap_or(0);
        client.lags.get(&task).copied().unwrap_or(whole)
    }

    fn is_caught_up(&self, client: &ClientState, task: TaskId) -> bool {
        self.lag(client, task) <= self.configs.acceptable_recovery_lag
    }

    fn nothing_placed(&self) -> Placed {
        self.clients.keys().map(|id| (id.clone(), BTreeSet::new())).collect()
    }

    fn threads(&self) -> usize {
        self.clients.values().map(ClientState::capacity).sum()
    }
}

/// Orders by load per thread without dividing: `load / capacity`, scaled.
fn load(tasks: usize, capacity: usize) -> u64 {
    const SCALE: u64 = 1 << 20;
    tasks as u64 * SCALE / capacity.max(1) as u64
}
