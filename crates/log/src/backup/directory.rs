//! Backups of directories of the file system, in others or in object storage.
//!
//! ```text
//! DIR/headwater.json, DIR/log/           a data directory, as crates/broker/src/directory.rs has it
//! BACKUP/files/, BACKUP/manifests/       backups
//! BACKUP/backup.lock                     held with flock(2) while one is written
//! URL/lock/backup.lock                   the same in object storage: there while one is written
//! ```
//! A restore is called `log.restoring` until it is complete, which no broker takes for its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};

use super::error::doing;
use super::objects::{ObjectDisk, Writing};
use super::{
    Backup, BackupError, Checked, Manifest, Outcome, Pruned, Restored, Source, Watch, back_up, copy_back,
    open_restored, prune, verify,
};
use crate::real_file::RealFile;
use crate::{ColdStore, Disk, FORMAT, OLDEST_FORMAT, RealDisk};

const MARKER: &str = "headwater.json";
const UNFINISHED_MARKER: &str = "headwater.json.restoring";
const LOG: &str = "log";
const UNFINISHED_LOG: &str = "log.restoring";
const FILES: &str = "files";
const MANIFESTS: &str = "manifests";
const LOCK: &str = "backup.lock";
const OBJECTS_LOCK: &str = "lock";
/// What a file system puts into its root.
const LOST: &str = "lost+found";

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    cluster_id: String,
    /// Its log has a journal, so a broker that finds none does not begin an empty one.
    #[serde(default)]
    begun: bool,
}

/// A directory that is only read, so that reading it needs no other right.
struct ReadOnly(PathBuf);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(ErrorKind::PermissionDenied, "it is only read"))
}

impl Disk for ReadOnly {
    type File = RealFile;

    fn create(&self, _name: &str) -> io::Result<RealFile> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        File::open(self.0.join(name)).map(RealFile::from)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        RealDisk::new(&self.0).list()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self) -> io::Result<()> {
        refused()
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    doing(path.display().to_string())
}

/// Opens the place of a cluster, by its id, in a cold store.
pub type OpenCold<'a> = &'a dyn Fn(&str) -> Result<Box<dyn ColdStore>, BackupError>;

/// Where files are that the data directory does not have.
#[derive(Default)]
pub struct ColdFiles<'a> {
    pub open: Option<OpenCold<'a>>,
    /// As [`Source::without_lost`].
    pub without_lost: bool,
}

/// Where backups are kept.
pub enum Kept<'a> {
    Directory(PathBuf),
    /// `open` opens a part of the place that the URL names, by the part's name.
    Objects {
        url: String,
        open: OpenCold<'a>,
    },
}

impl Kept<'_> {
    fn shown(&self) -> PathBuf {
        match self {
            Self::Directory(path) => path.clone(),
            Self::Objects { url, .. } => PathBuf::from(url),
        }
    }
}

fn in_directory(path: &Path) -> Backup<RealDisk> {
    Backup { files: RealDisk::new(path.join(FILES)), manifests: RealDisk::new(path.join(MANIFESTS)) }
}

fn of_objects(open: OpenCold<'_>) -> Result<Backup<ObjectDisk>, BackupError> {
    Ok(Backup { files: ObjectDisk::new(open(FILES)?), manifests: ObjectDisk::new(open(MANIFESTS)?) })
}

