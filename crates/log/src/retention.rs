//! Which batches at the start of a log are old, or more than was asked to be kept.

use headwater_model::{Offset, TimestampMs};

/// A batch as retention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBatch {
    pub last_offset: Offset,
    /// Its youngest record; negative when nobody stamped it.
    pub max_timestamp: TimestampMs,
    pub bytes: u64,
}

/// `retention.ms` and `retention.bytes`; `None` for Kafka's -1, without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    pub ms: Option<i64>,
    pub bytes: Option<u64>,
}

/// Where the log starts once retention has been applied to `batches`, oldest first, from `log_start` on.
///
/// Whole batches go, from the front, as long as each is older than the limit or at least the limit's
/// bytes stay without it. A batch from the future is not old and holds what follows it; one without a time is as old as
/// the next that has one. Nothing goes that reaches `limit`, the last stable offset: an open transaction stays whole.
pub fn retained_from(
    log_start: Offset,
    batches: impl Iterator<Item = StoredBatch> + Clone,
    limits: RetentionLimits,
    now: TimestampMs,
    limit: Offset,
) -> Offset {
    let mut left: u64 = match limits.bytes {
        Some(_) => batches.clone().map(|batch| batch.bytes).sum(),
        None => 0,
    };
    let mut start = log_start;
    for batch in batches {
        let unstamped = batch.max_timestamp < 0;
        let is_old = !unstamped && limits.ms.is_some_and(|ms| now.saturating_sub(batch.max_timestamp) > ms);
        let is_surplus = limits.bytes.is_some_and(|bytes| left.saturating_sub(batch.bytes) >= bytes);
        let goes = is_old || is_surplus;
        if batch.last_offset >= limit || !(goes || unstamped) {
            break;
        }
        left = left.saturating_sub(batch.bytes);
        if goes {
            start = start.max(batch.last_offset + 1);
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of ten offsets and a hundred bytes, written at the times given.
    fn check(times: &[TimestampMs], ms: Option<i64>, bytes: Option<u64>, limit: Offset, expected: Offset) {
        let batches = times.iter().enumerate().map(|(index, &max_timestamp)| StoredBatch {
            last_offset: index as i64 * 10 + 9,
            max_timestamp,
            bytes: 100,
        });
        let start = retained_from(0, batches, RetentionLimits { ms, bytes }, 1000, limit);
        assert_eq!(start, expected, "{times:?} ms {ms:?} bytes {bytes:?} limit {limit}");
    }

    #[test]
    fn old_batches_go_from_the_front() {
        check(&[100, 200, 900], Some(500), None, 30, 20);
        check(&[100, 200, 500], Some(500), None, 30, 20);
        check(&[100, 200, 499], Some(500), None, 30, 30);
        check(&[100, 200, 300], None, None, 30, 0);
    }

    #[test]
    fn a_young_or_future_batch_holds_what_follows_it() {
        check(&[100, 900, 100], Some(500), None, 30, 10);
        check(&[100, 99_999, 100], Some(500), None, 30, 10);
        check(&[i64::MAX, 0], Some(0), None, 20, 0);
    }

    #[test]
    fn a_batch_without_a_time_goes_with_the_next_that_has_one() {
        check(&[100, -1, 100], Some(500), None, 30, 30);
        check(&[-1, -1, 100, -1], Some(500), None, 40, 30);
        check(&[100, -1, 900], Some(500), None, 30, 10);
        check(&[-1, -1], Some(500), None, 20, 0);
        check(&[100, -1, 100], Some(500), None, 20, 10);
        check(&[-1, 900], None, Some(200), 20, 0);
        check(&[-1, 900], None, Some(100), 20, 10);
    }

    #[test]
    fn surplus_goes_while_the_limit_stays() {
        check(&[900, 900, 900], None, Some(200), 30, 10);
        check(&[900, 900, 900], None, Some(201), 30, 0);
        check(&[900, 900, 900], None, Some(0), 30, 30);
        check(&[-1, 99_999, 900], None, Some(100), 30, 20);
        check(&[-1, 900, 900], None, Some(150), 30, 10);
    }

    #[test]
    fn either_reason_deletes_and_neither_crosses_the_last_stable_offset() {
        check(&[900, 100, 900], Some(500), Some(200), 30, 20);
        check(&[100, 100, 100], Some(500), Some(0), 20, 20);
        check(&[100, 100, 100], Some(500), Some(0), 19, 10);
        check(&[100, 100, 100], Some(500), Some(0), 0, 0);
    }

    #[test]
    fn the_start_never_moves_back() {
        let batch = StoredBatch { last_offset: 9, max_timestamp: 0, bytes: 1 };
        let limits = RetentionLimits { ms: Some(0), bytes: None };
        assert_eq!(retained_from(15, [batch].into_iter(), limits, 10, 100), 15);
    }
}
