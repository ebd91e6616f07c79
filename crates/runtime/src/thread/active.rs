//! A task that runs: its inputs, what of it is committed, and whether there is something to commit.

use std::collections::HashMap;

use headwater_client::{Committed, Fetched, Position};
use headwater_model::{Offset, TimestampMs, TopicPartition};
use headwater_streams::{StoreInfo, Task, TaskError, TaskMetrics};

use super::calls::Calls;
use super::epochs::Epochs;
use super::external::Outside;
use crate::board::TaskStatus;
use crate::queries::Seen;
use crate::skew::Skews;

pub(super) struct ActiveTask {
    pub task: Task,
    pub stores: Vec<StoreInfo>,
    /// Where fetching of each input starts.
    pub starts: Vec<(TopicPartition, Position)>,
    epochs: HashMap<TopicPartition, Epochs>,
    committed: HashMap<TopicPartition, Committed>,
    /// Records or punctuations were processed since the last commit. Control records that only move a position do
    /// not count: committing them would write new ones, without end.
    pub dirty: bool,
    /// What it asked services for.
    pub calls: Calls,
    /// It has not worked yet.
    pub fresh: bool,
    /// What the application's metrics already contain.
    pub counted: TaskMetrics,
    /// Up to where its inputs are in its stores, where that is not what they started from: no further than committed.
    written: HashMap<TopicPartition, Offset>,
    /// How far its inputs were when that was told last.
    told: Option<Vec<Offset>>,
    pub skews: Skews,
    /// Set if its stores are in a database.
    pub outside: Option<Outside>,
}

impl ActiveTask {
    pub fn new(
        task: Task,
        starts: Vec<(TopicPartition, Position)>,
        committed: HashMap<TopicPartition, Committed>,
    ) -> Self {
        let stores = task.stores();
        let epochs = starts.iter().map(|(at, start)| (at.clone(), Epochs::new(*start))).collect();
        Self {
            task,
            stores,
            starts,
            epochs,
            committed,
            dirty: false,
            calls: Calls::default(),
            fresh: true,
            counted: TaskMetrics::default(),
            written: HashMap::new(),
            told: None,
            skews: Skews::new(),
            outside: None,
        }
    }

    /// Buffers fetched records; returns how many wait at that input.
    ///
    /// The input's end is its last stable offset: waiting for records of an open transaction would wait for its end.
    pub fn take(&mut self, part: Fetched) -> Result<usize, TaskError> {
        let at = &part.topic_partition;
        if let Some(epochs) = self.epochs.get_mut(at) {
            epochs.read(part.next_offset, part.leader_epoch);
        }
        if let Some(outside) = &mut self.outside {
            outside.note(&part.records);
        }
        self.task.set_end_offset(at, part.last_stable_offset);
        self.task.enqueue(at, part.records)?;
        self.task.set_fetched_to(at, part.next_offset);
        Ok(self.task.buffered(at))
    }

    /// Processes up to `turn` records and due punctuations; returns how many there were.
    pub fn work(&mut self, turn: usize, now: TimestampMs) -> Result<usize, TaskError> {
        let answers = self.calls.answer(&mut self.task, now)?;
        let records = self.task.process(turn, now)?;
        let punctuations = self.task.punctuate(now)?;
        self.calls.start(&mut self.task, now);
        let worked = answers + records + punctuations;
        self.dirty |= worked > 0;
        Ok(worked)
    }

    /// Whether none of its stores has to be written at once: they can be restored, or are written elsewhere.
    pub fn may_wait(&self) -> bool {
        self.stores.iter().all(|info| info.changelog.is_some() || info.external.is_some())
    }

    pub fn holds_records(&self) -> bool {
        self.starts.iter().any(|(at, _)| self.task.buffered(at) > 0)
    }

    /// Where its inputs are. Also of those that did not move: a commit without offsets would ask nobody whether this
    /// member still has the task.
    pub fn positions(&self) -> Vec<(TopicPartition, Committed)> {
        let positions = self.task.positions().into_iter();
        let committed = |(at, offset, metadata): (TopicPartition, Offset, String)| {
            let leader_epoch = self.epochs.get(&at).and_then(|epochs| epochs.at(offset).leader_epoch);
            (at, Committed { offset, metadata, leader_epoch })
        };
        positions.map(committed).collect()
    }

    pub fn commit_positions(&mut self, positions: Vec<(TopicPartition, Committed)>) {
        for (at, committed) in &positions {
            if let Some(epochs) = self.epochs.get_mut(at) {
                epochs.forget_before(committed.offset);
            }
        }
        self.committed.extend(positions);
    }

    pub fn committed(&self, at: &TopicPartition) -> Option<Offset> {
        self.committed.get(at).map(|position| position.offset)
    }

    /// How far its stores have seen its inputs, if that is news. What was read without anything to process counts, too, as
    /// long as nothing is processed and not in the stores.
    pub fn seen_anew(&mut self) -> Option<Seen> {
        let seen = |(at, start): &(TopicPartition, Position)| {
            let written = self.written.get(at).copied().unwrap_or(start.offset);
            match self.task.processed_to(at) {
                Some(processed) if processed > written => written,
                _ => self.task.next_offset(at).unwrap_or(written).max(written),
            }
        };
        let seen: Vec<Offset> = self.starts.iter().map(seen).collect();
        if self.told.as_ref() == Some(&seen) {
            return None;
        }
        let by_input = self.starts.iter().zip(&seen).map(|((at, _), next)| (at.clone(), *next)).collect();
        self.told = Some(seen);
        Some(by_input)
    }

    /// How far its inputs are committed.
    pub fn places(&self) -> HashMap<TopicPartition, Offset> {
        self.committed.iter().map(|(at, position)| (at.clone(), position.offset)).collect()
    }

    /// What was committed up to there is in the stores.
    pub fn note_written(&mut self, places: HashMap<TopicPartition, Offset>) {
        self.written = places;
    }

    pub fn status(&self) -> TaskStatus {
        TaskStatus {
            restoring: 0,
            running: true,
            node_counts: self.task.node_counts().into_iter().collect(),
            reprocessing: self.task.is_reprocessing(),
            skew: self.skews.clone(),
            held: self.task.quarantined(),
        }
    }
}
