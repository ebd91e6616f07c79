//! One open file of a mirrored log: written on both sides, read from one.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::handles::Generation;
use super::pair::Pair;
use crate::disk::{Disk, DiskFile};
use crate::planted::{self, Bug};

/// A file that one side does not have, or has ceased to write, is read from the other.
pub struct MirroredFile<D: Disk> {
    pair: Arc<Pair<D>>,
    pub(super) name: String,
    pub(super) sides: [Option<Arc<D::File>>; 2],
    /// The side does not have all of it.
    behind: [AtomicBool; 2],
    reading: AtomicUsize,
    generation: Generation,
    /// Ends with this.
    alive: Arc<()>,
}

impl<D: Disk> std::fmt::Debug for MirroredFile<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MirroredFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<D: Disk> MirroredFile<D> {
    /// At least one side is there.
    pub(super) fn new(
        pair: &Arc<Pair<D>>,
        name: &str,
        sides: [Option<Arc<D::File>>; 2],
        reading: usize,
        generation: Generation,
    ) -> Self {
        Self {
            pair: Arc::clone(pair),
            name: name.to_owned(),
            sides,
            behind: [AtomicBool::new(false), AtomicBool::new(false)],
            reading: AtomicUsize::new(reading),
            generation,
            alive: Arc::default(),
        }
    }

    /// The side that is read.
    pub(super) fn reading(&self) -> usize {
        self.reading.load(Ordering::Acquire)
    }

    fn read_side(&self) -> &D::File {
        let side = self.reading();
        // The side that is read is there: it is chosen among those that are.
        self.sides[side].as_deref().unwrap_or_else(|| unreachable!("side {side} of {} is read", self.name))
    }

    /// The side, if it holds all that was written.
    pub(super) fn side(&self, side: usize) -> Option<&Arc<D::File>> {
        let reaches = |_: &&Arc<D::File>| !self.behind[side].load(Ordering::Acquire) && self.is_of_now(side);
        self.sides[side].as_ref().filter(reaches)
    }

    /// Whether the side has not come back since this was opened.
    fn is_of_now(&self, side: usize) -> bool {
        self.pair.generations.is_now(side, self.generation)
    }

    /// Sides to be written; one that was lost meanwhile does not have all of the file any more.
    fn writable(&self) -> [Option<&Arc<D::File>>; 2] {
        [0, 1].map(|side| {
            let file = self.sides[side].as_ref().filter(|_| !self.behind[side].load(Ordering::Acquire))?;
            if self.pair.is_lost(side) || !self.is_of_now(side) {
                self.fall_behind(side);
                return None;
            }
            Some(file)
        })
    }

    fn fall_behind(&self, side: usize) {
        self.behind[side].store(true, Ordering::Release);
        self.read_other_than(side);
    }

    /// Reads from the other side from here on, if that is the one being read.
    pub(super) fn read_other_than(&self, side: usize) {
        if self.reading() == side && self.side(1 - side).is_some() {
            self.reading.store(1 - side, Ordering::Release);
            self.pair.switched(&self.name);
        }
    }

    /// Reads from the side that is read, and where that fails from the other, from then on.
    fn read_with(&self, mut read: impl FnMut(&D::File) -> io::Result<()>) -> io::Result<()> {
        let side = self.reading();
        let Err(error) = read(self.read_side()) else { return Ok(()) };
        let Some(other) = self.side(1 - side).filter(|_| self.pair.is_read(1 - side)) else {
            return Err(error);
        };
        if read(other).is_err() {
            return Err(error);
        }
        tracing::warn!(
            file = %self.name, side = self.pair.name(side), %error,
            "a file cannot be read on one side of the mirror; it is read from the other"
        );
        self.read_other_than(side);
        Ok(())
    }

    fn on_each<T>(&self, op: impl Fn(&D::File) -> io::Result<T>) -> io::Result<()> {
        let outcomes = self.writable().map(|file| file.map(|file| op(file).map(drop)));
        let missed = outcomes.each_ref().map(Option::is_none);
        self.settle(outcomes)?;
        let unnoted = planted::is(Bug::ForgetWritePast);
        for side in (0..2).filter(|side| missed[*side] && !self.pair.is_lost(*side) && !unnoted) {
            self.pair.wrote_past(side, &self.name, &self.alive)?;
        }
        Ok(())
    }

    fn settle(&self, outcomes: [Option<io::Result<()>>; 2]) -> io::Result<()> {
        let done = self.pair.settle(outcomes)?;
        for (side, done) in done.iter().enumerate() {
            if done.is_none() && self.sides[side].is_some() {
                self.fall_behind(side);
            }
        }
        Ok(())
    }
}

