//! What a client asks for, apart from the message it comes in: nothing here keeps the request's bytes.

use std::time::Duration;

use headwater_log::Isolation;
use headwater_model::Offset;
use headwater_wire::messages::FetchRequestData;
use headwater_wire::messages::fetch_request::FetchTopic;
use headwater_wire::{KafkaString, KafkaUuid};
use tokio::time::Instant;

use crate::Config;

/// No client waits longer for data than this in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A topic as the client names it: by its name before v13, by its id since.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicName {
    pub name: KafkaString,
    pub id: KafkaUuid,
}

/// A topic and the index of a partition.
pub type Key = (TopicName, i32);

/// One partition, and how much of it from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub topic: TopicName,
    pub index: i32,
    pub offset: Offset,
    pub max_bytes: usize,
    pub leader_epoch: i32,
}

/// What holds for the whole response.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub isolation: Isolation,
    pub min_bytes: usize,
    pub max_bytes: usize,
    pub deadline: Instant,
}

impl TopicName {
    fn new(name: &KafkaString, id: KafkaUuid) -> Self {
        let name = match name.is_empty() {
            true => KafkaString::default(),
            false => name.as_str().to_owned().into(),
        };
        Self { name, id }
    }
}

impl Asked {
    /// In the order of the request.
    pub fn all(topics: Vec<FetchTopic>) -> Vec<Self> {
        let mut all = Vec::with_capacity(topics.iter().map(|topic| topic.partitions.len()).sum());
        for topic in topics {
            let name = TopicName::new(&topic.topic, topic.topic_id);
            all.extend(topic.partitions.into_iter().map(|partition| Self {
                topic: name.clone(),
                index: partition.partition,
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                leader_epoch: partition.current_leader_epoch,
            }));
        }
        all
    }

    pub fn key(&self) -> Key {
        (self.topic.clone(), self.index)
    }
}

/// Partitions that leave the session (KIP-227).
pub fn forgotten(request: &FetchRequestData) -> Vec<Key> {
    let topics = request.forgotten_topics_data.iter();
    let keys = topics.flat_map(|topic| {
        let name = TopicName::new(&topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |index| (name.clone(), *index))
    });
    keys.collect()
}

impl Limits {
    pub fn of(request: &FetchRequestData, config: &Config, now: Instant) -> Self {
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let wait = Duration::from_millis(count(request.max_wait_ms) as u64).min(LONGEST_WAIT);
        let max_bytes = count(request.max_bytes).min(config.max_fetch_bytes);
        Self {
            isolation: if request.isolation_level == 1 {
                Isolation::Committed
            } else {
                Isolation::Uncommitted
            },
            // Nobody waits for more than one response can hold.
            min_bytes: count(request.min_bytes).min(max_bytes),
            max_bytes,
            deadline: now + wait,
        }
    }

    /// Nobody waits for more than one response may hold.
    pub fn lower(&mut self, max_bytes: usize) {
        self.max_bytes = self.max_bytes.min(max_bytes);
        self.min_bytes = self.min_bytes.min(self.max_bytes);
    }
}
