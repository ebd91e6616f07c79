//! Who answers for a question: this instance for what it has, and for the rest the one that runs the task or, if the question
//! allows it, one that keeps a copy.
//!
//! Invariant: a row that is not in the answer is not in the store. A task that nobody answers for makes the whole answer
//! unavailable; nothing is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::partition;
use headwater_streams::{QueryableStore, TaskId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ask::{Ask, GLOBAL, Part, Told};
use super::failure::StateQueryError;
use super::local::{Here, failed, may_stand_in};
use super::remote::ask_host;
use crate::app::Shared;
use crate::state::parse_task;

/// Before a task that nobody answers for is looked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// What became of the question, by task.
type Parts = BTreeMap<TaskId, Part>;

/// A store that can be asked.
pub(crate) fn find(shared: &Shared, store: &str) -> Result<QueryableStore, StateQueryError> {
    shared.topology.queryable(store).ok_or_else(|| StateQueryError::UnknownStore {
        store: store.to_owned(),
        known: shared.topology.queryable_stores(),
    })
}

/// Answers a question for all tasks that it is about; one that was passed on, for what is here only.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    ask: &Ask,
    forwarded: bool,
) -> Result<Told, StateQueryError> {
    let store = find(shared, &ask.store)?;
    let deadline = Instant::now() + ask.timeout();
    let here = Here { shared, ask, store: &store, deadline };
    let Some(subtopology) = shared.topology.subtopology_of(&ask.store) else {
        return Ok(Told { parts: BTreeMap::from([(GLOBAL.to_owned(), here.of_global().await)]) });
    };
    let all: BTreeSet<TaskId> =
        shared.tasks.keys().filter(|task| task.subtopology == subtopology).copied().collect();
    let (first, rest) = match (&ask.tasks, ask.key()) {
        (Some(names), _) => (named(names, &all)?, BTreeSet::new()),
        (None, Some(key)) => of_key(shared, &store, key, &all)?,
        (None, None) => (all, BTreeSet::new()),
    };
    let gather = Gather { here, forwarded };
    let mut parts = gather.all(first).await;
    let found = parts.values().any(|part| !matches!(part, Part::Rows { rows, .. } if rows.is_empty()));
    if !found {
        parts.extend(gather.all(rest).await);
    }
    Ok(Told { parts: parts.into_iter().map(|(task, part)| (task.to_string(), part)).collect() })
}

fn named(names: &[String], all: &BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, StateQueryError> {
    let task = |name: &String| {
        let task = parse_task(name).filter(|task| all.contains(task));
        task.ok_or_else(|| StateQueryError::Refused {
            detail: format!("{name:?} is no task of the store; are the instances of one version?"),
        })
    };
    names.iter().map(task).collect()
}

/// The task that a key belongs to by Kafka's default partitioner, and those that may have it if whoever writes to the topics
/// that are read here uses another one.
fn of_key(
    shared: &Shared,
    store: &QueryableStore,
    key: &str,
    all: &BTreeSet<TaskId>,
) -> Result<(BTreeSet<TaskId>, BTreeSet<TaskId>), StateQueryError> {
    let Some(task) = task_of(shared, store, key)? else { return Ok((all.clone(), BTreeSet::new())) };
    let external = shared.topology.source_topics();
    let own = shared.flows.reads(task.subtopology);
    let mut rest = BTreeSet::new();
    if external.iter().any(|topic| own.contains(topic)) {
        rest.extend(all.iter().filter(|other| **other != task).copied());
    }
    Ok((BTreeSet::from([task]), rest))
}

/// The task that a key belongs to; `None` of a global store.
pub(crate) fn task_of(
    shared: &Shared,
    store: &QueryableStore,
    key: &str,
) -> Result<Option<TaskId>, StateQueryError> {
    let Some(subtopology) = shared.topology.subtopology_of(store.name()) else { return Ok(None) };
    let bytes = store.key_bytes(key).map_err(|error| match failed(&error) {
        Part::Refused { detail } | Part::Failed { detail } => StateQueryError::Refused { detail },
        _ => StateQueryError::Refused { detail: error.to_string() },
    })?;
    let count = shared.tasks.keys().filter(|task| task.subtopology == subtopology).count();
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    Ok(Some(TaskId { subtopology, partition: partition::for_key(&bytes, count) }))
}

struct Gather<'a> {
    here: Here<'a>,
    forwarded: bool,
}

