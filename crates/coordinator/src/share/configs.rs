//! The configuration of a share group (KIP-932, KIP-1240): defaults, bounds, and what the keys mean.
//!
//! A key that is not set on the group has the broker's default, `group.share.…`.

use crate::group_configs::{
    Effective, SHARE_ASSIGNMENT, SHARE_DELIVERIES, SHARE_HEARTBEAT, SHARE_ISOLATION, SHARE_LOCK_DURATION,
    SHARE_LOCKS, SHARE_RENEW, SHARE_RESET, SHARE_SESSION,
};

/// The broker's defaults for share groups and the bounds of what groups may set, named after the properties they
/// stand for (`min_…` is `group.share.min.…`, `max_…` is `group.share.max.…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareDefaults {
    /// `group.share.delivery.count.limit`
    pub delivery_count_limit: i32,
    /// `group.share.record.lock.duration.ms`
    pub lock_duration_ms: i32,
    /// `group.share.partition.max.record.locks`
    pub max_record_locks: i32,
    /// `group.share.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.share.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.share.assignment.interval.ms`
    pub assignment_interval_ms: i32,
    /// `group.share.max.size`
    pub max_group_size: usize,
    pub min_delivery_count_limit: i32,
    pub max_delivery_count_limit: i32,
    pub min_lock_duration_ms: i32,
    pub max_lock_duration_ms: i32,
    /// `group.share.min.partition.max.record.locks`
    pub min_max_record_locks: i32,
    /// `group.share.max.partition.max.record.locks`
    pub max_max_record_locks: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub min_heartbeat_interval_ms: i32,
    pub max_heartbeat_interval_ms: i32,
    pub min_assignment_interval_ms: i32,
    pub max_assignment_interval_ms: i32,
}

impl Default for ShareDefaults {
    fn default() -> Self {
        Self {
            delivery_count_limit: 5,
            lock_duration_ms: 30_000,
            max_record_locks: 2_000,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 0,
            max_group_size: 200,
            min_delivery_count_limit: 2,
            max_delivery_count_limit: 10,
            min_lock_duration_ms: 15_000,
            max_lock_duration_ms: 60_000,
            min_max_record_locks: 100,
            max_max_record_locks: 4_000,
            min_session_timeout_ms: 45_000,
            max_session_timeout_ms: 60_000,
            min_heartbeat_interval_ms: 5_000,
            max_heartbeat_interval_ms: 15_000,
            min_assignment_interval_ms: 0,
            max_assignment_interval_ms: 15_000,
        }
    }
}

/// Which records of transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareIsolation {
    Uncommitted,
    Committed,
}

/// Where a share group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareReset {
    Earliest,
    Latest,
    /// So many milliseconds before now.
    Before(i64),
}

impl ShareReset {
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ => duration(value.strip_prefix("by_duration:")?).map(Self::Before),
        }
    }
}

/// The milliseconds of `PnDTnHnMn.nS`.
fn duration(text: &str) -> Option<i64> {
    let text = text.strip_prefix('P')?;
    let (days, times) = text.split_once('T').unwrap_or((text, ""));
    if (days.is_empty() && times.is_empty()) || (text.contains('T') && times.is_empty()) {
        return None;
    }
    let (whole, rest) = part(days, 'D', 86_400_000)?;
    let (hours, times) = part(times, 'H', 3_600_000)?;
    let (minutes, times) = part(times, 'M', 60_000)?;
    let (seconds, times) = part(times, 'S', 1_000)?;
    let total = whole.checked_add(hours)?.checked_add(minutes)?.checked_add(seconds)?;
    (rest.is_empty() && times.is_empty()).then_some(total)
}

/// The milliseconds of the number in front of `unit`, 0 without it, and what follows.
fn part(text: &str, unit: char, millis: i64) -> Option<(i64, &str)> {
    let Some((number, rest)) = text.split_once(unit) else { return Some((0, text)) };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if unit == 'S' => (whole, fraction),
        Some(_) => return None,
        None => (number, "0"),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths: i64 = format!("{fraction:0<3.3}").parse().ok()?;
    Some((whole.parse::<i64>().ok()?.checked_mul(millis)?.checked_add(thousandths * millis / 1_000)?, rest))
}

/// What holds for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareSettings {
    pub delivery_count_limit: i16,
    pub lock_duration_ms: i32,
    pub max_record_locks: i64,
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub isolation: ShareIsolation,
    pub reset: ShareReset,
    pub renew: bool,
}

impl ShareSettings {
    pub(crate) fn of(group: Effective<'_>) -> Self {
        Self {
            delivery_count_limit: i16::try_from(group.number(SHARE_DELIVERIES)).unwrap_or(i16::MAX),
            lock_duration_ms: group.number(SHARE_LOCK_DURATION),
            max_record_locks: group.number(SHARE_LOCKS).into(),
            session_timeout_ms: group.number(SHARE_SESSION),
            heartbeat_interval_ms: group.number(SHARE_HEARTBEAT),
            assignment_interval_ms: group.number(SHARE_ASSIGNMENT),
            isolation: match group.text(SHARE_ISOLATION) {
                Some("read_committed") => ShareIsolation::Committed,
                _ => ShareIsolation::Uncommitted,
            },
            reset: group.text(SHARE_RESET).and_then(ShareReset::parse).unwrap_or(ShareReset::Latest),
            renew: group.text(SHARE_RENEW) != Some("false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_iso_8601() {
        assert_eq!(duration("PT1H"), Some(3_600_000));
        assert_eq!(duration("P2DT3H4M5.25S"), Some(2 * 86_400_000 + 3 * 3_600_000 + 4 * 60_000 + 5_250));
        assert_eq!(duration("PT0.0015S"), Some(1));
        for wrong in ["", "P", "PT", "1H", "PT-1H", "PT1.5H", "P1H", "PT1S2M", "PT1X"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
