//! Files, their saved indexes, and what to do with them after a crash.
//!
//! `NNN.wal` holds frames, `NNN.index` what they hold, written when the file is finished. A finished
//! file with a good index is not read again; every other file is scanned frame by frame.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use headwater_model::Offset;
use headwater_wire::BatchHeader;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile};
use crate::frame::{self, FrameBuilder, FrameHeader, HEADER, Kind};
use crate::log::place;
use crate::partition::{Partition, PartitionState, marker};
use crate::{LogError, PartitionId};

pub fn file_name(number: u64) -> String {
    format!("{number:020}.wal")
}

pub fn index_name(number: u64) -> String {
    format!("{number:020}.index")
}

/// A line of an index: the same as the entry in the frame, with the header alone of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum IndexEntry {
    Create {
        id: PartitionId,
    },
    Delete {
        id: PartitionId,
    },
    LogStart {
        id: PartitionId,
        offset: Offset,
    },
    Batch {
        id: PartitionId,
        position: u64,
        base_offset: Offset,
        last_offset_delta: i32,
        attributes: i16,
        max_timestamp: i64,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        size: u32,
        marker: Option<bool>,
    },
}

impl IndexEntry {
    pub fn batch(id: PartitionId, header: &BatchHeader, marker: Option<bool>, position: u64) -> Self {
        Self::Batch {
            id,
            position,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            attributes: header.attributes,
            max_timestamp: header.max_timestamp,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            size: header.size as u32,
            marker,
        }
    }

    fn header(&self) -> Option<BatchHeader> {
        let Self::Batch {
            base_offset,
            last_offset_delta,
            attributes,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            size,
            ..
        } = *self
        else {
            return None;
        };
        Some(BatchHeader {
            base_offset,
            size: size as usize,
            leader_epoch: 0,
            crc: 0,
            attributes,
            last_offset_delta,
            base_timestamp: max_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: last_offset_delta + 1,
        })
    }
}

