//! Compaction of one partition: when it is due, how far, and the copy that takes its place.

use std::sync::atomic::Ordering;

use headwater_coordinator::TopicSettings;
use headwater_log::compact::policy::{Dirt, Stretch, first_uncleanable, is_due};
use headwater_log::compact::{
    AbortedRange, ActiveProducers, CleanSettings, Cleaner as Passes, OffsetMap, Outcome, Progress, Survey,
    Surveyed,
};
use headwater_log::{
    Aborted, BatchPlace, Cleaned, Extent, LogError, Move, PartitionId, PartitionUse, Reader,
};
use headwater_model::{Offset, TimestampMs};
use headwater_wire::BatchHeader;

use super::runs::Runs;
use super::{CleanError, Cleaner};
use crate::mirror::LogDisk;

/// What a cleaning is about.
struct Task {
    id: PartitionId,
    /// Oldest first, as far as the cleaning may reach.
    extents: Vec<Extent>,
    first_dirty: Offset,
    upper: Offset,
    aborted: Vec<AbortedRange>,
}

impl Cleaner {
    pub(super) fn compact(&mut self, id: PartitionId, settings: &TopicSettings) -> Result<(), CleanError> {
        let usage = self.cleaning.reader.usage(id)?;
        let first_dirty = usage.cleaned.to.max(usage.offsets.log_start);
        if first_dirty >= usage.offsets.last_stable || !usage.damage.is_empty() {
            return Ok(());
        }
        let Some(upper) = self.reach(id, settings, &usage)? else { return Ok(()) };
        let reached: Vec<Extent> =
            usage.extents.iter().filter(|extent| extent.first < upper).copied().collect();
        if usage.growing && reached.len() == usage.extents.len() {
            // The journal it is in must be finished first; the next round, which comes soon, finds it so.
            self.cleaning.engine.roll();
            self.rolled = true;
            return Ok(());
        }
        let aborted = self.cleaning.reader.aborted(id, usage.offsets.log_start, upper)?;
        let aborted = aborted.into_iter().map(|aborted| AbortedRange {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
            last_offset: aborted.last_offset,
        });
        let task = Task { id, extents: reached, first_dirty, upper, aborted: aborted.collect() };
        let surveyed = self.survey(&task)?;
        match surveyed.end > first_dirty {
            true => self.replace(&task, &surveyed, settings),
            false => Ok(()),
        }
    }

    /// Up to where cleaning is due; `None` when it is not.
    fn reach(
        &self,
        id: PartitionId,
        settings: &TopicSettings,
        usage: &PartitionUse,
    ) -> Result<Option<Offset>, CleanError> {
        let plan = plan(&self.cleaning.reader, id, settings, usage, self.now())?;
        Ok((plan.due && plan.upper > plan.first_dirty).then_some(plan.upper))
    }

    fn survey(&mut self, task: &Task) -> Result<Surveyed, CleanError> {
        let map = OffsetMap::with_memory(self.cleaning.config.dedupe_bytes, self.secret)?;
        let mut survey = Survey::new(map, task.first_dirty, &task.aborted);
        let reader = self.cleaning.reader.clone();
        for extent in task.extents.iter().filter(|extent| extent.last >= task.first_dirty) {
            let (mut bytes, mut stopped) = (0, None);
            let (manners, disk) = (&mut self.manners, &self.cleaning.disk);
            reader.each_batch(task.id, extent, |batch| {
                let header = BatchHeader::read(&batch)?;
                if stopped.is_none()
                    && header.last_offset() >= task.first_dirty
                    && header.base_offset < task.upper
                {
                    bytes += batch.len();
                    manners.did(batch.len(), disk);
                    match survey.add(&batch) {
                        Ok(Progress::More) => {}
                        Ok(Progress::Full { .. }) => stopped = Some(Ok(())),
                        Err(error) => stopped = Some(Err(error)),
                    }
                }
                Ok(())
            })?;
            self.cleaning.activity.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
            self.pace(0)?;
            if let Some(stopped) = stopped {
                stopped?;
                break;
            }
        }
        Ok(survey.finish())
    }

