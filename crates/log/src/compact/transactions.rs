//! Which batches an aborted transaction wrote.

use std::collections::{HashMap, VecDeque};

use headwater_model::Offset;
use headwater_wire::BatchHeader;

/// The batches of `producer_id` from `first_offset` to the abort marker at `last_offset` are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedRange {
    pub producer_id: i64,
    pub first_offset: Offset,
    pub last_offset: Offset,
}

/// The aborted transactions of a log, asked of batches in offset order.
///
/// A range ends at its own last offset, not at the marker that is read: a marker may have been cleaned
/// away, and what the producer wrote after it counts.
#[derive(Debug)]
pub struct Aborted {
    ranges: HashMap<i64, VecDeque<AbortedRange>>,
}

impl Aborted {
    pub fn new(ranges: &[AbortedRange]) -> Self {
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable_by_key(|range| range.first_offset);
        let mut ranges: HashMap<i64, VecDeque<AbortedRange>> = HashMap::new();
        for range in sorted {
            ranges.entry(range.producer_id).or_default().push_back(range);
        }
        Self { ranges }
    }

    /// The aborted transaction that wrote the batch.
    pub fn holding(&mut self, header: &BatchHeader) -> Option<AbortedRange> {
        if !header.is_transactional() {
            return None;
        }
        let ranges = self.ranges.get_mut(&header.producer_id)?;
        while ranges.front().is_some_and(|range| range.last_offset < header.base_offset) {
            ranges.pop_front();
        }
        ranges.front().filter(|range| range.first_offset <= header.base_offset).copied()
    }

    /// Those that end at `offset` or later.
    pub fn ending_from(&self, offset: Offset) -> impl Iterator<Item = AbortedRange> {
        self.ranges.values().flatten().filter(move |range| range.last_offset >= offset).copied()
    }
}
