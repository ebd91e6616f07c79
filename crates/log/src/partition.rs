//! What the log knows of one partition: which files hold its batches, who wrote them, which transactions
//! are open. Producer sequences move when a batch is staged, so that the next one can be judged; what
//! readers see moves when the commit is on disk. Places of single batches are here only for the journal
//! that is being written; for all others they are in the file's index.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use headwater_wire::BatchHeader;
use serde::{Deserialize, Serialize};

use crate::LogError;
use crate::change::{Cleaned, Move};
use crate::place::{BatchPlace, Damage, Extent, FileId};
use crate::planted::{self, Bug};

/// How many batches of a producer are remembered to recognize a retry; Kafka's own number.
const REMEMBERED: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    last_offset: Offset,
    commit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ProducerState {
    epoch: i16,
    batches: VecDeque<Remembered>,
    /// When it wrote last, by the log's time.
    last: TimestampMs,
}

/// A producer that is remembered, as administrators see it (KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: i64,
    pub epoch: i16,
    /// −1 before the first batch of its epoch.
    pub last_sequence: i32,
    pub last_written: TimestampMs,
    /// Where its open transaction begins.
    pub open_since: Option<Offset>,
}

/// An aborted transaction whose records a read_committed reader must skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: Offset,
    /// The offset of the marker that ended it.
    pub last_offset: Offset,
}

/// What a checkpoint says of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub topic_id: [u8; 16],
    pub partition: i32,
    pub log_start: Offset,
    pub end: Offset,
    pub extents: Vec<Extent>,
    pub cleaned: Cleaned,
    pub damage: Vec<Damage>,
    producers: Vec<(i64, ProducerState)>,
    open: Vec<(i64, Offset)>,
    aborted: Vec<Aborted>,
}

/// What to do with a batch that a producer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    Append,
    /// It is here already, or on its way in this commit.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        commit: u64,
    },
}

#[derive(Debug, Default)]
pub struct Partition {
    pub log_start: Offset,
    /// The offset of the next batch to be staged.
    pub next: Offset,
    /// One past the last offset that is on disk.
    pub end: Offset,
    /// Oldest first; they do not overlap.
    pub extents: VecDeque<Extent>,
    /// The batches in the journal that is being written, if the last extent is there.
    pub recent: Vec<BatchPlace>,
    pub cleaned: Cleaned,
    pub damage: Vec<Damage>,
    producers: HashMap<i64, ProducerState>,
    open: BTreeMap<i64, Offset>,
    aborted: Vec<Aborted>,
}

impl Partition {
    pub fn restored(state: PartitionState) -> Self {
        Self {
            log_start: state.log_start,
            next: state.end,
            end: state.end,
            extents: state.extents.into(),
            recent: Vec::new(),
            cleaned: state.cleaned,
            damage: state.damage,
            producers: state.producers.into_iter().collect(),
            open: state.open.into_iter().collect(),
            aborted: state.aborted,
        }
    }

    /// As of before `commit`, whose batches are remembered already but not on disk. Producers that wrote
    /// last before `expired` and have no transaction open are left out.
    pub fn state(
        &self,
        topic_id: [u8; 16],
        partition: i32,
        commit: u64,
        expired: TimestampMs,
    ) -> PartitionState {
        let remembered = |(id, producer): (&i64, &ProducerState)| {
            let mut producer = producer.clone();
            producer.batches.retain(|batch| batch.commit < commit);
            (*id, producer)
        };
        let alive =
            |(id, producer): &(&i64, &ProducerState)| producer.last >= expired || self.open.contains_key(id);
        let mut producers: Vec<_> = self.producers.iter().filter(alive).map(remembered).collect();
        if planted::is(Bug::CheckpointWithoutProducers) {
            producers.clear();
        }
        producers.sort_unstable_by_key(|(id, _)| *id);
        let open = self.open.iter().map(|(id, first)| (*id, *first));
        PartitionState {
            topic_id,
            partition,
            log_start: if planted::is(Bug::ForgetLogStart) { 0 } else { self.log_start },
            end: self.end,
            extents: self.extents.iter().copied().collect(),
            cleaned: self.cleaned,
            damage: self.damage.clone(),
            producers,
            open: if planted::is(Bug::CheckpointWithoutTransactions) { Vec::new() } else { open.collect() },
            aborted: self.aborted.clone(),
        }
    }

