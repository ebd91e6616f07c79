//! Work beside the commits: indexes, removals, spare files. Losing any of it in a crash loses nothing.

use std::io;
use std::sync::Arc;

use crate::cold;
use crate::commit::is_full;
use crate::disk::{Disk, DiskFile};
use crate::index::{self, FileIndex};
use crate::log::Shared;
use crate::place::FileId;
use crate::recovery;

static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// So much of a file is given back at once. A file system that tells its disk what is free (ext4 with `discard`) lets
/// nobody write until it has: 64 MiB kept commits waiting for 20 ms.
const PIECE: u64 = 1 << 20;

/// One piece of work; it needs no lock on the log.
pub struct Chore<D: Disk> {
    shared: Arc<Shared<D>>,
    work: Work,
}

enum Work {
    NoteNewest {
        journal: FileId,
    },
    SaveIndex {
        file: FileId,
        index: FileIndex,
    },
    /// What was allocated behind the end of a finished journal is given back.
    Truncate {
        file: FileId,
        length: u64,
    },
    /// A journal may be kept under another name, to be used again, where a whole journal still fits beside it.
    Remove {
        file: FileId,
        spare: Option<String>,
        length: u64,
    },
    /// A spare journal that nobody wants.
    Discard {
        name: String,
    },
    Evict {
        file: FileId,
    },
    RemoveCold {
        file: FileId,
    },
    /// Blocks that were written before are quicker to sync than new ones.
    Prepare {
        name: String,
        length: u64,
    },
}

impl<D: Disk> Chore<D> {
    pub(crate) fn save_index(shared: &Arc<Shared<D>>, file: FileId, index: FileIndex) -> Self {
        Self { shared: Arc::clone(shared), work: Work::SaveIndex { file, index } }
    }

    pub(crate) fn truncate(shared: &Arc<Shared<D>>, file: FileId, length: u64) -> Self {
        Self { shared: Arc::clone(shared), work: Work::Truncate { file, length } }
    }

    pub(crate) fn remove(shared: &Arc<Shared<D>>, file: FileId, spare: Option<String>, length: u64) -> Self {
        Self { shared: Arc::clone(shared), work: Work::Remove { file, spare, length } }
    }

    pub(crate) fn note_newest(shared: &Arc<Shared<D>>, journal: FileId) -> Self {
        Self { shared: Arc::clone(shared), work: Work::NoteNewest { journal } }
    }

    pub(crate) fn evict(shared: &Arc<Shared<D>>, file: FileId) -> Self {
        Self { shared: Arc::clone(shared), work: Work::Evict { file } }
    }

    pub(crate) fn remove_cold(shared: &Arc<Shared<D>>, file: FileId) -> Self {
        Self { shared: Arc::clone(shared), work: Work::RemoveCold { file } }
    }

    pub(crate) fn discard(shared: &Arc<Shared<D>>, name: String) -> Self {
        Self { shared: Arc::clone(shared), work: Work::Discard { name } }
    }

    pub(crate) fn prepare(shared: &Arc<Shared<D>>, name: String, length: u64) -> Self {
        Self { shared: Arc::clone(shared), work: Work::Prepare { name, length } }
    }

    /// Whether it asks the cold store, which may take its time. What is left undone the cleaner makes up for.
    pub fn waits_for_store(&self) -> bool {
        matches!(self.work, Work::Evict { .. } | Work::RemoveCold { .. })
    }

    /// As [`Self::run_with_rests`], without.
    pub fn run(self) -> io::Result<Option<String>> {
        self.run_with_rests(&mut || {})
    }

