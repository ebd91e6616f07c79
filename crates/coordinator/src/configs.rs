//! The configuration keys of a topic: one table from which defaults, validation and documentation come.
//!
//! Owns names, types and legal values; refuses unknown keys by naming the nearest known one.

use std::collections::{BTreeMap, BTreeSet};

use crate::enforcement;
use crate::error::{Error, Failure};
use crate::kinds;
use crate::owners;
use crate::request::ConfigChange;

/// The type of a configuration value, for clients that show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    /// Its value is never told.
    Password,
}

impl ConfigKind {
    /// The number of DescribeConfigs' `config_type`.
    pub fn code(self) -> i8 {
        match self {
            ConfigKind::Boolean => 1,
            ConfigKind::String => 2,
            ConfigKind::Int => 3,
            ConfigKind::Short => 4,
            ConfigKind::Long => 5,
            ConfigKind::Double => 6,
            ConfigKind::List => 7,
            ConfigKind::Class => 8,
            ConfigKind::Password => 9,
        }
    }
}

pub(crate) enum Legal {
    Any,
    AtLeast(i64),
    Ratio,
    Boolean,
    OneOf(&'static [&'static str]),
    /// A list of these, at least one.
    SomeOf(&'static [&'static str]),
    /// What this function takes, in words.
    Checked(fn(&str) -> bool, &'static str),
}

/// One key of the table.
pub struct ConfigKey {
    pub name: &'static str,
    pub kind: ConfigKind,
    pub default: &'static str,
    pub documentation: &'static str,
    legal: Legal,
}

pub(crate) const fn key(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    legal: Legal,
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey { name, kind, default, documentation, legal }
}

const FOREVER: &str = "9223372036854775807";
const ALONE: &str = "Accepted for compatibility; without effect on a single-node broker.";

const NO_TIERS: &str =
    "Of Kafka's tiered storage, which is not here: accepted for compatibility, without effect.";

