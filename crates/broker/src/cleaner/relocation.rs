//! Files that are mostly unused: what partitions still need of them is copied, and they go. So do many small
//! files, as many restarts leave them: they become one.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use headwater_log::{Cause, Damage, Extent, FileId, FileUse, LogError, Move, PartitionId, PartitionUse};

use super::{CleanError, Cleaner};

/// Copying less than this is not worth a file of its own, unless nearly nothing of the file is needed.
const WORTHWHILE: u64 = 1 << 20;

/// A finished file that has not grown to this is small.
const SMALL: u64 = 128 << 10;
/// So many small files are worth one that takes their place.
const MANY: usize = 16;

/// The part of a file that must be unused before the rest is moved.
fn is_sparse(file: &FileUse) -> bool {
    let unused = file.length.saturating_sub(file.live);
    file.live > 0 && unused > file.live && (unused >= WORTHWHILE || unused > 8 * file.live)
}

impl Cleaner {
    pub(super) fn relocate(&mut self) -> Result<(), CleanError> {
        let files = self.cleaning.reader.files()?;
        let newest = files.iter().filter(|file| !file.file.is_run()).map(|file| file.file.number()).max();
        // The journal before the newest is kept in any case.
        let finished = |file: &&FileUse| {
            file.file.is_run() || newest.is_some_and(|newest| file.file.number() + 1 < newest)
        };
        let finished: Vec<FileUse> = files.iter().filter(finished).copied().collect();
        let mut failed = None;
        let merged = self.merge(&finished);
        go_on(merged, &mut failed)?;
        let sparse: Vec<FileUse> = finished.into_iter().filter(is_sparse).collect();
        // When one cannot be brought back, the store may be away, and each that is asked for takes its time.
        let mut away = false;
        // Where the disk is full, only what is smaller than what did not fit is tried.
        let mut fits = u64::MAX;
        for file in sparse {
            if (away && !file.local) || file.live >= fits {
                continue;
            }
            let mut extents = self.cleaning.reader.extents_in(file.file);
            // What is damaged stays where it is, and so does its file; the next one may go.
            let damage = self.cleaning.reader.damage();
            extents.retain(|(id, extent)| {
                // What a lost commit held is not there to be kept.
                let stays = |damage: &Damage| damage.cause != Cause::LostCommit && lies_in(damage, extent);
                !damage.iter().any(|(of, damage)| of == id && stays(damage))
            });
            if extents.is_empty() {
                // It was emptied since the files were looked at, and a run of nothing would stay.
                continue;
            }
            let moved = self.move_out(extents);
            if file.local && moved.as_ref().is_err_and(is_full) {
                fits = file.live;
            }
            if go_on(moved, &mut failed)? {
                self.cleaning.activity.files_emptied.fetch_add(1, Ordering::Relaxed);
            } else {
                away |= !file.local;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn move_out(&mut self, extents: Vec<(PartitionId, Extent)>) -> Result<(), CleanError> {
        let reader = self.cleaning.reader.clone();
        let mut run = reader.begin_run(self.run_number()?)?;
        for (id, extent) in &extents {
            let (manners, disk) = (&mut self.manners, &self.cleaning.disk);
            reader.each_batch(*id, extent, |batch| {
                manners.did(batch.len(), disk);
                run.push(*id, &batch)
            })?;
            self.pace(0)?;
        }
        self.cleaning.activity.bytes_written.fetch_add(run.bytes(), Ordering::Relaxed);
        let moved = run.finish()?;
        let moves = moved.into_iter().zip(&extents).map(|((id, extent), (_, from))| Move {
            id,
            replaces: vec![from.file],
            extents: vec![extent],
            cleaned: None,
            aborted: Vec::new(),
        });
        self.cleaning.engine.install(moves.collect())?;
        Ok(())
    }

    /// Copies what is in small files to one, when that frees enough of them.
    fn merge(&mut self, finished: &[FileUse]) -> Result<(), CleanError> {
        let is_small = |file: &&FileUse| file.local && !file.cold && file.live > 0 && file.length < SMALL;
        let small: BTreeSet<FileId> = finished.iter().filter(is_small).map(|file| file.file).collect();
        if small.len() < MANY {
            return Ok(());
        }
        let reader = self.cleaning.reader.clone();
        let of = |id: PartitionId| Some((id, neighbours(&reader.usage(id).ok()?, &small)));
        let chosen: Vec<(PartitionId, Vec<Extent>)> =
            reader.partitions().into_iter().filter_map(of).collect();
        let moves = |id: &PartitionId, extent: &Extent| {
            chosen
                .iter()
                .any(|(of, extents)| of == id && extents.iter().any(|other| other.file == extent.file))
        };
        let is_freed =
            |file: &&FileId| reader.extents_in(**file).iter().all(|(id, extent)| moves(id, extent));
        let freed = small.iter().filter(is_freed).count();
        if freed < MANY / 2 {
            return Ok(());
        }
        self.move_together(&chosen)?;
        self.cleaning.activity.files_emptied.fetch_add(freed as u64, Ordering::Relaxed);
        Ok(())
    }

    fn move_together(&mut self, chosen: &[(PartitionId, Vec<Extent>)]) -> Result<(), CleanError> {
        let reader = self.cleaning.reader.clone();
        let mut run = reader.begin_run(self.run_number()?)?;
        for (id, extents) in chosen {
            for extent in extents {
                let (manners, disk) = (&mut self.manners, &self.cleaning.disk);
                reader.each_batch(*id, extent, |batch| {
                    manners.did(batch.len(), disk);
                    run.push(*id, &batch)
                })?;
                self.pace(0)?;
            }
        }
        self.cleaning.activity.bytes_written.fetch_add(run.bytes(), Ordering::Relaxed);
        let replaced = |id: PartitionId| {
            let extents = chosen.iter().filter(move |(of, _)| *of == id).flat_map(|(_, extents)| extents);
            extents.map(|extent| extent.file).collect()
        };
        let moves = run.finish()?.into_iter().map(|(id, extent)| Move {
            id,
            replaces: replaced(id),
            extents: vec![extent],
            cleaned: None,
            aborted: Vec::new(),
        });
        self.cleaning.engine.install(moves.collect())?;
        Ok(())
    }
}

/// Whether it went well. A file that fails keeps no other from its turn, and the first failure is told in the end; a
/// broker that stops, or writes no more, ends it.
fn go_on(outcome: Result<(), CleanError>, failed: &mut Option<CleanError>) -> Result<bool, CleanError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error @ (CleanError::Stopping | CleanError::Unavailable(_))) => Err(error),
        Err(error) => {
            *failed = failed.take().or(Some(error));
            Ok(false)
        }
    }
}

fn is_full(error: &CleanError) -> bool {
    let (CleanError::Io(error) | CleanError::Log(LogError::Io(error))) = error else { return false };
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn lies_in(damage: &Damage, extent: &Extent) -> bool {
    damage.first <= extent.last && extent.first <= damage.last
}

/// The first extents of a partition that follow each other in these files, without damage in them: a
/// partition has one extent in a file.
fn neighbours(usage: &PartitionUse, files: &BTreeSet<FileId>) -> Vec<Extent> {
    let fits = |extent: &&Extent| {
        files.contains(&extent.file) && !usage.damage.iter().any(|damage| lies_in(damage, extent))
    };
    let extents = usage.extents.iter().skip_while(|extent| !fits(extent));
    extents.take_while(fits).copied().collect()
}
