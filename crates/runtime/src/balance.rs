//! Which member runs which task: balanced, sticky, and the same answer whoever computes it.
//!
//! Pure. Tasks stay where they run, then go where their state is, then to whoever has least.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::Bytes;
use headwater_streams::TaskId;
use serde::{Deserialize, Serialize};

use crate::state::parse_task;

/// What a member tells the leader in its subscription's user data (JSON).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberState {
    /// Tasks it ran until now, printed `0_1`.
    #[serde(default)]
    pub owned: Vec<String>,
    /// Tasks of which it has state.
    #[serde(default)]
    pub stored: Vec<String>,
}

impl MemberState {
    pub fn new(owned: &[TaskId], stored: &[TaskId]) -> Self {
        let names = |tasks: &[TaskId]| tasks.iter().map(TaskId::to_string).collect();
        Self { owned: names(owned), stored: names(stored) }
    }

    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Anything unreadable counts as a member without state: a balance is better than none.
    pub fn decode(bytes: Option<&Bytes>) -> Self {
        bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
    }
}

/// Distributes `tasks` over members by their ids; no member gets two more than another.
pub(crate) fn balance(
    tasks: &[TaskId],
    members: &BTreeMap<String, MemberState>,
) -> BTreeMap<String, Vec<TaskId>> {
    let mut result: BTreeMap<String, Vec<TaskId>> =
        members.keys().map(|id| (id.clone(), Vec::new())).collect();
    if members.is_empty() {
        return result;
    }
    let floor = tasks.len() / members.len();
    let mut open: BTreeSet<TaskId> = tasks.iter().copied().collect();
    let mut extras = tasks.len() % members.len();
    let wishes: [fn(&MemberState) -> &Vec<String>; 2] = [|member| &member.owned, |member| &member.stored];
    for wish in wishes {
        let mut order: Vec<(&String, Vec<TaskId>)> = members
            .iter()
            .map(|(id, member)| (id, wish(member).iter().filter_map(|name| parse_task(name)).collect()))
            .collect();
        order.sort_by_key(|(id, wanted): &(&String, Vec<TaskId>)| {
            (std::cmp::Reverse(wanted.len()), (*id).clone())
        });
        for (id, wanted) in order {
            let Some(given) = result.get_mut(id) else { continue };
            for task in wanted {
                let fits = given.len() < floor || (given.len() == floor && extras > 0);
                if fits && open.remove(&task) {
                    extras -= usize::from(given.len() == floor);
                    given.push(task);
                }
            }
        }
    }
    for task in open {
        if let Some(given) = result.values_mut().min_by_key(|given| given.len()) {
            given.push(task);
        }
    }
    result.values_mut().for_each(|given| given.sort());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(count: i32) -> Vec<TaskId> {
        (0..count).map(|partition| TaskId { subtopology: partition % 2, partition: partition / 2 }).collect()
    }

    fn members(states: &[(&str, MemberState)]) -> BTreeMap<String, MemberState> {
        states.iter().map(|(id, state)| ((*id).to_owned(), state.clone())).collect()
    }

    #[test]
    fn every_task_goes_to_one_member_and_shares_are_even() {
        for count in 0..12 {
            for size in 1..5 {
                let ids: Vec<String> = (0..size).map(|i| format!("m{i}")).collect();
                let all = ids.iter().map(|id| (id.clone(), MemberState::default())).collect();
                let result = balance(&tasks(count), &all);
                let mut given: Vec<TaskId> = result.values().flatten().copied().collect();
                given.sort();
                let mut expected = tasks(count);
                expected.sort();
                assert_eq!(given, expected);
                let sizes: Vec<usize> = result.values().map(Vec::len).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
            }
        }
    }

    #[test]
    fn a_new_member_takes_only_its_share() {
        let all = tasks(6);
        let a = MemberState::new(&all[..3], &[]);
        let b = MemberState::new(&all[3..], &[]);
        let result =
            balance(&all, &members(&[("a", a.clone()), ("b", b.clone()), ("c", MemberState::default())]));
        assert!(result["a"].iter().all(|task| all[..3].contains(task)) && result["a"].len() == 2);
        assert!(result["b"].iter().all(|task| all[3..].contains(task)) && result["b"].len() == 2);
        assert_eq!(balance(&all, &members(&[("a", a), ("b", b)]))["a"], {
            let mut own = all[..3].to_vec();
            own.sort();
            own
        });
    }

    #[test]
    fn tasks_go_where_their_state_is() {
        let all = tasks(4);
        let a = MemberState::new(&[], &all[..2]);
        let b = MemberState::new(&[], &all[2..]);
        let result = balance(&all, &members(&[("z-has-first", a), ("a-has-last", b)]));
        let mut first = all[..2].to_vec();
        first.sort();
        assert_eq!(result["z-has-first"], first);
    }

    #[test]
    fn two_claims_of_one_task_are_settled_and_unknown_tasks_ignored() {
        let all = tasks(2);
        let gone = TaskId { subtopology: 9, partition: 9 };
        let both = MemberState::new(&[all[0], all[1], gone], &[]);
        let result = balance(&all, &members(&[("a", both.clone()), ("b", both)]));
        assert_eq!(result["a"].len() + result["b"].len(), 2);
        assert_ne!(result["a"], result["b"]);
        let state = MemberState::decode(Some(&Bytes::from("not json")));
        assert_eq!(state, MemberState::default());
    }
}
