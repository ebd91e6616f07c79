//! Staging and committing.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use headwater_wire::{BatchHeader, batch};

use crate::disk::{Disk, DiskFile};
use crate::frame::{FrameBuilder, Kind};
use crate::partition::{BatchPlace, Judgement, Partition, PartitionState, marker};
use crate::reader::Reader;
use crate::recovery::{self, IndexEntry};
use crate::{Appended, LogError, OpenTransaction, Origin, PartitionId, Settings};

/// What the log shares with its readers.
pub(crate) struct Shared<D: Disk> {
    pub partitions: RwLock<HashMap<PartitionId, Arc<Mutex<Partition>>>>,
    pub files: RwLock<BTreeMap<u64, Arc<D::File>>>,
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

/// One staged change, applied when its commit is on disk. Positions count from the frame's start.
enum Change {
    Batch { id: PartitionId, header: BatchHeader, marker: Option<bool>, at: usize },
    Create { id: PartitionId },
    Delete { id: PartitionId },
    LogStart { id: PartitionId, offset: Offset },
}

/// The appender's side; readers take a [`Reader`].
pub struct Log<D: Disk> {
    disk: Arc<D>,
    settings: Settings,
    shared: Arc<Shared<D>>,
    frame: FrameBuilder,
    changes: Vec<Change>,
    /// Partitions whose creation is staged and not on disk yet.
    nascent: HashMap<PartitionId, Arc<Mutex<Partition>>>,
    /// The commit that is being staged.
    commit: u64,
    in_flight: bool,
    fenced: Option<String>,
    file_number: u64,
    file: Arc<D::File>,
    position: u64,
    /// Index of the file being written, saved when it is finished.
    index: Vec<IndexEntry>,
    scanned_bytes: u64,
}

/// One frame on its way to the disk; needs no lock on the log.
pub struct CommitJob<D: Disk> {
    disk: Arc<D>,
    file: Arc<D::File>,
    position: u64,
    bytes: Vec<u8>,
    roll: Option<Roll>,
    changes: Vec<Change>,
    commit: u64,
}

/// The file before is finished: its index is saved and a new one begins with the state of everything.
struct Roll {
    number: u64,
    state: Vec<u8>,
    finished: u64,
    index: Vec<IndexEntry>,
}

/// What [`Log::end_commit`] needs to know of a job that ran.
pub struct CommitTicket<D: Disk> {
    commit: u64,
    changes: Vec<Change>,
    file: Arc<D::File>,
    rolled: Option<u64>,
    position: u64,
    length: u64,
}

impl<D: Disk> CommitTicket<D> {
    /// The number that [`Appended::commit`] names.
    pub fn commit(&self) -> u64 {
        self.commit
    }
}

impl<D: Disk> Log<D> {
    /// Opens the log in a disk's directory, or begins one where there is none.
    pub fn open(disk: Arc<D>, settings: Settings) -> Result<Self, LogError> {
        let recovered = recovery::recover(&*disk)?;
        let partitions =
            recovered.partitions.into_iter().map(|(id, p)| (id, Arc::new(Mutex::new(p)))).collect();
        let shared =
            Arc::new(Shared { partitions: RwLock::new(partitions), files: RwLock::new(recovered.files) });
        Ok(Self {
            disk,
            settings,
            shared,
            frame: FrameBuilder::new(),
            changes: Vec::new(),
            nascent: HashMap::new(),
            commit: recovered.next_commit,
            in_flight: false,
            fenced: None,
            file_number: recovered.file_number,
            file: recovered.file,
            position: recovered.position,
            index: recovered.index,
            scanned_bytes: recovered.scanned_bytes,
        })
    }

    /// A handle for other threads that see what is committed.
    pub fn reader(&self) -> Reader<D> {
        Reader::new(Arc::clone(&self.shared))
    }

    /// How many bytes opening had to scan: the tail that no saved index covers.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes
    }

