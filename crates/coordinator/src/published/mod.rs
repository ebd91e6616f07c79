//! What the world may read of groups and transactions: the records of `__consumer_offsets` and `__transaction_state`.
//!
//! Owns which records of Kafka's a [`StateRecord`] stands for. They follow the state and nothing follows them: a start
//! reads the state alone.

mod bytes;
mod classic;
mod consumer;
mod offsets;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::consumer::ConsumerGroupChange;
use crate::records::{OffsetRecord, StateRecord, TopicPartitionId, TransactionRecord, TransactionState};
use crate::{Coordinator, TopicRecord};

/// One of Kafka's own topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedTopic {
    Offsets,
    Transactions,
}

impl PublishedTopic {
    pub const ALL: [Self; 2] = [Self::Offsets, Self::Transactions];

    pub fn name(self) -> &'static str {
        match self {
            Self::Offsets => "__consumer_offsets",
            Self::Transactions => "__transaction_state",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether a topic of such a name is kept as it must be: compacted, and nothing deleted by age. Versions that wrote
    /// none of them let clients create them as they liked.
    pub fn is_as_made(record: &TopicRecord) -> bool {
        record.configs.get("cleanup.policy").is_some_and(|policy| policy == "compact")
    }

    /// The group or the transactional id that a key of the topic speaks of; `None` when the broker writes no such key.
    pub fn id_of(self, key: &[u8]) -> Option<String> {
        let (kind, rest) = key.split_first_chunk()?;
        let (id, rest) = bytes::read_string(rest)?;
        let behind = match (self, i16::from_be_bytes(*kind)) {
            (Self::Offsets, 1) => bytes::read_string(rest)?.1.get(4..)?,
            (Self::Offsets, kind) if consumer::is_of_member(kind) => bytes::read_string(rest)?.1,
            (Self::Offsets, kind) if kind == classic::KIND || consumer::is_of_group(kind) => rest,
            (Self::Transactions, 0) => rest,
            _ => return None,
        };
        behind.is_empty().then(|| id.to_owned())
    }

    /// As Kafka's, but that a segment, which is not compacted before it is full, is no larger than the least Kafka allows:
    /// what is written anew all the time stays small.
    pub(crate) fn configs(self) -> BTreeMap<String, String> {
        let configs = [("cleanup.policy", "compact"), ("segment.bytes", "1048576")];
        configs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// A record for one of the topics; no value for a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub topic: PublishedTopic,
    /// The group or the transactional id, which decides the partition.
    pub id: String,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// The partition that Kafka keeps a group or a transactional id in: Java's hash of the text, without its sign.
pub fn partition_of(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka takes the least number, which has no positive one, for 0.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[derive(Debug)]
enum Group {
    Classic,
    /// With its members.
    Consumer(BTreeSet<String>),
}

/// Makes the records; remembers which keys its groups have, to take them back.
#[derive(Debug, Default)]
pub struct Publisher {
    groups: HashMap<String, Group>,
}

impl Publisher {
    /// The records that a change of the state stands for, which the coordinator has made already.
    pub fn publish(&mut self, coordinator: &Coordinator, record: &StateRecord) -> Vec<Published> {
        match record {
            StateRecord::Offset(offset) => vec![committed(offset)],
            StateRecord::OffsetDeleted { group_id, topic, partition } => {
                vec![forgotten(group_id, topic, *partition)]
            }
            StateRecord::Group(group) => {
                let mut records = match self.groups.insert(group.group_id.clone(), Group::Classic) {
                    Some(Group::Consumer(members)) => consumer_tombstones(&group.group_id, &members),
                    _ => Vec::new(),
                };
                let value = Some(classic::value(group));
                records.push(of_group(&group.group_id, classic::key(&group.group_id), value));
                records
            }
            StateRecord::GroupDeleted { group_id } => match self.groups.remove(group_id) {
                Some(Group::Consumer(members)) => consumer_tombstones(group_id, &members),
                _ => vec![of_group(group_id, classic::key(group_id), None)],
            },
            // An empty group of another kind has become this one, which is not told of; its offsets stay.
            StateRecord::StreamsGroup { group_id, .. } => match self.groups.remove(group_id) {
                Some(Group::Classic) => vec![of_group(group_id, classic::key(group_id), None)],
                Some(Group::Consumer(members)) => consumer_tombstones(group_id, &members),
                None => Vec::new(),
            },
            StateRecord::ConsumerGroup { group_id, change } => self.consumer_change(group_id, change),
            StateRecord::Transaction(record) => vec![transaction(coordinator, record)],
            StateRecord::TransactionDeleted { transactional_id } => {
                vec![of_transaction(transactional_id, None)]
            }
            _ => Vec::new(),
        }
    }

    fn consumer_change(&mut self, group_id: &str, change: &ConsumerGroupChange) -> Vec<Published> {
        let mut records = Vec::new();
        let group = self.groups.entry(group_id.to_owned());
        let group = group.or_insert_with(|| Group::Consumer(BTreeSet::new()));
        if matches!(group, Group::Classic) {
            records.push(of_group(group_id, classic::key(group_id), None));
            *group = Group::Consumer(BTreeSet::new());
        }
        let mut put = |kind, member: Option<&str>, value| {
            records.push(of_group(group_id, consumer::key(kind, group_id, member), value));
        };
        match change {
            ConsumerGroupChange::Epochs(epochs) => {
                put(consumer::Kind::Group, None, Some(consumer::group(epochs)));
                put(consumer::Kind::TargetEpoch, None, Some(consumer::target_epoch(epochs)));
            }
            ConsumerGroupChange::Member(member) => {
                put(consumer::Kind::Member, Some(&member.member_id), Some(consumer::member(member)));
            }
            ConsumerGroupChange::MemberRemoved { member_id } => {
                consumer::OF_MEMBER.into_iter().for_each(|kind| put(kind, Some(member_id), None));
            }
            ConsumerGroupChange::Target { member_id, partitions } => {
                put(consumer::Kind::Target, Some(member_id), Some(consumer::target(partitions)));
            }
            ConsumerGroupChange::Current(current) => {
                put(consumer::Kind::Current, Some(&current.member_id), Some(consumer::current(current)));
            }
        }
        if let Group::Consumer(members) = group {
            match change {
                ConsumerGroupChange::Member(member) => drop(members.insert(member.member_id.clone())),
                ConsumerGroupChange::MemberRemoved { member_id } => drop(members.remove(member_id)),
                _ => {}
            }
        }
        records
    }
}

/// A committed offset, by itself or with its transaction.
pub fn committed(offset: &OffsetRecord) -> Published {
    let OffsetRecord { group_id, topic, partition, .. } = offset;
    of_group(group_id, offsets::key(group_id, topic, *partition), Some(offsets::value(offset)))
}

/// A committed offset that is there no more.
pub fn forgotten(group_id: &str, topic: &str, partition: i32) -> Published {
    of_group(group_id, offsets::key(group_id, topic, partition), None)
}

fn of_group(group_id: &str, key: Vec<u8>, value: Option<Vec<u8>>) -> Published {
    Published { topic: PublishedTopic::Offsets, id: group_id.to_owned(), key, value }
}

fn of_transaction(id: &str, value: Option<Vec<u8>>) -> Published {
    Published { topic: PublishedTopic::Transactions, id: id.to_owned(), key: transactions::key(id), value }
}

fn consumer_tombstones(group_id: &str, members: &BTreeSet<String>) -> Vec<Published> {
    let gone = |kind, member| of_group(group_id, consumer::key(kind, group_id, member), None);
    let of_members =
        members.iter().flat_map(|member| consumer::OF_MEMBER.map(|kind| gone(kind, Some(member))));
    let of_group = consumer::OF_GROUP.map(|kind| gone(kind, None));
    of_members.chain(of_group).collect()
}

fn transaction(coordinator: &Coordinator, record: &TransactionRecord) -> Published {
    let mut partitions = BTreeMap::<String, Vec<i32>>::new();
    if record.state == TransactionState::Ongoing {
        let of_data = record.partitions.iter().filter_map(|(topic, partition): &TopicPartitionId| {
            Some((coordinator.topic_by_id(topic)?.name.clone(), *partition))
        });
        let offsets = PublishedTopic::Offsets.name();
        let count = coordinator
            .topic(offsets)
            .map_or(coordinator.published_partitions(PublishedTopic::Offsets), partitions_of);
        let of_groups = record.groups.iter().map(|group| (offsets.to_owned(), partition_of(group, count)));
        for (topic, partition) in of_data.chain(of_groups) {
            partitions.entry(topic).or_default().push(partition);
        }
    }
    of_transaction(&record.transactional_id, Some(transactions::value(record, &partitions)))
}

fn partitions_of(topic: &TopicRecord) -> i32 {
    topic.partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_where_java_has_it() {
        // "Aa" and "BB" have one hash in Java; "polygenelubricants" has the least number there is.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("Aa", 50), 2112 % 50);
        assert_eq!(partition_of("BB", 50), 2112 % 50);
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("hello", 50), 99_162_322 % 50);
    }

    /// Monitors would take it for a classic group for ever.
    #[test]
    fn a_classic_group_that_has_become_a_streams_group_is_taken_back_once() {
        let coordinator = Coordinator::new(crate::Settings::default());
        let mut publisher = Publisher::default();
        let group = crate::GroupRecord {
            group_id: "g".to_owned(),
            generation: 3,
            protocol_type: "consumer".to_owned(),
            protocol: None,
            leader: None,
            members: Vec::new(),
            timestamp: 1,
        };
        let told = publisher.publish(&coordinator, &StateRecord::Group(group));
        assert_eq!((told.len(), told[0].value.is_some()), (1, true));
        let change = crate::streams::StreamsGroupChange::MemberRemoved { member_id: "m".to_owned() };
        let became = StateRecord::StreamsGroup { group_id: "g".to_owned(), change };
        let told = publisher.publish(&coordinator, &became);
        assert_eq!(told, [of_group("g", classic::key("g"), None)]);
        assert_eq!(publisher.publish(&coordinator, &became), [], "once is enough");
    }

    #[test]
    fn the_keys_are_kafkas_bytes() {
        assert_eq!(offsets::key("g", "t", 3), b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        assert_eq!(classic::key("g"), b"\0\x02\0\x01g");
        assert_eq!(consumer::key(consumer::Kind::Current, "g", Some("m")), b"\0\x08\0\x01g\0\x01m");
        assert_eq!(transactions::key("x"), b"\0\0\0\x01x");
    }

    #[test]
    fn a_key_is_known_again_and_anything_else_is_not() {
        let keys = [
            offsets::key("g", "t", 3),
            classic::key("g"),
            consumer::key(consumer::Kind::Group, "g", None),
            consumer::key(consumer::Kind::TargetEpoch, "g", None),
            consumer::key(consumer::Kind::Member, "g", Some("m")),
            consumer::key(consumer::Kind::Target, "g", Some("m")),
            consumer::key(consumer::Kind::Current, "g", Some("m")),
        ];
        for key in keys {
            assert_eq!(PublishedTopic::Offsets.id_of(&key).as_deref(), Some("g"), "{key:?}");
            assert_eq!(PublishedTopic::Transactions.id_of(&key), None, "{key:?}");
            assert_eq!(PublishedTopic::Offsets.id_of(&key[..key.len() - 1]), None, "{key:?}");
            assert_eq!(PublishedTopic::Offsets.id_of(&[key.as_slice(), b"x"].concat()), None, "{key:?}");
        }
        assert_eq!(PublishedTopic::Transactions.id_of(&transactions::key("x")).as_deref(), Some("x"));
        for other in [&b""[..], b"k", b"somebody's", b"\0\x04\0\x01g", b"\0\x02\0\x01\xff", b"\0\x02\xff\xff"]
        {
            assert_eq!(PublishedTopic::Offsets.id_of(other), None, "{other:?}");
        }
    }
}
