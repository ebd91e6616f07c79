//! Copying to a side what it lacks, file by file, while the log serves.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::MirroredDisk;
use super::file::MirroredFile;
use super::mending::readable;
use super::pair::Pair;
use super::{heal, marker};
use crate::Reader;
use crate::disk::{Disk, DiskFile};
use crate::log::lock;
use crate::place::FileId;
use crate::planted::{self, Bug};

/// What a file is called until it is whole.
const UNFINISHED: &str = "fill-";
const CHUNK: usize = 1 << 20;

/// What one step of filling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// A file is on both sides; ask again.
    File,
    /// Nothing is missing.
    Nothing,
    /// It was told to end.
    Stopped,
}

impl<D: Disk> Pair<D> {
    /// Files that are to be copied, with the side that lacks them.
    fn lacking(&self) -> io::Result<Vec<(usize, FileId)>> {
        // A file that is being made or renamed is listed before it is known to be on both sides. Whoever copied it then
        // would write over what the log writes into it meanwhile.
        let _entries = (!planted::is(Bug::FillUnfinished)).then(|| lock(&self.entries));
        let Some(to) = (0..2).find(|side| self.is_filling(*side)) else {
            let state = lock(&self.state);
            return Ok(state.missing.iter().filter(|(side, _)| !self.is_lost(*side)).copied().collect());
        };
        let Some(lead) = self.disk(1 - to) else { return Ok(Vec::new()) };
        let names = lead.list()?;
        let state = lock(&self.state);
        let files = names.iter().filter(|name| !state.filled.contains(*name));
        Ok(files.filter_map(|name| Some((to, FileId::parse(name)?))).collect())
    }

    pub fn files_left(&self) -> usize {
        self.lacking().map_or(0, |lacking| lacking.len())
    }

    /// What can be copied now: the rest is still being written by somebody whom the side does not hear.
    fn copyable(&self) -> io::Result<Option<(usize, FileId)>> {
        let lacking = self.lacking()?;
        let state = lock(&self.state);
        Ok(lacking.into_iter().find(|(_, file)| !state.past.goes_on(&file.name())))
    }

    /// Both sides are about to say the same. A crash between any two of these writes leaves markers by
    /// which whoever went on alone since is known. Nothing is done when something was written past the side
    /// since `written` was asked for, or may be.
    fn complete(&self, to: usize, written: u64) -> io::Result<()> {
        let (Some(lead), Some(disk)) = (self.disk(1 - to), self.disk(to)) else { return Ok(()) };
        let mut state = lock(&self.state);
        if state.past.total() != written || state.past.any_goes_on() {
            return Ok(());
        }
        state.past.clear();
        let epoch = state.epochs.draw();
        let Some(known) = &state.marker else { return Ok(()) };
        let (proposing, paired) = (known.proposing(epoch), known.proposing(epoch).paired(epoch));
        marker::write(&*lead, &proposing)?;
        state.marker = Some(proposing);
        // Until here a failure of this side needed no mark, from here on it does.
        self.end_filling(to);
        if let Err(error) = marker::write(&*disk, &paired) {
            drop(state);
            return self.lose(to, error);
        }
        marker::write(&*lead, &paired)?;
        state.marker = Some(paired);
        // Whoever was told that it failed is told that it is over.
        tracing::warn!(side = self.names[to], "the mirror is complete: both sides hold everything");
        Ok(())
    }

    fn writes(&self, file: FileId) -> u64 {
        lock(&self.state).past.writes(&file.name())
    }

    /// The side has the file, unless it was written past it since `written` was asked for.
    fn have(&self, to: usize, file: FileId, written: u64) {
        let mut state = lock(&self.state);
        if state.past.writes(&file.name()) != written {
            return;
        }
        state.filled.insert(file.name());
        state.missing.remove(&(to, file));
        self.activity.files_filled.fetch_add(1, Ordering::Relaxed);
    }
}

