//! The plan of who runs what, on random groups: balance, copies, stickiness, and that moves come to an end.

use std::collections::{BTreeMap, BTreeSet};

use headwater_streams::TaskId;
use headwater_streams::assignment::{
    AssignmentConfigs, AssignmentPlan, ClientState, MemberState, Tasks, assign,
};
use proptest::prelude::*;

/// What a process without state restores of any task.
const WHOLE: u64 = 50_000;
const ROUNDS: usize = 60;

fn task(subtopology: i32, partition: i32) -> TaskId {
    TaskId { subtopology, partition }
}

fn tasks(stateful: i32, stateless: i32) -> Tasks {
    Tasks {
        stateful: (0..stateful).map(|partition| (task(1, partition), WHOLE)).collect(),
        stateless: (0..stateless).map(|partition| task(0, partition)).collect(),
    }
}

type Group = BTreeMap<String, ClientState>;

fn process(group: &mut Group, name: &str, threads: usize) {
    let members = (0..threads).map(|thread| (format!("{name}-{thread}"), MemberState::default()));
    group.insert(name.to_owned(), ClientState { members: members.collect(), lags: BTreeMap::new() });
}

fn group(threads: &[usize]) -> Group {
    let mut group = Group::new();
    for (index, threads) in threads.iter().enumerate() {
        process(&mut group, &format!("p{index}"), *threads);
    }
    group
}

/// The plan is carried out, and everything that is copied has caught up.
fn carry_out(group: &mut Group, plan: &AssignmentPlan) {
    for (id, members) in &plan.members {
        let client = group.get_mut(id).unwrap();
        for (member, given) in members {
            let has = client.members.get_mut(member).unwrap();
            (has.active, has.standby) = (given.active.clone(), given.standby.clone());
            client
                .lags
                .extend(given.active.union(&given.standby).filter(|t| t.subtopology == 1).map(|t| (*t, 0)));
        }
    }
}

/// Plans until nothing waits any more.
fn settle(group: &mut Group, tasks: &Tasks, configs: &AssignmentConfigs) -> AssignmentPlan {
    for _ in 0..ROUNDS {
        let plan = assign(tasks, group, configs);
        check(group, tasks, configs, &plan);
        carry_out(group, &plan);
        if !plan.probing {
            return plan;
        }
    }
    panic!("after {ROUNDS} rounds tasks still wait");
}

fn active(plan: &AssignmentPlan, process: &str) -> BTreeSet<TaskId> {
    plan.members[process].values().flat_map(|member| member.active.clone()).collect()
}

fn copies(plan: &AssignmentPlan, process: &str) -> BTreeSet<TaskId> {
    plan.members[process].values().flat_map(|member| member.standby.clone()).collect()
}

/// What is true of every plan.
fn check(group: &Group, tasks: &Tasks, configs: &AssignmentConfigs, plan: &AssignmentPlan) {
    let all: Vec<TaskId> = plan.members.values().flatten().flat_map(|(_, m)| m.active.clone()).collect();
    let expected: BTreeSet<TaskId> = tasks.stateful.keys().chain(&tasks.stateless).copied().collect();
    assert_eq!(all.len(), expected.len(), "each task runs once");
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), expected);
    let warmups: usize = plan.warmups.values().map(BTreeSet::len).sum();
    assert!(warmups <= configs.max_warmup_replicas, "{warmups} warm-ups");
    for id in group.keys() {
        let (runs, keeps) = (active(plan, id), copies(plan, id));
        assert!(runs.is_disjoint(&keeps), "{id} keeps a copy of what it runs");
        let kept: usize = plan.members[id].values().map(|member| member.standby.len()).sum();
        assert_eq!(kept, keeps.len(), "{id} keeps one copy twice");
        assert!(keeps.iter().all(|task| tasks.stateful.contains_key(task)));
    }
    let lag = |client: &ClientState, task: &TaskId| client.lags.get(task).copied().unwrap_or(WHOLE);
    for task in tasks.stateful.keys() {
        let standbys = group.keys().filter(|id| {
            let warms = plan.warmups.get(*id).is_some_and(|warm| warm.contains(task));
            copies(plan, id).contains(task) && !warms
        });
        assert_eq!(standbys.count(), configs.num_standby_replicas.min(group.len() - 1), "{task}");
        let runs = group.keys().find(|id| active(plan, id).contains(task)).unwrap();
        let caught_up = |client: &ClientState| lag(client, task) <= configs.acceptable_recovery_lag;
        if group.values().any(caught_up) {
            assert!(
                caught_up(&group[runs]),
                "{task} runs at {runs}, which has to restore it, and others need not"
            );
        } else {
            let least = group.values().map(|client| lag(client, task)).min();
            assert_eq!(Some(lag(&group[runs], task)), least, "{task} runs where more is to be restored");
        }
    }
    if !plan.probing {
        balanced(plan, |_| true);
        balanced(plan, |task| tasks.stateful.contains_key(task));
    }
}

fn balanced(plan: &AssignmentPlan, counts: impl Fn(&TaskId) -> bool) {
    let sizes: Vec<usize> = plan
        .members
        .values()
        .flatten()
        .map(|(_, member)| member.active.iter().filter(|task| counts(task)).count())
        .collect();
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(most - least <= 1, "{sizes:?}");
}

fn configs() -> impl Strategy<Value = AssignmentConfigs> {
    (0..3_usize, 1..4_usize, 0..20_000_u64).prop_map(|(standbys, warmups, lag)| AssignmentConfigs {
        acceptable_recovery_lag: lag,
        max_warmup_replicas: warmups,
        num_standby_replicas: standbys,
    })
}