/// Every key a topic may set, in alphabetical order.
#[rustfmt::skip]
pub static TOPIC_CONFIGS: &[ConfigKey] = &[
    key("cleanup.policy", ConfigKind::List, "delete", Legal::SomeOf(&["compact", "delete"]), "How old records go: 'delete' by age and size, 'compact' keeps the last value of each key; both may be given."),
    key("compression.gzip.level", ConfigKind::Int, "-1", Legal::Checked(|value| is_level(value, 1..=9) || value.trim() == "-1", "-1, or 1 to 9"), "Level when compression.type is gzip; -1 is the codec's own default."),
    key("compression.lz4.level", ConfigKind::Int, "9", Legal::Checked(|value| is_level(value, 1..=17), "1 to 17"), "Level when compression.type is lz4; accepted for Kafka's sake, as our LZ4 has one level only."),
    key("compression.type", ConfigKind::String, "producer", Legal::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), "The codec of stored batches; 'producer' keeps the producer's."),
    key("compression.zstd.level", ConfigKind::Int, "3", Legal::Checked(|value| is_level(value, -131_072..=22), "-131072 to 22"), "Level when compression.type is zstd."),
    enforcement::KEY_SWITCH,
    enforcement::KEY_CLASS,
    enforcement::VALUE_SWITCH,
    enforcement::VALUE_CLASS,
    key("delete.retention.ms", ConfigKind::Long, "86400000", Legal::AtLeast(0), "How long a compacted topic keeps tombstones, in milliseconds."),
    key("file.delete.delay.ms", ConfigKind::Long, "60000", Legal::AtLeast(0), "How long a deleted segment's file is kept, in milliseconds; here it goes as soon as nobody reads it, so this has no effect."),
    key("flush.messages", ConfigKind::Long, FOREVER, Legal::AtLeast(1), "Records between two fsyncs; the broker syncs before it acknowledges, so this has no effect."),
    key("flush.ms", ConfigKind::Long, FOREVER, Legal::AtLeast(0), "Milliseconds between two fsyncs; the broker syncs before it acknowledges, so this has no effect."),
    key("follower.replication.throttled.replicas", ConfigKind::List, "", REPLICAS, ALONE),
    key("headwater.durability", ConfigKind::String, "synced", Legal::OneOf(&["synced", "unsynced"]), "When a record is acknowledged: 'synced' once it is on disk, 'unsynced' once it is written, so that a power failure may lose what was acknowledged last."),
    key(owners::INTERNAL, ConfigKind::Boolean, "false", Legal::Boolean, "Whether the stream is its owner's own (a changelog, a repartition topic): nobody else may read it, either, but super-users. Set when whoever is authenticated creates a topic of such a name."),
    key(owners::OWNER, ConfigKind::String, "", Legal::Checked(owners::is_one_principal, "one principal, TYPE:NAME as in User:orders, or nothing; a stream has one writer"), "The only principal that may write, in transactions and without, super-users included; nothing for whoever has the right."),
    enforcement::ENFORCED,
    enforcement::SUBJECTS,
    key(kinds::KIND, ConfigKind::String, "unspecified", Legal::OneOf(&["unspecified", "unkeyed", "keyed", "entity"]), "What a record is: 'unkeyed' a fact without a key, 'keyed' a fact about its key, 'entity' the latest state of its key (null is a tombstone; needs cleanup.policy compact). Records that are not so are refused; those written before are not looked at."),
    key("index.interval.bytes", ConfigKind::Int, "4096", Legal::AtLeast(0), "How many bytes of log lie between two index entries; the index here has every batch, so this has no effect."),
    key("leader.replication.throttled.replicas", ConfigKind::List, "", REPLICAS, ALONE),
    key("local.retention.bytes", ConfigKind::Long, "-2", Legal::AtLeast(-2), ALONE),
    key("local.retention.ms", ConfigKind::Long, "-2", Legal::AtLeast(-2), ALONE),
    key("max.compaction.lag.ms", ConfigKind::Long, FOREVER, Legal::AtLeast(1), "The longest time a record stays out of compaction, in milliseconds."),
    key("max.message.bytes", ConfigKind::Int, "1048588", Legal::AtLeast(0), "The largest record batch the topic accepts, in bytes."),
    key("message.timestamp.after.max.ms", ConfigKind::Long, "3600000", Legal::AtLeast(0), "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds."),
    key("message.timestamp.before.max.ms", ConfigKind::Long, FOREVER, Legal::AtLeast(0), "How far a record's timestamp may lie behind the broker's clock, in milliseconds."),
    key("message.timestamp.type", ConfigKind::String, "CreateTime", Legal::OneOf(&["CreateTime", "LogAppendTime"]), "Whose clock stamps records: the producer's or the broker's."),
    key("min.cleanable.dirty.ratio", ConfigKind::Double, "0.5", Legal::Ratio, "The share of uncompacted bytes from which compaction runs."),
    key("min.compaction.lag.ms", ConfigKind::Long, "0", Legal::AtLeast(0), "How long a record is safe from compaction, in milliseconds."),
    key("min.insync.replicas", ConfigKind::Int, "1", Legal::AtLeast(1), "How many replicas must have a record before acks=all is answered; above 1 every such write is refused, as there is one replica."),
    key("preallocate", ConfigKind::Boolean, "false", Legal::Boolean, "Whether segment files are allocated at their full size; the journal here always is, so this has no effect."),
    key("remote.log.copy.disable", ConfigKind::Boolean, "false", Legal::Boolean, NO_TIERS),
    key("remote.log.delete.on.disable", ConfigKind::Boolean, "false", Legal::Boolean, NO_TIERS),
    key("remote.storage.enable", ConfigKind::Boolean, "false", Legal::OneOf(&["false"]), "Tiered storage; not available, so only 'false' is legal."),
    key("retention.bytes", ConfigKind::Long, "-1", Legal::AtLeast(i64::MIN), "How many bytes a partition keeps before old segments go; a negative number for no limit."),
    key("retention.ms", ConfigKind::Long, "604800000", Legal::AtLeast(-1), "How long records are kept, in milliseconds; -1 for ever."),
    key("segment.bytes", ConfigKind::Int, "1073741824", Legal::AtLeast(14), "The size at which a new segment begins, in bytes."),
    key("segment.index.bytes", ConfigKind::Int, "10485760", Legal::AtLeast(4), "The largest size of a segment's index, in bytes; it has no bound here, so this has no effect."),
    key("segment.jitter.ms", ConfigKind::Long, "0", Legal::AtLeast(0), "A random part taken off segment.ms, in milliseconds; partitions share their segments here, so this has no effect."),
    key("segment.ms", ConfigKind::Long, "604800000", Legal::AtLeast(1), "The age at which a new segment begins, in milliseconds."),
    key("unclean.leader.election.enable", ConfigKind::Boolean, "false", Legal::Boolean, ALONE),
];