impl Gather<'_> {
    /// Until each task has an answer, or the time is over.
    async fn all(&self, tasks: BTreeSet<TaskId>) -> Parts {
        let mut parts = Parts::new();
        let mut open = tasks;
        loop {
            parts.extend(self.once(&open).await);
            open.retain(|task| matches!(parts.get(task), Some(Part::Unavailable { .. })));
            // Who passed a question on looks for another instance by itself.
            if open.is_empty() || self.forwarded || Instant::now() >= self.here.deadline {
                return parts;
            }
            tokio::time::sleep_until(self.here.deadline.min(Instant::now() + AGAIN)).await;
        }
    }

    async fn once(&self, tasks: &BTreeSet<TaskId>) -> Parts {
        let shared = self.here.shared;
        let is_here = |task: &TaskId| {
            let standby = || may_stand_in(shared, self.here.ask, *task).is_some();
            self.forwarded || shared.serving.active(*task).is_some() || standby()
        };
        let (own, others): (Vec<TaskId>, Vec<TaskId>) = tasks.iter().copied().partition(is_here);
        let mut parts = Parts::new();
        let elsewhere = self.elsewhere(&others);
        let local = async {
            let mut parts = Parts::new();
            for task in own {
                parts.insert(task, self.here.of_task(task).await);
            }
            parts
        };
        let (elsewhere, local) = tokio::join!(elsewhere, local);
        parts.extend(elsewhere);
        parts.extend(local);
        parts
    }

    async fn elsewhere(&self, tasks: &[TaskId]) -> Parts {
        let hosts = &self.here.shared.hosts;
        let nobody = |task: &TaskId| (*task, Part::Unavailable { detail: self.nobody(*task) });
        let mut parts: Parts = tasks.iter().map(nobody).collect();
        let active = tasks.iter().filter_map(|task| Some((*task, hosts.of(*task).active_host?)));
        self.ask_hosts(active.collect(), &mut parts).await;
        if self.here.ask.staleness.is_none() {
            return parts;
        }
        for task in tasks {
            for host in hosts.of(*task).standby_hosts {
                if matches!(parts.get(task), Some(Part::Unavailable { .. })) {
                    self.ask_hosts(vec![(*task, host)], &mut parts).await;
                }
            }
        }
        parts
    }

    /// Why a task has no answer before anybody else was asked.
    fn nobody(&self, task: TaskId) -> String {
        let shared = self.here.shared;
        if shared.board.tasks().contains_key(&task) || shared.serving.copy_of(task).is_some() {
            return self.here.why_not(task);
        }
        match shared.hosts.of(task).active_host {
            Some(host) => format!("task {task} is run by {host}"),
            None => format!(
                "nobody who answers over HTTP is known to run task {task}: the group is rebalancing, or that instance has no http or application_server; ask again"
            ),
        }
    }

    /// All hosts at once, each about its tasks.
    async fn ask_hosts(&self, whom: Vec<(TaskId, String)>, parts: &mut Parts) {
        let shared = self.here.shared;
        let mut by_host: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
        let elsewhere = whom.into_iter().filter(|(_, host)| shared.endpoint() != Some(host.as_str()));
        elsewhere.for_each(|(task, host)| by_host.entry(host).or_default().push(task));
        let mut asking = JoinSet::new();
        for (host, tasks) in by_host {
            let (shared, ask, deadline) = (shared.clone(), self.here.ask.clone(), self.here.deadline);
            asking.spawn(async move {
                let told = ask_host(&shared, &host, &ask, &tasks, deadline).await;
                (host, tasks, told)
            });
        }
        while let Some(asked) = asking.join_next().await {
            // One that panicked leaves its tasks unanswered.
            let Ok((host, tasks, told)) = asked else { continue };
            for task in tasks {
                let part = match &told {
                    Ok(told) => told.parts.get(&task.to_string()).cloned(),
                    Err(why) => Some(Part::Unavailable { detail: why.clone() }),
                };
                let part = part.unwrap_or(Part::Unavailable { detail: "it says nothing".to_owned() });
                let part = match (parts.remove(&task), part) {
                    (Some(Part::Unavailable { detail: before }), Part::Unavailable { detail }) => {
                        Part::Unavailable { detail: format!("{before}; {host} says: {detail}") }
                    }
                    (_, part) => part,
                };
                parts.insert(task, part);
            }
        }
    }
}
