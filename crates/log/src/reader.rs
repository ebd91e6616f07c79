//! Reading what is committed, from any thread, without waiting for the appender's disk.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use headwater_model::{Offset, TimestampMs};
use headwater_wire::{BatchHeader, batch};

use crate::disk::{Disk, DiskFile};
use crate::log::{Shared, lock, read};
use crate::partition::{BatchPlace, Partition};
use crate::{AbortedTransaction, Fetched, Isolation, LogError, Offsets, PartitionId};

/// A cheap handle; each partition has its own lock, held for an index lookup only.
pub struct Reader<D: Disk> {
    shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// The batches to read from `offset` on: at least one when there is any, else up to `max_bytes`.
fn wanted(
    partition: &Partition,
    id: PartitionId,
    offset: Offset,
    max_bytes: usize,
    isolation: Isolation,
) -> Result<impl Iterator<Item = &BatchPlace>, LogError> {
    let (log_start, end) = (partition.log_start, partition.end);
    if offset < log_start || offset > end {
        return Err(LogError::OffsetOutOfRange { partition: id, offset, log_start, end });
    }
    let limit = if isolation == Isolation::Committed { partition.last_stable() } else { end };
    let mut size = 0;
    let batches = partition.batches.range(partition.batch_at(offset)..);
    Ok(batches.take_while(move |batch| {
        let first = size == 0;
        size += batch.size as usize;
        batch.base_offset < limit && (first || size <= max_bytes)
    }))
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    fn find(&self, id: PartitionId) -> Result<Arc<Mutex<Partition>>, LogError> {
        read(&self.shared.partitions).get(&id).cloned().ok_or(LogError::UnknownPartition(id))
    }

    pub fn offsets(&self, id: PartitionId) -> Result<Offsets, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        Ok(Offsets {
            log_start: partition.log_start,
            high_watermark: partition.end,
            last_stable: partition.last_stable(),
        })
    }

    /// Bytes of batches that can be read, headers included.
    pub fn size(&self, id: PartitionId) -> Result<u64, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        Ok(partition.batches.iter().map(|batch| u64::from(batch.size)).sum())
    }

    /// Whole batches from the one that holds `offset`, at least one when there is any, else up to
    /// `max_bytes`. At the end of the log the records are empty.
    pub fn read(
        &self,
        id: PartitionId,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Fetched, LogError> {
        let partition = self.find(id)?;
        let (mut fetched, places) = {
            let partition = lock(&partition);
            let places: Vec<BatchPlace> =
                wanted(&partition, id, offset, max_bytes, isolation)?.copied().collect();
            let aborted = match (isolation, places.last()) {
                (Isolation::Committed, Some(last)) => partition.aborted_between(offset, last.last_offset + 1),
                _ => Vec::new(),
            };
            let aborted = aborted
                .into_iter()
                .map(|a| AbortedTransaction { producer_id: a.producer_id, first_offset: a.first_offset })
                .collect();
            let fetched = Fetched {
                high_watermark: partition.end,
                last_stable_offset: partition.last_stable(),
                log_start_offset: partition.log_start,
                records: Bytes::new(),
                aborted,
            };
            (fetched, places)
        };
        fetched.records = self.load(id, &places)?;
        Ok(fetched)
    }

    /// How many bytes [`Self::read`] would return.
    pub fn available(
        &self,
        id: PartitionId,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<usize, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        let wanted = wanted(&partition, id, offset, max_bytes, isolation)?;
        Ok(wanted.map(|batch| batch.size as usize).sum())
    }

    fn load(&self, id: PartitionId, places: &[BatchPlace]) -> Result<Bytes, LogError> {
        let mut records = BytesMut::zeroed(places.iter().map(|place| place.size as usize).sum());
        let mut filled = 0;
        for place in places {
            let file = read(&self.shared.files).get(&place.file).cloned();
            // The file went between the lookup and now: the partition was trimmed meanwhile.
            let file = file.ok_or(LogError::UnknownPartition(id))?;
            let end = filled + place.size as usize;
            file.read_exact_at(&mut records[filled..end], place.position)?;
            filled = end;
        }
        Ok(records.freeze())
    }

    /// The first record at or after a point in time: its offset and timestamp (KIP-79).
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let (log_start, candidates) = {
            let partition = lock(&partition);
            let candidates: Vec<BatchPlace> = partition
                .batches
                .iter()
                .filter(|batch| batch.max_timestamp >= timestamp)
                .take(8)
                .copied()
                .collect();
            (partition.log_start, candidates)
        };
        for place in candidates {
            let bytes = self.load(id, &[place])?;
            let header = BatchHeader::read(&bytes)?;
            if header.is_control() || header.is_log_append_time() {
                return Ok(Some((place.base_offset.max(log_start), header.max_timestamp)));
            }
            let found = batch::decode(&header, &bytes)?
                .into_iter()
                .find(|record| record.timestamp >= timestamp && record.offset >= log_start);
            if let Some(record) = found {
                return Ok(Some((record.offset, record.timestamp)));
            }
        }
        Ok(None)
    }

    /// The record with the greatest timestamp (KIP-734).
    pub fn max_timestamp_offset(&self, id: PartitionId) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let place = lock(&partition).batches.iter().rev().max_by_key(|batch| batch.max_timestamp).copied();
        let Some(place) = place else { return Ok(None) };
        let bytes = self.load(id, &[place])?;
        let header = BatchHeader::read(&bytes)?;
        let records = if header.is_control() { Vec::new() } else { batch::decode(&header, &bytes)? };
        let latest = records.into_iter().rev().max_by_key(|record| record.timestamp);
        Ok(Some(
            latest
                .map_or((place.last_offset, place.max_timestamp), |record| (record.offset, record.timestamp)),
        ))
    }
}
