//! Configuration of topics and groups, and what can be seen of the broker's own.

use std::collections::HashSet;

use headwater_coordinator::{
    AlterConfig, ConfigChange, ConfigEntry, ConfigKind, DescribeConfig, DescribedConfigs, Failure, Request,
    Response, TopicResult, UsageKind, broker_config_of_topic,
};
use headwater_wire::messages::alter_configs_response::{
    AlterConfigsResourceResponse as Altered, AlterConfigsResponseData,
};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponseData, DescribeConfigsResult, DescribeConfigsSynonym,
};
use headwater_wire::messages::incremental_alter_configs_request::AlterableConfig;
use headwater_wire::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse as IncrementallyAltered, IncrementalAlterConfigsResponseData,
};
use headwater_wire::messages::{
    AlterConfigsRequestData, DescribeConfigsRequestData, IncrementalAlterConfigsRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::config_resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{
    Call, CallError, broker_configs, client_metrics, group_configs, once_by, optional, rights, text, texts,
};
use crate::NODE_ID;
use crate::usage::report;

const SET_ON_TOPIC: i8 = 1;
pub const DEFAULT: i8 = 5;

/// Where a value of a topic comes from, as `config_source`.
pub fn source(entry: &ConfigEntry) -> i8 {
    match entry.broker.first() {
        _ if !entry.is_default => SET_ON_TOPIC,
        Some((layer, _)) => broker_configs::source(*layer),
        None => DEFAULT,
    }
}

pub async fn describe(
    call: &Call,
    mut request: DescribeConfigsRequestData,
) -> Result<DescribeConfigsResponseData, CallError> {
    once_by(&mut request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let documented = request.include_documentation;
    let mut results = Vec::with_capacity(request.resources.len());
    let mut made_up = 0;
    for resource in request.resources {
        made_up += usize::from(matches!(resource.resource_type, GROUP | CLIENT_METRICS));
        let name = resource.resource_name.as_str();
        let allowed = match resource.resource_type {
            TOPIC if asks_for_usage(&resource) => call.check(rights::DESCRIBE_TOPIC, name),
            TOPIC => call.check(rights::DESCRIBE_TOPIC_CONFIGS, name),
            BROKER | BROKER_LOGGER | CLIENT_METRICS => call.check_cluster(rights::DESCRIBE_CLUSTER_CONFIGS),
            GROUP => call.check(rights::DESCRIBE_GROUP_CONFIGS, name),
            _ => Ok(()),
        };
        results.push(match resource.resource_type {
            kind if let Err(code) = allowed => DescribeConfigsResult::default()
                .with_resource_type(kind)
                .with_resource_name(resource.resource_name)
                .with_error_code(code.code())
                .with_error_message(Some(KafkaString::from_static(NOT_ALLOWED))),
            kind @ (GROUP | CLIENT_METRICS) if made_up > MOST_MADE_UP => DescribeConfigsResult::default()
                .with_resource_type(kind)
                .with_resource_name(resource.resource_name)
                .with_error_code(ErrorCode::InvalidRequest.code())
                .with_error_message(Some(KafkaString::from_static(TOO_MANY))),
            TOPIC if asks_for_usage(&resource) => usage_of_topic(call, resource).await?,
            TOPIC => of_topic(call, resource, request.include_synonyms, documented).await?,
            GROUP => group_configs::describe(call, resource, request.include_synonyms, documented).await?,
            BROKER => broker_configs::describe(call, resource, request.include_synonyms, documented).await?,
            CLIENT_METRICS => {
                client_metrics::describe(call, resource, request.include_synonyms, documented).await?
            }
            BROKER_LOGGER => without_any(resource),
            other => DescribeConfigsResult::default()
                .with_resource_type(other)
                .with_resource_name(resource.resource_name)
                .with_error_code(ErrorCode::InvalidRequest.code())
                .with_error_message(Some(unknown_resource(other).into())),
        });
    }
    Ok(DescribeConfigsResponseData::default().with_results(results))
}

/// Groups and subscriptions have a configuration whether they are there or not: a request may make up so many of them.
const MOST_MADE_UP: usize = 10_000;
const TOO_MANY: &str =
    "a request may be for 10,000 groups and subscriptions; ask for the others in another one";

fn asks_for_usage(resource: &DescribeConfigsResource) -> bool {
    matches!(resource.configuration_keys.as_deref(), Some([key]) if key.as_str() == report::KEY)
}

/// Older versions have strings that may be too short for it.
const LONG_STRINGS: i16 = 4;

async fn usage_of_topic(
    call: &Call,
    resource: DescribeConfigsResource,
) -> Result<DescribeConfigsResult, CallError> {
    let topic = text(&resource.resource_name);
    let response =
        DescribeConfigsResult::default().with_resource_type(TOPIC).with_resource_name(resource.resource_name);
    if call.shared.catalog.by_name(&topic).is_none() {
        return Ok(response.with_error_code(ErrorCode::UnknownTopicOrPartition.code()));
    }
    if call.version < LONG_STRINGS {
        return Ok(response);
    }
    call.shared.sightings.tell(&call.shared.engine, false).await?;
    let Response::DescribeUsage(usage) = call.ask(Request::DescribeUsage(topic)).await? else {
        return Err(call.mismatch());
    };
    // As ListGroups and ListTransactions have it.
    let all_groups = call.sees_cluster(rights::DESCRIBE_CLUSTER);
    let sees = |kind, name: &str| match kind {
        UsageKind::Writer => call.sees(rights::DESCRIBE_TRANSACTIONAL_ID, name),
        UsageKind::Reader => all_groups || call.sees(rights::DESCRIBE_GROUP, name),
    };
    let report = report::report(&usage, call.shared.sightings.dropped(), sees);
    let entry = DescribeConfigsResourceResult::default()
        .with_name(KafkaString::from_static(report::KEY))
        .with_value(Some(report.to_string().into()))
        .with_read_only(true)
        .with_config_source(DEFAULT)
        .with_config_type(ConfigKind::String.code());
    Ok(response.with_configs(vec![entry]))
}

/// The loggers of a broker, of which this one has none whose level can be set.
fn without_any(resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let response = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
    let refused = match resource.resource_name.as_str() {
        "" => Some("name the resource".to_owned()),
        name if name != NODE_ID.to_string() => Some(format!("there is no broker '{name}', only {NODE_ID}")),
        _ => None,
    };
    let response = response.with_resource_name(resource.resource_name);
    match refused {
        Some(why) => {
            response.with_error_code(ErrorCode::InvalidRequest.code()).with_error_message(Some(why.into()))
        }
        None => response,
    }
}

fn unknown_resource(kind: i8) -> String {
    format!(
        "resources of type {kind} have no configuration here: use 2 (topic), 4 (broker), 16 (client metrics) or 32 (group)"
    )
}

async fn of_topic(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
    documented: bool,
) -> Result<DescribeConfigsResult, CallError> {
    let topic = text(&resource.resource_name);
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let describe = Request::DescribeConfigs(vec![DescribeConfig { topic, keys }]);
    let Response::DescribeConfigs(mut described) = call.ask(describe).await? else {
        return Err(call.mismatch());
    };
    let Some(DescribedConfigs { topic, result }) = described.pop() else { return Err(call.mismatch()) };
    let response =
        DescribeConfigsResult::default().with_resource_type(TOPIC).with_resource_name(topic.into());
    Ok(match result {
        Ok(entries) => {
            let shown = |entry: &ConfigEntry| described_entry(entry, synonyms, documented, call.version);
            response.with_configs(entries.iter().map(shown).collect())
        }
        Err(failure) => {
            response.with_error_code(failure.error.code()).with_error_message(Some(failure.message.into()))
        }
    })
}

/// One key as it is told.
fn described_entry(
    entry: &ConfigEntry,
    synonyms: bool,
    documented: bool,
    version: i16,
) -> DescribeConfigsResourceResult {
    let response = DescribeConfigsResourceResult::default()
        .with_name(entry.name.to_owned().into())
        .with_value(Some(entry.value.clone().into()))
        .with_config_source(source(entry))
        .with_synonyms(if synonyms { sources(entry) } else { Vec::new() });
    match version >= 3 {
        true => response
            .with_config_type(entry.kind.code())
            .with_documentation(documented.then(|| KafkaString::from_static(entry.documentation))),
        false => response,
    }
}

/// Every value that a topic's key has, what holds being first: the topic's, the broker's, the default.
fn sources(entry: &ConfigEntry) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: &'static str, value: &str, source| {
        DescribeConfigsSynonym::default()
            .with_name(KafkaString::from_static(name))
            .with_value(Some(value.to_owned().into()))
            .with_source(source)
    };
    let name = broker_config_of_topic(entry.name).unwrap_or(entry.name);
    let set = (!entry.is_default).then(|| synonym(entry.name, &entry.value, SET_ON_TOPIC));
    let broker =
        entry.broker.iter().map(|(layer, value)| synonym(name, value, broker_configs::source(*layer)));
    set.into_iter().chain(broker).chain([synonym(name, entry.default, DEFAULT)]).collect()
}

