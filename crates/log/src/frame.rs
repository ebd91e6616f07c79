//! The log's bytes: one frame a commit, its directory apart from the batches.
//!
//! ```text
//! frame     = header directory body
//! header    = magic:u32 crc32c:u32 file:u64 sequence:u64 synced:u64 directory_len:u32 body_len:u32
//! directory = (run | change | checkpoint)*
//! run       = 0:u8 topic_id:[u8;16] partition:i32 count:u32 (base_offset:i64 last_offset_delta:i32 size:u32 crc32c:u32)*
//! change    = 1:u8 length:u32 postcard(Change)
//! checkpoint= 2:u8 length:u32 postcard(Checkpoint)
//! body      = the batches of the runs, one after the other, as clients get them
//! ```
//! Numbers are big-endian, as in Kafka's own formats. The header's checksum covers the header after
//! itself and the directory; each batch is covered by its own, which the directory repeats. So damage in
//! a batch costs that batch, and a stale batch at the right place is not taken for the one that was
//! written. `file` is the file's own number: a file that is used again may hold old frames, which are
//! another file's. `synced` is the last commit known to be on disk when the frame was written: a frame
//! that is not whole is damaged when a later one says that it was on disk, and torn otherwise.

use headwater_model::Offset;
use headwater_wire::{BatchHeader, batch};

use crate::PartitionId;
use crate::place::{BatchPlace, FileId, LEADER_EPOCH};
use crate::planted::{self, Bug};

pub const HEADER: usize = 40;
const MAGIC: u32 = 0x4857_4c32;
const MAGIC_BYTES: [u8; 4] = MAGIC.to_be_bytes();
const CHECKED_FROM: usize = 8;
const RUN: u8 = 0;
const CHANGE: u8 = 1;
const CHECKPOINT: u8 = 2;
const RUN_HEADER: usize = 1 + 16 + 4 + 4;
const BATCH_LINE: usize = 20;

/// A frame's directory being written.
#[derive(Debug, Default)]
pub struct Directory {
    bytes: Vec<u8>,
    body: usize,
}

