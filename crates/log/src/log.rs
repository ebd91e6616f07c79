//! Staging and committing.

mod opening;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use headwater_wire::BatchHeader;

use crate::change::{Change, Checkpoint, Move, encode};
use crate::chore::Chore;
use crate::cold::{Cold, ColdFile, ColdStore};
use crate::commit::{CommitJob, CommitTicket, Roll};
use crate::disk::Disk;
use crate::files::Files;
use crate::followed::Followed;
use crate::frame::{Directory, Previous};
use crate::index::{FileIndex, Indexes};
use crate::partition::{Judgement, Partition, PartitionState, marker};
use crate::place::{BatchPlace, Damage, FileId};
use crate::planted::{self, Bug};
use crate::reader::Reader;
use crate::recovery;
use crate::{Appended, Durability, LogError, OpenTransaction, Origin, PartitionId, Settings};

pub use opening::Opening;

/// A buffer for frames that has grown beyond this is given back.
const KEPT_BUFFER: usize = 16 << 20;

/// What the log shares with its readers.
pub(crate) struct Shared<D: Disk> {
    pub disk: Arc<D>,
    pub partitions: RwLock<HashMap<PartitionId, Arc<Mutex<Partition>>>>,
    pub files: Files<D>,
    pub indexes: Indexes,
    pub cold: Cold,
    pub followed: Followed,
    pub salt: u64,
}

impl<D: Disk> Shared<D> {
    /// Every partition in its order, with producers that wrote since `expired`.
    fn states(&self, commit: u64, expired: TimestampMs) -> Vec<PartitionState> {
        let partitions = read(&self.partitions);
        let mut states: Vec<PartitionState> = partitions
            .iter()
            .map(|(id, partition)| lock(partition).state(id.topic_id, id.partition, commit, expired))
            .collect();
        states.sort_unstable_by_key(|state| (state.topic_id, state.partition));
        states
    }
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A batch that waits for its commit; the header has its final offsets.
pub(crate) struct StagedBatch {
    pub header: BatchHeader,
    pub bytes: Bytes,
    pub marker: Option<bool>,
}

/// The batches of one partition in a commit.
pub(crate) struct StagedRun {
    pub id: PartitionId,
    pub batches: Vec<StagedBatch>,
}

/// What the next commit carries.
#[derive(Default)]
struct Staged {
    runs: Vec<StagedRun>,
    run_of: HashMap<PartitionId, usize>,
    changes: Vec<Change>,
    bytes: usize,
    /// Something in it is acknowledged only when it is on disk.
    sync: bool,
}

/// The appender's side; readers take a [`Reader`].
pub struct Log<D: Disk> {
    settings: Settings,
    shared: Arc<Shared<D>>,
    staged: Staged,
    /// Partitions whose creation or end is staged and not on disk yet.
    nascent: HashMap<PartitionId, Arc<Mutex<Partition>>>,
    doomed: HashSet<PartitionId>,
    /// The commit that is being staged.
    commit: u64,
    /// The last commit that is known to be on disk, with all before.
    synced: u64,
    in_flight: bool,
    fenced: Option<String>,
    journal: FileId,
    file: Arc<D::File>,
    position: u64,
    /// Partitions with batches in the journal.
    touched: HashSet<PartitionId>,
    /// A buffer that was used for a frame.
    buffer: Vec<u8>,
    next_run: u64,
    time: TimestampMs,
    /// The latest time that was told since the start: by it producers expire, whose batches since have no later one. A
    /// clock may have been set back at the start.
    now: Option<TimestampMs>,
    /// The size of the last checkpoint.
    checkpoint: u64,
    roll_wanted: bool,
    spares: Vec<String>,
    next_spare: u64,
    /// What the next frame repeats of the last ones of this journal.
    previous: Previous,
    /// Journals and runs on disk, but for the one being written.
    on_disk: BTreeSet<FileId>,
    chores: Vec<Chore<D>>,
    scanned_bytes: u64,
}

impl<D: Disk> Log<D> {
    /// Opens the log in a disk's directory, or begins one where there is none. Damage is not an error
    /// here, it is listed by [`Reader::damage`] and refused where it is read.
    ///
    /// # Errors
    /// `Corrupt` when no file says what the log holds, and those of the disk.
    pub fn open(disk: Arc<D>, settings: Settings) -> Result<Self, LogError> {
        Self::open_with(disk, settings, None)
    }

