//! Objects in the cold store that no commit names: a move that was killed left them, or a removal that
//! failed. They go when they have been so for a while.
//!
//! Only the log that owns its place in the store sweeps it. A log that was restored from a backup has the
//! same objects under the same names; what it does not know may be what the log it was copied from needs.

use std::collections::BTreeMap;
use std::io;

use headwater_model::TimestampMs;

use crate::disk::{Disk, DiskFile};
use crate::log::Shared;
use crate::place::FileId;
use crate::recovery::read_file;

/// The object, and the local file, that say whose place in the store it is.
const OWNER: &str = "cold-owner";
const UNFINISHED: &str = "cold-owner-unfinished";

/// Since when objects have been known to nobody.
#[derive(Debug, Default)]
pub struct Orphans {
    since: BTreeMap<String, TimestampMs>,
}

/// What one look at the store did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: usize,
    /// Objects that nobody knows of and that have not been so for long enough.
    pub waiting: usize,
}

pub(crate) fn sweep<D: Disk>(
    shared: &Shared<D>,
    orphans: &mut Orphans,
    now: TimestampMs,
    grace_ms: TimestampMs,
    most: usize,
) -> io::Result<Swept> {
    let Some(store) = &shared.cold.store else { return Ok(Swept::default()) };
    let unknown = |name: &String| FileId::parse(name).is_some_and(|file| !shared.cold.knows(file));
    let found: Vec<String> = store.list()?.into_iter().filter(unknown).collect();
    let before = std::mem::take(&mut orphans.since);
    orphans.since = found
        .into_iter()
        .map(|name| (before.get(&name).copied().unwrap_or(now), name))
        .map(|(since, name)| (name, since))
        .collect();
    let due = |since: &TimestampMs| now.saturating_sub(*since) >= grace_ms;
    let old: Vec<String> = orphans
        .since
        .iter()
        .filter(|(_, since)| due(since))
        .map(|(name, _)| name.clone())
        .take(most)
        .collect();
    let mut swept = Swept::default();
    for name in old {
        // It may have become known since the store was listed.
        if unknown(&name) {
            store.delete(&name)?;
            swept.removed += 1;
        }
        orphans.since.remove(&name);
    }
    swept.waiting = orphans.since.len();
    Ok(swept)
}

/// Whether the place in the store is this log's. A place without an owner becomes its own, which shows the
/// next time: of two that try at once one finds the other's name. Not so when there are objects which this log
/// does not know: they may be those of the log that this one was restored from, by a version without owners.
pub(crate) fn owns<D: Disk>(shared: &Shared<D>, fresh: u64) -> io::Result<bool> {
    let Some(store) = &shared.cold.store else { return Ok(false) };
    let disk = &*shared.disk;
    let own = match disk.open(OWNER) {
        Ok(file) => read_file(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = format!("{fresh:016x}").into_bytes();
            let file = disk.create(UNFINISHED)?;
            file.write_all_at(&name, 0)?;
            file.sync()?;
            disk.rename(UNFINISHED, OWNER)?;
            disk.sync_directory()?;
            name
        }
        Err(error) => return Err(error),
    };
    match store.get(OWNER) {
        Ok(owner) => Ok(owner == own),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let foreign = |name: &String| FileId::parse(name).is_some_and(|file| !shared.cold.knows(file));
            if !store.list()?.iter().any(foreign) {
                store.put(OWNER, own)?;
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
