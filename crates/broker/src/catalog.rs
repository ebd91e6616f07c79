//! The topics as connections see them: those whose creation is on disk.
//!
//! The engine writes it after the commit that carries a change; everybody else reads.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use headwater_coordinator::{BrokerConfigs, TopicId, TopicRecord, TopicSettings, is_internal};
use headwater_log::PartitionId;
use headwater_model::Principal;

#[derive(Debug)]
pub struct Topic {
    pub record: TopicRecord,
    pub settings: TopicSettings,
    /// Who alone may write.
    pub owner: Option<Principal>,
    /// Whether nobody else may read, either.
    pub closed: bool,
}

impl Topic {
    pub fn new(record: TopicRecord, broker: &BrokerConfigs) -> Self {
        let (settings, owner, closed) = (record.settings(broker), record.owner(), record.is_closed());
        Self { record, settings, owner, closed }
    }

    pub fn id(&self) -> TopicId {
        self.record.id
    }

    pub fn name(&self) -> &str {
        &self.record.name
    }

    pub fn is_internal(&self) -> bool {
        is_internal(&self.record.name)
    }

    /// `None` when the topic has no such partition.
    pub fn partition(&self, index: i32) -> Option<PartitionId> {
        let exists = (0..self.record.partitions).contains(&index);
        exists.then_some(PartitionId { topic_id: self.record.id, partition: index })
    }
}

/// A change of the catalog, made when its commit is on disk.
#[derive(Debug)]
pub enum Change {
    Put(TopicRecord),
    Remove(TopicId),
    /// What all topics inherit.
    Broker(Box<BrokerConfigs>),
}

#[derive(Debug, Default)]
pub struct Catalog {
    topics: RwLock<Topics>,
}

#[derive(Debug, Default)]
struct Topics {
    by_id: HashMap<TopicId, Arc<Topic>>,
    ids: HashMap<String, TopicId>,
    partitions: usize,
    broker: BrokerConfigs,
}

impl Topics {
    fn inherit(&mut self, broker: BrokerConfigs) {
        self.broker = broker;
        for topic in self.by_id.values_mut() {
            *topic = Arc::new(Topic::new(topic.record.clone(), &self.broker));
        }
    }
}

impl Catalog {
    fn read(&self) -> RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Topics> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self.read();
        topics.by_id.get(topics.ids.get(name)?).cloned()
    }

    pub fn by_id(&self, id: &TopicId) -> Option<Arc<Topic>> {
        self.read().by_id.get(id).cloned()
    }

    /// All topics in the order of their names.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<_> = self.read().by_id.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Of all topics.
    pub fn partitions(&self) -> usize {
        self.read().partitions
    }

    pub fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut topics = self.write();
        for change in changes {
            match change {
                Change::Broker(broker) => topics.inherit(*broker),
                Change::Put(record) => {
                    topics.ids.insert(record.name.clone(), record.id);
                    topics.partitions += partitions(&record);
                    let topic = Topic::new(record, &topics.broker);
                    let before = topics.by_id.insert(topic.id(), Arc::new(topic));
                    topics.partitions -= before.map_or(0, |before| partitions(&before.record));
                }
                Change::Remove(id) => {
                    let Some(gone) = topics.by_id.remove(&id) else { continue };
                    topics.partitions -= partitions(&gone.record);
                    if topics.ids.get(gone.name()) == Some(&id) {
                        topics.ids.remove(gone.name());
                    }
                }
            }
        }
    }
}

fn partitions(record: &TopicRecord) -> usize {
    usize::try_from(record.partitions).unwrap_or(0)
}
