//! `retention.ms` and `retention.bytes`.

use headwater_coordinator::TopicSettings;
use headwater_log::retention::{RetentionLimits, StoredBatch, retained_from};
use headwater_log::{BatchPlace, Extent, PartitionId};

use super::{CleanError, Cleaner};

impl Cleaner {
    pub(super) fn retain(&mut self, id: PartitionId, settings: &TopicSettings) -> Result<(), CleanError> {
        let limits = RetentionLimits {
            ms: (settings.retention_ms >= 0).then_some(settings.retention_ms),
            bytes: u64::try_from(settings.retention_bytes).ok(),
        };
        if limits == RetentionLimits::default() {
            return Ok(());
        }
        let usage = self.cleaning.reader.usage(id)?;
        let (now, limit, before) = (self.now(), usage.offsets.last_stable, usage.offsets.log_start);
        let whole = usage.extents.iter().map(of_extent);
        let mut start = retained_from(before, whole, limits, now, limit);
        let rest = usage.extents.iter().position(|extent| extent.last >= start);
        if let Some(at) = rest {
            // Of the first file that is not old as a whole, the old batches go.
            let behind: u64 = usage.extents[at + 1..].iter().map(|extent| extent.bytes).sum();
            let bytes = limits.bytes.map(|bytes| bytes.saturating_sub(behind));
            let places = self.cleaning.reader.places_of(id, &usage.extents[at])?;
            let batches = places.iter().filter(|place| place.last_offset >= start).map(of_place);
            start = retained_from(start, batches, RetentionLimits { bytes, ..limits }, now, limit);
        }
        match start > before {
            true => self.delete_before(id, start, before),
            false => Ok(()),
        }
    }
}

fn of_extent(extent: &Extent) -> StoredBatch {
    StoredBatch { last_offset: extent.last, max_timestamp: extent.max_timestamp, bytes: extent.bytes }
}

fn of_place(place: &BatchPlace) -> StoredBatch {
    StoredBatch {
        last_offset: place.last_offset,
        max_timestamp: place.max_timestamp,
        bytes: u64::from(place.size),
    }
}
