//! Topics and their configuration, which `admin/alter_configs.rs` changes. Access rules are in `admin/acls.rs`, groups in
//! `admin/groups.rs`, share groups in `admin/share_groups.rs`, positions in `admin/offsets.rs`, transactions in
//! `admin/transactions.rs`.
//!
//! Every call is repeated while its failure may heal, and ends with an error after `PATIENCE`.

mod acls;
mod alter_configs;
mod consumer_groups;
mod groups;
mod offsets;
mod share_groups;
mod streams_groups;
mod transactions;
mod users;

use std::collections::HashMap;
use std::ops::Range;

use headwater_model::{Offset, TopicPartition};
use headwater_wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequestData, CreatePartitionsTopic,
    CreateTopicsRequestData, DeleteRecordsPartition, DeleteRecordsRequestData, DeleteRecordsTopic,
    DeleteTopicsRequestData, DescribeConfigsRequestData, DescribeConfigsResource,
};
use headwater_wire::{ErrorCode, KafkaString};

use crate::call::Call;
use crate::cluster::Lane;
use crate::{Client, ClientError};

pub use groups::{GroupDescription, GroupListing, Member};
pub use offsets::OffsetSpec;
pub use share_groups::{ShareGroupDescription, ShareOffset};
pub use transactions::TransactionDescription;
pub use users::UserListing;

const TOPIC_RESOURCE: i8 = 2;
/// `DescribeConfigs` says so of a value nobody has set.
const DEFAULT_CONFIG: i8 = 5;
/// And so of one that was set for the topic itself.
const TOPIC_CONFIG: i8 = 1;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1: what the broker is configured to.
    pub replication: i16,
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, replication: -1, configs: Vec::new() }
    }

    #[must_use]
    pub fn replication(mut self, factor: i16) -> Self {
        self.replication = factor;
        self
    }

    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }
}

/// One configured value of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    pub value: Option<String>,
    /// Nobody has set it for this topic.
    pub is_default: bool,
    /// It was set for this topic itself; otherwise the value is the broker's.
    pub is_own: bool,
    pub read_only: bool,
    /// The broker keeps the value to itself.
    pub sensitive: bool,
}

pub(crate) fn text(from: &str) -> KafkaString {
    KafkaString::from(from.to_owned())
}

pub(crate) fn by_topic<'a, T>(
    entries: impl IntoIterator<Item = (&'a TopicPartition, T)>,
) -> HashMap<&'a str, Vec<(i32, T)>> {
    let mut topics: HashMap<&str, Vec<(i32, T)>> = HashMap::new();
    for (at, value) in entries {
        topics.entry(&at.topic).or_default().push((at.partition, value));
    }
    topics
}

