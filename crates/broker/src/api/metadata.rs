//! What there is: the node, the topics, their partitions and sizes.

use std::sync::Arc;

use headwater_coordinator::{NewTopic, QuotaKey, Request, Response, is_legal_topic};
use headwater_model::acl::ResourceType;
use headwater_wire::messages::describe_cluster_response::{
    DescribeClusterBroker, DescribeClusterResponseData,
};
use headwater_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponseData, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use headwater_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponseData, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use headwater_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponseData, MetadataResponsePartition, MetadataResponseTopic,
};
use headwater_wire::messages::{
    DescribeClusterRequestData, DescribeLogDirsRequestData, DescribeTopicPartitionsRequestData,
    MetadataRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::topics::MOST_PARTITIONS;
use super::{Call, CallError, once_by, rights, text, uuid};
use crate::NODE_ID;
use crate::catalog::Topic;
use crate::observe::space::Space;

/// DescribeTopicPartitions shows at most so many partitions a page.
const PAGE: usize = 2000;
/// `authorized_operations` of whoever does not want to know them.
const NOT_ASKED: i32 = i32::MIN;

pub async fn metadata(call: &Call, request: MetadataRequestData) -> Result<MetadataResponseData, CallError> {
    let (host, port) = call.node();
    let node = MetadataResponseBroker::default().with_node_id(NODE_ID).with_host(host).with_port(port);
    let wanted = request.topics.filter(|topics| call.version > 0 || !topics.is_empty());
    let may_create = call.shared.config.auto_create_topics && request.allow_auto_topic_creation;
    // The topics that are still made for this request; the others are when they are asked for again.
    let mut left = (MOST_PARTITIONS / call.shared.config.default_partitions.max(1)).max(1);
    let show_operations = request.include_topic_authorized_operations;
    let mut topics = Vec::new();
    match wanted {
        None => topics.extend(visible(call).iter().map(|topic| shown(call, topic, show_operations))),
        Some(mut wanted) => {
            once_by(&mut wanted, |topic| (topic.name.clone(), topic.topic_id));
            for topic in wanted {
                topics.push(match topic.name.filter(|_| topic.topic_id.is_nil()) {
                    Some(name) => {
                        let is_new = call.shared.catalog.by_name(name.as_str()).is_none();
                        let makes = may_create && is_new && left > 0;
                        left -= i32::from(makes);
                        by_name(call, name, makes, show_operations).await?
                    }
                    None => by_id(call, topic.topic_id.to_bytes(), show_operations),
                });
            }
        }
    }
    let operations = match request.include_cluster_authorized_operations {
        true => call.cluster_operations(),
        false => NOT_ASKED,
    };
    Ok(MetadataResponseData::default()
        .with_cluster_authorized_operations(operations)
        .with_brokers(vec![node])
        .with_cluster_id(Some(call.shared.cluster_id.clone().into()))
        .with_controller_id(NODE_ID)
        .with_topics(topics))
}

async fn by_name(
    call: &Call,
    name: KafkaString,
    may_create: bool,
    show_operations: bool,
) -> Result<MetadataResponseTopic, CallError> {
    let catalog = &call.shared.catalog;
    // Clients wait for what is not there, and give up at once what cannot be.
    let mut error = match is_legal_topic(name.as_str()) {
        true => ErrorCode::UnknownTopicOrPartition.code(),
        false => ErrorCode::InvalidTopicException.code(),
    };
    if let Err(code) = call.check(rights::DESCRIBE_TOPIC, name.as_str()) {
        return Ok(MetadataResponseTopic::default().with_error_code(code.code()).with_name(Some(name)));
    }
    if may_create && catalog.by_name(name.as_str()).is_none() {
        let creates = call.sees_cluster(rights::CREATE_CLUSTER);
        error = match creates || call.may(rights::CREATE_TOPIC, name.as_str()) {
            true => {
                // An error of a quota is none that clients know here.
                call.spend(
                    QuotaKey::ControllerMutationRate,
                    f64::from(call.shared.config.default_partitions),
                );
                create(call, name.as_str()).await?
            }
            false => rights::CREATE_TOPIC.refusal().code(),
        };
    }
    Ok(match catalog.by_name(name.as_str()) {
        Some(topic) => shown(call, &topic, show_operations),
        None => MetadataResponseTopic::default().with_error_code(error).with_name(Some(name)),
    })
}

async fn create(call: &Call, name: &str) -> Result<i16, CallError> {
    let topic =
        NewTopic { name: name.to_owned(), partitions: -1, replication_factor: -1, configs: Vec::new() };
    let request = Request::CreateTopics { topics: vec![topic], validate_only: false };
    let Response::CreateTopics(results) = call.ask(request).await? else { return Err(call.mismatch()) };
    let failure = results.into_iter().find_map(|result| result.result.err());
    if failure.is_none() {
        call.changed(rights::CREATE_TOPIC, name, || Some("made on use".to_owned()));
    }
    // Two clients may ask at the same time; the second finds it made.
    Ok(failure.map_or(ErrorCode::LeaderNotAvailable.code(), |failure| failure.error.code()))
}

/// As in Kafka, an id is no secret, and the name of what may not be described is one.
fn by_id(call: &Call, id: [u8; 16], show_operations: bool) -> MetadataResponseTopic {
    let found = call.shared.catalog.by_id(&id).ok_or(ErrorCode::UnknownTopicId);
    let found = found.and_then(|topic| call.check(rights::DESCRIBE_TOPIC, topic.name()).map(|()| topic));
    match found {
        Ok(topic) => shown(call, &topic, show_operations),
        Err(code) => MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name((call.version < 12).then(KafkaString::default))
            .with_topic_id(uuid(id)),
    }
}

/// All topics that the client may describe.
fn visible(call: &Call) -> Vec<Arc<Topic>> {
    let mut topics = call.shared.catalog.all();
    topics.retain(|topic| call.sees(rights::DESCRIBE_TOPIC, topic.name()));
    topics
}

fn shown(call: &Call, topic: &Arc<Topic>, operations: bool) -> MetadataResponseTopic {
    match operations {
        true => described(topic)
            .with_topic_authorized_operations(call.operations(ResourceType::Topic, topic.name())),
        false => described(topic),
    }
}

fn described(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic.name().to_owned().into()))
        .with_topic_id(uuid(topic.id()))
        .with_is_internal(topic.is_internal())
        .with_partitions((0..topic.record.partitions).map(partition).collect())
}

