//! Copies of a log that is being written, and the way back.
//!
//! The log is one sequence of commits, so a prefix of it is a consistent cut through all partitions. A
//! backup needs nothing of the broker: it opens the files, reads the newest journal to its last whole
//! frame, and copies what a start would need to get there. Finished files never change, so each is copied
//! once, however many backups name it.
//!
//! ```text
//! manifests/ID.json   one backup: the files with their lengths and checksums; written last
//! files/NNN.wal …     shared by all backups; a journal is there as its longest prefix
//! ```
//! Invariant: what an older manifest names stays byte for byte what it was. A file with the same name and
//! other contents (of a log that went another way since a restore) is stored beside it.
//!
//! Deliberately absent: encryption.

mod check;
mod cut;
mod directory;
mod error;
mod manifest;
mod objects;
mod prune;
mod restore;
mod store;
mod take;
mod view;

use crate::Disk;

pub use check::{Checked, verify};
pub use directory::{
    ColdFiles, Kept, OpenCold, back_up_directory, list_backups, prune_backups, restore_directory,
    verify_backup,
};
pub use error::BackupError;
pub use manifest::{Entry, Manifest, NamedDamage, Totals};
pub use prune::{Pruned, prune};
pub use restore::{Restored, copy_back, open_restored};
pub use take::{Outcome, Source, back_up};

/// Where backups are kept.
pub struct Backup<D: Disk> {
    pub files: D,
    pub manifests: D,
}

/// How far long work has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub done: u64,
    pub total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Copying,
    Checking,
}

/// Told of progress.
pub type Watch<'a> = &'a mut dyn FnMut(Progress);
