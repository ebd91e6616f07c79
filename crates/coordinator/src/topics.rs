//! Topics: names, identities, partition counts, configuration.
//!
//! Owns which topics exist; refuses to know anything of their contents.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker_configs::BrokerConfigs;
use crate::configs;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::published::PublishedTopic;
use crate::records::{StateRecord, TopicId, TopicPartitionId, TopicRecord};
use crate::request::{AlterConfig, DescribeConfig, NewPartitions, NewTopic, TopicRef};
use crate::response::{DescribedConfigs, DescribedTopic, TopicResult, TopicSummary};
use headwater_model::TopicPartition;

/// Kafka's controllers keep their log under this name; who asks about the quorum names it.
const QUORUM: &str = "__cluster_metadata";

/// Topics by name, and their names by id.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, TopicRecord>,
    names: BTreeMap<TopicId, String>,
    /// Counts the changes.
    version: u64,
}

/// Whether clients should hide the topic: one of Kafka's own. Others may be called alike (Debezium's heartbeats are), and
/// are found by who subscribes to a pattern.
pub fn is_internal(name: &str) -> bool {
    const SHARE_STATE: &str = "__share_group_state";
    PublishedTopic::named(name).is_some() || name == SHARE_STATE
}

/// Whether a topic may have the name.
pub fn is_legal(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && !matches!(name, "." | "..") && name.chars().all(legal)
}

/// One of Kafka's own topics stays what tools take it for: the last record of each key.
fn kept_as_made(record: TopicRecord) -> Result<TopicRecord, Failure> {
    if PublishedTopic::named(&record.name).is_none() || PublishedTopic::is_as_made(&record) {
        return Ok(record);
    }
    let message = format!("topic '{}' is the broker's own: its cleanup.policy is compact", record.name);
    Err(Failure::new(Error::InvalidConfig, message))
}

