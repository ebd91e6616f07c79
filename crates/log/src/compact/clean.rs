//! The second pass: which records stay.
//!
//! A record goes when a later one of its key is known, when its transaction was aborted, or when it has
//! no key. A tombstone gets a delete horizon in the cleaning that first covers its whole batch, because
//! from then on no older record of its key is left; it goes in a cleaning after the horizon, so a reader
//! who began before has so long to come past it. A marker gets its horizon when nothing of its
//! transaction is left.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use headwater_wire::BatchHeader;
use headwater_wire::filter::{OpenBatch, RecordSpan, emptied};

use super::transactions::{Aborted, AbortedRange};
use super::{CompactError, Seen, Surveyed, next_batch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanSettings {
    pub now: TimestampMs,
    /// How long tombstones and markers stay once they are clean.
    pub delete_retention_ms: i64,
}

/// The last thing an active producer wrote; its batch stays, if only as an empty one, because a restart
/// reads the producer's sequence and epoch from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBatch {
    Data { last_offset: Offset },
    Marker { producer_epoch: i16 },
}

/// By producer id. A log that keeps producers' states elsewhere passes none.
pub type ActiveProducers = HashMap<i64, LastBatch>;

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    AsIs,
    Rewritten(Bytes),
    Dropped,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub batches_in: u64,
    pub batches_out: u64,
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Tombstones whose horizon had passed.
    pub tombstones_dropped: u64,
    /// Records without a key, which a compacted topic cannot hold.
    pub keyless_dropped: u64,
    /// Records of aborted transactions.
    pub aborted_dropped: u64,
    pub markers_dropped: u64,
}

pub struct Cleaner<'a> {
    surveyed: &'a Surveyed,
    settings: CleanSettings,
    aborted: Aborted,
    active: ActiveProducers,
    /// Producers with a transaction of which something was kept and whose marker is still to come.
    with_data: HashSet<i64>,
    /// Aborted transactions of which a batch was kept.
    left: Vec<AbortedRange>,
    next: Offset,
    statistics: Statistics,
    seen: Vec<Seen>,
    kept: Vec<RecordSpan>,
}

impl<'a> Cleaner<'a> {
    /// `aborted` names every aborted transaction with records below the end of the survey.
    pub fn new(
        surveyed: &'a Surveyed,
        settings: CleanSettings,
        aborted: &[AbortedRange],
        active: ActiveProducers,
    ) -> Self {
        Self {
            surveyed,
            settings,
            aborted: Aborted::new(aborted),
            active,
            with_data: HashSet::new(),
            left: Vec::new(),
            next: 0,
            statistics: Statistics::default(),
            seen: Vec::new(),
            kept: Vec::new(),
        }
    }

    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The aborted transactions that readers must still be told of, once the cleaned batches are in place.
    ///
    /// The others must be forgotten: their markers will go, and a reader who is told of an aborted
    /// transaction skips what its producer wrote until it meets the marker.
    pub fn aborted_left(&self) -> Vec<AbortedRange> {
        let judged = self.next.min(self.surveyed.end);
        let mut left = self.left.clone();
        left.extend(self.aborted.ending_from(judged).filter(|range| !self.left.contains(range)));
        left.sort_unstable_by_key(|range| (range.last_offset, range.producer_id));
        left
    }

    /// Judges the next batch, from the log's start on. What lies past the survey's end stays as it is.
    pub fn clean(&mut self, bytes: &[u8]) -> Result<Outcome, CompactError> {
        let header = next_batch(bytes, self.next)?;
        let outcome = if header.base_offset >= self.surveyed.end {
            Outcome::AsIs
        } else if header.is_control() {
            self.clean_marker(&header, bytes)?
        } else {
            self.clean_data(&header, bytes)?
        };
        self.next = header.last_offset() + 1;
        self.count(&header, &outcome);
        Ok(outcome)
    }

