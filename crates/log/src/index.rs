//! The index of a finished file: where each batch of each partition is. Derived from the file, so it is
//! checked before it is believed and built again when it is not what it should be.
//!
//! ```text
//! index = magic:u32 rows:u32 crc32c:u32 (of the rows) row* chunk*
//! row   = topic_id:[u8;16] partition:i32 first:i64 max_timestamp:i64 chunk_at:u64 count:u32 crc32c:u32
//! chunk = (base_offset:i64 last_offset:i64 max_timestamp:i64 position:u64 size:u32 crc32c:u32)*
//! ```
//! Rows are sorted by partition and offset; a chunk holds up to 1,024 places. A lookup reads a few rows
//! and one chunk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use headwater_model::{Offset, TimestampMs};

use crate::PartitionId;
use crate::disk::{Disk, DiskFile};
use crate::log::lock;
use crate::place::{BatchPlace, FileId};
use crate::planted::{self, Bug};

const MAGIC: u32 = 0x4857_4949;
const HEADER: usize = 12;
const ROW: usize = 52;
const PLACE: usize = 40;
const CHUNK: usize = 1024;
/// Chunks in memory; one takes up to 40 KiB.
const CACHED: usize = 192;

/// The places of one file, by partition.
pub type FileIndex = BTreeMap<PartitionId, Vec<BatchPlace>>;
pub type Chunk = Arc<[BatchPlace]>;

fn place_bytes(place: &BatchPlace, out: &mut Vec<u8>) {
    out.extend_from_slice(&place.base_offset.to_be_bytes());
    out.extend_from_slice(&place.last_offset.to_be_bytes());
    out.extend_from_slice(&place.max_timestamp.to_be_bytes());
    out.extend_from_slice(&place.position.to_be_bytes());
    out.extend_from_slice(&place.size.to_be_bytes());
    out.extend_from_slice(&place.crc.to_be_bytes());
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("the caller knows the length"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("the caller knows the length"))
}

fn place_at(bytes: &[u8]) -> BatchPlace {
    BatchPlace {
        base_offset: long(bytes, 0) as i64,
        last_offset: long(bytes, 8) as i64,
        max_timestamp: long(bytes, 16) as i64,
        position: long(bytes, 24),
        size: word(bytes, 32),
        crc: word(bytes, 36),
    }
}

/// Writes the index of a finished file; losing it costs a scan and nothing else.
pub fn save<D: Disk>(disk: &D, file: FileId, index: &FileIndex) -> io::Result<()> {
    let count: usize = index.values().map(|places| places.len().div_ceil(CHUNK)).sum();
    let mut rows = Vec::with_capacity(count * ROW);
    let mut chunks = Vec::new();
    for (id, places) in index {
        for chunk in places.chunks(CHUNK) {
            let at = HEADER + count * ROW + chunks.len();
            let start = chunks.len();
            chunk.iter().for_each(|place| place_bytes(place, &mut chunks));
            let latest = chunk.iter().map(|place| place.max_timestamp).max().unwrap_or(-1);
            rows.extend_from_slice(&id.topic_id);
            rows.extend_from_slice(&id.partition.to_be_bytes());
            rows.extend_from_slice(&chunk[0].base_offset.to_be_bytes());
            rows.extend_from_slice(&latest.to_be_bytes());
            rows.extend_from_slice(&(at as u64).to_be_bytes());
            rows.extend_from_slice(&(chunk.len() as u32).to_be_bytes());
            rows.extend_from_slice(&crc32c::crc32c(&chunks[start..]).to_be_bytes());
        }
    }
    let mut bytes = Vec::with_capacity(HEADER + rows.len() + chunks.len());
    bytes.extend_from_slice(&MAGIC.to_be_bytes());
    bytes.extend_from_slice(&(count as u32).to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&rows).to_be_bytes());
    bytes.extend_from_slice(&rows);
    bytes.extend_from_slice(&chunks);
    let saved = disk.create(&file.index_name())?;
    saved.write_all_at(&bytes, 0)?;
    saved.sync()
}

/// One row: a chunk of a partition's places.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: Offset,
    max_timestamp: TimestampMs,
    at: u64,
    count: u32,
    crc: u32,
}

/// An index that knows of fewer batches than were written has lost some.
fn expect(found: usize, batches: u32) -> io::Result<()> {
    match found == batches as usize || planted::is(Bug::TrustIndex) {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidData, "an index that does not know of all batches")),
    }
}

/// The rows of one partition in one index.
fn rows<F: DiskFile>(file: &F, id: PartitionId) -> io::Result<Vec<Row>> {
    let bad = || io::Error::new(ErrorKind::InvalidData, "it is not an index");
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let count = word(&header, 4) as usize;
    if word(&header, 0) != MAGIC || (HEADER + count * ROW) as u64 > file.len()? {
        return Err(bad());
    }
    let mut table = vec![0; count * ROW];
    file.read_exact_at(&mut table, HEADER as u64)?;
    if crc32c::crc32c(&table) != word(&header, 8) {
        return Err(bad());
    }
    let of_partition = |row: &&[u8]| row[..16] == id.topic_id && word(row, 16) as i32 == id.partition;
    let parsed = table.chunks_exact(ROW).filter(of_partition).map(|row| Row {
        first: long(row, 20) as i64,
        max_timestamp: long(row, 28) as i64,
        at: long(row, 36),
        count: word(row, 44),
        crc: word(row, 48),
    });
    Ok(parsed.collect())
}

