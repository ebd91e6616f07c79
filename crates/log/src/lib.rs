//! Partitions on one write-ahead log: what is acknowledged is on disk, for all partitions at once.
//!
//! Every commit is one frame that holds the batches staged since the last one, whatever their partition,
//! and one sync. After a crash a frame is there as a whole or not at all; nothing between two partitions
//! can be torn. Data is written once: readers get the batches from the frames. Only what outlives its
//! neighbours, or is compacted, is copied to a file of its own (a *run*), and the copy is made known by a
//! commit like any other.
//!
//! The flow is `append` … `append`, [`Log::begin_commit`], [`CommitJob::run`] (the only part that waits
//! for the disk; meanwhile more is staged), [`Log::end_commit`]. What was not committed is not visible.
//! A commit that failed fences the log: after a failed sync nobody knows what is on the disk.
//!
//! Opening reads the newest checkpoint and scans one journal. docs/log-format.md has the layout.

pub mod backup;
mod change;
mod chore;
mod cold;
mod commit;
pub mod compact;
pub mod disk;
mod files;
mod flights;
mod followed;
mod frame;
mod heads;
mod index;
mod log;
mod mirror;
mod orphans;
mod ownership;
mod partition;
mod place;
pub mod planted;
mod reader;
mod real_file;
mod recovery;
mod redundancy;
pub mod retention;
mod run;

use std::fmt;
use std::io;

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use change::{Cleaned, Move};
pub use chore::Chore;
pub use cold::{ColdFile, ColdStore, PIECE as COLD_PIECE, Pieces};
pub use commit::{CommitJob, CommitTicket};
pub use disk::{Disk, DiskFile, Faults, RealDisk, SimDisk, allow_many_files};
pub use flights::AT_ONCE as FETCHES_AT_ONCE;
pub use log::{Log, Opening};
pub use mirror::{
    Beside, Filled, InTurn, Mended, MirrorActivity, MirrorError, MirroredDisk, MirroredFile, Mirroring, Side,
    Standing, Waiting, Work,
};
pub use orphans::{Orphans, Swept};
pub use ownership::Ownership;
pub use partition::{Aborted, ActiveProducer};
pub use place::{BatchPlace, Cause, Damage, Extent, FileId};
pub use reader::{FileRange, FileUse, Located, PartitionSummary, PartitionUse, Reader};
pub use run::RunWriter;

/// The layout that is written: docs/log-format.md. A directory says which it may hold (`headwater.json`), so
/// that an older build does not take frames that it cannot read for a torn end.
pub const FORMAT: u32 = 3;
/// The oldest layout that is read.
pub const OLDEST_FORMAT: u32 = 2;

/// A partition of a topic that may have been deleted and created again under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionId {
    pub topic_id: [u8; 16],
    pub partition: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.topic_id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "/{}", self.partition)
    }
}

/// The partition that the broker keeps its own state in, in which nothing may be lost unseen. Not a UUID of
/// version 4, so no topic has it.
pub const BROKER_STATE: PartitionId = PartitionId { topic_id: *b"headwater\0state\0", partition: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A journal is finished when it has grown to so many bytes; also how much a start may have to scan.
    pub segment_bytes: u64,
    /// How many journals that are not needed any more are kept to be written again.
    pub spares: usize,
    /// A partition in which nothing may be lost unseen: every commit says where it ended before.
    pub vital: Option<PartitionId>,
    /// A number that nobody else knows, for a log that has none yet: by it the log's frames are told from
    /// bytes that clients made to look like them. 0 is none.
    pub salt: u64,
    /// `producer.id.expiration.ms`: how long a producer that writes nothing is remembered.
    pub producer_expiration_ms: TimestampMs,
}

/// A checkpoint takes at most this part of a journal, so that many partitions do not roll all the time.
const CHECKPOINT_SHARE: u64 = 8;

impl Settings {
    fn journal_bytes(&self, checkpoint: u64) -> u64 {
        self.segment_bytes.max(checkpoint.saturating_mul(CHECKPOINT_SHARE))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, spares: 1, vital: None, salt: 0, producer_expiration_ms: 86_400_000 }
    }
}

/// When a batch may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    Synced,
    /// When it is in the page cache: a power cut may lose it, and what it follows may be synced long after.
    Unsynced,
}

/// Who wrote a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Judged by its producer id, epoch and sequence.
    Client,
    /// Markers and the broker's own state.
    Broker,
}

/// What became of a batch; true once the commit `commit` has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub log_start_offset: Offset,
    /// A retry of a batch that was appended before, at these offsets.
    pub duplicate: bool,
    /// The number of the commit that carries it.
    pub commit: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Uncommitted,
    Committed,
}

/// A transaction whose records, from `first_offset` on, a read_committed consumer skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: Offset,
}

/// Whole batches from the one that holds the offset asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    pub records: Bytes,
    pub aborted: Vec<AbortedTransaction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: Offset,
    pub high_watermark: Offset,
    pub last_stable: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    pub partition: PartitionId,
    pub producer_id: i64,
    pub first_offset: Offset,
}

#[derive(Debug, Error)]
pub enum LogError {
    #[error("there is no partition {0}")]
    UnknownPartition(PartitionId),
    #[error("offset {offset} of {partition} is out of range: the log holds {log_start} to {end}")]
    OffsetOutOfRange { partition: PartitionId, offset: Offset, log_start: Offset, end: Offset },
    #[error("producer {producer_id} sent sequence {sequence} where {expected} was expected")]
    OutOfOrderSequence { producer_id: i64, sequence: i32, expected: i32 },
    #[error("producer {producer_id} has epoch {current} here; epoch {epoch} is fenced")]
    InvalidProducerEpoch { producer_id: i64, epoch: i16, current: i16 },
    #[error(
        "the log takes no more writes since a commit failed: {0}; free space or mend the disk, then restart"
    )]
    Fenced(String),
    #[error("offsets {} to {} of {partition} in {} are damaged: {}", .damage.first, .damage.last, .damage.file.name(), .damage.cause)]
    Damaged { partition: PartitionId, damage: Damage },
    #[error("{file}, which holds records of {partition}, cannot be read: {source}")]
    Unreadable { partition: PartitionId, file: String, source: io::Error },
    #[error("{file} is in the cold store only")]
    Far { file: String, id: FileId },
    #[error(
        "{file} is damaged at byte {position}: {reason}; what follows it cannot be trusted, restore the directory from a copy"
    )]
    Corrupt { file: String, position: u64, reason: &'static str },
    #[error(transparent)]
    Batch(#[from] headwater_wire::BatchError),
    #[error("log: {0}")]
    Io(#[from] io::Error),
}
