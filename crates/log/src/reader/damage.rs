//! Damage: how it is looked for, repaired from another copy where there is one, and named where there is none.

use std::io;

use super::Reader;
use crate::disk::{Disk, DiskFile};
use crate::heads::Heads;
use crate::log::{Shared, lock, read};
use crate::place::{BatchPlace, Cause, Damage, Extent, FileId};
use crate::planted::{self, Bug};
use crate::redundancy;
use crate::{LogError, PartitionId};

impl<D: Disk> Reader<D> {
    /// Looks at every batch of an extent that is in a finished file and names those that are damaged; what
    /// is whole need not be looked at again when it is read. `pace` is told of bytes as they are read, and
    /// ends the work by returning false. All copies are looked at, and a good one is written over those
    /// that are not. Returns how many batches are damaged beyond that.
    pub fn scrub(
        &self,
        id: PartitionId,
        extent: &Extent,
        mut pace: impl FnMut(usize) -> bool,
    ) -> Result<usize, LogError> {
        if self.is_far(extent.file) {
            // The store keeps its own watch, and what comes back is compared.
            return Ok(0);
        }
        let file = self.shared.files.get(&*self.shared.disk, extent.file)?;
        let mut damaged = 0;
        let places = self.places_of(id, extent)?;
        for place in &places {
            let length = place.size as usize;
            let was_resident = file.is_resident(place.position, length);
            let good = mend(&self.shared, extent.file, &file, place)
                .map_err(|source| LogError::Unreadable { partition: id, file: extent.file.name(), source })?;
            if !good {
                self.damaged(id, extent.file, place);
                damaged += 1;
            } else {
                self.no_longer_damaged(id, &unlike(extent.file, place));
            }
            if !was_resident {
                file.forget(place.position, length);
            }
            if !pace(length) {
                return Ok(damaged);
            }
        }
        if damaged == 0 {
            let partition = self.find(id)?;
            let mut known = lock(&partition);
            known.extents.iter_mut().filter(|of| of.file == extent.file).for_each(|of| of.verified = true);
        }
        Ok(damaged)
    }

    /// As [`Self::scrub`], of all that partitions have in a file. What is damaged is named, and is no error.
    pub(super) fn look_over(&self, file: FileId) -> Result<(), LogError> {
        for (id, extent) in self.extents_in(file) {
            match self.scrub(id, &extent, |_| true) {
                // It was deleted meanwhile, or lost a commit, which is named.
                Ok(_) | Err(LogError::UnknownPartition(_) | LogError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn no_longer_damaged(&self, id: PartitionId, damage: &Damage) {
        if let Ok(partition) = self.find(id) {
            lock(&partition).damage.retain(|known| known != damage);
        }
    }

    pub(super) fn damaged(&self, id: PartitionId, file: FileId, place: &BatchPlace) -> LogError {
        name_damage(&self.shared, id, unlike(file, place))
    }

    /// Batches of an extent that cannot be found in its file any more.
    pub(super) fn name_holes(
        &self,
        id: PartitionId,
        extent: &Extent,
        places: &[BatchPlace],
    ) -> Result<(), LogError> {
        // What is below the start of the log is not missed.
        let start = self.offsets(id).map_or(extent.first, |offsets| offsets.log_start);
        let mut next = extent.first.max(start);
        let mut holes = Vec::new();
        for place in places {
            if place.base_offset > next {
                holes.push((next, place.base_offset - 1));
            }
            next = place.last_offset + 1;
        }
        if next <= extent.last {
            holes.push((next, extent.last));
        }
        let named = holes.into_iter().map(|(first, last)| Damage {
            first,
            last,
            file: extent.file,
            cause: Cause::LostCommit,
        });
        let named: Vec<LogError> = named.map(|damage| name_damage(&self.shared, id, damage)).collect();
        if let Ok(partition) = self.find(id) {
            // What is named is not looked for again.
            let mut known = lock(&partition);
            let damaged = known.extents.iter_mut().filter(|of| of.file == extent.file);
            damaged.for_each(|of| of.batches = places.len() as u32);
        }
        named.into_iter().next().map_or(Ok(()), Err)
    }
}

pub(super) fn unlike(file: FileId, place: &BatchPlace) -> Damage {
    Damage { first: place.base_offset, last: place.last_offset, file, cause: Cause::Checksum }
}

pub(super) fn name_damage<D: Disk>(shared: &Shared<D>, id: PartitionId, damage: Damage) -> LogError {
    if let Some(partition) = read(&shared.partitions).get(&id) {
        let mut partition = lock(partition);
        if !partition.damage.contains(&damage) {
            tracing::error!(
                partition = %id, first = damage.first, last = damage.last, file = %damage.file.name(),
                "a batch is damaged; its offsets are refused, everything else is served"
            );
            partition.damage.push(damage);
        }
    }
    LogError::Damaged { partition: id, damage }
}

/// Looks at all copies of a batch and repairs those that can be; whether one is good.
pub(super) fn mend<D: Disk>(
    shared: &Shared<D>,
    id: FileId,
    file: &D::File,
    place: &BatchPlace,
) -> io::Result<bool> {
    if planted::is(Bug::IgnoreOtherSide) && shared.disk.copies() > 1 {
        let mut bytes = vec![0; place.size as usize];
        return Ok(file.read_exact_at(&mut bytes, place.position).is_ok() && place.holds(&bytes));
    }
    let mended = shared.disk.mend(file, place.position, place.size as usize, &|bytes| place.holds(bytes))?;
    Ok(mended.readable || restore_marker(shared, id, file, place)?)
}

/// A control batch is no larger.
const LARGEST_MARKER: u32 = 256;

/// Writes a control batch where it belongs, byte by byte as it was, from the copy in its commit's directory: as
/// a start does with what it scans. False when it is none, or there is no copy.
fn restore_marker<D: Disk>(
    shared: &Shared<D>,
    id: FileId,
    file: &D::File,
    place: &BatchPlace,
) -> io::Result<bool> {
    if id.is_run() || place.base_offset != place.last_offset || place.size > LARGEST_MARKER {
        return Ok(false);
    }
    // Where that cannot be read, there is no copy.
    let around = Heads::new(file, id, shared.salt).and_then(|heads| heads.around(place.position));
    let Ok(Some((at, head))) = around else { return Ok(false) };
    let copy = redundancy::marker_in(&head, id, (place.position - at) as usize);
    let Some(copy) = copy.filter(|copy| place.holds(copy)) else { return Ok(false) };
    // A handle of its own: an error that a sync of the writer's finds is the writer's to be told of.
    let own = shared.disk.open(&id.name())?;
    own.write_all_at(&copy, place.position)?;
    own.sync()?;
    tracing::warn!(
        file = %id.name(), position = place.position, bytes = copy.len(),
        "part of a commit is damaged; the log has it twice, so nothing is lost"
    );
    Ok(true)
}
