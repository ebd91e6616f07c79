//! One frame on its way to the disk.

use std::io;
use std::sync::Arc;

use crate::change::Change;
use crate::disk::{Disk, DiskFile};
use crate::frame::{Directory, FrameOf, put_batch};
use crate::log::{Shared, StagedRun};
use crate::place::FileId;
use crate::planted::{self, Bug};
use crate::real_file;
use crate::recovery::SPARE;

/// The largest frame that is brief.
const BRIEF: usize = 1 << 20;

/// A frame to be written; needs no lock on the log. [`Self::attempt`] may be repeated when it failed for
/// want of space: it then writes the same bytes to the same place.
pub struct CommitJob<D: Disk> {
    pub(crate) shared: Arc<Shared<D>>,
    pub(crate) journal: FileId,
    pub(crate) file: Arc<D::File>,
    pub(crate) position: u64,
    /// Frames before this one were not synced.
    pub(crate) unsynced: bool,
    pub(crate) sync: bool,
    pub(crate) past_cache: bool,
    pub(crate) buffer: Vec<u8>,
    pub(crate) directory: Directory,
    pub(crate) runs: Vec<StagedRun>,
    pub(crate) changes: Vec<Change>,
    pub(crate) roll: Option<Roll>,
    pub(crate) commit: u64,
    pub(crate) synced: u64,
}

/// A new journal begins, with the state of everything.
pub(crate) struct Roll {
    pub journal: FileId,
    pub checkpoint: Vec<u8>,
    /// A file that was used before and has its blocks already.
    pub spare: Option<String>,
    pub preallocate: u64,
    /// The size of the checkpoint's frame.
    pub begins_at: u64,
}

/// What [`crate::Log::end_commit`] needs to know of a job that ran.
pub struct CommitTicket<D: Disk> {
    pub(crate) commit: u64,
    pub(crate) runs: Vec<StagedRun>,
    pub(crate) changes: Vec<Change>,
    pub(crate) file: Arc<D::File>,
    pub(crate) roll: Option<Roll>,
    pub(crate) position: u64,
    pub(crate) body_at: u64,
    pub(crate) length: u64,
    pub(crate) buffer: Vec<u8>,
    pub(crate) synced: bool,
}

impl<D: Disk> CommitTicket<D> {
    /// The number that [`crate::Appended::commit`] names.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Bytes that were written.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    pub fn synced(&self) -> bool {
        self.synced
    }
}

/// Whether there was no space for it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Takes a journal's space, as far as there is some: with less the file grows as it is written, and a commit that
/// finds none waits, while what is there is served.
pub(crate) fn allocate(file: &impl DiskFile, length: u64) -> io::Result<()> {
    match file.allocate(length) {
        Err(error) if is_full(&error) => {
            tracing::warn!(
                bytes = length,
                "less than a journal's space is free: commits wait when it is used up"
            );
            Ok(())
        }
        allocated => allocated,
    }
}

/// The first frame of a journal. Its commit number is that of the commit that follows.
pub(crate) fn checkpoint_frame(of: FrameOf, checkpoint: &[u8], out: &mut Vec<u8>) {
    let mut directory = Directory::default();
    directory.checkpoint(checkpoint);
    directory.write(of, out);
}

impl<D: Disk> CommitJob<D> {
    /// Whether a failure leaves the file as it was known, so that trying again is safe: a write that found
    /// no space, but never a sync.
    pub fn may_retry(error: &io::Error) -> bool {
        is_full(error)
    }

    /// Whether it is done sooner than another thread is woken: few bytes, into a journal that is open. What need not
    /// wait for the disk is not made to by its way past the cache.
    pub fn is_brief(&self) -> bool {
        let waits_for_nothing_else = self.must_sync() || !self.past_cache;
        self.roll.is_none() && self.directory.frame_len() <= BRIEF && waits_for_nothing_else
    }

    /// Writes and syncs. Spare journals give way to what finds no space.
    ///
    /// # Errors
    /// Of the disk; after one that [`Self::may_retry`] does not name, nobody knows what is on it.
    pub fn attempt(&mut self) -> io::Result<()> {
        match self.write() {
            Err(error) if is_full(&error) && self.give_up_spares() => self.write(),
            written => written,
        }
    }

