//! When a log is cleaned, and how far: Kafka's topic settings as arithmetic.

use headwater_model::{Offset, TimestampMs};

/// A stretch of the log that is cleaned as one: a segment, or a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub base_offset: Offset,
    pub max_timestamp: TimestampMs,
}

/// What a partition looks like to whoever decides whether to clean it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirt {
    pub clean_bytes: u64,
    /// Bytes between the first dirty offset and the first uncleanable one.
    pub dirty_bytes: u64,
    /// When the oldest dirty record was written; `None` when nothing is dirty or nobody knows.
    pub oldest_dirty: Option<TimestampMs>,
}

/// How much of what could be cleaned has never been.
pub fn dirty_ratio(clean_bytes: u64, dirty_bytes: u64) -> f64 {
    if dirty_bytes == 0 {
        return 0.0;
    }
    dirty_bytes as f64 / (clean_bytes as f64 + dirty_bytes as f64)
}

/// Whether to clean: more is dirty than `min.cleanable.dirty.ratio`, or it has been dirty for longer than
/// `max.compaction.lag.ms`.
pub fn is_due(
    dirt: &Dirt,
    min_cleanable_dirty_ratio: f64,
    max_compaction_lag_ms: i64,
    now: TimestampMs,
) -> bool {
    if dirt.dirty_bytes == 0 {
        return false;
    }
    let latest = now.saturating_sub(max_compaction_lag_ms.max(0));
    let overdue = dirt.oldest_dirty.is_some_and(|oldest| oldest > 0 && oldest < latest);
    overdue || dirty_ratio(dirt.clean_bytes, dirt.dirty_bytes) > min_cleanable_dirty_ratio
}

/// Cleaning stops here: at the active segment, at the last stable offset, and at the first stretch with a
/// record that is younger than `min.compaction.lag.ms`. `dirty` begins with the first dirty offset.
pub fn first_uncleanable(
    first_dirty: Offset,
    dirty: impl IntoIterator<Item = Stretch>,
    min_compaction_lag_ms: i64,
    active_base: Offset,
    last_stable: Offset,
    now: TimestampMs,
) -> Offset {
    let latest = now.saturating_sub(min_compaction_lag_ms);
    let young = (min_compaction_lag_ms > 0)
        .then(|| dirty.into_iter().find(|stretch| stretch.max_timestamp > latest))
        .flatten();
    let limit = active_base.min(last_stable);
    young.map_or(limit, |stretch| limit.min(stretch.base_offset)).max(first_dirty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_counts_what_was_never_cleaned() {
        assert_eq!(dirty_ratio(0, 0), 0.0);
        assert_eq!(dirty_ratio(300, 100), 0.25);
        assert_eq!(dirty_ratio(0, 5), 1.0);
    }

    #[test]
    fn a_log_is_due_by_ratio_or_by_age() {
        let dirt = Dirt { clean_bytes: 100, dirty_bytes: 100, oldest_dirty: Some(1000) };
        assert!(is_due(&dirt, 0.49, i64::MAX, 5000));
        assert!(!is_due(&dirt, 0.5, i64::MAX, 5000));
        assert!(is_due(&dirt, 0.5, 3999, 5000));
        assert!(!is_due(&dirt, 0.5, 4000, 5000));
        assert!(!is_due(&Dirt { oldest_dirty: Some(-1), ..dirt }, 0.5, 0, 5000));
        assert!(!is_due(&Dirt { dirty_bytes: 0, ..dirt }, 0.0, 0, 5000));
    }

    #[test]
    fn cleaning_stops_at_the_earliest_of_three_limits() {
        let dirty = [10, 20, 30].map(|base| Stretch { base_offset: base, max_timestamp: base * 100 });
        assert_eq!(first_uncleanable(10, dirty, 0, 35, 40, 3000), 35);
        assert_eq!(first_uncleanable(10, dirty, 0, 35, 25, 3000), 25);
        assert_eq!(first_uncleanable(10, dirty, 1000, 35, 40, 3000), 30);
        assert_eq!(first_uncleanable(10, dirty, 5000, 35, 40, 3000), 10);
        assert_eq!(first_uncleanable(10, dirty, 0, 5, 40, 3000), 10);
        assert_eq!(first_uncleanable(10, dirty, i64::MAX, 35, 40, i64::MIN), 10);
    }
}
