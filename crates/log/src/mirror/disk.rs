//! The two sides as one disk, and what happens when one of them fails.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::file::{Mended, MirroredFile};
use super::heal;
use super::marker::{self, Marker};
use crate::disk::{Disk, DiskFile};
use crate::log::lock;
use crate::place::FileId;
use crate::planted::{self, Bug};

/// A sync of one side, to be done while the other is synced.
pub type Work = Box<dyn FnOnce() -> io::Result<()> + Send>;
/// Waits for what was begun.
pub type Waiting = Box<dyn FnOnce() -> io::Result<()>>;

/// Who does one of two things that may happen at once.
pub trait Beside: Send + Sync + 'static {
    fn begin(&self, work: Work) -> Waiting;
}

/// One after the other.
pub struct InTurn;

impl Beside for InTurn {
    fn begin(&self, work: Work) -> Waiting {
        work
    }
}

const WHOLE: u8 = 0;
const FILLING: u8 = 1;
const LOST: u8 = 2;

/// What is mirrored at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no mirror.
    Single,
    /// Both sides hold everything.
    Both,
    /// One side is being filled from the other.
    Filling { side: String, files_left: usize },
    /// One side is not written any more, until a restart.
    Lost { side: String, reason: String },
}

/// What was done about damage, for whoever watches it.
#[derive(Debug, Default)]
pub struct MirrorActivity {
    /// Damaged copies that were written again from the other side.
    pub repaired: AtomicU64,
    /// Damaged copies that could not be written; the other side is read.
    pub unwritable: AtomicU64,
    /// Places that are damaged on both sides.
    pub beyond_repair: AtomicU64,
    pub files_filled: AtomicU64,
    pub bytes_filled: AtomicU64,
}

pub(super) struct Pair<D: Disk> {
    pub disks: [Option<Arc<D>>; 2],
    pub names: [String; 2],
    pub beside: Arc<dyn Beside>,
    pub required: bool,
    pub activity: MirrorActivity,
    standing: [AtomicU8; 2],
    /// Creations, renamings and removals happen on both sides before the next.
    pub entries: Mutex<()>,
    pub state: Mutex<State>,
    has_switched: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    /// What the side that leads says of itself.
    pub marker: Option<Marker>,
    pub epochs: Epochs,
    /// Names that the side being filled has as a whole.
    pub filled: HashSet<String>,
    /// Files that a side should have and has not.
    pub missing: BTreeSet<(usize, FileId)>,
    /// Why a side is lost.
    pub lost: Option<(usize, String)>,
    /// The side each file was read from last.
    read_from: HashMap<String, usize>,
    switched: Vec<FileId>,
}

/// Numbers that nobody else draws.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epochs(pub u64);

impl Epochs {
    /// As splitmix64 draws them from a seed.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl<D: Disk> Pair<D> {
    pub fn new(disks: [Option<Arc<D>>; 2], names: [String; 2], beside: Arc<dyn Beside>) -> Self {
        let standing = disks.each_ref().map(|disk| AtomicU8::new(if disk.is_some() { WHOLE } else { LOST }));
        Self {
            disks,
            names,
            beside,
            required: false,
            activity: MirrorActivity::default(),
            standing,
            entries: Mutex::new(()),
            state: Mutex::default(),
            has_switched: AtomicBool::new(false),
        }
    }

    pub fn name(&self, side: usize) -> &str {
        &self.names[side]
    }

    pub fn is_lost(&self, side: usize) -> bool {
        self.standing[side].load(Ordering::Acquire) == LOST
    }

    pub fn is_filling(&self, side: usize) -> bool {
        self.standing[side].load(Ordering::Acquire) == FILLING
    }

    /// Whether the side holds everything.
    pub fn is_whole(&self, side: usize) -> bool {
        self.standing[side].load(Ordering::Acquire) == WHOLE
    }

    /// Whether what is open on the side may be read: a side that is being filled opens whole files only.
    pub fn is_read(&self, side: usize) -> bool {
        !self.is_lost(side)
    }

    pub fn begin_filling(&self, side: usize) {
        self.standing[side].store(FILLING, Ordering::Release);
    }

    pub fn end_filling(&self, side: usize) {
        self.standing[side].store(WHOLE, Ordering::Release);
    }

    /// The disk of a side that is not lost.
    pub fn disk(&self, side: usize) -> Option<&Arc<D>> {
        self.disks[side].as_ref().filter(|_| !self.is_lost(side))
    }

