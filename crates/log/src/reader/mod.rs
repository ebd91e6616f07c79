//! Reading what is committed, from any thread, without waiting for the appender's disk.

mod damage;
mod figures;
mod located;
mod times;

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use headwater_model::{Offset, TimestampMs};

use crate::cold::{self, ColdFile};
use crate::disk::{Disk, DiskFile};
use crate::log::{Shared, lock, read};
use crate::orphans::{self, Orphans, Swept};
use crate::ownership::{self, Ownership};
use crate::partition::Partition;
use crate::place::{BatchPlace, Extent, FileId};
use crate::planted::{self, Bug};
use crate::recovery;
use crate::run::RunWriter;
use crate::{AbortedTransaction, Damage, Fetched, Isolation, LogError, Offsets, PartitionId};

use damage::mend;
pub use figures::{FileUse, PartitionSummary, PartitionUse};
pub use located::{FileRange, Located};

/// A cheap handle; each partition has its own lock, held for a lookup in memory only.
pub struct Reader<D: Disk> {
    pub(crate) shared: Arc<Shared<D>>,
    /// Whether it waits for the cold store.
    waits: bool,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), waits: self.waits }
    }
}

/// Who goes over all batches of a partition reads so much at once, unless there is more than this between two of them.
const AT_ONCE: u64 = 256 << 10;
const BETWEEN: u64 = 8 << 10;

/// A file that is to be read; what is in the cold store only is `Far` to who does not wait.
fn open<D: Disk>(shared: &Shared<D>, file: FileId, waits: bool) -> Result<Arc<D::File>, LogError> {
    if waits {
        return Ok(cold::fetch(shared, file)?);
    }
    match shared.files.get(&*shared.disk, file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && shared.cold.knows(file) => {
            Err(LogError::Far { file: file.name(), id: file })
        }
        found => Ok(found?),
    }
}

/// How much a reader wants.
struct Wanted {
    offset: Offset,
    limit: Offset,
    max_bytes: usize,
    taken: usize,
}

impl Wanted {
    /// Takes batches as long as they fit; the first one always does. Breaks when there is enough.
    fn take(&mut self, places: &[BatchPlace], out: &mut Vec<BatchPlace>) -> ControlFlow<()> {
        let first = places.partition_point(|place| place.last_offset < self.offset);
        for place in &places[first..] {
            let size = place.size as usize;
            if place.base_offset >= self.limit || (self.taken > 0 && self.taken + size > self.max_bytes) {
                return ControlFlow::Break(());
            }
            self.taken += size;
            out.push(*place);
        }
        if self.taken >= self.max_bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Looks no further than it has to.
fn sum_up_to(sizes: impl Iterator<Item = usize>, most: usize) -> usize {
    let most = most.max(1);
    let mut sum = 0;
    for size in sizes {
        sum += size;
        if sum >= most {
            return most;
        }
    }
    sum
}

fn in_range(partition: &Partition, id: PartitionId, offset: Offset) -> Result<(), LogError> {
    let (log_start, end) = (partition.log_start, partition.end);
    if offset < log_start || offset > end {
        return Err(LogError::OffsetOutOfRange { partition: id, offset, log_start, end });
    }
    match partition.damage.iter().find(|damage| (damage.first..=damage.last).contains(&offset)) {
        Some(damage) => Err(LogError::Damaged { partition: id, damage: *damage }),
        None => Ok(()),
    }
}

/// Where a reader at `offset` has to stop: at the end that it may see, or before the next damage.
fn limit(partition: &Partition, offset: Offset, isolation: Isolation) -> Offset {
    let end = visible_end(partition, isolation);
    next_damage(partition, offset).map_or(end, |damage| damage.first.min(end))
}

fn visible_end(partition: &Partition, isolation: Isolation) -> Offset {
    if isolation == Isolation::Committed { partition.last_stable() } else { partition.end }
}

fn next_damage(partition: &Partition, offset: Offset) -> Option<Damage> {
    let behind = partition.damage.iter().filter(|damage| damage.first > offset);
    behind.min_by_key(|damage| damage.first).copied()
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared, waits: true }
    }

