//! Restoring: changelogs are read up to the end they had when the task was opened, and written to the stores.
//!
//! What has come is held back and written much at once, with the changelog position reached, so an interrupted restore goes on
//! about where it was. More is read while that is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_client::{Consumer, ConsumerConfig, Fetched, Isolation};
use headwater_model::{Bytes, Offset, Record, TopicPartition};
use headwater_streams::{StoreError, Task, TaskId};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Worker;
use super::active::ActiveTask;
use super::open::store_failed;
use super::trouble::{Trouble, heals};
use super::underway::Underway;
use crate::app::Shared;
use crate::board::TaskStatus;
use crate::metrics::Metrics;
use crate::snapshot::{Chunk, Fetch};
use crate::state::{Entry, StoreId, StoreWrite};

/// Waits for changelog records while nothing else is to be done, and while other tasks run.
const ALONE: Duration = Duration::from_millis(20);
const BESIDE: Duration = Duration::from_millis(1);

/// So many stores are written at once while more is read.
const LOADS: usize = 2;

/// Blocks of a snapshot that are written in one turn.
const CHUNKS: usize = 8;

/// Without progress for so long, someone's open transaction is in the way, or the broker: worth a warning.
const STALLED: Duration = Duration::from_secs(10);

/// What a store still lacks of its changelog.
pub(super) struct Part {
    pub changelog: TopicPartition,
    pub store: StoreId,
    pub next: Offset,
    pub end: Offset,
    /// Comes first; until it is there nothing of the changelog is taken.
    snapshot: Option<Fetch>,
    /// What has come and is not written yet, and about how many bytes of it: of the snapshot, or else of the changelog up to `next`.
    entries: Vec<Entry>,
    records: Vec<Record>,
    held: usize,
    /// What came before that.
    loading: Option<Underway>,
}

impl Part {
    pub fn new(
        changelog: TopicPartition,
        store: StoreId,
        (next, end): (Offset, Offset),
        snapshot: Option<Fetch>,
    ) -> Self {
        Self {
            changelog,
            store,
            next,
            end,
            snapshot,
            entries: Vec::new(),
            records: Vec::new(),
            held: 0,
            loading: None,
        }
    }

    fn remaining(&self) -> u64 {
        u64::try_from(self.end - self.next).unwrap_or(0)
    }

    fn is_complete(&self) -> bool {
        self.snapshot.is_none() && self.next >= self.end
    }

    fn takes(&self, fetched: &Fetched) -> bool {
        self.snapshot.is_none() && self.changelog == fetched.topic_partition
    }

    /// Takes what it lacks of `fetched`.
    fn take(&mut self, fetched: &Fetched) {
        let first = fetched.records.partition_point(|record| record.offset < self.next);
        let last = fetched.records.partition_point(|record| record.offset < self.end);
        let records = fetched.records.get(first..last).unwrap_or_default();
        self.held += records.iter().map(held_by).sum::<usize>();
        self.records.extend_from_slice(records);
        self.next = fetched.next_offset.clamp(self.next, self.end);
    }

    /// Begins to write what is held of the changelog, with the position that it leads to.
    fn load_records(
        &mut self,
        id: TaskId,
        task: &Task,
        shared: &Arc<Shared>,
        runtime: &Handle,
    ) -> Result<(), Trouble> {
        // What becomes of the next records depends on what the store has.
        self.end_load().map_err(store_failed(id))?;
        let records = std::mem::take(&mut self.records);
        self.entries = task.restore_batch(&self.store.store, &records).map_err(Trouble::task(id))?;
        self.load(Some(self.next), shared, runtime).map_err(store_failed(id))?;
        Metrics::add(&shared.metrics.restored, records.len() as u64);
        Ok(())
    }

    /// Begins to write the entries, when what was written before has ended.
    fn load(
        &mut self,
        position: Option<Offset>,
        shared: &Arc<Shared>,
        runtime: &Handle,
    ) -> Result<(), StoreError> {
        self.end_load()?;
        let entries = std::mem::take(&mut self.entries);
        self.held = 0;
        let runtime = (entries.len() >= shared.config.store_table_from).then_some(runtime);
        let write = StoreWrite { id: self.store.clone(), entries: entries.into(), position };
        self.loading = Some(Underway::begin(runtime, shared, move |stores| stores.load(vec![write])));
        Ok(())
    }

    fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    fn end_load(&mut self) -> Result<(), StoreError> {
        self.loading.take().map_or(Ok(()), |loading| loading.end())
    }

