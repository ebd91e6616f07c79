//! From a backup to a log that can be opened.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::check::{self, Checked};
use super::error::doing;
use super::manifest::{Manifest, NamedDamage};
use super::store::{self, Counter};
use super::{Backup, BackupError, Entry, Watch};
use crate::{BROKER_STATE, Disk, DiskFile, Log, Settings, index};

/// What a restored log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub partitions: u64,
    pub bytes: u64,
    pub last_commit: u64,
    pub damage: Vec<NamedDamage>,
}

/// The bytes of a file, when they are what the manifest says.
fn contents<B: Disk>(backup: &Backup<B>, id: &str, entry: &Entry) -> Result<Vec<u8>, BackupError> {
    let damaged =
        |reason: String| BackupError::Damaged { id: id.to_owned(), file: entry.stored.clone(), reason };
    let read = || -> io::Result<Vec<u8>> {
        let file = backup.files.open(&entry.stored)?;
        if file.len()? < entry.length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; entry.length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| match error.kind() {
        ErrorKind::NotFound => damaged("it is not there".to_owned()),
        ErrorKind::UnexpectedEof => damaged(format!("it has less than {} bytes", entry.length)),
        _ => doing(format!("reading {}", entry.stored))(error),
    })?;
    match crc32c::crc32c(&bytes) == entry.crc32c {
        true => Ok(bytes),
        false => Err(damaged("its checksum is another".to_owned())),
    }
}

/// Copies what a manifest names to an empty disk, reads all of it back and makes the indexes.
///
/// # Errors
/// `Damaged` when the backup is, `NoSpace`, and the disks'.
pub fn copy_back<B: Disk, L: Disk>(
    backup: &Backup<B>,
    manifest: &Manifest,
    log: &L,
    free: Option<u64>,
    watch: Watch<'_>,
) -> Result<Checked, BackupError> {
    let needed = manifest.totals.file_bytes;
    if let Some(free) = free.filter(|free| *free < needed) {
        return Err(BackupError::NoSpace { needed, free: Some(free) });
    }
    let mut counter = Counter::new(watch);
    counter.begin(needed);
    for entry in &manifest.files {
        let bytes = contents(backup, &manifest.id, entry)?;
        store::write_checked(log, &entry.name, &bytes, entry.crc32c, &mut counter)?;
    }
    log.sync_directory().map_err(doing("syncing the log's directory"))?;
    let mut checked = Checked { problems: Vec::new(), damage: Vec::new(), bytes: 0 };
    checked.examine(log, manifest, watch, |file, places| {
        // An index that is missing is built when it is needed.
        let _ = index::save(log, file, places);
    });
    match checked.problems.first() {
        None => Ok(checked),
        Some((file, reason)) => {
            Err(BackupError::Damaged { id: manifest.id.clone(), file: file.clone(), reason: reason.clone() })
        }
    }
}

/// Opens the log once, as a broker would, and says what it holds.
///
/// # Errors
/// `Damaged` when it is not at the commit that the manifest names, and those of [`Log::open`].
pub fn open_restored<L: Disk>(
    log: Arc<L>,
    manifest: &Manifest,
    checked: Checked,
) -> Result<Restored, BackupError> {
    let log = Log::open(log, Settings { spares: 0, vital: Some(BROKER_STATE), ..Settings::default() })?;
    let last_commit = log.staging() - 1;
    if last_commit != manifest.last_commit {
        return Err(BackupError::Damaged {
            id: manifest.id.clone(),
            file: "the log".to_owned(),
            reason: format!("its last commit is {last_commit}, and not {}", manifest.last_commit),
        });
    }
    let reader = log.reader();
    let partitions = log.partitions();
    let mut bytes = 0;
    for id in &partitions {
        bytes += reader.size(*id)?;
    }
    let mut damage = checked.damage;
    damage.extend(reader.damage().iter().map(|(id, damage)| NamedDamage::new(*id, damage)));
    check::tidy(&mut damage);
    Ok(Restored { partitions: partitions.len() as u64, bytes, last_commit, damage })
}
