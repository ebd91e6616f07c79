//! Letting go of old backups.
//!
//! Manifests go first, oldest first, and then the files that no manifest names any more: whenever that ends early,
//! every manifest that is left has its files, and the next time the rest goes.

use std::collections::HashSet;

use super::error::doing;
use super::{Backup, BackupError, Manifest};
use crate::Disk;

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of backups, oldest first.
    pub backups: Vec<String>,
    pub files: u64,
    pub bytes: u64,
}

/// Removes all backups but the last `keep`, of which there is at least one. Nobody may be writing a backup there.
///
/// # Errors
/// `Manifest` when one of those that stay cannot be read, for nobody knows then what it needs; nothing is removed. Those
/// of the disks.
pub fn prune<B: Disk>(backup: &Backup<B>, keep: usize) -> Result<Pruned, BackupError> {
    let ids = backup.ids()?;
    let (old, kept) = ids.split_at(ids.len().saturating_sub(keep.max(1)));
    let kept: Vec<Manifest> = kept.iter().map(|id| backup.manifest(id)).collect::<Result<_, _>>()?;
    for id in old {
        backup.remove_manifest(id)?;
    }
    backup.manifests.sync_directory().map_err(doing("syncing the directory of the manifests"))?;
    let mut pruned = Pruned { backups: old.to_vec(), ..Pruned::default() };
    let needed: HashSet<&str> =
        kept.iter().flat_map(|manifest| &manifest.files).map(|file| file.stored.as_str()).collect();
    for name in backup.files.list().map_err(doing("listing the files"))? {
        if needed.contains(name.as_str()) {
            continue;
        }
        let length = backup.files.open(&name).and_then(|file| crate::DiskFile::len(&file));
        backup.files.remove(&name).map_err(doing(format!("removing {name}")))?;
        pruned.files += 1;
        pruned.bytes += length.unwrap_or(0);
    }
    backup.files.sync_directory().map_err(doing("syncing the directory of the files"))?;
    Ok(pruned)
}
