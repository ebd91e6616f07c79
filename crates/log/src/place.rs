//! Where batches are: files by kind and number, a batch's place in its file, a partition's share of a file.

use std::fmt;

use headwater_model::{Offset, TimestampMs};
use headwater_wire::BatchHeader;
use serde::{Deserialize, Serialize};

const RUN: u64 = 1 << 63;
/// One node has always led every partition.
pub const LEADER_EPOCH: i32 = 0;

/// A journal holds commits in their order; a run holds batches that were moved out of other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(u64);

impl FileId {
    pub fn journal(number: u64) -> Self {
        Self(number & !RUN)
    }

    pub fn run(number: u64) -> Self {
        Self(number | RUN)
    }

    pub fn is_run(self) -> bool {
        self.0 & RUN != 0
    }

    pub fn number(self) -> u64 {
        self.0 & !RUN
    }

    pub fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// The word that the file's frames carry.
    pub fn word(self) -> u64 {
        self.0
    }

    pub fn name(self) -> String {
        format!("{:020}.{}", self.number(), if self.is_run() { "run" } else { "wal" })
    }

    pub fn index_name(self) -> String {
        format!("{}.index", self.name())
    }

    /// `None` for the name of anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let (number, kind) = name.split_once('.')?;
        let number = number.parse().ok().filter(|number| number & RUN == 0)?;
        match kind {
            "wal" => Some(Self::journal(number)),
            "run" => Some(Self::run(number)),
            _ => None,
        }
    }
}

/// Where one batch is in its file, and what it must look like there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
    pub position: u64,
    pub size: u32,
    pub crc: u32,
}

impl BatchPlace {
    /// Where it ends in its file.
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.size)
    }

    pub fn new(header: &BatchHeader, position: u64) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            position,
            size: header.size as u32,
            crc: header.crc,
        }
    }

    /// Whether `bytes`, read from the place, are the batch that was written there.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        BatchHeader::read(bytes).is_ok_and(|header| {
            header.base_offset == self.base_offset
                && header.size == self.size as usize
                && header.crc == self.crc
                && header.leader_epoch == LEADER_EPOCH
                && header.verify(bytes).is_ok()
        })
    }
}

/// All batches that a partition has in one file; they follow each other in offset order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub file: FileId,
    pub first: Offset,
    pub last: Offset,
    pub batches: u32,
    pub bytes: u64,
    pub max_timestamp: TimestampMs,
    /// Written or checked by this process, so that readers need not look at the bytes again.
    #[serde(skip)]
    pub verified: bool,
    /// Of an extent that is not verified, the offsets that are: from, and up to without.
    #[serde(skip)]
    pub checked: (Offset, Offset),
}

impl Extent {
    pub fn of(file: FileId, place: &BatchPlace, verified: bool) -> Self {
        Self {
            file,
            first: place.base_offset,
            last: place.last_offset,
            batches: 1,
            bytes: u64::from(place.size),
            max_timestamp: place.max_timestamp,
            verified,
            checked: (0, 0),
        }
    }

    pub fn push(&mut self, place: &BatchPlace) {
        self.last = place.last_offset;
        self.batches += 1;
        self.bytes += u64::from(place.size);
        self.max_timestamp = self.max_timestamp.max(place.max_timestamp);
    }

    pub fn is_checked(&self, place: &BatchPlace) -> bool {
        self.verified || (self.checked.0 <= place.base_offset && place.last_offset < self.checked.1)
    }

    /// Readers go forward, so one stretch is enough to remember.
    pub fn check(&mut self, from: Offset, to: Offset) {
        let touches = from <= self.checked.1 && to >= self.checked.0 && self.checked != (0, 0);
        self.checked = if touches { (from.min(self.checked.0), to.max(self.checked.1)) } else { (from, to) };
        self.verified |= self.checked.0 <= self.first && self.last < self.checked.1;
    }

    /// Nobody has looked at what is read from here on.
    pub fn forget_checks(&mut self) {
        self.verified = false;
        self.checked = (0, 0);
    }

    /// The extent of places in one file; `None` of none.
    pub fn over(file: FileId, places: &[BatchPlace], verified: bool) -> Option<Self> {
        let (first, rest) = places.split_first()?;
        let mut extent = Self::of(file, first, verified);
        rest.iter().for_each(|place| extent.push(place));
        Some(extent)
    }
}

/// Offsets whose bytes are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub first: Offset,
    pub last: Offset,
    pub file: FileId,
    pub cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A batch is not what was written.
    Checksum,
    /// The directory of a commit cannot be read, so where its batches were is not known.
    LostCommit,
    MissingFile,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "its bytes do not match their checksum",
            Self::LostCommit => "the commit that held them cannot be read",
            Self::MissingFile => "the file is missing",
        })
    }
}
