//! The broker's configuration by Kafka's keys: one table from which parsing, defaults and documentation come.

use std::time::Duration;

use headwater_coordinator::{BrokerKey, ConfigKind, MigrationPolicy, TOPIC_CONFIGS};
use headwater_security::lines;
use thiserror::Error;

use crate::Config;

/// Why a setting is refused.
#[derive(Debug, Error)]
pub enum SettingError {
    #[error("unknown broker configuration '{name}': {}", hint(.nearest))]
    Unknown { name: String, nearest: Option<&'static str> },
    #[error("'{name}' is a setting of topics, not of the broker: {}", of_topics(.name, .of_all))]
    OfATopic {
        name: &'static str,
        /// The broker's key for its default.
        of_all: Option<&'static str>,
    },
    #[error("{name} = '{value}' is not legal: use {legal}")]
    Illegal { name: &'static str, value: String, legal: String },
    /// A default of topics, with what is wrong with it.
    #[error("{0}")]
    OfTopics(String),
    #[error("'{0}' is not KEY=VALUE")]
    NoValue(String),
    #[error("{file}:{line}: {source}")]
    Line { file: String, line: usize, source: Box<SettingError> },
}

type Set<T> = fn(&mut Config, T);

enum Kind {
    Whole {
        least: i64,
        most: i64,
        get: fn(&Config) -> i64,
        set: Set<i64>,
    },
    Switch {
        get: fn(&Config) -> bool,
        set: Set<bool>,
    },
    /// A text with a form of its own, which may be empty; the error says what is legal.
    Form {
        get: fn(&Config) -> String,
        set: fn(&mut Config, &str) -> Result<(), String>,
    },
    Text {
        get: fn(&Config) -> Option<&str>,
        set: Set<String>,
    },
    Choice {
        of: &'static [&'static str],
        get: fn(&Config) -> &'static str,
        set: fn(&mut Config, &str),
    },
    /// A text of [`SecurityConfig`] under the key itself.
    Security {
        secret: bool,
    },
}

/// One line of the table.
pub struct BrokerSetting {
    pub name: &'static str,
    pub documentation: &'static str,
    kind: Kind,
}

const INT: i64 = i32::MAX as i64;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn bytes(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn whole(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

macro_rules! table {
    ($($name:literal $kind:ident $(($($bound:expr),+))? $documentation:literal $get:expr $(, $set:expr)?;)*) => {
        &[$(BrokerSetting {
            name: $name,
            documentation: $documentation,
            kind: table!(@$kind $(($($bound),+))? $get $(, $set)?),
        },)*]
    };
    (@whole ($least:expr, $most:expr) $get:expr, $set:expr) => {
        Kind::Whole { least: $least, most: $most, get: $get, set: $set }
    };
    (@switch $get:expr, $set:expr) => { Kind::Switch { get: $get, set: $set } };
    (@form $get:expr, $set:expr) => { Kind::Form { get: $get, set: $set } };
    (@text $get:expr, $set:expr) => { Kind::Text { get: $get, set: $set } };
    (@choice ($of:expr) $get:expr, $set:expr) => { Kind::Choice { of: $of, get: $get, set: $set } };
    (@security $secret:expr) => { Kind::Security { secret: $secret } };
}

/// Every key, in alphabetical order.
#[rustfmt::skip]
pub static BROKER_SETTINGS: &[BrokerSetting] = table! {
    "advertised.listeners" security "What clients of each listener are told: NAME://HOST:PORT, commas between; where nothing is said, the host that listeners names, or the address they came to." false;
    "allow.everyone.if.no.acl.found" switch "Whether everyone may use a resource that no access rule is about; with an authorizer only."
        |c| c.authorizer.allow_if_no_acl, |c, v| c.authorizer.allow_if_no_acl = v;
    "authorizer.class.name" form "org.apache.kafka.metadata.authorizer.StandardAuthorizer for access rules (ACLs); nothing for none, where everyone may do everything."
        |c| c.authorizer.class_name().to_owned(), |c, v| c.authorizer.set_class_name(v).map_err(|legal| legal.to_string());
    "auto.create.topics.enable" switch "Whether asking for the metadata of an unknown topic creates it."
        |c| c.auto_create_topics, |c, v| c.auto_create_topics = v;
    "connection.failed.authentication.delay.ms" whole (0, 60_000) "How long a client waits to be told that its authentication failed."
        |c| millis(c.security.failed_authentication_delay), |c, v| c.security.failed_authentication_delay = duration(v);
    "connections.max.idle.ms" whole (1, i64::MAX) "A connection without requests for so long is closed."
        |c| millis(c.max_idle), |c, v| c.max_idle = duration(v);
    "connections.max.reauth.ms" whole (0, INT) "After so long a SASL client must authenticate again; 0 for never."
        |c| c.security.max_reauth.map_or(0, millis), |c, v| c.security.max_reauth = (v > 0).then(|| duration(v));
    "controller.quota.window.num" whole (1, 10_000) "Windows of a quota of mutations: who has been quiet may use its rate over all of them at once."
        |c| c.quota.controller.number, |c, v| c.quota.controller.number = v;
    "controller.quota.window.size.seconds" whole (1, 86_400) "How long such a window is."
        |c| c.quota.controller.seconds, |c, v| c.quota.controller.seconds = v;
    "fetch.max.bytes" whole (1024, INT) "The most that one Fetch returns, whatever it asks for."
        |c| whole(c.max_fetch_bytes), |c, v| c.max_fetch_bytes = bytes(v);
    "group.consumer.assignment.interval.ms" whole (0, INT) "The least time between two assignments in a group of the consumer protocol that does not say."
        |c| i64::from(c.coordinator.consumer_assignment_interval_ms), |c, v| c.coordinator.consumer_assignment_interval_ms = v as i32;
    "group.consumer.heartbeat.interval.ms" whole (1, INT) "How often members of the consumer protocol should send a heartbeat, unless their group has its own interval."
        |c| i64::from(c.coordinator.consumer_heartbeat_interval_ms), |c, v| c.coordinator.consumer_heartbeat_interval_ms = v as i32;
    "group.consumer.max.assignment.interval.ms" whole (0, INT) "The longest time between two assignments that a group of the consumer protocol may set."
        |c| i64::from(c.coordinator.consumer_max_assignment_interval_ms), |c, v| c.coordinator.consumer_max_assignment_interval_ms = v as i32;
    "group.consumer.max.heartbeat.interval.ms" whole (1, INT) "The longest heartbeat interval that a group may have."
        |c| i64::from(c.coordinator.consumer_max_heartbeat_interval_ms), |c, v| c.coordinator.consumer_max_heartbeat_interval_ms = v as i32;
    "group.consumer.max.session.timeout.ms" whole (1, INT) "The longest session timeout that a group of the consumer protocol may have."
        |c| i64::from(c.coordinator.consumer_max_session_timeout_ms), |c, v| c.coordinator.consumer_max_session_timeout_ms = v as i32;
    "group.consumer.max.size" whole (1, INT) "The most members of a group of the consumer protocol."
        |c| whole(c.coordinator.consumer_max_group_size), |c, v| c.coordinator.consumer_max_group_size = bytes(v);
    "group.consumer.migration.policy" choice (&MigrationPolicy::NAMES) "Which way groups may change between the classic and the consumer protocol with members in them: upgrade, downgrade, bidirectional, or disabled."
        |c| c.coordinator.migration_policy.name(), |c, v| c.coordinator.migration_policy = MigrationPolicy::parse(v).unwrap_or_default();
    "group.consumer.min.assignment.interval.ms" whole (0, INT) "The shortest time between two assignments that a group of the consumer protocol may set."
        |c| i64::from(c.coordinator.consumer_min_assignment_interval_ms), |c, v| c.coordinator.consumer_min_assignment_interval_ms = v as i32;
    "group.consumer.min.heartbeat.interval.ms" whole (1, INT) "The shortest heartbeat interval that a group may have."
        |c| i64::from(c.coordinator.consumer_min_heartbeat_interval_ms), |c, v| c.coordinator.consumer_min_heartbeat_interval_ms = v as i32;
    "group.consumer.min.session.timeout.ms" whole (1, INT) "The shortest session timeout that a group of the consumer protocol may have."
        |c| i64::from(c.coordinator.consumer_min_session_timeout_ms), |c, v| c.coordinator.consumer_min_session_timeout_ms = v as i32;
    "group.consumer.session.timeout.ms" whole (1, INT) "How long a member of the consumer protocol may be silent before it is out, unless its group has its own timeout."
        |c| i64::from(c.coordinator.consumer_session_timeout_ms), |c, v| c.coordinator.consumer_session_timeout_ms = v as i32;
    "group.initial.rebalance.delay.ms" whole (0, INT) "How long an empty group waits for more members."
        |c| c.coordinator.initial_rebalance_delay_ms, |c, v| c.coordinator.initial_rebalance_delay_ms = v;
    "group.max.session.timeout.ms" whole (1, INT) "The longest session timeout a member may ask for."
        |c| i64::from(c.coordinator.max_session_timeout_ms), |c, v| c.coordinator.max_session_timeout_ms = v as i32;
    "group.max.size" whole (1, INT) "The most members of a group of the classic protocol."
        |c| whole(c.coordinator.max_group_size), |c, v| c.coordinator.max_group_size = bytes(v);
    "group.min.session.timeout.ms" whole (1, INT) "The shortest session timeout a member may ask for."
        |c| i64::from(c.coordinator.min_session_timeout_ms), |c, v| c.coordinator.min_session_timeout_ms = v as i32;
    "group.share.assignment.interval.ms" whole (0, INT) "How long who joins a share group that does not say may wait after an assignment for the next one."
        |c| i64::from(c.coordinator.share.assignment_interval_ms), |c, v| c.coordinator.share.assignment_interval_ms = v as i32;
    "group.share.delivery.count.limit" whole (1, i16::MAX as i64) "How often a record is delivered in a share group that does not say."
        |c| i64::from(c.coordinator.share.delivery_count_limit), |c, v| c.coordinator.share.delivery_count_limit = v as i32;
    "group.share.heartbeat.interval.ms" whole (1, INT) "How often members of a share group send heartbeats."
        |c| i64::from(c.coordinator.share.heartbeat_interval_ms), |c, v| c.coordinator.share.heartbeat_interval_ms = v as i32;
    "group.share.max.assignment.interval.ms" whole (0, INT) "The longest time between two assignments that a share group may set."
        |c| i64::from(c.coordinator.share.max_assignment_interval_ms), |c, v| c.coordinator.share.max_assignment_interval_ms = v as i32;
    "group.share.max.delivery.count.limit" whole (1, i16::MAX as i64) "The most that a share group may set as share.delivery.count.limit."
        |c| i64::from(c.coordinator.share.max_delivery_count_limit), |c, v| c.coordinator.share.max_delivery_count_limit = v as i32;
    "group.share.max.heartbeat.interval.ms" whole (1, INT) "The longest heartbeat interval that a share group may have."
        |c| i64::from(c.coordinator.share.max_heartbeat_interval_ms), |c, v| c.coordinator.share.max_heartbeat_interval_ms = v as i32;
    "group.share.max.partition.max.record.locks" whole (1, INT) "The most that a share group may set as share.partition.max.record.locks."
        |c| i64::from(c.coordinator.share.max_max_record_locks), |c, v| c.coordinator.share.max_max_record_locks = v as i32;
    "group.share.max.record.lock.duration.ms" whole (1, INT) "The longest time for a record that a share group may set."
        |c| i64::from(c.coordinator.share.max_lock_duration_ms), |c, v| c.coordinator.share.max_lock_duration_ms = v as i32;
    "group.share.max.session.timeout.ms" whole (1, INT) "The longest session timeout that a share group may have."
        |c| i64::from(c.coordinator.share.max_session_timeout_ms), |c, v| c.coordinator.share.max_session_timeout_ms = v as i32;
    "group.share.max.size" whole (1, INT) "Members of one share group."
        |c| whole(c.coordinator.share.max_group_size), |c, v| c.coordinator.share.max_group_size = bytes(v);
    "group.share.min.assignment.interval.ms" whole (0, INT) "The shortest time between two assignments that a share group may set."
        |c| i64::from(c.coordinator.share.min_assignment_interval_ms), |c, v| c.coordinator.share.min_assignment_interval_ms = v as i32;
    "group.share.min.delivery.count.limit" whole (1, i16::MAX as i64) "The least that a share group may set as share.delivery.count.limit."
        |c| i64::from(c.coordinator.share.min_delivery_count_limit), |c, v| c.coordinator.share.min_delivery_count_limit = v as i32;
    "group.share.min.heartbeat.interval.ms" whole (1, INT) "The shortest heartbeat interval that a share group may have."
        |c| i64::from(c.coordinator.share.min_heartbeat_interval_ms), |c, v| c.coordinator.share.min_heartbeat_interval_ms = v as i32;
    "group.share.min.partition.max.record.locks" whole (1, INT) "The least that a share group may set as share.partition.max.record.locks."
        |c| i64::from(c.coordinator.share.min_max_record_locks), |c, v| c.coordinator.share.min_max_record_locks = v as i32;
    "group.share.min.record.lock.duration.ms" whole (1, INT) "The shortest time for a record that a share group may set."
        |c| i64::from(c.coordinator.share.min_lock_duration_ms), |c, v| c.coordinator.share.min_lock_duration_ms = v as i32;
    "group.share.min.session.timeout.ms" whole (1, INT) "The shortest session timeout that a share group may have."
        |c| i64::from(c.coordinator.share.min_session_timeout_ms), |c, v| c.coordinator.share.min_session_timeout_ms = v as i32;
    "group.share.partition.max.record.locks" whole (1, INT) "Records of a partition that may be in flight at once in a share group."
        |c| i64::from(c.coordinator.share.max_record_locks), |c, v| c.coordinator.share.max_record_locks = v as i32;
    "group.share.record.lock.duration.ms" whole (1, INT) "How long a consumer of a share group has for a record."
        |c| i64::from(c.coordinator.share.lock_duration_ms), |c, v| c.coordinator.share.lock_duration_ms = v as i32;
    "group.share.session.timeout.ms" whole (1, INT) "After how long without a heartbeat a member of a share group is taken for gone."
        |c| i64::from(c.coordinator.share.session_timeout_ms), |c, v| c.coordinator.share.session_timeout_ms = v as i32;
    "group.streams.assignment.interval.ms" whole (0, INT) "The least time between two assignments of tasks in a streams group that does not say."
        |c| i64::from(c.coordinator.streams.assignment_interval_ms), |c, v| c.coordinator.streams.assignment_interval_ms = v as i32;
    "group.streams.heartbeat.interval.ms" whole (1, INT) "How often members of a streams group send heartbeats."
        |c| i64::from(c.coordinator.streams.heartbeat_interval_ms), |c, v| c.coordinator.streams.heartbeat_interval_ms = v as i32;
    "group.streams.initial.rebalance.delay.ms" whole (0, INT) "How long an empty streams group waits for more members before it assigns tasks."
        |c| i64::from(c.coordinator.streams.initial_rebalance_delay_ms), |c, v| c.coordinator.streams.initial_rebalance_delay_ms = v as i32;
    "group.streams.max.assignment.interval.ms" whole (0, INT) "The longest time between two assignments that a streams group may set."
        |c| i64::from(c.coordinator.streams.max_assignment_interval_ms), |c, v| c.coordinator.streams.max_assignment_interval_ms = v as i32;
    "group.streams.max.heartbeat.interval.ms" whole (1, INT) "The longest heartbeat interval that a streams group may have."
        |c| i64::from(c.coordinator.streams.max_heartbeat_interval_ms), |c, v| c.coordinator.streams.max_heartbeat_interval_ms = v as i32;
    "group.streams.max.session.timeout.ms" whole (1, INT) "The longest session timeout that a streams group may have."
        |c| i64::from(c.coordinator.streams.max_session_timeout_ms), |c, v| c.coordinator.streams.max_session_timeout_ms = v as i32;
    "group.streams.max.size" whole (1, INT) "Members of one streams group."
        |c| whole(c.coordinator.streams.max_group_size), |c, v| c.coordinator.streams.max_group_size = bytes(v);
    "group.streams.max.standby.replicas" whole (0, INT) "The most standby copies of a task that a streams group may set."
        |c| i64::from(c.coordinator.streams.max_standby_replicas), |c, v| c.coordinator.streams.max_standby_replicas = v as i32;
    "group.streams.min.assignment.interval.ms" whole (0, INT) "The shortest time between two assignments that a streams group may set."
        |c| i64::from(c.coordinator.streams.min_assignment_interval_ms), |c, v| c.coordinator.streams.min_assignment_interval_ms = v as i32;
    "group.streams.min.heartbeat.interval.ms" whole (1, INT) "The shortest heartbeat interval that a streams group may have."
        |c| i64::from(c.coordinator.streams.min_heartbeat_interval_ms), |c, v| c.coordinator.streams.min_heartbeat_interval_ms = v as i32;
    "group.streams.min.session.timeout.ms" whole (1, INT) "The shortest session timeout that a streams group may have."
        |c| i64::from(c.coordinator.streams.min_session_timeout_ms), |c, v| c.coordinator.streams.min_session_timeout_ms = v as i32;
    "group.streams.num.standby.replicas" whole (0, INT) "Standby copies of each task with a store in a streams group that does not say."
        |c| i64::from(c.coordinator.streams.num_standby_replicas), |c, v| c.coordinator.streams.num_standby_replicas = v as i32;
    "group.streams.session.timeout.ms" whole (1, INT) "How long a member of a streams group may be silent before it is out."
        |c| i64::from(c.coordinator.streams.session_timeout_ms), |c, v| c.coordinator.streams.session_timeout_ms = v as i32;
    "headwater.audit.enable" switch "Whether changes of topics, configurations, rules and credentials are told in the topic _headwater.audit; with an authorizer they are, and denials, too."
        |c| c.audits(), |c, v| c.audit = v;
    "headwater.authentication.timeout.ms" whole (1, INT) "How long a client may take for TLS and SASL."
        |c| millis(c.security.authentication_timeout), |c, v| c.security.authentication_timeout = duration(v);
    "headwater.clock.jump.accept" switch "Whether a system clock that is more than a year ahead of the log's last time is believed; otherwise nothing is deleted by age."
        |c| c.cleaner.accept_clock_jump, |c, v| c.cleaner.accept_clock_jump = v;
    "headwater.cold.local.bytes" whole (1 << 20, i64::MAX) "What finished files of the log may take on this disk when there is a cold store; older ones move there."
        |c| i64::try_from(c.cold_local_bytes).unwrap_or(i64::MAX), |c, v| c.cold_local_bytes = v as u64;
    "headwater.cold.orphan.grace.ms" whole (10, i64::MAX) "How long an object in the cold store must have been known to nobody before it is removed."
        |c| millis(c.cleaner.cold_orphan_grace), |c, v| c.cleaner.cold_orphan_grace = duration(v);
    "headwater.cold.store" text "Where old files of the log go: file:///DIRECTORY or s3://BUCKET/PREFIX, with credentials from the environment (AWS_...)."
        |c| c.cold_store.as_deref(), |c, v| c.cold_store = Some(v);
    "headwater.http.max.connections" whole (1, INT) "Connections of the HTTP address; further ones are closed."
        |c| whole(c.security.max_http_connections), |c, v| c.security.max_http_connections = bytes(v);
    "headwater.http.security.protocol" security "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL of the HTTP address; that of the first listener where nothing is said." false;
    "headwater.insecure" switch "Whether a listener that other machines can reach may do without TLS and authentication."
        |c| c.security.insecure, |c, v| c.security.insecure = v;
    "headwater.internal.topics.enable" switch "Whether groups and transactions can be read in __consumer_offsets and __transaction_state; false deletes them at the start."
        |c| c.coordinator.internal_topics, |c, v| c.coordinator.internal_topics = v;
    "headwater.log.segment.bytes" whole (64 << 10, 1 << 30) "A journal of the log is finished at this size; a start reads at most one."
        |c| c.log.segment_bytes as i64, |c, v| c.log.segment_bytes = v as u64;
    "headwater.max.unauthenticated.connections" whole (1, INT) "Connections of clients that have not yet said who they are; for further ones the oldest makes room, or they are closed."
        |c| whole(c.security.max_unauthenticated), |c, v| c.security.max_unauthenticated = bytes(v);
    "headwater.memory.bytes" whole (1 << 20, i64::MAX) "What the requests and answers of all connections may take together; who comes later waits, and who is slow is cut. At least socket.request.max.bytes."
        |c| whole(c.memory_bytes), |c, v| c.memory_bytes = bytes(v);
    "headwater.mirror.dir" text "A second directory, on another disk, that holds the same log: it repairs what is damaged and takes over when the data directory fails."
        |c| c.mirror_dir.as_deref().and_then(std::path::Path::to_str), |c, v| c.mirror_dir = Some(v.into());
    "headwater.mirror.required" switch "Whether writing ends when one of the two directories fails; otherwise the log goes on with the other."
        |c| c.mirror_required, |c, v| c.mirror_required = v;
    "headwater.mirror.retry.ms" whole (10, INT) "How soon a directory of the mirror that failed is tried again; each further attempt waits twice as long, up to sixty times this."
        |c| millis(c.mirror_retry), |c, v| c.mirror_retry = duration(v);
    "headwater.sasl.plain.insecure" switch "Whether PLAIN may send passwords without TLS."
        |c| c.security.plain_insecure, |c, v| c.security.plain_insecure = v;
    "headwater.sasl.users.file" security "A file of USER=PASSWORD lines: users that come by PLAIN or SCRAM beside those that the broker keeps." false;
    "headwater.scrub.bytes.per.second" whole (0, i64::MAX) "How fast old batches are looked at for damage; 0 for not at all."
        |c| c.cleaner.scrub_bytes_per_second.map_or(0, |rate| rate as i64), |c, v| c.cleaner.scrub_bytes_per_second = (v > 0).then_some(v as u64);
    "headwater.scrub.interval.ms" whole (1, i64::MAX) "How long after the end of one look at everything the next begins."
        |c| millis(c.cleaner.scrub_interval), |c, v| c.cleaner.scrub_interval = duration(v);
    "headwater.security.reload.interval.ms" whole (10, INT) "How often files of certificates and users are looked at for changes."
        |c| millis(c.security.reload_interval), |c, v| c.security.reload_interval = duration(v);
    "headwater.services.config.file" security "A file of client settings: the ssl. keys by which the console trusts streams services, and shows who the node is." false;
    "listener.security.protocol.map" security "The protocol of listeners with names of their own: NAME:SASL_SSL, commas between." false;
    "listeners" security "Where clients come in: NAME://HOST:PORT, commas between; instead of --listen." false;
    "log.cleaner.backoff.ms" whole (1, i64::MAX) "How often the cleaner looks for work."
        |c| millis(c.cleaner.backoff), |c, v| c.cleaner.backoff = duration(v);
    "log.cleaner.dedupe.buffer.size" whole (1 << 20, i64::MAX) "Memory for the keys of one compaction."
        |c| whole(c.cleaner.dedupe_bytes), |c, v| c.cleaner.dedupe_bytes = bytes(v);
    "log.cleaner.enable" switch "Whether topics with compact in their cleanup.policy are compacted."
        |c| c.cleaner.enabled, |c, v| c.cleaner.enabled = v;
    "log.cleaner.io.max.bytes.per.second" whole (-1, i64::MAX) "The most the cleaner reads and writes a second; 0 or less for no limit."
        |c| c.cleaner.io_bytes_per_second.map_or(-1, |rate| rate as i64), |c, v| c.cleaner.io_bytes_per_second = (v > 0).then_some(v as u64);
    "log.retention.check.interval.ms" whole (1, i64::MAX) "How often retention.ms and retention.bytes are applied."
        |c| millis(c.cleaner.retention_check), |c, v| c.cleaner.retention_check = duration(v);
    "max.connections" whole (1, INT) "Further connections are closed as soon as they are accepted."
        |c| whole(c.max_connections), |c, v| c.max_connections = bytes(v);
    "max.connections.per.ip" whole (0, INT) "Further connections from one address are closed as soon as they are accepted."
        |c| whole(c.max_connections_per_ip.each), |c, v| c.max_connections_per_ip.each = bytes(v);
    "max.connections.per.ip.overrides" form "Addresses with another number of connections, each as ADDRESS:NUMBER, commas between several."
        |c| c.max_connections_per_ip.shown(), |c, v| c.max_connections_per_ip.set_overrides(v);
    "max.incremental.fetch.session.cache.slots" whole (0, INT) "Fetch sessions that are kept at once."
        |c| whole(c.fetch_session_slots), |c, v| c.fetch_session_slots = bytes(v);
    "num.partitions" whole (1, 10_000) "Partitions of a topic whose creator does not say."
        |c| i64::from(c.default_partitions), |c, v| c.default_partitions = v as i32;
    "offset.metadata.max.bytes" whole (0, INT) "The longest metadata of a committed offset."
        |c| whole(c.coordinator.max_offset_metadata_bytes), |c, v| c.coordinator.max_offset_metadata_bytes = bytes(v);
    "offsets.retention.minutes" whole (1, INT) "How long the offsets of an empty group are kept."
        |c| c.coordinator.offsets_retention_ms.map_or(i64::MAX, |ms| ms / 60_000), |c, v| c.coordinator.offsets_retention_ms = Some(v * 60_000);
    "offsets.topic.num.partitions" whole (1, 10_000) "Partitions of __consumer_offsets when it is created."
        |c| i64::from(c.coordinator.offsets_topic_partitions), |c, v| c.coordinator.offsets_topic_partitions = v as i32;
    "producer.id.expiration.ms" whole (1, INT) "How long a producer that writes nothing is remembered to recognize its retries."
        |c| c.log.producer_expiration_ms, |c, v| c.log.producer_expiration_ms = v;
    "quota.window.num" whole (1, 10_000) "Windows of a quota: who has been quiet may use its rate over all of them but one at once."
        |c| c.quota.clients.number, |c, v| c.quota.clients.number = v;
    "quota.window.size.seconds" whole (1, 86_400) "How long such a window is."
        |c| c.quota.clients.seconds, |c, v| c.quota.clients.seconds = v;
    "sasl.enabled.mechanisms" security "Of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER; all that are configured where nothing is said." false;
    "sasl.login.connect.timeout.ms" security "How long a connection to the issuer of keys may take, in milliseconds; 5000 where nothing is said." false;
    "sasl.login.read.timeout.ms" security "How long the issuer of keys may take to answer, in milliseconds; 5000 where nothing is said." false;
    "sasl.oauthbearer.clock.skew.seconds" security "How far the clocks of issuer and broker may be apart; 30 where nothing is said." false;
    "sasl.oauthbearer.expected.audience" security "For whom a token must be, commas between several." false;
    "sasl.oauthbearer.expected.issuer" security "Who must have issued a token." false;
    "sasl.oauthbearer.jwks.endpoint.refresh.ms" security "How often the keys are fetched again; 3600000 where nothing is said." false;
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" security "How long fetching is tried again before it counts as failed; 10000 where nothing is said." false;
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" security "The first pause before fetching is tried again; 100 where nothing is said." false;
    "sasl.oauthbearer.jwks.endpoint.url" security "The keys by which tokens are signed: https://, file:///PATH or, on this machine, http://." false;
    "sasl.oauthbearer.sub.claim.name" security "The claim that names the user; sub where nothing is said." false;
    "socket.request.max.bytes" whole (1024, INT) "The longest request."
        |c| whole(c.max_request_bytes), |c, v| c.max_request_bytes = bytes(v);
    "ssl.client.auth" security "Whether clients show a certificate: none, requested or required." false;
    "ssl.key.password" security "The same as ssl.keystore.password, as Java has it for PKCS12; either will do." true;
    "ssl.keystore.certificate.chain" security "The certificate and its chain in PEM, its own first." false;
    "ssl.keystore.key" security "The private key in PEM; a file of its own is better." true;
    "ssl.keystore.location" security "A PEM file or PKCS12 keystore with private key and certificate chain." false;
    "ssl.keystore.password" security "The password of a PKCS12 keystore." true;
    "ssl.keystore.type" security "PEM or PKCS12; files are known by what they hold." false;
    "ssl.principal.mapping.rules" security "From the subject of a certificate to a user: RULE:PATTERN/REPLACEMENT/[LU] or DEFAULT, commas between." false;
    "ssl.truststore.certificates" security "The authorities that sign clients' certificates, in PEM." false;
    "ssl.truststore.location" security "A PEM file or PKCS12 keystore with the authorities that sign clients' certificates." false;
    "ssl.truststore.password" security "The password of a PKCS12 truststore." true;
    "ssl.truststore.type" security "PEM or PKCS12; files are known by what they hold." false;
    "super.users" form "Principals that may do everything, with ; between them: User:alice;User:bob."
        |c| c.authorizer.super_users(), |c, v| c.authorizer.set_super_users(v).map_err(|legal| legal.to_string());
    "transaction.max.timeout.ms" whole (1, INT) "The longest transaction timeout a producer may ask for."
        |c| i64::from(c.coordinator.max_transaction_timeout_ms), |c, v| c.coordinator.max_transaction_timeout_ms = v as i32;
    "transaction.state.log.num.partitions" whole (1, 10_000) "Partitions of __transaction_state when it is created."
        |c| i64::from(c.coordinator.transaction_log_partitions), |c, v| c.coordinator.transaction_log_partitions = v as i32;
    "transactional.id.expiration.ms" whole (1, INT) "How long an idle transactional id is remembered."
        |c| c.coordinator.transactional_id_expiration_ms.unwrap_or(i64::MAX), |c, v| c.coordinator.transactional_id_expiration_ms = Some(v);
};

impl BrokerSetting {
    /// The effective value as it is written.
    pub fn value(&self, config: &Config) -> String {
        match &self.kind {
            Kind::Whole { get, .. } => get(config).to_string(),
            Kind::Switch { get, .. } => get(config).to_string(),
            Kind::Form { get, .. } => get(config),
            Kind::Text { get, .. } => get(config).unwrap_or_default().to_owned(),
            Kind::Choice { get, .. } => get(config).to_owned(),
            Kind::Security { secret: true } => String::new(),
            Kind::Security { .. } => config.security.text(self.name).unwrap_or_default().to_owned(),
        }
    }

    /// Whether it is a text of the security's, which says nothing of its own default.
    pub fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Security { .. })
    }

    /// Whether the value is shown to nobody.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Security { secret: true })
    }