    /// A file is read from another side than before: what was checked there was not checked here.
    pub fn switched(&self, name: &str) {
        if let Some(file) = FileId::parse(name) {
            lock(&self.state).switched.push(file);
            self.has_switched.store(true, Ordering::Release);
        }
    }

    fn note_reading(&self, name: &str, side: usize) {
        let before = lock(&self.state).read_from.insert(name.to_owned(), side);
        if before.is_some_and(|before| before != side) {
            self.switched(name);
        }
    }

    /// What both sides did. One that failed where the other did not is lost: when this returns `Ok`, the
    /// other side durably says so. `None` in the outcome is a side that did nothing or is lost.
    pub fn settle<T>(&self, outcomes: [Option<io::Result<T>>; 2]) -> io::Result<[Option<T>; 2]> {
        let mut done = [None, None];
        let mut failed: Vec<(usize, io::Error)> = Vec::new();
        for (side, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Some(Ok(value)) => done[side] = Some(value),
                Some(Err(error)) => failed.push((side, error)),
                None => {}
            }
        }
        if done.iter().all(Option::is_none) {
            return Err(worst(failed));
        }
        for (side, error) in failed {
            self.lose(side, error)?;
        }
        Ok(done)
    }

    /// Goes on without a side, unless the other cannot take it.
    pub fn lose(&self, side: usize, error: io::Error) -> io::Result<()> {
        let mut state = lock(&self.state);
        if self.is_lost(side) {
            return Ok(());
        }
        let (name, reason) = (self.name(side), error.to_string());
        if self.required || !self.is_whole(1 - side) {
            return Err(error);
        }
        let Some(other) = &self.disks[1 - side] else { return Err(error) };
        // A side that is being filled is known to be behind.
        if self.is_whole(side) && !planted::is(Bug::ForgetLostSide) {
            let epoch = state.epochs.draw();
            let alone = state.marker.as_ref().map(|marker| marker.alone(epoch));
            let alone = alone.unwrap_or_else(|| Marker::new(epoch, marker::Role::Alone));
            marker::write(&**other, &alone)?;
            state.marker = Some(alone);
        }
        self.standing[side].store(LOST, Ordering::Release);
        tracing::error!(
            side = name, %reason,
            "one side of the mirror has failed; the log goes on with the other, and a restart copies what the lost side misses"
        );
        state.lost = Some((side, reason));
        Ok(())
    }

    /// Does something on each side that is not lost.
    pub fn on_each<T>(&self, op: impl Fn(usize, &Arc<D>) -> io::Result<T>) -> io::Result<[Option<T>; 2]> {
        let outcomes = [0, 1].map(|side| self.disk(side).map(|disk| op(side, disk)));
        self.settle(outcomes)
    }

    pub fn give_up(&self, side: usize, reason: String) {
        self.standing[side].store(LOST, Ordering::Release);
        lock(&self.state).lost = Some((side, reason));
    }

    pub fn standing(&self) -> Standing {
        let state = lock(&self.state);
        if let Some((side, reason)) = &state.lost {
            return Standing::Lost { side: self.names[*side].clone(), reason: reason.clone() };
        }
        if self.disks.iter().any(Option::is_none) {
            return Standing::Single;
        }
        let side =
            (0..2).find(|side| self.is_filling(*side)).or(state.missing.first().map(|(side, _)| *side));
        drop(state);
        match side {
            Some(side) => Standing::Filling { side: self.names[side].clone(), files_left: self.files_left() },
            None => Standing::Both,
        }
    }
}

/// An error that may pass counts only when all sides have it.
fn worst(failed: Vec<(usize, io::Error)>) -> io::Error {
    let passes = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    };
    let mut errors: Vec<io::Error> = failed.into_iter().map(|(_, error)| error).collect();
    let at = errors.iter().position(|error| !passes(error)).unwrap_or(0);
    match errors.is_empty() {
        true => io::Error::other("no side of the mirror is left"),
        false => errors.swap_remove(at),
    }
}

fn is_missing<T>(outcome: &Option<io::Result<T>>) -> bool {
    matches!(outcome, Some(Err(error)) if error.kind() == ErrorKind::NotFound)
}

/// A [`Disk`] on one or two others. Clones are the same disk.
pub struct MirroredDisk<D: Disk> {
    pub(super) pair: Arc<Pair<D>>,
}

