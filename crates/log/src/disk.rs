//! The disk as the log sees it: files by name in one directory, positional I/O, explicit syncs.
//!
//! `RealDisk` is a directory; `SimDisk` is memory that loses, tears and reorders what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::mirror::Mended;
use crate::place::FileId;
use crate::real_file::RealFile;

/// One directory of files.
pub trait Disk: Send + Sync + 'static {
    type File: DiskFile;
    /// Creates an empty file; an existing one is truncated.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    fn open(&self, name: &str) -> io::Result<Self::File>;
    fn list(&self) -> io::Result<Vec<String>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The new name must be free.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, renamings and removals durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// How many bytes files may still take; `None` where nobody says.
    fn free(&self) -> Option<u64> {
        None
    }

    /// What was found on it is gone on with: until this is called nothing may be changed that somebody could want back.
    fn go_on(&self) -> io::Result<()> {
        Ok(())
    }

    /// How many copies of a file there are.
    fn copies(&self) -> usize {
        1
    }

    /// Makes all copies of a file as good as the best of each of its parts.
    fn heal(&self, _file: FileId) -> io::Result<()> {
        Ok(())
    }

    /// Looks at all copies of a part of a file and writes a good one over those that are not.
    fn mend(
        &self,
        file: &Self::File,
        position: u64,
        length: usize,
        good: &dyn Fn(&[u8]) -> bool,
    ) -> io::Result<Mended> {
        let mut bytes = vec![0; length];
        let readable = match file.read_exact_at(&mut bytes, position) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => false,
            read => read.map(|()| good(&bytes))?,
        };
        Ok(Mended { damaged: usize::from(!readable), repaired: 0, readable })
    }

    /// Files of which another copy is read than before; each is named once.
    fn take_switched(&self) -> Vec<FileId> {
        Vec::new()
    }
}

/// One open file; writes are durable after `sync`.
pub trait DiskFile: Send + Sync + 'static {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;
    /// As [`Self::read_exact_at`], and what comes behind is not read ahead: others may have to wait for that.
    fn read_no_more_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.read_exact_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// As [`Self::write_all_at`], of what nobody is expected to read soon: where the file system can, it does not go
    /// through the page cache. It must be lined up for that (`crate::real_file::lead`), or goes through it.
    fn write_past_cache(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Contents and length, as fdatasync(2) does.
    fn sync(&self) -> io::Result<()>;
    /// Takes space up to `length` where the file system can; what is read of it is zero.
    fn allocate(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }
    /// Whether these bytes can be read without waiting for the medium.
    fn is_resident(&self, _position: u64, _length: usize) -> bool {
        true
    }

    /// Waits until these bytes can be read without waiting for the medium. It need not look at all of them: who reads them
    /// may find errors yet.
    fn warm(&self, position: u64, length: usize) -> io::Result<()> {
        self.read_exact_at(&mut vec![0; length], position)
    }

    /// These bytes will not be read soon, so they need not stay in memory.
    fn forget(&self, _position: u64, _length: usize) {}

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
}

impl RealDisk {
    /// The directory must exist.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn explain(path: &Path, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let path = self.path(name);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        opened.map(RealFile::from).map_err(|error| Self::explain(&path, error))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let path = self.path(name);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        opened.map(RealFile::from).map_err(|error| Self::explain(&path, error))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in
            std::fs::read_dir(&self.directory).map_err(|error| Self::explain(&self.directory, error))?
        {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(|error| Self::explain(&path, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        std::fs::rename(&from, &to).map_err(|error| Self::explain(&from, error))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// For whoever is not root.
    fn free(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.directory).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

const SECTOR: usize = 512;

/// What a simulated disk does wrong on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Syncs say that they worked and did nothing: a planted bug the simulation must find.
    pub lying_sync: bool,
    /// The next sync fails, once.
    pub fail_next_sync: bool,
    /// Files may be created and written no more: there is no space.
    pub full: bool,
    /// How many bytes all files may have: a write that goes beyond it is done in part, and fails.
    pub capacity: Option<u64>,
    /// No file gets another name: there is no space for it in the directory.
    pub no_renames: bool,
    /// Everything fails, as on a disk that has been pulled out.
    pub gone: bool,
    /// Everything fails from the so many-th change or sync on.
    pub gone_after: Option<u32>,
}

/// A disk in memory. [`SimDisk::crash`] keeps what was synced, and of each sector and directory entry
/// that was not, either the old or the new, as the seed decides.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<SimState>>,
}

#[derive(Default)]
struct SimState {
    names: BTreeMap<String, Inode>,
    durable_names: BTreeMap<String, Inode>,
    faults: Faults,
}

type Inode = Arc<Mutex<SimContents>>;

#[derive(Default, Clone)]
struct SimContents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that cannot be read until they are written.
    broken: BTreeSet<usize>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimState {
    /// A disk that is gone does nothing any more; a change may be its last.
    fn alive(&mut self, is_change: bool) -> io::Result<()> {
        if is_change && let Some(left) = &mut self.faults.gone_after {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.faults.gone = true,
            }
        }
        match self.faults.gone {
            true => Err(io::Error::other("simulated: the disk is gone")),
            false => Ok(()),
        }
    }
}

impl SimState {
    /// What its capacity leaves.
    fn free(&self) -> Option<u64> {
        let capacity = self.faults.capacity?;
        let taken: u64 = self.names.values().map(|inode| locked(inode).now.len() as u64).sum();
        Some(capacity.saturating_sub(taken))
    }
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut locked(&self.state).faults);
    }

    /// The disk after the power went: `choose` is asked for every uncertain sector and entry.
    pub fn crash(&self, mut choose: impl FnMut() -> bool) -> Self {
        let state = locked(&self.state);
        let mut after = SimState::default();
        let all: BTreeSet<&String> = state.names.keys().chain(state.durable_names.keys()).collect();
        let mut kept_inodes = Vec::new();
        for name in all {
            let (now, durable) = (state.names.get(name), state.durable_names.get(name));
            let kept = match (now, durable) {
                (Some(now), Some(durable)) if Arc::ptr_eq(now, durable) => Some(now),
                (now, durable) => {
                    if choose() {
                        now
                    } else {
                        durable
                    }
                }
            };
            // A renaming is atomic: a file has one of its names.
            if let Some(inode) = kept.filter(|inode| !kept_inodes.contains(&Arc::as_ptr(inode))) {
                kept_inodes.push(Arc::as_ptr(inode));
                let contents = locked(inode).torn(&mut choose);
                let inode = Arc::new(Mutex::new(SimContents {
                    now: contents.clone(),
                    durable: contents,
                    ..SimContents::default()
                }));
                after.names.insert(name.clone(), Arc::clone(&inode));
                after.durable_names.insert(name.clone(), inode);
            }
        }
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// Flips one bit of a file, as a bad medium does.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let state = locked(&self.state);
        if let Some(inode) = state.names.get(name) {
            let mut contents = locked(inode);
            let at = (bit / 8) as usize;
            if at < contents.now.len() {
                contents.now[at] ^= 1 << (bit % 8);
            }
        }
    }

    /// The sector that holds this byte of a file cannot be read until it is written, as on a bad medium.
    pub fn break_sector(&self, name: &str, position: u64) {
        if let Some(inode) = locked(&self.state).names.get(name) {
            locked(inode).broken.insert(position as usize / SECTOR);
        }
    }
}

