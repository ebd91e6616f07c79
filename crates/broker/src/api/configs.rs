//! Configuration of topics, and what can be seen of the broker's own.

use headwater_coordinator::{
    AlterConfig, ConfigChange, ConfigEntry, ConfigKind, DescribeConfig, DescribedConfigs, Request, Response,
    TopicResult,
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

use super::{Call, CallError, optional, share, text, texts};
use crate::{BROKER_SETTINGS, Config, NODE_ID};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const SET_ON_TOPIC: i8 = 1;
const SET_AT_START: i8 = 4;
const SET_ON_GROUP: i8 = 8;
const DEFAULT: i8 = 5;

/// Where a value of a topic comes from, as `config_source`.
pub fn source(entry: &ConfigEntry) -> i8 {
    if entry.is_default { DEFAULT } else { SET_ON_TOPIC }
}

pub async fn describe(
    call: &Call,
    request: DescribeConfigsRequestData,
) -> Result<DescribeConfigsResponseData, CallError> {
    let documented = request.include_documentation;
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        results.push(match resource.resource_type {
            TOPIC => of_topic(call, resource, request.include_synonyms, documented).await?,
            GROUP => of_group(call, resource, request.include_synonyms, documented).await?,
            BROKER => of_broker(&call.shared.config, resource),
            other => DescribeConfigsResult::default()
                .with_resource_type(other)
                .with_resource_name(resource.resource_name)
                .with_error_code(ErrorCode::InvalidRequest.code())
                .with_error_message(Some(unknown_resource(other).into())),
        });
    }
    Ok(DescribeConfigsResponseData::default().with_results(results))
}

fn unknown_resource(kind: i8) -> String {
    format!("resources of type {kind} have no configuration here: use 2 (topic), 4 (broker) or 32 (group)")
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
            let shown = |entry: &ConfigEntry| {
                described_entry(entry, SET_ON_TOPIC, (synonyms, documented), call.version)
            };
            response.with_configs(entries.iter().map(shown).collect())
        }
        Err(failure) => {
            response.with_error_code(failure.error.code()).with_error_message(Some(failure.message.into()))
        }
    })
}

async fn of_group(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
    documented: bool,
) -> Result<DescribeConfigsResult, CallError> {
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let entries = share::describe_configs(call, text(&resource.resource_name), keys).await?;
    let shown =
        |entry: &ConfigEntry| described_entry(entry, SET_ON_GROUP, (synonyms, documented), call.version);
    Ok(DescribeConfigsResult::default()
        .with_resource_type(GROUP)
        .with_resource_name(resource.resource_name)
        .with_configs(entries.iter().map(shown).collect()))
}

/// `set` is the source of a value that is not the default.
fn described_entry(
    entry: &ConfigEntry,
    set: i8,
    (synonyms, documented): (bool, bool),
    version: i16,
) -> DescribeConfigsResourceResult {
    let synonym = |value: &str, source| {
        DescribeConfigsSynonym::default()
            .with_name(entry.name.to_owned().into())
            .with_value(Some(value.to_owned().into()))
            .with_source(source)
    };
    let own = (!entry.is_default).then(|| synonym(&entry.value, set));
    let all = own.into_iter().chain([synonym(entry.default, DEFAULT)]);
    let response = DescribeConfigsResourceResult::default()
        .with_name(entry.name.to_owned().into())
        .with_value(Some(entry.value.clone().into()))
        .with_config_source(if entry.is_default { DEFAULT } else { set })
        .with_synonyms(if synonyms { all.collect() } else { Vec::new() });
    match version >= 3 {
        true => response
            .with_config_type(entry.kind.code())
            .with_documentation(documented.then(|| KafkaString::from_static(entry.documentation))),
        false => response,
    }
}