impl Topics {
    pub fn get(&self, name: &str) -> Option<&TopicRecord> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: &TopicId) -> Option<&TopicRecord> {
        self.by_name.get(self.names.get(id)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &TopicRecord> {
        self.by_name.values()
    }

    /// The identity of a partition that exists.
    pub fn partition_id(&self, partition: &TopicPartition) -> Option<TopicPartitionId> {
        let topic = self.get(&partition.topic)?;
        (0..topic.partitions).contains(&partition.partition).then_some((topic.id, partition.partition))
    }

    pub fn has(&self, (id, partition): TopicPartitionId) -> bool {
        self.by_id(&id).is_some_and(|topic| (0..topic.partitions).contains(&partition))
    }

    /// Another number after every change, in this process.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn put(&mut self, topic: TopicRecord) {
        self.version += 1;
        self.names.insert(topic.id, topic.name.clone());
        if let Some(before) = self.by_name.insert(topic.name.clone(), topic.clone())
            && before.id != topic.id
        {
            self.names.remove(&before.id);
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.version += 1;
        if let Some(topic) = self.by_name.remove(name) {
            self.names.remove(&topic.id);
        }
    }

    pub fn find(&self, topic: &TopicRef) -> Result<&TopicRecord, Error> {
        match topic {
            TopicRef::Name(name) => self.get(name).ok_or(Error::UnknownTopicOrPartition),
            TopicRef::Id(id) => self.by_id(id).ok_or(Error::UnknownTopicId),
        }
    }

    pub fn create(
        &mut self,
        cx: &mut Context,
        wanted: Vec<NewTopic>,
        validate_only: bool,
    ) -> Vec<TopicResult> {
        let (mut named, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for topic in &wanted {
            if !named.insert(topic.name.clone()) {
                twice.insert(topic.name.clone());
            }
        }
        let mut results = Vec::with_capacity(wanted.len());
        for topic in wanted {
            let result = match twice.contains(&topic.name) {
                true => Err(Failure::new(Error::InvalidRequest, "the topic is named twice in the request")),
                false => self.planned(cx, &topic),
            };
            results.push(TopicResult { name: topic.name, result: self.keep(cx, result, validate_only) });
        }
        results
    }

    fn planned(&self, cx: &mut Context, topic: &NewTopic) -> Result<TopicRecord, Failure> {
        self.check_name(&topic.name)?;
        let partitions =
            if topic.partitions == -1 { cx.settings.default_partitions } else { topic.partitions };
        if !(1..=cx.settings.max_partitions).contains(&partitions) {
            let message = format!(
                "topic '{}' cannot have {partitions} partitions: use 1 to {}",
                topic.name, cx.settings.max_partitions
            );
            return Err(Failure::new(Error::InvalidPartitions, message));
        }
        if !matches!(topic.replication_factor, -1 | 1) {
            let message = format!(
                "topic '{}' cannot have {} replicas: there is 1 broker, so use 1 (or -1 for the default)",
                topic.name, topic.replication_factor
            );
            return Err(Failure::new(Error::InvalidReplicationFactor, message));
        }
        if let Some(ours) = PublishedTopic::named(&topic.name) {
            return self.planned_published(cx, ours);
        }
        let configs = configs::initial(&topic.configs)?;
        Ok(TopicRecord { name: topic.name.clone(), id: cx.random.uuid(), partitions, configs })
    }

    /// One of Kafka's own topics is as the broker has it, whoever creates it.
    fn planned_published(&self, cx: &mut Context, topic: PublishedTopic) -> Result<TopicRecord, Failure> {
        let name = topic.name();
        if !cx.settings.internal_topics {
            let message =
                format!("topic '{name}' is the broker's own: set headwater.internal.topics.enable=true");
            return Err(Failure::new(Error::InvalidTopic, message));
        }
        let partitions = match topic {
            PublishedTopic::Offsets => cx.settings.offsets_topic_partitions,
            PublishedTopic::Transactions => cx.settings.transaction_log_partitions,
        };
        Ok(TopicRecord { name: name.to_owned(), id: cx.random.uuid(), partitions, configs: topic.configs() })
    }

    pub fn create_published(&mut self, cx: &mut Context, topic: PublishedTopic) {
        if self.get(topic.name()).is_none()
            && let Ok(record) = self.planned_published(cx, topic)
        {
            self.put(record.clone());
            cx.append(StateRecord::Topic(record));
        }
    }

    /// Gives a topic of the broker's own its cleanup policy back.
    pub fn compact_published(&mut self, cx: &mut Context, topic: PublishedTopic) {
        let Some(mut record) = self.get(topic.name()).cloned() else { return };
        record.configs.extend(topic.configs().into_iter().filter(|(key, _)| key == "cleanup.policy"));
        self.put(record.clone());
        cx.append(StateRecord::Topic(record));
    }

    fn check_name(&self, name: &str) -> Result<(), Failure> {
        if !is_legal(name) {
            return Err(Error::InvalidTopic.into());
        }
        if name == QUORUM {
            let message = format!("topic '{name}' is the metadata quorum's own: nobody can create it");
            return Err(Failure::new(Error::InvalidRequest, message));
        }
        if self.get(name).is_some() {
            return Err(Failure::new(Error::TopicAlreadyExists, format!("topic '{name}' exists")));
        }
        // Kafka's metric names turn '.' into '_', so both spellings may not exist together.
        let folded = name.replace('.', "_");
        let twin = |other: &&String| other.len() == name.len() && other.replace('.', "_") == folded;
        match name.contains(['.', '_']).then(|| self.by_name.keys().find(twin)).flatten() {
            Some(twin) => Err(Failure::new(
                Error::InvalidTopic,
                format!("topic '{name}' collides with '{twin}': they differ only in '.' and '_'"),
            )),
            None => Ok(()),
        }
    }

    /// Stores what was planned unless it failed or is only validated.
    fn keep(
        &mut self,
        cx: &mut Context,
        planned: Result<TopicRecord, Failure>,
        validate_only: bool,
    ) -> Result<TopicSummary, Failure> {
        let topic = planned?;
        let configs = topic.config_entries(&cx.broker_configs, None);
        let summary = TopicSummary { id: topic.id, partitions: topic.partitions, configs };
        if !validate_only {
            self.put(topic.clone());
            cx.append(StateRecord::Topic(topic));
        }
        Ok(summary)
    }

    pub fn create_partitions(
        &mut self,
        cx: &mut Context,
        wanted: Vec<NewPartitions>,
        validate_only: bool,
    ) -> Vec<TopicResult> {
        let mut results = Vec::with_capacity(wanted.len());
        for NewPartitions { name, count } in wanted {
            let planned = match self.get(&name) {
                None => Err(Error::UnknownTopicOrPartition.into()),
                Some(_) if PublishedTopic::named(&name).is_some() => Err(Failure::new(
                    Error::InvalidTopic,
                    format!(
                        "topic '{name}' is the broker's own, and its records are where its size puts them"
                    ),
                )),
                Some(topic) if count <= topic.partitions || count > cx.settings.max_partitions => {
                    Err(Failure::new(
                        Error::InvalidPartitions,
                        format!(
                            "topic '{name}' has {} partitions, so the new total must be from {} to {}, not {count}",
                            topic.partitions,
                            topic.partitions.saturating_add(1),
                            cx.settings.max_partitions
                        ),
                    ))
                }
                Some(topic) => Ok(TopicRecord { partitions: count, ..topic.clone() }),
            };
            let result = self.keep(cx, planned, validate_only);
            results.push(TopicResult { name, result });
        }
        results
    }

    pub fn describe(&self, wanted: Option<Vec<TopicRef>>) -> Vec<DescribedTopic> {
        let found = |topic: &TopicRecord| DescribedTopic {
            name: Some(topic.name.clone()),
            id: Some(topic.id),
            internal: is_internal(&topic.name),
            partitions: topic.partitions,
            error: None,
        };
        let Some(wanted) = wanted else { return self.iter().map(found).collect() };
        let missing = |topic: TopicRef, error| {
            let (name, id) = match topic {
                TopicRef::Name(name) => (Some(name), None),
                TopicRef::Id(id) => (None, Some(id)),
            };
            DescribedTopic { name, id, internal: false, partitions: 0, error: Some(error) }
        };
        wanted
            .into_iter()
            .map(|topic| match self.find(&topic) {
                Ok(record) => found(record),
                Err(error) => missing(topic, error),
            })
            .collect()
    }

    pub fn describe_configs(
        &self,
        broker: &BrokerConfigs,
        wanted: Vec<DescribeConfig>,
    ) -> Vec<DescribedConfigs> {
        let describe = |DescribeConfig { topic, keys }| {
            let entries = self.get(&topic).map(|record| record.config_entries(broker, keys.as_deref()));
            let missing = || match is_legal(&topic) {
                true => Error::UnknownTopicOrPartition.into(),
                false => Error::InvalidTopic.into(),
            };
            let result = entries.ok_or_else(missing);
            DescribedConfigs { topic, result }
        };
        wanted.into_iter().map(describe).collect()
    }

    pub fn alter_configs(
        &mut self,
        cx: &mut Context,
        wanted: Vec<AlterConfig>,
        validate_only: bool,
    ) -> Vec<TopicResult> {
        let mut results = Vec::with_capacity(wanted.len());
        for AlterConfig { topic, replace, changes } in wanted {
            let planned = match self.get(&topic) {
                None => Err(Error::UnknownTopicOrPartition.into()),
                Some(record) => configs::altered(&record.configs, replace, &changes)
                    .map(|configs| TopicRecord { configs, ..record.clone() })
                    .and_then(kept_as_made),
            };
            let result = self.keep(cx, planned, validate_only);
            results.push(TopicResult { name: topic, result });
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hide_kafkas_own_topics_and_no_others() {
        assert!(
            ["__consumer_offsets", "__transaction_state", "__share_group_state"].into_iter().all(is_internal)
        );
        assert!(!["__debezium-heartbeat.shop", "__mine", "_schemas", "orders"].into_iter().any(is_internal));
    }
}
