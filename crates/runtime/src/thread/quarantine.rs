//! Records that are set aside, and the release of what is held.

use std::time::Instant;

use headwater_model::{Offset, TopicPartition};
use headwater_streams::{Task, TaskError, TaskId};

use super::Worker;
use super::trouble::Trouble;
use super::wall_clock;
use crate::metrics::Metrics;
use crate::quarantine::Release;

/// A record that failed after it had had effects.
struct Aside {
    task: TaskId,
    input: TopicPartition,
    offset: Offset,
    node: String,
    message: String,
}

/// What tasks that are opened again have to be told, until it is committed.
#[derive(Default)]
pub(super) struct Unsettled {
    aside: Vec<Aside>,
    released: Vec<Release>,
}

impl Worker {
    /// Drops the tasks and opens them again without the record that failed; `false` if this is no such trouble.
    pub(super) fn sets_aside(&mut self, trouble: &Trouble) -> bool {
        self.shared.releases.ask(self.unsettled.released.drain(..));
        let Trouble::Task { task, source: TaskError::SetAside { topic, partition, offset, node, message } } =
            trouble
        else {
            return false;
        };
        let input = TopicPartition::new(topic.as_str(), *partition);
        if self.unsettled.aside.iter().any(|known| known.input == input && known.offset == *offset) {
            // It was told, and did not help: this is a failure like any other.
            return false;
        }
        tracing::warn!(%task, topic, partition, offset, node, message, "set aside, with what follows under its key");
        self.unsettled.aside.push(Aside {
            task: *task,
            input,
            offset: *offset,
            node: node.clone(),
            message: message.clone(),
        });
        self.drop_tasks();
        self.abandon_transaction();
        Metrics::add(&self.shared.metrics.aborts, 1);
        self.open_at = Some(Instant::now());
        true
    }

    pub(super) fn tell_aside(&self, id: TaskId, task: &mut Task) {
        for aside in self.unsettled.aside.iter().filter(|aside| aside.task == id) {
            task.set_aside(&aside.input, aside.offset, &aside.node, &aside.message);
        }
    }

    /// Carries out what was asked for.
    pub(super) fn release_held(&mut self) -> Result<(), Trouble> {
        let due = self.shared.releases.take(|task| self.active.contains_key(&task));
        self.unsettled.released.extend(due.iter().cloned());
        for (id, key) in due {
            let Some(active) = self.active.get_mut(&id) else { continue };
            let released = active.task.release(key.as_ref(), wall_clock()).map_err(Trouble::task(id))?;
            tracing::info!(task = %id, released, "released from quarantine");
            // Also what failed again is written: why it did.
            active.dirty = true;
        }
        Ok(())
    }

    /// What is committed need not be told again: a record that a committed position is past, a release whose task has nothing
    /// left to commit.
    pub(super) fn settle(&mut self) {
        let Self { unsettled: Unsettled { aside, released }, active, .. } = self;
        if !released.is_empty() {
            released.retain(|(task, _)| active.get(task).is_some_and(|active| active.dirty));
        }
        if !aside.is_empty() {
            let committed =
                |aside: &Aside| active.get(&aside.task).and_then(|task| task.committed(&aside.input));
            let reached = |aside: &Aside| committed(aside).is_some_and(|offset| offset > aside.offset);
            // What fails in a release lies before the position: it is settled with the release.
            let releases = |aside: &Aside| released.iter().any(|(task, _)| *task == aside.task);
            aside.retain(|aside| !reached(aside) || releases(aside));
        }
    }
}
