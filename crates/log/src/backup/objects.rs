//! Backups in object storage: a disk whose files are objects.
//!
//! An object is there as a whole or not at all, so what is unfinished is in memory, and becomes an object when it is
//! given its name. It is read back and compared then. Nothing locks a bucket, so who writes there leaves an object that
//! says so.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::BackupError;
use super::error::doing;
use crate::cold::PIECE;
use crate::log::lock;
use crate::{ColdStore, Disk, DiskFile};

/// The object of who writes.
const LOCK: &str = "backup.lock";

type Contents = Arc<Mutex<Vec<u8>>>;

pub struct ObjectDisk {
    store: Arc<dyn ColdStore>,
    unfinished: Mutex<HashMap<String, Contents>>,
}

pub enum ObjectFile {
    Unfinished(Contents),
    There { store: Arc<dyn ColdStore>, name: String, length: u64 },
}

impl ObjectDisk {
    pub fn new(store: Box<dyn ColdStore>) -> Self {
        Self { store: store.into(), unfinished: Mutex::default() }
    }

    fn compare(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let mut at = 0;
        for piece in contents.chunks(PIECE) {
            if self.store.get_range(name, at, piece.len())? != piece {
                let what = format!("the store returns other bytes of {name} than were put there");
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
            at += piece.len() as u64;
        }
        match self.store.size(name)? {
            Some(length) if length == at => Ok(()),
            _ => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("{name} is longer than what was put there"),
            )),
        }
    }
}

impl Disk for ObjectDisk {
    type File = ObjectFile;

    fn create(&self, name: &str) -> io::Result<ObjectFile> {
        let contents = Contents::default();
        lock(&self.unfinished).insert(name.to_owned(), Arc::clone(&contents));
        Ok(ObjectFile::Unfinished(contents))
    }

    fn open(&self, name: &str) -> io::Result<ObjectFile> {
        let length = self.store.size(name)?;
        let length =
            length.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{name}: no such object")))?;
        Ok(ObjectFile::There { store: Arc::clone(&self.store), name: name.to_owned(), length })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.store.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match lock(&self.unfinished).remove(name) {
            Some(_) => Ok(()),
            None => self.store.delete(name),
        }
    }