    fn set(&self, config: &mut Config, value: &str) -> Result<(), SettingError> {
        let illegal = |legal| SettingError::Illegal { name: self.name, value: value.to_owned(), legal };
        match &self.kind {
            Kind::Whole { least, most, set, .. } => match value.parse() {
                Ok(number) if (*least..=*most).contains(&number) => set(config, number),
                _ => return Err(illegal(format!("a whole number from {least} to {most}"))),
            },
            Kind::Switch { set, .. } => match value {
                "true" => set(config, true),
                "false" => set(config, false),
                _ => return Err(illegal("true or false".to_owned())),
            },
            Kind::Form { set, .. } => set(config, value).map_err(illegal)?,
            Kind::Choice { of, set, .. } if of.contains(&value) => set(config, value),
            Kind::Choice { of, .. } => return Err(illegal(format!("one of {}", of.join(", ")))),
            Kind::Security { .. } if !value.is_empty() => config.security.put(self.name, value.to_owned()),
            Kind::Text { set, .. } if !value.is_empty() => set(config, value.to_owned()),
            Kind::Text { .. } | Kind::Security { .. } => return Err(illegal("something".to_owned())),
        }
        Ok(())
    }
}

impl BrokerSetting {
    /// The type that clients show.
    pub fn config_kind(&self) -> ConfigKind {
        match self.kind {
            Kind::Whole { most, .. } if most <= INT => ConfigKind::Int,
            Kind::Whole { .. } => ConfigKind::Long,
            Kind::Switch { .. } => ConfigKind::Boolean,
            Kind::Text { .. } | Kind::Form { .. } | Kind::Choice { .. } => ConfigKind::String,
            Kind::Security { secret: true } => ConfigKind::Password,
            Kind::Security { .. } => ConfigKind::String,
        }
    }
}