impl Client {
    /// Calls whichever broker answers, again while `check` names something that may heal.
    async fn ask<C: Call, T>(
        &self,
        request: &C,
        check: impl Fn(C::Response) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut pause = self.patience();
        loop {
            let error = match self.call_any(request).await.and_then(&check) {
                Err(error) if error.is_retriable() => error,
                outcome => return outcome,
            };
            pause.wait(C::NAME, error).await?;
        }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.request_timeout().as_millis()).unwrap_or(i32::MAX)
    }

    /// Creates a topic; `TopicExists` when there is one of that name.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), ClientError> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let wanted = CreatableTopic::default()
            .with_name(text(&topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication)
            .with_configs(topic.configs.iter().map(config).collect());
        let request =
            CreateTopicsRequestData::default().with_topics(vec![wanted]).with_timeout_ms(self.timeout_ms());
        self.forget_topic(&topic.name);
        self.ask(&request, |answer| {
            let result = answer.topics.first();
            let code = result.map_or(0, |result| result.error_code);
            if ErrorCode::from(code) == ErrorCode::TopicAlreadyExists {
                return Err(ClientError::TopicExists(topic.name.clone()));
            }
            let message = result.and_then(|result| result.error_message.as_ref());
            ClientError::check(code, message, || format!("create topic {}", topic.name))
        })
        .await
    }

    /// Creates a topic unless it exists, and waits until each of its partitions has a leader.
    pub async fn ensure_topic(&self, topic: NewTopic) -> Result<(), ClientError> {
        let name = topic.name.clone();
        match self.create_topic(topic).await {
            Ok(()) | Err(ClientError::TopicExists(_)) => {}
            Err(error) => return Err(error),
        }
        self.until_led(&name, 0, 1).await
    }

    /// Waits until a topic has `least` partitions, and each from `first` on a leader: Apache Kafka answers when its controller
    /// knows of a change, and its brokers learn of it later.
    async fn until_led(&self, name: &str, first: i32, least: i32) -> Result<(), ClientError> {
        let mut pause = self.patience();
        loop {
            let error = match self.topic(name).await {
                Ok(Some(info)) if info.partitions >= least && self.all_led(name, first..info.partitions) => {
                    return Ok(());
                }
                Ok(_) => ClientError::kafka(
                    format!("wait for the leaders of {name}"),
                    ErrorCode::LeaderNotAvailable.code(),
                    None,
                ),
                Err(error) if error.is_retriable() => error,
                Err(error) => return Err(error),
            };
            pause.wait(name, error).await?;
        }
    }

    fn all_led(&self, topic: &str, mut partitions: Range<i32>) -> bool {
        partitions.all(|partition| self.cached_leader(topic, partition).is_some())
    }

    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequestData::default()
            .with_topic_names(vec![text(name)])
            .with_timeout_ms(self.timeout_ms());
        self.forget_topic(name);
        self.ask(&request, |answer| {
            let result = answer.responses.first();
            let code = result.map_or(0, |result| result.error_code);
            if ErrorCode::from(code) == ErrorCode::UnknownTopicOrPartition {
                return Err(ClientError::UnknownTopic(name.to_owned()));
            }
            let message = result.and_then(|result| result.error_message.as_ref());
            ClientError::check(code, message, || format!("delete topic {name}"))
        })
        .await
    }

    /// Raises the number of partitions to `total`, and waits until each of the new ones has a leader.
    pub async fn create_partitions(&self, name: &str, total: i32) -> Result<(), ClientError> {
        let before = self.topic(name).await?.map_or(0, |info| info.partitions);
        let wanted =
            CreatePartitionsTopic::default().with_name(text(name)).with_count(total).with_assignments(None);
        let request = CreatePartitionsRequestData::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(self.timeout_ms());
        let done = self.ask(&request, |answer| {
            let result = answer.results.first();
            let code = result.map_or(0, |result| result.error_code);
            if ErrorCode::from(code) == ErrorCode::UnknownTopicOrPartition {
                return Err(ClientError::UnknownTopic(name.to_owned()));
            }
            let message = result.and_then(|result| result.error_message.as_ref());
            ClientError::check(code, message, || format!("give topic {name} {total} partitions"))
        });
        let done = done.await;
        self.forget_topic(name);
        done?;
        self.until_led(name, before, total).await
    }

    /// Every configured value of a topic, defaults included.
    pub async fn topic_configs(&self, name: &str) -> Result<Vec<ConfigEntry>, ClientError> {
        self.configs_of_topic(name, None).await
    }

    /// One value of a topic; `None` where the broker knows no such key.
    pub async fn topic_config(&self, name: &str, key: &str) -> Result<Option<ConfigEntry>, ClientError> {
        let entries = self.configs_of_topic(name, Some(vec![text(key)])).await?;
        Ok(entries.into_iter().find(|entry| entry.name == key))
    }

    async fn configs_of_topic(
        &self,
        name: &str,
        keys: Option<Vec<KafkaString>>,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let wanted = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configuration_keys(keys);
        let request = DescribeConfigsRequestData::default().with_resources(vec![wanted]);
        self.ask(&request, |answer| {
            let Some(result) = answer.results.into_iter().next() else {
                return Err(ClientError::UnknownTopic(name.to_owned()));
            };
            if ErrorCode::from(result.error_code) == ErrorCode::UnknownTopicOrPartition {
                return Err(ClientError::UnknownTopic(name.to_owned()));
            }
            let what = || format!("describe the configuration of {name}");
            ClientError::check(result.error_code, result.error_message.as_ref(), what)?;
            let entry = |config: headwater_wire::messages::DescribeConfigsResourceResult| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_default: config.config_source == DEFAULT_CONFIG,
                is_own: config.config_source == TOPIC_CONFIG,
                read_only: config.read_only,
                sensitive: config.is_sensitive,
            };
            Ok(result.configs.into_iter().map(entry).collect())
        })
        .await
    }

    /// Deletes what lies before each offset.
    pub async fn delete_records(&self, before: &[(TopicPartition, Offset)]) -> Result<(), ClientError> {
        let mut left: Vec<(TopicPartition, Offset)> = before.to_vec();
        let mut pause = self.patience();
        loop {
            let (again, error) = self.delete_records_once(left).await?;
            let Some(error) = error else { return Ok(()) };
            left = again;
            pause.wait("delete records", error).await?;
        }
    }

    /// What must be tried again, and why.
    async fn delete_records_once(
        &self,
        wanted: Vec<(TopicPartition, Offset)>,
    ) -> Result<(Vec<(TopicPartition, Offset)>, Option<ClientError>), ClientError> {
        let (mut again, mut last) = (Vec::new(), None);
        for (address, part) in self.by_leader(wanted, |(at, _)| at).await? {
            match self.delete_records_at(&address, &part).await {
                Ok(()) => {}
                Err(error) if error.is_retriable() => {
                    part.iter().for_each(|(at, _)| self.forget_topic(&at.topic));
                    again.extend(part);
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((again, last))
    }

    async fn delete_records_at(
        &self,
        address: &str,
        part: &[(TopicPartition, Offset)],
    ) -> Result<(), ClientError> {
        let topics =
            by_topic(part.iter().map(|(at, offset)| (at, *offset))).into_iter().map(|(name, list)| {
                let partition = |(index, offset): (i32, Offset)| {
                    DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset)
                };
                DeleteRecordsTopic::default()
                    .with_name(text(name))
                    .with_partitions(list.into_iter().map(partition).collect())
            });
        let request = DeleteRecordsRequestData::default()
            .with_topics(topics.collect())
            .with_timeout_ms(self.timeout_ms());
        let connection = self.connection(Lane::ADMIN, address).await?;
        let answer = connection.call(&request, self.request_timeout()).await?;
        for topic in &answer.topics {
            for result in &topic.partitions {
                let what = || format!("delete records of {}/{}", topic.name, result.partition_index);
                ClientError::check(result.error_code, None, what)?;
            }
        }
        Ok(())
    }

    /// Splits by the leader that must be asked; waits for leaders that are not known.
    pub(crate) async fn by_leader<T>(
        &self,
        wanted: Vec<T>,
        at: impl Fn(&T) -> &TopicPartition,
    ) -> Result<HashMap<String, Vec<T>>, ClientError> {
        let mut parts: HashMap<String, Vec<T>> = HashMap::new();
        for item in wanted {
            let of = at(&item);
            let mut pause = self.patience();
            let address = loop {
                match self.leader(&of.topic, of.partition).await {
                    Ok(address) => break address,
                    Err(error) if error.is_retriable() => pause.wait("find a leader", error).await?,
                    Err(error) => return Err(error),
                }
            };
            parts.entry(address).or_default().push(item);
        }
        Ok(parts)
    }
}
