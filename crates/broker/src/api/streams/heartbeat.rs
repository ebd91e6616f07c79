//! StreamsGroupHeartbeat, and the internal topics that it finds missing.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::{
    EndpointPartitions, Error, Failure, NewTopic, Request, Response, StreamsEndpoint, StreamsGroupBeat,
    StreamsGroupHeartbeat, StreamsStatusKind, StreamsTopology, TaskId, Tasks,
};
use headwater_wire::messages::StreamsGroupHeartbeatRequestData;
use headwater_wire::messages::streams_group_heartbeat_request::TaskIds as Owned;
use headwater_wire::messages::streams_group_heartbeat_response::{
    Endpoint, EndpointToPartitions, Status, StreamsGroupHeartbeatResponseData, TaskIds, TopicPartition,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::topology::{has_patterns, referred, topology};
use crate::api::{Call, CallError, optional, rights, text};

pub async fn heartbeat(
    call: &Call,
    request: StreamsGroupHeartbeatRequestData,
) -> Result<StreamsGroupHeartbeatResponseData, CallError> {
    let response = StreamsGroupHeartbeatResponseData::default();
    if let Err(code) = call.check(rights::READ_GROUP, request.group_id.as_str()) {
        return Ok(response.with_error_code(code.code()));
    }
    let tasks = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks];
    let tasks = tasks.into_iter().flatten().flatten();
    let tasks = tasks.map(|one| (one.subtopology_id.as_str().len(), one.partitions.len()));
    call.bear(tasks.chain(request.topology.as_deref().into_iter().flat_map(referred)))?;
    let topology = match request.topology.as_deref().map(topology).transpose() {
        Ok(topology) => topology,
        Err(message) => return Ok(refused(Failure::new(Error::StreamsInvalidTopology, message))),
    };
    if let Some(code) = topology.as_ref().and_then(|topology| hidden(call, topology)) {
        return Ok(response.with_error_code(code.code()));
    }
    let beat = Request::StreamsGroupHeartbeat(Box::new(understood(request, topology)));
    let Response::StreamsGroupHeartbeat(answer) = call.ask(beat).await? else { return Err(call.mismatch()) };
    match *answer {
        Ok(mut beat) => {
            create(call, &mut beat).await?;
            Ok(answered(response, beat))
        }
        Err(failure) => Ok(refused(failure)),
    }
}

fn refused(failure: Failure) -> StreamsGroupHeartbeatResponseData {
    StreamsGroupHeartbeatResponseData::default()
        .with_error_code(failure.error.code())
        .with_error_message(Some(failure.message.into()))
}

/// A topology may only name topics that the client may know of.
fn hidden(call: &Call, topology: &StreamsTopology) -> Option<ErrorCode> {
    let mut named = topology.required_topics().into_iter();
    named.find_map(|name| call.check(rights::DESCRIBE_TOPIC, name).err())
}

fn understood(
    request: StreamsGroupHeartbeatRequestData,
    topology: Option<StreamsTopology>,
) -> StreamsGroupHeartbeat {
    let tags = request.client_tags.as_ref();
    StreamsGroupHeartbeat {
        group_id: text(&request.group_id),
        member_id: text(&request.member_id),
        member_epoch: request.member_epoch,
        endpoint_epoch: request.endpoint_information_epoch,
        instance_id: optional(&request.instance_id),
        rack_id: optional(&request.rack_id),
        rebalance_timeout_ms: (request.rebalance_timeout_ms >= 0).then_some(request.rebalance_timeout_ms),
        topology,
        has_patterns: request.topology.as_deref().is_some_and(has_patterns),
        active: request.active_tasks.as_deref().map(owned),
        standby: request.standby_tasks.as_deref().map(owned),
        warmup: request.warmup_tasks.as_deref().map(owned),
        process_id: optional(&request.process_id),
        user_endpoint: request
            .user_endpoint
            .as_deref()
            .map(|endpoint| StreamsEndpoint { host: text(&endpoint.host), port: endpoint.port }),
        client_tags: tags.map(|tags| tags.iter().map(|tag| (text(&tag.key), text(&tag.value))).collect()),
        tells_offsets: request.task_offsets.is_some() || request.task_end_offsets.is_some(),
        shutdown_application: request.shutdown_application,
    }
}

fn owned(tasks: &[Owned]) -> BTreeSet<TaskId> {
    let of_subtopology = |one: &Owned| {
        let id = text(&one.subtopology_id);
        one.partitions.iter().map(|partition| (id.clone(), *partition)).collect::<Vec<_>>()
    };
    tasks.iter().flat_map(of_subtopology).collect()
}