    /// Does it. Returns the name of a spare journal for [`crate::Log::spare_ready`], if it made one. Between two pieces of
    /// work that others may have to wait for, `rest` is called.
    pub fn run_with_rests(self, rest: &mut dyn FnMut()) -> io::Result<Option<String>> {
        let disk = &*self.shared.disk;
        match self.work {
            Work::SaveIndex { file, index } => {
                index::save(disk, file, &index)?;
                self.shared.indexes.unpin(file);
                Ok(None)
            }
            Work::Truncate { file, length } => {
                shrink(&disk.open(&file.name())?, length, rest)?;
                Ok(None)
            }
            Work::Remove { file, spare, length } => {
                if !file.is_run() || disk.open(&file.index_name()).is_ok() {
                    // The index may not have been saved.
                    let _ = disk.remove(&file.index_name());
                }
                let spare = spare.filter(|_| has_room(disk, length));
                let removed = match spare {
                    Some(spare) => put_aside(&self.shared, file, spare),
                    None => remove(&self.shared, file, rest).map(|()| None),
                };
                match removed {
                    // It was in the cold store only.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    removed => removed,
                }
            }
            Work::NoteNewest { journal } => recovery::note_newest(disk, journal).map(|()| None),
            Work::Discard { name } => give_back(disk, &name, rest).map(|()| None),
            // What is not there stays here, and goes there again.
            Work::Evict { file } => cold::evict(&self.shared, file, rest).map(|_| None),
            Work::RemoveCold { file } => cold::remove(&self.shared, file).map(|()| None),
            // Half of what is free, at most: the rest is for the journal that is being written, and for all else.
            Work::Prepare { length, .. } if !has_room(disk, length.saturating_mul(2)) => Ok(None),
            Work::Prepare { name, length } => match fill(disk, &name, length) {
                Ok(()) => Ok(Some(name)),
                Err(error) => {
                    // What was begun would keep from the records what space there is.
                    let _ = disk.remove(&name);
                    if is_full(&error) { Ok(None) } else { Err(error) }
                }
            },
        }
    }
}

/// Gives a file that nobody needs another name, unless somebody still reads it: he keeps its bytes until he is done,
/// so it is not written again. `None` when it is gone for that, or since no other name could be had: where the disk is full,
/// the directory may have no space for one.
fn put_aside<D: Disk>(shared: &Shared<D>, file: FileId, name: String) -> io::Result<Option<String>> {
    shared.files.retire(file, |is_read| {
        if !is_read && shared.disk.rename(&file.name(), &name).is_ok() {
            return Ok(Some(name));
        }
        shared.disk.remove(&file.name()).map(|()| None)
    })
}

/// Removes a file that nobody needs. One that somebody still reads loses its name only. The copies of a mirror may not have
/// the same names while one of them is filled, so there it goes at once.
pub(crate) fn remove<D: Disk>(shared: &Shared<D>, file: FileId, rest: &mut dyn FnMut()) -> io::Result<()> {
    let disk = &*shared.disk;
    if disk.copies() > 1 || disk.open(&file.name())?.len()? <= PIECE {
        return shared.files.retire(file, |_| disk.remove(&file.name()));
    }
    match put_aside(shared, file, recovery::doomed_name(file))? {
        // After a power cut no file that has its name may lack its end.
        Some(doomed) => disk.sync_directory().and_then(|()| give_back(disk, &doomed, rest)),
        None => Ok(()),
    }
}

/// Removes a file that nobody knows.
fn give_back(disk: &impl Disk, name: &str, rest: &mut dyn FnMut()) -> io::Result<()> {
    if disk.copies() > 1 {
        return disk.remove(name);
    }
    // What is needed for the records may take it away meanwhile.
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let removed = match disk.open(name).and_then(|file| shrink(&file, 0, rest)) {
        Err(error) if gone(&error) => return Ok(()),
        // What cannot be cut off goes all the same.
        _ => disk.remove(name),
    };
    match removed {
        Err(error) if gone(&error) => Ok(()),
        removed => removed,
    }
}

/// Cuts a file off, piece by piece.
fn shrink(file: &impl DiskFile, length: u64, rest: &mut dyn FnMut()) -> io::Result<()> {
    let mut at = file.len()?;
    while at > length.saturating_add(PIECE) {
        at -= PIECE;
        file.set_len(at)?;
        rest();
    }
    file.set_len(length)
}

/// Where the file system does not say how much is free, there is room until there is none.
fn has_room(disk: &impl Disk, length: u64) -> bool {
    disk.free().is_none_or(|free| free >= length)
}

fn fill(disk: &impl Disk, name: &str, length: u64) -> io::Result<()> {
    let file = disk.create(name)?;
    let mut at = 0;
    while at < length {
        let step = (length - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..step as usize], at)?;
        at += step;
    }
    file.sync()
}