/// Takes a backup of a data directory, whether a broker runs on it or not. `created` is RFC 3339. `unlock` goes on where
/// one that was killed has left its lock in object storage.
pub fn back_up_directory(
    data_dir: &Path,
    to: &Kept<'_>,
    created: &str,
    unlock: bool,
    cold: &ColdFiles<'_>,
    watch: Watch<'_>,
) -> Result<Outcome, BackupError> {
    let marker = read_marker(data_dir)?;
    let log = data_dir.join(LOG);
    if !log.is_dir() {
        let reason = format!("it has no {LOG}");
        return Err(BackupError::NotHeadwater { directory: data_dir.to_owned(), reason });
    }
    crate::disk::allow_many_files();
    let disk = ReadOnly(log);
    let store = cold.open.map(|open| open(&marker.cluster_id)).transpose()?;
    let source = Source {
        disk: &disk,
        cluster_id: &marker.cluster_id,
        format: marker.format,
        cold: store.as_deref(),
        without_lost: cold.without_lost,
    };
    match to {
        Kept::Directory(to) => {
            make_backup_directory(to)?;
            let _lock = lock(to)?;
            back_up(&source, &in_directory(to), created, &|| free(to), watch)
        }
        Kept::Objects { url, open } => {
            let _writing = Writing::begin(open(OBJECTS_LOCK)?, url, created, unlock)?;
            back_up(&source, &of_objects(*open)?, created, &|| None, watch)
        }
    }
}

type Manifests = Vec<Result<Manifest, BackupError>>;

/// The manifests of all backups, oldest first; one that is damaged as its error.
pub fn list_backups(from: &Kept<'_>) -> Result<Manifests, BackupError> {
    fn all<B: Disk>(backup: &Backup<B>) -> Result<Manifests, BackupError> {
        Ok(backup.ids()?.iter().map(|id| backup.manifest(id)).collect())
    }
    match from {
        Kept::Directory(path) => all(&existing(path)?),
        Kept::Objects { open, .. } => all(&of_objects(*open)?),
    }
}

/// Removes all backups but the last `keep`. `created` and `unlock` as for [`back_up_directory`].
pub fn prune_backups(
    from: &Kept<'_>,
    keep: usize,
    created: &str,
    unlock: bool,
) -> Result<Pruned, BackupError> {
    match from {
        Kept::Directory(path) => {
            existing(path)?;
            let _lock = lock(path)?;
            prune(&in_directory(path), keep)
        }
        Kept::Objects { url, open } => {
            let _writing = Writing::begin(open(OBJECTS_LOCK)?, url, created, unlock)?;
            prune(&of_objects(*open)?, keep)
        }
    }
}