/// The outcome for one resource: code and message.
type Outcome = (i16, Option<KafkaString>);

async fn change(
    call: &Call,
    (kind, name): (i8, &str),
    change: Result<AlterConfig, &'static str>,
    validate_only: bool,
) -> Result<Outcome, CallError> {
    let allowed = match kind {
        TOPIC => call.check(rights::ALTER_TOPIC_CONFIGS, name),
        BROKER | BROKER_LOGGER | CLIENT_METRICS => call.check_cluster(rights::ALTER_CLUSTER_CONFIGS),
        GROUP => call.check(rights::ALTER_GROUP_CONFIGS, name),
        _ => Ok(()),
    };
    if let Err(code) = allowed {
        return Ok((code.code(), Some(KafkaString::from_static(NOT_ALLOWED))));
    }
    let change = match change {
        Ok(change) if kind == TOPIC => change,
        Ok(change) if kind == GROUP => {
            return Ok(outcome(group_configs::alter(call, change, validate_only).await?));
        }
        Ok(change) if kind == BROKER => {
            return Ok(outcome(broker_configs::alter(call, change, validate_only).await?));
        }
        Ok(change) if kind == CLIENT_METRICS => {
            return Ok(outcome(client_metrics::alter(call, change, validate_only).await?));
        }
        Ok(_) => return Ok((ErrorCode::InvalidRequest.code(), Some(unknown_resource(kind).into()))),
        Err(why) => return Ok((ErrorCode::InvalidRequest.code(), Some(KafkaString::from_static(why)))),
    };
    let keys = change.changes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ");
    let alter = Request::AlterConfigs { topics: vec![change], validate_only };
    let Response::AlterConfigs(mut altered) = call.ask(alter).await? else { return Err(call.mismatch()) };
    let altered = altered.pop().map_or(Ok(()), |TopicResult { result, .. }| result.map(drop));
    if altered.is_ok() && !validate_only {
        call.changed(rights::ALTER_TOPIC_CONFIGS, name, || Some(keys));
    }
    Ok(outcome(altered))
}