const REPLICAS: Legal =
    Legal::Checked(are_replicas, "PARTITION:BROKER with commas between several, * for all, or nothing");

/// Partitions with brokers, as Kafka has them for throttled replicas.
fn are_replicas(value: &str) -> bool {
    let number = |part: &str| part.parse::<u32>().is_ok();
    let one = |part: &str| part.trim().split_once(':').is_some_and(|(at, on)| number(at) && number(on));
    matches!(value.trim(), "" | "*") || value.split(',').all(one)
}

/// In any case, as Kafka takes it.
fn is_boolean(value: &str) -> bool {
    ["true", "false"].iter().any(|word| word.eq_ignore_ascii_case(value.trim()))
}

/// How a value is kept: true and false in small letters, so that whoever reads them need not ask for the others.
pub(crate) fn kept(kind: ConfigKind, value: String) -> String {
    if kind == ConfigKind::Boolean { value.trim().to_ascii_lowercase() } else { value }
}

/// A level of a codec, within Kafka's bounds.
fn is_level(value: &str, levels: std::ops::RangeInclusive<i32>) -> bool {
    value.trim().parse().is_ok_and(|level| levels.contains(&level))
}

impl ConfigKey {
    /// Checks one value; the message says what would be legal.
    fn check(&self, value: &str) -> Result<(), String> {
        self.check_as(self.name, value)
    }

    /// The same under another name of the key.
    pub(crate) fn check_as(&self, name: &str, value: &str) -> Result<(), String> {
        let shown = shown(value);
        let refuse = |wanted: &str| Err(format!("{name} = '{shown}' is not legal: use {wanted}"));
        match &self.legal {
            Legal::Any => Ok(()),
            Legal::AtLeast(minimum) => {
                let maximum = if self.kind == ConfigKind::Int { i64::from(i32::MAX) } else { i64::MAX };
                match value.trim().parse::<i64>() {
                    Ok(number) if (*minimum..=maximum).contains(&number) => Ok(()),
                    _ => refuse(&format!("a whole number from {minimum} to {maximum}")),
                }
            }
            Legal::Ratio => match value.trim().parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => refuse("a number from 0 to 1"),
            },
            Legal::Boolean if is_boolean(value) => Ok(()),
            Legal::Boolean => refuse("true or false"),
            Legal::OneOf(known) if known.contains(&value) => Ok(()),
            Legal::OneOf(known) => refuse(&format!("one of {}", known.join(", "))),
            Legal::Checked(is_legal, _) if is_legal(value) => Ok(()),
            Legal::Checked(_, wanted) => refuse(wanted),
            Legal::SomeOf(known) => {
                let items = items(value);
                match !items.is_empty() && items.iter().all(|item| known.contains(item)) {
                    true => Ok(()),
                    false => refuse(&format!("a list of {}", known.join(", "))),
                }
            }
        }
    }
}

/// A value is no longer, in bytes: Kafka's limit.
pub(crate) const LONGEST_VALUE: usize = i16::MAX as usize;

fn check_length(name: &str, value: &str) -> Result<(), Failure> {
    if value.len() <= LONGEST_VALUE {
        return Ok(());
    }
    let message = format!(
        "the value of '{name}' would have {} bytes, and the most that one may have is {LONGEST_VALUE}: make it shorter",
        value.len()
    );
    Err(Failure::new(Error::InvalidConfig, message))
}

/// As much of what somebody sent as a message has room for.
fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let mut shown: String = text.chars().take(MOST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

pub(crate) fn items(list: &str) -> Vec<&str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// The key of this name.
///
/// # Errors
/// `INVALID_CONFIG`, naming the nearest known key.
pub fn find(name: &str) -> Result<&'static ConfigKey, Failure> {
    find_in(TOPIC_CONFIGS, "topic", name)
}

fn find_in(table: &'static [ConfigKey], owner: &str, name: &str) -> Result<&'static ConfigKey, Failure> {
    if let Some(key) = table.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let shown: String = name.chars().take(100).collect();
    let name = shown.as_str();
    let nearest = table
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(name, a.name).total_cmp(&strsim::jaro_winkler(name, b.name)))
        .map_or("", |key| key.name);
    Err(Failure::new(
        Error::InvalidConfig,
        format!("unknown {owner} configuration '{shown}': did you mean '{nearest}'?"),
    ))
}

