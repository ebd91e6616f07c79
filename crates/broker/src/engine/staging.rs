//! What a command writes: staged for the next commit, all of it or nothing.

use std::collections::HashMap;

use headwater_coordinator::{Effect, Error, PublishedTopic, StateRecord, TopicId, TopicPartitionId};
use headwater_log::{Appended, Durability, LogError, Origin, PartitionId};
use headwater_model::Offset;
use headwater_wire::batch;

use super::held::Reply;
use super::worker::Worker;
use super::{Batch, Marker, Produce, Produced, Refusal};
use crate::catalog::Change;
use crate::clock;
use crate::planted::{self, Bug};
use crate::rules::RuleChange;
use crate::security::CredentialChange;

impl Worker {
    /// Stages everything a call decided; its replies wait for all of it.
    pub fn perform(&mut self, effects: Vec<Effect>) {
        let mut replies = Vec::new();
        for effect in effects {
            let staged = match effect {
                Effect::Append(record) => self.record(&record),
                Effect::Markers { partitions, producer_id, producer_epoch, commit } => {
                    self.mark(partitions, producer_id, producer_epoch, commit)
                }
                Effect::Wake((topic_id, partition)) => {
                    self.waiters.wake([&PartitionId { topic_id, partition }]);
                    Ok(())
                }
                Effect::Reply { ticket, response } => {
                    replies.extend(self.asked.remove(&ticket).map(|reply| Reply::Asked(reply, response)));
                    Ok(())
                }
                Effect::Settled(offset) => self.publish_offset(&offset),
                Effect::Forgotten { group_id, topic, partition } => {
                    self.publish_forgotten(&group_id, &topic, partition)
                }
            };
            if let Err(error) = staged {
                self.fence(&error);
            }
        }
        for reply in replies {
            self.hold(reply);
        }
    }

    fn record(&mut self, record: &StateRecord) -> Result<(), LogError> {
        let created = match record {
            StateRecord::Topic(topic) if !self.partitions.contains_key(&topic.id) => {
                PublishedTopic::named(&topic.name)
            }
            _ => None,
        };
        match record {
            StateRecord::Topic(topic) => {
                for partition in 0..topic.partitions {
                    self.log.create_partition(PartitionId { topic_id: topic.id, partition })?;
                }
                self.staged.changes.push(Change::Put(topic.clone()));
            }
            StateRecord::TopicDeleted { id, .. } => {
                for partition in 0..self.partitions.get(id).copied().unwrap_or(0) {
                    let gone = PartitionId { topic_id: *id, partition };
                    self.log.delete_partition(gone)?;
                    self.staged.touched.push(gone);
                }
                self.staged.changes.push(Change::Remove(*id));
            }
            StateRecord::BrokerConfigs { .. } => {
                // The coordinator has applied it already.
                let broker = self.coordinator.broker_configs().clone();
                self.staged.changes.push(Change::Broker(Box::new(broker)));
            }
            StateRecord::Acl(acl) => self.staged.rules.push(RuleChange::Put(acl.0.clone())),
            StateRecord::AclDeleted(acl) => self.staged.rules.push(RuleChange::Remove(acl.0.clone())),
            StateRecord::Quota(record) => self.staged.rules.push(RuleChange::Quota(record.clone())),
            StateRecord::Feature(record) => self.staged.rules.push(RuleChange::Feature(record.clone())),
            StateRecord::ScramCredential(record) => {
                self.staged.credentials.push(CredentialChange::Put(record.clone()));
            }
            StateRecord::ScramCredentialDeleted { user, mechanism } => {
                let gone = CredentialChange::Remove { user: user.clone(), mechanism: *mechanism };
                self.staged.credentials.push(gone);
            }
            _ => {}
        }
        count(&mut self.partitions, record);
        self.state.push(&mut self.log, record, self.clock.now())?;
        match created {
            Some(topic) => self.fill_published(topic),
            None => self.publish(record),
        }
    }

    fn mark(
        &mut self,
        partitions: Vec<TopicPartitionId>,
        producer_id: i64,
        producer_epoch: i16,
        commit: bool,
    ) -> Result<(), LogError> {
        // A marker from the future would keep from deletion all that follows it.
        let now = if self.clock_jump > 0 { self.clock.now() } else { clock::wall() };
        let mut marker = batch::transaction_marker(producer_id, producer_epoch, commit, 0, now);
        for (index, (topic_id, partition)) in partitions.into_iter().enumerate() {
            if index > 0 && planted::is(Bug::TearCommits) {
                marker = batch::transaction_marker(producer_id, producer_epoch, false, 0, now);
            }
            if self.partitions.get(&topic_id).is_none_or(|count| partition >= *count) {
                // The topic was deleted with the transaction open.
                continue;
            }
            let id = PartitionId { topic_id, partition };
            self.log.append(id, &marker, Origin::Broker, Durability::Synced, self.clock.now())?;
            self.staged.touched.push(id);
        }
        Ok(())
    }

