//! What a commit says beside its batches, and the checkpoint that every journal begins with.

use headwater_model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::PartitionId;
use crate::cold::ColdFile;
use crate::partition::{Aborted, PartitionState};
use crate::place::{Extent, FileId};

/// One change of the log's own state; takes effect with its commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
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
    Move(Move),
    /// A finished file is in the cold store, so its local copy may go.
    Cool(ColdFile),
}

/// Batches of one partition have been copied to other files, all or only those that remain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub id: PartitionId,
    /// The files whose extents of the partition are replaced: neighbours, oldest first. When some of them
    /// are not there any more for another reason than deletion below the log start, nothing is.
    pub replaces: Vec<FileId>,
    pub extents: Vec<Extent>,
    /// Set by compaction: up to where no key has an older record, and how many bytes that is.
    pub cleaned: Option<Cleaned>,
    /// Of the aborted transactions that end below `cleaned`, those of which something is left.
    pub aborted: Vec<Aborted>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    pub to: Offset,
    pub bytes: u64,
}

/// Everything that a start needs to know of the files before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The latest time that the log was told.
    pub time: TimestampMs,
    /// Runs below this number have existed.
    pub next_run: u64,
    pub partitions: Vec<PartitionState>,
    pub cold: Vec<ColdFile>,
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serializing plain data into memory has no way to fail.
    postcard::to_stdvec(value).unwrap_or_default()
}
