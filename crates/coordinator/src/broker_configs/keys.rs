//! The keys that may be set on a running broker: those that topics inherit, and those of Kafka that mean nothing here.

use crate::configs::{ConfigKey, ConfigKind, Legal, TOPIC_CONFIGS, key};

/// A topic's keys with the broker's names of them (Kafka's `ServerTopicConfigSynonyms`).
const INHERITED: [(&str, &str); 28] = [
    ("cleanup.policy", "log.cleanup.policy"),
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
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
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

/// A key, which numbers a topic may have and the broker may not, and what it may have, in words.
type Narrower = (&'static str, fn(i64) -> bool, &'static str);

/// As in Kafka.
const NARROWER: [Narrower; 2] = [
    ("log.retention.ms", |number| number == 0, "-1 for ever, or at least 1"),
    ("log.segment.bytes", |number| number < 1 << 20, "at least 1048576"),
];

const THREADS: &str =
    "A number of Kafka's threads: without effect, as this broker sizes its threads by itself.";
const NO_REPLICAS: &str = "Without effect, as there is one node and no copies move.";
const NO_TIERS: &str = "Without effect: Kafka's tiered storage is not here; see headwater.cold.store.";
const NO_KERBEROS: &str = "Without effect, as there is no Kerberos.";
const NO_LOGIN: &str = "Without effect, as this broker logs in nowhere.";
const BUFFERS: &str = "A size of Kafka's buffers: without effect, as this broker has no such buffer.";
const FOREVER: &str = "9223372036854775807";

const fn int(name: &'static str, default: &'static str, least: i64, what: &'static str) -> ConfigKey {
    key(name, ConfigKind::Int, default, Legal::AtLeast(least), what)
}

const fn long(name: &'static str, default: &'static str, least: i64, what: &'static str) -> ConfigKey {
    key(name, ConfigKind::Long, default, Legal::AtLeast(least), what)
}

const fn ratio(name: &'static str, default: &'static str, what: &'static str) -> ConfigKey {
    key(name, ConfigKind::Double, default, Legal::Ratio, what)
}

/// Kafka's keys that tools set and that change nothing here, with Kafka's bounds, in alphabetical order.
static WITHOUT_EFFECT: &[ConfigKey] = &[
    int("background.threads", "10", 1, THREADS),
    key(
        "follower.fetch.last.tiered.offset.enable",
        ConfigKind::Boolean,
        "false",
        Legal::Boolean,
        NO_REPLICAS,
    ),
    long("follower.replication.throttled.rate", FOREVER, 0, NO_REPLICAS),
    int("group.coordinator.cached.buffer.max.bytes", "1048588", 524_288, BUFFERS),
    long("leader.replication.throttled.rate", FOREVER, 0, NO_REPLICAS),
    ratio("log.cleaner.io.buffer.load.factor", "0.9", BUFFERS),
    int("log.cleaner.io.buffer.size", "524288", 0, BUFFERS),
    int("log.cleaner.threads", "1", 0, THREADS),
    int("num.io.threads", "8", 1, THREADS),
    int("num.network.threads", "3", 1, THREADS),
    int("num.recovery.threads.per.data.dir", "2", 1, THREADS),
    int("num.replica.fetchers", "1", 1, NO_REPLICAS),
    int("remote.fetch.max.wait.ms", "500", 1, NO_TIERS),
    long("remote.list.offsets.request.timeout.ms", "30000", 1, NO_TIERS),
    long("remote.log.index.file.cache.total.size.bytes", "1073741824", 1, NO_TIERS),
    int("remote.log.manager.copier.thread.pool.size", "10", 1, NO_TIERS),
    long("remote.log.manager.copy.max.bytes.per.second", FOREVER, 1, NO_TIERS),
    int("remote.log.manager.expiration.thread.pool.size", "10", 1, NO_TIERS),
    long("remote.log.manager.fetch.max.bytes.per.second", FOREVER, 1, NO_TIERS),
    int("remote.log.manager.follower.thread.pool.size", "2", 1, NO_TIERS),
    int("remote.log.reader.threads", "10", 1, NO_TIERS),
    long("replica.alter.log.dirs.io.max.bytes.per.second", FOREVER, 0, NO_REPLICAS),
    long("sasl.kerberos.min.time.before.relogin", "60000", i64::MIN, NO_KERBEROS),
    ratio("sasl.kerberos.ticket.renew.jitter", "0.05", NO_KERBEROS),
    ratio("sasl.kerberos.ticket.renew.window.factor", "0.8", NO_KERBEROS),
    int("sasl.login.refresh.buffer.seconds", "300", 0, NO_LOGIN),
    int("sasl.login.refresh.min.period.seconds", "60", 0, NO_LOGIN),
    ratio("sasl.login.refresh.window.factor", "0.8", NO_LOGIN),
    ratio("sasl.login.refresh.window.jitter", "0.05", NO_LOGIN),
    int("share.coordinator.cached.buffer.max.bytes", "1048588", 524_288, BUFFERS),
];

/// The broker's name of a topic's key; `None` where the broker has no such key.
pub fn of_topic(topic_key: &str) -> Option<&'static str> {
    INHERITED.iter().find(|(topic, _)| *topic == topic_key).map(|(_, broker)| *broker)
}