    /// Forgets producers that wrote last before `expired` and have no transaction open.
    pub fn expire_producers(&mut self, expired: TimestampMs) {
        let open = &self.open;
        self.producers.retain(|id, producer| producer.last >= expired || open.contains_key(id));
    }

    /// How far it was cleaned, and what is there of that: less than was kept then, once retention has taken some.
    pub fn clean(&self) -> Cleaned {
        let Cleaned { to, bytes } = self.cleaned;
        let there = self.extents.iter().filter(|extent| extent.first < to).map(|extent| extent.bytes);
        Cleaned { to, bytes: bytes.min(there.sum()) }
    }

    pub fn last_stable(&self) -> Offset {
        if planted::is(Bug::IgnoreOpenTransactions) {
            return self.end;
        }
        let first_open = self.open.values().copied().min().unwrap_or(self.end);
        // What a transaction has before the start of the log is nobody's.
        first_open.max(self.log_start).min(self.end)
    }

    pub fn producers(&self) -> impl Iterator<Item = ActiveProducer> {
        self.producers.iter().map(|(id, known)| ActiveProducer {
            id: *id,
            epoch: known.epoch,
            last_sequence: known.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_written: known.last,
            open_since: self.open.get(id).copied(),
        })
    }

    pub fn open_transactions(&self) -> impl Iterator<Item = (i64, Offset)> {
        self.open.iter().map(|(id, first)| (*id, *first))
    }

    /// Whether a client's batch follows what its producer sent before (KIP-98, KIP-360).
    pub fn judge(&self, header: &BatchHeader) -> Result<Judgement, LogError> {
        if !header.has_producer() {
            return Ok(Judgement::Append);
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            // A producer that is not known here starts wherever it is: its records may have expired.
            return Ok(Judgement::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(LogError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                current: producer.epoch,
            });
        }
        if header.producer_epoch > producer.epoch {
            if header.base_sequence != 0 {
                return Err(self.out_of_order(header, 0));
            }
            return Ok(Judgement::Append);
        }
        let same = producer.batches.iter().find(|known| {
            known.base_sequence == header.base_sequence && known.last_sequence == header.last_sequence()
        });
        if let Some(known) = same.filter(|_| !planted::is(Bug::ForgetDuplicates)) {
            return Ok(Judgement::Duplicate {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
                commit: known.commit,
            });
        }
        if planted::is(Bug::ForgetDuplicates) && same.is_some() {
            return Ok(Judgement::Append);
        }
        // A marker may have begun the epoch (KIP-890): its first batch is yet to come.
        let last = producer.batches.back().map(|last| last.last_sequence);
        let expected = last.filter(|last| *last < i32::MAX).map_or(0, |last| last + 1);
        if header.base_sequence != expected && !planted::is(Bug::TakeAnySequence) {
            return Err(self.out_of_order(header, expected));
        }
        Ok(Judgement::Append)
    }

    fn out_of_order(&self, header: &BatchHeader, expected: i32) -> LogError {
        LogError::OutOfOrderSequence {
            producer_id: header.producer_id,
            sequence: header.base_sequence,
            expected,
        }
    }

