//! Finished files that need not be on this disk: where they are, and how they come back.
//!
//! A file goes in this order: it is copied to the store, read back and compared, a commit says that it is
//! there, and only then the local copy may go. A crash anywhere leaves a copy that somebody knows of. When
//! a reader needs the file it is fetched once for all who wait ([`crate::flights`]), piece by piece, checked,
//! and kept as long as there is room.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use serde::{Deserialize, Serialize};

use crate::chore;
use crate::disk::{Disk, DiskFile};
use crate::flights::Flights;
use crate::log::{Shared, lock, read, write};
use crate::ownership;
use crate::place::FileId;
use crate::planted::{self, Bug};
use crate::recovery::FETCHED;

/// Gives an object piece by piece, each of [`PIECE`] but for the last; `None` behind that.
pub type Pieces<'a> = &'a mut dyn FnMut() -> io::Result<Option<Vec<u8>>>;

/// Objects by name, as S3 and its like keep them; a name is written once.
pub trait ColdStore: Send + Sync + 'static {
    /// Puts an object of which no more than two pieces are in memory at once. It is there as a whole or not at all.
    ///
    /// # Errors
    /// The store's and those of `pieces`.
    fn put(&self, name: &str, pieces: Pieces<'_>) -> io::Result<()>;
    /// Puts it where nothing is by that name; false when there is. A store that cannot do both at once may let
    /// the last of several that try have it.
    fn put_new(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool>;
    fn get(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A part of it, as long as asked for, unless the object ends before.
    fn get_range(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>>;
    /// What is not there is no error.
    fn delete(&self, name: &str) -> io::Result<()>;
    fn list(&self) -> io::Result<Vec<String>>;
    /// Its length in bytes; `None` when it is not there.
    fn size(&self, name: &str) -> io::Result<Option<u64>>;
}

/// So much of a file is asked for, and in memory, at once.
pub const PIECE: usize = 8 << 20;

/// A file that is in the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdFile {
    pub file: FileId,
    pub length: u64,
    pub crc: u32,
}

/// The store and what is known to be in it.
#[derive(Default)]
pub(crate) struct Cold {
    pub store: Option<Arc<dyn ColdStore>>,
    pub files: RwLock<BTreeMap<FileId, ColdFile>>,
    pub fetches: AtomicU64,
    pub flights: Flights,
    /// The log's name for the store has been written to all sides of a mirror.
    pub named: AtomicBool,
    /// Files that came back, oldest first, and the bytes of those that are on their way.
    pub back: Mutex<VecDeque<FileId>>,
    pub coming: AtomicU64,
}

/// Whoever reads history leaves the disk as much again as a file takes, up to this, for what is written.
const LEFT_FREE: u64 = 128 << 20;

pub(crate) fn no_store(name: &str) -> io::Error {
    io::Error::other(format!(
        "{name} is in the cold store, and the broker was started without one; start it with --config headwater.cold.store=URL"
    ))
}

impl Cold {
    pub fn knows(&self, file: FileId) -> bool {
        read(&self.files).contains_key(&file)
    }

    fn store(&self, file: FileId) -> io::Result<&Arc<dyn ColdStore>> {
        self.store.as_ref().ok_or_else(|| no_store(&file.name()))
    }

    /// Reads a file of the store a piece at a time, with where each begins.
    ///
    /// # Errors
    /// `InvalidData` when it is not what was put there, which shows at its end; the store's and `each`'s.
    fn each_piece(
        &self,
        cold: &ColdFile,
        mut each: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let (store, name) = (self.store(cold.file)?, cold.file.name());
        let (mut at, mut crc) = (0, 0);
        while at < cold.length {
            let wanted = (cold.length - at).min(PIECE as u64) as usize;
            let bytes = store.get_range(&name, at, wanted)?;
            if bytes.len() != wanted {
                return Err(other_than_put(&name));
            }
            crc = crc32c::crc32c_append(crc, &bytes);
            each(&bytes, at)?;
            at += wanted as u64;
        }
        match crc == cold.crc || planted::is(Bug::TrustColdStore) {
            true => Ok(()),
            false => Err(other_than_put(&name)),
        }
    }
}

fn other_than_put(name: &str) -> io::Error {
    let what = format!("{name} in the cold store is not what was put there");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Copies a finished file to the store and reads it back, a piece at a time. The place is this log's.
pub(crate) fn upload<D: Disk>(shared: &Shared<D>, file: FileId) -> io::Result<ColdFile> {
    // The handle that readers have: of a mirror it reads the side that was found to be good.
    let open = shared.files.get(&*shared.disk, file)?;
    let length = open.len()?;
    let (mut at, mut crc) = (0, 0);
    let mut pieces = || -> io::Result<Option<Vec<u8>>> {
        let wanted = (length - at).min(PIECE as u64) as usize;
        let mut piece = vec![0; wanted];
        open.read_exact_at(&mut piece, at)?;
        crc = crc32c::crc32c_append(crc, &piece);
        at += wanted as u64;
        Ok((wanted > 0).then_some(piece))
    };
    shared.cold.store(file)?.put(&file.name(), &mut pieces)?;
    if at < length {
        return Err(io::Error::other(format!("the cold store has not taken all of {}", file.name())));
    }
    let cold = ColdFile { file, length, crc };
    if !planted::is(Bug::SkipColdCheck) {
        shared.cold.each_piece(&cold, |_, _| Ok(()))?;
    }
    Ok(cold)
}

/// Brings a file back to the local disk, unless it is there. Who asks for one that is on its way waits for it,
/// and is told what becomes of it.
pub(crate) fn fetch<D: Disk>(shared: &Shared<D>, file: FileId) -> io::Result<Arc<D::File>> {
    let here = || shared.files.get(&*shared.disk, file);
    match here() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let cold = read(&shared.cold.files).get(&file).copied();
    let cold = cold
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", file.name())))?;
    let come = || {
        shared.cold.flights.join(file, || match here() {
            // It came since it was looked for.
            Ok(_) => Ok(()),
            Err(_) => bring(shared, &cold),
        })
    };
    come()?;
    match here() {
        // It made room for another already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            come()?;
            here()
        }
        found => found,
    }
}

fn bring<D: Disk>(shared: &Shared<D>, cold: &ColdFile) -> io::Result<()> {
    let coming = shared.cold.coming.fetch_add(cold.length, Ordering::Relaxed) + cold.length;
    let mut left = cold.length;
    let brought = make_room(shared, cold, coming).and_then(|()| write_copy(shared, cold, &mut left));
    shared.cold.coming.fetch_sub(left, Ordering::Relaxed);
    if brought.is_ok() {
        let mut back = lock(&shared.cold.back);
        back.retain(|file| *file != cold.file);
        back.push_back(cold.file);
    }
    brought
}

/// What came back first goes first, where the disk has no room for what is coming: the cleaner, who keeps the disk
/// within its bound, may be busy elsewhere.
fn make_room<D: Disk>(shared: &Shared<D>, cold: &ColdFile, coming: u64) -> io::Result<()> {
    let wanted = coming.saturating_add(cold.length.min(LEFT_FREE));
    while let Some(free) = shared.disk.free().filter(|free| *free < wanted) {
        let oldest = lock(&shared.cold.back).pop_front();
        let Some(oldest) = oldest else {
            let what = format!(
                "{} is in the cold store, and {free} bytes are free here where it needs {wanted}; free some",
                cold.file.name()
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        };
        evict(shared, oldest, &mut || {})?;
    }
    Ok(())
}

/// `left` is what has not come yet: what has is no longer free.
fn write_copy<D: Disk>(shared: &Shared<D>, cold: &ColdFile, left: &mut u64) -> io::Result<()> {
    let fetch = shared.cold.fetches.fetch_add(1, Ordering::Relaxed);
    let name = format!("{FETCHED}{fetch}-{}", cold.file.name());
    let copy = shared.disk.create(&name)?;
    let written = shared.cold.each_piece(cold, |piece, at| {
        copy.write_all_at(piece, at)?;
        let came = (piece.len() as u64).min(*left);
        *left -= came;
        shared.cold.coming.fetch_sub(came, Ordering::Relaxed);
        Ok(())
    });
    // A torn copy under the file's name would be taken for the file after a crash.
    let named =
        written.and_then(|()| copy.sync()).and_then(|()| shared.disk.rename(&name, &cold.file.name()));
    if let Err(error) = named {
        // The next start removes it.
        let _ = shared.disk.remove(&name);
        return Err(error);
    }
    if !shared.cold.knows(cold.file) {
        // Nobody needs it any more, and whoever was to remove it did not find it.
        shared.disk.remove(&cold.file.name())?;
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", cold.file.name())));
    }
    // Whoever wants it opens it by its own name.
    Ok(())
}

/// Removes the local copy of a file that is in the store. Readers that have it open keep it. False when the
/// store does not have it: a log that was restored from a backup knows of objects that are in another place.
pub(crate) fn evict<D: Disk>(shared: &Shared<D>, file: FileId, rest: &mut dyn FnMut()) -> io::Result<bool> {
    let Some(cold) = read(&shared.cold.files).get(&file).copied() else { return Ok(false) };
    // What is in another log's place may go without a word.
    ownership::check(shared)?;
    if shared.cold.store(file)?.size(&file.name())? != Some(cold.length) {
        return Ok(false);
    }
    lock(&shared.cold.back).retain(|other| *other != file);
    match chore::remove(shared, file, rest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        removed => removed.map(|()| true),
    }
}

/// Removes a file from the store that nobody needs. In another log's place it stays.
pub(crate) fn remove<D: Disk>(shared: &Shared<D>, file: FileId) -> io::Result<()> {
    let Some(store) = &shared.cold.store else { return Ok(()) };
    match ownership::check(shared) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(file = %file.name(), %error, "a file that this log needs no more stays in the cold store");
            Ok(())
        }
        checked => checked.and_then(|()| store.delete(&file.name())),
    }
}

impl Cold {
    pub fn set(&self, cold: ColdFile) {
        write(&self.files).insert(cold.file, cold);
    }

    pub fn forget(&self, file: FileId) -> bool {
        write(&self.files).remove(&file).is_some()
    }

    pub fn all(&self) -> Vec<ColdFile> {
        read(&self.files).values().copied().collect()
    }
}
