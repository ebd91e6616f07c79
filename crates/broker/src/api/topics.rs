//! Creating, growing and deleting topics.

use std::collections::HashSet;

use headwater_coordinator::{
    ConfigEntry, DeletedTopic, NewPartitions, NewTopic, Request, Response, TopicRef, TopicResult,
    is_legal_topic,
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
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid};

use super::configs::source;
use super::rights::{self, Right};
use super::{Call, CallError, once_by, optional, text, uuid};
use crate::NODE_ID;

const ONE_REPLICA: &str = "every partition has one replica, on the only broker, which is 1";
const TOLD_TWICE: &str =
    "who assigns replicas says neither how many partitions nor how many replicas: both are -1 then";
const CONSECUTIVE: &str = "replicas must be assigned to partitions 0, 1, 2 … without a gap, to each once";
const ONE_EACH: &str = "replicas must be assigned to each partition that is added, and to no others";
/// As Apache Kafka has it: a short request would else make more than the broker can hold, and with each start again.
pub const MOST_PARTITIONS: i32 = 10_000;
const TOO_MANY: &str =
    "a request makes 10,000 partitions at most, and names no more topics: make the others with another one";
const NEITHER: &str = "a topic is deleted by its name or its id, and neither is given";
const BOTH: &str = "a topic is deleted by its name or its id, not by both";
const TWICE: &str = "the topic is named twice in the request";
/// From here on topics are deleted by name or id.
const BY_ID: i16 = 6;
/// KIP-599: from these versions on a client knows THROTTLING_QUOTA_EXCEEDED.
const CREATE_KNOWS_QUOTA: i16 = 6;
const PARTITIONS_KNOW_QUOTA: i16 = 3;
const DELETE_KNOWS_QUOTA: i16 = 5;

pub async fn create(
    call: &Call,
    request: CreateTopicsRequestData,
) -> Result<CreateTopicsResponseData, CallError> {
    let (topics, twice) = named_once(request.topics, |topic| topic.name.as_str());
    let (allowed, refused) = match call.sees_cluster(rights::CREATE_CLUSTER) {
        true => (topics, Vec::new()),
        false => call.part(rights::CREATE_TOPIC, topics, |topic| topic.name.as_str()),
    };
    // Whatever its replicas, a topic that is there, or cannot be, is refused for that.
    let may_be = |name: &str| is_legal_topic(name) && call.shared.catalog.by_name(name).is_none();
    let (impossible, possible): (Vec<_>, Vec<_>) =
        allowed.into_iter().partition(|topic| may_be(topic.name.as_str()) && misassigned(topic).is_some());
    let topics: Vec<NewTopic> = possible.iter().map(|topic| new_topic(call, topic)).collect();
    let default = call.shared.config.default_partitions;
    let cost = |topic: &NewTopic| match call.shared.catalog.by_name(&topic.name) {
        Some(_) => 0,
        None if topic.partitions < 0 => default,
        None => topic.partitions,
    };
    let (topics, beyond) = at_once(topics, cost);
    let free = request.validate_only;
    let (topics, throttled) = within_quota(call, topics, free, CREATE_KNOWS_QUOTA, cost);
    let create = Request::CreateTopics { topics, validate_only: request.validate_only };
    let Response::CreateTopics(results) = call.ask(create).await? else { return Err(call.mismatch()) };
    let impossible = impossible.into_iter().map(|topic| {
        let (code, message) = misassigned(&topic).unwrap_or((ErrorCode::InvalidRequest, ONE_REPLICA));
        unmade(text(&topic.name))
            .with_error_code(code.code())
            .with_error_message(Some(KafkaString::from_static(message)))
    });
    let refused = refused.into_iter().map(|topic| {
        let (code, message) = refusal(rights::CREATE_TOPIC);
        unmade(text(&topic.name)).with_error_code(code).with_error_message(Some(message.into()))
    });
    tell_of(call, rights::CREATE_TOPIC, &results, request.validate_only);
    let created =
        results.into_iter().map(|result| match call.sees(rights::DESCRIBE_TOPIC_CONFIGS, &result.name) {
            true => created(result),
            false => without_configs(created(result)),
        });
    let throttled = throttled.into_iter().map(|topic| {
        let (code, message) = over_quota();
        unmade(topic.name).with_error_code(code).with_error_message(message)
    });
    let beyond = beyond.into_iter().map(|topic| {
        unmade(topic.name)
            .with_error_code(ErrorCode::PolicyViolation.code())
            .with_error_message(Some(KafkaString::from_static(TOO_MANY)))
    });
    let twice = twice.into_iter().map(|name| {
        unmade(name)
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_error_message(Some(KafkaString::from_static(TWICE)))
    });
    let topics =
        created.chain(impossible).chain(refused).chain(throttled).chain(beyond).chain(twice).collect();
    Ok(CreateTopicsResponseData::default().with_topics(topics))
}