pub struct Recovered<D: Disk> {
    pub partitions: HashMap<PartitionId, Partition>,
    pub files: BTreeMap<u64, Arc<D::File>>,
    pub file_number: u64,
    pub file: Arc<D::File>,
    pub position: u64,
    pub index: Vec<IndexEntry>,
    pub next_commit: u64,
    pub scanned_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedIndex {
    /// Sequence of the commit after the file's last one.
    next_commit: u64,
    entries: Vec<IndexEntry>,
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serializing plain data into memory has no way to fail.
    postcard::to_stdvec(value).unwrap_or_default()
}

pub fn state_frame(states: &[PartitionState], sequence: u64) -> Vec<u8> {
    let mut frame = FrameBuilder::new();
    frame.push(Kind::State, PartitionId { topic_id: [0; 16], partition: 0 }, &encode(&states));
    frame.seal(sequence)
}

/// Saves the index of a finished file; losing it costs a scan and nothing else.
pub fn save_index<D: Disk>(
    disk: &D,
    number: u64,
    next_commit: u64,
    entries: Vec<IndexEntry>,
) -> io::Result<()> {
    let body = encode(&SavedIndex { next_commit, entries });
    let mut bytes = Vec::with_capacity(body.len() + 12);
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    let file = disk.create(&index_name(number))?;
    file.write_all_at(&bytes, 0)?;
    file.sync()
}

fn load_index<D: Disk>(disk: &D, number: u64) -> Option<SavedIndex> {
    let file = disk.open(&index_name(number)).ok()?;
    let bytes = read_file(&file).ok()?;
    let length = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let crc = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(12..)?;
    (body.len() as u64 == length && crc32c::crc32c(body) == crc).then(|| postcard::from_bytes(body).ok())?
}

fn read_file(file: &impl DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Brings everything back that was committed, and cuts off what a crash left half-written.
pub fn recover<D: Disk>(disk: &D) -> Result<Recovered<D>, LogError> {
    let mut numbers: Vec<u64> =
        disk.list()?.iter().filter_map(|name| name.strip_suffix(".wal")?.parse().ok()).collect();
    numbers.sort_unstable();
    // A removal that a crash undid may leave old files before a gap; the first file after it knows all.
    let first = (1..numbers.len()).rev().find(|&at| numbers[at - 1] + 1 != numbers[at]).unwrap_or(0);
    let superseded: Vec<u64> = numbers.drain(..first).collect();
    let mut replay =
        Replay::<D> { partitions: HashMap::new(), files: BTreeMap::new(), expected: None, scanned_bytes: 0 };
    let mut tail = None;
    for (at, &number) in numbers.iter().enumerate() {
        let is_last = at + 1 == numbers.len();
        let file = Arc::new(disk.open(&file_name(number))?);
        let index = if is_last { None } else { load_index(disk, number) };
        let (position, entries) = match index {
            Some(saved) => replay.indexed(number, &file, saved)?,
            None => {
                let scanned = replay.scan(number, &file, is_last)?;
                // A process killed between write and sync leaves frames that are whole, but only in memory.
                // Whoever sees them from here on may rely on them.
                file.sync()?;
                scanned
            }
        };
        if position == 0 && !is_last {
            return Err(Replay::<D>::corrupt(number, 0, "it is empty, with more of the log behind it"));
        }
        if position == 0 && tail.is_some() {
            // Its first frame never reached the disk: the file before it is still the last. The removal
            // must last, or a later crash could bring the file back behind a longer predecessor.
            disk.remove(&file_name(number))?;
            disk.sync_directory()?;
            break;
        }
        replay.files.insert(number, Arc::clone(&file));
        tail = Some((number, file, position, entries));
    }
    if let Some(&number) = numbers.first() {
        replay.check_complete(number)?;
    }
    for number in superseded {
        disk.remove(&file_name(number))?;
    }
    disk.sync_directory()?;
    let next_commit = replay.expected.unwrap_or(1);
    let (file_number, file, position, index) = match tail {
        Some((number, file, position, entries)) if position > 0 => (number, file, position, entries),
        Some((number, ..)) if number > 1 => {
            return Err(Replay::<D>::corrupt(
                number,
                0,
                "its first frame cannot be read, and no file is before it",
            ));
        }
        _ => {
            let number = 1;
            let opening = state_frame(&[], next_commit);
            let file = Arc::new(disk.create(&file_name(number))?);
            file.write_all_at(&opening, 0)?;
            file.sync()?;
            disk.sync_directory()?;
            replay.files.insert(number, Arc::clone(&file));
            (number, file, opening.len() as u64, Vec::new())
        }
    };
    if file.len()? > position {
        file.set_len(position)?;
        file.sync()?;
    }
    Ok(Recovered {
        partitions: replay.partitions,
        files: replay.files,
        file_number,
        file,
        position,
        index,
        next_commit,
        scanned_bytes: replay.scanned_bytes,
    })
}

struct Replay<D: Disk> {
    partitions: HashMap<PartitionId, Partition>,
    files: BTreeMap<u64, Arc<D::File>>,
    /// Sequence of the next commit; `None` before the first frame.
    expected: Option<u64>,
    scanned_bytes: u64,
}

impl<D: Disk> Replay<D> {
    fn corrupt(number: u64, position: u64, reason: &'static str) -> LogError {
        LogError::Corrupt { file: file_name(number), position, reason }
    }

    /// Files are removed only when no partition needs them, so each one still begins where its log does.
    fn check_complete(&self, first: u64) -> Result<(), LogError> {
        let complete = |partition: &Partition| {
            let begins = partition.batches.front().map_or(partition.end, |batch| batch.base_offset);
            begins <= partition.log_start
        };
        match self.partitions.values().all(complete) {
            true => Ok(()),
            false => Err(Self::corrupt(first, 0, "files that came before it are missing")),
        }
    }

    /// A finished file: its opening state if nothing came before, and its index.
    fn indexed(
        &mut self,
        number: u64,
        file: &Arc<D::File>,
        saved: SavedIndex,
    ) -> Result<(u64, Vec<IndexEntry>), LogError> {
        if self.expected.is_none() {
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, 0)?;
            let parsed = FrameHeader::parse(&header).ok_or(Self::corrupt(number, 0, "no frame"))?;
            if parsed.length as u64 > file.len()? {
                return Err(Self::corrupt(number, 0, "a frame longer than the file"));
            }
            let mut body = vec![0; parsed.length];
            file.read_exact_at(&mut body, HEADER as u64)?;
            if !parsed.matches(&header, &body) {
                return Err(Self::corrupt(number, 0, "a wrong checksum"));
            }
            self.begin_from(number, &body)?;
        }
        for entry in &saved.entries {
            self.apply(number, entry, 0);
        }
        self.expected = Some(saved.next_commit);
        Ok((file.len()?, saved.entries))
    }

    fn begin_from(&mut self, number: u64, body: &[u8]) -> Result<(), LogError> {
        let bad = || Self::corrupt(number, 0, "its first frame is not a state");
        let entries = frame::entries(body).ok_or_else(bad)?;
        let state = entries.first().filter(|entry| entry.kind == Kind::State).ok_or_else(bad)?;
        let states: Vec<PartitionState> = postcard::from_bytes(state.bytes).map_err(|_| bad())?;
        for state in &states {
            let id = PartitionId { topic_id: state.topic_id, partition: state.partition };
            self.partitions.insert(id, Partition::restored(state));
        }
        Ok(())
    }

    /// Reads frames as far as they are whole. In the last file the rest is what a crash left; anywhere
    /// else, or with whole frames behind it, it is damage.
    fn scan(
        &mut self,
        number: u64,
        file: &Arc<D::File>,
        is_last: bool,
    ) -> Result<(u64, Vec<IndexEntry>), LogError> {
        let bytes = read_file(&**file)?;
        self.scanned_bytes += bytes.len() as u64;
        let mut index = Vec::new();
        let mut position = 0;
        while let Some((header, body)) = whole_frame(&bytes, position) {
            if self.expected.is_some_and(|expected| expected != header.sequence) {
                break;
            }
            if position == 0 {
                if self.expected.is_none() {
                    self.begin_from(number, body)?;
                }
                self.expected = Some(header.sequence);
            } else {
                let entries = frame::entries(body).ok_or(Self::corrupt(
                    number,
                    position as u64,
                    "entries that do not add up",
                ))?;
                for entry in entries {
                    let at = (position + entry.at) as u64;
                    let line = index_line(&entry, at).ok_or(Self::corrupt(
                        number,
                        at,
                        "an entry that cannot be read",
                    ))?;
                    self.apply(number, &line, header.sequence);
                    index.push(line);
                }
                self.expected = Some(header.sequence + 1);
            }
            position += HEADER + header.length;
        }
        if position < bytes.len() {
            let expected = self.expected.unwrap_or(0);
            let torn = is_last && !later_frame(&bytes, position + 1, expected);
            if !torn {
                return Err(Self::corrupt(
                    number,
                    position as u64,
                    "a wrong checksum, with more of the log behind it",
                ));
            }
        }
        Ok((position as u64, index))
    }

    fn apply(&mut self, file: u64, line: &IndexEntry, commit: u64) {
        match *line {
            IndexEntry::Create { id } => {
                self.partitions.entry(id).or_default();
            }
            IndexEntry::Delete { id } => {
                self.partitions.remove(&id);
            }
            IndexEntry::LogStart { id, offset } => {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.delete_before(offset);
                }
            }
            IndexEntry::Batch { id, position, marker, .. } => {
                if let (Some(partition), Some(header)) = (self.partitions.get_mut(&id), line.header()) {
                    partition.stage(&header, commit);
                    partition.commit(&header, place(&header, file, position), marker);
                    // A batch below a log start that an older state already knew.
                    let log_start = partition.log_start;
                    partition.delete_before(log_start);
                }
            }
        }
    }
}