impl Config {
    /// Sets one key from `KEY=VALUE`.
    pub fn set(&mut self, setting: &str) -> Result<(), SettingError> {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| SettingError::NoValue(setting.to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        if self.security.put_of_listener(name, value) {
            return Ok(());
        }
        if let Some(key) = BrokerKey::find(name).filter(|key| key.topic_key.is_some()) {
            key.check(value).map_err(SettingError::OfTopics)?;
            self.coordinator.topic_defaults.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        let known = BROKER_SETTINGS.iter().find(|known| known.name == name);
        known.ok_or_else(|| unknown(name))?.set(self, value)
    }

    /// Sets the keys of a properties file: `KEY=VALUE` lines, `#` comments.
    pub fn set_all(&mut self, file: &str, text: &str) -> Result<(), SettingError> {
        let at = |line| {
            let file = file.to_owned();
            move |source| SettingError::Line { file, line, source: Box::new(source) }
        };
        let lines =
            lines(text).map_err(|error| at(error.line)(SettingError::NoValue("the line".to_owned())))?;
        for (line, key, value) in lines {
            self.set(&format!("{key}={value}")).map_err(at(line))?;
        }
        Ok(())
    }
}

fn unknown(name: &str) -> SettingError {
    if let Some(key) = TOPIC_CONFIGS.iter().find(|key| key.name == name) {
        let of_all = BrokerKey::all().find(|of| of.topic_key == Some(key.name)).map(|of| of.name);
        return SettingError::OfATopic { name: key.name, of_all };
    }
    SettingError::Unknown { name: name.to_owned(), nearest: nearest(name) }
}

/// How alike a name must be to be meant: 1 is the same.
const ALIKE: f64 = 0.88;

fn nearest(name: &str) -> Option<&'static str> {
    let of_topics = BrokerKey::all().filter(|key| key.topic_key.is_some()).map(|key| key.name);
    let names = BROKER_SETTINGS.iter().map(|setting| setting.name).chain(of_topics);
    let alike = names.map(|known| (strsim::jaro_winkler(name, known), known));
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, known)| known)
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => "docs/broker-configs.md has all of them, and so has kafka-configs.sh --describe --all --entity-type brokers".to_owned(),
    }
}