/// Parts the topics that are named once from the names that come again: nothing is done for those, as it is not clear what.
fn named_once<T>(mut topics: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Vec<String>) {
    let (mut seen, mut again) = (HashSet::new(), HashSet::new());
    let mut twice = Vec::new();
    for topic in &topics {
        let name = name(topic);
        if !seen.insert(name) && again.insert(name.to_owned()) {
            twice.push(name.to_owned());
        }
    }
    topics.retain(|topic| !again.contains(name(topic)));
    (topics, twice)
}

/// What is wrong with the replicas that its creator wants for each partition, if anything is.
fn misassigned(topic: &CreatableTopic) -> Option<(ErrorCode, &'static str)> {
    if topic.assignments.is_empty() {
        return None;
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Some((ErrorCode::InvalidRequest, TOLD_TWICE));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|assigned| assigned.partition_index).collect();
    indexes.sort_unstable();
    if !(0..).zip(&indexes).all(|(expected, index)| expected == *index) {
        return Some((ErrorCode::InvalidReplicaAssignment, CONSECUTIVE));
    }
    let to_us = topic.assignments.iter().all(|assigned| assigned.broker_ids == [NODE_ID]);
    (!to_us).then_some((ErrorCode::InvalidReplicaAssignment, ONE_REPLICA))
}

/// The same for partitions that are added; a topic that is not there has another error.
fn misgrown(call: &Call, topic: &CreatePartitionsTopic) -> Option<&'static str> {
    let assigned = topic.assignments.as_ref()?;
    let there = call.shared.catalog.by_name(topic.name.as_str())?.record.partitions;
    if topic.count <= there {
        return None;
    }
    if i32::try_from(assigned.len()).ok() != topic.count.checked_sub(there) {
        return Some(ONE_EACH);
    }
    let to_us = assigned.iter().all(|assignment| assignment.broker_ids == [NODE_ID]);
    (!to_us).then_some(ONE_REPLICA)
}

fn new_topic(call: &Call, topic: &CreatableTopic) -> NewTopic {
    let configs = topic.configs.iter().map(|config| (text(&config.name), optional(&config.value)));
    let mut configs = configs.collect();
    call.owning(topic.name.as_str(), &mut configs);
    let assigned = i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX);
    NewTopic {
        name: text(&topic.name),
        partitions: if assigned > 0 { assigned } else { topic.num_partitions },
        replication_factor: topic.replication_factor,
        configs,
    }
}

fn tell_of(call: &Call, right: Right, results: &[TopicResult], validate_only: bool) {
    let done = results.iter().filter_map(|one| Some((&one.name, one.result.as_ref().ok()?)));
    for (name, topic) in done.filter(|_| !validate_only) {
        call.changed(right, name, || Some(format!("{} partitions", topic.partitions)));
    }
}

/// All of them, or none where one request would make too many partitions or names too many topics: those come second. A
/// topic that is too large by itself is refused with a reason of its own.
fn at_once<T>(topics: Vec<T>, cost: impl Fn(&T) -> i32) -> (Vec<T>, Vec<T>) {
    let legal = topics.iter().map(cost).filter(|cost| (0..=MOST_PARTITIONS).contains(cost));
    let partitions: i64 = legal.map(i64::from).sum();
    match partitions.max(topics.len() as i64) > i64::from(MOST_PARTITIONS) {
        true => (Vec::new(), topics),
        false => (topics, Vec::new()),
    }
}

/// Parts what the quota of the client lets through from what it must ask for later.
fn within_quota<T>(
    call: &Call,
    topics: Vec<T>,
    free: bool,
    knows_error: i16,
    cost: impl Fn(&T) -> i32,
) -> (Vec<T>, Vec<T>) {
    let knows = call.version >= knows_error;
    topics.into_iter().partition(|topic| {
        // What cannot be done costs nothing, and is refused with a reason of its own.
        let cost = if free { 0 } else { cost(topic).max(0) };
        cost == 0 || call.mutate(cost, knows).is_ok()
    })
}

fn over_quota() -> (i16, Option<KafkaString>) {
    let message = "the client's controller_mutation_rate is used up: try again after the throttle time";
    (ErrorCode::ThrottlingQuotaExceeded.code(), Some(KafkaString::from_static(message)))
}

/// 0 for a topic that is not there.
fn partitions_of(call: &Call, topic: &TopicRef) -> i32 {
    let found = match topic {
        TopicRef::Name(name) => call.shared.catalog.by_name(name),
        TopicRef::Id(id) => call.shared.catalog.by_id(id),
    };
    found.map_or(0, |topic| topic.record.partitions)
}

