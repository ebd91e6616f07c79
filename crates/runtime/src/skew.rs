//! Clocks of producers that are ahead: records that come from the future.
//!
//! Such a record moves stream time on, so that all that follow are late, or wait for windows that do not close. A record's
//! timestamp is held against this process's clock when it was received: what is ahead of it is certain, by no less than that. One
//! that is behind may be old for other reasons, so that only the freshest says something: no clock of a producer is further
//! behind than that, if the input is read without lag. With `message.timestamp.type=LogAppendTime` it is the broker's clock that is measured.

use std::collections::BTreeMap;

use headwater_model::{Record, TimestampMs};
use serde::Serialize;

/// How an input's timestamps stand to the clock here, since the task was assigned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClockSkew {
    /// The most that a record was ahead, in milliseconds; 0 if none was.
    pub ahead_ms: i64,
    /// Records that were ahead by more than `AppConfig::clock_skew_bound`.
    pub future_records: u64,
    /// The age of the freshest record when it was received; 0 if one was ahead.
    pub age_ms: Option<i64>,
}

/// The skew of each input of a task, by `topic/partition`.
pub(crate) type Skews = BTreeMap<String, ClockSkew>;

impl ClockSkew {
    /// Takes note of records received at `now`; whether that is worth a warning: the first that are beyond the bound, and again
    /// when it gets twice as bad.
    pub(crate) fn note(&mut self, records: &[Record], now: TimestampMs, bound_ms: i64) -> bool {
        let warned = self.ahead_ms;
        for record in records.iter().filter(|record| record.timestamp >= 0) {
            let ahead = record.timestamp.saturating_sub(now);
            self.ahead_ms = self.ahead_ms.max(ahead);
            let age = ahead.saturating_neg().max(0);
            self.age_ms = Some(self.age_ms.map_or(age, |freshest| freshest.min(age)));
            self.future_records += u64::from(ahead > bound_ms);
        }
        self.ahead_ms > bound_ms && (warned <= bound_ms || self.ahead_ms / 2 >= warned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamps: &[TimestampMs]) -> Vec<Record> {
        let record = |timestamp: &TimestampMs| Record { timestamp: *timestamp, ..Record::default() };
        timestamps.iter().map(record).collect()
    }

    #[test]
    fn what_is_ahead_of_the_clock_is_measured_and_warned_of_once_and_again_when_it_gets_twice_as_bad() {
        let mut skew = ClockSkew::default();
        assert!(!skew.note(&at(&[900, 980, -1]), 1_000, 50));
        assert_eq!(skew, ClockSkew { ahead_ms: 0, future_records: 0, age_ms: Some(20) });
        assert!(!skew.note(&at(&[1_050]), 1_000, 50), "at the bound");
        assert!(skew.note(&at(&[1_060, 990]), 1_000, 50));
        assert!(!skew.note(&at(&[1_060, 1_100]), 1_000, 50));
        assert!(skew.note(&at(&[1_250]), 1_000, 50));
        assert_eq!(skew, ClockSkew { ahead_ms: 250, future_records: 4, age_ms: Some(0) });
    }
}
