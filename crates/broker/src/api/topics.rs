//! Creating, growing and deleting topics.

use headwater_coordinator::{
    ConfigEntry, DeletedTopic, NewPartitions, NewTopic, Request, Response, TopicRef, TopicResult,
};
use headwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use headwater_wire::messages::create_partitions_response::{
    CreatePartitionsResponseData, CreatePartitionsTopicResult,
};
use headwater_wire::messages::create_topics_request::CreatableTopic;
use headwater_wire::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponseData,
};
use headwater_wire::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponseData};
use headwater_wire::messages::{
    CreatePartitionsRequestData, CreateTopicsRequestData, DeleteTopicsRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::configs::source;
use super::{Call, CallError, optional, text, uuid};
use crate::NODE_ID;

const ONE_REPLICA: &str = "every partition has one replica, on the only broker, which is 1";
/// From here on topics are deleted by name or id.
const BY_ID: i16 = 6;

pub async fn create(
    call: &Call,
    request: CreateTopicsRequestData,
) -> Result<CreateTopicsResponseData, CallError> {
    let (possible, impossible): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(assigns_to_us);
    let topics = possible.iter().map(new_topic).collect();
    let create = Request::CreateTopics { topics, validate_only: request.validate_only };
    let Response::CreateTopics(results) = call.ask(create).await? else { return Err(call.mismatch()) };
    let impossible = impossible.into_iter().map(|topic| {
        CreatableTopicResult::default()
            .with_name(topic.name)
            .with_error_code(ErrorCode::InvalidReplicaAssignment.code())
            .with_error_message(Some(KafkaString::from_static(ONE_REPLICA)))
    });
    let topics = results.into_iter().map(created).chain(impossible).collect();
    Ok(CreateTopicsResponseData::default().with_topics(topics))
}

fn grows_on_us(topic: &CreatePartitionsTopic) -> bool {
    topic.assignments.iter().flatten().all(|assignment| assignment.broker_ids == [NODE_ID])
}

fn assigns_to_us(topic: &CreatableTopic) -> bool {
    topic.assignments.iter().all(|assignment| assignment.broker_ids == [NODE_ID])
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let configs = topic.configs.iter().map(|config| (text(&config.name), optional(&config.value)));
    let assigned = i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX);
    NewTopic {
        name: text(&topic.name),
        partitions: if assigned > 0 { assigned } else { topic.num_partitions },
        replication_factor: topic.replication_factor,
        configs: configs.collect(),
    }
}

fn created(TopicResult { name, result }: TopicResult) -> CreatableTopicResult {
    let response = CreatableTopicResult::default().with_name(name.into());
    match result {
        Ok(topic) => response
            .with_topic_id(uuid(topic.id))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(1)
            .with_configs(Some(topic.configs.into_iter().map(config).collect())),
        Err(failure) => response
            .with_error_code(failure.error.code())
            .with_error_message(Some(failure.message.into()))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(Some(Vec::new())),
    }
}

fn config(entry: ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_config_source(source(&entry))
        .with_name(entry.name.to_owned().into())
        .with_value(Some(entry.value.into()))
}

pub async fn create_partitions(
    call: &Call,
    request: CreatePartitionsRequestData,
) -> Result<CreatePartitionsResponseData, CallError> {
    let (possible, impossible): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(grows_on_us);
    let topics = possible.iter().map(|topic| NewPartitions { name: text(&topic.name), count: topic.count });
    let create = Request::CreatePartitions { topics: topics.collect(), validate_only: request.validate_only };
    let Response::CreatePartitions(results) = call.ask(create).await? else { return Err(call.mismatch()) };
    let results = results.into_iter().map(|TopicResult { name, result }| {
        let response = CreatePartitionsTopicResult::default().with_name(name.into());
        match result {
            Ok(_) => response,
            Err(failure) => response
                .with_error_code(failure.error.code())
                .with_error_message(Some(failure.message.into())),
        }
    });
    let impossible = impossible.into_iter().map(|topic| {
        CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(ErrorCode::InvalidReplicaAssignment.code())
            .with_error_message(Some(KafkaString::from_static(ONE_REPLICA)))
    });
    Ok(CreatePartitionsResponseData::default().with_results(results.chain(impossible).collect()))
}

pub async fn delete(
    call: &Call,
    request: DeleteTopicsRequestData,
) -> Result<DeleteTopicsResponseData, CallError> {
    let topics = match call.version >= BY_ID {
        true => request
            .topics
            .iter()
            .map(|topic| match &topic.name {
                Some(name) => TopicRef::Name(text(name)),
                None => TopicRef::Id(topic.topic_id.to_bytes()),
            })
            .collect(),
        false => request.topic_names.iter().map(|name| TopicRef::Name(text(name))).collect(),
    };
    let Response::DeleteTopics(deleted) = call.ask(Request::DeleteTopics(topics)).await? else {
        return Err(call.mismatch());
    };
    let responses = deleted.into_iter().map(|DeletedTopic { name, id, error }| {
        DeletableTopicResult::default()
            .with_name(name.map(Into::into))
            .with_topic_id(id.map(uuid).unwrap_or_default())
            .with_error_code(headwater_coordinator::code(error))
            .with_error_message(error.map(|error| error.to_string().into()))
    });
    Ok(DeleteTopicsResponseData::default().with_responses(responses.collect()))
}