impl<D: Disk> Clone for MirroredDisk<D> {
    fn clone(&self) -> Self {
        Self { pair: Arc::clone(&self.pair) }
    }
}

impl<D: Disk> std::fmt::Debug for MirroredDisk<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MirroredDisk").field("names", &self.pair.names).finish_non_exhaustive()
    }
}

impl<D: Disk> MirroredDisk<D> {
    /// One disk, as it is.
    pub fn single(disk: D) -> Self {
        let names = [String::new(), String::new()];
        Self { pair: Arc::new(Pair::new([Some(Arc::new(disk)), None], names, Arc::new(InTurn))) }
    }

    pub fn standing(&self) -> Standing {
        self.pair.standing()
    }

    pub fn activity(&self) -> &MirrorActivity {
        &self.pair.activity
    }

    fn file(&self, name: &str, sides: [Option<D::File>; 2]) -> io::Result<MirroredFile<D>> {
        let leads = |side: &usize| sides[*side].is_some() && self.pair.is_whole(*side);
        let reading = (0..2).find(leads).or((0..2).find(|side| sides[*side].is_some()));
        let reading = reading.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        self.pair.note_reading(name, reading);
        Ok(MirroredFile::new(&self.pair, name, sides.map(|side| side.map(Arc::new)), reading))
    }

    /// Whether a side may be asked for a file by this name.
    fn has(&self, side: usize, name: &str) -> bool {
        !self.pair.is_filling(side) || lock(&self.pair.state).filled.contains(name)
    }

    /// A name that one side does not have is no failure of that side.
    fn settle_missing(&self, outcomes: [Option<io::Result<()>>; 2]) -> io::Result<()> {
        let missing = outcomes.each_ref().map(is_missing);
        let there = outcomes.iter().filter(|outcome| matches!(outcome, Some(Ok(())))).count();
        if there == 0 {
            return self.pair.settle(outcomes).map(drop);
        }
        let mut side = 0;
        let outcomes = outcomes.map(|outcome| {
            side += 1;
            outcome.filter(|_| !missing[side - 1])
        });
        self.pair.settle(outcomes).map(drop)
    }
}

impl<D: Disk> Disk for MirroredDisk<D> {
    type File = MirroredFile<D>;

    fn create(&self, name: &str) -> io::Result<MirroredFile<D>> {
        let _entries = lock(&self.pair.entries);
        let sides = self.pair.on_each(|_, disk| disk.create(name))?;
        let mut state = lock(&self.pair.state);
        state.filled.insert(name.to_owned());
        state.read_from.remove(name);
        drop(state);
        self.file(name, sides)
    }

    fn open(&self, name: &str) -> io::Result<MirroredFile<D>> {
        let mut errors = Vec::new();
        let mut missing = None;
        let sides = [0, 1].map(|side| {
            let disk = self.pair.disk(side).filter(|_| self.has(side, name))?;
            match disk.open(name) {
                Ok(file) => Some(file),
                Err(error) => {
                    missing = (error.kind() == ErrorKind::NotFound).then_some(side).or(missing);
                    errors.push((side, error));
                    None
                }
            }
        });
        if sides.iter().all(Option::is_none) {
            return Err(worst(errors));
        }
        if let (Some(side), Some(file)) = (missing, FileId::parse(name)) {
            lock(&self.pair.state).missing.insert((side, file));
        }
        self.file(name, sides)
    }

    /// What either side has.
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        let mut errors = Vec::new();
        let mut any = false;
        for side in (0..2).filter(|side| self.pair.is_whole(*side)) {
            let Some(disk) = self.pair.disk(side) else { continue };
            match disk.list() {
                Ok(listed) => {
                    any = true;
                    names.extend(listed);
                }
                Err(error) => errors.push((side, error)),
            }
        }
        names.remove(marker::MARKER);
        if any { Ok(names.into_iter().collect()) } else { Err(worst(errors)) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _entries = lock(&self.pair.entries);
        let outcomes = [0, 1].map(|side| self.pair.disk(side).map(|disk| disk.remove(name)));
        let mut state = lock(&self.pair.state);
        state.filled.remove(name);
        state.read_from.remove(name);
        if let Some(file) = FileId::parse(name) {
            state.missing.retain(|(_, missing)| *missing != file);
        }
        drop(state);
        self.settle_missing(outcomes)
    }