    /// Partitions that are on disk.
    pub fn partitions(&self) -> Vec<PartitionId> {
        let mut ids: Vec<_> = read(&self.shared.partitions).keys().copied().collect();
        ids.sort_unstable();
        ids
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
            Some(reason) => Err(LogError::Fenced(reason.clone())),
            None => Ok(()),
        }
    }

    fn find(&self, id: PartitionId) -> Result<Arc<Mutex<Partition>>, LogError> {
        let found =
            self.nascent.get(&id).cloned().or_else(|| read(&self.shared.partitions).get(&id).cloned());
        found.ok_or(LogError::UnknownPartition(id))
    }

    /// Stages a new, empty partition; one that exists is left as it is.
    pub fn create_partition(&mut self, id: PartitionId) -> Result<(), LogError> {
        self.check()?;
        if self.find(id).is_ok() {
            return Ok(());
        }
        self.frame.push(Kind::Create, id, &[]);
        self.changes.push(Change::Create { id });
        self.nascent.insert(id, Arc::default());
        Ok(())
    }

    /// Stages the end of a partition.
    pub fn delete_partition(&mut self, id: PartitionId) -> Result<(), LogError> {
        self.check()?;
        self.find(id)?;
        self.nascent.remove(&id);
        self.frame.push(Kind::Delete, id, &[]);
        self.changes.push(Change::Delete { id });
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
        self.frame.push(Kind::LogStart, id, &offset.to_be_bytes());
        self.changes.push(Change::LogStart { id, offset });
        Ok(())
    }

    /// Stages one batch; the caller has checked its checksum. Offsets are given here.
    pub fn append(
        &mut self,
        id: PartitionId,
        bytes: &Bytes,
        origin: Origin,
        _now: TimestampMs,
    ) -> Result<Appended, LogError> {
        self.check()?;
        let partition = self.find(id)?;
        let mut partition = lock(&partition);
        let mut header = BatchHeader::read(bytes)?;
        if origin == Origin::Client
            && let Judgement::Duplicate { base_offset, last_offset, commit } = partition.judge(&header)?
        {
            let log_start_offset = partition.log_start;
            return Ok(Appended { base_offset, last_offset, log_start_offset, duplicate: true, commit });
        }
        header.base_offset = partition.next;
        let at = self.frame.push(Kind::Batch, id, &bytes[..header.size]);
        batch::assign_offset(self.frame.tail_mut(at), header.base_offset, 0);
        partition.stage(&header, self.commit);
        self.changes.push(Change::Batch { id, header, marker: marker(&header, bytes), at });
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_start_offset: partition.log_start,
            duplicate: false,
            commit: self.commit,
        })
    }

    /// Bytes staged and not yet handed to a commit.
    pub fn staged_bytes(&self) -> usize {
        if self.frame.is_empty() { 0 } else { self.frame.len() }
    }

    /// Takes what is staged; `None` when there is nothing, or while another commit is under way.
    pub fn begin_commit(&mut self) -> Option<CommitJob<D>> {
        if self.in_flight || self.frame.is_empty() || self.fenced.is_some() {
            return None;
        }
        self.in_flight = true;
        let bytes = std::mem::replace(&mut self.frame, FrameBuilder::new()).seal(self.commit);
        let changes = std::mem::take(&mut self.changes);
        let full = self.position + bytes.len() as u64 > self.settings.segment_bytes;
        let roll = full.then(|| Roll {
            number: self.file_number + 1,
            state: self.state_frame(),
            finished: self.file_number,
            index: std::mem::take(&mut self.index),
        });
        let job = CommitJob {
            disk: Arc::clone(&self.disk),
            file: Arc::clone(&self.file),
            position: self.position,
            bytes,
            roll,
            changes,
            commit: self.commit,
        };
        self.commit += 1;
        Some(job)
    }

    /// The frame that opens a file: all partitions as they are on disk now.
    fn state_frame(&self) -> Vec<u8> {
        let partitions = read(&self.shared.partitions);
        let mut states: Vec<PartitionState> = partitions
            .iter()
            .map(|(id, partition)| lock(partition).state(id.topic_id, id.partition, self.commit))
            .collect();
        states.sort_unstable_by_key(|state| (state.topic_id, state.partition));
        recovery::state_frame(&states, self.commit)
    }

    /// Makes a commit visible, or fences the log when it failed.
    pub fn end_commit(&mut self, ticket: CommitTicket<D>, outcome: io::Result<()>) -> Result<(), LogError> {
        self.in_flight = false;
        if let Err(error) = outcome {
            self.fenced = Some(error.to_string());
            return Err(LogError::Fenced(error.to_string()));
        }
        if let Some(number) = ticket.rolled {
            self.file_number = number;
            self.file = Arc::clone(&ticket.file);
            write(&self.shared.files).insert(number, Arc::clone(&ticket.file));
        }
        self.position = ticket.position + ticket.length;
        let mut shrunk = false;
        for change in ticket.changes {
            shrunk |= matches!(change, Change::Delete { .. } | Change::LogStart { .. });
            let line = self.apply(change, ticket.position);
            self.index.push(line);
        }
        if shrunk {
            self.remove_unused_files()?;
        }
        Ok(())
    }

    fn apply(&mut self, change: Change, frame_position: u64) -> IndexEntry {
        match change {
            Change::Create { id } => {
                if let Some(partition) = self.nascent.remove(&id) {
                    write(&self.shared.partitions).insert(id, partition);
                }
                IndexEntry::Create { id }
            }
            Change::Delete { id } => {
                write(&self.shared.partitions).remove(&id);
                IndexEntry::Delete { id }
            }
            Change::LogStart { id, offset } => {
                if let Some(partition) = read(&self.shared.partitions).get(&id) {
                    lock(partition).delete_before(offset);
                }
                IndexEntry::LogStart { id, offset }
            }
            Change::Batch { id, header, marker, at } => {
                let position = frame_position + at as u64;
                if let Some(partition) = read(&self.shared.partitions).get(&id) {
                    lock(partition).commit(&header, place(&header, self.file_number, position), marker);
                }
                IndexEntry::batch(id, &header, marker, position)
            }
        }
    }

    /// Removes files from the oldest on as long as no partition has a batch in them.
    fn remove_unused_files(&mut self) -> Result<(), LogError> {
        let mut oldest = self.file_number;
        for partition in read(&self.shared.partitions).values() {
            oldest = oldest.min(lock(partition).batches.front().map_or(oldest, |batch| batch.file));
        }
        let unused: Vec<u64> = read(&self.shared.files).range(..oldest).map(|(number, _)| *number).collect();
        for number in unused {
            write(&self.shared.files).remove(&number);
            // The log first: an index without its log is ignored, a log without index is scanned.
            self.disk.remove(&recovery::file_name(number))?;
            let _ = self.disk.remove(&recovery::index_name(number));
        }
        Ok(())
    }
}