impl<D: Disk> DiskFile for MirroredFile<D> {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.read_with(|file| file.read_exact_at(buffer, position))
    }

    fn read_no_more_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.read_with(|file| file.read_no_more_at(buffer, position))
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.on_each(|file| file.write_all_at(bytes, position))
    }

    fn write_past_cache(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        // Two disks would be waited for one after the other; the cache lets both syncs go side by side.
        match self.writable() {
            [Some(_), Some(_)] => self.write_all_at(bytes, position),
            _ => self.on_each(|file| file.write_past_cache(bytes, position)),
        }
    }

    fn len(&self) -> io::Result<u64> {
        let side = self.reading();
        self.read_side().len().or_else(|error| match self.side(1 - side) {
            Some(other) => other.len(),
            None => Err(error),
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.on_each(|file| file.set_len(length))
    }

    /// Both sides at once.
    fn sync(&self) -> io::Result<()> {
        match self.writable() {
            [Some(first), Some(_)] if planted::is(Bug::SkipMirrorFlush) => first.sync(),
            [Some(first), Some(second)] => {
                let second = Arc::clone(second);
                let other = self.pair.beside.begin(Box::new(move || second.sync()));
                let first = first.sync();
                self.settle([Some(first), Some(other())])
            }
            one => self.settle(one.map(|file| file.map(|file| file.sync()))),
        }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.on_each(|file| file.allocate(length))
    }

    fn is_resident(&self, position: u64, length: usize) -> bool {
        self.read_side().is_resident(position, length)
    }

    fn warm(&self, position: u64, length: usize) -> io::Result<()> {
        self.read_with(|file| file.warm(position, length))
    }

    fn forget(&self, position: u64, length: usize) {
        self.sides.iter().flatten().for_each(|side| side.forget(position, length));
    }
}

impl<D: Disk> AsFd for MirroredFile<D>
where
    D::File: AsFd,
{
    /// Of the side that is read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read_side().as_fd()
    }
}

/// What [`Disk::mend`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Copies that were not what was written.
    pub damaged: usize,
    /// Of these, copies that are again.
    pub repaired: usize,
    /// Whether a good copy can be read.
    pub readable: bool,
}

impl<D: Disk> MirroredFile<D> {
    /// Looks at both copies of what lies at `position`, and writes a good one over a damaged one.
    pub(super) fn mend(
        &self,
        position: u64,
        length: usize,
        good: &dyn Fn(&[u8]) -> bool,
    ) -> io::Result<Mended> {
        let copies = [0, 1].map(|side| {
            let file = self.side(side).filter(|_| self.pair.is_read(side))?;
            let mut bytes = vec![0; length];
            let was_resident = file.is_resident(position, length);
            let read = file.read_exact_at(&mut bytes, position);
            if !was_resident {
                file.forget(position, length);
            }
            Some(read.map(|()| bytes))
        });
        let is_good = |copy: &Option<io::Result<Vec<u8>>>| matches!(copy, Some(Ok(bytes)) if good(bytes));
        let damaged = copies.iter().flatten().count() - copies.iter().filter(|copy| is_good(copy)).count();
        let mut mended = Mended { damaged, ..Mended::default() };
        let Some(from) = copies.iter().position(is_good) else {
            return self.unmendable(copies).map(|()| mended);
        };
        mended.readable = true;
        let to = 1 - from;
        if let (Some(Ok(bytes)), Some(_), true) = (&copies[from], &copies[to], damaged > 0) {
            mended.repaired = usize::from(self.repair(to, bytes, position));
        }
        Ok(mended)
    }

    /// An error of the disk is told as such: it may pass, and damage does not.
    fn unmendable(&self, copies: [Option<io::Result<Vec<u8>>>; 2]) -> io::Result<()> {
        let errors = copies.into_iter().flatten().filter_map(Result::err);
        match errors.into_iter().find(|error| error.kind() != ErrorKind::UnexpectedEof) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn repair(&self, side: usize, bytes: &[u8], position: u64) -> bool {
        let Some(file) = &self.sides[side] else { return false };
        let written = file.write_all_at(bytes, position).and_then(|()| file.sync());
        let (name, length) = (self.pair.name(side), bytes.len());
        match written {
            Ok(()) => {
                tracing::warn!(file = %self.name, side = name, position, length, "damaged bytes were repaired from the other side of the mirror");
                true
            }
            Err(error) => {
                tracing::error!(file = %self.name, side = name, position, length, %error, "damaged bytes cannot be repaired in their place; they are read from the other side of the mirror");
                self.read_other_than(side);
                false
            }
        }
    }
}
