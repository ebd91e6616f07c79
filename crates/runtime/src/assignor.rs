//! The group's assignor: members say in their user data what they ran and how far their stores are, the leader looks up
//! how far the changelogs are, and `headwater_streams::assignment` decides.
//!
//! A partition belongs to exactly one task, so the assigned partitions name the tasks that run; standbys travel as user data.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use headwater_client::{
    Assignment, Assignor, Client, ClientError, Isolation, MemberSubscription, OffsetSpec,
};
use headwater_model::{Bytes, Offset, TopicPartition};
use headwater_streams::TaskId;
use headwater_streams::assignment::{
    AssignmentConfigs, AssignmentPlan, ClientState, MemberPlan, MemberState, Tasks, assign,
};

use crate::app::Shared;
use crate::balance::{AssignmentInfo, LATEST_OFFSET, SubscriptionInfo, names, tasks};
use crate::queries::{HostMap, HostTasks};
use crate::state::{StoreId, parse_task};
use crate::thread::wall_clock;

/// The protocol's name in JoinGroup.
const PROTOCOL: &str = "headwater-streams";

/// What a task restores from nothing when nobody knows how much it is.
const UNKNOWN: u64 = u64::MAX >> 1;

/// Every task with the partitions it reads.
pub(crate) type TaskInputs = BTreeMap<TaskId, Vec<TopicPartition>>;

/// The tasks of the given partitions.
pub(crate) fn tasks_of(tasks: &TaskInputs, partitions: &[TopicPartition]) -> Vec<TaskId> {
    let partitions: BTreeSet<&TopicPartition> = partitions.iter().collect();
    let assigned = tasks.iter().filter(|(_, inputs)| inputs.iter().any(|input| partitions.contains(input)));
    assigned.map(|(task, _)| *task).collect()
}

/// What one member had last; its thread writes, its assignor reads.
#[derive(Clone, Default)]
pub(crate) struct Owned(Arc<Mutex<Had>>);

#[derive(Clone, Default)]
struct Had {
    active: Vec<TaskId>,
    /// Those of them whose stores lack nothing.
    running: Vec<TaskId>,
    standby: Vec<TaskId>,
    nonce: u64,
    /// The group was made to learn this process's address.
    announced: bool,
}

impl Owned {
    /// A panic elsewhere leaves it whole.
    fn had(&self) -> MutexGuard<'_, Had> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, active: Vec<TaskId>, standby: Vec<TaskId>) {
        let mut had = self.had();
        (had.active, had.standby) = (active, standby);
        had.running.clear();
    }

    pub fn set_running(&self, running: Vec<TaskId>) {
        self.had().running = running;
    }

    /// Whether the group is to rebalance so that it learns this process's address: once, as a leader that does not listen
    /// would be told for ever.
    pub fn announce(&self) -> bool {
        let mut had = self.had();
        let first = !std::mem::replace(&mut had.announced, true);
        had.nonce += u64::from(first);
        first
    }

    /// What it says next is not what it said before.
    pub fn change(&self) {
        self.had().nonce += 1;
    }
}

/// A store's changelog, and whether it is the source topic itself.
type Changelog = (TopicPartition, bool);

/// Assigns tasks for the group's leader, and describes this member to it.
pub(crate) struct StreamsAssignor {
    client: Client,
    group: String,
    tasks: Arc<TaskInputs>,
    changelogs: BTreeMap<TaskId, Vec<Changelog>>,
    owned: Owned,
    configs: AssignmentConfigs,
    probing_interval_ms: i64,
    /// How long the changelogs' ends are asked for. All members wait for the leader meanwhile, and the coordinator puts out one that
    /// says nothing for a session: a partition without a leader must not keep the group from having an assignment.
    patience: Duration,
    /// Ends of changelogs, as looked up for the assignment at hand.
    ends: Mutex<Option<HashMap<TopicPartition, Offset>>>,
    /// The group's background task outlives the thread a little; it must not keep the stores open.
    shared: Weak<Shared>,
}

