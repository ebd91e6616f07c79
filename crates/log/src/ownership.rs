//! Whose place in the cold store it is.
//!
//! Files have numbers, and a log that was restored from a backup gives them again: what it puts into the place
//! of the log that it was copied from goes over what that one needs, and what it removes there is gone. So a
//! place has one owner, whose name is an object in it. Nobody else puts, removes, or relies on anything there;
//! whoever knows of a file may read it.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;

use crate::cold::{ColdStore, no_store};
use crate::disk::{Disk, DiskFile};
use crate::log::Shared;
use crate::place::FileId;
use crate::recovery::read_file;

/// The object, and the local file, that say whose place in the store it is. Backups do not have the file.
pub const OWNER: &str = "cold-owner";
const UNFINISHED: &str = "cold-owner-unfinished";

/// What a log finds out about its place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    Ours,
    /// The object names another log.
    Others,
    /// Nobody's, and there are files that this log does not know: it may have been restored from a backup of
    /// the log that put them there, by a version without owners.
    Unknown,
}

impl Ownership {
    /// Why nothing is put there, and what to do.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Ours => None,
            Self::Others => Some(
                "this place in the cold store is another log's (its object cold-owner says so), so nothing moves there or is removed there, and files stay on this disk; give this broker a prefix of its own in headwater.cold.store, or, when the other log is gone for good, copy log/cold-owner of this data directory over that object",
            ),
            Self::Unknown => Some(
                "this place in the cold store holds files that this log does not know, and no object cold-owner says whose they are, so nothing moves there or is removed there, and files stay on this disk; give this broker a prefix of its own in headwater.cold.store, or, when no other log needs those files, copy log/cold-owner of this data directory there",
            ),
        }
    }
}

/// The name by which the store knows this log, once it has one.
fn own_name<D: Disk>(disk: &D) -> io::Result<Option<Vec<u8>>> {
    match disk.open(OWNER) {
        Ok(file) => read_file(&file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_name<D: Disk>(disk: &D, name: &[u8]) -> io::Result<()> {
    let file = disk.create(UNFINISHED)?;
    file.write_all_at(name, 0)?;
    file.sync()?;
    disk.rename(UNFINISHED, OWNER)?;
    disk.sync_directory()
}

fn owner(store: &dyn ColdStore) -> io::Result<Option<Vec<u8>>> {
    match store.get(OWNER) {
        Ok(owner) => Ok(Some(owner)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn judged(own: &[u8], owner: &[u8]) -> Ownership {
    if own == owner { Ownership::Ours } else { Ownership::Others }
}

/// Takes a place that is nobody's, if this log knows all that lies there. `fresh` is a number never used.
pub fn claim<D: Disk>(shared: &Shared<D>, fresh: u64) -> io::Result<Ownership> {
    let disk = &*shared.disk;
    let store = shared.cold.store.as_deref().ok_or_else(|| no_store(OWNER))?;
    let known = own_name(disk)?;
    let is_new = known.is_none();
    let own = known.unwrap_or_else(|| format!("{fresh:016x}").into_bytes());
    // A mirror that was filled by a version without this file has it on one side only.
    if is_new || (disk.copies() > 1 && !shared.cold.named.load(Ordering::Relaxed)) {
        write_name(disk, &own)?;
        shared.cold.named.store(true, Ordering::Relaxed);
    }
    if let Some(owner) = owner(store)? {
        return Ok(judged(&own, &owner));
    }
    let unknown = |name: &String| FileId::parse(name).is_some_and(|file| !shared.cold.knows(file));
    if store.list()?.iter().any(unknown) {
        return Ok(Ownership::Unknown);
    }
    // Of two that come at once one finds the other's name.
    store.put_new(OWNER, own.clone())?;
    Ok(owner(store)?.map_or(Ownership::Others, |owner| judged(&own, &owner)))
}

/// Looks whether the place is this log's, before anything there is changed or relied upon.
pub fn check<D: Disk>(shared: &Shared<D>) -> io::Result<()> {
    let store = shared.cold.store.as_deref().ok_or_else(|| no_store(OWNER))?;
    let ownership = match (own_name(&*shared.disk)?, owner(store)?) {
        (Some(own), Some(owner)) => judged(&own, &owner),
        (None, Some(_)) => Ownership::Others,
        (_, None) => Ownership::Unknown,
    };
    match ownership.refusal() {
        None => Ok(()),
        Some(refusal) => Err(io::Error::new(ErrorKind::PermissionDenied, refusal)),
    }
}