/// Code and message for whoever lacks a right.
fn refusal(right: Right) -> (i16, String) {
    let Right { operation, on } = right;
    (right.refusal().code(), format!("the client may not {operation} this {on}: see headwater acl list"))
}

fn unmade(name: String) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name.into())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

/// The topic is there, and its configuration is hidden (KIP-525).
fn without_configs(result: CreatableTopicResult) -> CreatableTopicResult {
    match result.error_code {
        0 => result
            .with_topic_config_error_code(rights::DESCRIBE_TOPIC_CONFIGS.refusal().code())
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(Some(Vec::new())),
        _ => result,
    }
}

fn created(TopicResult { name, result }: TopicResult) -> CreatableTopicResult {
    let response = unmade(name);
    match result {
        Ok(topic) => response
            .with_topic_id(uuid(topic.id))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(1)
            .with_configs(Some(topic.configs.into_iter().map(config).collect())),
        Err(failure) => {
            response.with_error_code(failure.error.code()).with_error_message(Some(failure.message.into()))
        }
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
    let (topics, twice) = named_once(request.topics, |topic| topic.name.as_str());
    let (possible, impossible): (Vec<_>, Vec<_>) =
        topics.into_iter().partition(|topic| misgrown(call, topic).is_none());
    let new = |topic: &CreatePartitionsTopic| NewPartitions { name: text(&topic.name), count: topic.count };
    let topics = possible.iter().map(new).collect();
    let (topics, refused) = call.part(rights::ALTER_TOPIC, topics, |topic: &NewPartitions| &topic.name);
    let cost = |topic: &NewPartitions| {
        topic.count.saturating_sub(partitions_of(call, &TopicRef::Name(topic.name.clone())))
    };
    let (topics, beyond) = at_once(topics, cost);
    let (topics, throttled) = within_quota(call, topics, request.validate_only, PARTITIONS_KNOW_QUOTA, cost);
    let create = Request::CreatePartitions { topics, validate_only: request.validate_only };
    let Response::CreatePartitions(results) = call.ask(create).await? else { return Err(call.mismatch()) };
    tell_of(call, rights::ALTER_TOPIC, &results, request.validate_only);
    let refused = refused.into_iter().map(|topic| {
        let (code, message) = refusal(rights::ALTER_TOPIC);
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.into())
            .with_error_code(code)
            .with_error_message(Some(message.into()))
    });
    let throttled = throttled.into_iter().map(|topic| {
        let (code, message) = over_quota();
        let response = CreatePartitionsTopicResult::default().with_name(topic.name.into());
        response.with_error_code(code).with_error_message(message)
    });
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
        let response = CreatePartitionsTopicResult::default();
        let (code, message) = match call.check(rights::ALTER_TOPIC, topic.name.as_str()) {
            Ok(()) => {
                let why = misgrown(call, &topic).unwrap_or(ONE_REPLICA);
                (ErrorCode::InvalidReplicaAssignment.code(), why.to_owned())
            }
            Err(_) => refusal(rights::ALTER_TOPIC),
        };
        response.with_name(topic.name).with_error_code(code).with_error_message(Some(message.into()))
    });
    let beyond = beyond.into_iter().map(|topic| {
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.into())
            .with_error_code(ErrorCode::PolicyViolation.code())
            .with_error_message(Some(KafkaString::from_static(TOO_MANY)))
    });
    let twice = twice.into_iter().map(|name| {
        CreatePartitionsTopicResult::default()
            .with_name(name.into())
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_error_message(Some(KafkaString::from_static(TWICE)))
    });
    let results =
        results.chain(impossible).chain(refused).chain(throttled).chain(beyond).chain(twice).collect();
    Ok(CreatePartitionsResponseData::default().with_results(results))
}

