//! What can go wrong with a backup, and what to do then.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::LogError;

#[derive(Debug, Error)]
pub enum BackupError {
    #[error("{} is not the data directory of a Headwater broker: {reason}; name the one that `headwater up --data-dir` uses", .directory.display())]
    NotHeadwater { directory: PathBuf, reason: String },
    #[error("{} has format {found}, and this build reads format {supported}; use the Headwater that wrote it", .directory.display())]
    Format { directory: PathBuf, found: u32, supported: u32 },
    #[error("{} holds no backup: {reason}", .directory.display())]
    NotABackup { directory: PathBuf, reason: String },
    #[error("the backups there are of cluster {theirs}, and this is cluster {ours}; name another directory")]
    OtherCluster { theirs: String, ours: String },
    #[error("another backup is being written to {}; wait for its end", .0.display())]
    Busy(PathBuf),
    #[error(
        "another backup is being written to {} ({who}); wait for its end, or, when it was killed, go on with --unlock",
        .place.display()
    )]
    Locked { place: PathBuf, who: String },
    #[error("{} is not empty; restore into a new directory", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} holds a restore that was cut short; remove the directory and restore again", .0.display())]
    Unfinished(PathBuf),
    #[error("there is no backup {wanted}; there are {there}")]
    Unknown { wanted: String, there: String },
    #[error("there is not enough space: {needed} bytes are needed{}; free some or name another directory", free_text(.free))]
    NoSpace { needed: u64, free: Option<u64> },
    #[error(
        "{file} of backup {id} is damaged: {reason}; restore another backup with --at ID, and take a new one"
    )]
    Damaged { id: String, file: String, reason: String },
    #[error(
        "the manifest {file} is damaged: {reason}; restore another backup with --at ID, and take a new one"
    )]
    Manifest { file: String, reason: String },
    #[error(
        "the log changed faster than it could be copied, {0} times; what was copied is kept, run it again"
    )]
    Moving(u32),
    #[error(
        "{file} ({bytes} bytes) is in the cold store only; name it as the broker does (headwater.cold.store): --cold-store URL"
    )]
    Cold { file: String, bytes: u64 },
    #[error(
        "the cold store '{url}' cannot be used: {reason}; name it as the broker does (headwater.cold.store)"
    )]
    ColdStore { url: String, reason: String },
    #[error(
        "'{url}' cannot be used: {reason}; name a directory, or s3://BUCKET/PREFIX with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for another than Amazon's, AWS_ENDPOINT_URL in the environment"
    )]
    ObjectStore { url: String, reason: String },
    #[error(
        "{file} should be in the cold store, and {reason}; see that --cold-store names the broker's own, bring the object back, or take what there is with --without-lost"
    )]
    ColdLost { file: String, reason: String },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

fn free_text(free: &Option<u64>) -> String {
    free.map_or_else(String::new, |free| format!(", and {free} are free"))
}

/// For `map_err`: an error of the disk with what was being done.
pub fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io { what: what.into(), source }
}
