//! A side that was lost comes back while the log serves.

use std::io;
use std::sync::Arc;

use super::disk::MirroredDisk;
use super::judge::MirrorError;
use super::marker::{Found, Role};
use crate::disk::Disk;
use crate::log::lock;

impl<D: Disk> MirroredDisk<D> {
    /// Which side is lost: 0 or 1.
    pub fn lost_side(&self) -> Option<usize> {
        lock(&self.pair.state).lost.as_ref().map(|(side, _)| *side)
    }

    /// Goes on without a side that cannot be used, which is durably noted on the other.
    ///
    /// # Errors
    /// `reason`, when the other one cannot go on alone or may not.
    pub fn leave(&self, side: usize, reason: io::Error) -> io::Result<()> {
        self.pair.lose(side, reason)
    }

    /// Whether a lost side may be taken in again with what its disk holds. Nothing is changed.
    ///
    /// # Errors
    /// When what is there cannot be known to be behind.
    pub fn may_rejoin(&self, side: usize, disk: &D) -> Result<(), MirrorError> {
        let names = self.pair.names.clone();
        let name = names[side].clone();
        let known = lock(&self.pair.state).marker.clone();
        match Found::on(disk) {
            Found::Absent(reason) => Err(MirrorError::Io { name, reason }),
            Found::Illegible => Err(MirrorError::Illegible { name }),
            Found::Unmarked => Err(MirrorError::TwoLogs { names }),
            Found::Blank => Ok(()),
            Found::Marked(there) => {
                let behind = known.is_some_and(|known| known.supersedes(&there));
                let may = behind || there.role == Role::Filling;
                if may { Ok(()) } else { Err(MirrorError::Diverged { names }) }
            }
        }
    }

    /// Takes a lost side in again: it is filled as one that was left behind is at a start. Files that are
    /// open go on without it, so whoever calls sees to a new journal ([`crate::Log::roll`]) and lets go of
    /// files that are read ([`crate::Reader::close_files`]).
    ///
    /// # Errors
    /// Those of [`Self::may_rejoin`]; nothing has been changed then.
    pub fn rejoin(&self, side: usize, disk: D) -> Result<(), MirrorError> {
        let pair = &self.pair;
        // No file is created, renamed or removed meanwhile.
        let _entries = lock(&pair.entries);
        let Some(lead) = pair.disk(1 - side).filter(|_| pair.is_lost(side)) else { return Ok(()) };
        self.may_rejoin(side, &disk)?;
        let name = pair.names[side].clone();
        let disk = Arc::new(disk);
        let begun = pair.begin_copy(&lead, &disk);
        begun.map_err(|error| MirrorError::Io { name: name.clone(), reason: error.to_string() })?;
        let mut state = lock(&pair.state);
        pair.set_disk(side, Some(disk));
        pair.generations.begin(side);
        state.filled.clear();
        state.lost = None;
        pair.begin_filling(side);
        drop(state);
        tracing::warn!(
            side = name,
            "one side of the mirror is back; it is filled from the other while the log serves"
        );
        Ok(())
    }
}