impl SimContents {
    fn sectors(position: usize, length: usize) -> std::ops::Range<usize> {
        position / SECTOR..(position + length).div_ceil(SECTOR)
    }

    fn torn(&self, choose: &mut impl FnMut() -> bool) -> Vec<u8> {
        let mut kept = if self.now.len() != self.durable.len() && choose() {
            self.now.clone()
        } else {
            self.durable.clone()
        };
        if kept.len() < self.now.len() && choose() {
            kept.resize(self.now.len(), 0);
        }
        let length = kept.len();
        for start in (0..length).step_by(SECTOR) {
            let end = (start + SECTOR).min(length);
            let sector = |bytes: &[u8]| -> Vec<u8> {
                let mut sector = vec![0; end - start];
                if start < bytes.len() {
                    let known = &bytes[start..end.min(bytes.len())];
                    sector[..known.len()].copy_from_slice(known);
                }
                sector
            };
            let (now, durable) = (sector(&self.now), sector(&self.durable));
            let chosen = if now == durable || choose() { now } else { durable };
            kept[start..end].copy_from_slice(&chosen);
        }
        kept
    }
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    disk: Arc<Mutex<SimState>>,
    inode: Inode,
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = locked(&self.state);
        state.alive(true)?;
        if state.faults.full {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = Inode::default();
        state.names.insert(name.to_owned(), Arc::clone(&inode));
        Ok(SimFile { disk: Arc::clone(&self.state), inode })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut state = locked(&self.state);
        state.alive(false)?;
        let inode = state.names.get(name).cloned();
        let inode =
            inode.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{name}: no such file")))?;
        Ok(SimFile { disk: Arc::clone(&self.state), inode })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = locked(&self.state);
        state.alive(false)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.alive(true)?;
        state.names.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.alive(true)?;
        if state.faults.no_renames {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = state.names.remove(from);
        let inode =
            inode.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{from}: no such file")))?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.alive(true)?;
        if !state.faults.lying_sync {
            state.durable_names = state.names.clone();
        }
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        locked(&self.state).free()
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        locked(&self.disk).alive(false)?;
        let contents = locked(&self.inode);
        let start = usize::try_from(position).map_err(|_| ErrorKind::InvalidInput)?;
        let bytes = start.checked_add(buffer.len()).and_then(|end| contents.now.get(start..end));
        let bytes = bytes.ok_or(ErrorKind::UnexpectedEof)?;
        if contents.broken.range(SimContents::sectors(start, buffer.len())).next().is_some() {
            return Err(io::Error::other("simulated: a sector cannot be read"));
        }
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = locked(&self.disk);
        state.alive(true)?;
        if state.faults.full {
            return Err(ErrorKind::StorageFull.into());
        }
        let free = state.free();
        let mut contents = locked(&self.inode);
        let start = usize::try_from(position).map_err(|_| ErrorKind::InvalidInput)?;
        let grows = (start + bytes.len()).saturating_sub(contents.now.len()) as u64;
        let lacking = free.map_or(0, |free| grows.saturating_sub(free)) as usize;
        let fits = &bytes[..bytes.len().saturating_sub(lacking)];
        if !fits.is_empty() {
            let end = start + fits.len();
            if contents.now.len() < end {
                contents.now.resize(end, 0);
            }
            contents.now[start..end].copy_from_slice(fits);
            let written = SimContents::sectors(start, fits.len());
            contents.broken.retain(|sector| !written.contains(sector));
        }
        if fits.len() < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        locked(&self.disk).alive(false)?;
        Ok(locked(&self.inode).now.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        locked(&self.disk).alive(true)?;
        locked(&self.inode).now.resize(length as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = locked(&self.disk);
        state.alive(true)?;
        if std::mem::take(&mut state.faults.fail_next_sync) {
            return Err(io::Error::other("simulated: sync failed"));
        }
        if !state.faults.lying_sync {
            let mut contents = locked(&self.inode);
            contents.durable = contents.now.clone();
        }
        Ok(())
    }
}

/// Lets this process open as many files as the system allows it at all: connections and a backup need them.
pub fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // What is not allowed shows when a file cannot be opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