    /// Takes a piece of the snapshot. The last one brings the position; a bad one empties the store again.
    fn take_chunk(
        &mut self,
        chunk: Chunk,
        most: usize,
        shared: &Arc<Shared>,
        runtime: &Handle,
    ) -> Result<(), StoreError> {
        let Some(fetch) = &self.snapshot else { return Ok(()) };
        match chunk {
            Chunk::Entries(entries) => {
                Metrics::add(&shared.metrics.restored_from_snapshots, entries.len() as u64);
                self.held += entries.iter().map(size_of_entry).sum::<usize>();
                self.entries.extend(entries);
                if self.held >= most { self.load(None, shared, runtime) } else { Ok(()) }
            }
            Chunk::End => {
                let position = fetch.found.position;
                self.snapshot = None;
                self.load(None, shared, runtime)?;
                self.end_load()?;
                let fits = shared.topology.fits(&self.store.store, shared.stores.open(&self.store)?);
                if !fits.map_err(|error| StoreError::new(error.to_string()))? {
                    Metrics::add(&shared.metrics.snapshot_failures, 1);
                    tracing::warn!(
                        store = %self.store,
                        "the snapshot is of a version with another retention: restoring from the changelog"
                    );
                    return shared.stores.wipe(&self.store);
                }
                self.next = position.clamp(self.next, self.end);
                self.load(Some(self.next), shared, runtime)
            }
            Chunk::Failed(error) => {
                (self.snapshot, self.entries, self.held) = (None, Vec::new(), 0);
                Metrics::add(&shared.metrics.snapshot_failures, 1);
                tracing::warn!(
                    store = %self.store, error,
                    "the snapshot cannot be used: restoring from the changelog"
                );
                self.end_load()?;
                shared.stores.wipe(&self.store)
            }
        }
    }

    /// Takes what has come of the snapshot; whether that was the last of it.
    fn take_chunks(
        &mut self,
        most: usize,
        shared: &Arc<Shared>,
        runtime: &Handle,
    ) -> Result<bool, StoreError> {
        for _ in 0..CHUNKS {
            let Some(chunk) = self.snapshot.as_mut().and_then(Fetch::take) else { break };
            self.take_chunk(chunk, most, shared, runtime)?;
            if self.snapshot.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for all of the snapshot, unless `stopped`.
    pub fn load_snapshot(
        &mut self,
        shared: &Arc<Shared>,
        runtime: &Handle,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        let most = usize::try_from(shared.config.write_buffer_share()).unwrap_or(usize::MAX);
        while let Some(fetch) = &mut self.snapshot {
            let chunk = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => None,
                    chunk = fetch.next() => Some(chunk),
                }
            });
            // What is there has no position: the next one to open it begins anew.
            let Some(chunk) = chunk else { return Ok(()) };
            self.take_chunk(chunk, most, shared, runtime)?;
        }
        self.end_load()
    }
}

fn held_by(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    size_of::<Record>() + length(&record.key) + length(&record.value)
}

fn size_of_entry((key, value): &Entry) -> usize {
    size_of::<Entry>() + key.len() + value.as_ref().map_or(0, Bytes::len)
}

/// A task whose stores are not complete.
pub(super) struct RestoringTask {
    pub active: ActiveTask,
    pub parts: Vec<Part>,
}

impl Worker {
    /// Starts reading what the newly opened tasks lack.
    pub(super) fn begin_restore(&mut self) -> Result<(), Trouble> {
        let mut from: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        let parts = || self.restoring.values().flat_map(|restoring| &restoring.parts);
        for part in parts().filter(|part| part.snapshot.is_none()) {
            let next = from.entry(part.changelog.clone()).or_insert(part.next);
            *next = part.next.min(*next);
        }
        if parts().next().is_some() {
            let isolation = match planted::is(Bug::RestoreAborted) {
                true => Isolation::Uncommitted,
                false => Isolation::Committed,
            };
            let config = ConsumerConfig { isolation, ..ConsumerConfig::default() };
            let mut restorer = Consumer::new(&self.client, config);
            restorer.assign(from.into_iter().collect());
            self.restorer = Some(restorer);
            self.restored_at = Instant::now();
        }
        self.activate_restored()?;
        self.report_restore();
        Ok(())
    }

    pub(super) fn restore(&mut self) -> Result<(), Trouble> {
        let Some(restorer) = &mut self.restorer else { return Ok(()) };
        let wait = if self.active.is_empty() { ALONE } else { BESIDE };
        let fetched = match self.runtime.block_on(restorer.poll(wait)) {
            // Tasks that are restored go on, and so does what else is to be restored.
            Err(error) if heals(&error) => {
                tracing::warn!(thread = self.index, %error, "a changelog cannot be read; trying again");
                restorer.try_again();
                Vec::new()
            }
            polled => polled.map_err(Trouble::client("read changelogs"))?,
        };
        for part in &fetched {
            self.restore_from(part)?;
        }
        if self.load_snapshots()? || !fetched.is_empty() {
            self.restored_at = Instant::now();
        } else {
            self.warn_if_stalled();
        }
        // A fetch that held nothing but control records or aborted ones moves the position only.
        self.follow_positions();
        self.activate_restored()?;
        self.report_restore();
        Ok(())
    }