    /// A handle that never waits for the cold store: whatever needs a file that is there only ends with
    /// [`LogError::Far`], and may be tried again when [`Self::fetch`] has brought it.
    pub fn near(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), waits: false }
    }

    /// Brings a file back from the cold store, unless it is here, and waits for it.
    pub fn fetch(&self, file: FileId) -> io::Result<()> {
        cold::fetch(&self.shared, file).map(drop)
    }

    fn find(&self, id: PartitionId) -> Result<Arc<Mutex<Partition>>, LogError> {
        read(&self.shared.partitions).get(&id).cloned().ok_or(LogError::UnknownPartition(id))
    }

    pub fn offsets(&self, id: PartitionId) -> Result<Offsets, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        Ok(offsets(&partition))
    }

    /// Partitions in their order.
    pub fn partitions(&self) -> Vec<PartitionId> {
        let mut ids: Vec<_> = read(&self.shared.partitions).keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Bytes of batches that can be read, headers included.
    pub fn size(&self, id: PartitionId) -> Result<u64, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        Ok(partition.bytes())
    }

    /// Whole batches from the one that holds `offset`, at least one when there is any, else up to
    /// `max_bytes`. At the end of the log there are none.
    ///
    /// # Errors
    /// `OffsetOutOfRange`, `Damaged` when the batch at `offset` or the next behind it is, `UnknownPartition`, and the disk's.
    pub fn locate(
        &self,
        id: PartitionId,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Located<D>, LogError> {
        let partition = self.find(id)?;
        self.look_again();
        for _ in 0..3 {
            match self.try_locate(&partition, id, offset, max_bytes, isolation) {
                // A file went because its batches moved to another: look again.
                Err(LogError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                // Damage before or behind what was asked for has been found on the way.
                Err(LogError::Damaged { damage, .. }) if !(damage.first..=damage.last).contains(&offset) => {}
                // What was known to be good was known of another copy.
                Ok(_) if self.look_again() => {}
                found => return found,
            }
        }
        self.try_locate(&partition, id, offset, max_bytes, isolation)
    }

    /// Forgets that batches were looked at where another copy is read than before; whether there are any.
    fn look_again(&self) -> bool {
        let switched = self.shared.disk.take_switched();
        for file in &switched {
            for partition in read(&self.shared.partitions).values() {
                let mut known = lock(partition);
                known.extents.iter_mut().filter(|of| of.file == *file).for_each(Extent::forget_checks);
            }
        }
        !switched.is_empty()
    }

    fn try_locate(
        &self,
        partition: &Mutex<Partition>,
        id: PartitionId,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Located<D>, LogError> {
        let known = lock(partition);
        in_range(&known, id, offset)?;
        let mut wanted = Wanted { offset, limit: limit(&known, offset, isolation), max_bytes, taken: 0 };
        let mut located = Located {
            high_watermark: known.end,
            last_stable_offset: known.last_stable(),
            log_start_offset: known.log_start,
            aborted: Vec::new(),
            ranges: Vec::new(),
            bytes: 0,
            shared: Arc::clone(&self.shared),
            id,
            remote: Vec::new(),
            waits: self.waits,
            unchecked: Vec::new(),
            old: false,
        };
        let first = known.extent_at(offset);
        let mut places: Vec<(Extent, Vec<BatchPlace>)> = Vec::new();
        let rest = known.extents.len() - first.min(known.extents.len());
        if rest == 1 && !known.recent.is_empty() {
            let mut taken = Vec::new();
            let _ = wanted.take(&known.recent, &mut taken);
            places.push((known.extents[first], taken));
            located.old = self.shared.followed.has_gone_past(known.extents[first].file);
            drop(known);
        } else if rest > 0 {
            let extents = enough(&known, first, max_bytes);
            drop(known);
            self.take_old(partition, id, &extents, &mut wanted, &mut places)?;
            located.old = true;
        } else {
            drop(known);
        }
        let used: Vec<FileId> = places.iter().map(|(extent, _)| extent.file).collect();
        let span = self.fill(&mut located, places)?;
        let known = lock(partition);
        // Retention and cleaning forget an aborted transaction together with its records. Had either come
        // since the records were found, they would be served as if nobody had aborted them.
        in_range(&known, id, offset)?;
        if !used.iter().all(|file| known.extents.iter().any(|extent| extent.file == *file)) {
            return Err(LogError::Io(io::ErrorKind::NotFound.into()));
        }
        // Compaction left nothing before the damage. Without an error the reader would stay here for ever.
        let stops =
            next_damage(&known, offset).filter(|damage| damage.first < visible_end(&known, isolation));
        if let Some(damage) = stops.filter(|_| span.is_none()) {
            return Err(LogError::Damaged { partition: id, damage });
        }
        if let Some((from, to)) = span.filter(|_| isolation == Isolation::Committed) {
            let aborted = known.aborted_between(from, to).into_iter();
            located.aborted = aborted
                .map(|a| AbortedTransaction { producer_id: a.producer_id, first_offset: a.first_offset })
                .collect();
        }
        drop(known);
        Ok(located)
    }

    fn take_old(
        &self,
        partition: &Mutex<Partition>,
        id: PartitionId,
        extents: &[Extent],
        wanted: &mut Wanted,
        out: &mut Vec<(Extent, Vec<BatchPlace>)>,
    ) -> Result<(), LogError> {
        let limit = wanted.limit;
        for extent in extents.iter().take_while(|extent| extent.first < limit) {
            let mut taken = Vec::new();
            let known = lock(partition);
            let is_last = known.extents.back().is_some_and(|last| last.file == extent.file);
            let flow = if is_last && !known.recent.is_empty() {
                wanted.take(&known.recent, &mut taken)
            } else {
                drop(known);
                let mut flow = ControlFlow::Continue(());
                self.places(id, extent, wanted.offset, |places| {
                    flow = wanted.take(places, &mut taken);
                    flow.is_break()
                })?;
                flow
            };
            out.push((*extent, taken));
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The places of an extent by the file's index, which is built again when it is missing or wrong.
    fn places(
        &self,
        id: PartitionId,
        extent: &Extent,
        offset: Offset,
        mut enough: impl FnMut(&[BatchPlace]) -> bool,
    ) -> Result<(), LogError> {
        let key = (extent.file, id);
        let indexes = &self.shared.indexes;
        let trusted = |places: &[BatchPlace]| {
            planted::is(Bug::TrustIndex)
                || places
                    .iter()
                    .all(|place| place.base_offset >= extent.first && place.last_offset <= extent.last)
        };
        // What was told of before an index turned out to be wrong is not told of again.
        let mut next = Offset::MIN;
        let mut tell = |places: &[BatchPlace]| {
            let told = places.partition_point(|place| place.base_offset < next);
            next = places.last().map_or(next, |last| next.max(last.last_offset + 1));
            enough(&places[told..])
        };
        let mut by_index = || {
            let (mut good, mut seen) = (true, false);
            let read = indexes.places(&*self.shared.disk, key, extent.batches, offset, |places| {
                seen = true;
                good = trusted(places);
                !good || tell(places)
            });
            read.is_ok() && good && seen
        };
        if by_index() {
            return Ok(());
        }
        // Whoever holds the file keeps it from being used for anything else.
        let _held = open(&self.shared, extent.file, self.waits)?;
        // The whole file is in memory meanwhile, so one is built at a time; who waited finds what was built.
        let _building = lock(&indexes.building);
        if by_index() {
            return Ok(());
        }
        let disk = &*self.shared.disk;
        if disk.copies() > 1 {
            disk.heal(extent.file)?;
        }
        let index = recovery::rebuild(disk, extent.file)?;
        tracing::warn!(file = %extent.file.name(), "its index was missing or wrong and is built again");
        indexes.forget(extent.file);
        indexes.pin(extent.file, &index);
        if crate::index::save(disk, extent.file, &index).is_ok() {
            indexes.unpin(extent.file);
        }
        let places = index.get(&id).map(Vec::as_slice).unwrap_or_default();
        if places.len() < extent.batches as usize {
            self.name_holes(id, extent, places)?;
        }
        tell(places);
        Ok(())
    }

    /// Whether a file is in the cold store only.
    fn is_far(&self, file: FileId) -> bool {
        self.shared.cold.knows(file) && self.shared.files.get(&*self.shared.disk, file).is_err()
    }

    /// Returns which offsets the places cover, and one behind.
    fn fill(
        &self,
        located: &mut Located<D>,
        places: Vec<(Extent, Vec<BatchPlace>)>,
    ) -> Result<Option<(Offset, Offset)>, LogError> {
        let mut span = None;
        for (extent, places) in places {
            let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
            span = Some((span.map_or(first.base_offset, |(from, _)| from), last.last_offset + 1));
            located.bytes += places.iter().map(|place| place.size as usize).sum::<usize>();
            self.shared.followed.note(extent.file);
            let far = !located.remote.is_empty() || self.is_far(extent.file);
            match far {
                true => located.remote.push((extent, places)),
                false => {
                    let file = self.shared.files.get(&*self.shared.disk, extent.file)?;
                    located.add(&file, &extent, places);
                }
            }
        }
        Ok(span)
    }

    /// As [`Self::locate`], with the bytes in memory.
    pub fn read(
        &self,
        id: PartitionId,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Fetched, LogError> {
        let mut located = self.locate(id, offset, max_bytes, isolation)?;
        located.prepare()?;
        Ok(Fetched {
            high_watermark: located.high_watermark,
            last_stable_offset: located.last_stable_offset,
            log_start_offset: located.log_start_offset,
            records: located.load()?,
            aborted: located.aborted,
        })
    }

    /// About how many bytes there are from an offset on, `max_bytes` at most: exact at the end of the log, and not
    /// less than there are elsewhere. Batches are not kept whole, as a reader's minimum is not a number of batches.
    pub fn available(
        &self,
        id: PartitionId,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<usize, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        in_range(&partition, id, offset)?;
        let limit = limit(&partition, offset, isolation);
        if offset >= limit {
            return Ok(0);
        }
        let first = partition.extent_at(offset);
        if first + 1 == partition.extents.len() && !partition.recent.is_empty() {
            let recent = &partition.recent;
            let from = recent.partition_point(|place| place.last_offset < offset);
            let visible = recent[from..].iter().take_while(|place| place.base_offset < limit);
            return Ok(sum_up_to(visible.map(|place| place.size as usize), max_bytes));
        }
        let extents = partition.extents.iter().skip(first).take_while(|extent| extent.first < limit);
        Ok(sum_up_to(extents.map(|extent| extent.bytes as usize), max_bytes))
    }

    fn batch(&self, file: FileId, place: &BatchPlace) -> Result<Bytes, LogError> {
        let named = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => error,
            kind => io::Error::new(kind, format!("{}: {error}", file.name())),
        };
        let open = open(&self.shared, file, self.waits)?;
        let mut bytes = BytesMut::zeroed(place.size as usize);
        let read = open.read_no_more_at(&mut bytes, place.position);
        let good = read.is_ok() && place.holds(&bytes);
        let may_mend = read.is_ok() || self.shared.disk.copies() > 1;
        if !good && may_mend && mend(&self.shared, file, &open, place)? {
            open.read_exact_at(&mut bytes, place.position).map_err(named)?;
        } else {
            read.map_err(named)?;
        }
        Ok(bytes.freeze())
    }

    /// Batches that lie near one another, in one read; `None` when they cannot be read so.
    fn batches_at_once(&self, file: FileId, places: &[BatchPlace]) -> Option<Vec<Bytes>> {
        let (first, last) = (places.first()?, places.last()?);
        let mut bytes = BytesMut::zeroed((last.end() - first.position) as usize);
        open(&self.shared, file, self.waits).ok()?.read_no_more_at(&mut bytes, first.position).ok()?;
        let bytes = bytes.freeze();
        let from = |place: &BatchPlace| (place.position - first.position) as usize;
        Some(places.iter().map(|place| bytes.slice(from(place)..from(place) + place.size as usize)).collect())
    }

    /// The batches of an extent in offset order, each checked. It reads little at once and nothing ahead: what others want
    /// of the disk meanwhile does not wait for long.
    ///
    /// # Errors
    /// `Damaged`, and the disk's.
    pub fn each_batch(
        &self,
        id: PartitionId,
        extent: &Extent,
        mut each: impl FnMut(Bytes) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut places = Vec::with_capacity(extent.batches as usize);
        self.places(id, extent, extent.first, |chunk| {
            places.extend_from_slice(chunk);
            false
        })?;
        let mut left = &places[..];
        while !left.is_empty() {
            let (near, later) = left.split_at(near(left));
            left = later;
            let mut read = self.batches_at_once(extent.file, near).unwrap_or_default().into_iter();
            for place in near {
                if let Some(bytes) = read.next().filter(|bytes| place.holds(bytes)) {
                    each(bytes)?;
                    continue;
                }
                let bytes = self.batch(extent.file, place)?;
                if !place.holds(&bytes) {
                    return Err(self.damaged(id, extent.file, place));
                }
                each(bytes)?;
            }
        }
        Ok(())
    }

    /// Places of an extent's batches.
    pub fn places_of(&self, id: PartitionId, extent: &Extent) -> Result<Vec<BatchPlace>, LogError> {
        let recent = {
            let partition = self.find(id)?;
            let known = lock(&partition);
            let last = known.extents.back().is_some_and(|last| last.file == extent.file);
            (last && !known.recent.is_empty()).then(|| known.recent.clone())
        };
        if let Some(recent) = recent {
            return Ok(recent);
        }
        let mut places = Vec::with_capacity(extent.batches as usize);
        self.places(id, extent, extent.first, |chunk| {
            places.extend_from_slice(chunk);
            false
        })?;
        Ok(places)
    }

    /// Whether this log may change its place in the cold store; one that is nobody's becomes its own. `fresh`
    /// is a number never used.
    pub fn claim_cold_store(&self, fresh: u64) -> io::Result<Ownership> {
        ownership::claim(&self.shared, fresh)
    }

    /// Copies a finished file to the cold store and reads it back; [`crate::Log::cool`] makes it known. All copies here
    /// are looked at and mended before, for they go when the one in the store is there.
    ///
    /// # Errors
    /// `Unreadable` when the file cannot be read here. `Io`: `PermissionDenied` when the place is not this log's, and
    /// those of the disk and the store.
    pub fn upload(&self, file: FileId) -> Result<ColdFile, LogError> {
        ownership::check(&self.shared)?;
        self.look_over(file)?;
        Ok(cold::upload(&self.shared, file)?)
    }

    /// Removes objects from the cold store that nobody has known of for `grace_ms`, at most so many. Nothing
    /// may be uploading meanwhile, and no commit may have failed.
    ///
    /// # Errors
    /// `PermissionDenied` when the place is not this log's, and those of the store.
    pub fn sweep_cold_store(
        &self,
        orphans: &mut Orphans,
        now: TimestampMs,
        grace_ms: TimestampMs,
        most: usize,
    ) -> io::Result<Swept> {
        orphans::sweep(&self.shared, orphans, now, grace_ms, most)
    }

    /// Removes the local copy of a file that is in the cold store; false when the store does not have it. Between two pieces
    /// of work that others may have to wait for, `rest` is called.
    pub fn evict(&self, file: FileId, rest: &mut dyn FnMut()) -> io::Result<bool> {
        cold::evict(&self.shared, file, rest)
    }

    /// A new run file; the number is the log's to give.
    pub fn begin_run(&self, number: u64) -> io::Result<RunWriter<D>> {
        RunWriter::create(&self.shared, number)
    }
}

/// How many of these batches are read at once, which lie one behind the other.
fn near(places: &[BatchPlace]) -> usize {
    let Some(first) = places.first() else { return 0 };
    let mut end = first.end();
    let next = places[1..].iter().take_while(|place| {
        let is_near = (end..=end.saturating_add(BETWEEN)).contains(&place.position);
        end = place.end();
        is_near && end - first.position <= AT_ONCE
    });
    1 + next.count()
}

fn offsets(partition: &Partition) -> Offsets {
    Offsets {
        log_start: partition.log_start,
        high_watermark: partition.end,
        last_stable: partition.last_stable(),
    }
}

/// Extents from `first` on that hold `max_bytes` and one more, as the first may be needed in part only.
fn enough(partition: &Partition, first: usize, max_bytes: usize) -> Vec<Extent> {
    let mut taken = Vec::new();
    let mut sum = 0;
    for (place, extent) in partition.extents.iter().skip(first).enumerate() {
        taken.push(*extent);
        sum += if place == 0 { 0 } else { extent.bytes as usize };
        if sum > max_bytes {
            break;
        }
    }
    taken
}
