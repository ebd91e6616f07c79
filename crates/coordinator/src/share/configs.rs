//! The configuration of a share group (KIP-932, KIP-1240): keys, defaults, and what they mean.
//!
//! A key that is not set on the group has the broker's default, `group.share.…`.

use std::collections::BTreeMap;

use crate::configs::{ConfigKey, ConfigKind, Legal, key};
use crate::response::ConfigEntry;

/// The broker's defaults for share groups, named after the properties they stand for.
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
    /// `group.share.max.size`
    pub max_group_size: usize,
}

impl Default for ShareDefaults {
    fn default() -> Self {
        Self {
            delivery_count_limit: 5,
            lock_duration_ms: 30_000,
            max_record_locks: 2_000,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_group_size: 200,
        }
    }
}

const DELIVERY_LIMIT: &str = "share.delivery.count.limit";
const HEARTBEAT: &str = "share.heartbeat.interval.ms";
const ISOLATION: &str = "share.isolation.level";
const LOCKS: &str = "share.partition.max.record.locks";
const LOCK_DURATION: &str = "share.record.lock.duration.ms";
const RENEW: &str = "share.renew.acknowledge.enable";
const RESET: &str = "share.auto.offset.reset";
const SESSION: &str = "share.session.timeout.ms";

/// Every key that a group may set for share consumers, in alphabetical order.
#[rustfmt::skip]
pub static SHARE_CONFIGS: &[ConfigKey] = &[
    key(RESET, ConfigKind::String, "latest", Legal::Checked(|value| ShareReset::parse(value).is_some(), "earliest, latest or by_duration:PnDTnHnMn.nS"), "Where a share group begins in a partition that it has not read: 'earliest', 'latest', or 'by_duration:' and an ISO 8601 duration before now."),
    key(DELIVERY_LIMIT, ConfigKind::Int, "5", Legal::AtLeast(1), "How often a record is delivered; one that is released or times out after that is archived."),
    key(HEARTBEAT, ConfigKind::Int, "5000", Legal::AtLeast(1), "How often members of a share group send heartbeats, in milliseconds."),
    key(ISOLATION, ConfigKind::String, "read_uncommitted", Legal::OneOf(&["read_committed", "read_uncommitted"]), "Whether a share group gets records of transactions that have not committed."),
    key(LOCKS, ConfigKind::Int, "2000", Legal::AtLeast(1), "How many records of a partition may be in flight at once in a share group."),
    key(LOCK_DURATION, ConfigKind::Int, "30000", Legal::AtLeast(1), "How long a consumer of a share group has for a record, in milliseconds."),
    key(RENEW, ConfigKind::Boolean, "true", Legal::Boolean, "Whether consumers of a share group may take more time for a record."),
    key(SESSION, ConfigKind::Int, "45000", Legal::AtLeast(1), "After how long without a heartbeat a member of a share group is taken for gone, in milliseconds."),
];

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
    fn parse(value: &str) -> Option<Self> {
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
    pub isolation: ShareIsolation,
    pub reset: ShareReset,
    pub renew: bool,
}

/// The broker's default of a key.
fn fallback(name: &str, defaults: &ShareDefaults) -> String {
    let number = match name {
        DELIVERY_LIMIT => defaults.delivery_count_limit,
        LOCK_DURATION => defaults.lock_duration_ms,
        LOCKS => defaults.max_record_locks,
        SESSION => defaults.session_timeout_ms,
        HEARTBEAT => defaults.heartbeat_interval_ms,
        _ => {
            let known = SHARE_CONFIGS.iter().find(|key| key.name == name);
            return known.map_or("", |key| key.default).to_owned();
        }
    };
    number.to_string()
}

impl ShareSettings {
    pub fn of(configs: Option<&BTreeMap<String, String>>, defaults: &ShareDefaults) -> Self {
        let set = |name: &str| configs.and_then(|configs| configs.get(name)).map(String::as_str);
        // Values were checked when they were set.
        let number = |name, default: i32| set(name).and_then(|v| v.trim().parse().ok()).unwrap_or(default);
        let limit = number(DELIVERY_LIMIT, defaults.delivery_count_limit);
        Self {
            delivery_count_limit: i16::try_from(limit).unwrap_or(i16::MAX),
            lock_duration_ms: number(LOCK_DURATION, defaults.lock_duration_ms),
            max_record_locks: number(LOCKS, defaults.max_record_locks).into(),
            session_timeout_ms: number(SESSION, defaults.session_timeout_ms),
            heartbeat_interval_ms: number(HEARTBEAT, defaults.heartbeat_interval_ms),
            isolation: match set(ISOLATION) {
                Some("read_committed") => ShareIsolation::Committed,
                _ => ShareIsolation::Uncommitted,
            },
            reset: set(RESET).and_then(ShareReset::parse).unwrap_or(ShareReset::Latest),
            renew: set(RENEW) != Some("false"),
        }
    }
}

/// Every key, or those of `only`, with its effective value.
pub(super) fn entries(
    configs: Option<&BTreeMap<String, String>>,
    only: Option<&[String]>,
    defaults: &ShareDefaults,
) -> Vec<ConfigEntry> {
    let wanted =
        SHARE_CONFIGS.iter().filter(|key| only.is_none_or(|only| only.iter().any(|n| n == key.name)));
    let entry = |key: &ConfigKey| {
        let set = configs.and_then(|configs| configs.get(key.name));
        ConfigEntry {
            name: key.name,
            value: set.cloned().unwrap_or_else(|| fallback(key.name, defaults)),
            default: key.default,
            is_default: set.is_none(),
            kind: key.kind,
            documentation: key.documentation,
        }
    };
    wanted.map(entry).collect()
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
