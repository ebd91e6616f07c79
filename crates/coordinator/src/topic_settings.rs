//! What a topic's configuration comes to: its own settings, what it inherits from the broker, the defaults.

use headwater_model::StreamKind;

use crate::broker_configs::BrokerConfigs;
use crate::compression::CompressionType;
use crate::configs::{TOPIC_CONFIGS, items};
use crate::enforcement::Enforcement;
use crate::kinds;
use crate::records::TopicRecord;
use crate::response::ConfigEntry;

/// What the broker and the log need to know of a topic's configuration, parsed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicSettings {
    pub compact: bool,
    pub delete: bool,
    /// −1 for ever.
    pub retention_ms: i64,
    /// −1 for no limit.
    pub retention_bytes: i64,
    pub segment_bytes: i64,
    pub segment_ms: i64,
    pub max_message_bytes: i64,
    pub min_insync_replicas: i64,
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    /// Acknowledged before it is on disk.
    pub unsynced: bool,
    pub compression: CompressionType,
    pub kind: StreamKind,
    pub enforcement: Enforcement,
}

impl TopicRecord {
    /// The value of a key that is in [`TOPIC_CONFIGS`], by the topic's setting or default; empty for other keys.
    pub fn config(&self, name: &str) -> &str {
        match self.configs.get(name) {
            Some(value) => value,
            None => TOPIC_CONFIGS.iter().find(|key| key.name == name).map_or("", |key| key.default),
        }
    }

    /// The value of a key with what the topic has from the broker.
    fn effective<'a>(&'a self, broker: &'a BrokerConfigs, name: &str) -> &'a str {
        match self.configs.get(name) {
            Some(value) => value,
            None => broker.inherited(self, name).unwrap_or_else(|| self.config(name)),
        }
    }

    /// The configuration as numbers and switches.
    pub fn settings(&self, broker: &BrokerConfigs) -> TopicSettings {
        // Values were checked when they were set; a record from elsewhere falls back to "no limit".
        let config = |name| self.effective(broker, name);
        let number = |name| config(name).trim().parse().unwrap_or(-1);
        let policy = items(config("cleanup.policy"));
        TopicSettings {
            compact: policy.contains(&"compact"),
            delete: policy.contains(&"delete"),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            segment_bytes: number("segment.bytes"),
            segment_ms: number("segment.ms"),
            max_message_bytes: number("max.message.bytes"),
            min_insync_replicas: number("min.insync.replicas"),
            log_append_time: config("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            delete_retention_ms: number("delete.retention.ms"),
            min_cleanable_dirty_ratio: config("min.cleanable.dirty.ratio").trim().parse().unwrap_or(0.5),
            unsynced: config("headwater.durability") == "unsynced",
            compression: CompressionType::parse(
                config("compression.type"),
                number("compression.gzip.level"),
                number("compression.zstd.level"),
            ),
            kind: StreamKind::parse(config(kinds::KIND)).unwrap_or_default(),
            enforcement: Enforcement::of(self),
        }
    }

    /// Every key, or those of `only`, with its effective value.
    pub fn config_entries(&self, broker: &BrokerConfigs, only: Option<&[String]>) -> Vec<ConfigEntry> {
        TOPIC_CONFIGS
            .iter()
            .filter(|key| only.is_none_or(|only| only.iter().any(|name| name == key.name)))
            .map(|key| ConfigEntry {
                name: key.name,
                value: self.effective(broker, key.name).to_owned(),
                default: key.default,
                is_default: !self.configs.contains_key(key.name),
                broker: broker.of_topic(self, key.name),
                kind: key.kind,
                documentation: key.documentation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn settings_know_kind_and_durability() {
        let record = |configs| TopicRecord { name: "t".into(), id: [1; 16], partitions: 1, configs };
        let plain = record(BTreeMap::new()).settings(&BrokerConfigs::default());
        assert_eq!((plain.kind, plain.unsynced), (StreamKind::Unspecified, false));
        let entity =
            [(kinds::KIND, "entity"), ("cleanup.policy", "compact"), ("headwater.durability", "unsynced")];
        let configs = entity.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let entity = record(configs).settings(&BrokerConfigs::default());
        assert_eq!((entity.kind, entity.unsynced, entity.compact), (StreamKind::Entity, true, true));
    }
}
