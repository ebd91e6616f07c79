//! Batches that were found for a reader: what nobody has looked at is checked before it is sent.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_model::Offset;

use super::damage::{mend, name_damage, unlike};
use super::open;
use crate::disk::{Disk, DiskFile};
use crate::log::{Shared, lock, read};
use crate::place::{BatchPlace, Extent, FileId};
use crate::planted::{self, Bug};
use crate::{AbortedTransaction, LogError, PartitionId};

/// Ranges that end within so much are kept in memory together or not at all, as far as sending them is concerned.
const APART: u64 = 128 << 10;

/// Bytes of a file that can be sent as they are.
#[derive(Debug)]
pub struct FileRange<F> {
    pub id: FileId,
    pub file: Arc<F>,
    pub position: u64,
    pub length: usize,
}

/// Where whole batches are, from the one that holds the offset asked for.
pub struct Located<D: Disk> {
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    pub aborted: Vec<AbortedTransaction>,
    /// Neighbours are one range.
    pub ranges: Vec<FileRange<D::File>>,
    pub bytes: usize,
    pub(super) shared: Arc<Shared<D>>,
    pub(super) id: PartitionId,
    /// What is in files that are not on this disk, and all behind it.
    pub(super) remote: Vec<(Extent, Vec<BatchPlace>)>,
    pub(super) waits: bool,
    /// What nobody has looked at since the start.
    pub(super) unchecked: Vec<Unchecked<D>>,
    pub(super) old: bool,
}

/// Batches of a file to be looked at, with the handle by which they will be sent.
pub(super) struct Unchecked<D: Disk> {
    id: FileId,
    file: Arc<D::File>,
    places: Vec<BatchPlace>,
}

/// How much is read at once to be checked.
const CHECKED_AT_ONCE: u64 = 1 << 20;

/// Places that follow each other in a file, in groups of at most so many bytes.
fn neighbours(places: &[BatchPlace]) -> impl Iterator<Item = &[BatchPlace]> {
    let mut rest = places;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut end = first.position + u64::from(first.size);
        let mut count = 1;
        while let Some(next) = rest.get(count)
            && next.position == end
            && end - first.position < CHECKED_AT_ONCE
        {
            end += u64::from(next.size);
            count += 1;
        }
        let (together, behind) = rest.split_at(count);
        rest = behind;
        Some(together)
    })
}

/// How many batches from the first on can be read, and are what was written. They lie together in the file.
fn count_good(file: &impl DiskFile, places: &[BatchPlace]) -> usize {
    let Some(first) = places.first() else { return 0 };
    let mut bytes = vec![0; places.iter().map(|place| place.size as usize).sum()];
    if file.read_exact_at(&mut bytes, first.position).is_err() {
        // A file that ends early, or cannot be read everywhere, may hold the first of them.
        let is_good = |place: &&BatchPlace| {
            let mut bytes = vec![0; place.size as usize];
            file.read_exact_at(&mut bytes, place.position).is_ok() && place.holds(&bytes)
        };
        return places.iter().take_while(is_good).count();
    }
    let mut rest = bytes.as_slice();
    let good = |place: &&BatchPlace| {
        let (batch, behind) = rest.split_at(place.size as usize);
        rest = behind;
        place.holds(batch)
    };
    places.iter().take_while(good).count()
}

impl<D: Disk> Located<D> {
    pub(super) fn add(&mut self, file: &Arc<D::File>, extent: &Extent, places: Vec<BatchPlace>) {
        self.push(extent.file, file, &places);
        let unchecked: Vec<BatchPlace> =
            places.into_iter().filter(|place| !extent.is_checked(place)).collect();
        if !unchecked.is_empty() && !planted::is(Bug::ServeUnchecked) {
            self.unchecked.push(Unchecked { id: extent.file, file: Arc::clone(file), places: unchecked });
        }
    }

    fn push(&mut self, id: FileId, file: &Arc<D::File>, places: &[BatchPlace]) {
        for place in places {
            let length = place.size as usize;
            match self.ranges.last_mut() {
                Some(range)
                    if Arc::ptr_eq(&range.file, file)
                        && range.position + range.length as u64 == place.position =>
                {
                    range.length += length;
                }
                _ => {
                    self.ranges.push(FileRange {
                        id,
                        file: Arc::clone(file),
                        position: place.position,
                        length,
                    });
                }
            }
        }
    }

    /// Whether the bytes can be sent at once: somebody has looked at them and they are in memory.
    pub fn is_warm(&self) -> bool {
        self.is_prepared()
            && (!self.old
                || self.far_apart().all(|range| range.file.is_resident(range.position, range.length)))
    }

    /// The first range, and of those behind it the ones that do not lie close to one before: the kernel keeps and lets go of
    /// neighbours together.
    fn far_apart(&self) -> impl Iterator<Item = &FileRange<D::File>> {
        let mut looked_at: Option<(FileId, u64)> = None;
        self.ranges.iter().filter(move |range| {
            let end = range.position + range.length as u64;
            let close =
                looked_at.is_some_and(|(file, at)| file == range.id && end.saturating_sub(at) <= APART);
            if !close {
                looked_at = Some((range.id, range.position));
            }
            !close
        })
    }

