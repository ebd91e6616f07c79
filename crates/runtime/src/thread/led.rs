//! Tasks whose topics have leaders are opened; those of a partition whose brokers are away wait, and keep nobody else waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use headwater_client::{Client, ClientError};
use headwater_model::TopicPartition;
use headwater_streams::TaskId;

use super::Worker;
use super::trouble::Trouble;
use crate::app::Shared;
use crate::balance::names;

/// Before it is looked for leaders again.
pub(super) const AWAY_PAUSE: Duration = Duration::from_secs(2);

/// What must be asked about before a task is opened.
pub(super) fn changelogs_of(shared: &Shared, task: TaskId) -> impl Iterator<Item = TopicPartition> {
    let stores = shared.topology.stores(task.subtopology).into_iter();
    stores
        .filter(|info| !info.source_topic)
        .filter_map(move |info| info.changelog.map(|topic| TopicPartition::new(topic, task.partition)))
}

/// A task, and the partitions that it reads and restores from.
type Reads = (TaskId, Vec<TopicPartition>);

/// The tasks that read nothing of what is away, and the others.
fn split(tasks: Vec<Reads>, away: &BTreeSet<TopicPartition>) -> (Vec<TaskId>, Vec<TaskId>) {
    let (led, waiting): (Vec<Reads>, Vec<Reads>) =
        tasks.into_iter().partition(|(_, reads)| !reads.iter().any(|at| away.contains(at)));
    let ids = |tasks: Vec<Reads>| tasks.into_iter().map(|(task, _)| task).collect();
    (ids(led), ids(waiting))
}

/// Those of these tasks that can be opened now, and those that cannot. A `thread` runs them, or keeps copies of them.
pub(super) async fn led(
    client: &Client,
    shared: &Shared,
    (thread, copies): (usize, bool),
    tasks: &[TaskId],
) -> Result<(Vec<TaskId>, Vec<TaskId>), ClientError> {
    let reads = |task: &TaskId| {
        let inputs = shared.tasks.get(task).into_iter().flatten().cloned();
        (*task, inputs.chain(changelogs_of(shared, *task)).collect())
    };
    let tasks: Vec<Reads> = tasks.iter().map(reads).collect();
    let all: Vec<TopicPartition> = tasks.iter().flat_map(|(_, reads)| reads.iter().cloned()).collect();
    let away: BTreeSet<TopicPartition> = client.without_leader(&all).await?.into_iter().collect();
    let (led, waiting) = split(tasks, &away);
    if let Some(first) = away.first().filter(|_| !waiting.is_empty()) {
        tracing::warn!(
            thread, copies, tasks = names(&waiting).join(" "), partitions = away.len(), %first,
            "tasks wait: partitions that they need have no leader"
        );
    }
    Ok((led, waiting))
}

impl Worker {
    /// Those of these tasks that can be opened now, and those that cannot.
    pub(super) fn led(&self, tasks: &[TaskId]) -> Result<(Vec<TaskId>, Vec<TaskId>), Trouble> {
        let found = self.runtime.block_on(led(&self.client, &self.shared, (self.index, false), tasks));
        found.map_err(Trouble::client("look for leaders"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_waits_for_its_own_partitions_only() {
        let task = |partition| TaskId { subtopology: 0, partition };
        let at = |topic: &str, partition| TopicPartition::new(topic, partition);
        let tasks = || -> Vec<Reads> {
            (0..3).map(|p| (task(p), vec![at("in", p), at("app-s-changelog", p)])).collect()
        };
        let away = |of: Vec<TopicPartition>| -> BTreeSet<TopicPartition> { of.into_iter().collect() };
        assert_eq!(split(tasks(), &away(vec![])), (vec![task(0), task(1), task(2)], vec![]));
        let some = away(vec![at("in", 2), at("app-s-changelog", 0), at("another", 1)]);
        assert_eq!(split(tasks(), &some), (vec![task(1)], vec![task(0), task(2)]));
    }
}
