//! Files that are mostly unused: what partitions still need of them is copied, and they go.

use std::sync::atomic::Ordering;

use headwater_log::{Extent, FileUse, Move, PartitionId};

use super::{CleanError, Cleaner};

/// Copying less than this is not worth a file of its own, unless nearly nothing of the file is needed.
const WORTHWHILE: u64 = 1 << 20;

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
        let sparse: Vec<FileUse> =
            files.iter().filter(finished).filter(|file| is_sparse(file)).copied().collect();
        for file in sparse {
            let extents = self.cleaning.reader.extents_in(file.file);
            self.move_out(extents)?;
            self.cleaning.activity.files_emptied.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn move_out(&mut self, extents: Vec<(PartitionId, Extent)>) -> Result<(), CleanError> {
        let reader = self.cleaning.reader.clone();
        let mut run = reader.begin_run(self.run_number()?)?;
        for (id, extent) in &extents {
            let mut bytes = 0;
            reader.each_batch(*id, extent, |batch| {
                bytes += batch.len();
                run.push(*id, &batch)
            })?;
            self.pace(bytes)?;
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
}