    /// Whether all that was found has been opened and looked at.
    pub fn is_prepared(&self) -> bool {
        self.remote.is_empty() && self.unchecked.is_empty()
    }

    /// Files that are in the cold store only.
    pub fn far(&self) -> Vec<FileId> {
        let is_far = |file: &FileId| {
            self.shared.cold.knows(*file) && self.shared.files.get(&*self.shared.disk, *file).is_err()
        };
        self.remote.iter().map(|(extent, _)| extent.file).filter(is_far).collect()
    }

    /// Does without what [`Self::far`] names, and all behind it; whether anything is left, which has to be prepared yet.
    pub fn leave_far(&mut self) -> bool {
        self.remote.clear();
        self.bytes = self.ranges.iter().map(|range| range.length).sum();
        self.bytes > 0
    }

    /// Reads what is not warm; what nobody has looked at is checked, and cut off where it is damaged or cannot be read.
    ///
    /// # Errors
    /// `Damaged` when the first batch is, `Far` when [`Self::far`] names files and the reader does not wait for
    /// them, and the disk's.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        let mut remote = std::mem::take(&mut self.remote).into_iter();
        while let Some((extent, places)) = remote.next() {
            match open(&self.shared, extent.file, self.waits) {
                Ok(file) => self.add(&file, &extent, places),
                Err(error) => {
                    // It may be tried again.
                    self.remote.push((extent, places));
                    self.remote.extend(remote);
                    return Err(error);
                }
            }
        }
        let mut checked = 0;
        for Unchecked { id: file, file: open, places } in std::mem::take(&mut self.unchecked) {
            for together in neighbours(&places) {
                let (good, read) = self.count_good(file, &open, together);
                checked += together[..good].iter().map(|place| place.size as usize).sum::<usize>();
                if let (Some(first), Some(last)) = (together.first(), together[..good].last()) {
                    self.mark_checked(file, first.base_offset, last.last_offset + 1);
                }
                if let Some(bad) = together.get(good) {
                    let error = match read {
                        Ok(()) => name_damage(&self.shared, self.id, unlike(file, bad)),
                        // It may pass, and damage does not.
                        Err(source) => self.unreadable(file, source),
                    };
                    self.cut(bad.position, &open);
                    return if self.bytes == 0 { Err(error) } else { Ok(()) };
                }
            }
        }
        if self.old && checked < self.bytes {
            self.warm_up()?;
        }
        Ok(())
    }

    /// How many batches from the first on are what was written, or are again, and why the next one cannot be read.
    fn count_good(&self, id: FileId, file: &D::File, places: &[BatchPlace]) -> (usize, io::Result<()>) {
        let mut good = count_good(file, places);
        while good < places.len() {
            match mend(&self.shared, id, file, &places[good]) {
                Ok(true) => good += 1 + count_good(file, &places[good + 1..]),
                Ok(false) => return (good, Ok(())),
                Err(error) => return (good, Err(error)),
            }
        }
        (good, Ok(()))
    }

    fn unreadable(&self, file: FileId, source: io::Error) -> LogError {
        LogError::Unreadable { partition: self.id, file: file.name(), source }
    }

    fn mark_checked(&self, file: FileId, from: Offset, to: Offset) {
        if let Some(partition) = read(&self.shared.partitions).get(&self.id) {
            let mut known = lock(partition);
            known.extents.iter_mut().filter(|of| of.file == file).for_each(|of| of.check(from, to));
        }
    }

    /// Keeps what lies before `position` of `file`.
    fn cut(&mut self, position: u64, file: &Arc<D::File>) {
        let at = self.ranges.iter().position(|range| {
            Arc::ptr_eq(&range.file, file)
                && (range.position..range.position + range.length as u64).contains(&position)
        });
        if let Some(at) = at {
            self.ranges.truncate(at + 1);
            self.ranges[at].length = (position - self.ranges[at].position) as usize;
            self.ranges.retain(|range| range.length > 0);
        }
        self.bytes = self.ranges.iter().map(|range| range.length).sum();
    }

    /// What is before a range that cannot be read is left.
    fn warm_up(&mut self) -> Result<(), LogError> {
        for (at, range) in self.ranges.iter().enumerate() {
            if let Err(source) = range.file.warm(range.position, range.length) {
                let error = self.unreadable(range.id, source);
                self.ranges.truncate(at);
                self.bytes = self.ranges.iter().map(|range| range.length).sum();
                return if self.bytes == 0 { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// The bytes in memory, up to what cannot be read.
    pub fn load(&self) -> Result<Bytes, LogError> {
        let mut records = BytesMut::zeroed(self.bytes);
        let mut filled = 0;
        for range in &self.ranges {
            let read = range.file.read_exact_at(&mut records[filled..filled + range.length], range.position);
            match read {
                Ok(()) => filled += range.length,
                Err(source) if filled == 0 => return Err(self.unreadable(range.id, source)),
                Err(_) => break,
            }
        }
        records.truncate(filled);
        Ok(records.freeze())
    }
}
