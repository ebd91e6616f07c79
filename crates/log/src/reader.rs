//! Reading what is committed, from any thread, without waiting for the appender's disk.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use headwater_model::{Offset, TimestampMs};
use headwater_wire::{BatchHeader, batch};

use crate::cold::{self, ColdFile};
use crate::disk::{Disk, DiskFile};
use crate::log::{Shared, lock, read};
use crate::partition::{Aborted, Partition};
use crate::place::{BatchPlace, Cause, Damage, Extent, FileId};
use crate::planted::{self, Bug};
use crate::recovery;
use crate::run::RunWriter;
use crate::{AbortedTransaction, Fetched, Isolation, LogError, Offsets, PartitionId};

/// A cheap handle; each partition has its own lock, held for a lookup in memory only.
pub struct Reader<D: Disk> {
    pub(crate) shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

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
    shared: Arc<Shared<D>>,
    id: PartitionId,
    /// What is in files that are not on this disk, and all behind it.
    remote: Vec<(Extent, Vec<BatchPlace>)>,
    /// What nobody has looked at since the start.
    unchecked: Vec<Unchecked<D>>,
    old: bool,
}

/// Batches of a file to be looked at, with the handle by which they will be sent.
struct Unchecked<D: Disk> {
    id: FileId,
    file: Arc<D::File>,
    places: Vec<BatchPlace>,
}

/// How much of a file is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileUse {
    pub file: FileId,
    pub length: u64,
    pub live: u64,
    pub local: bool,
    pub cold: bool,
}

/// What a partition takes, and up to where it is clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionUse {
    pub offsets: Offsets,
    pub extents: Vec<Extent>,
    pub cleaned: crate::Cleaned,
    pub damage: Vec<Damage>,
    pub open: Vec<(i64, Offset)>,
    /// The last extent is in the journal that is being written, so it cannot be moved yet.
    pub growing: bool,
}

/// What a partition is in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSummary {
    pub id: PartitionId,
    pub offsets: Offsets,
    pub bytes: u64,
    pub clean_bytes: u64,
    pub damaged: usize,
    /// Producers with a transaction open here.
    pub open: Vec<i64>,
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

