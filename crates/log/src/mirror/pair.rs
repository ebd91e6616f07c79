//! The two sides, which of them is believed, and what happens when one of them fails.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::handles::{Generations, Past};
use super::marker::{self, Marker};
use super::standing::{Beside, MirrorActivity, Standing};
use crate::disk::Disk;
use crate::log::lock;
use crate::place::FileId;
use crate::planted::{self, Bug};

const WHOLE: u8 = 0;
const FILLING: u8 = 1;
const LOST: u8 = 2;

pub(super) struct Pair<D: Disk> {
    disks: [RwLock<Option<Arc<D>>>; 2],
    pub names: [String; 2],
    pub beside: Arc<dyn Beside>,
    pub required: bool,
    pub activity: MirrorActivity,
    standing: [AtomicU8; 2],
    /// Creations, renamings and removals happen on both sides before the next.
    pub entries: Mutex<()>,
    pub state: Mutex<State>,
    has_switched: AtomicBool,
    /// The side that is to become a copy as soon as the log goes on; until then it is as it was found.
    pub copy_at_start: Mutex<Option<usize>>,
    pub generations: Generations,
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
    pub read_from: HashMap<String, usize>,
    switched: Vec<FileId>,
    /// What was written through handles that do not reach a side that is there.
    pub past: Past,
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
            disks: disks.map(RwLock::new),
            names,
            beside,
            required: false,
            activity: MirrorActivity::default(),
            standing,
            entries: Mutex::new(()),
            state: Mutex::default(),
            has_switched: AtomicBool::new(false),
            copy_at_start: Mutex::new(None),
            generations: Generations::default(),
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
    pub fn disk(&self, side: usize) -> Option<Arc<D>> {
        self.any_disk(side).filter(|_| !self.is_lost(side))
    }

    /// Also of a side that is lost.
    pub fn any_disk(&self, side: usize) -> Option<Arc<D>> {
        self.disks[side].read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_disk(&self, side: usize, disk: Option<Arc<D>>) {
        *self.disks[side].write().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    /// A file is read from another side than before: what was checked there was not checked here.
    pub fn switched(&self, name: &str) {
        if let Some(file) = FileId::parse(name) {
            lock(&self.state).switched.push(file);
            self.has_switched.store(true, Ordering::Release);
        }
    }

    pub fn note_reading(&self, name: &str, side: usize) {
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
        let Some(other) = self.any_disk(1 - side) else { return Err(error) };
        // A side that is being filled is known to be behind.
        if self.is_whole(side) && !planted::is(Bug::ForgetLostSide) {
            let epoch = state.epochs.draw();
            let alone = state.marker.as_ref().map(|marker| marker.alone(epoch));
            let alone = alone.unwrap_or_else(|| Marker::new(epoch, marker::Role::Alone));
            marker::write(&*other, &alone)?;
            state.marker = Some(alone);
        }
        self.standing[side].store(LOST, Ordering::Release);
        tracing::error!(
            side = name, %reason,
            "one side of the mirror has failed; the log goes on with the other"
        );
        state.lost = Some((side, reason));
        Ok(())
    }

    /// A file was written through a handle that does not reach a side which is there by now: what that
    /// side has of it is no copy. One that was believed already is so no more.
    pub fn wrote_past(&self, side: usize, name: &str, handle: &Arc<()>) -> io::Result<()> {
        let mut state = lock(&self.state);
        if self.is_whole(side) {
            let known = FileId::parse(name).is_some_and(|file| state.missing.contains(&(side, file)));
            drop(state);
            let why = || io::Error::other(format!("{name} was written without it while it came back"));
            return if known { Ok(()) } else { self.lose(side, why()) };
        }
        state.filled.remove(name);
        state.past.note(name, handle);
        Ok(())
    }

    /// Files that were checked on another side than the one they are read from now.
    pub fn take_switched(&self) -> Vec<FileId> {
        match self.has_switched.swap(false, Ordering::AcqRel) {
            true => std::mem::take(&mut lock(&self.state).switched),
            false => Vec::new(),
        }
    }

    /// Does something on each side that is not lost.
    pub fn on_each<T>(&self, op: impl Fn(usize, &Arc<D>) -> io::Result<T>) -> io::Result<[Option<T>; 2]> {
        let outcomes = [0, 1].map(|side| self.disk(side).map(|disk| op(side, &disk)));
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
        if (0..2).any(|side| self.any_disk(side).is_none()) {
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
pub(super) fn worst(failed: Vec<(usize, io::Error)>) -> io::Error {
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