impl StreamsAssignor {
    pub fn new(shared: &Arc<Shared>, client: &Client, owned: Owned) -> Self {
        let config = &shared.config;
        Self {
            client: client.clone(),
            group: config.application_id.clone(),
            tasks: shared.tasks.clone(),
            changelogs: changelogs(shared),
            owned,
            configs: AssignmentConfigs {
                acceptable_recovery_lag: config.acceptable_recovery_lag,
                max_warmup_replicas: config.max_warmup_replicas,
                num_standby_replicas: config.num_standby_replicas,
            },
            probing_interval_ms: i64::try_from(config.probing_rebalance_interval.as_millis())
                .unwrap_or(i64::MAX),
            patience: config.session_timeout / 3,
            ends: Mutex::new(None),
            shared: Arc::downgrade(shared),
        }
    }

    /// How far the stores of this process are.
    fn offsets(&self) -> BTreeMap<String, i64> {
        let Some(shared) = self.shared.upgrade() else { return BTreeMap::new() };
        let read = || {
            let mut sums = BTreeMap::new();
            for task in shared.stores.held()?.into_iter().filter(|task| self.changelogs.contains_key(task)) {
                let mut sum = 0;
                for info in shared.topology.stores(task.subtopology) {
                    if info.changelog.is_some() {
                        sum += shared.stores.position(&StoreId::new(task, info.name))?.unwrap_or(0);
                    }
                }
                sums.insert(task.to_string(), sum);
            }
            Ok::<_, headwater_streams::StoreError>(sums)
        };
        read().unwrap_or_else(|error| {
            tracing::warn!(%error, "list local state; the assignment may move tasks away from it");
            BTreeMap::new()
        })
    }

    async fn look_up(&self) -> Result<HashMap<TopicPartition, Offset>, ClientError> {
        let all: Vec<&Changelog> = self.changelogs.values().flatten().collect();
        let of = |sources: bool| -> Vec<TopicPartition> {
            all.iter().filter(|(_, source)| *source == sources).map(|(at, _)| at.clone()).collect()
        };
        let asked: Vec<_> = of(false).into_iter().map(|at| (at, OffsetSpec::Latest)).collect();
        let mut ends = self.client.list_offsets(&asked, Isolation::Uncommitted).await?;
        let sources = of(true);
        if !sources.is_empty() {
            let committed = self.client.committed(&self.group, Some(&sources)).await?;
            ends.extend(committed.into_iter().map(|(at, position)| (at, position.offset)));
        }
        Ok(ends)
    }

    fn stateful(&self, ends: Option<&HashMap<TopicPartition, Offset>>) -> BTreeMap<TaskId, u64> {
        let sum = |logs: &Vec<Changelog>| match ends {
            Some(ends) => {
                let all = logs.iter().map(|(at, _)| ends.get(at).copied().unwrap_or(0));
                u64::try_from(all.sum::<i64>()).unwrap_or(0)
            }
            None => UNKNOWN,
        };
        self.changelogs.iter().map(|(task, logs)| (*task, sum(logs))).collect()
    }

    /// The members by their processes.
    fn clients(
        stateful: &BTreeMap<TaskId, u64>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, ClientState> {
        let mut clients: BTreeMap<String, ClientState> = BTreeMap::new();
        for member in members {
            let info = SubscriptionInfo::decode(member.user_data.as_ref());
            let process = if info.process.is_empty() { member.member_id.clone() } else { info.process };
            let client = clients.entry(process).or_default();
            for (task, sum) in info.offsets.iter().filter_map(|(name, sum)| Some((parse_task(name)?, *sum))) {
                let Some(end) = stateful.get(&task) else { continue };
                let lag = match u64::try_from(sum) {
                    Ok(sum) => end.saturating_sub(sum),
                    Err(_) if sum == LATEST_OFFSET => 0,
                    Err(_) => *end,
                };
                let known = client.lags.entry(task).or_insert(lag);
                *known = lag.min(*known);
            }
            let had = MemberState {
                active: tasks(&info.owned).into_iter().collect(),
                standby: tasks(&info.standby).into_iter().collect(),
            };
            client.members.insert(member.member_id.clone(), had);
        }
        clients
    }

    fn told(&self, plan: &MemberPlan, probing_at: Option<i64>, hosts: &HostMap) -> Assignment {
        let inputs = plan.active.iter().filter_map(|task| self.tasks.get(task));
        let info = AssignmentInfo { standby: names(&plan.standby), probing_at, hosts: Some(hosts.clone()) };
        Assignment { partitions: inputs.flatten().cloned().collect(), user_data: Some(info.encode()) }
    }
}

async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let late = ClientError::State("they were not told in time");
    tokio::time::timeout(patience, asked).await.unwrap_or(Err(late))
}

