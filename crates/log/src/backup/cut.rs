//! A consistent cut through a log that is being written: which files a start would need to get there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use super::view::View;
use crate::cold::ColdFile;
use crate::recovery::{self, Seen};
use crate::{Disk, DiskFile, FileId, LogError};

/// A file that the cut needs.
pub struct Needed<F> {
    pub id: FileId,
    pub file: Arc<F>,
    /// Of journals that were scanned: the length of what is in the cut. Others are finished.
    pub end: Option<u64>,
}

pub struct Cut<F> {
    pub seen: Seen,
    pub needed: Vec<Needed<F>>,
    /// Needed and in the cold store only.
    pub cold: Vec<ColdFile>,
    /// Needed and neither here nor there.
    pub missing: Vec<FileId>,
}

/// Opens everything and finds the last whole commit; `None` when the log went on so fast meanwhile that
/// there may be journals between the ones that were found. Files are opened before the journal is read, so
/// what the broker removes from then on can still be read; what it recycles must be looked at again after
/// it was copied ([`is_there`]).
pub fn cut<D: Disk>(source: &D) -> Result<Option<Cut<D::File>>, LogError> {
    let listed = list(source)?;
    let open = open_all(source, &listed)?;
    let newest = newest(&listed);
    // One that was there before this began, and is not listed, has two behind it.
    let next = newest.map_or(0, |journal| journal.number() + 1);
    let went_on = self::newest(&list(source)?).is_some_and(|journal| journal.number() > next);
    if went_on || newest.is_some_and(|newest| !open.contains_key(&newest)) {
        return Ok(None);
    }
    let mut view = View::default();
    for (id, file) in &open {
        let length = if newest == Some(*id) { written(&**file, *id)? } else { file.len()? };
        view.put(id.name(), Arc::clone(file), length);
    }
    let seen = recovery::look(&view)?;
    for (scanned, _) in &seen.ends {
        // What was read of it may have been another journal's, so that an older one seemed to be the last.
        if !is_there(source, *scanned)? {
            return Ok(None);
        }
    }
    let scanned: BTreeMap<FileId, u64> = seen.ends.iter().copied().filter(|(_, end)| *end > 0).collect();
    let mut ids: BTreeSet<FileId> = scanned.keys().copied().collect();
    ids.extend(seen.partitions.values().flat_map(|partition| &partition.extents).map(|extent| extent.file));
    let mut cut = Cut { seen, needed: Vec::new(), cold: Vec::new(), missing: Vec::new() };
    for id in ids {
        match (open.get(&id), cut.seen.cold.get(&id)) {
            (Some(file), _) => {
                cut.needed.push(Needed { id, file: Arc::clone(file), end: scanned.get(&id).copied() });
            }
            (None, Some(cold)) => cut.cold.push(*cold),
            (None, None) => cut.missing.push(id),
        }
    }
    Ok(Some(cut))
}

fn list<D: Disk>(source: &D) -> Result<BTreeSet<FileId>, LogError> {
    Ok(source.list()?.iter().filter_map(|name| FileId::parse(name)).collect())
}

fn newest(files: &BTreeSet<FileId>) -> Option<FileId> {
    files.iter().rfind(|id| !id.is_run()).copied()
}

type Open<F> = BTreeMap<FileId, Arc<F>>;

fn open_all<D: Disk>(source: &D, listed: &BTreeSet<FileId>) -> Result<Open<D::File>, LogError> {
    let mut open = Open::new();
    for id in listed {
        match source.open(&id.name()) {
            Ok(file) => drop(open.insert(*id, Arc::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(open)
}

/// Up to where the journal that is being written is known to be. A frame is written when the one before
/// it is, so whatever is before the last one that can be seen does not change any more, even if the look
/// at it came too early to see it.
fn written(file: &impl DiskFile, journal: FileId) -> Result<u64, LogError> {
    Ok(recovery::end_of_frames(&recovery::read_file(file)?, journal) as u64)
}

/// Whether a journal still has its name. One that has lost it may be written again as another, so what
/// was read of it may be anything.
pub fn is_there<D: Disk>(source: &D, id: FileId) -> std::io::Result<bool> {
    match source.open(&id.name()) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
