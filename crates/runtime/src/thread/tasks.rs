//! Tasks that come and go one by one, as the streams protocol has it (KIP-1071): what stays goes on.
//!
//! What goes is committed and closed before the group hears of it, so nobody else has it earlier.

use std::collections::BTreeSet;
use std::time::Instant;

use headwater_client::{StreamsTask, StreamsTasks};
use headwater_model::TopicPartition;
use headwater_streams::TaskId;

use super::trouble::Trouble;
use super::{Standbys, Worker};
use crate::balance::names;
use crate::board::TaskStatus;
use crate::claims::Owner;
use crate::metrics::Metrics;

fn ids(tasks: &[StreamsTask]) -> Vec<TaskId> {
    let id = |task: &StreamsTask| TaskId { subtopology: task.subtopology, partition: task.partition };
    tasks.iter().map(id).collect()
}

impl Worker {
    /// These tasks are this thread's, and no others; those that it had go on.
    pub(super) fn given(&mut self, given: &StreamsTasks) -> Result<(), Trouble> {
        let (active, standby) = (ids(&given.active), ids(&given.standby));
        let new: Vec<TaskId> = active.iter().filter(|task| !self.assigned.contains(task)).copied().collect();
        let (coming, all, copies) =
            (names(&new).join(" "), names(&active).join(" "), names(&standby).join(" "));
        tracing::info!(thread = self.index, new = coming, tasks = all, standby = copies, "assigned");
        Metrics::add(&self.shared.metrics.rebalances, 1);
        self.assigned = active;
        for task in &new {
            self.shared.board.set_task(*task, TaskStatus::default());
        }
        if !new.is_empty() {
            self.open_at = Some(Instant::now());
        }
        self.keep_copies(standby)?;
        self.shared.given.assigned(self.index, Instant::now());
        if !std::mem::replace(&mut self.had_assignment, true) {
            self.shared.first_assignment();
        }
        Ok(())
    }

    /// What is lost is another's already; anything else is committed first, and then closed.
    pub(super) fn taken_away(&mut self, gone: &StreamsTasks, lost: bool) -> Result<(), Trouble> {
        if lost {
            return self.revoked(true);
        }
        let (active, standby) = (ids(&gone.active), ids(&gone.standby));
        let (tasks, copies) = (names(&active).join(" "), names(&standby).join(" "));
        tracing::info!(thread = self.index, tasks, standby = copies, "revoked");
        let kept = self.standbys.as_ref().map_or(&[][..], Standbys::tasks);
        self.keep_copies(kept.iter().filter(|task| !standby.contains(task)).copied().collect())?;
        if active.is_empty() {
            return Ok(());
        }
        let committed = self.commit();
        self.assigned.retain(|task| !active.contains(task));
        active.iter().for_each(|task| self.shared.board.remove_task(*task));
        self.close(&active);
        // After a failure the rest is dropped, too, with the transaction, and opened again.
        committed
    }

    /// Copies of these tasks, and of no others; the thread that keeps them goes on where nothing changes.
    fn keep_copies(&mut self, standby: Vec<TaskId>) -> Result<(), Trouble> {
        let kept = self.standbys.as_ref().map_or(&[][..], Standbys::tasks);
        if kept == standby.as_slice() { Ok(()) } else { self.begin_copies(standby) }
    }

    /// Forgets these tasks; nothing of them waits for a commit.
    fn close(&mut self, gone: &[TaskId]) {
        self.shared.serving.end_some(self.index, gone);
        // Ended with the commit, unless that failed: then all tasks are dropped.
        self.writing = None;
        self.active.retain(|task, _| !gone.contains(task));
        let inputs: Vec<TopicPartition> =
            self.readers.extract_if(|_, task| gone.contains(task)).map(|(input, _)| input).collect();
        self.group.consumer().remove(&inputs);
        self.paused.retain(|input| !inputs.contains(input));
        let dropped: Vec<_> = self.restoring.extract_if(.., |task, _| gone.contains(task)).collect();
        self.stop_restoring(dropped.iter().flat_map(|(_, task)| &task.parts).map(|part| &part.changelog));
        // What is being loaded ends first.
        drop(dropped);
        self.shared.claims.release_some(gone, Owner::Active(self.index));
    }

    /// Changelogs that no other task lacks are not read any more.
    fn stop_restoring<'a>(&mut self, changelogs: impl Iterator<Item = &'a TopicPartition>) {
        let lacking: BTreeSet<&TopicPartition> =
            self.restoring.values().flat_map(|task| &task.parts).map(|part| &part.changelog).collect();
        let unread: Vec<TopicPartition> = changelogs.filter(|at| !lacking.contains(at)).cloned().collect();
        if lacking.is_empty() {
            self.restorer = None;
        } else if let Some(restorer) = &mut self.restorer {
            restorer.remove(&unread);
        }
    }
}