impl Directory {
    /// Adds the batches of one partition, whose headers have their final offsets.
    pub fn run<'a>(&mut self, id: PartitionId, batches: impl ExactSizeIterator<Item = &'a BatchHeader>) {
        self.bytes.push(RUN);
        self.bytes.extend_from_slice(&id.topic_id);
        self.bytes.extend_from_slice(&id.partition.to_be_bytes());
        self.bytes.extend_from_slice(&(batches.len() as u32).to_be_bytes());
        for header in batches {
            self.bytes.extend_from_slice(&header.base_offset.to_be_bytes());
            self.bytes.extend_from_slice(&header.last_offset_delta.to_be_bytes());
            self.bytes.extend_from_slice(&(header.size as u32).to_be_bytes());
            self.bytes.extend_from_slice(&header.crc.to_be_bytes());
            self.body += header.size;
        }
    }

    pub fn change(&mut self, bytes: &[u8]) {
        self.sized(CHANGE, bytes);
    }

    pub fn checkpoint(&mut self, bytes: &[u8]) {
        self.sized(CHECKPOINT, bytes);
    }

    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Where the body begins, from the start of the frame.
    pub fn body_at(&self) -> usize {
        HEADER + self.bytes.len()
    }

    pub fn frame_len(&self) -> usize {
        self.body_at() + self.body
    }

    /// Writes header and directory to the end of `out`; the body follows.
    pub fn write(&self, file: FileId, sequence: u64, synced: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&file.word().to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&synced.to_be_bytes());
        out.extend_from_slice(&(self.bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&(self.body as u32).to_be_bytes());
        out.extend_from_slice(&self.bytes);
        let crc = crc32c::crc32c(&out[start + CHECKED_FROM..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Copies a batch behind what is there, with its offset in place.
pub fn put_batch(out: &mut Vec<u8>, bytes: &[u8], base_offset: Offset) {
    let at = out.len();
    out.extend_from_slice(bytes);
    batch::assign_offset(&mut out[at..], base_offset, LEADER_EPOCH);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    crc: u32,
    pub sequence: u64,
    pub synced: u64,
    pub directory: usize,
    pub body: usize,
}

impl FrameHeader {
    /// `None` when these bytes do not begin a frame of this file.
    pub fn parse(bytes: &[u8], file: FileId) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let long = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let ours = long(8)? == file.word() || planted::is(Bug::TrustStaleFrames);
        if word(0)? != MAGIC || !ours {
            return None;
        }
        Some(Self {
            crc: word(4)?,
            sequence: long(16)?,
            synced: long(24)?,
            directory: word(32)? as usize,
            body: word(36)? as usize,
        })
    }

    pub fn len(&self) -> usize {
        HEADER + self.directory + self.body
    }

    /// Whether header and directory are what was written; `bytes` begin where the frame does.
    pub fn verify(&self, bytes: &[u8]) -> bool {
        let checked = bytes.get(CHECKED_FROM..HEADER + self.directory);
        checked.is_some_and(|checked| crc32c::crc32c(checked) == self.crc)
    }
}

/// Whether the file begins with a commit from `commit` on that belongs into another file. A file that is
/// used again begins with old commits of another file until its first frame is written.
pub fn holds_later_of_another(bytes: &[u8], file: FileId, commit: u64) -> bool {
    let word = bytes.get(8..16).and_then(|word| word.try_into().ok()).map(u64::from_be_bytes);
    let other = word.map(FileId::of_word).filter(|other| *other != file);
    other
        .and_then(|other| FrameHeader::parse(bytes, other))
        .is_some_and(|header| header.sequence >= commit && header.verify(bytes))
}

/// The next place from `from` on where a frame of this file may begin.
pub fn find(bytes: &[u8], from: usize, file: FileId) -> Option<usize> {
    let finder = memchr::memmem::Finder::new(&MAGIC_BYTES);
    let mut at = from;
    loop {
        at += finder.find(bytes.get(at..)?)?;
        let rest = &bytes[at..];
        if FrameHeader::parse(rest, file).is_some_and(|header| header.verify(rest)) {
            return Some(at);
        }
        at += 1;
    }
}

/// One part of a directory.
#[derive(Debug)]
pub enum Entry<'a> {
    Run { id: PartitionId, lines: Vec<Line> },
    Change(&'a [u8]),
    Checkpoint(&'a [u8]),
}

/// What a directory says of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// From the start of the frame.
    pub at: usize,
    pub size: u32,
    pub crc: u32,
}

impl Line {
    /// The batch's place and header, when `frame` holds it as it was written.
    pub fn check(&self, frame: &[u8], frame_at: u64) -> Option<(BatchHeader, BatchPlace)> {
        let bytes = frame.get(self.at..self.at + self.size as usize)?;
        let header = BatchHeader::read(bytes).ok()?;
        let place = BatchPlace { crc: self.crc, ..BatchPlace::new(&header, frame_at + self.at as u64) };
        (header.base_offset == self.base_offset && place.size == self.size && place.holds(bytes))
            .then_some((header, place))
    }
}

/// The entries of a directory whose checksum was right; `None` when their lengths do not add up.
pub fn entries<'a>(frame: &'a [u8], header: &FrameHeader) -> Option<Vec<Entry<'a>>> {
    let end = HEADER + header.directory;
    let (mut at, mut body) = (HEADER, end);
    let mut entries = Vec::new();
    while at < end {
        let number = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        match *frame.get(at)? {
            RUN => {
                let topic_id = frame.get(at + 1..at + 17)?.try_into().ok()?;
                let id = PartitionId { topic_id, partition: number(at + 17)? as i32 };
                let count = number(at + 21)? as usize;
                at += RUN_HEADER;
                let lines = frame.get(at..at.checked_add(count.checked_mul(BATCH_LINE)?)?)?;
                let mut parsed = Vec::with_capacity(count);
                for line in lines.chunks_exact(BATCH_LINE) {
                    let size = u32::from_be_bytes(line[12..16].try_into().ok()?);
                    let base_offset = i64::from_be_bytes(line[..8].try_into().ok()?);
                    let delta = i32::from_be_bytes(line[8..12].try_into().ok()?);
                    parsed.push(Line {
                        base_offset,
                        last_offset: base_offset + i64::from(delta),
                        at: body,
                        size,
                        crc: u32::from_be_bytes(line[16..].try_into().ok()?),
                    });
                    body += size as usize;
                }
                at += lines.len();
                entries.push(Entry::Run { id, lines: parsed });
            }
            kind @ (CHANGE | CHECKPOINT) => {
                let length = number(at + 1)? as usize;
                let bytes = frame.get(at + 5..(at + 5).checked_add(length)?)?;
                entries.push(if kind == CHANGE { Entry::Change(bytes) } else { Entry::Checkpoint(bytes) });
                at += 5 + length;
            }
            _ => return None,
        }
    }
    (at == end && body == header.len()).then_some(entries)
}
