//! The keys that a group may set: one table, and for numbers what the broker's settings say of them.
//!
//! A number's default and its bounds are the broker's, `group.` and the key ([`of_broker`]); other keys have no such name.

use crate::configs::{ConfigKey, ConfigKind, Legal, key};
use crate::settings::Settings;
use crate::share::ShareReset;

pub(crate) const CONSUMER_ASSIGNMENT: &str = "consumer.assignment.interval.ms";
pub(crate) const CONSUMER_HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
pub(crate) const CONSUMER_SESSION: &str = "consumer.session.timeout.ms";
pub(crate) const SHARE_ASSIGNMENT: &str = "share.assignment.interval.ms";
pub(crate) const SHARE_RESET: &str = "share.auto.offset.reset";
pub(crate) const SHARE_DELIVERIES: &str = "share.delivery.count.limit";
pub(crate) const SHARE_HEARTBEAT: &str = "share.heartbeat.interval.ms";
pub(crate) const SHARE_ISOLATION: &str = "share.isolation.level";
pub(crate) const SHARE_LOCKS: &str = "share.partition.max.record.locks";
pub(crate) const SHARE_LOCK_DURATION: &str = "share.record.lock.duration.ms";
pub(crate) const SHARE_RENEW: &str = "share.renew.acknowledge.enable";
pub(crate) const SHARE_SESSION: &str = "share.session.timeout.ms";
pub(crate) const STREAMS_ASSIGNMENT: &str = "streams.assignment.interval.ms";
pub(crate) const STREAMS_HEARTBEAT: &str = "streams.heartbeat.interval.ms";
pub(crate) const STREAMS_DELAY: &str = "streams.initial.rebalance.delay.ms";
pub(crate) const STREAMS_STANDBYS: &str = "streams.num.standby.replicas";
pub(crate) const STREAMS_SESSION: &str = "streams.session.timeout.ms";

/// Every key a group may set, in alphabetical order.
#[rustfmt::skip]
pub static GROUP_CONFIGS: &[ConfigKey] = &[
    key(CONSUMER_ASSIGNMENT, ConfigKind::Int, "0", Legal::AtLeast(0), "The least time between two assignments in a group of the consumer protocol, in milliseconds."),
    key(CONSUMER_HEARTBEAT, ConfigKind::Int, "5000", Legal::AtLeast(1), "How often members of the consumer protocol should send a heartbeat, in milliseconds."),
    key(CONSUMER_SESSION, ConfigKind::Int, "45000", Legal::AtLeast(1), "How long a member of the consumer protocol may be silent before it is out, in milliseconds."),
    key(SHARE_ASSIGNMENT, ConfigKind::Int, "0", Legal::AtLeast(0), "How long who joins a share group may wait after an assignment for the next one, in milliseconds."),
    key(SHARE_RESET, ConfigKind::String, "latest", Legal::Checked(|value| ShareReset::parse(value).is_some(), "earliest, latest or by_duration:PnDTnHnMn.nS"), "Where a share group begins in a partition that it has not read: 'earliest', 'latest', or 'by_duration:' and an ISO 8601 duration before now."),
    key(SHARE_DELIVERIES, ConfigKind::Int, "5", Legal::AtLeast(1), "How often a record is delivered; one that is released or times out after that is archived."),
    key(SHARE_HEARTBEAT, ConfigKind::Int, "5000", Legal::AtLeast(1), "How often members of a share group send heartbeats, in milliseconds."),
    key(SHARE_ISOLATION, ConfigKind::String, "read_uncommitted", Legal::OneOf(&["read_committed", "read_uncommitted"]), "Whether a share group gets records of transactions that have not committed."),
    key(SHARE_LOCKS, ConfigKind::Int, "2000", Legal::AtLeast(1), "How many records of a partition may be in flight at once in a share group."),
    key(SHARE_LOCK_DURATION, ConfigKind::Int, "30000", Legal::AtLeast(1), "How long a consumer of a share group has for a record, in milliseconds."),
    key(SHARE_RENEW, ConfigKind::Boolean, "true", Legal::Boolean, "Whether consumers of a share group may take more time for a record."),
    key(SHARE_SESSION, ConfigKind::Int, "45000", Legal::AtLeast(1), "After how long without a heartbeat a member of a share group is taken for gone, in milliseconds."),
    key(STREAMS_ASSIGNMENT, ConfigKind::Int, "1000", Legal::AtLeast(0), "The least time between two assignments of tasks in a streams group, in milliseconds."),
    key(STREAMS_HEARTBEAT, ConfigKind::Int, "5000", Legal::AtLeast(1), "How often members of a streams group send heartbeats, in milliseconds."),
    key(STREAMS_DELAY, ConfigKind::Int, "3000", Legal::AtLeast(0), "How long an empty streams group waits for more members before it assigns tasks, in milliseconds."),
    key(STREAMS_STANDBYS, ConfigKind::Int, "0", Legal::AtLeast(0), "How many standby copies each task with a store has in a streams group."),
    key(STREAMS_SESSION, ConfigKind::Int, "45000", Legal::AtLeast(1), "How long a member of a streams group may be silent before it is out, in milliseconds."),
];

