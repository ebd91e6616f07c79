//! The broker's own partition: the coordinator's records, in the same log as everybody's data.
//!
//! A record is the value of a record in a batch, as `StateRecord::encode` writes it. From time to time a
//! snapshot of the whole state follows the records it replaces, and a trailer that says where it lies. When
//! it is on disk, what lies before the snapshot before it goes. Replaying records and then a snapshot of what
//! they led to changes nothing, so damage within a snapshot costs nothing while what it replaces is whole,
//! and damage before a snapshot costs nothing while that one is.
//!
//! ```text
//! trailer = a record with the key "snapshot" and the value first:i64 last:i64, the snapshot's offsets
//! ```

use headwater_coordinator::{Coordinator, StateRecord};
use headwater_log::{Damage, Durability, Isolation, Log, LogError, Origin, PartitionId, Reader};
use headwater_model::{Offset, Record, TimestampMs};
use headwater_wire::{BatchBuilder, BatchHeader, Compression, batch};

use crate::error::StateError;
use crate::mirror::LogDisk;

pub const PARTITION: PartitionId = headwater_log::BROKER_STATE;
/// A batch of records is closed when it has grown to so much.
const BATCH_BYTES: usize = 1 << 20;
const REPLAY_BYTES: usize = 4 << 20;
const TRAILER: &[u8] = b"snapshot";
/// A snapshot is due after so many bytes of records, or of anything: an old record keeps its file alive.
const RECORDS_BYTES: u64 = 2 << 20;
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
    /// Where the last snapshot begins.
    newest: Option<Offset>,
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

    /// Stages what was kept, and a snapshot when it is due; returns where the snapshot before it begins:
    /// what is below may go when this one is on disk.
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
        let Some(first) = first else { return Ok(None) };
        self.stage_trailer(log, first, now)?;
        Ok(self.newest.replace(first))
    }

    fn stage_trailer(
        &mut self,
        log: &mut Log<LogDisk>,
        first: Offset,
        now: TimestampMs,
    ) -> Result<(), LogError> {
        let last = log.next_offset(PARTITION)? - 1;
        let span = [first.to_be_bytes(), last.to_be_bytes()].concat();
        self.pending.push(now, Some(TRAILER), Some(&span), &[]);
        self.stage(log, now)?;
        // A trailer alone is no reason for another snapshot.
        self.records = 0;
        Ok(())
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

    /// Brings the coordinator back from the partition. Where there is none yet, there is no state.
    ///
    /// # Errors
    /// `Damaged` when something is not readable that no snapshot makes up for.
    pub fn replay(
        reader: &Reader<LogDisk>,
        coordinator: &mut Coordinator,
        now: TimestampMs,
        mut each: impl FnMut(&StateRecord),
    ) -> Result<Self, StateError> {
        if matches!(reader.offsets(PARTITION), Err(LogError::UnknownPartition(_))) {
            return Ok(Self::default());
        }
        let survey = Survey::of(reader)?;
        let base = survey.base()?;
        let mut bytes = 0;
        walk(reader, base, |part| {
            let Part::Batch(records, size) = part else { return Ok(()) };
            bytes += size as u64;
            for record in records.into_iter().filter(|record| record.key.is_none()) {
                let value = record.value.ok_or(StateError::Empty(record.offset))?;
                let state = StateRecord::decode(&value)?;
                each(&state);
                coordinator.apply(&state, now);
            }
            Ok(())
        })?;
        // Another snapshot replaces what is damaged.
        let records = if survey.damaged.is_empty() { bytes } else { u64::MAX / 2 };
        let newest = survey.snapshots.iter().map(|(first, _)| *first).rfind(|first| *first <= base);
        let newest =
            if survey.damaged.is_empty() { survey.snapshots.last().map(|(first, _)| *first) } else { newest };
        Ok(Self { records, newest, ..Self::default() })
    }
}

/// What the partition consists of.
enum Part {
    Batch(Vec<Record>, usize),
    Damaged(Damage),
}