/// Who answers for what.
fn hosts(plan: &AssignmentPlan, members: &[MemberSubscription]) -> HostMap {
    let mut hosts = HostMap::new();
    for (id, given) in plan.members.values().flatten() {
        let said = members.iter().find(|member| member.member_id == *id);
        let info = SubscriptionInfo::decode(said.and_then(|member| member.user_data.as_ref()));
        if !info.endpoint.is_empty() {
            let host: &mut HostTasks = hosts.entry(info.endpoint).or_default();
            host.active.extend(names(&given.active));
            host.standby.extend(names(&given.standby));
        }
    }
    hosts
}

/// The changelogs of each task that has any.
fn changelogs(shared: &Shared) -> BTreeMap<TaskId, Vec<Changelog>> {
    let of = |task: &TaskId| -> Vec<Changelog> {
        let stores = shared.topology.stores(task.subtopology).into_iter();
        stores
            .filter_map(|info| {
                Some((TopicPartition::new(info.changelog?, task.partition), info.source_topic))
            })
            .collect()
    };
    shared.tasks.keys().map(|task| (*task, of(task))).filter(|(_, logs)| !logs.is_empty()).collect()
}

impl Assignor for StreamsAssignor {
    fn name(&self) -> &str {
        PROTOCOL
    }

    fn user_data(&self) -> Option<Bytes> {
        let had = self.owned.had().clone();
        let mut offsets = self.offsets();
        let complete = had.running.iter().filter(|task| self.changelogs.contains_key(task));
        offsets.extend(complete.map(|task| (task.to_string(), LATEST_OFFSET)));
        let shared = self.shared.upgrade();
        let info = SubscriptionInfo {
            process: shared.as_ref().map(|shared| shared.instance.clone()).unwrap_or_default(),
            owned: names(&had.active),
            standby: names(&had.standby),
            offsets,
            endpoint: shared.as_deref().and_then(Shared::endpoint).unwrap_or_default().to_owned(),
            nonce: had.nonce,
        };
        Some(info.encode())
    }

    /// Tasks are made of what was there at the start.
    fn follows_topics(&self) -> bool {
        false
    }

    fn prepare(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let ends = within(self.patience, self.look_up()).await;
            if let Err(error) = &ends {
                tracing::warn!(%error, "the changelogs' ends are not known: tasks stay where they run, and a probing rebalance follows");
            }
            let ends = ends.ok();
            *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
        })
    }

    fn assign(
        &self,
        _partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, Assignment> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stateful = self.stateful(ends.as_ref());
        let clients = Self::clients(&stateful, members);
        let stateless = self.tasks.keys().copied().filter(|task| !stateful.contains_key(task)).collect();
        let plan = assign(&Tasks { stateful, stateless }, &clients, &self.configs);
        let unknown = ends.is_none() && !self.changelogs.is_empty();
        let mut probing_at =
            (plan.probing || unknown).then(|| wall_clock().saturating_add(self.probing_interval_ms));
        let hosts = hosts(&plan, members);
        let given: BTreeMap<&String, &MemberPlan> = plan.members.values().flatten().collect();
        if plan.probing {
            tracing::info!(warmups = ?plan.warmups, "tasks wait for their state before they move");
        }
        // One member is enough to let the group rebalance.
        given.into_iter().map(|(id, plan)| (id.clone(), self.told(plan, probing_at.take(), &hosts))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_group_does_not_wait_for_what_nobody_tells() {
        assert_eq!(within(Duration::from_secs(3600), ready(Ok(3))).await.ok(), Some(3));
        assert!(within(Duration::from_millis(1), pending::<Result<i32, ClientError>>()).await.is_err());
    }
}
