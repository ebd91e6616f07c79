//! The write-ahead log's bytes: one checksummed frame a commit, entries inside.
//!
//! ```text
//! frame  = magic:u32 length:u32 crc32c:u32 sequence:u64 entry*      crc covers sequence and entries
//! entry  = kind:u8 topic_id:[u8;16] partition:i32 length:u32 bytes
//! ```
//! All numbers are big-endian, as in Kafka's own formats. A file begins with a frame whose single entry
//! is the state of all partitions at that point, so older files can go.

use crate::PartitionId;

pub const HEADER: usize = 20;
pub const ENTRY_HEADER: usize = 25;
const MAGIC: u32 = 0x4857_4c31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Batch,
    Create,
    Delete,
    LogStart,
    State,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Batch => 0,
            Kind::Create => 1,
            Kind::Delete => 2,
            Kind::LogStart => 3,
            Kind::State => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Kind::Batch, Kind::Create, Kind::Delete, Kind::LogStart, Kind::State]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// A frame being filled; `seal` makes it ready for the disk.
#[derive(Debug)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
}

impl FrameBuilder {
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER] }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends an entry and returns where its bytes begin, from the start of the frame.
    pub fn push(&mut self, kind: Kind, id: PartitionId, bytes: &[u8]) -> usize {
        self.bytes.push(kind.code());
        self.bytes.extend_from_slice(&id.topic_id);
        self.bytes.extend_from_slice(&id.partition.to_be_bytes());
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// The bytes from `at` to the end: the entry pushed last.
    pub fn tail_mut(&mut self, at: usize) -> &mut [u8] {
        &mut self.bytes[at..]
    }

    pub fn seal(mut self, sequence: u64) -> Vec<u8> {
        let length = (self.bytes.len() - HEADER) as u32;
        self.bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        self.bytes[4..8].copy_from_slice(&length.to_be_bytes());
        self.bytes[12..20].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes[12..]);
        self.bytes[8..12].copy_from_slice(&crc.to_be_bytes());
        self.bytes
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub length: usize,
    pub crc: u32,
    pub sequence: u64,
}

impl FrameHeader {
    /// `None` when these bytes do not begin a frame.
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let sequence = u64::from(word(12)) << 32 | u64::from(word(16));
        (word(0) == MAGIC).then(|| Self { length: word(4) as usize, crc: word(8), sequence })
    }

    /// A quick look for the search after damage.
    pub fn starts_at(bytes: &[u8], at: usize) -> bool {
        bytes.get(at..at + 4) == Some(&MAGIC.to_be_bytes()[..])
    }

    pub fn matches(&self, header: &[u8; HEADER], body: &[u8]) -> bool {
        crc32c::crc32c_append(crc32c::crc32c(&header[12..]), body) == self.crc
    }
}

pub struct Entry<'a> {
    pub kind: Kind,
    pub id: PartitionId,
    /// Where `bytes` begin, from the start of the frame.
    pub at: usize,
    pub bytes: &'a [u8],
}

/// The entries of a frame's body whose checksum was right; `None` when their lengths do not add up.
pub fn entries(body: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let header = body.get(at..at + ENTRY_HEADER)?;
        let kind = Kind::from_code(header[0])?;
        let topic_id = header[1..17].try_into().ok()?;
        let partition = i32::from_be_bytes(header[17..21].try_into().ok()?);
        let length = u32::from_be_bytes(header[21..25].try_into().ok()?) as usize;
        let start = at + ENTRY_HEADER;
        let bytes = body.get(start..start.checked_add(length)?)?;
        entries.push(Entry { kind, id: PartitionId { topic_id, partition }, at: HEADER + start, bytes });
        at = start + length;
    }
    Some(entries)
}