    fn replace(
        &mut self,
        task: &Task,
        surveyed: &Surveyed,
        settings: &TopicSettings,
    ) -> Result<(), CleanError> {
        let settings = CleanSettings { now: self.now(), delete_retention_ms: settings.delete_retention_ms };
        let mut passes = Passes::new(surveyed, settings, &task.aborted, ActiveProducers::new());
        let reader = self.cleaning.reader.clone();
        let (engine, most) = (self.cleaning.engine.clone(), self.cleaning.config.run_bytes);
        let mut runs = Runs::new(reader.clone(), engine, most);
        let covered = task.extents.iter().filter(|extent| extent.first < surveyed.end);
        let mut replaces = Vec::new();
        let mut clean_bytes = 0;
        for extent in covered {
            replaces.push(extent.file);
            let (mut bytes, mut failed) = (0, None);
            let (manners, disk) = (&mut self.manners, &self.cleaning.disk);
            reader.each_batch(task.id, extent, |batch| {
                bytes += batch.len();
                manners.did(batch.len(), disk);
                let header = BatchHeader::read(&batch)?;
                let written = match passes.clean(&batch) {
                    Ok(Outcome::AsIs) => Some(batch),
                    Ok(Outcome::Rewritten(batch)) => Some(batch),
                    Ok(Outcome::Dropped) => None,
                    Err(error) => {
                        failed = failed.take().or(Some(error));
                        None
                    }
                };
                if let Some(batch) = written {
                    clean_bytes += if header.base_offset < surveyed.end { batch.len() as u64 } else { 0 };
                    runs.push(task.id, &batch)?;
                }
                Ok(())
            })?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            self.cleaning.activity.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
            self.pace(0)?;
        }
        let statistics = passes.statistics();
        let left = passes.aborted_left().into_iter().map(|range| Aborted {
            producer_id: range.producer_id,
            first_offset: range.first_offset,
            last_offset: range.last_offset,
        });
        let moved = Move {
            id: task.id,
            replaces,
            cleaned: Some(Cleaned { to: surveyed.end, bytes: clean_bytes }),
            aborted: left.collect(),
            extents: runs.finish()?,
        };
        self.cleaning.engine.install(vec![moved])?;
        let activity = &self.cleaning.activity;
        activity.cleanings.fetch_add(1, Ordering::Relaxed);
        activity.bytes_written.fetch_add(statistics.bytes_out, Ordering::Relaxed);
        let dropped = statistics.records_in.saturating_sub(statistics.records_out);
        activity.records_dropped.fetch_add(dropped, Ordering::Relaxed);
        activity.dropped_keyless(task.id, statistics.keyless_dropped);
        tracing::debug!(partition = %task.id, ?statistics, "compacted");
        Ok(())
    }
}

/// How far a partition can be compacted now, and whether that is worth it.
#[derive(Debug)]
pub struct Plan {
    pub first_dirty: Offset,
    /// Without.
    pub upper: Offset,
    /// `upper`, were it not for `min.compaction.lag.ms`.
    pub upper_without_lag: Offset,
    pub active: Offset,
    pub dirt: Dirt,
    pub due: bool,
}

pub fn plan(
    reader: &Reader<LogDisk>,
    id: PartitionId,
    settings: &TopicSettings,
    usage: &PartitionUse,
    now: TimestampMs,
) -> Result<Plan, LogError> {
    let first_dirty = usage.cleaned.to.max(usage.offsets.log_start);
    let stable = usage.offsets.last_stable;
    let mut dirty = Dirty::new(Bounds::of(settings), stable, now);
    for extent in usage.extents.iter().filter(|extent| extent.last >= first_dirty) {
        let places = reader.places_of(id, extent)?;
        places.iter().filter(|place| place.last_offset >= first_dirty).for_each(|place| dirty.see(place));
    }
    let (active, before_active) = dirty.active_base(usage.offsets.high_watermark);
    let lag = settings.min_compaction_lag_ms;
    let reach =
        |young: Option<Stretch>, lag: i64| first_uncleanable(first_dirty, young, lag, active, stable, now);
    let before_young = dirty.young.map_or(u64::MAX, |(_, before)| before);
    let dirt = Dirt {
        clean_bytes: usage.cleaned.bytes,
        dirty_bytes: before_active.min(dirty.below_stable).min(before_young),
        oldest_dirty: dirty.oldest,
    };
    let upper = reach(dirty.young.map(|(stretch, _)| stretch), lag);
    let due = is_due(&dirt, settings.min_cleanable_dirty_ratio, settings.max_compaction_lag_ms, now);
    Ok(Plan { first_dirty, upper, upper_without_lag: reach(None, 0), active, dirt, due })
}

/// What bounds a cleaning, of a topic's settings.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    segment_bytes: i64,
    segment_ms: i64,
    min_lag_ms: i64,
    max_lag_ms: i64,
}

