//! Who ought to run what, when all state is where it should be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::shares::Shares;
use super::{ClientState, Facts, Placed, load};
use crate::task::TaskId;

/// Stateful tasks: where they run, then where the least is to be restored.
pub(super) fn stateful(facts: &Facts) -> Placed {
    let mut placed = facts.nothing_placed();
    let mut shares = Shares::new(facts.tasks.stateful.len(), facts.threads());
    let mut open: BTreeSet<TaskId> = facts.tasks.stateful.keys().copied().collect();
    keep(facts, &mut placed, &mut shares, &mut open);
    // Who has few to choose from chooses first.
    let choices = |task: TaskId| facts.clients.values().filter(|c| facts.is_caught_up(c, task)).count();
    let mut order: Vec<(usize, TaskId)> = open.iter().map(|task| (choices(*task), *task)).collect();
    order.sort_by_key(|(choices, task)| (if *choices == 0 { usize::MAX } else { *choices }, *task));
    for (_, task) in order {
        let best = facts
            .clients
            .iter()
            .filter(|(id, client)| shares.fits(placed[*id].len(), client.capacity()))
            .min_by_key(|(id, client)| {
                let has = placed[*id].len();
                (facts.lag(client, task), !client.had_standby(task), load(has, client.capacity()), *id)
            });
        give(best, task, &mut placed, &mut shares);
    }
    placed
}

/// Leaves with each process what it runs, up to its share. What it has to give up is what others can take over soonest.
fn keep(facts: &Facts, placed: &mut Placed, shares: &mut Shares, open: &mut BTreeSet<TaskId>) {
    let mut order: Vec<(&String, Vec<TaskId>)> =
        facts.clients.iter().map(|(id, client)| (id, owned(facts, id, client))).collect();
    order.sort_by_key(|(id, owned)| {
        (Reverse(load(owned.len(), facts.clients[*id].capacity())), (*id).clone())
    });
    for (id, owned) in order {
        let client = &facts.clients[id];
        for task in owned {
            if open.contains(&task) && shares.fits(placed[id].len(), client.capacity()) {
                open.remove(&task);
                give(Some((id, client)), task, placed, shares);
            }
        }
    }
}

/// The tasks that a process runs and nobody has more of, in the order in which it is to keep them.
fn owned(facts: &Facts, id: &str, client: &ClientState) -> Vec<TaskId> {
    let others = |task: TaskId| {
        let other = facts.clients.iter().filter(|(other, _)| *other != id);
        other.map(|(_, client)| facts.lag(client, task)).min().unwrap_or(u64::MAX)
    };
    let ran = facts.tasks.stateful.keys().copied().filter(|task| client.had_active(*task));
    let mut owned: Vec<(u64, TaskId)> = ran
        .map(|task| (others(task), task))
        .filter(|(other, task)| facts.is_caught_up(client, *task) || facts.lag(client, *task) <= *other)
        .collect();
    owned.sort_by_key(|(other, task)| (Reverse(*other), *task));
    owned.into_iter().map(|(_, task)| task).collect()
}

fn give(to: Option<(&String, &ClientState)>, task: TaskId, placed: &mut Placed, shares: &mut Shares) {
    let Some((id, client)) = to else { return };
    if let Some(given) = placed.get_mut(id) {
        shares.take(given.len(), client.capacity());
        given.insert(task);
    }
}

/// Tasks without state: where they run, then to whoever has least of both kinds.
pub(super) fn stateless(facts: &Facts, target: &Placed) -> Placed {
    let mut placed = facts.nothing_placed();
    let all = facts.tasks.stateful.len() + facts.tasks.stateless.len();
    let mut shares = Shares::new(all, facts.threads());
    for (id, client) in facts.clients {
        shares.already(target[id].len(), client.capacity());
    }
    let mut has: BTreeMap<&String, usize> = target.iter().map(|(id, tasks)| (id, tasks.len())).collect();
    let mut open = facts.tasks.stateless.clone();
    let ran = |client: &ClientState| -> Vec<TaskId> {
        facts.tasks.stateless.iter().copied().filter(|task| client.had_active(*task)).collect()
    };
    let mut order: Vec<(&String, Vec<TaskId>)> =
        facts.clients.iter().map(|(id, client)| (id, ran(client))).collect();
    order.sort_by_key(|(id, ran)| {
        (Reverse(load(has[id] + ran.len(), facts.clients[*id].capacity())), (*id).clone())
    });
    let mut give = |id: &String, task, has: &mut BTreeMap<&String, usize>, shares: &mut Shares| {
        if let (Some(given), Some(count)) = (placed.get_mut(id), has.get_mut(id)) {
            shares.take(*count, facts.clients[id].capacity());
            *count += 1;
            given.insert(task);
        }
    };
    for (id, ran) in order {
        for task in ran {
            if shares.fits(has[id], facts.clients[id].capacity()) && open.remove(&task) {
                give(id, task, &mut has, &mut shares);
            }
        }
    }
    for task in open {
        let fits = facts.clients.iter().filter(|(id, client)| shares.fits(has[id], client.capacity()));
        if let Some((id, _)) = fits.min_by_key(|(id, client)| (load(has[id], client.capacity()), *id)) {
            give(id, task, &mut has, &mut shares);
        }
    }
    placed
}