pub async fn cluster(
    call: &Call,
    request: DescribeClusterRequestData,
) -> Result<DescribeClusterResponseData, CallError> {
    const BROKERS: i8 = 1;
    const CONTROLLERS: i8 = 2;
    let response = DescribeClusterResponseData::default();
    if request.endpoint_type != BROKERS {
        let code = match request.endpoint_type {
            CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        let message = "there are no controllers apart from the broker: ask for brokers";
        return Ok(response
            .with_error_code(code.code())
            .with_error_message(Some(KafkaString::from_static(message))));
    }
    let (host, port) = call.node();
    let node = DescribeClusterBroker::default().with_broker_id(NODE_ID).with_host(host).with_port(port);
    let operations = match request.include_cluster_authorized_operations {
        true => call.cluster_operations(),
        false => NOT_ASKED,
    };
    Ok(response
        .with_cluster_authorized_operations(operations)
        .with_cluster_id(call.shared.cluster_id.clone().into())
        .with_controller_id(NODE_ID)
        .with_brokers(vec![node]))
}

pub async fn log_dirs(
    call: &Call,
    request: DescribeLogDirsRequestData,
) -> Result<DescribeLogDirsResponseData, CallError> {
    let shared = &call.shared;
    if let Err(code) = call.check_cluster(rights::DESCRIBE_CLUSTER) {
        let response = DescribeLogDirsResponseData::default();
        return Ok(if call.version >= 3 { response.with_error_code(code.code()) } else { response });
    }
    let topics: Vec<(Arc<Topic>, Option<Vec<i32>>)> = match request.topics {
        None => shared.catalog.all().into_iter().map(|topic| (topic, None)).collect(),
        Some(wanted) => wanted
            .into_iter()
            .filter_map(|one| Some((shared.catalog.by_name(one.topic.as_str())?, Some(one.partitions))))
            .collect(),
    };
    let size = |topic: &Topic, index: i32| {
        let size = shared.reader.size(topic.partition(index)?).ok()?;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Some(DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size))
    };
    let sized = |(topic, partitions): (Arc<Topic>, Option<Vec<i32>>)| {
        let partitions = partitions.unwrap_or_else(|| (0..topic.record.partitions).collect());
        DescribeLogDirsTopic::default()
            .with_name(topic.name().to_owned().into())
            .with_partitions(partitions.into_iter().filter_map(|index| size(&topic, index)).collect())
    };
    let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    // −1 where the system does not say.
    let (size, free) =
        Space::of(&shared.config.data_dir).map_or((-1, -1), |space| (whole(space.size), whole(space.free)));
    let directory = DescribeLogDirsResult::default()
        .with_total_bytes(size)
        .with_usable_bytes(free)
        .with_log_dir(shared.config.log_dir().into())
        .with_topics(topics.into_iter().map(sized).collect());
    Ok(DescribeLogDirsResponseData::default().with_results(vec![directory]))
}