/// Creates what is missing; what cannot be is told with the status. The next heartbeat finds the topics there.
async fn create(call: &Call, beat: &mut StreamsGroupBeat) -> Result<(), CallError> {
    let topics = std::mem::take(&mut beat.missing);
    if topics.is_empty() {
        return Ok(());
    }
    let (allowed, refused) = match call.sees_cluster(rights::CREATE_CLUSTER) {
        true => (topics, Vec::new()),
        false => call.part(rights::CREATE_TOPIC, topics, |topic: &NewTopic| &topic.name),
    };
    let detail = if refused.is_empty() {
        created(call, allowed).await?
    } else {
        let names: Vec<String> = refused.into_iter().map(|topic| topic.name).collect();
        Some(format!("Unauthorized to CREATE on topics {}.", names.join(", ")))
    };
    let missing = beat.status.iter_mut().find(|one| one.kind == StreamsStatusKind::MissingInternalTopics);
    if let (Some(status), Some(detail)) = (missing, detail) {
        status.detail = format!("{}; {detail}", status.detail);
    }
    Ok(())
}

/// Why topics could not be created, if any could not.
async fn created(call: &Call, mut topics: Vec<NewTopic>) -> Result<Option<String>, CallError> {
    let partitions = topics.iter().map(|topic| topic.partitions.max(0)).fold(0, i32::saturating_add);
    if call.mutate(partitions, true).is_err() {
        return Ok(Some(
            "the client's controller_mutation_rate is used up, a later heartbeat tries again".to_owned(),
        ));
    }
    for topic in &mut topics {
        call.owning(&topic.name, &mut topic.configs);
    }
    let request = Request::CreateTopics { topics, validate_only: false };
    let Response::CreateTopics(results) = call.ask(request).await? else { return Err(call.mismatch()) };
    let mut failed = Vec::new();
    for result in results {
        match result.result {
            Ok(topic) => {
                let detail = || Some(format!("{} partitions", topic.partitions));
                call.changed(rights::CREATE_TOPIC, &result.name, detail);
            }
            // Another member was faster.
            Err(failure) if failure.error == Error::TopicAlreadyExists => {}
            Err(failure) => failed.push(format!("{} ({failure})", result.name)),
        }
    }
    Ok((!failed.is_empty()).then(|| format!("Creation failed: {}.", failed.join(", "))))
}

fn answered(
    response: StreamsGroupHeartbeatResponseData,
    beat: StreamsGroupBeat,
) -> StreamsGroupHeartbeatResponseData {
    let status = beat
        .status
        .into_iter()
        .map(|one| Status::default().with_status_code(one.kind.code()).with_status_detail(one.detail.into()));
    let response = response
        .with_member_id(beat.member_id.into())
        .with_member_epoch(beat.member_epoch)
        .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
        .with_status(Some(status.collect()))
        .with_endpoint_information_epoch(beat.endpoint_epoch)
        .with_partitions_by_user_endpoint(
            beat.endpoints.map(|endpoints| endpoints.into_iter().map(endpoint).collect()),
        );
    match beat.tasks {
        None => response,
        Some(Tasks { active, standby, warmup }) => response
            .with_active_tasks(Some(ids(&active)))
            .with_standby_tasks(Some(ids(&standby)))
            .with_warmup_tasks(Some(ids(&warmup))),
    }
}

fn ids(tasks: &BTreeSet<TaskId>) -> Vec<TaskIds> {
    let mut by_subtopology = BTreeMap::<&String, Vec<i32>>::new();
    for (id, partition) in tasks {
        by_subtopology.entry(id).or_default().push(*partition);
    }
    let one = |(id, partitions): (&String, Vec<i32>)| {
        TaskIds::default().with_subtopology_id(id.clone().into()).with_partitions(partitions)
    };
    by_subtopology.into_iter().map(one).collect()
}

fn endpoint(known: EndpointPartitions) -> EndpointToPartitions {
    let topics = |topics: BTreeMap<String, BTreeSet<i32>>| {
        let one = |(name, partitions): (String, BTreeSet<i32>)| {
            TopicPartition::default()
                .with_topic(KafkaString::from(name))
                .with_partitions(partitions.into_iter().collect())
        };
        topics.into_iter().map(one).collect()
    };
    let StreamsEndpoint { host, port } = known.endpoint;
    EndpointToPartitions::default()
        .with_user_endpoint(Endpoint::default().with_host(host.into()).with_port(port))
        .with_active_partitions(topics(known.active))
        .with_standby_partitions(topics(known.standby))
}