/// Sessions with the heartbeats that keep them alive.
pub(super) const SESSIONS: [(&str, &str); 3] = [
    (CONSUMER_SESSION, CONSUMER_HEARTBEAT),
    (SHARE_SESSION, SHARE_HEARTBEAT),
    (STREAMS_SESSION, STREAMS_HEARTBEAT),
];

/// What holds for a number where a group sets nothing, and what it may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub default: i32,
    pub least: i32,
    pub most: i32,
}

/// The bounds of a number; `None` for other keys.
pub(super) fn bounds(settings: &Settings, name: &str) -> Option<Bounds> {
    let (share, streams) = (&settings.share, &settings.streams);
    let (default, least, most) = match name {
        CONSUMER_ASSIGNMENT => (
            settings.consumer_assignment_interval_ms,
            settings.consumer_min_assignment_interval_ms,
            settings.consumer_max_assignment_interval_ms,
        ),
        CONSUMER_HEARTBEAT => (
            settings.consumer_heartbeat_interval_ms,
            settings.consumer_min_heartbeat_interval_ms,
            settings.consumer_max_heartbeat_interval_ms,
        ),
        CONSUMER_SESSION => (
            settings.consumer_session_timeout_ms,
            settings.consumer_min_session_timeout_ms,
            settings.consumer_max_session_timeout_ms,
        ),
        SHARE_ASSIGNMENT => {
            (share.assignment_interval_ms, share.min_assignment_interval_ms, share.max_assignment_interval_ms)
        }
        SHARE_DELIVERIES => {
            (share.delivery_count_limit, share.min_delivery_count_limit, share.max_delivery_count_limit)
        }
        SHARE_HEARTBEAT => {
            (share.heartbeat_interval_ms, share.min_heartbeat_interval_ms, share.max_heartbeat_interval_ms)
        }
        SHARE_LOCKS => (share.max_record_locks, share.min_max_record_locks, share.max_max_record_locks),
        SHARE_LOCK_DURATION => {
            (share.lock_duration_ms, share.min_lock_duration_ms, share.max_lock_duration_ms)
        }
        SHARE_SESSION => {
            (share.session_timeout_ms, share.min_session_timeout_ms, share.max_session_timeout_ms)
        }
        STREAMS_ASSIGNMENT => (
            streams.assignment_interval_ms,
            streams.min_assignment_interval_ms,
            streams.max_assignment_interval_ms,
        ),
        STREAMS_HEARTBEAT => (
            streams.heartbeat_interval_ms,
            streams.min_heartbeat_interval_ms,
            streams.max_heartbeat_interval_ms,
        ),
        STREAMS_DELAY => (streams.initial_rebalance_delay_ms, 0, i32::MAX),
        STREAMS_STANDBYS => (streams.num_standby_replicas, 0, streams.max_standby_replicas),
        STREAMS_SESSION => {
            (streams.session_timeout_ms, streams.min_session_timeout_ms, streams.max_session_timeout_ms)
        }
        _ => return None,
    };
    Some(Bounds { default, least, most })
}

/// What the broker calls the default of a group's key; `None` where it has no name for it.
pub(super) fn of_broker(key: &ConfigKey) -> Option<String> {
    (key.kind == ConfigKind::Int).then(|| format!("group.{}", key.name))
}