    /// Whether there were some. Who wants one later finds none under its name, and goes without.
    fn give_up_spares(&self) -> bool {
        let disk = &*self.shared.disk;
        let names = disk.list().unwrap_or_default();
        let spares = names.iter().filter(|name| name.starts_with(SPARE));
        spares.filter(|spare| disk.remove(spare).is_ok()).count() > 0
    }

    fn write(&mut self) -> io::Result<()> {
        self.begin_journal()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let length = self.directory.frame_len();
        if self.past_cache {
            buffer.reserve(length + real_file::LEAD);
            buffer.resize(real_file::lead(&buffer, self.position), 0);
        }
        let lead = buffer.len();
        self.directory.write(self.of(self.journal), &mut buffer);
        for batch in self.runs.iter().flat_map(|run| &run.batches) {
            put_batch(&mut buffer, &batch.bytes, batch.header.base_offset);
        }
        let frame = match planted::is(Bug::IgnoreShortWrite) {
            true => &buffer[lead..buffer.len() - (buffer.len() - lead) / 3],
            false => &buffer[lead..],
        };
        let written = match self.past_cache {
            true => self.file.write_past_cache(frame, self.position),
            false => self.file.write_all_at(frame, self.position),
        };
        self.buffer = buffer;
        written?;
        if self.must_sync() && !planted::is(Bug::SkipFlush) {
            // A sync that found no space has failed like any other.
            let synced = self.file.sync().map_err(|error| io::Error::other(error.to_string()));
            if !planted::is(Bug::IgnoreFlushError) {
                synced?;
            }
        }
        if self.roll.is_some() && !planted::is(Bug::SkipDirectoryFlush) {
            self.shared.disk.sync_directory().map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    fn of(&self, file: FileId) -> FrameOf {
        FrameOf { file, salt: self.shared.salt, sequence: self.commit, synced: self.synced }
    }

    fn must_sync(&self) -> bool {
        self.sync || self.roll.is_some()
    }

    fn begin_journal(&mut self) -> io::Result<()> {
        let Some(roll) = &mut self.roll else { return Ok(()) };
        let disk = &*self.shared.disk;
        if roll.begins_at == 0 {
            if self.unsynced && !planted::is(Bug::SkipFlushBeforeRoll) {
                self.file.sync().map_err(|error| io::Error::other(error.to_string()))?;
            }
            self.synced = self.commit - 1;
            let name = roll.journal.name();
            let recycled = roll.spare.take().filter(|spare| disk.rename(spare, &name).is_ok());
            self.file = Arc::new(if recycled.is_some() { disk.open(&name)? } else { disk.create(&name)? });
        }
        // Said once, if it has to be: what tries again has less to begin with.
        allocate(&*self.file, std::mem::take(&mut roll.preallocate))?;
        let of = FrameOf {
            file: roll.journal,
            salt: self.shared.salt,
            sequence: self.commit,
            synced: self.synced,
        };
        let mut bytes = Vec::new();
        checkpoint_frame(of, &roll.checkpoint, &mut bytes);
        self.file.write_all_at(&bytes, 0)?;
        roll.begins_at = bytes.len() as u64;
        self.position = roll.begins_at;
        Ok(())
    }

    /// What was done, for [`crate::Log::end_commit`].
    pub fn finish(self) -> CommitTicket<D> {
        CommitTicket {
            commit: self.commit,
            synced: self.must_sync(),
            runs: self.runs,
            changes: self.changes,
            file: self.file,
            roll: self.roll,
            position: self.position,
            body_at: self.position + self.directory.body_at() as u64,
            length: self.directory.frame_len() as u64,
            buffer: self.buffer,
        }
    }

    /// One attempt. The ticket goes to [`crate::Log::end_commit`] with the outcome, whatever it is.
    pub fn run(mut self) -> (CommitTicket<D>, io::Result<()>) {
        let outcome = self.attempt();
        (self.finish(), outcome)
    }
}
