//! Offsets by the time of their records.

use headwater_model::{Offset, TimestampMs};
use headwater_wire::{BatchHeader, batch};

use super::Reader;
use crate::disk::Disk;
use crate::log::lock;
use crate::place::{BatchPlace, Extent, FileId};
use crate::{LogError, PartitionId};

impl<D: Disk> Reader<D> {
    /// The first record at or after a point in time: its offset and timestamp (KIP-79).
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let (log_start, extents, recent) = {
            let known = lock(&partition);
            let candidates = known.extents.iter().filter(|extent| extent.max_timestamp >= timestamp);
            let recent = known.recent.iter().filter(|place| place.max_timestamp >= timestamp);
            let recent: Vec<BatchPlace> = recent.take(8).copied().collect();
            (known.log_start, candidates.copied().collect::<Vec<_>>(), recent)
        };
        for extent in extents {
            let mut candidates = Vec::new();
            let mut keep = |places: &[BatchPlace]| {
                let late =
                    |place: &&BatchPlace| place.max_timestamp >= timestamp && place.last_offset >= log_start;
                candidates.extend(places.iter().filter(late).take(8).copied());
                !candidates.is_empty()
            };
            match recent.first().filter(|place| (extent.first..=extent.last).contains(&place.base_offset)) {
                Some(_) => drop(keep(&recent)),
                None => self.places_at(id, &extent, timestamp, keep)?,
            }
            for place in candidates {
                if let Some(found) = self.record_at(extent.file, place, log_start, timestamp)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn places_at(
        &self,
        id: PartitionId,
        extent: &Extent,
        timestamp: TimestampMs,
        mut keep: impl FnMut(&[BatchPlace]) -> bool,
    ) -> Result<(), LogError> {
        let key = (extent.file, id);
        if self.shared.indexes.at_time(&*self.shared.disk, key, extent.batches, timestamp, &mut keep).is_ok()
        {
            return Ok(());
        }
        self.places(id, extent, extent.first, keep)
    }

    fn record_at(
        &self,
        file: FileId,
        place: BatchPlace,
        log_start: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let bytes = self.batch(file, &place)?;
        let header = BatchHeader::read(&bytes)?;
        if header.is_control() || header.is_log_append_time() {
            return Ok(Some((place.base_offset.max(log_start), header.max_timestamp)));
        }
        let records = batch::decode(&header, &bytes)?;
        let found = records.into_iter().find(|r| r.timestamp >= timestamp && r.offset >= log_start);
        Ok(found.map(|record| (record.offset, record.timestamp)))
    }

    /// The record with the greatest timestamp (KIP-734).
    pub fn max_timestamp_offset(&self, id: PartitionId) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let latest = lock(&partition).extents.iter().map(|extent| extent.max_timestamp).max();
        match latest {
            Some(latest) => self.offset_for_time(id, latest),
            None => Ok(None),
        }
    }
}
