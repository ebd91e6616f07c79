//! The limits and defaults of the coordinator, named after the broker properties they stand for.

use std::collections::BTreeMap;

use crate::share::ShareDefaults;
use crate::streams::StreamsDefaults;

/// Whether groups may change between the classic and the consumer protocol with members in them (KIP-848).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationPolicy {
    #[default]
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    pub const NAMES: [&str; 4] = ["bidirectional", "upgrade", "downgrade", "disabled"];

    /// The policy of this name, in whatever case.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Bidirectional, Self::Upgrade, Self::Downgrade, Self::Disabled];
        all.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// What bounds the coordinator; all times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Randomness for topic ids and member ids. Must differ at every start, or ids repeat.
    pub seed: u64,
    /// What the broker was started with of keys that topics inherit, by the broker's names; checked.
    pub topic_defaults: BTreeMap<String, String>,
    /// `num.partitions`: what −1 means in a topic creation.
    pub default_partitions: i32,
    /// The most partitions one topic may have.
    pub max_partitions: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group, those still without a first join included.
    pub max_group_size: usize,
    /// `group.consumer.session.timeout.ms`, unless the group has its own; with the least and the most it may have.
    pub consumer_session_timeout_ms: i32,
    pub consumer_min_session_timeout_ms: i32,
    pub consumer_max_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`, unless the group has its own; with the least and the most.
    pub consumer_heartbeat_interval_ms: i32,
    pub consumer_min_heartbeat_interval_ms: i32,
    pub consumer_max_heartbeat_interval_ms: i32,
    /// `group.consumer.assignment.interval.ms`, unless the group has its own; with the least and the most. Apache Kafka's
    /// default is a second; here an assignment is so quick that nobody has to wait a heartbeat for it.
    pub consumer_assignment_interval_ms: i32,
    pub consumer_min_assignment_interval_ms: i32,
    pub consumer_max_assignment_interval_ms: i32,
    /// `group.consumer.max.size`
    pub consumer_max_group_size: usize,
    /// `group.consumer.migration.policy`
    pub migration_policy: MigrationPolicy,
    /// `offset.metadata.max.bytes`
    pub max_offset_metadata_bytes: usize,
    /// The most bytes of protocol metadata one member may send in JoinGroup.
    pub max_member_metadata_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long the offsets of an empty group are kept; `None` keeps them.
    pub offsets_retention_ms: Option<i64>,
    /// `transaction.max.timeout.ms`
    pub max_transaction_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: how long an idle transactional id is remembered; `None` keeps it.
    pub transactional_id_expiration_ms: Option<i64>,
    pub share: ShareDefaults,
    pub streams: StreamsDefaults,
    /// Whether groups and transactions can be read in Kafka's own topics.
    pub internal_topics: bool,
    /// `offsets.topic.num.partitions`
    pub offsets_topic_partitions: i32,
    /// `transaction.state.log.num.partitions`
    pub transaction_log_partitions: i32,
}

impl Default for Settings {
    fn default() -> Self {
        const WEEK: i64 = 7 * 24 * 3_600_000;
        Self {
            seed: 0,
            topic_defaults: BTreeMap::new(),
            default_partitions: 1,
            max_partitions: 10_000,
            initial_rebalance_delay_ms: 0,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_group_size: 2_000,
            consumer_session_timeout_ms: 45_000,
            consumer_min_session_timeout_ms: 45_000,
            consumer_max_session_timeout_ms: 60_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_min_heartbeat_interval_ms: 5_000,
            consumer_max_heartbeat_interval_ms: 15_000,
            consumer_assignment_interval_ms: 0,
            consumer_min_assignment_interval_ms: 0,
            consumer_max_assignment_interval_ms: 15_000,
            consumer_max_group_size: i32::MAX as usize,
            migration_policy: MigrationPolicy::Bidirectional,
            max_offset_metadata_bytes: 4_096,
            max_member_metadata_bytes: 1 << 20,
            offsets_retention_ms: Some(WEEK),
            max_transaction_timeout_ms: 900_000,
            transactional_id_expiration_ms: Some(WEEK),
            share: ShareDefaults::default(),
            streams: StreamsDefaults::default(),
            internal_topics: true,
            offsets_topic_partitions: 50,
            transaction_log_partitions: 50,
        }
    }
}