pub async fn delete(
    call: &Call,
    request: DeleteTopicsRequestData,
) -> Result<DeleteTopicsResponseData, CallError> {
    let (topics, mut unclear) = meant(call, request);
    let any = call.sees_cluster(rights::DELETE_CLUSTER);
    let mut refused = Vec::new();
    let mut allowed = Vec::with_capacity(topics.len());
    for topic in topics {
        // Without a look at the topic's own rules, which would tell of a refusal.
        let may = if any { Ok(()) } else { may_delete(call, &topic) };
        match may {
            Ok(()) => allowed.push(topic),
            Err(name) => refused.push((name, topic)),
        }
    }
    told_twice(call, &mut allowed, &mut unclear);
    let cost = |topic: &TopicRef| partitions_of(call, topic);
    let (topics, throttled) = within_quota(call, allowed, false, DELETE_KNOWS_QUOTA, cost);
    let Response::DeleteTopics(deleted) = call.ask(Request::DeleteTopics(topics)).await? else {
        return Err(call.mismatch());
    };
    for topic in deleted.iter().filter(|topic| topic.error.is_none()) {
        call.changed(rights::DELETE_TOPIC, topic.name.as_deref().unwrap_or_default(), || None);
    }
    let responses = deleted.into_iter().map(|DeletedTopic { name, id, error }| {
        DeletableTopicResult::default()
            .with_name(name.map(Into::into))
            .with_topic_id(id.map(uuid).unwrap_or_default())
            .with_error_code(headwater_coordinator::code(error))
            .with_error_message(error.map(|error| error.to_string().into()))
    });
    let refused = refused.into_iter().map(|(name, topic)| {
        let (code, message) = refusal(rights::DELETE_TOPIC);
        let id = if let TopicRef::Id(id) = topic { uuid(id) } else { KafkaUuid::default() };
        DeletableTopicResult::default()
            .with_name(name.map(Into::into))
            .with_topic_id(id)
            .with_error_code(code)
            .with_error_message(Some(message.into()))
    });
    let throttled = throttled.into_iter().map(|topic| {
        let (code, message) = over_quota();
        let response = DeletableTopicResult::default().with_error_code(code).with_error_message(message);
        match topic {
            TopicRef::Name(name) => response.with_name(Some(name.into())),
            TopicRef::Id(id) => response.with_topic_id(uuid(id)),
        }
    });
    Ok(DeleteTopicsResponseData::default()
        .with_responses(responses.chain(refused).chain(throttled).chain(unclear).collect()))
}

/// What the request names once; second, what is not deleted because it is not clear which topic is meant.
fn meant(call: &Call, request: DeleteTopicsRequestData) -> (Vec<TopicRef>, Vec<DeletableTopicResult>) {
    let (mut topics, mut unclear) = (Vec::new(), Vec::new());
    if call.version < BY_ID {
        topics.extend(request.topic_names.iter().map(|name| TopicRef::Name(text(name))));
    } else {
        for topic in request.topics {
            let id = topic.topic_id;
            match topic.name {
                Some(name) if id.is_nil() => topics.push(TopicRef::Name(text(&name))),
                None if !id.is_nil() => topics.push(TopicRef::Id(id.to_bytes())),
                None => unclear.push(misnamed(None, id, NEITHER)),
                Some(name) => unclear.push(misnamed(Some(name), id, BOTH)),
            }
        }
    }
    let mut twice = HashSet::new();
    let mut seen = HashSet::new();
    for topic in &topics {
        if !seen.insert(topic) && twice.insert(topic.clone()) {
            unclear.push(match topic {
                TopicRef::Name(name) => misnamed(Some(name.clone().into()), KafkaUuid::default(), TWICE),
                TopicRef::Id(id) => misnamed(None, uuid(*id), TWICE),
            });
        }
    }
    topics.retain(|topic| !twice.contains(topic));
    once_by(&mut unclear, |topic| (topic.name.clone(), topic.topic_id));
    (topics, unclear)
}

/// Takes out what is meant by its name and by its id. Only who may delete the topic is told that they belong together.
fn told_twice(call: &Call, allowed: &mut Vec<TopicRef>, unclear: &mut Vec<DeletableTopicResult>) {
    let mut ids: HashSet<[u8; 16]> =
        unclear.iter().filter(|topic| topic.name.is_none()).map(|topic| topic.topic_id.to_bytes()).collect();
    ids.extend(
        allowed.iter().filter_map(|topic| if let TopicRef::Id(id) = topic { Some(*id) } else { None }),
    );
    let mut twice = HashSet::new();
    for topic in allowed.iter() {
        let TopicRef::Name(name) = topic else { continue };
        let Some(id) = call.shared.catalog.by_name(name).map(|topic| topic.id()) else { continue };
        if ids.contains(&id) {
            unclear.push(misnamed(Some(name.clone().into()), uuid(id), TWICE));
            twice.extend([topic.clone(), TopicRef::Id(id)]);
        }
    }
    allowed.retain(|topic| !twice.contains(topic));
}

fn misnamed(name: Option<KafkaString>, id: KafkaUuid, why: &'static str) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(id)
        .with_error_code(ErrorCode::InvalidRequest.code())
        .with_error_message(Some(KafkaString::from_static(why)))
}

/// An error is the name that may be told: the id of a topic that may not be described does not show it.
fn may_delete(call: &Call, topic: &TopicRef) -> Result<(), Option<String>> {
    let name = match topic {
        TopicRef::Name(name) => name.clone(),
        TopicRef::Id(id) => match call.shared.catalog.by_id(id) {
            Some(topic) if call.may(rights::DESCRIBE_TOPIC, topic.name()) => topic.name().to_owned(),
            Some(_) => return Err(None),
            None => return Ok(()),
        },
    };
    if call.may(rights::DELETE_TOPIC, &name) { Ok(()) } else { Err(Some(name)) }
}