/// What the broker was started with; read-only.
fn of_broker(config: &Config, resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let response = DescribeConfigsResult::default()
        .with_resource_type(BROKER)
        .with_resource_name(resource.resource_name.clone());
    let name = resource.resource_name.as_str();
    if !name.is_empty() && name != NODE_ID.to_string() {
        return response
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_error_message(Some(format!("there is no broker '{name}', only {NODE_ID}").into()));
    }
    let fixed = [
        ("broker.id", NODE_ID.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("log.dirs", config.data_dir.display().to_string()),
        ("node.id", NODE_ID.to_string()),
    ];
    let set =
        BROKER_SETTINGS.iter().map(|setting| (setting.name, setting.value(config), setting.documentation));
    let entries = fixed.into_iter().map(|(name, value)| (name, value, "")).chain(set);
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let shown =
        entries.filter(|(name, ..)| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name)));
    let entry = |(name, value, documentation): (&'static str, String, &'static str)| {
        DescribeConfigsResourceResult::default()
            .with_name(KafkaString::from_static(name))
            .with_value(Some(value.into()))
            .with_read_only(true)
            .with_config_source(SET_AT_START)
            .with_config_type(ConfigKind::String.code())
            .with_documentation(Some(KafkaString::from_static(documentation)))
    };
    response.with_configs(shown.map(entry).collect())
}

/// The outcome for one resource: code and message.
type Outcome = (i16, Option<KafkaString>);

async fn change(
    call: &Call,
    kind: i8,
    change: Result<AlterConfig, ErrorCode>,
    validate_only: bool,
) -> Result<Outcome, CallError> {
    let change = match change {
        Ok(change) if kind == TOPIC => change,
        Ok(change) if kind == GROUP => {
            return Ok(match share::alter_configs(call, change, validate_only).await? {
                Ok(()) => (0, None),
                Err(failure) => (failure.error.code(), Some(failure.message.into())),
            });
        }
        Ok(_) => {
            let message = if kind == BROKER { READ_ONLY.to_owned() } else { unknown_resource(kind) };
            return Ok((ErrorCode::InvalidRequest.code(), Some(message.into())));
        }
        Err(code) => return Ok((code.code(), Some(KafkaString::from_static(NO_OPERATION)))),
    };
    let alter = Request::AlterConfigs { topics: vec![change], validate_only };
    let Response::AlterConfigs(mut altered) = call.ask(alter).await? else { return Err(call.mismatch()) };
    Ok(match altered.pop() {
        Some(TopicResult { result: Err(failure), .. }) => {
            (failure.error.code(), Some(failure.message.into()))
        }
        _ => (0, None),
    })
}

const READ_ONLY: &str = "the broker's configuration is fixed at its start: restart it with another";
const NO_OPERATION: &str =
    "a change is 0 (set), 1 (delete), 2 (append) or 3 (subtract), with a value unless it deletes";

pub async fn alter(
    call: &Call,
    request: AlterConfigsRequestData,
) -> Result<AlterConfigsResponseData, CallError> {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let changes = resource.configs.iter().map(|config| {
            let value = optional(&config.value);
            (text(&config.name), value.map_or(ConfigChange::Delete, ConfigChange::Set))
        });
        let topic = text(&resource.resource_name);
        let wanted = AlterConfig { topic, replace: true, changes: changes.collect() };
        let (code, message) = change(call, resource.resource_type, Ok(wanted), request.validate_only).await?;
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

fn incremental(config: &AlterableConfig) -> Result<(String, ConfigChange), ErrorCode> {
    let value = optional(&config.value);
    let change = match (config.config_operation, value) {
        (0, Some(value)) => ConfigChange::Set(value),
        (1, _) => ConfigChange::Delete,
        (2, Some(value)) => ConfigChange::Append(value),
        (3, Some(value)) => ConfigChange::Subtract(value),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    Ok((text(&config.name), change))
}

pub async fn alter_incrementally(
    call: &Call,
    request: IncrementalAlterConfigsRequestData,
) -> Result<IncrementalAlterConfigsResponseData, CallError> {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let topic = text(&resource.resource_name);
        let changes: Result<Vec<_>, _> = resource.configs.iter().map(incremental).collect();
        let wanted = changes.map(|changes| AlterConfig { topic, replace: false, changes });
        let (code, message) = change(call, resource.resource_type, wanted, request.validate_only).await?;
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
