//! Offsets by the time of their records.

use std::sync::Mutex;

use headwater_model::{Offset, TimestampMs};
use headwater_wire::{BatchHeader, batch};

use super::Reader;
use crate::disk::Disk;
use crate::log::lock;
use crate::partition::Partition;
use crate::place::{BatchPlace, Extent, FileId};
use crate::{LogError, PartitionId};

/// So many batches are looked into before others are looked for.
const LOOKED_AT: usize = 8;

impl<D: Disk> Reader<D> {
    /// The first record at or after a point in time: its offset and timestamp (KIP-79).
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let log_start = lock(&partition).log_start;
        self.first_since(&partition, id, timestamp, log_start)
    }

    /// The first record from an offset on that is not before a point in time.
    fn first_since(
        &self,
        partition: &Mutex<Partition>,
        id: PartitionId,
        timestamp: TimestampMs,
        start: Offset,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let extents: Vec<_> = {
            let known = lock(partition);
            known.extents.iter().filter(|extent| extent.max_timestamp >= timestamp).copied().collect()
        };
        for extent in extents {
            let mut from = start;
            loop {
                let late = self.late(partition, id, &extent, timestamp, from)?;
                for place in &late {
                    if let Some(found) = self.record_at((id, extent.file), *place, start, timestamp)? {
                        return Ok(Some(found));
                    }
                }
                // None of them has what it says that it has.
                let Some(last) = late.last() else { break };
                from = last.last_offset + 1;
            }
        }
        Ok(None)
    }

    /// The first batches from an offset on that say that they have records at or after a point in time.
    fn late(
        &self,
        partition: &Mutex<Partition>,
        id: PartitionId,
        extent: &Extent,
        timestamp: TimestampMs,
        from: Offset,
    ) -> Result<Vec<BatchPlace>, LogError> {
        let is_late = |place: &&BatchPlace| place.max_timestamp >= timestamp && place.last_offset >= from;
        let known = lock(partition);
        let is_here = |place: &BatchPlace| (extent.first..=extent.last).contains(&place.base_offset);
        if known.recent.first().is_some_and(is_here) {
            return Ok(known.recent.iter().filter(is_late).take(LOOKED_AT).copied().collect());
        }
        drop(known);
        let mut late = Vec::new();
        let keep = |places: &[BatchPlace]| {
            late.extend(places.iter().filter(is_late).take(LOOKED_AT).copied());
            !late.is_empty()
        };
        self.places_at(id, extent, (timestamp, from), keep)?;
        Ok(late)
    }

    fn places_at(
        &self,
        id: PartitionId,
        extent: &Extent,
        (timestamp, from): (TimestampMs, Offset),
        mut keep: impl FnMut(&[BatchPlace]) -> bool,
    ) -> Result<(), LogError> {
        let key = (extent.file, id);
        if self.shared.indexes.at_time(&*self.shared.disk, key, extent.batches, timestamp, &mut keep).is_ok()
        {
            return Ok(());
        }
        self.places(id, extent, from.max(extent.first), keep)
    }

    /// # Errors
    /// `Damaged`: nobody knows which times are in it.
    fn record_at(
        &self,
        (id, file): (PartitionId, FileId),
        place: BatchPlace,
        start: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let bytes = self.batch(file, &place)?;
        if !place.holds(&bytes) {
            return Err(self.damaged(id, file, &place));
        }
        let header = BatchHeader::read(&bytes)?;
        let whole = Some((place.base_offset.max(start), header.max_timestamp));
        if header.is_control() || header.is_log_append_time() {
            return Ok(whole);
        }
        // What its producer has packed so that nobody unpacks it, or too much of it, is known by its header: who looks
        // for a time in it would else look for ever.
        let Ok(records) = batch::decode(&header, &bytes) else { return Ok(whole) };
        let found = records.into_iter().find(|r| r.timestamp >= timestamp && r.offset >= start);
        Ok(found.map(|record| (record.offset, record.timestamp)))
    }

    /// The record with the greatest timestamp (KIP-734). Where it was cut off and its batch is still there, it is told as
    /// in Apache Kafka, although nobody can read it.
    pub fn max_timestamp_offset(&self, id: PartitionId) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let (log_start, latest) = {
            let known = lock(&partition);
            (known.log_start, known.extents.iter().map(|extent| extent.max_timestamp).max())
        };
        let Some(latest) = latest else { return Ok(None) };
        match self.first_since(&partition, id, latest, log_start)? {
            None if log_start > 0 => self.first_since(&partition, id, latest, 0),
            found => Ok(found),
        }
    }
}