/// The configuration of a new topic: checked, without keys that are left at their default (`None`).
pub(crate) fn initial(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut result = BTreeMap::new();
    for (name, value) in configs {
        let key = find(name)?;
        let Some(value) = value else { continue };
        check_length(name, value)?;
        key.check(value).map_err(|message| Failure::new(Error::InvalidConfig, message))?;
        if result.insert(name.clone(), kept(key.kind, value.clone())).is_some() {
            return Err(Failure::new(
                Error::InvalidRequest,
                format!("configuration '{name}' is given twice"),
            ));
        }
    }
    kinds::complete(&mut result);
    kinds::check(&result)?;
    owners::check(&result)?;
    Ok(result)
}

/// `before` with the changes made, or without anything else when `replace`.
pub(crate) fn altered(
    before: &BTreeMap<String, String>,
    replace: bool,
    changes: &[(String, ConfigChange)],
) -> Result<BTreeMap<String, String>, Failure> {
    let result = changed(TOPIC_CONFIGS, "topic", before, replace, changes)?;
    kinds::check(&result)?;
    owners::check(&result)?;
    Ok(result)
}

/// The same by any table of keys; `owner` is what has them.
pub(crate) fn changed(
    table: &'static [ConfigKey],
    owner: &str,
    before: &BTreeMap<String, String>,
    replace: bool,
    changes: &[(String, ConfigChange)],
) -> Result<BTreeMap<String, String>, Failure> {
    let mut result = if replace { BTreeMap::new() } else { before.clone() };
    for (place, (name, change)) in changes.iter().enumerate() {
        let key = find_in(table, owner, name)?;
        if changes[..place].iter().any(|(other, _)| other == name) {
            return Err(Failure::new(
                Error::InvalidRequest,
                format!("configuration '{name}' is given twice"),
            ));
        }
        if *change == ConfigChange::Delete {
            result.remove(name);
            continue;
        }
        let current = result.get(name).map_or(key.default, String::as_str);
        let value = value_after(name, key.kind, current, change)?;
        key.check(&value).map_err(|message| Failure::new(Error::InvalidConfig, message))?;
        result.insert(name.clone(), kept(key.kind, value));
    }
    Ok(result)
}

/// What a key's value is after a change of it; after a deletion it is what it was.
pub(crate) fn value_after(
    name: &str,
    kind: ConfigKind,
    current: &str,
    change: &ConfigChange,
) -> Result<String, Failure> {
    let list = matches!(change, ConfigChange::Append(_) | ConfigChange::Subtract(_));
    if list && kind != ConfigKind::List {
        let message = format!("'{name}' is not a list: it can be set or deleted, not appended to");
        return Err(Failure::new(Error::InvalidConfig, message));
    }
    if let ConfigChange::Set(given) | ConfigChange::Append(given) | ConfigChange::Subtract(given) = change {
        check_length(name, given)?;
    }
    let value = match change {
        ConfigChange::Set(value) => value.clone(),
        ConfigChange::Delete => current.to_owned(),
        ConfigChange::Append(more) => {
            let (mut all, known) = (items(current), set_of(current));
            all.extend(items(more).into_iter().filter(|item| !known.contains(item)));
            all.join(",")
        }
        ConfigChange::Subtract(less) => {
            let gone = set_of(less);
            let left: Vec<_> = items(current).into_iter().filter(|item| !gone.contains(item)).collect();
            left.join(",")
        }
    };
    check_length(name, &value)?;
    Ok(value)
}