    /// Remembers a batch that was staged in `commit` at `now`; its offsets are in the header.
    pub fn stage(&mut self, header: &BatchHeader, commit: u64, now: TimestampMs) {
        self.next = header.last_offset() + 1;
        if !header.has_producer() {
            return;
        }
        let producer = self.producers.entry(header.producer_id).or_default();
        producer.last = producer.last.max(now);
        if header.producer_epoch != producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if header.is_control() {
            return;
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            commit,
        });
    }

    /// Makes a batch that is on disk in the journal `file` visible. `committed` is what an
    /// end-of-transaction marker says.
    pub fn commit(&mut self, header: &BatchHeader, file: FileId, place: BatchPlace, committed: Option<bool>) {
        self.end = header.last_offset() + 1;
        self.next = self.next.max(self.end);
        match self.extents.back_mut().filter(|extent| extent.file == file) {
            Some(extent) => extent.push(&place),
            None => {
                self.recent.clear();
                self.extents.push_back(Extent::of(file, &place, true));
            }
        }
        self.recent.push(place);
        self.end_transaction(header, committed);
    }

    fn end_transaction(&mut self, header: &BatchHeader, committed: Option<bool>) {
        if let Some(committed) = committed {
            if let Some(first_offset) = self.open.remove(&header.producer_id)
                && !committed
            {
                self.aborted.push(Aborted {
                    producer_id: header.producer_id,
                    first_offset,
                    last_offset: header.base_offset,
                });
            }
        } else if header.is_transactional() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
        }
    }

    /// Forgets what lies below `offset`; readers are told the exact start, whole extents go.
    pub fn delete_before(&mut self, offset: Offset) {
        self.log_start = self.log_start.max(offset);
        while self.extents.front().is_some_and(|extent| extent.last < self.log_start) {
            self.extents.pop_front();
        }
        if self.extents.is_empty() {
            self.recent.clear();
        }
        self.aborted.retain(|aborted| aborted.last_offset >= self.log_start);
        self.damage.retain(|damage| damage.last >= self.log_start);
    }

    /// Replaces extents by what was moved. What was planned before another move of the same extents is too
    /// late and changes nothing.
    pub fn moved(&mut self, change: &Move) {
        let Some(at) = self.first_replaced(&change.replaces) else { return };
        self.extents.retain(|extent| !change.replaces.contains(&extent.file));
        if planted::is(Bug::MoveTooMuch) {
            self.extents.remove(at);
        }
        let kept = change.extents.iter().filter(|extent| extent.last >= self.log_start);
        for (place, extent) in kept.enumerate() {
            self.extents.insert(at + place, *extent);
        }
        if let Some(cleaned) = change.cleaned {
            self.cleaned = cleaned;
            let left =
                |aborted: &Aborted| aborted.last_offset >= cleaned.to || change.aborted.contains(aborted);
            self.aborted.retain(left);
        }
    }

    /// Where the first extent of these files is, if all are there that were not deleted from below.
    fn first_replaced(&self, files: &[FileId]) -> Option<usize> {
        let at = self.extents.iter().position(|extent| files.contains(&extent.file))?;
        let there = self.extents.iter().skip(at).map(|extent| extent.file);
        let gone = if at == 0 { files.iter().position(|file| *file == self.extents[0].file)? } else { 0 };
        let wanted = &files[gone..];
        (there.take(wanted.len()).eq(wanted.iter().copied())).then_some(at)
    }

    /// Index of the extent that holds `offset`, or of the first after it.
    pub fn extent_at(&self, offset: Offset) -> usize {
        self.extents.partition_point(|extent| extent.last < offset)
    }

    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.bytes).sum()
    }

    /// Aborted transactions with records in `[from, to)`.
    pub fn aborted_between(&self, from: Offset, to: Offset) -> Vec<Aborted> {
        if planted::is(Bug::HideAborted) {
            return Vec::new();
        }
        // Markers follow each other, so their offsets ascend.
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        self.aborted[first..].iter().filter(|aborted| aborted.first_offset < to).copied().collect()
    }
}

/// Reads what a control batch says; data batches say nothing.
pub fn marker(header: &BatchHeader, batch: &[u8]) -> Option<bool> {
    if !header.is_control() {
        return None;
    }
    headwater_wire::batch::marker_is_commit(&Bytes::copy_from_slice(batch))
}