    pub fn produce(&mut self, produce: Produce) -> Produced {
        let Produce { transactional_id, implicit, batches } = produce;
        if let Some(id) = transactional_id.as_deref().filter(|_| implicit) {
            self.add_partitions(id, &batches);
        }
        batches.iter().map(|batch| self.append(transactional_id.as_deref(), implicit, batch)).collect()
    }

    /// Adds all partitions of a request to its transaction at once: one after the other, each would be written down with all
    /// before it. What is refused here is refused of each batch by itself.
    fn add_partitions(&mut self, transactional_id: &str, batches: &[Batch]) {
        let Some(first) = batches.iter().find(|batch| batch.transactional) else { return };
        let (producer_id, epoch) = (first.producer_id, first.producer_epoch);
        let places: Vec<TopicPartitionId> = batches
            .iter()
            .filter(|batch| batch.transactional && batch.producer_id == producer_id)
            .map(|batch| (batch.partition.topic_id, batch.partition.partition))
            .filter(|(topic_id, partition)| {
                self.partitions.get(topic_id).is_some_and(|count| partition < count)
            })
            .collect();
        if places.len() < 2 {
            return;
        }
        let now = self.clock.now();
        let added =
            self.coordinator.add_partitions_implicitly(transactional_id, producer_id, epoch, &places, now);
        if let Ok(effects) = added {
            self.perform(effects);
        }
    }

    fn append(
        &mut self,
        transactional_id: Option<&str>,
        implicit: bool,
        batch: &Batch,
    ) -> Result<Appended, Refusal> {
        let PartitionId { topic_id, partition } = batch.partition;
        if self.partitions.get(&topic_id).is_none_or(|count| partition >= *count) {
            return Err(Error::UnknownTopicOrPartition.into());
        }
        if batch.producer_id >= 0 {
            self.admit(transactional_id, implicit, batch)?;
        }
        let now = self.clock.now();
        if planted::is(Bug::TakeWhatFollows) && now % 20 == 0 {
            return Err(LogError::Fenced("planted".to_owned()).into());
        }
        let appended =
            self.log.append(batch.partition, &batch.bytes, Origin::Client, batch.durability, now)?;
        if !appended.duplicate {
            self.staged.touched.push(batch.partition);
        }
        Ok(appended)
    }

    fn admit(&mut self, transactional_id: Option<&str>, implicit: bool, batch: &Batch) -> Result<(), Error> {
        let PartitionId { topic_id, partition } = batch.partition;
        let (producer_id, epoch) = (batch.producer_id, batch.producer_epoch);
        match (batch.transactional, transactional_id) {
            (true, None) => Err(Error::InvalidProducerIdMapping),
            (true, Some(id)) if implicit => {
                let now = self.clock.now();
                let places = [(topic_id, partition)];
                let effects =
                    self.coordinator.add_partitions_implicitly(id, producer_id, epoch, &places, now)?;
                self.perform(effects);
                Ok(())
            }
            (transactional, id) => self.coordinator.check_transactional_produce(
                id.filter(|_| transactional),
                producer_id,
                epoch,
                (topic_id, partition),
            ),
        }
    }

    /// Ends what a producer has open in one partition; an epoch that the partition has seen the end of is refused.
    pub fn write_marker(&mut self, marker: &Marker) -> Result<(), LogError> {
        let Marker { partition, producer_id, producer_epoch, commit } = *marker;
        let known = self.log.reader().producers(partition)?;
        if let Some(current) = known.iter().find(|known| known.id == producer_id).map(|known| known.epoch)
            && producer_epoch < current
        {
            return Err(LogError::InvalidProducerEpoch { producer_id, epoch: producer_epoch, current });
        }
        self.mark(vec![(partition.topic_id, partition.partition)], producer_id, producer_epoch, commit)
    }

    /// −1 stands for everything that is there.
    pub fn delete_before(&mut self, id: PartitionId, offset: Offset) -> Result<Offset, LogError> {
        let offsets = self.log.reader().offsets(id)?;
        let offset = if offset == -1 { offsets.high_watermark } else { offset };
        self.log.delete_before(id, offset)?;
        Ok(offset.max(offsets.log_start))
    }
}

/// Keeps how many partitions the log has of each topic.
pub fn count(partitions: &mut HashMap<TopicId, i32>, record: &StateRecord) {
    match record {
        StateRecord::Topic(topic) => drop(partitions.insert(topic.id, topic.partitions)),
        StateRecord::TopicDeleted { id, .. } => drop(partitions.remove(id)),
        _ => {}
    }
}
