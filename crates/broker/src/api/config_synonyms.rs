//! What a topic's configuration is called on the broker, where its default comes from.

/// Kafka's names; a key that is not here has the same name or none on the broker.
const RENAMED: [(&str, &str); 24] = [
    ("cleanup.policy", "log.cleanup.policy"),
    ("delete.retention.ms", "log.cleaner.delete.retention.ms"),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms"),
    ("flush.messages", "log.flush.interval.messages"),
    ("flush.ms", "log.flush.interval.ms"),
    ("index.interval.bytes", "log.index.interval.bytes"),
    ("local.retention.bytes", "log.local.retention.bytes"),
    ("local.retention.ms", "log.local.retention.ms"),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("max.message.bytes", "message.max.bytes"),
    ("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms"),
    ("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms"),
    ("message.timestamp.type", "log.message.timestamp.type"),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("preallocate", "log.preallocate"),
    ("retention.bytes", "log.retention.bytes"),
    ("retention.ms", "log.retention.ms"),
    ("segment.bytes", "log.segment.bytes"),
    ("segment.index.bytes", "log.index.size.max.bytes"),
    ("segment.jitter.ms", "log.roll.jitter.ms"),
    ("segment.ms", "log.roll.ms"),
    ("compression.type", "compression.type"),
];

/// The broker's name of a topic's key; `None` where the broker has no such key.
pub fn of_broker(topic_key: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(topic, _)| *topic == topic_key).map(|(_, broker)| *broker)
}

#[cfg(test)]
mod tests {
    use headwater_coordinator::TOPIC_CONFIGS;

    use super::*;

    #[test]
    fn every_synonym_is_of_a_key_that_topics_have() {
        for (topic, broker) in RENAMED {
            assert!(TOPIC_CONFIGS.iter().any(|key| key.name == topic), "{topic} ({broker})");
        }
    }
}
