//! The two sides as one disk.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::{Mended, MirroredFile};
use super::handles::Generation;
use super::marker;
use super::pair::{Pair, worst};
use super::standing::{InTurn, MirrorActivity, Standing};
use crate::disk::Disk;
use crate::log::lock;
use crate::place::FileId;
use crate::recovery::SPARE;

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

    fn file(
        &self,
        name: &str,
        sides: [Option<D::File>; 2],
        generation: Generation,
    ) -> io::Result<MirroredFile<D>> {
        let leads = |side: &usize| sides[*side].is_some() && self.pair.is_whole(*side);
        let reading = (0..2).find(leads).or((0..2).find(|side| sides[*side].is_some()));
        let reading = reading.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        self.pair.note_reading(name, reading);
        Ok(MirroredFile::new(&self.pair, name, sides.map(|side| side.map(Arc::new)), reading, generation))
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
        self.file(name, sides, self.pair.generations.now())
    }

    fn open(&self, name: &str) -> io::Result<MirroredFile<D>> {
        // A side that comes back meanwhile is not reached by this handle.
        let generation = self.pair.generations.now();
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
        self.file(name, sides, generation)
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

    /// A side that does not have a spare journal gets an empty one under the new name. Of anything else, which was begun
    /// before that side came back, it goes without until it is filled.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _entries = lock(&self.pair.entries);
        let mut outcomes = [0, 1].map(|side| {
            let has = self.has(side, from);
            self.pair
                .disk(side)
                .map(|disk| if has { disk.rename(from, to) } else { Err(ErrorKind::NotFound.into()) })
        });
        let is_spare = from.starts_with(SPARE);
        if outcomes.iter().any(|outcome| matches!(outcome, Some(Ok(())))) {
            for (side, outcome) in outcomes.iter_mut().enumerate().filter(|(_, outcome)| is_missing(outcome))
            {
                let emptied = self.pair.disk(side).filter(|_| is_spare);
                *outcome = emptied.map(|disk| disk.create(to).map(drop));
            }
        }
        let on_both = outcomes.iter().all(Option::is_some);
        let renamed = self.pair.settle(outcomes).map(drop);
        let mut state = lock(&self.pair.state);
        state.filled.remove(from);
        if on_both {
            state.filled.insert(to.to_owned());
        }
        state.read_from.remove(from);
        renamed
    }

    fn sync_directory(&self) -> io::Result<()> {
        let (first, second) = (self.pair.disk(0), self.pair.disk(1));
        let (Some(first), Some(second)) = (first, second) else {
            return self.pair.on_each(|_, disk| disk.sync_directory()).map(drop);
        };
        let other = self.pair.beside.begin(Box::new(move || second.sync_directory()));
        let first = first.sync_directory();
        self.pair.settle([Some(first), Some(other())]).map(drop)
    }

    fn heal(&self, file: FileId) -> io::Result<()> {
        self.pair.heal(file)
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

    fn go_on(&self) -> io::Result<()> {
        self.pair.begin_copy_at_start()
    }

    fn copies(&self) -> usize {
        (0..2).filter(|side| self.pair.disk(*side).is_some()).count()
    }

    /// Of the side with less.
    fn free(&self) -> Option<u64> {
        (0..2).filter_map(|side| self.pair.disk(side)?.free()).min()
    }

    fn take_switched(&self) -> Vec<FileId> {
        self.pair.take_switched()
    }
}
