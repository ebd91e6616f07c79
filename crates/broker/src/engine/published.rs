//! `__consumer_offsets` and `__transaction_state`: Kafka's records of groups and transactions, in the commit that
//! changes them ([decision 4](../../../../docs/decisions/0004-kafkas-own-topics.md)).

mod found;

use std::collections::BTreeMap;

use headwater_coordinator::{
    OffsetRecord, Published, PublishedTopic, Publisher, StateRecord, published_offset, published_partition,
    published_tombstone,
};
use headwater_log::{Durability, LogError, Origin, PartitionId};
use headwater_wire::{BatchBuilder, BatchError, Compression};

use super::worker::Worker;
use crate::clock;
pub use found::{Odd, odd};

/// A batch of records is closed when it has grown to so much.
const BATCH_BYTES: usize = 512 << 10;

/// What waits for the next commit.
#[derive(Default)]
pub struct Internals {
    publisher: Publisher,
    pending: BTreeMap<PartitionId, BatchBuilder>,
}

impl Worker {
    /// Brings the topics in line with the settings and the state, at the start.
    pub(super) fn prepare_published(&mut self, odd: &[Odd]) -> Result<(), LogError> {
        let snapshot = self.coordinator.snapshot();
        for record in &snapshot {
            // What is in the topics already; the publisher only learns which groups there are.
            self.internals.publisher.publish(&self.coordinator, record);
        }
        for topic in PublishedTopic::ALL {
            if odd.contains(&Odd::Empty(topic)) {
                tracing::warn!(
                    topic = topic.name(),
                    "an empty topic that a client had made under an older version makes room for the broker's own"
                );
                self.delete_published(topic);
            }
            if odd.contains(&Odd::Policy(topic)) {
                self.compact_published(topic)?;
            }
            let there = self.coordinator.topic(topic.name()).is_some();
            if there && !self.publishes {
                self.delete_published(topic);
            } else if !there && self.publishes && self.has_records_of(topic, &snapshot) {
                self.create_published(topic);
            }
        }
        Ok(())
    }

    /// What went by age meanwhile is told again.
    fn compact_published(&mut self, topic: PublishedTopic) -> Result<(), LogError> {
        tracing::warn!(
            topic = topic.name(),
            "the cleanup.policy of the broker's own topic had been changed under an older version; it is compact again"
        );
        let effects = self.coordinator.compact_published(topic, self.clock.now());
        self.perform(effects);
        self.fill_published(topic)
    }

    fn delete_published(&mut self, topic: PublishedTopic) {
        let effects = self.coordinator.delete_published(topic, self.clock.now());
        self.perform(effects);
    }

    fn has_records_of(&mut self, topic: PublishedTopic, snapshot: &[StateRecord]) -> bool {
        let publisher = &mut self.internals.publisher;
        snapshot
            .iter()
            .any(|record| publisher.publish(&self.coordinator, record).iter().any(|one| one.topic == topic))
    }

    fn create_published(&mut self, topic: PublishedTopic) {
        let effects = self.coordinator.create_published(topic, self.clock.now());
        self.perform(effects);
    }

    /// Kafka's records of a change of the state.
    pub(super) fn publish(&mut self, record: &StateRecord) -> Result<(), LogError> {
        if !self.publishes {
            return Ok(());
        }
        let records = self.internals.publisher.publish(&self.coordinator, record);
        records.into_iter().try_for_each(|record| self.push_published(record))
    }

    pub(super) fn publish_offset(&mut self, offset: &OffsetRecord) -> Result<(), LogError> {
        if self.publishes { self.push_published(published_offset(offset)) } else { Ok(()) }
    }

    pub(super) fn publish_forgotten(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<(), LogError> {
        if self.publishes {
            self.push_published(published_tombstone(group, topic, partition))
        } else {
            Ok(())
        }
    }

    /// All that a topic which is new must say.
    pub(super) fn fill_published(&mut self, topic: PublishedTopic) -> Result<(), LogError> {
        for record in self.coordinator.snapshot() {
            let records = self.internals.publisher.publish(&self.coordinator, &record);
            for record in records.into_iter().filter(|record| record.topic == topic) {
                self.push_published(record)?;
            }
        }
        Ok(())
    }

    fn push_published(&mut self, record: Published) -> Result<(), LogError> {
        let Some(topic) = self.coordinator.topic(record.topic.name()) else {
            // Filled with everything there is, this record among it; what is gone it need not tell.
            if record.value.is_some() {
                self.create_published(record.topic);
            }
            return Ok(());
        };
        if !PublishedTopic::is_as_made(topic) {
            // Nobody could see whose it is. The start that can tells everything.
            return Ok(());
        }
        let partition = published_partition(&record.id, topic.partitions);
        let id = PartitionId { topic_id: topic.id, partition };
        let pending = self.internals.pending.entry(id).or_default();
        pending.push(clock::wall(), Some(&record.key), record.value.as_deref(), &[]);
        if pending.size() >= BATCH_BYTES { self.flush_published() } else { Ok(()) }
    }

    /// Stages what waits; to be called before each commit.
    pub(super) fn flush_published(&mut self) -> Result<(), LogError> {
        for (id, mut batch) in std::mem::take(&mut self.internals.pending) {
            if self.partitions.get(&id.topic_id).is_none_or(|count| id.partition >= *count) {
                // The topic was deleted meanwhile.
                continue;
            }
            let bytes = batch.build(Compression::None, None, false).map_err(BatchError::from)?;
            self.log.append(id, &bytes, Origin::Broker, Durability::Synced, self.clock.now())?;
            self.staged.touched.push(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