/// A key that may be set on a running broker.
#[derive(Clone, Copy)]
pub struct BrokerKey {
    /// Kafka's name of it on a broker.
    pub name: &'static str,
    pub kind: ConfigKind,
    pub default: &'static str,
    pub documentation: &'static str,
    /// What topics that set nothing have from it; `None` where it is without effect.
    pub topic_key: Option<&'static str>,
    key: &'static ConfigKey,
}

impl BrokerKey {
    /// Every key there is, those that topics inherit first.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_topics = INHERITED.iter().filter_map(|(topic, name)| {
            let key = TOPIC_CONFIGS.iter().find(|key| key.name == *topic)?;
            Some(Self::new(name, Some(topic), key))
        });
        of_topics.chain(WITHOUT_EFFECT.iter().map(|key| Self::new(key.name, None, key)))
    }

    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|key| key.name == name)
    }

    fn new(name: &'static str, topic_key: Option<&'static str>, key: &'static ConfigKey) -> Self {
        let ConfigKey { kind, default, documentation, .. } = *key;
        Self { name, kind, default, documentation, topic_key, key }
    }

    /// Whether it can be set on one broker only, not as the default of all.
    pub(super) fn is_per_broker(&self) -> bool {
        self.name.starts_with("sasl.")
    }

    /// Checks one value; the message says what would be legal.
    ///
    /// # Errors
    /// A text for the user.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let narrower = NARROWER.iter().find(|(name, ..)| *name == self.name);
        if let Some((name, refused, legal)) = narrower
            && value.trim().parse().is_ok_and(refused)
        {
            return Err(format!("{name} = '{value}' is not legal: use {legal}"));
        }
        self.key.check_as(self.name, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_once_and_its_default_is_legal() {
        for (topic, broker) in INHERITED {
            assert_eq!(BrokerKey::find(broker).and_then(|key| key.topic_key), Some(topic), "{broker}");
        }
        let mut names: Vec<_> = BrokerKey::all().map(|key| key.name).collect();
        for key in BrokerKey::all() {
            assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(WITHOUT_EFFECT.is_sorted_by(|a, b| a.name < b.name));
    }

    /// The page lists every key, so that nobody takes one without effect for one with.
    #[test]
    fn the_page_names_every_key() {
        let page = include_str!("../../../../docs/broker-configs.md");
        let (with, without) = page.split_once("## Without effect").expect("the section");
        for key in BrokerKey::all() {
            let (part, line) = match key.topic_key {
                Some(topic) => (with, format!("| `{}` | `{topic}` |", key.name)),
                None => (without, format!("- `{}`", key.name)),
            };
            assert!(part.contains(&line), "docs/broker-configs.md lacks {line}");
        }
    }

    #[test]
    fn the_broker_says_its_own_name_of_a_key_and_its_own_bound() {
        let refused = |name, value| BrokerKey::find(name).and_then(|key| key.check(value).err());
        assert!(refused("log.segment.bytes", "1048575").is_some_and(|why| why.contains("1048576")));
        assert_eq!(refused("log.segment.bytes", "1048576"), None);
        assert!(refused("log.retention.ms", "abc").is_some_and(|why| why.starts_with("log.retention.ms")));
        assert!(refused("log.retention.ms", "0").is_some() && refused("log.retention.ms", "-1").is_none());
        assert!(refused("background.threads", "0").is_some());
    }
}
