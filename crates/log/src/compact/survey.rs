//! The first pass: the last offset of every key in the dirty range.

use headwater_model::Offset;
use headwater_wire::filter::OpenBatch;

use super::transactions::{Aborted, AbortedRange};
use super::{CompactError, OffsetMap, Seen, next_batch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The map holds no more keys; it is complete for what lies below `end`, and takes no more batches.
    Full {
        end: Offset,
    },
}

/// What a survey found: the last offset of every key with a record in the dirty range.
#[derive(Debug)]
pub struct Surveyed {
    pub map: OffsetMap,
    /// Cleaning covers what lies below; the next cleaning's dirty range begins here.
    pub end: Offset,
    /// Records in the dirty range that have no key.
    pub keyless: u64,
}

#[derive(Debug)]
pub struct Survey {
    map: OffsetMap,
    first_dirty: Offset,
    end: Offset,
    full: bool,
    keyless: u64,
    aborted: Aborted,
    seen: Vec<Seen>,
}

impl Survey {
    /// `first_dirty` is where the last cleaning ended; `aborted` names every aborted transaction with
    /// records in the dirty range, in any order.
    pub fn new(map: OffsetMap, first_dirty: Offset, aborted: &[AbortedRange]) -> Self {
        let aborted = Aborted::new(aborted);
        Self { map, first_dirty, end: first_dirty, full: false, keyless: 0, aborted, seen: Vec::new() }
    }

    /// Takes the next batch; the first is the one that holds the first dirty offset.
    ///
    /// All of its transactions must have ended: feed nothing from the last stable offset on.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Progress, CompactError> {
        if self.full {
            return Ok(Progress::Full { end: self.end });
        }
        let first = self.end == self.first_dirty;
        let header = next_batch(bytes, if first { 0 } else { self.end })?;
        if !header.is_control() && self.aborted.holding(&header).is_none() {
            self.seen.clear();
            let (map, seen) = (&self.map, &mut self.seen);
            OpenBatch::decompress(header, bytes)
                .and_then(|open| open.visit(|record| seen.push(Seen::of(&record, map))))
                .map_err(|source| CompactError::Damaged { at: header.base_offset, source })?;
            if let Some(end) = self.insert_seen() {
                (self.end, self.full) = (end, true);
                return Ok(Progress::Full { end });
            }
        }
        self.end = self.end.max(header.last_offset() + 1);
        Ok(Progress::More)
    }

    /// Ends the survey; nothing of the log was changed.
    pub fn finish(self) -> Surveyed {
        Surveyed { map: self.map, end: self.end, keyless: self.keyless }
    }

    /// The offset of the first record that did not fit.
    fn insert_seen(&mut self) -> Option<Offset> {
        for record in self.seen.iter().filter(|record| record.offset >= self.first_dirty) {
            match record.key {
                Some(key) if !self.map.insert(key, record.offset) => return Some(record.offset),
                Some(_) => {}
                None => self.keyless += 1,
            }
        }
        None
    }
}
