//! Finished files that need not be on this disk: where they are, and how they come back.
//!
//! A file goes in this order: it is copied to the store, read back and compared, a commit says that it is
//! there, and only then the local copy may go. A crash anywhere leaves a copy that somebody knows of. When
//! a reader needs the file it is fetched as a whole, checked, and kept as long as there is room.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile};
use crate::log::{Shared, read, write};
use crate::ownership;
use crate::place::FileId;
use crate::planted::{self, Bug};
use crate::recovery::FETCHED;

/// Objects by name, as S3 and its like keep them; a name is written once.
pub trait ColdStore: Send + Sync + 'static {
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()>;
    /// Puts it where nothing is by that name; false when there is. A store that cannot do both at once may let
    /// the last of several that try have it.
    fn put_new(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool>;
    fn get(&self, name: &str) -> io::Result<Vec<u8>>;
    /// What is not there is no error.
    fn delete(&self, name: &str) -> io::Result<()>;
    fn list(&self) -> io::Result<Vec<String>>;
    /// Its length in bytes; `None` when it is not there.
    fn size(&self, name: &str) -> io::Result<Option<u64>>;
}

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
    /// The log's name for the store has been written to all sides of a mirror.
    pub named: AtomicBool,
}

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

    fn bytes(&self, cold: &ColdFile) -> io::Result<Vec<u8>> {
        let bytes = self.store(cold.file)?.get(&cold.file.name())?;
        let same = bytes.len() as u64 == cold.length && crc32c::crc32c(&bytes) == cold.crc;
        match same || planted::is(Bug::TrustColdStore) {
            true => Ok(bytes),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} in the cold store is not what was put there", cold.file.name()),
            )),
        }
    }
}

/// Copies a finished file to the store and reads it back.
pub(crate) fn upload<D: Disk>(shared: &Shared<D>, file: FileId) -> io::Result<ColdFile> {
    ownership::check(shared)?;
    let bytes = crate::recovery::read_file(&shared.disk.open(&file.name())?)?;
    let cold = ColdFile { file, length: bytes.len() as u64, crc: crc32c::crc32c(&bytes) };
    shared.cold.store(file)?.put(&file.name(), bytes)?;
    if !planted::is(Bug::SkipColdCheck) {
        shared.cold.bytes(&cold)?;
    }
    Ok(cold)
}

/// Brings a file back to the local disk, unless it is there.
pub(crate) fn fetch<D: Disk>(shared: &Shared<D>, file: FileId) -> io::Result<Arc<D::File>> {
    match shared.files.get(&*shared.disk, file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let cold = read(&shared.cold.files).get(&file).copied();
    let cold = cold
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", file.name())))?;
    let bytes = shared.cold.bytes(&cold)?;
    // Whoever fetches the same file at the same time writes the same bytes under another name.
    let fetch = shared.cold.fetches.fetch_add(1, Ordering::Relaxed);
    let name = format!("{FETCHED}{fetch}-{}", file.name());
    let copy = shared.disk.create(&name)?;
    copy.write_all_at(&bytes, 0)?;
    // A torn copy under the file's name would be taken for the file after a crash.
    copy.sync()?;
    shared.disk.rename(&name, &file.name())?;
    let copy = Arc::new(copy);
    shared.files.put(file, Arc::clone(&copy));
    Ok(copy)
}

/// Removes the local copy of a file that is in the store. Readers that have it open keep it. False when the
/// store does not have it: a log that was restored from a backup knows of objects that are in another place.
pub(crate) fn evict<D: Disk>(shared: &Shared<D>, file: FileId) -> io::Result<bool> {
    let Some(cold) = read(&shared.cold.files).get(&file).copied() else { return Ok(false) };
    // What is in another log's place may go without a word.
    ownership::check(shared)?;
    if shared.cold.store(file)?.size(&file.name())? != Some(cold.length) {
        return Ok(false);
    }
    shared.files.forget(file);
    match shared.disk.remove(&file.name()) {
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