fn of_topics(name: &str, of_all: &Option<&'static str>) -> String {
    let of_one = format!(
        "headwater topic create TOPIC --config {name}=VALUE, or kafka-configs.sh --alter --topic TOPIC --add-config {name}=VALUE"
    );
    match of_all {
        Some(of_all) => format!("{of_one}; its default for all topics is {of_all}"),
        None => of_one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_set_and_the_table_is_sorted() {
        assert!(BROKER_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        let mut config = Config::default();
        for setting in BROKER_SETTINGS {
            let value = setting.value(&config);
            if value.is_empty() {
                assert!(
                    matches!(setting.kind, Kind::Text { .. } | Kind::Form { .. } | Kind::Security { .. }),
                    "{}",
                    setting.name
                );
                continue;
            }
            config.set(&format!("{}={value}", setting.name)).unwrap();
            assert_eq!(setting.value(&config), value, "{}", setting.name);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_right() {
        let mut config = Config::default();
        let refused = |config: &mut Config, text| config.set(text).unwrap_err().to_string();
        assert!(
            refused(&mut config, "log.cleaner.backof.ms=5")
                .contains("did you mean 'log.cleaner.backoff.ms'?")
        );
        assert!(refused(&mut config, "log.retention.mss=5").contains("did you mean 'log.retention.ms'?"));
        assert!(refused(&mut config, "log.segment.byte=5").contains("did you mean 'log.segment.bytes'?"));
        for far in ["foo=1", "broker=1", "log.foo=1"] {
            let said = refused(&mut config, far);
            assert!(!said.contains("did you mean") && said.contains("docs/broker-configs.md"), "{said}");
        }
        let said = refused(&mut config, "headwater.schema.enforce=true");
        assert!(said.contains("setting of topics") && said.contains("headwater topic create"), "{said}");
        assert!(refused(&mut config, "retention.ms=5").contains("for all topics is log.retention.ms"));
        assert!(refused(&mut config, "num.partitions=0").contains("a whole number from 1 to 10000"));
        assert!(refused(&mut config, "auto.create.topics.enable=yes").contains("true or false"));
        assert!(refused(&mut config, "num.partitions").contains("KEY=VALUE"));
        assert!(refused(&mut config, "log.retention.ms=soon").contains("log.retention.ms = 'soon'"));
        let text = "# a comment\nnum.partitions = 3\n\nmax.connections=none";
        let refused = config.set_all("server.properties", text).unwrap_err().to_string();
        assert!(refused.contains("server.properties:4"), "{refused}");
        assert_eq!(config.default_partitions, 3);
    }
}
