//! Looking at old batches before a reader does, slowly: damage is known while a copy may still be at hand.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use headwater_log::PartitionId;
use headwater_model::Offset;

use super::{CleanError, Cleaner};

/// A rest that is shorter costs more than the work before it.
const SHORTEST: Duration = Duration::from_micros(500);
const LONGEST: Duration = Duration::from_millis(50);
/// What it counts for to find the next extent, however little of it is here.
const FINDING: u64 = 16 << 10;

/// How far a pass over the log has come.
#[derive(Debug, Default)]
pub struct Pass {
    next: Option<(PartitionId, Offset)>,
    finished: Option<Instant>,
}

impl Cleaner {
    /// Goes on with the pass for about `budget`; begins another when the last one is old.
    pub(super) fn scrub(&mut self, budget: Duration) -> Result<(), CleanError> {
        let Some(rate) = self.cleaning.config.scrub_bytes_per_second.filter(|rate| *rate > 0) else {
            return Ok(());
        };
        if self.pass.finished.is_some_and(|finished| finished.elapsed() < self.cleaning.config.scrub_interval)
        {
            return Ok(());
        }
        self.pass.finished = None;
        let mut left = rate.saturating_mul(budget.as_millis().try_into().unwrap_or(u64::MAX)) / 1000;
        while left > 0 && !self.stopping.load(Ordering::Relaxed) {
            let Some((id, extent)) = self.next_extent() else {
                self.pass = Pass { next: None, finished: Some(Instant::now()) };
                return Ok(());
            };
            self.pass.next = Some((id, extent.last + 1));
            left = left.saturating_sub(FINDING);
            let reader = self.cleaning.reader.clone();
            let activity = &self.cleaning.activity;
            let stopping = &self.stopping;
            let mut began = Instant::now();
            let damaged = reader.scrub(id, &extent, |bytes| {
                activity.bytes_scrubbed.fetch_add(bytes as u64, Ordering::Relaxed);
                left = left.saturating_sub(bytes as u64);
                // Half of the time is left to others, whatever the rate.
                let worked = began.elapsed();
                if worked >= SHORTEST {
                    std::thread::sleep(worked.min(LONGEST));
                    began = Instant::now();
                }
                !stopping.load(Ordering::Relaxed)
            });
            match damaged {
                Ok(0) => {}
                Ok(batches) => drop(activity.batches_damaged.fetch_add(batches as u64, Ordering::Relaxed)),
                // Damage is known already, or the partition went.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The next extent of a finished file, in the order of partitions and offsets.
    fn next_extent(&self) -> Option<(PartitionId, headwater_log::Extent)> {
        let reader = &self.cleaning.reader;
        let from = self.pass.next;
        let partitions = reader.partitions();
        let first = from.map_or(0, |(id, _)| partitions.partition_point(|other| *other < id));
        for id in &partitions[first.min(partitions.len())..] {
            let Ok(usage) = reader.usage(*id) else { continue };
            let finished = usage.extents.len() - usize::from(usage.growing);
            let offset = from.filter(|(at, _)| at == id).map_or(0, |(_, offset)| offset);
            if let Some(extent) = usage.extents[..finished].iter().find(|extent| extent.first >= offset) {
                return Some((*id, *extent));
            }
        }
        None
    }
}
