//! Stores on disk follow what is committed. A large write goes on beside the processing: until it is done, tasks read what is in
//! it from memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{StoreError, TaskId};

use super::Worker;
use super::active::ActiveTask;
use super::open::store_failed;
use super::trouble::Trouble;
use super::underway::Underway;
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

/// A write that goes on.
pub(super) struct Writing {
    first: TaskId,
    underway: Underway,
    places: Places,
}

fn write(stores: &Stores, writes: Vec<StoreWrite>) -> Result<(), StoreError> {
    if planted::is(Bug::PositionBeforeEntries) {
        let positions = writes.iter().map(|write| StoreWrite { entries: Arc::default(), ..write.clone() });
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
        let (mut writes, mut places, mut may_go_on) = (Vec::new(), Vec::new(), true);
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
                    writes.push(StoreWrite { id: StoreId::new(*id, info.name.as_str()), entries, position });
                }
            }
        }
        let entries: usize = writes.iter().map(|write| write.entries.len()).sum();
        // What no changelog has is written before anything else can go wrong.
        may_go_on &= self.active.values().all(ActiveTask::may_wait);
        let beside = may_go_on && entries >= self.shared.config.store_table_from;
        let runtime = beside.then_some(&self.runtime);
        let tasks: Vec<String> = self.active.keys().map(TaskId::to_string).collect();
        let underway = Underway::begin(runtime, &self.shared, move |stores| write(stores, writes))
            .of(format!("the stores of tasks {}", tasks.join(" ")));
        self.writing = Some(Writing { first, underway, places });
        self.end_writing(false)
    }

    /// Takes note of the write that goes on if it has ended, or when it has.
    pub(super) fn end_writing(&mut self, wait: bool) -> Result<(), Trouble> {
        let Some(writing) = &self.writing else { return Ok(()) };
        let outcome = if wait { Some(writing.underway.end()) } else { writing.underway.ended() };
        let Some(outcome) = outcome else { return Ok(()) };
        let Some(Writing { first, places, .. }) = self.writing.take() else { return Ok(()) };
        outcome.map_err(store_failed(first))?;
        // What others may rely on is noted here, behind the write, and published at the end of the turn.
        for (id, places) in places {
            if let Some(active) = self.active.get_mut(&id) {
                active.task.settle();
                active.note_written(places);
            }
        }
        Ok(())
    }
}
