//! Why a broker does not start: what, where, and what to do next.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use headwater_coordinator::DecodeError;
use headwater_log::LogError;
use thiserror::Error;

use crate::security::SecurityError;

#[derive(Debug, Error)]
pub enum StartError {
    #[error(
        "the address {address} is in use by another program; choose another with --listen HOST:PORT (port 0 takes a free one)"
    )]
    AddressInUse { address: SocketAddr },
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen HOST:PORT (port 0 takes a free one)"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "the advertised address '{0}' is not HOST:PORT; name the host and port that clients can connect to"
    )]
    Advertised(String),
    #[error(
        "{} holds '{foreign}' and no headwater.json, so it is not a Headwater directory; nothing in it was touched, choose an empty or new directory with --data-dir DIR",
        .directory.display()
    )]
    Foreign { directory: PathBuf, foreign: String },
    #[error(
        "{} is in use by the process with pid {pid}; stop that process, or choose another directory with --data-dir DIR",
        .directory.display()
    )]
    Locked { directory: PathBuf, pid: String },
    #[error(
        "headwater.json in {} says directory format {found}, this build reads {supported}; use the build that wrote it, or another directory",
        .directory.display()
    )]
    Format { directory: PathBuf, found: u32, supported: u32 },
    #[error("{} cannot be read as headwater.json: {reason}; restore it from a copy of the directory", .file.display())]
    Marker { file: PathBuf, reason: String },
    #[error(
        "{} cannot be written: {source}; make it writable for this user, or choose another directory with --data-dir DIR",
        .path.display()
    )]
    ReadOnly { path: PathBuf, source: io::Error },
    #[error(
        "there is no space left for {}; free some, or choose a directory on another disk with --data-dir DIR",
        .path.display()
    )]
    NoSpace { path: PathBuf },
    #[error(
        "{} is no directory, or something above it is none; name a directory with --data-dir DIR, which is made where there is none",
        .path.display()
    )]
    NoDirectory { path: PathBuf },
    #[error(
        "{} is of cluster {cluster} and its log is gone: {}/log holds no journal; bring it back, or restore a backup into a new directory (headwater restore --from BACKUP --data-dir NEW), or remove headwater.json and log from the directory to begin empty",
        .directory.display(), .directory.display()
    )]
    NoLog { directory: PathBuf, cluster: String },
    #[error(
        "{}/log holds '{found}', and headwater.json, which says of which cluster it is, is gone; bring it back from a copy of the directory, or restore a backup into a new directory (headwater restore --from BACKUP --data-dir NEW), or remove log, too, to begin empty",
        .directory.display()
    )]
    NoMarker { directory: PathBuf, found: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the log in {} cannot be opened: {source}", .directory.display())]
    Log { directory: PathBuf, source: LogError },
    #[error("the broker's own state in {} cannot be read: {reason}; start with --config headwater.mirror.dir=DIR when there is a mirror, or restore a backup into another directory: headwater restore --from BACKUP --data-dir DIR", .directory.display())]
    State { directory: PathBuf, reason: StateError },
    #[error(
        "the topic {name} in {} was made by a client under an older version ({partitions} partitions, cleanup.policy={policy}) and holds records, so the broker cannot keep its own there: to keep its records, take a copy of the directory from before the upgrade and read them with the older version; to do without, start once with --config headwater.internal.topics.enable=false, which deletes it; after that it is made anew from the groups and transactions, of which nothing is lost",
        .directory.display()
    )]
    ForeignTopic { directory: PathBuf, name: &'static str, partitions: i32, policy: String },
    #[error(
        "the cold store '{url}' cannot be used: {reason}; use file:///DIRECTORY or s3://BUCKET/PREFIX with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for another than Amazon's, AWS_ENDPOINT_URL in the environment"
    )]
    ColdStore { url: String, reason: String },
    #[error(transparent)]
    Mirror(#[from] headwater_log::MirrorError),
    #[error(
        "{} is of cluster {mirrored} and {} of cluster {cluster}, so one cannot mirror the other; give headwater.mirror.dir an empty directory, or empty this one when nothing in it is needed",
        .mirror.display(), .directory.display()
    )]
    OtherMirror { directory: PathBuf, cluster: String, mirror: PathBuf, mirrored: String },
    #[error("headwater.mirror.dir and the data directory are both {}; name a directory on another disk", .0.display())]
    SameMirror(PathBuf),
    #[error(
        "headwater.mirror.required=true asks for a mirror, and there is none: name a directory on another disk by headwater.mirror.dir, or leave headwater.mirror.required out"
    )]
    NoMirror,
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error(
        "the host of listener {name}://{address} is not known: {reason}; name an address of this machine, or nothing for all of them"
    )]
    Host { name: String, address: String, reason: String },
    #[error("the broker has ended already; its log says why")]
    Ended,
    #[error("cannot start a thread: {0}; the system is out of threads or memory")]
    Thread(io::Error),
}

/// Why the state partition does not give a state.
#[derive(Debug, Error)]
pub enum StateError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Batch(#[from] headwater_wire::BatchError),
    #[error(transparent)]
    Record(#[from] DecodeError),
    #[error(
        "offsets {} to {} of it in {} are damaged ({}), and no snapshot makes up for them, so topics, groups or transactions that they speak of cannot be known",
        .0.first, .0.last, .0.file.name(), .0.cause
    )]
    Damaged(headwater_log::Damage),
    #[error("a record without a value at offset {0}")]
    Empty(i64),
}

impl StartError {
    /// Sorts an error of the file system by what its reader can do about it.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, source }
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NoDirectory { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { path, source },
        }
    }

    pub fn log(directory: &Path, source: LogError) -> Self {
        match source {
            LogError::Io(source) => Self::io(directory, source),
            source => Self::Log { directory: directory.to_owned(), source },
        }
    }
}
