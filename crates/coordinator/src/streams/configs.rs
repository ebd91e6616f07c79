//! The configuration of a streams group (KIP-1071): defaults, bounds, and what holds for one group.

use crate::group_configs::{
    Effective, STREAMS_ASSIGNMENT, STREAMS_DELAY, STREAMS_HEARTBEAT, STREAMS_SESSION, STREAMS_STANDBYS,
};

/// The broker's defaults for streams groups and the bounds of what groups may set, named after the properties they
/// stand for (`group.streams.…`, `group.streams.min.…`, `group.streams.max.…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsDefaults {
    pub session_timeout_ms: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub min_heartbeat_interval_ms: i32,
    pub max_heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub min_assignment_interval_ms: i32,
    pub max_assignment_interval_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    pub num_standby_replicas: i32,
    pub max_standby_replicas: i32,
    /// `group.streams.max.size`: members of one group.
    pub max_group_size: usize,
}

impl Default for StreamsDefaults {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            min_session_timeout_ms: 45_000,
            max_session_timeout_ms: 60_000,
            heartbeat_interval_ms: 5_000,
            min_heartbeat_interval_ms: 5_000,
            max_heartbeat_interval_ms: 15_000,
            assignment_interval_ms: 1_000,
            min_assignment_interval_ms: 0,
            max_assignment_interval_ms: 15_000,
            initial_rebalance_delay_ms: 3_000,
            num_standby_replicas: 0,
            max_standby_replicas: 2,
            max_group_size: i32::MAX as usize,
        }
    }
}

/// What holds for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamsSettings {
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    pub num_standby_replicas: i32,
}

impl StreamsSettings {
    pub fn of(group: Effective<'_>) -> Self {
        Self {
            session_timeout_ms: group.number(STREAMS_SESSION),
            heartbeat_interval_ms: group.number(STREAMS_HEARTBEAT),
            assignment_interval_ms: group.number(STREAMS_ASSIGNMENT),
            initial_rebalance_delay_ms: group.number(STREAMS_DELAY),
            num_standby_replicas: group.number(STREAMS_STANDBYS),
        }
    }
}