    /// As [`Self::open`], with a store for files that need not be on the disk.
    pub fn open_with(
        disk: Arc<D>,
        settings: Settings,
        store: Option<Arc<dyn ColdStore>>,
    ) -> Result<Self, LogError> {
        Self::look(disk, settings, store)?.begin()
    }

    /// As [`Self::open_with`], in two steps: what the log holds can be read and judged before this build
    /// writes anything that an older one might not read.
    pub fn look(
        disk: Arc<D>,
        settings: Settings,
        store: Option<Arc<dyn ColdStore>>,
    ) -> Result<Opening<D>, LogError> {
        Opening::find(disk, settings, store)
    }

    /// A handle for other threads that see what is committed.
    pub fn reader(&self) -> Reader<D> {
        Reader::new(Arc::clone(&self.shared))
    }

    /// How many bytes opening had to scan: the last journal.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes
    }

    /// The latest time that the log was told, over restarts.
    pub fn time(&self) -> TimestampMs {
        self.time
    }

    /// Partitions that are on disk.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.reader().partitions()
    }

    /// Producers with an open transaction in any partition.
    pub fn open_transactions(&self) -> Vec<OpenTransaction> {
        let mut open = Vec::new();
        for (id, partition) in read(&self.shared.partitions).iter() {
            open.extend(lock(partition).open_transactions().map(|(producer_id, first_offset)| {
                OpenTransaction { partition: *id, producer_id, first_offset }
            }));
        }
        open
    }

    fn check(&self) -> Result<(), LogError> {
        match &self.fenced {
            Some(reason) if !planted::is(Bug::NoFence) => Err(LogError::Fenced(reason.clone())),
            _ => Ok(()),
        }
    }

    fn find(&self, id: PartitionId) -> Result<Arc<Mutex<Partition>>, LogError> {
        if self.doomed.contains(&id) {
            return Err(LogError::UnknownPartition(id));
        }
        let found =
            self.nascent.get(&id).cloned().or_else(|| read(&self.shared.partitions).get(&id).cloned());
        found.ok_or(LogError::UnknownPartition(id))
    }

    fn change(&mut self, change: Change) {
        self.staged.bytes += 1;
        self.staged.sync = true;
        self.staged.changes.push(change);
    }

    /// Stages a new, empty partition; one that exists is left as it is.
    pub fn create_partition(&mut self, id: PartitionId) -> Result<(), LogError> {
        self.check()?;
        if self.find(id).is_ok() {
            return Ok(());
        }
        self.nascent.insert(id, Arc::default());
        self.change(Change::Create { id });
        Ok(())
    }

    /// Stages the end of a partition.
    pub fn delete_partition(&mut self, id: PartitionId) -> Result<(), LogError> {
        self.check()?;
        self.find(id)?;
        self.doomed.insert(id);
        self.change(Change::Delete { id });
        Ok(())
    }

    /// Stages that everything below `offset` may go.
    pub fn delete_before(&mut self, id: PartitionId, offset: Offset) -> Result<(), LogError> {
        self.check()?;
        let partition = self.find(id)?;
        let (log_start, end) = {
            let partition = lock(&partition);
            (partition.log_start, partition.end)
        };
        if offset > end || offset < 0 {
            return Err(LogError::OffsetOutOfRange { partition: id, offset, log_start, end });
        }
        self.change(Change::LogStart { id, offset });
        Ok(())
    }

    /// Stages that extents are replaced by what was copied out of them into synced runs. A partition that
    /// went meanwhile is no error: its copy is unused and goes.
    pub fn install(&mut self, moved: Move) -> Result<(), LogError> {
        self.check()?;
        for extent in &moved.extents {
            self.next_run = self.next_run.max(extent.file.number() + 1);
        }
        self.change(Change::Move(moved));
        Ok(())
    }

    /// Stages that a finished file is in the cold store; when that is on disk the local copy goes.
    pub fn cool(&mut self, cold: ColdFile) -> Result<(), LogError> {
        self.check()?;
        if planted::is(Bug::EvictEarly) {
            self.shared.cold.set(cold);
            let _ = crate::cold::evict(&self.shared, cold.file, &mut || {});
        }
        self.change(Change::Cool(cold));
        Ok(())
    }

    /// The number of the next run; each is given once.
    pub fn take_run_number(&mut self) -> u64 {
        self.next_run += 1;
        self.next_run - 1
    }

    /// The next commit begins a new journal, so that what is in this one can be moved.
    pub fn roll(&mut self) {
        self.roll_wanted = true;
    }

    /// Stages one batch; the caller has checked its checksum. Offsets are given here.
    pub fn append(
        &mut self,
        id: PartitionId,
        bytes: &Bytes,
        origin: Origin,
        durability: Durability,
        now: TimestampMs,
    ) -> Result<Appended, LogError> {
        self.check()?;
        let partition = self.find(id)?;
        let mut header = BatchHeader::read(bytes)?;
        self.time = self.time.max(now);
        self.now = self.now.max(Some(now));
        let mut known = lock(&partition);
        if origin == Origin::Client
            && let Judgement::Duplicate { base_offset, last_offset, commit } = known.judge(&header)?
        {
            let log_start_offset = known.log_start;
            return Ok(Appended { base_offset, last_offset, log_start_offset, duplicate: true, commit });
        }
        header.base_offset = known.next + i64::from(planted::is(Bug::SkipOffsets));
        known.stage(&header, self.commit, now);
        let appended = Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_start_offset: known.log_start,
            duplicate: false,
            commit: self.commit,
        };
        if planted::is(Bug::VisibleEarly) {
            known.end = header.last_offset() + 1;
        }
        drop(known);
        self.staged.bytes += header.size;
        self.staged.sync |= durability == Durability::Synced;
        let runs = &mut self.staged.runs;
        let run = *self.staged.run_of.entry(id).or_insert_with(|| {
            runs.push(StagedRun { id, batches: Vec::new() });
            runs.len() - 1
        });
        let marker = marker(&header, bytes);
        self.staged.runs[run].batches.push(StagedBatch { header, bytes: bytes.clone(), marker });
        Ok(appended)
    }

    /// The offset that the next record of a partition gets.
    pub fn next_offset(&self, id: PartitionId) -> Result<Offset, LogError> {
        let partition = self.find(id)?;
        let next = lock(&partition).next;
        Ok(next)
    }

    /// Bytes that wait for the next commit.
    pub fn staged_bytes(&self) -> usize {
        self.staged.bytes
    }

    /// The number of the commit that what is staged will be in.
    pub fn staging(&self) -> u64 {
        self.commit
    }

    /// Hands out what was staged as one frame, unless there is none or one is under way.
    pub fn begin_commit(&mut self) -> Option<CommitJob<D>> {
        if self.in_flight || self.fenced.is_some() || (self.staged.bytes == 0 && !self.roll_wanted) {
            return None;
        }
        self.in_flight = true;
        let staged = std::mem::take(&mut self.staged);
        let mut directory = Directory::default();
        for change in &staged.changes {
            directory.change(&encode(change));
        }
        for run in &staged.runs {
            directory.run(run.id, run.batches.iter().map(|batch| &batch.header));
            for marker in run.batches.iter().filter(|batch| batch.marker.is_some()) {
                directory.copy(&marker.bytes, marker.header.base_offset);
            }
        }
        if let Some(end) = self.vital_end() {
            directory.vital(end);
        }
        directory.repeat(&self.previous);
        let full =
            self.position + directory.frame_len() as u64 > self.settings.journal_bytes(self.checkpoint);
        let roll = (full || self.roll_wanted).then(|| self.begin_roll());
        if roll.is_some() {
            directory.forget_repeated();
            self.previous.forget();
        }
        directory.to_repeat(&mut self.previous);
        let journal = roll.as_ref().map_or(self.journal, |roll| roll.journal);
        let job = CommitJob {
            shared: Arc::clone(&self.shared),
            past_cache: self.shared.followed.goes_past(
                journal,
                directory.frame_len(),
                staged.sync || roll.is_some(),
            ),
            journal,
            file: Arc::clone(&self.file),
            position: self.position,
            unsynced: self.synced + 1 < self.commit,
            sync: staged.sync,
            buffer: std::mem::take(&mut self.buffer),
            directory,
            runs: staged.runs,
            changes: staged.changes,
            roll,
            commit: self.commit,
            synced: self.synced,
        };
        self.commit += 1;
        Some(job)
    }

    fn vital_end(&self) -> Option<Offset> {
        let partition = self.settings.vital.and_then(|id| self.find(id).ok())?;
        let end = lock(&partition).end;
        Some(end)
    }

    fn begin_roll(&mut self) -> Roll {
        self.roll_wanted = false;
        let partitions = self.partition_states();
        let cold = self.shared.cold.all();
        let checkpoint = Checkpoint { time: self.time, next_run: self.next_run, partitions, cold };
        Roll {
            journal: FileId::journal(self.journal.number() + 1),
            checkpoint: encode(&checkpoint),
            spare: self.spares.pop(),
            preallocate: self.settings.segment_bytes,
            begins_at: 0,
        }
    }

    fn partition_states(&self) -> Vec<PartitionState> {
        let expiration = self.settings.producer_expiration_ms;
        let expired = self.now.map_or(TimestampMs::MIN, |now| now.saturating_sub(expiration));
        for partition in read(&self.shared.partitions).values() {
            lock(partition).expire_producers(expired);
        }
        self.shared.states(self.commit, expired)
    }

    /// Makes a commit visible, or fences the log when it failed.
    pub fn end_commit(&mut self, ticket: CommitTicket<D>, outcome: io::Result<()>) -> Result<(), LogError> {
        self.in_flight = false;
        if let Err(error) = outcome {
            self.fenced = Some(error.to_string());
            return Err(LogError::Fenced(error.to_string()));
        }
        if ticket.buffer.capacity() <= KEPT_BUFFER {
            self.buffer = ticket.buffer;
        }
        if let Some(roll) = ticket.roll {
            self.finish_journal();
            self.journal = roll.journal;
            self.checkpoint = roll.begins_at;
            self.file = Arc::clone(&ticket.file);
            self.shared.files.put(roll.journal, Arc::clone(&ticket.file));
            self.chores.push(Chore::note_newest(&self.shared, roll.journal));
        }
        if ticket.synced {
            self.synced = ticket.commit;
        }
        self.position = ticket.position + ticket.length;
        self.apply(ticket.runs, ticket.changes, ticket.body_at);
        Ok(())
    }

    /// The journal gets its index and loses the space behind its end.
    fn finish_journal(&mut self) {
        let mut index = FileIndex::new();
        let mut finished = Vec::with_capacity(self.touched.len());
        for id in self.touched.drain() {
            if let Some(partition) = read(&self.shared.partitions).get(&id) {
                let places = lock(partition).recent.clone();
                if !places.is_empty() {
                    index.insert(id, places);
                    finished.push(Arc::clone(partition));
                }
            }
        }
        // Whoever finds no recent places any more finds them in the pinned index.
        self.shared.indexes.pin(self.journal, &index);
        finished.iter().for_each(|partition| lock(partition).recent = Vec::new());
        self.on_disk.insert(self.journal);
        self.chores.push(Chore::truncate(&self.shared, self.journal, self.position));
        self.chores.push(Chore::save_index(&self.shared, self.journal, index));
    }

    fn apply(&mut self, runs: Vec<StagedRun>, changes: Vec<Change>, body_at: u64) {
        let mut shrunk = false;
        for change in &changes {
            if let Change::Create { id } = change
                && let Some(partition) = self.nascent.remove(id)
            {
                write(&self.shared.partitions).insert(*id, partition);
            }
        }
        let mut position = body_at;
        for run in runs {
            self.touched.insert(run.id);
            let partition = read(&self.shared.partitions).get(&run.id).cloned();
            let mut partition = partition.as_ref().map(|partition| lock(partition));
            for batch in run.batches {
                let place = BatchPlace::new(&batch.header, position);
                position += batch.header.size as u64;
                if let Some(partition) = &mut partition {
                    partition.commit(&batch.header, self.journal, place, batch.marker);
                }
            }
        }
        for change in changes {
            shrunk |= self.apply_change(change);
        }
        if shrunk {
            self.remove_unused_files();
        }
    }

    /// Whether files may be unused now.
    fn apply_change(&mut self, change: Change) -> bool {
        let known = |id: PartitionId| read(&self.shared.partitions).get(&id).cloned();
        match change {
            Change::Create { .. } => return false,
            Change::Cool(cold) => {
                if self.on_disk.contains(&cold.file) {
                    self.shared.cold.set(cold);
                    self.chores.push(Chore::evict(&self.shared, cold.file));
                }
                return false;
            }
            Change::Delete { id } => {
                self.doomed.remove(&id);
                write(&self.shared.partitions).remove(&id);
            }
            Change::LogStart { id, offset } => {
                if let Some(partition) = known(id) {
                    lock(&partition).delete_before(offset);
                }
            }
            Change::Move(moved) => {
                // Only from here on: what nobody needs yet would be removed.
                self.on_disk.extend(moved.extents.iter().map(|extent| extent.file));
                match known(moved.id) {
                    Some(partition) => lock(&partition).moved(&moved),
                    None if planted::is(Bug::ResurrectByMove) => {
                        let mut partition = Partition::default();
                        partition.moved(&moved);
                        write(&self.shared.partitions).insert(moved.id, Arc::new(Mutex::new(partition)));
                    }
                    None => {}
                }
            }
        }
        true
    }

    /// Files that no partition needs go, but for the last two journals: a checkpoint that turns out to be
    /// damaged is made up for by the journal before it.
    fn remove_unused_files(&mut self) {
        let mut used: HashSet<FileId> = HashSet::new();
        for partition in read(&self.shared.partitions).values() {
            used.extend(lock(partition).extents.iter().map(|extent| extent.file));
        }
        if planted::is(Bug::RemoveNeededFiles) {
            used.clear();
        }
        let keep = self.journal.number().saturating_sub(1);
        let unused = |file: &FileId| {
            *file != self.journal && !used.contains(file) && (file.is_run() || file.number() < keep)
        };
        let unused: Vec<FileId> = self.on_disk.iter().filter(|file| unused(file)).copied().collect();
        for file in unused {
            self.on_disk.remove(&file);
            self.shared.files.forget(file);
            self.shared.indexes.forget(file);
            if self.shared.cold.forget(file) {
                self.chores.push(Chore::remove_cold(&self.shared, file));
            }
            let recycled = !file.is_run() && self.spares.len() < self.settings.spares;
            let spare = recycled.then(|| self.spare_name());
            let length = self.settings.segment_bytes;
            self.chores.push(Chore::remove(&self.shared, file, spare, length));
        }
    }

    fn spare_name(&mut self) -> String {
        self.next_spare += 1;
        recovery::spare_name(self.next_spare)
    }

    /// Work that is not urgent and needs no lock on the log: run it, and hand back what it says.
    pub fn take_chores(&mut self) -> Vec<Chore<D>> {
        if self.spares.is_empty() && self.settings.spares > 0 && self.next_spare == 0 {
            let name = self.spare_name();
            self.chores.push(Chore::prepare(&self.shared, name, self.settings.segment_bytes));
        }
        std::mem::take(&mut self.chores)
    }

    /// A spare journal is ready. When many files went at once, there are more than are wanted.
    pub fn spare_ready(&mut self, name: String) {
        if self.spares.len() >= self.settings.spares {
            self.chores.push(Chore::discard(&self.shared, name));
            return;
        }
        self.spares.push(name);
    }

    /// What is known to be damaged.
    pub fn damage(&self) -> Vec<(PartitionId, Damage)> {
        self.reader().damage()
    }
}
