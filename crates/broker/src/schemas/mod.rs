//! What the registry knows, as the broker needs it to judge records: followed on `_schemas`, the registry's own topic.
//!
//! Nothing is read before a topic asks for it. Invariant: records are judged by all that `_schemas` held when they
//! came, so that what is registered is accepted at once and what is deleted no longer.

mod fold;
mod judge;

use std::sync::{PoisonError, RwLock};

use headwater_coordinator::TopicId;
use headwater_log::{Isolation, LogError, PartitionId, Reader};
use headwater_model::Offset;
use headwater_wire::{BatchError, BatchHeader, batch};
use thiserror::Error;

use crate::catalog::Catalog;
use crate::mirror::LogDisk;
use fold::Fold;

pub use judge::Judge;

/// Confluent's name of the registry's topic.
pub const TOPIC: &str = "_schemas";
const READ_BYTES: usize = 1 << 20;

/// Why it cannot be known which schemas there are.
#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("the schemas in {TOPIC} cannot be read: {0}")]
    Log(#[from] LogError),
    #[error("the schemas in {TOPIC} cannot be read: {0}")]
    Batch(#[from] BatchError),
}

#[derive(Default)]
pub struct Schemas {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// The topic that was read: another one of its name begins anew.
    topic: Option<TopicId>,
    next: Offset,
    fold: Fold,
}

impl Schemas {
    /// Looks at what there is now.
    fn look<T>(
        &self,
        catalog: &Catalog,
        reader: &Reader<LogDisk>,
        look: impl Fn(&Fold) -> T,
    ) -> Result<T, Unreadable> {
        let place = catalog.by_name(TOPIC).and_then(|topic| topic.partition(0));
        let end = place.map(|place| reader.offsets(place)).transpose()?.map(|offsets| offsets.high_watermark);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.topic == place.map(|place| place.topic_id) && end.is_none_or(|end| known.next >= end) {
            return Ok(look(&known.fold));
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.follow(place, reader)?;
        Ok(look(&known.fold))
    }
}

impl Known {
    fn follow(&mut self, place: Option<PartitionId>, reader: &Reader<LogDisk>) -> Result<(), Unreadable> {
        let Some(place) = place else {
            *self = Self::default();
            return Ok(());
        };
        if self.topic != Some(place.topic_id) {
            *self = Self { topic: Some(place.topic_id), ..Self::default() };
        }
        let offsets = reader.offsets(place)?;
        self.next = self.next.max(offsets.log_start);
        while self.next < offsets.high_watermark {
            let mut bytes = reader.read(place, self.next, READ_BYTES, Isolation::Uncommitted)?.records;
            if bytes.is_empty() {
                // What was here is compacted away to the end.
                self.next = offsets.high_watermark;
            }
            while !bytes.is_empty() {
                let header = BatchHeader::read(&bytes)?;
                let of_batch = bytes.split_to(header.size);
                if !header.is_control() {
                    for record in batch::decode(&header, &of_batch)? {
                        self.fold.apply(record.key.as_deref(), record.value.as_deref());
                    }
                }
                self.next = header.last_offset() + 1;
            }
        }
        Ok(())
    }
}
