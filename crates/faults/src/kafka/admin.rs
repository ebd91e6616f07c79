//! Topics, their configuration, deleted records and committed positions.

use headwater_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use headwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use headwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use headwater_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use headwater_wire::messages::{
    CreateTopicsRequestData, DeleteRecordsRequestData, DeleteTopicsRequestData, DescribeConfigsRequestData,
    IncrementalAlterConfigsRequestData, MetadataRequestData, OffsetCommitRequestData, OffsetFetchRequestData,
};

use super::{At, Connection, Failure};

const TIMEOUT_MS: i32 = 30_000;
const TOPIC: i8 = 2;

#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub configs: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: String,
    pub partitions: i32,
    pub internal: bool,
}

fn empty(what: &str) -> Failure {
    Failure::Malformed(format!("an empty {what} answer"))
}

impl Connection {
    pub fn topics(&mut self) -> Result<Vec<TopicMetadata>, Failure> {
        let request = MetadataRequestData::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answer = self.call(&request)?;
        let metadata = answer.topics.into_iter().map(|topic| TopicMetadata {
            name: topic.name.map(|name| name.to_string()).unwrap_or_default(),
            partitions: topic.partitions.len() as i32,
            internal: topic.is_internal,
        });
        Ok(metadata.collect())
    }

    pub fn create_topic(&mut self, topic: &NewTopic) -> Result<(), Failure> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default()
                .with_name(name.clone().into())
                .with_value(Some(value.clone().into()))
        };
        let wanted = CreatableTopic::default()
            .with_name(topic.name.clone().into())
            .with_num_partitions(topic.partitions)
            .with_replication_factor(1)
            .with_configs(topic.configs.iter().map(config).collect());
        let request =
            CreateTopicsRequestData::default().with_topics(vec![wanted]).with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(&request)?;
        let result = answer.topics.first().ok_or_else(|| empty("create topics"))?;
        let message = result.error_message.as_ref().map(|text| text.as_str());
        Failure::check("create topic", result.error_code, message)
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<(), Failure> {
        let request = DeleteTopicsRequestData::default()
            .with_topic_names(vec![name.to_owned().into()])
            .with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(&request)?;
        let result = answer.responses.first().ok_or_else(|| empty("delete topics"))?;
        Failure::check("delete topic", result.error_code, None)
    }

    /// Deletes what lies before `offset`; the partition's first offset after that.
    pub fn delete_records(&mut self, at: &At, offset: i64) -> Result<i64, Failure> {
        let partition = DeleteRecordsPartition::default().with_partition_index(at.1).with_offset(offset);
        let topic =
            DeleteRecordsTopic::default().with_name(at.0.clone().into()).with_partitions(vec![partition]);
        let request =
            DeleteRecordsRequestData::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let answer = self.call(&request)?;
        let result = answer.topics.first().and_then(|topic| topic.partitions.first());
        let result = result.ok_or_else(|| empty("delete records"))?;
        Failure::check("delete records", result.error_code, None)?;
        Ok(result.low_watermark)
    }

    pub fn set_config(&mut self, topic: &str, name: &str, value: &str) -> Result<(), Failure> {
        let config = AlterableConfig::default()
            .with_name(name.to_owned().into())
            .with_config_operation(0)
            .with_value(Some(value.to_owned().into()));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(topic.to_owned().into())
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
        let answer = self.call(&request)?;
        let result = answer.responses.first().ok_or_else(|| empty("alter configs"))?;
        Failure::check("alter config", result.error_code, None)
    }

    pub fn config(&mut self, topic: &str, name: &str) -> Result<Option<String>, Failure> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(topic.to_owned().into())
            .with_configuration_keys(Some(vec![name.to_owned().into()]));
        let request = DescribeConfigsRequestData::default().with_resources(vec![resource]);
        let answer = self.call(&request)?;
        let result = answer.results.first().ok_or_else(|| empty("describe configs"))?;
        Failure::check("describe configs", result.error_code, None)?;
        Ok(result.configs.first().and_then(|config| config.value.as_ref()).map(|value| value.to_string()))
    }

    pub fn commit_offset(&mut self, group: &str, at: &At, offset: i64) -> Result<(), Failure> {
        let partition =
            OffsetCommitRequestPartition::default().with_partition_index(at.1).with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(at.0.clone().into())
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequestData::default()
            .with_group_id(group.to_owned().into())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.call(&request)?;
        let result = answer.topics.first().and_then(|topic| topic.partitions.first());
        let result = result.ok_or_else(|| empty("offset commit"))?;
        Failure::check("commit offset", result.error_code, None)
    }

    /// The committed position; -1 when there is none.
    pub fn committed_offset(&mut self, group: &str, at: &At) -> Result<i64, Failure> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(at.0.clone().into())
            .with_partition_indexes(vec![at.1]);
        let request = OffsetFetchRequestData::default()
            .with_group_id(group.to_owned().into())
            .with_topics(Some(vec![topic]));
        let answer = self.call(&request)?;
        Failure::check("fetch offset", answer.error_code, None)?;
        let result = answer.topics.first().and_then(|topic| topic.partitions.first());
        let result = result.ok_or_else(|| empty("offset fetch"))?;
        Failure::check("fetch offset", result.error_code, None)?;
        Ok(result.committed_offset)
    }
}