    /// Whether anything of a snapshot came.
    fn load_snapshots(&mut self) -> Result<bool, Trouble> {
        let (mut any, mut ready) = (false, BTreeMap::new());
        let most = self.most_held();
        for (id, restoring) in &mut self.restoring {
            for part in restoring.parts.iter_mut().filter(|part| part.snapshot.is_some()) {
                any = true;
                let taken = part.take_chunks(most, &self.shared, &self.runtime);
                if taken.map_err(store_failed(*id))? {
                    ready.insert(part.changelog.clone(), part.next);
                }
            }
        }
        // Another store may be made of the same changelog.
        for part in self.restoring.values().flat_map(|restoring| &restoring.parts) {
            if let Some(next) = ready.get_mut(&part.changelog)
                && part.snapshot.is_none()
            {
                *next = part.next.min(*next);
            }
        }
        if let Some(restorer) = &mut self.restorer
            && !ready.is_empty()
        {
            restorer.add(ready.into_iter().collect());
        }
        Ok(any)
    }

    fn restore_from(&mut self, fetched: &Fetched) -> Result<(), Trouble> {
        let most = self.most_held();
        for restoring in self.restoring.values_mut() {
            restoring.parts.iter_mut().filter(|part| part.takes(fetched)).for_each(|part| part.take(fetched));
        }
        let parts = || self.restoring.values().flat_map(|restoring| &restoring.parts);
        if parts().any(|part| part.held >= most) && parts().filter(|part| part.is_loading()).count() >= LOADS
        {
            self.end_loads()?;
        }
        self.load_records(|part| part.held >= most)
    }

    /// Of the parts that are `wanted`.
    fn load_records(&mut self, wanted: impl Fn(&Part) -> bool) -> Result<(), Trouble> {
        for (id, RestoringTask { active, parts }) in &mut self.restoring {
            for part in parts.iter_mut().filter(|part| wanted(part)) {
                part.load_records(*id, &active.task, &self.shared, &self.runtime)?;
            }
        }
        Ok(())
    }

    fn end_loads(&mut self) -> Result<(), Trouble> {
        for (id, restoring) in &mut self.restoring {
            restoring.parts.iter_mut().try_for_each(Part::end_load).map_err(store_failed(*id))?;
        }
        Ok(())
    }

    /// How many bytes each store that is being restored may hold back, so that they are written at once. The
    /// threads share what the process may take.
    fn most_held(&self) -> usize {
        let parts = self.restoring.values().map(|restoring| restoring.parts.len()).sum::<usize>();
        usize::try_from(self.shared.config.write_buffer_share()).unwrap_or(usize::MAX) / parts.max(1)
    }

    fn warn_if_stalled(&mut self) {
        if self.restored_at.elapsed() < STALLED {
            return;
        }
        self.restored_at = Instant::now();
        for part in self.restoring.values().flat_map(|restoring| &restoring.parts) {
            tracing::warn!(
                changelog = %part.changelog, next = part.next, end = part.end,
                "no changelog records for {STALLED:?}: waiting for an open transaction to end, or for the broker"
            );
        }
    }

    fn follow_positions(&mut self) {
        let Some(restorer) = &self.restorer else { return };
        let parts = self.restoring.values_mut().flat_map(|restoring| &mut restoring.parts);
        for part in parts.filter(|part| part.snapshot.is_none()) {
            if let Some(position) = restorer.position(&part.changelog) {
                part.next = position.clamp(part.next, part.end);
            }
        }
    }

    /// Tasks whose stores are complete begin to run.
    fn activate_restored(&mut self) -> Result<(), Trouble> {
        self.load_records(Part::is_complete)?;
        let mut done: Vec<TopicPartition> = Vec::new();
        for (id, restoring) in &mut self.restoring {
            for mut part in restoring.parts.extract_if(.., |part| part.is_complete()) {
                part.end_load().map_err(store_failed(*id))?;
                done.push(part.changelog);
            }
        }
        let complete: Vec<(TaskId, RestoringTask)> =
            self.restoring.extract_if(.., |_, restoring| restoring.parts.is_empty()).collect();
        for (id, RestoringTask { active, .. }) in complete {
            self.shared.board.set_task(id, active.status());
            self.readers.extend(active.starts.iter().map(|(input, _)| (input.clone(), id)));
            self.group.consumer().add_positions(active.starts.clone());
            self.active.insert(id, active);
        }
        // Another store may be made of the same changelog, and not be complete.
        let lacking: Vec<&Part> = self.restoring.values().flat_map(|restoring| &restoring.parts).collect();
        done.retain(|changelog| !lacking.iter().any(|part| part.changelog == *changelog));
        if self.restoring.is_empty() {
            self.restorer = None;
        } else if let Some(restorer) = &mut self.restorer
            && !done.is_empty()
        {
            restorer.remove(&done);
        }
        Ok(())
    }

    fn report_restore(&self) {
        for (id, RestoringTask { parts, .. }) in &self.restoring {
            let restoring = parts.iter().map(Part::remaining).sum();
            self.shared.board.set_task(*id, TaskStatus { restoring, ..TaskStatus::default() });
        }
    }
}