fn outcome(result: Result<(), Failure>) -> Outcome {
    match result {
        Ok(()) => (0, None),
        Err(failure) => (failure.error.code(), Some(failure.message.into())),
    }
}

const NOT_ALLOWED: &str = "the client may not do this with the configuration: see headwater acl list";
const NO_OPERATION: &str =
    "a change is 0 (set), 1 (delete), 2 (append) or 3 (subtract), with a value unless it deletes";
const NO_VALUE: &str = "every key needs a value here: what is not named is back at its default";
const TWICE: &str = "the resource is named twice in the request";

/// The resources that come more than once: nothing of them is changed, as it is not clear what.
fn named_twice<'a>(resources: impl Iterator<Item = (i8, &'a KafkaString)>) -> HashSet<(i8, String)> {
    let mut seen = HashSet::new();
    let again = resources.filter(|(kind, name)| !seen.insert((*kind, name.as_str())));
    again.map(|(kind, name)| (kind, text(name))).collect()
}

pub async fn alter(
    call: &Call,
    request: AlterConfigsRequestData,
) -> Result<AlterConfigsResponseData, CallError> {
    let twice = named_twice(request.resources.iter().map(|one| (one.resource_type, &one.resource_name)));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let set = resource.configs.iter().map(|config| {
            let value = optional(&config.value).ok_or(NO_VALUE);
            value.map(|value| (text(&config.name), ConfigChange::Set(value)))
        });
        let topic = text(&resource.resource_name);
        let of = (resource.resource_type, resource.resource_name.as_str());
        let changes = match twice.contains(&(resource.resource_type, topic.clone())) {
            true => Err(TWICE),
            false => set.collect::<Result<Vec<_>, _>>(),
        };
        let wanted = changes.map(|changes| AlterConfig { topic, replace: true, changes });
        let (code, message) = change(call, of, wanted, request.validate_only).await?;
        responses.push(
            Altered::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    Ok(AlterConfigsResponseData::default().with_responses(responses))
}

fn incremental(config: &AlterableConfig) -> Result<(String, ConfigChange), &'static str> {
    let value = optional(&config.value);
    let change = match (config.config_operation, value) {
        (0, Some(value)) => ConfigChange::Set(value),
        (1, _) => ConfigChange::Delete,
        (2, Some(value)) => ConfigChange::Append(value),
        (3, Some(value)) => ConfigChange::Subtract(value),
        _ => return Err(NO_OPERATION),
    };
    Ok((text(&config.name), change))
}

pub async fn alter_incrementally(
    call: &Call,
    request: IncrementalAlterConfigsRequestData,
) -> Result<IncrementalAlterConfigsResponseData, CallError> {
    let twice = named_twice(request.resources.iter().map(|one| (one.resource_type, &one.resource_name)));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let topic = text(&resource.resource_name);
        let changes = match twice.contains(&(resource.resource_type, topic.clone())) {
            true => Err(TWICE),
            false => resource.configs.iter().map(incremental).collect::<Result<Vec<_>, _>>(),
        };
        let of = (resource.resource_type, resource.resource_name.as_str());
        let wanted = changes.map(|changes| AlterConfig { topic, replace: false, changes });
        let (code, message) = change(call, of, wanted, request.validate_only).await?;
        responses.push(
            IncrementallyAltered::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    Ok(IncrementalAlterConfigsResponseData::default().with_responses(responses))
}
