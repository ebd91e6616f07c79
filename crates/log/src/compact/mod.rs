//! Compaction: of every key only the last record stays, as Kafka's log cleaner does it (KIP-98, KIP-534).
//!
//! A cleaning reads the log twice. The [`Survey`] reads the dirty range and remembers the last offset of
//! every key, as far as its memory goes. The [`Cleaner`] reads from the log's start to where the survey
//! ended, and says of every batch whether it stays, shrinks or goes. Both are fed batches in offset order
//! and do no I/O; what is rewritten must replace the old batches in offset order too, so that a crash
//! between two replacements never leaves a superseded record whose tombstone is gone.
//!
//! Invariant: a reader of committed records who folds the log into a table gets the same table before
//! and after; offsets of what stays are what they were, and the last offset of the range never goes.

mod clean;
mod hash;
mod map;
pub mod policy;
mod survey;
mod transactions;

use headwater_model::Offset;
use headwater_wire::filter::{RecordSpan, RecordView, read_checked};
use headwater_wire::{BatchError, BatchHeader};
use thiserror::Error;

pub use clean::{ActiveProducers, CleanSettings, Cleaner, LastBatch, Outcome, Statistics};
pub use map::{KeyHash, OffsetMap};
pub use survey::{Progress, Survey, Surveyed};
pub use transactions::AbortedRange;

#[derive(Debug, Error)]
pub enum CompactError {
    #[error(
        "clean the log: the batch at offset {at} or after it is damaged; leave the partition as it is and restore it from a copy"
    )]
    Damaged { at: Offset, source: BatchError },
    #[error("clean the log: a batch from offset {base_offset} comes where {expected} or later was due")]
    OutOfOrder { base_offset: Offset, expected: Offset },
    #[error("clean the log: {bytes} bytes hold no key; give the offset map at least {needed}")]
    MapTooSmall { bytes: usize, needed: usize },
}

/// What is remembered of a record between looking at a batch and judging it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    key: Option<KeyHash>,
    offset: Offset,
    has_value: bool,
    span: RecordSpan,
}

impl Seen {
    #[inline]
    fn of(record: &RecordView<'_>, map: &OffsetMap) -> Self {
        let key = record.key.map(|key| map.hash(key));
        Self { key, offset: record.offset, has_value: record.value.is_some(), span: record.span }
    }
}

/// Reads the batch's header and sees that it comes after everything before it.
fn next_batch(bytes: &[u8], expected: Offset) -> Result<BatchHeader, CompactError> {
    let header = read_checked(bytes).map_err(|source| CompactError::Damaged { at: expected, source })?;
    if header.base_offset < expected {
        return Err(CompactError::OutOfOrder { base_offset: header.base_offset, expected });
    }
    Ok(header)
}
