//! More history than the disk has room for: the oldest finished files go to the cold store.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_log::{FileId, FileUse, LogError};

use super::manners::STEP;
use super::{CleanError, Cleaner};
use crate::cold::TRANSFER_BYTES;
use crate::engine::STATE_PARTITION;
use crate::memory::Share;

/// How often the store is looked through, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Removals at one look.
const SWEPT_AT_ONCE: usize = 100;

impl Cleaner {
    /// Keeps what finished files take on this disk within `headwater.cold.local.bytes`.
    pub(super) fn tier(&mut self) -> Result<(), CleanError> {
        let Some(budget) = self.cleaning.config.cold_local_bytes else { return Ok(()) };
        let files = self.cleaning.reader.files()?;
        let newest = files.iter().filter(|file| !file.file.is_run()).map(|file| file.file.number()).max();
        let finished = |file: &&FileUse| {
            file.local && (file.file.is_run() || newest.is_some_and(|newest| file.file.number() + 1 < newest))
        };
        let mut local: Vec<FileUse> = files.iter().filter(finished).copied().collect();
        let mut total: u64 = local.iter().map(|file| file.length).sum();
        if total <= budget || !self.owns_place()? {
            return Ok(());
        }
        // What has come back from the store goes first: it is there already. Then the oldest history does.
        let youngest = self.youngest();
        local.sort_by_key(|file| (!file.cold, youngest.get(&file.file).copied().unwrap_or(i64::MIN)));
        let mut unreadable = None;
        for file in local {
            if total <= budget {
                break;
            }
            // What the store does not have was moved by the log that this one was restored from.
            let is_there = file.cold && self.evict(file.file)?;
            if !is_there && file.live > 0 && !self.holds_state(&file) {
                self.pace(file.length as usize)?;
                let share = self.take_memory();
                let cold = match self.cleaning.reader.upload(file.file) {
                    Ok(cold) => cold,
                    // It stays, and keeps no other from going.
                    Err(error @ LogError::Unreadable { .. }) => {
                        unreadable = unreadable.or(Some(error));
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                drop(share);
                self.cleaning.engine.cool(cold)?;
                self.cleaning.activity.files_cooled.fetch_add(1, Ordering::Relaxed);
                self.cleaning.activity.bytes_cooled.fetch_add(file.length, Ordering::Relaxed);
            }
            total = total.saturating_sub(file.length);
        }
        unreadable.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Removes the local copy; false when the store does not have it.
    fn evict(&mut self, file: FileId) -> io::Result<bool> {
        let (manners, disk) = (&mut self.manners, &self.cleaning.disk);
        self.cleaning.reader.evict(file, &mut || manners.did(STEP, disk))
    }

    /// What an upload has in memory, of what requests and answers share; waits until there is so much.
    fn take_memory(&self) -> Share {
        let mut share = Share::default();
        self.cleaning.runtime.block_on(self.cleaning.memory.extend(&mut share, TRANSFER_BYTES));
        share
    }

    /// Objects that nobody knows of, since a move was killed or a removal failed, go after a while.
    pub(super) fn sweep(&mut self) -> Result<(), CleanError> {
        let cleaning = &self.cleaning;
        let grace = cleaning.config.cold_orphan_grace;
        let due = self.swept.is_none_or(|at| at.elapsed() >= grace.min(SWEEP_EVERY));
        // After a commit that failed nobody knows what is on disk.
        if cleaning.config.cold_local_bytes.is_none() || !due || cleaning.engine.fenced().is_some() {
            return Ok(());
        }
        self.swept = Some(Instant::now());
        if !self.owns_place()? {
            return Ok(());
        }
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let now = self.now();
        let swept = self.cleaning.reader.sweep_cold_store(&mut self.orphans, now, grace_ms, SWEPT_AT_ONCE)?;
        self.cleaning.activity.objects_swept.fetch_add(swept.removed as u64, Ordering::Relaxed);
        if swept.removed > 0 {
            tracing::info!(
                removed = swept.removed,
                waiting = swept.waiting,
                "objects that nobody needs were removed from the cold store"
            );
        }
        Ok(())
    }

    /// Whether this broker's log may change its place in the store; whoever watches is told when it may not.
    fn owns_place(&self) -> Result<bool, CleanError> {
        let ownership = self.cleaning.reader.claim_cold_store(self.secret[0])?;
        Ok(self.cleaning.activity.cold.found(ownership))
    }

    /// A start reads the broker's own state, and must not wait for the store.
    fn holds_state(&self, file: &FileUse) -> bool {
        let extents = self.cleaning.reader.extents_in(file.file);
        extents.iter().any(|(id, _)| *id == STATE_PARTITION)
    }

    /// The time of the youngest record in each file.
    fn youngest(&self) -> HashMap<FileId, i64> {
        let reader = &self.cleaning.reader;
        let mut youngest: HashMap<FileId, i64> = HashMap::new();
        let extents = reader.partitions().into_iter().filter_map(|id| Some(reader.usage(id).ok()?.extents));
        for extent in extents.flatten() {
            let known = youngest.entry(extent.file).or_insert(i64::MIN);
            *known = extent.max_timestamp.max(*known);
        }
        youngest
    }
}
