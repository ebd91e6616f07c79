//! What the log knows of one partition: where its batches are, who wrote them, which transactions are
//! open. Producer sequences move when a batch is staged, so that the next one can be judged; what
//! readers see moves when the commit is on disk.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use headwater_wire::BatchHeader;
use serde::{Deserialize, Serialize};

use crate::LogError;

/// How many batches of a producer are remembered to recognize a retry; Kafka's own number.
const REMEMBERED: usize = 5;

/// Where one batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
    pub file: u64,
    pub position: u64,
    pub size: u32,
}

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
}

/// An aborted transaction whose records a read_committed reader must skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: Offset,
    /// The offset of the marker that ended it.
    pub last_offset: Offset,
}

/// What a file's first frame says of a partition, so that older files can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub topic_id: [u8; 16],
    pub partition: i32,
    pub log_start: Offset,
    pub end: Offset,
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
    pub batches: VecDeque<BatchPlace>,
    producers: HashMap<i64, ProducerState>,
    open: BTreeMap<i64, Offset>,
    aborted: Vec<Aborted>,
}

impl Partition {
    pub fn restored(state: &PartitionState) -> Self {
        Self {
            log_start: state.log_start,
            next: state.end,
            end: state.end,
            batches: VecDeque::new(),
            producers: state.producers.iter().cloned().collect(),
            open: state.open.iter().copied().collect(),
            aborted: state.aborted.clone(),
        }
    }

    /// As of before `commit`, whose batches are remembered already but not on disk.
    pub fn state(&self, topic_id: [u8; 16], partition: i32, commit: u64) -> PartitionState {
        let mut producers: Vec<_> = self.producers.iter().map(|(id, state)| (*id, state.clone())).collect();
        for (_, producer) in &mut producers {
            producer.batches.retain(|batch| batch.commit < commit);
        }
        producers.sort_unstable_by_key(|(id, _)| *id);
        PartitionState {
            topic_id,
            partition,
            log_start: self.log_start,
            end: self.end,
            producers,
            open: self.open.iter().map(|(id, first)| (*id, *first)).collect(),
            aborted: self.aborted.clone(),
        }
    }

    pub fn last_stable(&self) -> Offset {
        self.open.values().copied().min().unwrap_or(self.end).min(self.end)
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
        if let Some(known) = same {
            return Ok(Judgement::Duplicate {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
                commit: known.commit,
            });
        }
        let Some(last) = producer.batches.back() else { return Ok(Judgement::Append) };
        let expected = if last.last_sequence == i32::MAX { 0 } else { last.last_sequence + 1 };
        if header.base_sequence != expected {
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

    /// Remembers a batch that was staged in `commit`; its offsets are in the header.
    pub fn stage(&mut self, header: &BatchHeader, commit: u64) {
        self.next = header.last_offset() + 1;
        if !header.has_producer() {
            return;
        }
        let producer = self.producers.entry(header.producer_id).or_default();
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

    /// Makes a batch that is on disk visible. `committed` is what an end-of-transaction marker says.
    pub fn commit(&mut self, header: &BatchHeader, place: BatchPlace, committed: Option<bool>) {
        self.end = header.last_offset() + 1;
        self.batches.push_back(place);
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

    /// Forgets what lies below `offset`; whole batches only, readers are told the exact start.
    pub fn delete_before(&mut self, offset: Offset) {
        self.log_start = self.log_start.max(offset);
        while self.batches.front().is_some_and(|batch| batch.last_offset < self.log_start) {
            self.batches.pop_front();
        }
        self.aborted.retain(|aborted| aborted.last_offset >= self.log_start);
    }

    /// Index of the batch that holds `offset`, or of the first after it.
    pub fn batch_at(&self, offset: Offset) -> usize {
        self.batches.partition_point(|batch| batch.last_offset < offset)
    }

    /// Aborted transactions with records in `[from, to)`.
    pub fn aborted_between(&self, from: Offset, to: Offset) -> Vec<Aborted> {
        self.aborted.iter().filter(|a| a.last_offset >= from && a.first_offset < to).copied().collect()
    }
}

/// Reads what a control batch says; data batches say nothing.
pub fn marker(header: &BatchHeader, batch: &[u8]) -> Option<bool> {
    if !header.is_control() {
        return None;
    }
    headwater_wire::batch::marker_is_commit(&Bytes::copy_from_slice(batch))
}
