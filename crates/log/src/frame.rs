//! The log's bytes: one frame a commit, its directory apart from the batches.
//!
//! ```text
//! frame     = header directory body
//! header    = magic:u32 crc32c:u32 file:u64 sequence:u64 synced:u64 directory_len:u32 body_len:u32 salt:u64
//! directory = (run copy* | change | checkpoint | vital)* previous?
//! run       = 0:u8 topic_id:[u8;16] partition:i32 count:u32 (base_offset:i64 last_offset_delta:i32 size:u32 crc32c:u32)*
//! change    = 1:u8 length:u32 postcard(Change)
//! checkpoint= 2:u8 length:u32 postcard(Checkpoint)
//! previous  = 3:u8 length:u32 body_at:u32 directory previous?
//! copy      = 4:u8 length:u32 a control batch of the run before it
//! vital     = 5:u8 length:u32 end:i64
//! body      = the batches of the runs, one after the other, as clients get them
//! ```
//! Numbers are big-endian, as in Kafka's own formats. The header's checksum covers the magic, the header after
//! itself and the directory; each batch is covered by its own, which the directory repeats. So damage in
//! a batch costs that batch, and a stale batch at the right place is not taken for the one that was
//! written. `file` is the file's own number: a file that is used again may hold old frames, which are
//! another file's. `synced` is the last commit known to be on disk when the frame was written: a frame
//! that is not whole is damaged when a later one says that it was on disk, and torn otherwise.
//!
//! What damage must not cost more than itself is there twice: a frame repeats the directory of the frame
//! before it in the file, and of two before that when they are small, for small frames share a sector of the
//! disk; and a directory repeats its control batches, for who loses a marker does not know how a transaction ended. [`crate::redundancy`] finds them. `vital` is
//! where a partition ended before the frame in which nothing may be lost unseen.
//!
//! `salt` is the log's own number, which nobody outside knows: records hold what clients like, and bytes of
//! theirs that look like a frame must not become one where the log looks for the next after damage, or
//! behind the end of a file that is used again.
//!
//! Format 2 (the magic's last digit) has none of these; it is read, and no longer written.

use headwater_model::Offset;
use headwater_wire::{BatchHeader, batch};

use crate::PartitionId;
use crate::place::{BatchPlace, FileId, LEADER_EPOCH};
use crate::planted::{self, Bug};

/// Of format 3, and of format 2.
pub const HEADER: usize = 48;
const HEADER_2: usize = 40;
/// "HWL3"; format 2 has another digit.
const MAGIC: u32 = 0x4857_4c33;
const MAGIC_2: u32 = 0x4857_4c32;
pub const MAGIC_BEGINS: &[u8] = b"HWL";
/// From here on header and directory are covered by the checksum.
pub const CHECKED_FROM: usize = 8;
const RUN: u8 = 0;
const CHANGE: u8 = 1;
const CHECKPOINT: u8 = 2;
const PREVIOUS: u8 = 3;
const COPY: u8 = 4;
const VITAL: u8 = 5;
/// Only in memory: what a frame repeated whose head was put together again.
const PADDING: u8 = 6;
/// So many frames before it a frame repeats at most: a sector holds parts of no more heads than that.
const REPEATED: usize = 3;
/// Those before the last one are repeated when their directory is so small. With a larger one there is more than a
/// sector of batches between two heads.
const SMALL: usize = 512;
/// Kind and length of an entry that is not a run.
const SIZED: usize = 5;
const RUN_HEADER: usize = 1 + 16 + 4 + 4;
const BATCH_LINE: usize = 20;

/// A frame's directory being written.
#[derive(Debug, Default)]
pub struct Directory {
    bytes: Vec<u8>,
    body: usize,
    /// Bytes that repeat the frame before.
    repeated: usize,
}

/// What the next frame of the file repeats: of the last one, and of small ones before it.
#[derive(Debug, Default)]
pub struct Previous {
    /// The last one first.
    heads: [Head; REPEATED],
}

/// A directory without what it repeats, and where its body begins; 0 where there is no such frame in the file.
#[derive(Debug, Default)]
struct Head {
    directory: Vec<u8>,
    body_at: u32,
}

impl Previous {
    /// The next frame is the first of its file.
    pub fn forget(&mut self) {
        self.heads.iter_mut().for_each(|head| head.body_at = 0);
    }