/// Looks at all of a backup and changes nothing.
pub fn verify_backup(
    from: &Kept<'_>,
    id: Option<&str>,
    watch: Watch<'_>,
) -> Result<(Manifest, Checked), BackupError> {
    fn look<B: Disk>(
        backup: &Backup<B>,
        id: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<(Manifest, Checked), BackupError> {
        let manifest = backup.find(id)?;
        let checked = verify(backup, &manifest, watch)?;
        Ok((manifest, checked))
    }
    crate::disk::allow_many_files();
    match from {
        Kept::Directory(path) => look(&existing(path)?, id, watch),
        Kept::Objects { open, .. } => look(&of_objects(*open)?, id, watch),
    }
}

/// Makes a data directory of a backup.
pub fn restore_directory(
    from: &Kept<'_>,
    id: Option<&str>,
    data_dir: &Path,
    watch: Watch<'_>,
) -> Result<(Manifest, Restored), BackupError> {
    match from {
        Kept::Directory(path) => restore(&existing(path)?, &from.shown(), id, data_dir, watch),
        Kept::Objects { open, .. } => restore(&of_objects(*open)?, &from.shown(), id, data_dir, watch),
    }
}

fn restore<B: Disk>(
    backup: &Backup<B>,
    from: &Path,
    id: Option<&str>,
    data_dir: &Path,
    watch: Watch<'_>,
) -> Result<(Manifest, Restored), BackupError> {
    let manifest = backup.find(id)?;
    if !is_readable(manifest.log_format) {
        let (found, directory) = (manifest.log_format, from.to_owned());
        return Err(BackupError::Format { directory, found, supported: FORMAT });
    }
    refuse_used(data_dir)?;
    let log = data_dir.join(UNFINISHED_LOG);
    fs::create_dir_all(&log).map_err(at(&log))?;
    let restored = restore_log(backup, &manifest, &log, free(data_dir), watch);
    match restored.and_then(|restored| finish(data_dir, &manifest).map(|()| restored)) {
        Ok(restored) => Ok((manifest, restored)),
        Err(error) => {
            // What is left could not be used.
            let _ = fs::remove_dir_all(&log);
            Err(error)
        }
    }
}

fn restore_log<B: Disk>(
    backup: &Backup<B>,
    manifest: &Manifest,
    log: &Path,
    free: Option<u64>,
    watch: Watch<'_>,
) -> Result<Restored, BackupError> {
    let disk = RealDisk::new(log);
    let checked = copy_back(backup, manifest, &disk, free, watch)?;
    open_restored(Arc::new(disk), manifest, checked)
}

fn is_readable(format: u32) -> bool {
    (OLDEST_FORMAT..=FORMAT).contains(&format)
}

/// The directory becomes a broker's in its last step. What was restored is open: it has a journal of this
/// build's format.
fn finish(data_dir: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let marker = Marker { format: FORMAT, cluster_id: manifest.cluster_id.clone(), begun: true };
    let unfinished = data_dir.join(UNFINISHED_MARKER);
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(serde_json::to_string_pretty(&marker)?.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        sync(data_dir)?;
        fs::rename(data_dir.join(UNFINISHED_LOG), data_dir.join(LOG))?;
        sync(data_dir)?;
        fs::rename(&unfinished, data_dir.join(MARKER))?;
        sync(data_dir)
    };
    write().map_err(at(data_dir))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_marker(data_dir: &Path) -> Result<Marker, BackupError> {
    let refused = |reason: String| BackupError::NotHeadwater { directory: data_dir.to_owned(), reason };
    let text = fs::read(data_dir.join(MARKER)).map_err(|error| refused(format!("{MARKER}: {error}")))?;
    let marker: Marker =
        serde_json::from_slice(&text).map_err(|error| refused(format!("{MARKER}: {error}")))?;
    match is_readable(marker.format) {
        true => Ok(marker),
        false => Err(BackupError::Format {
            directory: data_dir.to_owned(),
            found: marker.format,
            supported: FORMAT,
        }),
    }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn refuse_used(data_dir: &Path) -> Result<(), BackupError> {
    let names = match names(data_dir) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(data_dir)(error)),
    };
    if names.iter().any(|name| name == UNFINISHED_LOG || name == UNFINISHED_MARKER) {
        return Err(BackupError::Unfinished(data_dir.to_owned()));
    }
    match names.iter().all(|name| name == LOST) {
        true => Ok(()),
        false => Err(BackupError::NotEmpty(data_dir.to_owned())),
    }
}

fn existing(from: &Path) -> Result<Backup<ReadOnly>, BackupError> {
    let (files, manifests) = (from.join(FILES), from.join(MANIFESTS));
    for part in [&files, &manifests] {
        if !part.is_dir() {
            let reason = format!("there is no {}", part.display());
            return Err(BackupError::NotABackup { directory: from.to_owned(), reason });
        }
    }
    Ok(Backup { files: ReadOnly(files), manifests: ReadOnly(manifests) })
}

fn make_backup_directory(to: &Path) -> Result<(), BackupError> {
    fs::create_dir_all(to).map_err(at(to))?;
    let names = names(to).map_err(at(to))?;
    let ours = |name: &String| [FILES, MANIFESTS, LOCK, LOST].contains(&name.as_str());
    if let Some(foreign) = names.iter().find(|name| !ours(name))
        && !names.iter().any(|name| name == MANIFESTS)
    {
        let reason = format!("it has {foreign} in it; name a new directory, or one with backups");
        return Err(BackupError::NotABackup { directory: to.to_owned(), reason });
    }
    for part in [FILES, MANIFESTS] {
        let part = to.join(part);
        fs::create_dir_all(&part).map_err(at(&part))?;
    }
    sync(to).map_err(at(to))
}

fn lock(to: &Path) -> Result<File, BackupError> {
    let path = to.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(at(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BackupError::Busy(to.to_owned())),
        Err(error) => Err(at(&path)(error.into())),
    }
}

/// Bytes that may be written; `None` where the file system does not say.
fn free(directory: &Path) -> Option<u64> {
    let space = statvfs(directory).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}