/// KIP-966: the topics in the order of their names, a page at a time.
pub async fn topic_partitions(
    call: &Call,
    request: DescribeTopicPartitionsRequestData,
) -> Result<DescribeTopicPartitionsResponseData, CallError> {
    let catalog = &call.shared.catalog;
    let mut names: Vec<String> = match request.topics.is_empty() {
        true => visible(call).iter().map(|topic| topic.name().to_owned()).collect(),
        false => request.topics.iter().map(|topic| text(&topic.name)).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let (from, mut first) = request
        .cursor
        .map_or((String::new(), 0), |cursor| (text(&cursor.topic_name), cursor.partition_index));
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PAGE);
    let mut response = DescribeTopicPartitionsResponseData::default();
    for name in names.into_iter().filter(|name| *name >= from) {
        let first = if name == from { std::mem::take(&mut first).max(0) } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, first));
            break;
        }
        let found = call.check(rights::DESCRIBE_TOPIC, &name);
        let found = found.and_then(|()| catalog.by_name(&name).ok_or(ErrorCode::UnknownTopicOrPartition));
        let topic = match found {
            Ok(topic) => topic,
            Err(code) => {
                response.topics.push(
                    DescribeTopicPartitionsResponseTopic::default()
                        .with_error_code(code.code())
                        .with_name(Some(name.into())),
                );
                continue;
            }
        };
        let shown: Vec<i32> = (first..topic.record.partitions).take(left).collect();
        left -= shown.len();
        let next = first + shown.len() as i32;
        let operations = call.operations(ResourceType::Topic, topic.name());
        response.topics.push(page(&topic, shown).with_topic_authorized_operations(operations));
        if next < topic.record.partitions {
            response.next_cursor = Some(cursor(name, next));
            break;
        }
    }
    Ok(response)
}

fn cursor(topic: String, partition: i32) -> Box<Cursor> {
    Box::new(Cursor::default().with_topic_name(topic.into()).with_partition_index(partition))
}

fn page(topic: &Topic, partitions: Vec<i32>) -> DescribeTopicPartitionsResponseTopic {
    let partition = |index| {
        // The Java client does not bear null in the lists that are nullable.
        DescribeTopicPartitionsResponsePartition::default()
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE_ID])
            .with_isr_nodes(vec![NODE_ID])
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic.name().to_owned().into()))
        .with_topic_id(uuid(topic.id()))
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions.into_iter().map(partition).collect())
}