impl Bounds {
    fn of(settings: &TopicSettings) -> Self {
        Self {
            segment_bytes: settings.segment_bytes,
            segment_ms: settings.segment_ms,
            min_lag_ms: settings.min_compaction_lag_ms,
            max_lag_ms: settings.max_compaction_lag_ms,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    base: Offset,
    /// Dirty bytes before it.
    before: u64,
    bytes: i64,
    since: TimestampMs,
}

/// The dirty batches, seen one after the other: there may be too many to keep.
struct Dirty {
    bounds: Bounds,
    stable: Offset,
    now: TimestampMs,
    bytes: u64,
    /// Of these, below the last stable offset.
    below_stable: u64,
    /// The last segment.
    active: Option<Segment>,
    /// The first batch that is younger than `min.compaction.lag.ms`, and the dirty bytes before it.
    young: Option<(Stretch, u64)>,
    oldest: Option<TimestampMs>,
}

impl Dirty {
    fn new(bounds: Bounds, stable: Offset, now: TimestampMs) -> Self {
        Self { bounds, stable, now, bytes: 0, below_stable: 0, active: None, young: None, oldest: None }
    }

    fn see(&mut self, place: &BatchPlace) {
        let (base, time, size) = (place.base_offset, place.max_timestamp, i64::from(place.size));
        let bounds = self.bounds;
        let goes_on = |segment: &Segment| {
            let old = time.saturating_sub(segment.since) > bounds.segment_ms;
            segment.bytes + size <= bounds.segment_bytes && !old
        };
        let next = Segment { base, before: self.bytes, bytes: 0, since: time };
        let mut segment = self.active.filter(goes_on).unwrap_or(next);
        segment.bytes += size;
        self.active = Some(segment);
        let latest = self.now.saturating_sub(bounds.min_lag_ms);
        if self.young.is_none() && bounds.min_lag_ms > 0 && time > latest {
            self.young = Some((Stretch { base_offset: base, max_timestamp: time }, self.bytes));
        }
        self.oldest = self.oldest.or(Some(time).filter(|time| *time >= 0));
        if place.last_offset < self.stable {
            self.below_stable += u64::from(place.size);
        }
        self.bytes += u64::from(place.size);
    }

    /// Where the active segment begins, and the dirty bytes before it: a segment ends when the next batch would make
    /// it larger than `segment.bytes`, or when it is older than `segment.ms`.
    fn active_base(&self, end: Offset) -> (Offset, u64) {
        let Some(Segment { base, before, since, .. }) = self.active else { return (end, self.bytes) };
        let passed = since >= 0 && self.now.saturating_sub(since) > self.bounds.segment_ms;
        // A segment that holds what has been dirty for too long ends, too.
        let overdue = since >= 0 && self.now.saturating_sub(since) > self.bounds.max_lag_ms;
        if passed || overdue { (end, self.bytes) } else { (base, before) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same of all batches at once.
    fn active_base_of(dirty: &[BatchPlace], bounds: Bounds, end: Offset, now: TimestampMs) -> Offset {
        let Some(first) = dirty.first() else { return end };
        let (mut base, mut bytes, mut since) = (first.base_offset, 0, first.max_timestamp);
        for place in dirty {
            let size = i64::from(place.size);
            let old = place.max_timestamp.saturating_sub(since) > bounds.segment_ms;
            if bytes > 0 && (bytes + size > bounds.segment_bytes || old) {
                (base, bytes, since) = (place.base_offset, 0, place.max_timestamp);
            }
            bytes += size;
        }
        let ended = |ms| since >= 0 && now.saturating_sub(since) > ms;
        if ended(bounds.segment_ms) || ended(bounds.max_lag_ms) { end } else { base }
    }

    #[test]
    fn batches_seen_one_by_one_are_planned_as_all_at_once() {
        let mut state = 7_u64;
        let mut draw = |below: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as i64 % below
        };
        for round in 0..5000 {
            let bounds = Bounds {
                segment_bytes: 1 + draw(400),
                segment_ms: draw(100),
                min_lag_ms: draw(3) * draw(50),
                max_lag_ms: draw(200),
            };
            let mut places = Vec::new();
            for number in 0..draw(12) {
                places.push(BatchPlace {
                    base_offset: number * 10,
                    last_offset: number * 10 + 9,
                    max_timestamp: draw(120) - 2,
                    position: 0,
                    size: 1 + draw(150) as u32,
                    crc: 0,
                });
            }
            let (end, now) = (places.len() as i64 * 10, draw(150));
            let stable = (draw(14) * 10).min(end);
            let mut dirty = Dirty::new(bounds, stable, now);
            places.iter().for_each(|place| dirty.see(place));
            let (active, before_active) = dirty.active_base(end);
            assert_eq!(active, active_base_of(&places, bounds, end, now), "round {round}");
            let stretch = |place: &BatchPlace| Stretch {
                base_offset: place.base_offset,
                max_timestamp: place.max_timestamp,
            };
            let lag = bounds.min_lag_ms;
            let upper = first_uncleanable(0, places.iter().map(stretch), lag, active, stable, now);
            let young = dirty.young.map(|(stretch, _)| stretch);
            assert_eq!(first_uncleanable(0, young, lag, active, stable, now), upper, "round {round}");
            let cleanable = places.iter().filter(|place| place.last_offset < upper);
            let before_young = dirty.young.map_or(u64::MAX, |(_, before)| before);
            assert_eq!(
                before_active.min(dirty.below_stable).min(before_young),
                cleanable.map(|place| u64::from(place.size)).sum::<u64>(),
                "round {round}"
            );
            let oldest = places.iter().map(|place| place.max_timestamp).find(|time| *time >= 0);
            assert_eq!(dirty.oldest, oldest, "round {round}");
        }
    }
}
