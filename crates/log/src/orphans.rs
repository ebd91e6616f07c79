//! Objects in the cold store that no commit names: a move that was killed left them, or a removal that
//! failed. They go when they have been so for a while.
//!
//! Only the log that owns its place in the store sweeps it ([`crate::ownership`]).

use std::collections::{BTreeMap, HashSet};
use std::io;

use headwater_model::TimestampMs;

use crate::disk::Disk;
use crate::log::{Shared, lock, read};
use crate::ownership;
use crate::place::FileId;

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
    ownership::check(shared)?;
    let missing = missing(shared)?;
    let unknown = |name: &String| {
        FileId::parse(name).is_some_and(|file| !shared.cold.knows(file) && !missing.contains(&file))
    };
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

/// Files that partitions need and that are not on this disk. A commit that is damaged beyond reading may have said of one
/// that it is in the store; what is there by its name is then all there is.
fn missing<D: Disk>(shared: &Shared<D>) -> io::Result<HashSet<FileId>> {
    let mut missing = HashSet::new();
    for partition in read(&shared.partitions).values() {
        missing.extend(lock(partition).extents.iter().map(|extent| extent.file));
    }
    for file in shared.disk.list()?.iter().filter_map(|name| FileId::parse(name)) {
        missing.remove(&file);
    }
    Ok(missing)
}