impl<D: Disk> MirroredDisk<D> {
    /// Copies a file to the side that lacks it. Whoever calls keeps `held`, so that the file is not used
    /// for anything else meanwhile.
    fn copy(
        &self,
        to: usize,
        file: FileId,
        held: &MirroredFile<D>,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> io::Result<bool> {
        let pair = &self.pair;
        let (Some(source), Some(target)) = (held.side(1 - to), pair.disk(to)) else {
            return Ok(true);
        };
        let outcome = match target.open(&file.name()) {
            Ok(there) => self.compare(to, file, source, &there).map(pace),
            Err(error) if error.kind() == ErrorKind::NotFound => self.write_copy(to, file, source, pace),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(going_on) => Ok(going_on),
            Err(error) => pair.lose(to, error).map(|()| true),
        }
    }

    fn write_copy(
        &self,
        to: usize,
        file: FileId,
        source: &Arc<D::File>,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> io::Result<bool> {
        let pair = &self.pair;
        let Some(target) = pair.disk(to) else { return Ok(true) };
        let written = pair.writes(file);
        let unfinished = format!("{UNFINISHED}{}", file.name());
        let copy = target.create(&unfinished)?;
        let (mut at, length) = (0, source.len()?);
        let mut bytes = vec![0; CHUNK];
        while at < length {
            let step = (length - at).min(CHUNK as u64) as usize;
            match source.read_exact_at(&mut bytes[..step], at) {
                Ok(()) => {}
                // What was allocated behind its end was cut off meanwhile: another round copies it.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return target.remove(&unfinished).map(|()| true);
                }
                // It is damage there, and stays damage here.
                Err(_) => bytes[..step].fill(0),
            }
            copy.write_all_at(&bytes[..step], at)?;
            at += step as u64;
            pair.activity.bytes_filled.fetch_add(step as u64, Ordering::Relaxed);
            if !pace(step) {
                return target.remove(&unfinished).map(|()| false);
            }
        }
        copy.sync()?;
        let _entries = lock(&pair.entries);
        if pair.disk(1 - to).is_none_or(|lead| lead.open(&file.name()).is_err()) {
            return target.remove(&unfinished).map(|()| true);
        }
        target.rename(&unfinished, &file.name())?;
        target.sync_directory()?;
        pair.have(to, file, written);
        Ok(true)
    }

    /// A file that the side had before it was left behind: what differs is taken from the leading side,
    /// unless that is what is damaged.
    fn compare(&self, to: usize, file: FileId, source: &Arc<D::File>, there: &D::File) -> io::Result<usize> {
        let written = self.pair.writes(file);
        // What one of them cannot be read of may be good on the other, and is written there again.
        let read = readable(&**source).and_then(|lead| Ok((lead, readable(there)?)));
        let (lead, copy) = match read {
            // It was cut off meanwhile: another round compares it.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            read => read?,
        };
        let mut copies = [Vec::new(), Vec::new()];
        copies[to] = copy;
        // What it has behind the leading side's end was cut off there.
        copies[to].truncate(lead.len());
        copies[1 - to] = lead;
        for patch in heal::patches([&copies[0], &copies[1]], file) {
            if patch.to == to {
                continue;
            }
            let range = patch.at..patch.at + patch.length;
            let bytes = copies[to][range.clone()].to_vec();
            let written = source.write_all_at(&bytes, patch.at as u64).and_then(|()| source.sync());
            copies[1 - to][range].copy_from_slice(&bytes);
            let activity = &self.pair.activity;
            match written {
                Ok(()) => activity.repaired.fetch_add(1, Ordering::Relaxed),
                // It is no fault of the side that has it.
                Err(error) => {
                    let side = self.pair.name(1 - to);
                    tracing::error!(file = %file.name(), side, position = patch.at, length = patch.length, %error, "damaged bytes cannot be repaired in their place; the other side of the mirror has them");
                    activity.unwritable.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
        if copies[0] != copies[1] {
            there.write_all_at(&copies[1 - to], 0)?;
        }
        there.set_len(copies[1 - to].len() as u64)?;
        there.sync()?;
        self.pair.activity.bytes_filled.fetch_add(copies[1 - to].len() as u64, Ordering::Relaxed);
        let _entries = lock(&self.pair.entries);
        self.pair.have(to, file, written);
        Ok(copies[1 - to].len())
    }
}

impl<D: Disk> Reader<MirroredDisk<D>> {
    /// A journal that was begun while the side came back is kept open for readers after its last write, and
    /// nothing tells that it was the last before it is closed. Whoever needs it opens it again.
    fn let_go_of_old_handles(&self) {
        let old: Vec<FileId> =
            lock(&self.shared.disk.pair.state).past.going_on().filter_map(FileId::parse).collect();
        old.into_iter().for_each(|file| self.shared.files.forget(file));
    }

    /// Copies one file to a side of the mirror that lacks it; the last call makes both sides alike. `pace`
    /// is told of bytes as they are copied, and ends the work by returning false.
    pub fn fill_mirror(&self, pace: &mut dyn FnMut(usize) -> bool) -> io::Result<Filled> {
        let disk = &*self.shared.disk;
        let pair = &disk.pair;
        if !planted::is(Bug::KeepOldHandles) {
            self.let_go_of_old_handles();
        }
        let written = lock(&pair.state).past.total();
        let Some((to, file)) = pair.copyable()?.filter(|_| !planted::is(Bug::PairUnfilled)) else {
            let filling = (0..2).find(|side| pair.is_filling(*side));
            if let Some(to) = filling.filter(|_| planted::is(Bug::PairUnfilled) || pair.files_left() == 0) {
                pair.complete(to, written)?;
            }
            return Ok(Filled::Nothing);
        };
        match self.shared.files.get(disk, file) {
            Ok(held) => {
                if !disk.copy(to, file, &held, pace)? {
                    return Ok(Filled::Stopped);
                }
            }
            // It went meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                lock(&pair.state).missing.remove(&(to, file));
            }
            Err(error) => return Err(error),
        }
        // Opened again, it has both sides.
        self.shared.files.forget(file);
        Ok(Filled::File)
    }
}