pub(crate) fn place(header: &BatchHeader, file: u64, position: u64) -> BatchPlace {
    BatchPlace {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        max_timestamp: header.max_timestamp,
        file,
        position,
        size: header.size as u32,
    }
}

impl<D: Disk> CommitJob<D> {
    /// Writes and syncs. The ticket goes to [`Log::end_commit`] with the outcome, whatever it is.
    pub fn run(mut self) -> (CommitTicket<D>, io::Result<()>) {
        let outcome = self.write();
        let ticket = CommitTicket {
            commit: self.commit,
            changes: std::mem::take(&mut self.changes),
            file: self.file,
            rolled: self.roll.map(|roll| roll.number),
            position: self.position,
            length: self.bytes.len() as u64,
        };
        (ticket, outcome)
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(roll) = &mut self.roll {
            let file = self.disk.create(&recovery::file_name(roll.number))?;
            file.write_all_at(&roll.state, 0)?;
            self.position = roll.state.len() as u64;
            self.file = Arc::new(file);
            self.file.write_all_at(&self.bytes, self.position)?;
            self.file.sync()?;
            self.disk.sync_directory()?;
            let index = std::mem::take(&mut roll.index);
            if let Err(error) = recovery::save_index(&*self.disk, roll.finished, self.commit, index) {
                tracing::warn!(%error, file = roll.finished, "the index was not saved; the next start scans the file");
            }
            return Ok(());
        }
        self.file.write_all_at(&self.bytes, self.position)?;
        self.file.sync()
    }
}
