//! The broker's configuration by Kafka's keys: one table from which parsing, defaults and documentation come.

use std::time::Duration;

use thiserror::Error;

use crate::Config;

/// Why a setting is refused.
#[derive(Debug, Error)]
pub enum SettingError {
    #[error("unknown broker configuration '{name}': did you mean '{nearest}'?")]
    Unknown { name: String, nearest: &'static str },
    #[error("{name} = '{value}' is not legal: use {legal}")]
    Illegal { name: &'static str, value: String, legal: String },
    #[error("'{0}' is not KEY=VALUE")]
    NoValue(String),
    #[error("{file}:{line}: {source}")]
    Line { file: String, line: usize, source: Box<SettingError> },
}

type Set<T> = fn(&mut Config, T);

enum Kind {
    Whole { least: i64, most: i64, get: fn(&Config) -> i64, set: Set<i64> },
    Switch { get: fn(&Config) -> bool, set: Set<bool> },
    Text { get: fn(&Config) -> Option<&str>, set: Set<String> },
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
    ($($name:literal $kind:ident $(($least:expr, $most:expr))? $documentation:literal $get:expr, $set:expr;)*) => {
        &[$(BrokerSetting {
            name: $name,
            documentation: $documentation,
            kind: table!(@$kind $(($least, $most))? $get, $set),
        },)*]
    };
    (@whole ($least:expr, $most:expr) $get:expr, $set:expr) => {
        Kind::Whole { least: $least, most: $most, get: $get, set: $set }
    };
    (@switch $get:expr, $set:expr) => { Kind::Switch { get: $get, set: $set } };
    (@text $get:expr, $set:expr) => { Kind::Text { get: $get, set: $set } };
}

/// Every key, in alphabetical order.
#[rustfmt::skip]
pub static BROKER_SETTINGS: &[BrokerSetting] = table! {
    "auto.create.topics.enable" switch "Whether asking for the metadata of an unknown topic creates it."
        |c| c.auto_create_topics, |c, v| c.auto_create_topics = v;
    "connections.max.idle.ms" whole (1, i64::MAX) "A connection without requests for so long is closed."
        |c| millis(c.max_idle), |c, v| c.max_idle = duration(v);
    "fetch.max.bytes" whole (1024, INT) "The most that one Fetch returns, whatever it asks for."
        |c| whole(c.max_fetch_bytes), |c, v| c.max_fetch_bytes = bytes(v);
    "group.initial.rebalance.delay.ms" whole (0, INT) "How long an empty group waits for more members."
        |c| c.coordinator.initial_rebalance_delay_ms, |c, v| c.coordinator.initial_rebalance_delay_ms = v;
    "group.max.session.timeout.ms" whole (1, INT) "The longest session timeout a member may ask for."
        |c| i64::from(c.coordinator.max_session_timeout_ms), |c, v| c.coordinator.max_session_timeout_ms = v as i32;
    "group.min.session.timeout.ms" whole (1, INT) "The shortest session timeout a member may ask for."
        |c| i64::from(c.coordinator.min_session_timeout_ms), |c, v| c.coordinator.min_session_timeout_ms = v as i32;
    "group.share.delivery.count.limit" whole (1, i16::MAX as i64) "How often a record is delivered in a share group that does not say."
        |c| i64::from(c.coordinator.share.delivery_count_limit), |c, v| c.coordinator.share.delivery_count_limit = v as i32;
    "group.share.heartbeat.interval.ms" whole (1, INT) "How often members of a share group send heartbeats."
        |c| i64::from(c.coordinator.share.heartbeat_interval_ms), |c, v| c.coordinator.share.heartbeat_interval_ms = v as i32;
    "group.share.max.size" whole (1, INT) "Members of one share group."
        |c| whole(c.coordinator.share.max_group_size), |c, v| c.coordinator.share.max_group_size = bytes(v);
    "group.share.partition.max.record.locks" whole (1, INT) "Records of a partition that may be in flight at once in a share group."
        |c| i64::from(c.coordinator.share.max_record_locks), |c, v| c.coordinator.share.max_record_locks = v as i32;
    "group.share.record.lock.duration.ms" whole (1, INT) "How long a consumer of a share group has for a record."
        |c| i64::from(c.coordinator.share.lock_duration_ms), |c, v| c.coordinator.share.lock_duration_ms = v as i32;
    "group.share.session.timeout.ms" whole (1, INT) "After how long without a heartbeat a member of a share group is taken for gone."
        |c| i64::from(c.coordinator.share.session_timeout_ms), |c, v| c.coordinator.share.session_timeout_ms = v as i32;
    "headwater.clock.jump.accept" switch "Whether a system clock that is more than a year ahead of the log's last time is believed; otherwise nothing is deleted by age."
        |c| c.cleaner.accept_clock_jump, |c, v| c.cleaner.accept_clock_jump = v;
    "headwater.cold.local.bytes" whole (1 << 20, i64::MAX) "What finished files of the log may take on this disk when there is a cold store; older ones move there."
        |c| i64::try_from(c.cold_local_bytes).unwrap_or(i64::MAX), |c, v| c.cold_local_bytes = v as u64;
    "headwater.cold.store" text "Where old files of the log go: file:///DIRECTORY or s3://BUCKET/PREFIX, with credentials from the environment (AWS_...)."
        |c| c.cold_store.as_deref(), |c, v| c.cold_store = Some(v);
    "headwater.log.segment.bytes" whole (64 << 10, 1 << 30) "A journal of the log is finished at this size; a start reads at most one."
        |c| c.log.segment_bytes as i64, |c, v| c.log.segment_bytes = v as u64;
    "headwater.scrub.bytes.per.second" whole (0, i64::MAX) "How fast old batches are looked at for damage; 0 for not at all."
        |c| c.cleaner.scrub_bytes_per_second.map_or(0, |rate| rate as i64), |c, v| c.cleaner.scrub_bytes_per_second = (v > 0).then_some(v as u64);
    "headwater.scrub.interval.ms" whole (1, i64::MAX) "How long after the end of one look at everything the next begins."
        |c| millis(c.cleaner.scrub_interval), |c, v| c.cleaner.scrub_interval = duration(v);
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
    "max.incremental.fetch.session.cache.slots" whole (0, INT) "Fetch sessions that are kept at once."
        |c| whole(c.fetch_session_slots), |c, v| c.fetch_session_slots = bytes(v);
    "num.partitions" whole (1, 10_000) "Partitions of a topic whose creator does not say."
        |c| i64::from(c.default_partitions), |c, v| c.default_partitions = v as i32;
    "offsets.retention.minutes" whole (1, INT) "How long the offsets of an empty group are kept."
        |c| c.coordinator.offsets_retention_ms.map_or(i64::MAX, |ms| ms / 60_000), |c, v| c.coordinator.offsets_retention_ms = Some(v * 60_000);
    "producer.id.expiration.ms" whole (1, INT) "How long a producer that writes nothing is remembered to recognize its retries."
        |c| c.log.producer_expiration_ms, |c, v| c.log.producer_expiration_ms = v;
    "socket.request.max.bytes" whole (1024, INT) "The longest request."
        |c| whole(c.max_request_bytes), |c, v| c.max_request_bytes = bytes(v);
    "transaction.max.timeout.ms" whole (1, INT) "The longest transaction timeout a producer may ask for."
        |c| i64::from(c.coordinator.max_transaction_timeout_ms), |c, v| c.coordinator.max_transaction_timeout_ms = v as i32;
    "transactional.id.expiration.ms" whole (1, INT) "How long an idle transactional id is remembered."
        |c| c.coordinator.transactional_id_expiration_ms.unwrap_or(i64::MAX), |c, v| c.coordinator.transactional_id_expiration_ms = Some(v);
};

impl BrokerSetting {
    /// The effective value as it is written.
    pub fn value(&self, config: &Config) -> String {
        match &self.kind {
            Kind::Whole { get, .. } => get(config).to_string(),
            Kind::Switch { get, .. } => get(config).to_string(),
            Kind::Text { get, .. } => get(config).unwrap_or_default().to_owned(),
        }
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
            Kind::Text { set, .. } if !value.is_empty() => set(config, value.to_owned()),
            Kind::Text { .. } => return Err(illegal("something".to_owned())),
        }
        Ok(())
    }
}

impl Config {
    /// Sets one key from `KEY=VALUE`.
    pub fn set(&mut self, setting: &str) -> Result<(), SettingError> {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| SettingError::NoValue(setting.to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        let known = BROKER_SETTINGS.iter().find(|known| known.name == name);
        let known =
            known.ok_or_else(|| SettingError::Unknown { name: name.to_owned(), nearest: nearest(name) })?;
        known.set(self, value)
    }

    /// Sets the keys of a properties file: `KEY=VALUE` lines, `#` comments.
    pub fn set_all(&mut self, file: &str, text: &str) -> Result<(), SettingError> {
        for (index, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with(['#', '!']) {
                continue;
            }
            self.set(line_text).map_err(|source| SettingError::Line {
                file: file.to_owned(),
                line: index + 1,
                source: Box::new(source),
            })?;
        }
        Ok(())
    }
}

fn nearest(name: &str) -> &'static str {
    let closer = |a: &&BrokerSetting, b: &&BrokerSetting| {
        strsim::jaro_winkler(name, a.name).total_cmp(&strsim::jaro_winkler(name, b.name))
    };
    BROKER_SETTINGS.iter().max_by(closer).map_or("", |setting| setting.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_set_and_the_table_is_sorted() {
        assert!(BROKER_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        let mut config = Config::default();
        for setting in BROKER_SETTINGS.iter().filter(|setting| setting.name != "headwater.cold.store") {
            let value = setting.value(&config);
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
        assert!(refused(&mut config, "num.partitions=0").contains("a whole number from 1 to 10000"));
        assert!(refused(&mut config, "auto.create.topics.enable=yes").contains("true or false"));
        assert!(refused(&mut config, "num.partitions").contains("KEY=VALUE"));
        let text = "# a comment\nnum.partitions = 3\n\nmax.connections=none";
        let refused = config.set_all("server.properties", text).unwrap_err().to_string();
        assert!(refused.contains("server.properties:4"), "{refused}");
        assert_eq!(config.default_partitions, 3);
    }
}