fn set_of(list: &str) -> BTreeSet<&str> {
    items(list).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<BTreeMap<String, String>, Failure> {
        initial(&[(name.to_owned(), Some(value.to_owned()))])
    }

    #[test]
    fn every_default_is_legal_and_the_table_is_sorted() {
        for key in TOPIC_CONFIGS {
            assert_eq!(key.check(key.default), Ok(()), "{}", key.name);
        }
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let failure = set("cleanup.polcy", "compact").unwrap_err();
        assert_eq!(failure.error, Error::InvalidConfig);
        assert!(failure.message.contains("did you mean 'cleanup.policy'?"), "{failure}");
    }

    #[test]
    fn illegal_values_are_refused() {
        for (name, value) in [
            ("cleanup.policy", "shred"),
            ("cleanup.policy", ""),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "2147483648"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("message.timestamp.type", "createtime"),
            ("preallocate", "yes"),
        ] {
            assert_eq!(set(name, value).unwrap_err().error, Error::InvalidConfig, "{name}={value}");
        }
        assert!(set("cleanup.policy", "compact, delete").is_ok());
        assert_eq!(set("preallocate", "TRUE").unwrap()["preallocate"], "true", "kept in small letters");
    }

    fn kind_and_policy(kind: &str, policy: Option<&str>) -> Result<BTreeMap<String, String>, Failure> {
        let policy = policy.map(|policy| ("cleanup.policy".to_owned(), Some(policy.to_owned())));
        let kind = (kinds::KIND.to_owned(), Some(kind.to_owned()));
        initial(&policy.into_iter().chain([kind]).collect::<Vec<_>>())
    }

    #[test]
    fn an_entity_topic_is_compacted_and_says_so_when_it_is_not() {
        assert_eq!(kind_and_policy("entity", None).unwrap()["cleanup.policy"], "compact");
        assert!(kind_and_policy("entity", Some("delete, compact")).is_ok());
        let failure = kind_and_policy("entity", Some("delete")).unwrap_err();
        assert_eq!(failure.error, Error::InvalidConfig);
        assert!(failure.message.contains("set cleanup.policy=compact"), "{failure}");
        assert!(kind_and_policy("unkeyed", Some("compact")).is_err());
        assert!(!kind_and_policy("keyed", None).unwrap().contains_key("cleanup.policy"));
        assert!(kind_and_policy("table", None).is_err());
    }

    #[test]
    fn an_entity_topic_cannot_lose_its_compaction_nor_become_one_without() {
        let entity = kind_and_policy("entity", None).unwrap();
        let delete = [("cleanup.policy".to_owned(), ConfigChange::Delete)];
        assert_eq!(altered(&entity, false, &delete).unwrap_err().error, Error::InvalidConfig);
        let set = |name: &str, value: &str| (name.to_owned(), ConfigChange::Set(value.to_owned()));
        let become_entity = set(kinds::KIND, "entity");
        let plain = BTreeMap::new();
        assert!(altered(&plain, false, std::slice::from_ref(&become_entity)).is_err());
        assert!(altered(&plain, false, &[become_entity, set("cleanup.policy", "compact")]).is_ok());
    }

    #[test]
    fn a_value_has_an_end_however_it_comes_about() {
        const LIST: &str = "leader.replication.throttled.replicas";
        let none = BTreeMap::new();
        let change =
            |before: &BTreeMap<String, String>, change| altered(before, false, &[(LIST.to_owned(), change)]);
        let refused = |outcome: Result<BTreeMap<String, String>, Failure>| {
            let failure = outcome.unwrap_err();
            assert_eq!(failure.error, Error::InvalidConfig);
            assert!(failure.message.contains("is 32767: make it shorter"), "{failure}");
            assert!(failure.message.len() < 300, "it is not sent back: {}", failure.message.len());
        };
        let longest = format!("0:{}", "0".repeat(LONGEST_VALUE - 2));
        let full = change(&none, ConfigChange::Set(longest.clone())).expect("the longest is legal");
        assert_eq!(set(LIST, &longest), Ok(full.clone()));
        let longer = format!("{longest}0");
        refused(set(LIST, &longer));
        refused(change(&none, ConfigChange::Set(longer.clone())));
        refused(change(&none, ConfigChange::Append(longer.clone())));
        refused(change(&full, ConfigChange::Subtract(longer)));
        refused(change(&full, ConfigChange::Append("1:1".to_owned())));
        assert_eq!(change(&full, ConfigChange::Subtract(longest)).unwrap()[LIST], "");
    }

    #[test]
    fn what_is_refused_is_not_sent_back_as_a_whole() {
        let failure = set("retention.ms", &"9".repeat(30_000)).unwrap_err();
        assert!(failure.message.len() < 300 && failure.message.contains("999…'"), "{failure}");
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        let change = |before: &BTreeMap<_, _>, change| {
            altered(before, false, &[("cleanup.policy".to_owned(), change)])
                .map(|map| map["cleanup.policy"].clone())
        };
        let none = BTreeMap::new();
        assert_eq!(change(&none, ConfigChange::Append("compact".into())).as_deref(), Ok("delete,compact"));
        let both = set("cleanup.policy", "delete,compact").unwrap();
        assert_eq!(change(&both, ConfigChange::Subtract("delete".into())).as_deref(), Ok("compact"));
        assert!(change(&none, ConfigChange::Subtract("delete".into())).is_err());
        let number = [("retention.ms".to_owned(), ConfigChange::Append("1".into()))];
        assert!(altered(&none, false, &number).is_err());
    }
}
