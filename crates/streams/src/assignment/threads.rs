//! The tasks of a process, spread over its threads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::moves::Moved;
use super::shares::Shares;
use super::{AssignmentPlan, ClientState, Facts, MemberPlan, Placed};
use crate::task::TaskId;

pub(super) fn spread(facts: &Facts, moved: Moved, stateless: &Placed) -> AssignmentPlan {
    let mut plan = AssignmentPlan { probing: moved.probing, ..AssignmentPlan::default() };
    for (id, client) in facts.clients {
        let mut members: BTreeMap<String, MemberPlan> =
            client.members.keys().map(|member| (member.clone(), MemberPlan::default())).collect();
        run(client, &moved.active[id], &mut members);
        run(client, &stateless[id], &mut members);
        for task in moved.standby[id].union(&moved.warmup[id]) {
            copy(client, *task, &mut members);
        }
        plan.members.insert(id.clone(), members);
    }
    plan.warmups = moved.warmup.into_iter().filter(|(_, tasks)| !tasks.is_empty()).collect();
    plan
}

/// Tasks stay with the thread that ran them, as far as shares are even.
fn run(client: &ClientState, tasks: &BTreeSet<TaskId>, members: &mut BTreeMap<String, MemberPlan>) {
    let before: usize = members.values().map(|member| member.active.len()).sum();
    let mut shares = Shares::new(before + tasks.len(), client.capacity());
    members.values().for_each(|member| shares.already(member.active.len(), 1));
    let mut open = tasks.clone();
    let mut order: Vec<(usize, &String)> = client
        .members
        .iter()
        .map(|(id, member)| (member.active.intersection(tasks).count() + members[id].active.len(), id))
        .collect();
    order.sort_by_key(|(count, id)| (Reverse(*count), *id));
    for (_, id) in order {
        let Some(given) = members.get_mut(id) else { continue };
        for task in client.members[id].active.intersection(tasks) {
            if shares.fits(given.active.len(), 1) && open.remove(task) {
                shares.take(given.active.len(), 1);
                given.active.insert(*task);
            }
        }
    }
    for task in open {
        if let Some(given) = members.values_mut().min_by_key(|member| member.active.len()) {
            given.active.insert(task);
        }
    }
}

/// Which thread keeps a copy matters little: its stores belong to the process.
fn copy(client: &ClientState, task: TaskId, members: &mut BTreeMap<String, MemberPlan>) {
    let least = members.iter_mut().min_by_key(|(id, member)| {
        let had = client.members.get(*id).is_some_and(|before| before.standby.contains(&task));
        (member.standby.len(), !had)
    });
    if let Some((_, member)) = least {
        member.standby.insert(task);
    }
}
