//! Who runs what now, who keeps copies, and who warms up.

use std::collections::{BTreeMap, BTreeSet};

use super::{ClientState, Facts, Placed, load};
use crate::task::TaskId;

/// Stateful tasks by process.
pub(super) struct Moved {
    pub active: Placed,
    pub standby: Placed,
    pub warmup: Placed,
    pub probing: bool,
}

pub(super) fn plan(facts: &Facts, target: &Placed) -> Moved {
    let mut moved = Moved {
        active: facts.nothing_placed(),
        standby: facts.nothing_placed(),
        warmup: facts.nothing_placed(),
        probing: false,
    };
    let owner: BTreeMap<TaskId, &String> =
        target.iter().flat_map(|(id, tasks)| tasks.iter().map(move |task| (*task, id))).collect();
    let mut unready: Vec<(TaskId, String)> = Vec::new();
    for (task, wanted) in &owner {
        let now = runs_now(facts, *task, wanted, &moved.active);
        if now != *wanted {
            unready.push((*task, (*wanted).clone()));
        }
        insert(&mut moved.active, now, *task);
    }
    unready.extend(standbys(facts, &mut moved));
    moved.probing = !unready.is_empty();
    warm_up(facts, unready, &mut moved);
    moved
}

fn insert(placed: &mut Placed, id: &str, task: TaskId) {
    placed.entry(id.to_owned()).or_default().insert(task);
}

/// The process that is to run a task, or while that one lacks too much, the one that has most.
fn runs_now<'a>(facts: &'a Facts, task: TaskId, wanted: &'a String, active: &Placed) -> &'a String {
    let own = facts.lag(&facts.clients[wanted], task);
    if own <= facts.configs.acceptable_recovery_lag {
        return wanted;
    }
    let lack = |client: &ClientState| match facts.lag(client, task) {
        lag if lag <= facts.configs.acceptable_recovery_lag => 0,
        lag => lag,
    };
    let best = facts.clients.iter().min_by_key(|(id, client)| {
        let has = load(active[*id].len(), client.capacity());
        (lack(client), !client.had_active(task), !client.had_standby(task), has, *id)
    });
    match best {
        Some((id, client)) if lack(client) < own => id,
        _ => wanted,
    }
}

/// Places the copies, each with another process than the task; returns the moves that have to wait.
fn standbys(facts: &Facts, moved: &mut Moved) -> Vec<(TaskId, String)> {
    let copies = facts.configs.num_standby_replicas.min(facts.clients.len() - 1);
    if copies == 0 {
        return Vec::new();
    }
    let runs: BTreeMap<TaskId, String> = moved
        .active
        .iter()
        .flat_map(|(id, tasks)| tasks.iter().map(move |task| (*task, id.clone())))
        .collect();
    let mut wanted = Wanted::new(facts, copies * runs.len());
    for (task, active) in &runs {
        wanted.keep(*task, active, copies);
    }
    for (task, active) in &runs {
        wanted.fill(*task, active, copies);
    }
    let mut waiting = Vec::new();
    for (task, active) in &runs {
        let mut holders = wanted.holders(*task);
        for id in holders.clone() {
            if facts.is_caught_up(&facts.clients[&id], *task) {
                continue;
            }
            let stays = facts.clients.iter().find(|(other, client)| {
                let free = *other != active && !holders.contains(*other);
                free && facts.is_caught_up(client, *task)
            });
            if let Some((other, _)) = stays {
                holders.remove(&id);
                holders.insert(other.clone());
                waiting.push((*task, id));
            }
        }
        holders.iter().for_each(|id| insert(&mut moved.standby, id, *task));
    }
    waiting
}

/// Where copies ought to be.
struct Wanted<'a> {
    facts: &'a Facts<'a>,
    placed: Placed,
    /// The most that a process should have for each of its threads, as a load.
    most: u64,
    /// How many copies a process (second) has of tasks that another one (first) runs: whoever dies leaves something to each.
    pairs: BTreeMap<(String, String), usize>,
}

impl<'a> Wanted<'a> {
    fn new(facts: &'a Facts<'a>, copies: usize) -> Self {
        let most = load(copies.div_ceil(facts.threads().max(1)), 1);
        Self { facts, placed: facts.nothing_placed(), most, pairs: BTreeMap::new() }
    }

    fn holders(&self, task: TaskId) -> BTreeSet<String> {
        self.placed.iter().filter(|(_, tasks)| tasks.contains(&task)).map(|(id, _)| id.clone()).collect()
    }

    fn place(&mut self, task: TaskId, active: &str, id: &str) {
        insert(&mut self.placed, id, task);
        *self.pairs.entry((active.to_owned(), id.to_owned())).or_default() += 1;
    }

    fn is_full(&self, id: &str, client: &ClientState) -> bool {
        load(self.placed[id].len(), client.capacity()) >= self.most
    }

    /// Copies stay with those who have them, as long as these have no more than their share.
    fn keep(&mut self, task: TaskId, active: &str, copies: usize) {
        let clients = self.facts.clients.iter();
        let keeps = |(id, client): &(&String, &ClientState)| {
            *id != active && client.had_standby(task) && !self.is_full(id, client)
        };
        let mut holders: Vec<_> = clients.filter(keeps).collect();
        holders.sort_by_key(|(id, client)| (self.facts.lag(client, task), (*id).clone()));
        for (id, _) in holders.into_iter().take(copies) {
            self.place(task, active, id);
        }
    }

    fn fill(&mut self, task: TaskId, active: &str, copies: usize) {
        for _ in self.holders(task).len()..copies {
            let clients = self.facts.clients.iter();
            let free = clients.filter(|(id, _)| *id != active && !self.placed[*id].contains(&task));
            let best = free.min_by_key(|(id, client)| {
                let pair = self.pairs.get(&(active.to_owned(), (*id).clone())).copied().unwrap_or(0);
                (
                    self.is_full(id, client),
                    !self.facts.is_caught_up(client, task),
                    !(client.had_active(task) || client.had_standby(task)),
                    load(pair, client.capacity()),
                    load(self.placed[*id].len(), client.capacity()),
                    *id,
                )
            });
            let Some(id) = best.map(|(id, _)| id.clone()) else { return };
            self.place(task, active, &id);
        }
    }
}

/// Copies for moves that have to wait, as many as are allowed at once; a standby that is there anyway costs none.
fn warm_up(facts: &Facts, waiting: Vec<(TaskId, String)>, moved: &mut Moved) {
    let mut left = facts.configs.max_warmup_replicas;
    for (task, id) in waiting {
        let has = |placed: &Placed| placed.get(&id).is_some_and(|tasks| tasks.contains(&task));
        if left == 0 || has(&moved.standby) || has(&moved.warmup) || has(&moved.active) {
            continue;
        }
        left -= 1;
        insert(&mut moved.warmup, &id, task);
    }
}