/// The parts from an offset on, in their order.
fn walk(
    reader: &Reader<LogDisk>,
    from: Offset,
    mut each: impl FnMut(Part) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let end = reader.offsets(PARTITION)?.high_watermark;
    let mut at = from;
    while at < end {
        let mut bytes = match reader.read(PARTITION, at, REPLAY_BYTES, Isolation::Uncommitted) {
            Ok(fetched) => fetched.records,
            Err(LogError::Damaged { damage, .. }) => {
                at = damage.last + 1;
                each(Part::Damaged(damage))?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        while !bytes.is_empty() {
            let header = BatchHeader::read(&bytes)?;
            let of_batch = bytes.split_to(header.size);
            // A file with a saved index was not scanned, so nobody has looked at these bytes yet.
            header.verify(&of_batch)?;
            each(Part::Batch(batch::decode(&header, &of_batch)?, header.size))?;
            at = header.last_offset() + 1;
        }
    }
    Ok(())
}

/// What is damaged, and which snapshots are known.
struct Survey {
    log_start: Offset,
    damaged: Vec<Damage>,
    /// First and last offset, in their order.
    snapshots: Vec<(Offset, Offset)>,
}

impl Survey {
    fn of(reader: &Reader<LogDisk>) -> Result<Self, StateError> {
        let log_start = reader.offsets(PARTITION)?.log_start;
        let mut survey = Self { log_start, damaged: Vec::new(), snapshots: Vec::new() };
        walk(reader, log_start, |part| {
            match part {
                Part::Damaged(damage) => survey.damaged.push(damage),
                Part::Batch(records, _) => survey.snapshots.extend(records.iter().filter_map(span)),
            }
            Ok(())
        })?;
        Ok(survey)
    }

    /// From where everything can be known: the newest snapshot with nothing damaged behind it but other
    /// snapshots, which say what is known already.
    fn base(&self) -> Result<Offset, StateError> {
        let Some(last) = self.damaged.last() else { return Ok(self.log_start) };
        let starts = self.snapshots.iter().rev().map(|(first, _)| *first).chain([self.log_start]);
        let is_whole = |base: &Offset| {
            let behind = self.damaged.iter().filter(|damage| damage.last >= *base);
            let made_up_for = |damage: &Damage| {
                self.snapshots
                    .iter()
                    .any(|(first, end)| first > base && *first <= damage.first && damage.last <= *end)
            };
            behind.into_iter().all(made_up_for)
        };
        let base = starts.into_iter().find(is_whole).ok_or(StateError::Damaged(*last))?;
        tracing::error!(
            from = base, damaged = self.damaged.len(), first = self.damaged[0].first, file = %self.damaged[0].file.name(),
            "the broker's own state is damaged; a snapshot has what was lost, so everything is known"
        );
        Ok(base)
    }
}

fn span(record: &Record) -> Option<(Offset, Offset)> {
    record.key.as_deref().filter(|key| *key == TRAILER)?;
    let (first, last) = record.value.as_deref()?.split_at_checked(8)?;
    Some((Offset::from_be_bytes(first.try_into().ok()?), Offset::from_be_bytes(last.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use headwater_log::{Cause, FileId};

    use super::*;

    fn survey(damaged: &[(Offset, Offset)], snapshots: &[(Offset, Offset)]) -> Survey {
        let damage = |&(first, last): &(Offset, Offset)| Damage {
            first,
            last,
            file: FileId::journal(1),
            cause: Cause::Checksum,
        };
        Survey {
            log_start: 100,
            damaged: damaged.iter().map(damage).collect(),
            snapshots: snapshots.to_vec(),
        }
    }

    #[test]
    fn damage_that_a_snapshot_makes_up_for_is_stepped_over() {
        let snapshots = [(100, 109), (200, 219)];
        let base = |damaged: &[(Offset, Offset)]| survey(damaged, &snapshots).base().ok();
        assert_eq!(base(&[]), Some(100), "nothing is skipped without need");
        assert_eq!(base(&[(150, 151)]), Some(200), "before an intact snapshot");
        assert_eq!(base(&[(205, 206)]), Some(100), "within a snapshot of what is whole before it");
        assert_eq!(base(&[(103, 104)]), Some(200));
    }

    #[test]
    fn what_no_snapshot_has_is_refused() {
        let snapshots = [(100, 109), (200, 219)];
        let refused = |damaged: &[(Offset, Offset)]| survey(damaged, &snapshots).base().is_err();
        assert!(refused(&[(230, 230)]), "behind the last snapshot");
        assert!(refused(&[(150, 151), (205, 206)]), "a record, and the snapshot that has it");
        assert!(refused(&[(219, 220)]), "more than the snapshot");
        assert!(survey(&[(120, 120)], &[]).base().is_err(), "no snapshot is known");
    }
}