    /// A side that does not have the file gets an empty one under the new name, as a spare journal is.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _entries = lock(&self.pair.entries);
        let mut outcomes = [0, 1].map(|side| {
            let has = self.has(side, from);
            self.pair
                .disk(side)
                .map(|disk| if has { disk.rename(from, to) } else { Err(ErrorKind::NotFound.into()) })
        });
        if outcomes.iter().any(|outcome| matches!(outcome, Some(Ok(())))) {
            for (side, outcome) in outcomes.iter_mut().enumerate() {
                if is_missing(outcome) {
                    *outcome = self.pair.disk(side).map(|disk| disk.create(to).map(drop));
                }
            }
        }
        let renamed = self.pair.settle(outcomes).map(drop);
        let mut state = lock(&self.pair.state);
        state.filled.remove(from);
        state.filled.insert(to.to_owned());
        state.read_from.remove(from);
        renamed
    }

    fn sync_directory(&self) -> io::Result<()> {
        let (first, second) = (self.pair.disk(0), self.pair.disk(1));
        let (Some(first), Some(second)) = (first, second) else {
            return self.pair.on_each(|_, disk| disk.sync_directory()).map(drop);
        };
        let second = Arc::clone(second);
        let other = self.pair.beside.begin(Box::new(move || second.sync_directory()));
        let first = first.sync_directory();
        self.pair.settle([Some(first), Some(other())]).map(drop)
    }

    fn heal(&self, file: FileId) -> io::Result<()> {
        let [Some(first), Some(second)] =
            [0, 1].map(|side| self.pair.disk(side).filter(|_| self.pair.is_whole(side)))
        else {
            return Ok(());
        };
        let mut copies = [Vec::new(), Vec::new()];
        for (side, disk) in [first, second].into_iter().enumerate() {
            match lenient(&**disk, file) {
                Ok(bytes) => copies[side] = bytes,
                Err(error) => return self.pair.lose(side, error),
            }
        }
        for patch in heal::patches([&copies[0], &copies[1]], file) {
            let bytes = &copies[1 - patch.to][patch.at..patch.at + patch.length];
            let Some(disk) = self.pair.disk(patch.to) else { return Ok(()) };
            let repaired = write_into(&**disk, file, bytes, patch.at as u64);
            tracing::warn!(
                file = %file.name(), side = self.pair.name(patch.to), position = patch.at, length = patch.length,
                "a part of a file that is damaged or was never written is taken from the other side of the mirror"
            );
            self.pair.activity.repaired.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = repaired {
                self.pair.lose(patch.to, error)?;
            }
        }
        Ok(())
    }

    fn mend(
        &self,
        file: &MirroredFile<D>,
        position: u64,
        length: usize,
        good: &dyn Fn(&[u8]) -> bool,
    ) -> io::Result<Mended> {
        let mended = file.mend(position, length, good)?;
        let count = |counter: &AtomicU64, by: usize| counter.fetch_add(by as u64, Ordering::Relaxed);
        count(&self.pair.activity.repaired, mended.repaired);
        match mended.readable {
            true => count(&self.pair.activity.unwritable, mended.damaged - mended.repaired),
            false => count(&self.pair.activity.beyond_repair, usize::from(mended.damaged > 1)),
        };
        Ok(mended)
    }

    fn copies(&self) -> usize {
        (0..2).filter(|side| self.pair.disk(*side).is_some()).count()
    }

    fn take_switched(&self) -> Vec<FileId> {
        match self.pair.has_switched.swap(false, Ordering::AcqRel) {
            true => std::mem::take(&mut lock(&self.pair.state).switched),
            false => Vec::new(),
        }
    }
}

const CHUNK: usize = 64 << 10;

/// What can be read of a file; the rest is zeros. A file that is not there is empty.
fn lenient<D: Disk>(disk: &D, file: FileId) -> io::Result<Vec<u8>> {
    let open = match disk.open(&file.name()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut bytes = vec![0; open.len()? as usize];
    for (at, chunk) in bytes.chunks_mut(CHUNK).enumerate() {
        if open.read_exact_at(chunk, (at * CHUNK) as u64).is_err() {
            chunk.fill(0);
        }
    }
    Ok(bytes)
}

fn write_into<D: Disk>(disk: &D, file: FileId, bytes: &[u8], at: u64) -> io::Result<()> {
    let name = file.name();
    let open = match disk.open(&name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let created = disk.create(&name)?;
            disk.sync_directory()?;
            created
        }
        opened => opened?,
    };
    open.write_all_at(bytes, at)?;
    open.sync()
}
