//! The broker's own partition: the coordinator's records, in the same log as everybody's data.
//!
//! A record is the value of a record in a batch, as `StateRecord::encode` writes it. From time to time a
//! snapshot of the whole state follows the records it replaces; when it is on disk, what lies before goes.
//! Replaying records and then a snapshot of what they led to changes nothing, so a crash between the two is
//! harmless.

use headwater_coordinator::{Coordinator, StateRecord};
use headwater_log::{Durability, Isolation, Log, LogError, Origin, PartitionId};
use headwater_model::{Offset, TimestampMs};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, batch};

use crate::error::StateError;
use crate::mirror::LogDisk;

/// Not a UUID of version 4, so no topic has it.
pub const PARTITION: PartitionId = PartitionId { topic_id: *b"headwater\0state\0", partition: 0 };
/// A batch of records is closed when it has grown to so much.
const BATCH_BYTES: usize = 1 << 20;
const REPLAY_BYTES: usize = 4 << 20;
/// A snapshot is due after so many bytes of records, or of anything: an old record keeps its file alive.
const RECORDS_BYTES: u64 = 4 << 20;
const LOG_BYTES: u64 = 64 << 20;
/// A snapshot costs at most this part of what was written since the one before.
const SNAPSHOT_SHARE: u64 = 4;

#[derive(Default)]
pub struct State {
    pending: BatchBuilder,
    /// Bytes since the last snapshot: of records, and of the whole log.
    records: u64,
    log: u64,
    snapshot: u64,
}

impl State {
    /// Keeps a record for the next commit; a large batch is staged at once.
    pub fn push(
        &mut self,
        log: &mut Log<LogDisk>,
        record: &StateRecord,
        now: TimestampMs,
    ) -> Result<(), LogError> {
        self.pending.push(now, None, Some(&record.encode()), &[]);
        if self.pending.size() >= BATCH_BYTES { self.stage(log, now).map(drop) } else { Ok(()) }
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Stages what was kept, and a snapshot when it is due; returns where the snapshot begins.
    pub fn flush(
        &mut self,
        log: &mut Log<LogDisk>,
        coordinator: &Coordinator,
        now: TimestampMs,
    ) -> Result<Option<Offset>, LogError> {
        self.stage(log, now)?;
        self.log += log.staged_bytes() as u64;
        let share = self.snapshot.saturating_mul(SNAPSHOT_SHARE);
        let due =
            self.records > RECORDS_BYTES.max(share) || (self.records > 0 && self.log > LOG_BYTES.max(share));
        if !due {
            return Ok(None);
        }
        self.records = 0;
        let mut first = None;
        for record in coordinator.snapshot() {
            self.pending.push(now, None, Some(&record.encode()), &[]);
            if self.pending.size() >= BATCH_BYTES {
                first = first.or(self.stage(log, now)?);
            }
        }
        first = first.or(self.stage(log, now)?);
        self.snapshot = std::mem::take(&mut self.records);
        self.log = 0;
        Ok(first)
    }

    fn stage(&mut self, log: &mut Log<LogDisk>, now: TimestampMs) -> Result<Option<Offset>, LogError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let bytes =
            self.pending.build(Compression::None, None, false).map_err(headwater_wire::BatchError::from)?;
        self.records += bytes.len() as u64;
        Ok(Some(log.append(PARTITION, &bytes, Origin::Broker, Durability::Synced, now)?.base_offset))
    }

    /// Brings the coordinator back from the partition, which must exist.
    pub fn replay(
        log: &Log<LogDisk>,
        coordinator: &mut Coordinator,
        now: TimestampMs,
        mut each: impl FnMut(&StateRecord),
    ) -> Result<Self, StateError> {
        let reader = log.reader();
        let offsets = reader.offsets(PARTITION)?;
        let (mut at, end) = (offsets.log_start, offsets.high_watermark);
        let mut records = 0;
        while at < end {
            let mut bytes = reader.read(PARTITION, at, REPLAY_BYTES, Isolation::Uncommitted)?.records;
            records += bytes.len() as u64;
            while !bytes.is_empty() {
                let header = BatchHeader::read(&bytes)?;
                let of_batch = bytes.split_to(header.size);
                // A file with a saved index was not scanned, so nobody has looked at these bytes yet.
                header.verify(&of_batch)?;
                for record in batch::decode(&header, &of_batch)? {
                    let value = record.value.ok_or(StateError::Empty(record.offset))?;
                    let state = StateRecord::decode(&value)?;
                    each(&state);
                    coordinator.apply(&state, now);
                }
                at = header.last_offset() + 1;
            }
        }
        Ok(Self { records, ..Self::default() })
    }
}