    fn clean_data(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<Outcome, CompactError> {
        let aborted = self.aborted.holding(header);
        let outcome = match aborted {
            Some(_) => {
                self.statistics.aborted_dropped += header.record_count as u64;
                self.kept.clear();
                self.without_records(header, bytes)
            }
            None => self.filter(header, bytes)?,
        };
        if let Some(range) =
            aborted.filter(|range| outcome != Outcome::Dropped && self.left.last() != Some(range))
        {
            self.left.push(range);
        }
        if header.is_transactional() && outcome != Outcome::Dropped {
            self.with_data.insert(header.producer_id);
        }
        Ok(outcome)
    }

    fn filter(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<Outcome, CompactError> {
        let damaged = |source| CompactError::Damaged { at: header.base_offset, source };
        let open = OpenBatch::decompress(*header, bytes).map_err(damaged)?;
        self.seen.clear();
        let (map, seen) = (&self.surveyed.map, &mut self.seen);
        open.visit(|record| seen.push(Seen::of(&record, map))).map_err(damaged)?;
        let has_tombstones = self.choose(header);
        if self.kept.is_empty() {
            return Ok(self.without_records(header, bytes));
        }
        let covered = header.last_offset() < self.surveyed.end;
        let horizon = self.new_horizon(header).filter(|_| has_tombstones && covered);
        if horizon.is_none() && self.kept.len() == self.seen.len() {
            return Ok(Outcome::AsIs);
        }
        open.rewrite(&self.kept, horizon).map(Outcome::Rewritten).map_err(damaged)
    }

    /// Fills `kept` from `seen`; true when a tombstone stays.
    fn choose(&mut self, header: &BatchHeader) -> bool {
        let tombstones_go = header.delete_horizon().is_some_and(|horizon| horizon <= self.settings.now);
        let mut has_tombstones = false;
        self.kept.clear();
        for record in &self.seen {
            if record.offset < self.surveyed.end {
                let Some(key) = record.key else {
                    self.statistics.keyless_dropped += 1;
                    continue;
                };
                if self.surveyed.map.last_offset(key).is_some_and(|last| last > record.offset) {
                    continue;
                }
                if !record.has_value && tombstones_go {
                    self.statistics.tombstones_dropped += 1;
                    continue;
                }
            }
            has_tombstones |= !record.has_value;
            self.kept.push(record.span);
        }
        has_tombstones
    }

    /// A marker that must stay stays whole: an empty control batch would say nothing of the transaction.
    fn clean_marker(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<Outcome, CompactError> {
        let damaged = |source| CompactError::Damaged { at: header.base_offset, source };
        let open = OpenBatch::decompress(*header, bytes).map_err(damaged)?;
        let (mut ends_transaction, kept) = (header.record_count == 0, &mut self.kept);
        kept.clear();
        open.visit(|record| {
            ends_transaction |= matches!(record.key, Some([_, _, 0, 0 | 1]));
            kept.push(record.span);
        })
        .map_err(damaged)?;
        if !ends_transaction || self.with_data.remove(&header.producer_id) {
            return Ok(Outcome::AsIs);
        }
        if self.kept.is_empty() {
            return Ok(self.without_records(header, bytes));
        }
        match header.delete_horizon() {
            None => {
                let horizon = self.new_horizon(header);
                open.rewrite(&self.kept, horizon).map(Outcome::Rewritten).map_err(damaged)
            }
            Some(horizon) if horizon <= self.settings.now && !self.must_stay(header) => {
                self.statistics.markers_dropped += 1;
                Ok(Outcome::Dropped)
            }
            Some(_) => Ok(Outcome::AsIs),
        }
    }

    /// The horizon for a batch that has none.
    fn new_horizon(&self, header: &BatchHeader) -> Option<TimestampMs> {
        let horizon = self.settings.now.saturating_add(self.settings.delete_retention_ms.max(0));
        header.delete_horizon().is_none().then_some(horizon)
    }

    fn without_records(&self, header: &BatchHeader, bytes: &[u8]) -> Outcome {
        if !self.must_stay(header) {
            Outcome::Dropped
        } else if header.record_count == 0 {
            Outcome::AsIs
        } else {
            Outcome::Rewritten(emptied(header, bytes))
        }
    }

    fn must_stay(&self, header: &BatchHeader) -> bool {
        let holds_the_end = header.last_offset() + 1 >= self.surveyed.end;
        let last = self.active.get(&header.producer_id).filter(|_| header.has_producer());
        holds_the_end
            || last.is_some_and(|last| match *last {
                LastBatch::Data { last_offset } => header.last_offset() == last_offset,
                LastBatch::Marker { producer_epoch } => {
                    header.is_control() && header.producer_epoch == producer_epoch
                }
            })
    }

    fn count(&mut self, header: &BatchHeader, outcome: &Outcome) {
        let (records, bytes) = match outcome {
            Outcome::AsIs => (header.record_count as u64, header.size),
            Outcome::Rewritten(batch) => (self.kept.len() as u64, batch.len()),
            Outcome::Dropped => (0, 0),
        };
        let statistics = &mut self.statistics;
        statistics.batches_in += 1;
        statistics.batches_out += u64::from(*outcome != Outcome::Dropped);
        statistics.records_in += header.record_count as u64;
        statistics.bytes_in += header.size as u64;
        statistics.records_out += records;
        statistics.bytes_out += bytes as u64;
    }
}