/// Groups in any state, also in ones that never come about: claims of one task by several, and any lags.
fn any_group() -> impl Strategy<Value = Group> {
    let claims = || prop::collection::btree_set((0..2_i32, 0..12_i32).prop_map(|(s, p)| task(s, p)), 0..8);
    let member = (claims(), claims()).prop_map(|(active, standby)| MemberState { active, standby });
    let lags = prop::collection::btree_map((0..12_i32).prop_map(|p| task(1, p)), 0..60_000_u64, 0..12);
    let client = (prop::collection::vec(member, 1..3), lags);
    prop::collection::vec(client, 1..6).prop_map(|clients| {
        let clients = clients.into_iter().enumerate();
        clients
            .map(|(index, (members, lags))| {
                let named = members.into_iter().enumerate();
                let members = named.map(|(thread, member)| (format!("p{index}-{thread}"), member)).collect();
                (format!("p{index}"), ClientState { members, lags })
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_plan_runs_each_task_once_where_most_of_it_is(
        mut group in any_group(), stateful in 0..12_i32, stateless in 0..12_i32, configs in configs(),
    ) {
        let tasks = tasks(stateful, stateless);
        for client in group.values_mut() {
            client.lags.retain(|task, _| tasks.stateful.contains_key(task));
        }
        check(&group, &tasks, &configs, &assign(&tasks, &group, &configs));
        prop_assert_eq!(assign(&tasks, &group, &configs), assign(&tasks, &group, &configs));
        settle(&mut group, &tasks, &configs);
    }

    #[test]
    fn what_is_settled_stays(
        threads in prop::collection::vec(1..3_usize, 1..6), stateful in 0..14_i32, stateless in 0..14_i32, configs in configs(),
    ) {
        let tasks = tasks(stateful, stateless);
        let mut group = group(&threads);
        let plan = settle(&mut group, &tasks, &configs);
        let again = assign(&tasks, &group, &configs);
        for id in group.keys() {
            prop_assert_eq!(&plan.members[id], &again.members[id]);
        }
    }

    /// A process dies: its tasks run at once where their copies are, and nothing else moves but what balance asks for.
    #[test]
    fn the_tasks_of_a_dead_process_go_to_the_copies(
        threads in prop::collection::vec(1..3_usize, 2..6), stateful in 1..14_i32, dead in 0..5_usize, configs in configs(),
    ) {
        prop_assume!(configs.num_standby_replicas > 0);
        let tasks = tasks(stateful, 4);
        let mut group = group(&threads);
        let before = settle(&mut group, &tasks, &configs);
        let dead = format!("p{}", dead % threads.len());
        group.remove(&dead);
        let after = assign(&tasks, &group, &configs);
        check(&group, &tasks, &configs, &after);
        for task in active(&before, &dead).into_iter().filter(|task| task.subtopology == 1) {
            let now = group.keys().find(|id| active(&after, id).contains(&task)).unwrap();
            prop_assert!(group[now].lags.get(&task) == Some(&0), "{} went to {}", task, now);
        }
        let threads: usize = group.values().map(|client| client.members.len()).sum();
        let stateful = |plan: &AssignmentPlan, id: &str| -> BTreeSet<TaskId> {
            active(plan, id).into_iter().filter(|task| task.subtopology == 1).collect()
        };
        for id in group.keys() {
            let (had, has) = (stateful(&before, id), stateful(&after, id));
            let share = tasks.stateful.len() / threads * group[id].members.len();
            prop_assert!(had.is_subset(&has) || had.len() > share, "{} lost {:?}", id, had.difference(&has));
        }
    }

    /// A process comes: nothing moves to it before it has the state, and in the end it has its share, and no more has moved.
    #[test]
    fn a_new_process_warms_up_and_takes_only_its_share(
        threads in prop::collection::vec(1..2_usize, 1..5), stateful in 0..14_i32, configs in configs(),
    ) {
        let tasks = tasks(stateful, 0);
        let mut group = group(&threads);
        let before = settle(&mut group, &tasks, &configs);
        process(&mut group, "q", 1);
        let first = assign(&tasks, &group, &configs);
        prop_assert!(active(&first, "q").is_empty(), "it lacks everything");
        for id in before.members.keys() {
            prop_assert_eq!(active(&before, id), active(&first, id), "the owners go on");
        }
        let after = settle(&mut group, &tasks, &configs);
        prop_assert_eq!(active(&after, "q").len(), stateful as usize / group.len());
        for id in before.members.keys() {
            prop_assert!(active(&after, id).is_subset(&active(&before, id)), "{} got what it had not", id);
        }
    }
}

#[test]
fn a_group_that_begins_is_even_and_copies_are_elsewhere() {
    let tasks = tasks(6, 6);
    let configs = AssignmentConfigs { num_standby_replicas: 1, ..AssignmentConfigs::default() };
    let plan = assign(&tasks, &group(&[1, 1, 1]), &configs);
    assert!(!plan.probing && plan.warmups.is_empty());
    for id in ["p0", "p1", "p2"] {
        assert_eq!((active(&plan, id).len(), copies(&plan, id).len()), (4, 2), "{id}");
    }
}

#[test]
fn without_anybody_nothing_is_planned() {
    let plan = assign(&tasks(3, 3), &Group::new(), &AssignmentConfigs::default());
    assert_eq!(plan, AssignmentPlan::default());
}
