//! Reads what may be acquired, and leaves out what nobody gets: markers, and aborted records under read_committed.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use headwater_coordinator::{ReadBatch, ReadBatches, ShareIsolation};
use headwater_log::{Fetched, FileId, Isolation, LogError, PartitionId, Reader};
use headwater_model::Offset;
use headwater_wire::{BatchHeader, ErrorCode, batch};

use crate::mirror::LogDisk;

/// So much is read at once: how many records that is shows only then.
const CHUNK: usize = 256 << 10;

/// What all partitions of a request may have together.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub bytes: usize,
    pub records: i64,
}

/// What the log of one partition holds from an offset on.
pub struct Batches {
    pub read: ReadBatches,
    /// The bytes of each batch.
    bytes: Vec<Bytes>,
}

impl Batches {
    /// All bytes that were read.
    pub fn length(&self) -> usize {
        self.bytes.iter().map(Bytes::len).sum()
    }

    /// Offsets of records that somebody may get.
    pub fn records(&self) -> i64 {
        let wanted = self.read.batches.iter().filter(|batch| !batch.skipped);
        wanted.map(|batch| batch.last - batch.first.max(self.read.from) + 1).sum()
    }

    /// The bytes of those batches that have one of these offsets.
    pub fn of(&self, ranges: &[(Offset, Offset)]) -> Bytes {
        let wanted = |batch: &ReadBatch| {
            ranges.iter().any(|(first, last)| batch.first <= *last && *first <= batch.last)
        };
        let chosen = self.read.batches.iter().zip(&self.bytes).filter(|(batch, _)| wanted(batch));
        let mut chosen: Vec<&Bytes> = chosen.map(|(_, bytes)| bytes).collect();
        match chosen.pop() {
            Some(only) if chosen.is_empty() => only.clone(),
            last => {
                chosen.extend(last);
                let mut all = BytesMut::with_capacity(chosen.iter().map(|bytes| bytes.len()).sum());
                chosen.into_iter().for_each(|bytes| all.extend_from_slice(bytes));
                all.freeze()
            }
        }
    }
}

pub fn isolation(share: ShareIsolation) -> Isolation {
    match share {
        ShareIsolation::Committed => Isolation::Committed,
        ShareIsolation::Uncommitted => Isolation::Uncommitted,
    }
}

/// Why nothing was read.
pub enum Unread {
    /// It is in a file that is not here.
    Far(FileId),
    Refused(ErrorCode),
}

/// Reads until the budget is used up or there is no more.
pub fn read(
    reader: &Reader<LogDisk>,
    place: PartitionId,
    from: Offset,
    isolation: Isolation,
    budget: &mut Budget,
) -> Result<Batches, Unread> {
    let mut all = Batches { read: ReadBatches { from, batches: Vec::new() }, bytes: Vec::new() };
    let mut at = from;
    while budget.bytes > 0 && budget.records > 0 {
        let most = budget.bytes.min(CHUNK);
        let fetched = match reader.read(place, at, most, isolation) {
            Ok(fetched) => fetched,
            // What is here is given now, and what is wrong with the rest is said when that is asked for.
            Err(_) if !all.bytes.is_empty() => break,
            Err(LogError::Far { id, .. }) => return Err(Unread::Far(id)),
            Err(error) => return Err(Unread::Refused(code(&error))),
        };
        if fetched.records.is_empty() {
            break;
        }
        budget.bytes = budget.bytes.saturating_sub(fetched.records.len());
        at = all.take(fetched, at, budget).map_err(|()| Unread::Refused(ErrorCode::CorruptMessage))?;
    }
    Ok(all)
}

impl Batches {
    /// Adds what was read; returns where it ends.
    fn take(&mut self, fetched: Fetched, from: Offset, budget: &mut Budget) -> Result<Offset, ()> {
        let Fetched { mut records, aborted, .. } = fetched;
        let mut ended = BTreeSet::new();
        let mut end = from;
        while !records.is_empty() {
            let header = BatchHeader::read(&records).map_err(drop)?;
            let bytes = records.split_to(header.size);
            let (first, last) = (header.base_offset, header.last_offset());
            let transaction = |one: &&headwater_log::AbortedTransaction| {
                one.producer_id == header.producer_id
                    && one.first_offset <= first
                    && !ended.contains(&(one.producer_id, one.first_offset))
            };
            let open =
                aborted.iter().filter(transaction).map(|one| (one.producer_id, one.first_offset)).next();
            let skipped = header.is_control() || (header.is_transactional() && open.is_some());
            if header.is_control() && batch::marker_is_commit(&bytes) == Some(false) {
                ended.extend(open);
            }
            if !skipped {
                budget.records -= last - first.max(from) + 1;
            }
            self.read.batches.push(ReadBatch { first, last, skipped });
            self.bytes.push(bytes);
            end = last + 1;
        }
        Ok(end)
    }
}

pub fn code(error: &LogError) -> ErrorCode {
    match error {
        LogError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::Damaged { .. } => ErrorCode::CorruptMessage,
        error => {
            tracing::error!(%error, "the log cannot be read");
            ErrorCode::KafkaStorageError
        }
    }
}