fn limit(partition: &Partition, offset: Offset, isolation: Isolation) -> Offset {
    let end = if isolation == Isolation::Committed { partition.last_stable() } else { partition.end };
    let damaged = partition.damage.iter().filter(|damage| damage.first > offset);
    damaged.map(|damage| damage.first).min().unwrap_or(end).min(end)
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
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
    /// `OffsetOutOfRange`, `Damaged` when the batch at `offset` is, `UnknownPartition`, and the disk's.
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
                // Damage behind what was asked for has been found on the way.
                Err(LogError::Damaged { damage, .. }) if damage.first > offset => {}
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
            drop(known);
        } else if rest > 0 {
            let extents = enough(&known, first, max_bytes);
            drop(known);
            self.take_old(partition, id, &extents, &mut wanted, &mut places)?;
            located.old = true;
        } else {
            drop(known);
        }
        self.fill(&mut located, places)?;
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
        let (mut good, mut seen) = (true, false);
        let read = indexes.places(&*self.shared.disk, key, extent.batches, offset, |places| {
            seen = true;
            good = trusted(places);
            !good || enough(places)
        });
        if read.is_ok() && good && seen {
            return Ok(());
        }
        let disk = &*self.shared.disk;
        // Whoever holds the file keeps it from being used for anything else.
        let _held = cold::fetch(&self.shared, extent.file)?;
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
            return Err(self.name_holes(id, extent, places));
        }
        enough(places);
        Ok(())
    }

    /// Batches of an extent that cannot be found in its file any more.
    fn name_holes(&self, id: PartitionId, extent: &Extent, places: &[BatchPlace]) -> LogError {
        let mut next = extent.first;
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
        named.into_iter().next().unwrap_or(LogError::UnknownPartition(id))
    }

    /// Whether a file is in the cold store only.
    fn is_far(&self, file: FileId) -> bool {
        self.shared.cold.knows(file) && self.shared.files.get(&*self.shared.disk, file).is_err()
    }

    fn fill(&self, located: &mut Located<D>, places: Vec<(Extent, Vec<BatchPlace>)>) -> Result<(), LogError> {
        let mut span = None;
        for (extent, places) in places {
            let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
            span = Some((span.map_or(first.base_offset, |(from, _)| from), last.last_offset + 1));
            located.bytes += places.iter().map(|place| place.size as usize).sum::<usize>();
            let far = !located.remote.is_empty() || self.is_far(extent.file);
            match far {
                true => located.remote.push((extent, places)),
                false => {
                    let file = self.shared.files.get(&*self.shared.disk, extent.file)?;
                    located.add(&file, &extent, places);
                }
            }
        }
        if let Some((from, to)) = span {
            let partition = self.find(located.id)?;
            let aborted = lock(&partition).aborted_between(from, to);
            let aborted = aborted.into_iter();
            located.aborted = aborted
                .map(|a| AbortedTransaction { producer_id: a.producer_id, first_offset: a.first_offset })
                .collect();
        }
        Ok(())
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
            aborted: if isolation == Isolation::Committed { located.aborted } else { Vec::new() },
        })
    }

    /// About how many bytes [`Self::locate`] would find: exact at the end of the log, and not less than
    /// there are elsewhere.
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
            let mut wanted = Wanted { offset, limit, max_bytes, taken: 0 };
            let _ = wanted.take(&partition.recent, &mut Vec::new());
            return Ok(wanted.taken);
        }
        let extents = partition.extents.iter().skip(first).take_while(|extent| extent.first < limit);
        let mut sum = 0;
        for extent in extents {
            sum += extent.bytes as usize;
            if sum >= max_bytes {
                break;
            }
        }
        Ok(sum.min(max_bytes.max(1)))
    }

    /// The first record at or after a point in time: its offset and timestamp (KIP-79).
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let (log_start, extents, recent) = {
            let known = lock(&partition);
            let candidates = known.extents.iter().filter(|extent| extent.max_timestamp >= timestamp);
            let recent = known.recent.iter().filter(|place| place.max_timestamp >= timestamp);
            let recent: Vec<BatchPlace> = recent.take(8).copied().collect();
            (known.log_start, candidates.copied().collect::<Vec<_>>(), recent)
        };
        for extent in extents {
            let mut candidates = Vec::new();
            let mut keep = |places: &[BatchPlace]| {
                let late =
                    |place: &&BatchPlace| place.max_timestamp >= timestamp && place.last_offset >= log_start;
                candidates.extend(places.iter().filter(late).take(8).copied());
                !candidates.is_empty()
            };
            match recent.first().filter(|place| (extent.first..=extent.last).contains(&place.base_offset)) {
                Some(_) => drop(keep(&recent)),
                None => self.places_at(id, &extent, timestamp, keep)?,
            }
            for place in candidates {
                if let Some(found) = self.record_at(extent.file, place, log_start, timestamp)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn places_at(
        &self,
        id: PartitionId,
        extent: &Extent,
        timestamp: TimestampMs,
        mut keep: impl FnMut(&[BatchPlace]) -> bool,
    ) -> Result<(), LogError> {
        let key = (extent.file, id);
        if self.shared.indexes.at_time(&*self.shared.disk, key, extent.batches, timestamp, &mut keep).is_ok()
        {
            return Ok(());
        }
        self.places(id, extent, extent.first, keep)
    }

    fn record_at(
        &self,
        file: FileId,
        place: BatchPlace,
        log_start: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let bytes = self.batch(file, &place)?;
        let header = BatchHeader::read(&bytes)?;
        if header.is_control() || header.is_log_append_time() {
            return Ok(Some((place.base_offset.max(log_start), header.max_timestamp)));
        }
        let records = batch::decode(&header, &bytes)?;
        let found = records.into_iter().find(|r| r.timestamp >= timestamp && r.offset >= log_start);
        Ok(found.map(|record| (record.offset, record.timestamp)))
    }

    fn batch(&self, file: FileId, place: &BatchPlace) -> Result<Bytes, LogError> {
        let named = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => error,
            kind => io::Error::new(kind, format!("{}: {error}", file.name())),
        };
        let open = cold::fetch(&self.shared, file)?;
        let mut bytes = BytesMut::zeroed(place.size as usize);
        let read = open.read_exact_at(&mut bytes, place.position);
        let good = read.is_ok() && place.holds(&bytes);
        if !good && self.shared.disk.copies() > 1 && mend(&self.shared, &open, place)? {
            open.read_exact_at(&mut bytes, place.position).map_err(named)?;
        } else {
            read.map_err(named)?;
        }
        Ok(bytes.freeze())
    }

    /// The record with the greatest timestamp (KIP-734).
    pub fn max_timestamp_offset(&self, id: PartitionId) -> Result<Option<(Offset, TimestampMs)>, LogError> {
        let partition = self.find(id)?;
        let latest = lock(&partition).extents.iter().map(|extent| extent.max_timestamp).max();
        match latest {
            Some(latest) => self.offset_for_time(id, latest),
            None => Ok(None),
        }
    }

    /// The batches of an extent in offset order, each checked.
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
        for place in places {
            let bytes = self.batch(extent.file, &place)?;
            if !place.holds(&bytes) {
                return Err(self.damaged(id, extent.file, &place));
            }
            each(bytes)?;
        }
        Ok(())
    }

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
            let good = mend(&self.shared, &file, place).map_err(|source| LogError::Unreadable {
                partition: id,
                file: extent.file.name(),
                source,
            })?;
            if !good {
                self.damaged(id, extent.file, place);
                damaged += 1;
            } else if self.shared.disk.copies() > 1 {
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

    fn no_longer_damaged(&self, id: PartitionId, damage: &Damage) {
        if let Ok(partition) = self.find(id) {
            lock(&partition).damage.retain(|known| known != damage);
        }
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

    fn damaged(&self, id: PartitionId, file: FileId, place: &BatchPlace) -> LogError {
        name_damage(&self.shared, id, unlike(file, place))
    }

    /// Copies a finished file to the cold store and reads it back; [`crate::Log::cool`] makes it known.
    pub fn upload(&self, file: FileId) -> io::Result<ColdFile> {
        cold::upload(&self.shared, file)
    }

    /// Removes objects that nobody knows of from the cold store. Nothing may be uploading meanwhile.
    pub fn sweep_cold_store(&self) -> io::Result<()> {
        cold::sweep(&self.shared)
    }

    /// Removes the local copy of a file that is in the cold store.
    pub fn evict(&self, file: FileId) -> io::Result<()> {
        cold::evict(&self.shared, file)
    }

    /// A new run file; the number is the log's to give.
    pub fn begin_run(&self, number: u64) -> io::Result<RunWriter<D>> {
        RunWriter::create(&self.shared, number)
    }

    /// What is known to be damaged.
    pub fn damage(&self) -> Vec<(PartitionId, Damage)> {
        let mut all = Vec::new();
        for (id, partition) in read(&self.shared.partitions).iter() {
            all.extend(lock(partition).damage.iter().map(|damage| (*id, *damage)));
        }
        all.sort_unstable_by_key(|(id, damage)| (*id, damage.first));
        all
    }

    pub fn usage(&self, id: PartitionId) -> Result<PartitionUse, LogError> {
        let partition = self.find(id)?;
        let partition = lock(&partition);
        Ok(PartitionUse {
            offsets: offsets(&partition),
            extents: partition.extents.iter().copied().collect(),
            cleaned: partition.cleaned,
            damage: partition.damage.clone(),
            open: partition.open_transactions().collect(),
            growing: !partition.recent.is_empty(),
        })
    }

    /// All partitions, in no order.
    pub fn summaries(&self) -> Vec<PartitionSummary> {
        let summary = |(id, partition): (&PartitionId, &Arc<Mutex<Partition>>)| {
            let partition = lock(partition);
            PartitionSummary {
                id: *id,
                offsets: offsets(&partition),
                bytes: partition.bytes(),
                clean_bytes: partition.cleaned.bytes,
                damaged: partition.damage.len(),
                open: partition.open_transactions().map(|(producer, _)| producer).collect(),
            }
        };
        read(&self.shared.partitions).iter().map(summary).collect()
    }

    /// Aborted transactions with records in `[from, to)`.
    pub fn aborted(&self, id: PartitionId, from: Offset, to: Offset) -> Result<Vec<Aborted>, LogError> {
        let partition = self.find(id)?;
        let aborted = lock(&partition).aborted_between(from, to);
        Ok(aborted)
    }

    /// How many bytes of each file partitions need.
    pub fn files(&self) -> Result<Vec<FileUse>, LogError> {
        let mut live: HashMap<FileId, u64> = HashMap::new();
        for partition in read(&self.shared.partitions).values() {
            for extent in &lock(partition).extents {
                *live.entry(extent.file).or_default() += extent.bytes;
            }
        }
        let live = |file: FileId| live.get(&file).copied().unwrap_or(0);
        let mut files = Vec::new();
        for file in self.shared.disk.list()?.iter().filter_map(|name| FileId::parse(name)) {
            let length = match self.shared.disk.open(&file.name()) {
                Ok(open) => open.len()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let cold = self.shared.cold.knows(file);
            files.push(FileUse { file, length, live: live(file), local: true, cold });
        }
        for ColdFile { file, length, .. } in self.shared.cold.all() {
            if !files.iter().any(|local| local.file == file) {
                files.push(FileUse { file, length, live: live(file), local: false, cold: true });
            }
        }
        files.sort_unstable_by_key(|file| file.file);
        Ok(files)
    }

    /// The partitions that have batches in a file, with their extents there.
    pub fn extents_in(&self, file: FileId) -> Vec<(PartitionId, Extent)> {
        let mut found = Vec::new();
        for (id, partition) in read(&self.shared.partitions).iter() {
            found.extend(lock(partition).extents.iter().filter(|e| e.file == file).map(|e| (*id, *e)));
        }
        found.sort_unstable_by_key(|(id, extent)| (*id, extent.first));
        found
    }
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

fn unlike(file: FileId, place: &BatchPlace) -> Damage {
    Damage { first: place.base_offset, last: place.last_offset, file, cause: Cause::Checksum }
}

fn name_damage<D: Disk>(shared: &Shared<D>, id: PartitionId, damage: Damage) -> LogError {
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
fn mend<D: Disk>(shared: &Shared<D>, file: &D::File, place: &BatchPlace) -> io::Result<bool> {
    if planted::is(Bug::IgnoreOtherSide) && shared.disk.copies() > 1 {
        let mut bytes = vec![0; place.size as usize];
        return Ok(file.read_exact_at(&mut bytes, place.position).is_ok() && place.holds(&bytes));
    }
    let mended = shared.disk.mend(file, place.position, place.size as usize, &|bytes| place.holds(bytes))?;
    Ok(mended.readable)
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

/// How many batches from the first on are what was written. They lie together in the file.
fn count_good(file: &impl DiskFile, places: &[BatchPlace]) -> io::Result<usize> {
    let mut bytes = vec![0; places.iter().map(|place| place.size as usize).sum()];
    let read = file.read_exact_at(&mut bytes, places[0].position);
    if read.is_err() {
        // A file that ends early may hold the first of them.
        return places.iter().try_fold(0, |good, place| {
            let mut bytes = vec![0; place.size as usize];
            match file.read_exact_at(&mut bytes, place.position) {
                Ok(()) if place.holds(&bytes) => Ok(good + 1),
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
                _ => Ok(good),
            }
        });
    }
    let mut rest = bytes.as_slice();
    let good = |place: &&BatchPlace| {
        let (batch, behind) = rest.split_at(place.size as usize);
        rest = behind;
        place.holds(batch)
    };
    Ok(places.iter().take_while(good).count())
}

impl<D: Disk> Located<D> {
    fn add(&mut self, file: &Arc<D::File>, extent: &Extent, places: Vec<BatchPlace>) {
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
        self.remote.is_empty()
            && self.unchecked.is_empty()
            && (!self.old
                || self.ranges.iter().all(|range| range.file.is_resident(range.position, range.length)))
    }

    /// Reads what is not warm; what nobody has looked at is checked, and cut off where it is damaged.
    ///
    /// # Errors
    /// `Damaged` when the first batch is, and the disk's.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        for (extent, places) in std::mem::take(&mut self.remote) {
            let file = cold::fetch(&self.shared, extent.file)?;
            self.add(&file, &extent, places);
        }
        let mut checked = 0;
        for Unchecked { id: file, file: open, places } in std::mem::take(&mut self.unchecked) {
            for together in neighbours(&places) {
                let good =
                    self.count_good(&open, together).map_err(|source| self.unreadable(file, source))?;
                checked += together[..good].iter().map(|place| place.size as usize).sum::<usize>();
                if let (Some(first), Some(last)) = (together.first(), together[..good].last()) {
                    self.mark_checked(file, first.base_offset, last.last_offset + 1);
                }
                if let Some(damaged) = together.get(good) {
                    let error = name_damage(&self.shared, self.id, unlike(file, damaged));
                    self.cut(damaged.position, &open);
                    return if self.bytes == 0 { Err(error) } else { Ok(()) };
                }
            }
        }
        if self.old && checked < self.bytes {
            self.warm_up()?;
        }
        Ok(())
    }

    /// How many batches from the first on are what was written, or are again.
    fn count_good(&self, file: &D::File, places: &[BatchPlace]) -> io::Result<usize> {
        let mut good = count_good(file, places)?;
        while good < places.len() && self.shared.disk.copies() > 1 && mend(&self.shared, file, &places[good])?
        {
            good += 1;
            good += places
                .get(good..)
                .filter(|rest| !rest.is_empty())
                .map_or(Ok(0), |rest| count_good(file, rest))?;
        }
        Ok(good)
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

    fn warm_up(&self) -> Result<(), LogError> {
        let mut scratch = vec![0; 256 << 10];
        for range in &self.ranges {
            let mut at = 0;
            while at < range.length && !range.file.is_resident(range.position, range.length) {
                let step = (range.length - at).min(scratch.len());
                let read = range.file.read_exact_at(&mut scratch[..step], range.position + at as u64);
                read.map_err(|source| self.unreadable(range.id, source))?;
                at += step;
            }
        }
        Ok(())
    }

    /// The bytes in memory.
    pub fn load(&self) -> Result<Bytes, LogError> {
        let mut records = BytesMut::zeroed(self.bytes);
        let mut filled = 0;
        for range in &self.ranges {
            let read = range.file.read_exact_at(&mut records[filled..filled + range.length], range.position);
            read.map_err(|source| self.unreadable(range.id, source))?;
            filled += range.length;
        }
        Ok(records.freeze())
    }
}
