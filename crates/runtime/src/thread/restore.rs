//! Restoring: changelogs are read up to the end they had when the task was opened, and written to the stores.
//!
//! Entries and the changelog position reached go into one write, so an interrupted restore goes on where it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_client::{Consumer, ConsumerConfig, Fetched, Isolation};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::TaskId;

use super::Worker;
use super::active::ActiveTask;
use super::open::store_failed;
use super::trouble::Trouble;
use crate::board::TaskStatus;
use crate::metrics::Metrics;
use crate::state::{StoreId, StoreWrite};

/// Waits for changelog records while nothing else is to be done, and while other tasks run.
const ALONE: Duration = Duration::from_millis(20);
const BESIDE: Duration = Duration::from_millis(1);

/// Without progress for so long, someone's open transaction is in the way, or the broker: worth a warning.
const STALLED: Duration = Duration::from_secs(10);

/// What a store still lacks of its changelog.
pub(super) struct Part {
    pub changelog: TopicPartition,
    pub store: StoreId,
    pub next: Offset,
    pub end: Offset,
}

impl Part {
    fn remaining(&self) -> u64 {
        u64::try_from(self.end - self.next).unwrap_or(0)
    }
}

/// A task whose stores are not complete.
pub(super) struct RestoringTask {
    pub active: ActiveTask,
    pub parts: Vec<Part>,
}

impl Worker {
    /// Starts reading what the newly opened tasks lack.
    pub(super) fn begin_restore(&mut self) {
        let mut from: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for part in self.restoring.values().flat_map(|restoring| &restoring.parts) {
            let next = from.entry(part.changelog.clone()).or_insert(part.next);
            *next = part.next.min(*next);
        }
        if !from.is_empty() {
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
        self.activate_restored();
        self.report_restore();
    }

    pub(super) fn restore(&mut self) -> Result<(), Trouble> {
        let Some(restorer) = &mut self.restorer else { return Ok(()) };
        let wait = if self.active.is_empty() { ALONE } else { BESIDE };
        let fetched =
            self.runtime.block_on(restorer.poll(wait)).map_err(Trouble::client("read changelogs"))?;
        for part in &fetched {
            self.restore_from(part)?;
        }
        if fetched.is_empty() {
            self.warn_if_stalled();
        } else {
            self.restored_at = Instant::now();
        }
        // A fetch that held nothing but control records or aborted ones moves the position only.
        self.follow_positions();
        self.activate_restored();
        self.report_restore();
        Ok(())
    }

    fn restore_from(&mut self, fetched: &Fetched) -> Result<(), Trouble> {
        for (id, restoring) in &mut self.restoring {
            let RestoringTask { active, parts } = restoring;
            for part in parts.iter_mut().filter(|part| part.changelog == fetched.topic_partition) {
                let first = fetched.records.partition_point(|record| record.offset < part.next);
                let last = fetched.records.partition_point(|record| record.offset < part.end);
                let records = fetched.records.get(first..last).unwrap_or_default();
                let entries =
                    active.task.restore_batch(&part.store.store, records).map_err(Trouble::task(*id))?;
                part.next = fetched.next_offset.clamp(part.next, part.end);
                let write = StoreWrite { id: part.store.clone(), entries, position: Some(part.next) };
                self.shared.stores.write(vec![write]).map_err(store_failed(*id))?;
                Metrics::add(&self.shared.metrics.restored, records.len() as u64);
            }
        }
        Ok(())
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
        for part in self.restoring.values_mut().flat_map(|restoring| &mut restoring.parts) {
            if let Some(position) = restorer.position(&part.changelog) {
                part.next = position.clamp(part.next, part.end);
            }
        }
    }

    /// Tasks whose stores are complete begin to run.
    fn activate_restored(&mut self) {
        let mut done: Vec<TopicPartition> = Vec::new();
        for restoring in self.restoring.values_mut() {
            done.extend(
                restoring.parts.extract_if(.., |part| part.next >= part.end).map(|part| part.changelog),
            );
        }
        let complete: Vec<(TaskId, RestoringTask)> =
            self.restoring.extract_if(.., |_, restoring| restoring.parts.is_empty()).collect();
        for (id, RestoringTask { active, .. }) in complete {
            self.shared.board.set_task(id, active.status());
            self.readers.extend(active.starts.iter().map(|(input, _)| (input.clone(), id)));
            self.group.consumer().add_positions(active.starts.clone());
            self.active.insert(id, active);
        }
        if self.restoring.is_empty() {
            self.restorer = None;
        } else if let Some(restorer) = &mut self.restorer
            && !done.is_empty()
        {
            restorer.remove(&done);
        }
    }

    fn report_restore(&self) {
        for (id, RestoringTask { parts, .. }) in &self.restoring {
            let restoring = parts.iter().map(Part::remaining).sum();
            self.shared.board.set_task(*id, TaskStatus { restoring, ..TaskStatus::default() });
        }
    }
}