fn index_line(entry: &frame::Entry<'_>, position: u64) -> Option<IndexEntry> {
    let id = entry.id;
    Some(match entry.kind {
        Kind::Create => IndexEntry::Create { id },
        Kind::Delete => IndexEntry::Delete { id },
        Kind::LogStart => {
            IndexEntry::LogStart { id, offset: i64::from_be_bytes(entry.bytes.try_into().ok()?) }
        }
        Kind::Batch => {
            let header = BatchHeader::read(entry.bytes).ok()?;
            IndexEntry::batch(id, &header, marker(&header, entry.bytes), position)
        }
        Kind::State => return None,
    })
}

fn whole_frame(bytes: &[u8], position: usize) -> Option<(FrameHeader, &[u8])> {
    let header: &[u8; HEADER] = bytes.get(position..position + HEADER)?.try_into().ok()?;
    let parsed = FrameHeader::parse(header)?;
    let start = position + HEADER;
    let body = bytes.get(start..start.checked_add(parsed.length)?)?;
    parsed.matches(header, body).then_some((parsed, body))
}

/// Whether a whole frame that belongs after `expected` begins anywhere from `from` on.
fn later_frame(bytes: &[u8], from: usize, expected: u64) -> bool {
    (from..bytes.len().saturating_sub(HEADER)).any(|at| {
        FrameHeader::starts_at(bytes, at)
            && whole_frame(bytes, at).is_some_and(|(header, _)| header.sequence > expected)
    })
}
