//! Who gets which task: even by process and member, moving as little as that takes; stores stay where their state is.
//!
//! Owns the placement only. After Kafka's sticky assignor: previous owners first, then those who have a copy of the state,
//! then whoever has least; a process never has a task twice.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{TaskId, Tasks};

/// A member that wants tasks, with what it should have had so far.
pub(super) struct Assignee<'a> {
    pub process_id: &'a str,
    pub target: &'a Tasks,
}

/// The tasks of a subtopology.
pub(super) struct Load {
    pub subtopology: String,
    pub tasks: i32,
    /// Its tasks keep stores, so standbys are of use.
    pub stateful: bool,
}

/// The tasks of each member, in the order of the members.
pub(super) fn assign(members: &[Assignee<'_>], loads: &[Load], standbys: usize) -> Vec<Tasks> {
    if members.is_empty() {
        return Vec::new();
    }
    let tasks = |stateful_only: bool| {
        let loads = loads.iter().filter(move |load| load.stateful || !stateful_only);
        loads.flat_map(|load| (0..load.tasks).map(|partition| (load.subtopology.clone(), partition)))
    };
    let (active, stateful): (Vec<TaskId>, Vec<TaskId>) = (tasks(false).collect(), tasks(true).collect());
    let mut board = Board::new(members, active.len(), active.len() + stateful.len() * standbys);
    board.place_active(active);
    if standbys > 0 {
        board.place_standbys(stateful, standbys);
    }
    board.given
}

/// How many tasks a member may get before others have theirs; less as members fill up.
struct Quota {
    tasks: usize,
    members: usize,
}

impl Quota {
    fn each(&self) -> usize {
        if self.members == 0 { 0 } else { self.tasks.div_ceil(self.members) }
    }

    /// A member has so many now.
    fn note(&mut self, count: usize) {
        if self.members > 0 && count == self.each() {
            self.tasks = self.tasks.saturating_sub(count);
            self.members -= 1;
        }
    }
}

#[derive(Default)]
struct Process {
    members: Vec<usize>,
    tasks: BTreeSet<TaskId>,
}

struct Board {
    processes: Vec<Process>,
    /// The process of each member.
    home: Vec<usize>,
    given: Vec<Tasks>,
    counts: Vec<usize>,
    active_quota: Quota,
    quota: Quota,
    was_active: BTreeMap<TaskId, usize>,
    /// Members with a copy of a task's state.
    was_standby: BTreeMap<TaskId, Vec<usize>>,
}

impl Board {
    fn new(members: &[Assignee<'_>], active: usize, all: usize) -> Self {
        let ids: BTreeSet<&str> = members.iter().map(|member| member.process_id).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut board = Self {
            processes: ids.iter().map(|_| Process::default()).collect(),
            home: Vec::with_capacity(members.len()),
            given: vec![Tasks::default(); members.len()],
            counts: vec![0; members.len()],
            active_quota: Quota { tasks: active, members: members.len() },
            quota: Quota { tasks: all, members: members.len() },
            was_active: BTreeMap::new(),
            was_standby: BTreeMap::new(),
        };
        for (place, member) in members.iter().enumerate() {
            let home = ids.binary_search(&member.process_id).unwrap_or(0);
            board.home.push(home);
            board.processes[home].members.push(place);
            board.was_active.extend(member.target.active.iter().map(|task| (task.clone(), place)));
            for task in member.target.standby.iter().chain(&member.target.warmup) {
                board.was_standby.entry(task.clone()).or_default().push(place);
            }
        }
        board
    }

    fn give(&mut self, task: &TaskId, member: usize, active: bool) {
        self.processes[self.home[member]].tasks.insert(task.clone());
        let given = &mut self.given[member];
        let role = if active { &mut given.active } else { &mut given.standby };
        role.insert(task.clone());
        self.counts[member] += 1;
        if active {
            self.active_quota.note(self.counts[member]);
        }
        self.quota.note(self.counts[member]);
    }

    fn has(&self, member: usize, task: &TaskId) -> bool {
        self.processes[self.home[member]].tasks.contains(task)
    }

    /// Tasks for each member of a process, as a fraction.
    fn load(&self, process: usize) -> (usize, usize) {
        let Process { members, .. } = &self.processes[process];
        (members.iter().map(|member| self.counts[*member]).sum(), members.len().max(1))
    }

    fn is_lighter(&self, one: usize, other: usize) -> bool {
        let ((count, members), (other_count, other_members)) = (self.load(one), self.load(other));
        count * other_members < other_count * members
    }

    /// The member with least to do, of the process with least to do that does not have the task.
    fn lightest(&self, task: &TaskId) -> Option<usize> {
        let free = (0..self.processes.len()).filter(|one| !self.processes[*one].tasks.contains(task));
        let process = free.reduce(|best, one| if self.is_lighter(one, best) { one } else { best })?;
        self.processes[process].members.iter().copied().min_by_key(|member| self.counts[*member])
    }

    /// Of those who had a copy, the one whose process and who itself has least to do.
    fn lightest_standby(&self, task: &TaskId) -> Option<usize> {
        let holders = self.was_standby.get(task)?.iter().copied().filter(|member| !self.has(*member, task));
        holders.reduce(|best, one| {
            let lighter = self.is_lighter(self.home[one], self.home[best]);
            if lighter && self.counts[one] < self.counts[best] { one } else { best }
        })
    }

    fn place_active(&mut self, mut tasks: Vec<TaskId>) {
        tasks.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        tasks.retain(|task| {
            let owner = self.was_active.get(task).copied();
            self.keep_active(task, owner)
        });
        tasks.retain(|task| {
            let holder = self.lightest_standby(task);
            self.keep_active(task, holder)
        });
        tasks.sort();
        for task in &tasks {
            if let Some(member) = self.lightest(task) {
                self.give(task, member, true);
            }
        }
    }

    /// Gives the task to this member while it has less than its share; whether the task is left.
    fn keep_active(&mut self, task: &TaskId, member: Option<usize>) -> bool {
        let member = member.filter(|member| self.counts[*member] < self.active_quota.each());
        if let Some(member) = member {
            self.give(task, member, true);
        }
        member.is_none()
    }

    fn place_standbys(&mut self, mut tasks: Vec<TaskId>, standbys: usize) {
        tasks.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        let mut left = Vec::new();
        for task in tasks {
            let mut wanted = standbys;
            while wanted > 0 {
                let owner = self.was_active.get(&task).copied().filter(|member| !self.has(*member, &task));
                let candidates = [owner, self.lightest_standby(&task)];
                let below = |member: &usize| self.counts[*member] < self.quota.each();
                let Some(member) = candidates.into_iter().flatten().find(below) else { break };
                self.give(&task, member, false);
                wanted -= 1;
            }
            left.push((task, wanted));
        }
        left.sort_by(|a, b| b.cmp(a));
        for (task, wanted) in left {
            for _ in 0..wanted {
                // With fewer processes than copies there are fewer copies.
                let Some(member) = self.lightest(&task) else { break };
                self.give(&task, member, false);
            }
        }
    }
}