    fn repeated(&self) -> &[Head] {
        let is_repeated =
            |(at, head): (usize, &Head)| head.body_at > 0 && (at == 0 || head.directory.len() <= SMALL);
        let count = self.heads.iter().enumerate().take_while(|head| is_repeated(*head)).count();
        &self.heads[..count]
    }
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

    /// Repeats a control batch of the run that was added last.
    pub fn copy(&mut self, batch: &[u8], base_offset: Offset) {
        self.sized_head(COPY, batch.len());
        put_batch(&mut self.bytes, batch, base_offset);
    }

    /// Repeats what was before this frame in the file, if anything was, one in the other; the last entry.
    pub fn repeat(&mut self, previous: &Previous) {
        let before = self.bytes.len();
        let heads = previous.repeated();
        let mut left: usize = heads.iter().map(|head| SIZED + 4 + head.directory.len()).sum();
        for head in heads {
            self.sized_head(PREVIOUS, left - SIZED);
            self.bytes.extend_from_slice(&head.body_at.to_be_bytes());
            self.bytes.extend_from_slice(&head.directory);
            left -= SIZED + 4 + head.directory.len();
        }
        self.repeated = self.bytes.len() - before;
    }

    /// Takes [`Self::repeat`] back.
    pub fn forget_repeated(&mut self) {
        self.bytes.truncate(self.bytes.len() - std::mem::take(&mut self.repeated));
    }

    /// What the next frame repeats.
    pub fn to_repeat(&self, previous: &mut Previous) {
        previous.heads.rotate_right(1);
        let last = &mut previous.heads[0];
        last.directory.clear();
        last.directory.extend_from_slice(&self.bytes[..self.bytes.len() - self.repeated]);
        last.body_at = self.body_at() as u32;
    }

    pub fn change(&mut self, bytes: &[u8]) {
        self.sized(CHANGE, bytes);
    }

    /// Where the vital partition ends before this frame.
    pub fn vital(&mut self, end: Offset) {
        self.sized(VITAL, &end.to_be_bytes());
    }

    pub fn checkpoint(&mut self, bytes: &[u8]) {
        self.sized(CHECKPOINT, bytes);
    }

    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        self.sized_head(kind, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn sized_head(&mut self, kind: u8, length: usize) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
    }

    /// Where the body begins, from the start of the frame.
    pub fn body_at(&self) -> usize {
        HEADER + self.bytes.len()
    }

    pub fn frame_len(&self) -> usize {
        self.body_at() + self.body
    }

    /// Writes header and directory to the end of `out`; the body follows.
    pub fn write(&self, of: FrameOf, out: &mut Vec<u8>) {
        let lengths = (self.bytes.len() as u32, self.body as u32);
        write_head(of, lengths, out, |out| out.extend_from_slice(&self.bytes));
    }
}

/// Of what is behind it in header and directory; from format 3 on of the magic, too, so that one format is
/// not taken for the other.
fn checksum(magic: u32, checked: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum_begins(magic), checked)
}

fn checksum_begins(magic: u32) -> u32 {
    if magic == MAGIC_2 { 0 } else { crc32c::crc32c(&magic.to_be_bytes()) }
}

/// A header's checksum, made piece by piece of what is behind [`CHECKED_FROM`].
pub struct Check {
    expected: u32,
    found: u32,
}

impl Check {
    pub fn add(&mut self, bytes: &[u8]) {
        self.found = crc32c::crc32c_append(self.found, bytes);
    }

    pub fn is_right(&self) -> bool {
        self.found == self.expected
    }
}

/// Whose frame it is.
#[derive(Debug, Clone, Copy)]
pub struct FrameOf {
    pub file: FileId,
    pub salt: u64,
    pub sequence: u64,
    pub synced: u64,
}