    /// Puts what is unfinished under its name, over what that one began with.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let contents = lock(&self.unfinished).remove(from).ok_or(ErrorKind::NotFound)?;
        let contents = std::mem::take(&mut *lock(&contents));
        let mut rest = contents.chunks(PIECE);
        self.store.put(to, &mut || Ok(rest.next().map(<[u8]>::to_vec)))?;
        self.compare(to, &contents)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for ObjectFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        match self {
            Self::Unfinished(contents) => {
                let contents = lock(contents);
                let from = usize::try_from(position).map_err(|_| ErrorKind::InvalidInput)?;
                let there = from.checked_add(buffer.len()).and_then(|end| contents.get(from..end));
                buffer.copy_from_slice(there.ok_or(ErrorKind::UnexpectedEof)?);
            }
            Self::There { length, .. } if position.saturating_add(buffer.len() as u64) > *length => {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Self::There { store, name, .. } => {
                let mut at = position;
                for piece in buffer.chunks_mut(PIECE) {
                    let bytes = store.get_range(name, at, piece.len())?;
                    if bytes.len() != piece.len() {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    piece.copy_from_slice(&bytes);
                    at += piece.len() as u64;
                }
            }
        }
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let Self::Unfinished(contents) = self else { return Err(ErrorKind::PermissionDenied.into()) };
        let mut contents = lock(contents);
        let from = usize::try_from(position).map_err(|_| ErrorKind::InvalidInput)?;
        let end = from + bytes.len();
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[from..end].copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Unfinished(contents) => Ok(lock(contents).len() as u64),
            Self::There { length, .. } => Ok(*length),
        }
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The place of who writes backups; given back when it is dropped.
pub struct Writing(Box<dyn ColdStore>);

impl Writing {
    /// `url` is for messages. `unlock` takes the place of one that was killed.
    ///
    /// # Errors
    /// `Locked` when somebody else writes there, and the store's.
    pub fn begin(
        store: Box<dyn ColdStore>,
        url: &str,
        created: &str,
        unlock: bool,
    ) -> Result<Self, BackupError> {
        let failed = || doing(format!("taking {LOCK} in {url}"));
        if unlock {
            store.delete(LOCK).map_err(failed())?;
        }
        let text = format!("since {created}, by process {}", std::process::id());
        if store.put_new(LOCK, text.into_bytes()).map_err(failed())? {
            return Ok(Self(store));
        }
        let who = store
            .get(LOCK)
            .map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned());
        Err(BackupError::Locked { place: PathBuf::from(url), who })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Err(error) = self.0.delete(LOCK) {
            tracing::warn!(%error, "the lock of this backup is left behind; the next one needs --unlock");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::Pieces;

    /// Objects in memory, which it may spoil.
    #[derive(Clone, Default)]
    struct Memory {
        objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
        spoils: Arc<AtomicBool>,
    }

    impl ColdStore for Memory {
        fn put(&self, name: &str, pieces: Pieces<'_>) -> io::Result<()> {
            let mut bytes = Vec::new();
            while let Some(piece) = pieces()? {
                bytes.extend(piece);
            }
            if self.spoils.load(Ordering::Relaxed) {
                bytes.reverse();
            }
            lock(&self.objects).insert(name.to_owned(), bytes);
            Ok(())
        }

        fn put_new(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool> {
            let mut objects = lock(&self.objects);
            let is_new = !objects.contains_key(name);
            objects.entry(name.to_owned()).or_insert(bytes);
            Ok(is_new)
        }

        fn get(&self, name: &str) -> io::Result<Vec<u8>> {
            lock(&self.objects).get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
        }

        fn get_range(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>> {
            let bytes = self.get(name)?;
            Ok(bytes[from as usize..(from as usize + length).min(bytes.len())].to_vec())
        }

        fn delete(&self, name: &str) -> io::Result<()> {
            lock(&self.objects).remove(name);
            Ok(())
        }

        fn list(&self) -> io::Result<Vec<String>> {
            Ok(lock(&self.objects).keys().cloned().collect())
        }

        fn size(&self, name: &str) -> io::Result<Option<u64>> {
            Ok(lock(&self.objects).get(name).map(|bytes| bytes.len() as u64))
        }
    }

    #[test]
    fn what_is_unfinished_is_no_object_and_what_has_its_name_is_one() {
        let store = Memory::default();
        let disk = ObjectDisk::new(Box::new(store.clone()));
        let bytes: Vec<u8> = (0..PIECE + 1000).map(|at| (at / 7) as u8).collect();
        let file = disk.create("a.new").unwrap();
        let (first, rest) = bytes.split_at(500);
        file.write_all_at(first, 0).unwrap();
        file.write_all_at(rest, 500).unwrap();
        assert_eq!((store.list().unwrap().len(), file.len().unwrap()), (0, bytes.len() as u64));
        assert_eq!(disk.open("a").err().unwrap().kind(), ErrorKind::NotFound);
        disk.rename("a.new", "a").unwrap();
        let file = disk.open("a").unwrap();
        let mut read = vec![0; bytes.len() - 10];
        file.read_exact_at(&mut read, 10).unwrap();
        assert!(read == bytes[10..]);
        let beyond = file.read_exact_at(&mut [0; 11], bytes.len() as u64 - 10);
        assert_eq!(beyond.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(disk.rename("a.new", "b").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn an_object_that_is_not_what_was_put_there_is_told_of() {
        let store = Memory::default();
        let disk = ObjectDisk::new(Box::new(store.clone()));
        store.spoils.store(true, Ordering::Relaxed);
        disk.create("a.new").unwrap().write_all_at(b"not a palindrome", 0).unwrap();
        assert_eq!(disk.rename("a.new", "a").unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn one_writes_at_a_time_unless_it_was_killed() {
        let store = Memory::default();
        let begin = |unlock| Writing::begin(Box::new(store.clone()), "s3://bucket", "today", unlock);
        let first = begin(false).ok().unwrap();
        let refused = begin(false).err().unwrap().to_string();
        assert!(refused.contains("s3://bucket") && refused.contains("today"), "{refused}");
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        // Killed, it gives nothing back.
        std::mem::forget(begin(false).ok().unwrap());
        assert!(begin(false).is_err());
        drop(begin(true).ok().unwrap());
        assert!(store.list().unwrap().is_empty());
    }
}
