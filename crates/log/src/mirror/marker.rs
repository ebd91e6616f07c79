//! What each side of a mirrored log durably says about itself, and about the other.
//!
//! A side has an *epoch*, a number drawn at random. Both have the same one as long as both hold everything.
//! A side that goes on alone takes a new epoch and notes that it supersedes the old one; so whoever still
//! has the old one is known to be behind, however long it was away, and two sides that both went on alone
//! are known to be two histories.
//!
//! ```text
//! sides = copy, zeros up to 4096, copy     a flipped bit costs one copy
//! copy  = magic:u32 ("HWMS") length:u32 crc32c:u32 (of what follows) postcard(Marker)
//! ```

use std::io;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile};
use crate::place::FileId;
use crate::recovery::read_file;

pub const MARKER: &str = "sides";
const UNFINISHED: &str = "sides-unfinished";
const MAGIC: u32 = 0x4857_4d53;
const HEADER: usize = 12;
const SECOND: usize = 4096;
/// Epochs that are remembered; only the newest can still be met.
const REMEMBERED: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Everything is here, and on the other side as far as this one knows.
    Paired,
    /// Everything is here; the other side has been left behind.
    Alone,
    /// Not everything is here yet: it is being copied from the other side.
    Filling,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub epoch: u64,
    pub role: Role,
    /// Epochs whose holders are behind this side.
    pub superseded: Vec<u64>,
    /// An epoch that both sides are about to have in common.
    pub pairing: Option<u64>,
}

impl Marker {
    pub fn new(epoch: u64, role: Role) -> Self {
        Self { epoch, role, superseded: Vec::new(), pairing: None }
    }

    /// The marker of a side that goes on without the other.
    pub fn alone(&self, epoch: u64) -> Self {
        let mut superseded = self.superseded.clone();
        superseded.push(self.epoch);
        superseded.extend(self.pairing);
        superseded.drain(..superseded.len().saturating_sub(REMEMBERED));
        Self { epoch, role: Role::Alone, superseded, pairing: None }
    }

    /// The marker of a side that will share `epoch` with the other as soon as that has it.
    pub fn proposing(&self, epoch: u64) -> Self {
        Self { pairing: Some(epoch), ..self.clone() }
    }

    /// The marker of both sides when both hold everything.
    pub fn paired(&self, epoch: u64) -> Self {
        Self { epoch, role: Role::Paired, pairing: None, ..self.alone(epoch) }
    }

    pub fn supersedes(&self, other: &Self) -> bool {
        self.superseded.contains(&other.epoch) || self.pairing == Some(other.epoch)
    }
}

/// What a side looks like before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It cannot be used, for this reason.
    Absent(String),
    /// It holds no log.
    Blank,
    /// It holds a log that was never mirrored.
    Unmarked,
    Marked(Marker),
    /// It holds a log, and what it says about itself cannot be read.
    Illegible,
}

impl Found {
    pub fn on<D: Disk>(disk: &D) -> Self {
        let look = || -> io::Result<Self> {
            let names = disk.list()?;
            if names.iter().any(|name| name == MARKER) {
                return Ok(read(disk)?.map_or(Self::Illegible, Self::Marked));
            }
            let holds_log = names.iter().any(|name| FileId::parse(name).is_some());
            Ok(if holds_log { Self::Unmarked } else { Self::Blank })
        };
        look().unwrap_or_else(|error| Self::Absent(error.to_string()))
    }
}

fn parse(bytes: &[u8]) -> Option<Marker> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let body = bytes.get(HEADER..HEADER.checked_add(word(4)? as usize)?)?;
    (word(0)? == MAGIC && word(8)? == crc32c::crc32c(body)).then(|| postcard::from_bytes(body).ok())?
}

fn read<D: Disk>(disk: &D) -> io::Result<Option<Marker>> {
    let bytes = read_file(&disk.open(MARKER)?)?;
    Ok(parse(&bytes).or_else(|| parse(bytes.get(SECOND..)?)))
}

/// The marker is on disk when this returns.
pub fn write<D: Disk>(disk: &D, marker: &Marker) -> io::Result<()> {
    let body = crate::change::encode(marker);
    let mut copy = Vec::with_capacity(HEADER + body.len());
    copy.extend_from_slice(&MAGIC.to_be_bytes());
    copy.extend_from_slice(&(body.len() as u32).to_be_bytes());
    copy.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    copy.extend_from_slice(&body);
    let mut bytes = copy.clone();
    bytes.resize(SECOND, 0);
    bytes.extend_from_slice(&copy);
    let file = disk.create(UNFINISHED)?;
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(UNFINISHED, MARKER)?;
    disk.sync_directory()
}