/// Writes a header, and the directory by `put`.
fn write_head(of: FrameOf, (directory, body): (u32, u32), out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&of.file.word().to_be_bytes());
    out.extend_from_slice(&of.sequence.to_be_bytes());
    out.extend_from_slice(&of.synced.to_be_bytes());
    out.extend_from_slice(&directory.to_be_bytes());
    out.extend_from_slice(&body.to_be_bytes());
    out.extend_from_slice(&of.salt.to_be_bytes());
    put(out);
    let crc = checksum(MAGIC, &out[start + CHECKED_FROM..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
}

/// Copies a batch behind what is there, with its offset in place.
pub fn put_batch(out: &mut Vec<u8>, bytes: &[u8], base_offset: Offset) {
    let at = out.len();
    out.extend_from_slice(bytes);
    batch::assign_offset(&mut out[at..], base_offset, LEADER_EPOCH);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    magic: u32,
    crc: u32,
    /// 0 in format 2.
    pub salt: u64,
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
        let magic = word(0)?;
        if !matches!(magic, MAGIC | MAGIC_2) || !ours {
            return None;
        }
        Some(Self {
            magic,
            crc: word(4)?,
            salt: if magic == MAGIC { long(HEADER_2)? } else { 0 },
            sequence: long(16)?,
            synced: long(24)?,
            directory: word(32)? as usize,
            body: word(36)? as usize,
        })
    }

    /// Where the body begins, from the start of the frame.
    pub fn body_at(&self) -> usize {
        self.directory_at() + self.directory
    }

    fn directory_at(&self) -> usize {
        if self.has_salt() { HEADER } else { HEADER_2 }
    }

    /// Whether it is of a format that has one.
    pub fn has_salt(&self) -> bool {
        self.magic == MAGIC
    }

    pub fn len(&self) -> usize {
        self.body_at() + self.body
    }

    /// [`Self::verify`] of bytes that are not there all at once.
    pub fn check(&self) -> Check {
        Check { expected: self.crc, found: checksum_begins(self.magic) }
    }

    /// Whether header and directory are what was written; `bytes` begin where the frame does.
    pub fn verify(&self, bytes: &[u8]) -> bool {
        let checked = bytes.get(CHECKED_FROM..self.body_at());
        checked.is_some_and(|checked| checksum(self.magic, checked) == self.crc)
    }
}

/// Whether the file begins with a commit from `commit` on that belongs into another file. A file that is
/// used again begins with old commits of an older file until its first frame is written; where nothing was
/// committed since, its checkpoint has the number of the commit that is still to come, too.
pub fn holds_later_of_another(bytes: &[u8], file: FileId, commit: u64) -> bool {
    let word = bytes.get(8..16).and_then(|word| word.try_into().ok()).map(u64::from_be_bytes);
    let other = word.map(FileId::of_word).filter(|other| *other != file);
    let is_newer = other.is_some_and(|other| other.number() > file.number());
    let is_later = |header: &FrameHeader| header.sequence > commit || (header.sequence == commit && is_newer);
    other
        .and_then(|other| FrameHeader::parse(bytes, other))
        .is_some_and(|header| is_later(&header) && header.verify(bytes))
}

/// Whether bytes begin as a frame of this file does, however soon they end or turn to zeros.
pub fn begins_frame(bytes: &[u8], file: FileId) -> bool {
    let magic = MAGIC.to_be_bytes();
    let known = bytes.len().min(MAGIC_BEGINS.len());
    let word = bytes.get(8..16).and_then(|word| word.try_into().ok()).map(u64::from_be_bytes);
    known > 0 && bytes[..known] == magic[..known] && word.is_none_or(|word| word == file.word() || word == 0)
}

/// The first frame of a file, by whose salt the others are known.
pub fn first(bytes: &[u8], file: FileId) -> Option<(usize, FrameHeader)> {
    let at = find(bytes, 0, file, None)?;
    FrameHeader::parse(&bytes[at..], file).map(|header| (at, header))
}

/// The next place from `from` on where a frame of this file may begin; of any salt, or one.
pub fn find(bytes: &[u8], from: usize, file: FileId, salt: Option<u64>) -> Option<usize> {
    let finder = memchr::memmem::Finder::new(MAGIC_BEGINS);
    let mut at = from;
    loop {
        at += finder.find(bytes.get(at..)?)?;
        let rest = &bytes[at..];
        let is_whole =
            |header: FrameHeader| salt.is_none_or(|salt| salt == header.salt) && header.verify(rest);
        if FrameHeader::parse(rest, file).is_some_and(is_whole) {
            return Some(at);
        }
        at += 1;
    }
}

