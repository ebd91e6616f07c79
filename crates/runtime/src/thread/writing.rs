//! Stores on disk follow what is committed. A large write goes on beside the processing: until it is done, tasks read what is in
//! it from memory.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_model::{Bytes, Offset, TopicPartition};
use headwater_streams::{StoreError, TaskId};

use super::Worker;
use super::active::ActiveTask;
use super::open::store_failed;
use super::trouble::Trouble;
use super::wall_clock;
use crate::state::{StoreId, StoreWrite, Stores};

/// Between two writes that ought to be one.
const PLANTED_PAUSE: Duration = Duration::from_millis(40);

/// What is committed and waits to be written to the stores: the entries are with the tasks.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Of the changelogs.
    pub ends: HashMap<(Arc<str>, i32), Offset>,
    pub since: Option<Instant>,
}

/// How far each task will be written.
type Places = Vec<(TaskId, HashMap<TopicPartition, Offset>)>;

/// A write that goes on. Nobody else opens these stores before it has ended, so who drops this waits for it.
pub(super) struct Writing {
    first: TaskId,
    outcome: mpsc::Receiver<Result<(), StoreError>>,
    places: Places,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.outcome.recv();
    }
}

/// What is written to one store, and the changelog position it leads to.
struct Part {
    id: StoreId,
    entries: Arc<Vec<(Bytes, Option<Bytes>)>>,
    position: Option<Offset>,
}

impl Part {
    fn into_write(self) -> StoreWrite {
        StoreWrite { id: self.id, entries: Arc::unwrap_or_clone(self.entries), position: self.position }
    }
}

fn write(stores: &Stores, parts: Vec<Part>) -> Result<(), StoreError> {
    let writes: Vec<StoreWrite> = parts.into_iter().map(Part::into_write).collect();
    if planted::is(Bug::PositionBeforeEntries) {
        let positions = writes.iter().map(|write| StoreWrite { entries: Vec::new(), ..write.clone() });
        stores.write(positions.collect())?;
        std::thread::sleep(PLANTED_PAUSE);
    }
    stores.load(writes)
}

impl Worker {
    /// Whether what is not written yet may stay in memory for a while.
    pub(super) fn may_wait(&self, since: Instant) -> bool {
        let config = &self.shared.config;
        if since.elapsed() >= config.store_write_delay || !self.active.values().all(ActiveTask::may_wait) {
            return false;
        }
        let pending = self.active.values().map(|active| active.task.pending());
        let (entries, bytes) = pending.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        entries >= config.store_write_at_once && (bytes as u64) < config.write_buffer_share()
    }

    /// When what is not written yet must be.
    pub(super) fn write_at(&self) -> Option<Instant> {
        self.unwritten.since.map(|since| since + self.shared.config.store_write_delay)
    }

    /// All stores of all tasks, with their positions. Only while nothing is between `pre_commit` and the end of its commit.
    pub(super) fn write_unwritten(&mut self) -> Result<(), Trouble> {
        self.begin_writing()?;
        self.end_writing(true)
    }

    /// As [`Worker::write_unwritten`], but a large write is still going on afterwards.
    pub(super) fn begin_writing(&mut self) -> Result<(), Trouble> {
        self.end_writing(true)?;
        let Unwritten { ends, since: Some(_) } = std::mem::take(&mut self.unwritten) else { return Ok(()) };
        let Some(first) = self.active.keys().next().copied() else { return Ok(()) };
        let (mut parts, mut places, mut may_go_on) = (Vec::new(), Vec::new(), true);
        for (id, active) in &mut self.active {
            places.push((*id, active.places()));
            if active.outside.is_some() {
                continue;
            }
            let mut batches = active.task.hand_over().unwrap_or_else(|| {
                may_go_on = false;
                let batches = active.task.committed(wall_clock()).into_iter();
                batches.map(|(store, batch)| (store, Arc::new(batch))).collect()
            });
            for info in &active.stores {
                let entries = batches.remove(&info.name).unwrap_or_default();
                let position = info.changelog.as_deref().and_then(|topic| {
                    if info.source_topic {
                        active.committed(&TopicPartition::new(topic, id.partition))
                    } else {
                        ends.get(&(Arc::from(topic), id.partition)).copied()
                    }
                });
                if !entries.is_empty() || position.is_some() {
                    parts.push(Part { id: StoreId::new(*id, info.name.as_str()), entries, position });
                }
            }
        }
        // With the lock of the directory, for as long as it takes.
        let (shared, (tell, outcome)) = (Arc::clone(&self.shared), mpsc::sync_channel(1));
        let entries: usize = parts.iter().map(|part| part.entries.len()).sum();
        let job = move || {
            let outcome = write(&shared.stores, parts);
            // Who is told that it has ended may be about to start on the directory anew.
            drop(shared);
            tell.send(outcome)
        };
        match may_go_on && entries >= self.shared.config.store_table_from {
            true => drop(self.runtime.spawn_blocking(job)),
            // The other end is here.
            false => drop(job()),
        }
        self.writing = Some(Writing { first, outcome, places });
        self.end_writing(false)
    }

    /// Takes note of the write that goes on if it has ended, or when it has.
    pub(super) fn end_writing(&mut self, wait: bool) -> Result<(), Trouble> {
        let Some(writing) = &self.writing else { return Ok(()) };
        let outcome = match wait {
            true => writing.outcome.recv().map_err(|_| mpsc::TryRecvError::Disconnected),
            false => writing.outcome.try_recv(),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(mpsc::TryRecvError::Empty) => return Ok(()),
            Err(mpsc::TryRecvError::Disconnected) => {
                Err(StoreError::new("write the stores: the write ended without a word"))
            }
        };
        let Some(mut writing) = self.writing.take() else { return Ok(()) };
        outcome.map_err(store_failed(writing.first))?;
        // What others may rely on is noted here, behind the write, and published at the end of the turn.
        for (id, places) in std::mem::take(&mut writing.places) {
            if let Some(active) = self.active.get_mut(&id) {
                active.task.settle();
                active.note_written(places);
            }
        }
        Ok(())
    }
}