fn load<F: DiskFile>(file: &F, row: &Row) -> io::Result<Chunk> {
    let bad = || io::Error::new(ErrorKind::InvalidData, "a damaged chunk of an index");
    let length = row.count as usize * PLACE;
    if row.at.checked_add(length as u64).is_none_or(|end| file.len().is_ok_and(|len| end > len)) {
        return Err(bad());
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, row.at)?;
    if crc32c::crc32c(&bytes) != row.crc {
        return Err(bad());
    }
    Ok(bytes.chunks_exact(PLACE).map(place_at).collect())
}

type Key = (FileId, PartitionId);

#[derive(Default)]
struct Cached {
    /// Indexes that are not on disk yet, or could not be saved.
    pinned: HashMap<FileId, Arc<HashMap<PartitionId, Chunk>>>,
    rows: HashMap<Key, Arc<[Row]>>,
    chunks: HashMap<(Key, u64), Chunk>,
    /// In the order in which they came.
    order: VecDeque<(Key, u64)>,
}

/// What is known of the places in finished files, within a bound.
#[derive(Default)]
pub struct Indexes {
    cached: Mutex<Cached>,
    /// Held by who builds one from its file.
    pub building: Mutex<()>,
}

impl Indexes {
    pub fn pin(&self, file: FileId, index: &FileIndex) {
        let index = index.iter().map(|(id, places)| (*id, places.as_slice().into())).collect();
        lock(&self.cached).pinned.insert(file, Arc::new(index));
    }

    /// The index is on disk.
    pub fn unpin(&self, file: FileId) {
        lock(&self.cached).pinned.remove(&file);
    }

    pub fn forget(&self, file: FileId) {
        let mut cached = lock(&self.cached);
        cached.pinned.remove(&file);
        cached.rows.retain(|(of, _), _| *of != file);
        cached.chunks.retain(|((of, _), _), _| *of != file);
        cached.order.retain(|((of, _), _)| *of != file);
    }

    /// The places of a partition in a file from the chunk on that may hold `offset`, up to `enough`. There
    /// must be so many `batches` in all.
    pub fn places<D: Disk>(
        &self,
        disk: &D,
        key: Key,
        batches: u32,
        offset: Offset,
        mut enough: impl FnMut(&[BatchPlace]) -> bool,
    ) -> io::Result<()> {
        if let Some(pinned) = lock(&self.cached).pinned.get(&key.0).cloned() {
            let places = pinned.get(&key.1).map(|places| &places[..]).unwrap_or_default();
            expect(places.len(), batches)?;
            enough(places);
            return Ok(());
        }
        let rows = self.rows(disk, key)?;
        expect(rows.iter().map(|row| row.count as usize).sum(), batches)?;
        let first = rows.partition_point(|row| row.first <= offset).saturating_sub(1);
        for row in &rows[first.min(rows.len())..] {
            if enough(&self.chunk(disk, key, row)?) {
                break;
            }
        }
        Ok(())
    }

    /// The first chunks that hold something at or after a point in time.
    pub fn at_time<D: Disk>(
        &self,
        disk: &D,
        key: Key,
        batches: u32,
        timestamp: TimestampMs,
        mut enough: impl FnMut(&[BatchPlace]) -> bool,
    ) -> io::Result<()> {
        if let Some(pinned) = lock(&self.cached).pinned.get(&key.0).cloned() {
            let places = pinned.get(&key.1).map(|places| &places[..]).unwrap_or_default();
            expect(places.len(), batches)?;
            enough(places);
            return Ok(());
        }
        let rows = self.rows(disk, key)?;
        expect(rows.iter().map(|row| row.count as usize).sum(), batches)?;
        for row in rows.iter().filter(|row| row.max_timestamp >= timestamp) {
            if enough(&self.chunk(disk, key, row)?) {
                break;
            }
        }
        Ok(())
    }

    fn rows<D: Disk>(&self, disk: &D, key: Key) -> io::Result<Arc<[Row]>> {
        if let Some(rows) = lock(&self.cached).rows.get(&key) {
            return Ok(Arc::clone(rows));
        }
        let rows: Arc<[Row]> = rows(&disk.open(&key.0.index_name())?, key.1)?.into();
        let mut cached = lock(&self.cached);
        if cached.rows.len() >= CACHED * 4 {
            cached.rows.clear();
        }
        cached.rows.insert(key, Arc::clone(&rows));
        Ok(rows)
    }

    fn chunk<D: Disk>(&self, disk: &D, key: Key, row: &Row) -> io::Result<Chunk> {
        if let Some(chunk) = lock(&self.cached).chunks.get(&(key, row.at)) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = load(&disk.open(&key.0.index_name())?, row)?;
        let mut cached = lock(&self.cached);
        if cached.order.len() >= CACHED
            && let Some(oldest) = cached.order.pop_front()
        {
            cached.chunks.remove(&oldest);
        }
        if cached.chunks.insert((key, row.at), Arc::clone(&chunk)).is_none() {
            cached.order.push_back((key, row.at));
        }
        Ok(chunk)
    }
}