/// One part of a directory.
#[derive(Debug)]
pub enum Entry<'a> {
    Run {
        id: PartitionId,
        lines: Vec<Line>,
    },
    Change(&'a [u8]),
    Checkpoint(&'a [u8]),
    /// A control batch of the run before it.
    Copy(&'a [u8]),
    Previous(Repeated<'a>),
    /// Where the vital partition ended before.
    Vital(Offset),
}

/// What a frame says of the one before it.
#[derive(Debug, Clone, Copy)]
pub struct Repeated<'a> {
    directory: &'a [u8],
    body_at: usize,
}

impl Repeated<'_> {
    /// The length of the frame that is repeated; `None` when nothing can be made of what is said.
    pub fn frame_len(&self) -> Option<usize> {
        parse(self.directory, self.body_at).map(|(_, end)| end)
    }

    /// Header and directory of that frame as they may stand again. What it repeated itself is padding now.
    pub fn head(&self, of: FrameOf) -> Option<Vec<u8>> {
        let length = self.body_at.checked_sub(HEADER)?;
        let body = self.frame_len()? - self.body_at;
        let mut out = Vec::with_capacity(self.body_at);
        write_head(of, (length as u32, body as u32), &mut out, |out| {
            out.extend_from_slice(self.directory);
            if let Some(padding) = (length - self.directory.len()).checked_sub(SIZED) {
                out.push(PADDING);
                out.extend_from_slice(&(padding as u32).to_be_bytes());
                out.resize(out.len() + padding, 0);
            }
        });
        (out.len() == self.body_at).then_some(out)
    }
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

/// The entries of a directory whose checksum was right; the body need not be there. `None` when their lengths do not add up.
pub fn entries<'a>(frame: &'a [u8], header: &FrameHeader) -> Option<Vec<Entry<'a>>> {
    let body_at = header.body_at();
    let (entries, end) = parse(frame.get(header.directory_at()..body_at)?, body_at)?;
    (end == header.len()).then_some(entries)
}

/// The entries of a directory, and where the body ends that begins at `body_at`.
fn parse(directory: &[u8], body_at: usize) -> Option<(Vec<Entry<'_>>, usize)> {
    let (mut at, mut body) = (0, body_at);
    let mut entries = Vec::new();
    let number = |at: usize| directory.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    while at < directory.len() {
        let kind = directory[at];
        if kind == RUN {
            let topic_id = directory.get(at + 1..at + 17)?.try_into().ok()?;
            let id = PartitionId { topic_id, partition: number(at + 17)? as i32 };
            let count = number(at + 21)? as usize;
            at += RUN_HEADER;
            let lines = directory.get(at..at.checked_add(count.checked_mul(BATCH_LINE)?)?)?;
            at += lines.len();
            entries.push(Entry::Run { id, lines: run_lines(lines, &mut body)? });
            continue;
        }
        let length = number(at + 1)? as usize;
        at += SIZED;
        let bytes = directory.get(at..at.checked_add(length)?)?;
        at += length;
        match kind {
            CHANGE => entries.push(Entry::Change(bytes)),
            CHECKPOINT => entries.push(Entry::Checkpoint(bytes)),
            COPY => entries.push(Entry::Copy(bytes)),
            PREVIOUS => {
                let (body_at, directory) = bytes.split_first_chunk()?;
                let body_at = u32::from_be_bytes(*body_at) as usize;
                let fits = body_at >= HEADER + directory.len();
                entries.push(Entry::Previous(fits.then_some(Repeated { directory, body_at })?));
            }
            VITAL => entries.push(Entry::Vital(Offset::from_be_bytes(bytes.try_into().ok()?))),
            PADDING => {}
            _ => return None,
        }
    }
    Some((entries, body))
}

/// The lines of one run, whose batches begin at `body`.
fn run_lines(lines: &[u8], body: &mut usize) -> Option<Vec<Line>> {
    let mut parsed = Vec::with_capacity(lines.len() / BATCH_LINE);
    for line in lines.chunks_exact(BATCH_LINE) {
        let size = u32::from_be_bytes(line[12..16].try_into().ok()?);
        let base_offset = i64::from_be_bytes(line[..8].try_into().ok()?);
        let delta = i32::from_be_bytes(line[8..12].try_into().ok()?);
        parsed.push(Line {
            base_offset,
            last_offset: base_offset + i64::from(delta),
            at: *body,
            size,
            crc: u32::from_be_bytes(line[16..].try_into().ok()?),
        });
        *body = body.checked_add(size as usize)?;
    }
    Some(parsed)
}
