//! Configuration of groups: resource type 32 of DescribeConfigs and IncrementalAlterConfigs (KIP-848).

use headwater_coordinator::{
    AlterConfig, AlterGroupConfig, DescribeGroupConfig, DescribedGroupConfigs, Failure, GroupConfigEntry,
    Request, Response,
};
use headwater_wire::KafkaString;
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::broker_configs::SET_AT_START;
use super::config_resources::GROUP;
use super::configs::DEFAULT;
use super::{Call, CallError, rights, text, texts};

const SET_ON_GROUP: i8 = 8;
/// From here on an entry says its type.
const TYPES: i16 = 3;

pub async fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
    documented: bool,
) -> Result<DescribeConfigsResult, CallError> {
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let describe = DescribeGroupConfig { group_id: text(&resource.resource_name), keys };
    let described = call.ask(Request::DescribeGroupConfigs(vec![describe])).await?;
    let Response::DescribeGroupConfigs(mut described) = described else { return Err(call.mismatch()) };
    let Some(DescribedGroupConfigs { group_id, result }) = described.pop() else {
        return Err(call.mismatch());
    };
    let response =
        DescribeConfigsResult::default().with_resource_type(GROUP).with_resource_name(group_id.into());
    Ok(match result {
        Ok(entries) => {
            let shown = entries
                .into_iter()
                .map(|entry| shown(entry, SET_ON_GROUP, synonyms, documented, call.version));
            response.with_configs(shown.collect())
        }
        Err(failure) => {
            response.with_error_code(failure.error.code()).with_error_message(Some(failure.message.into()))
        }
    })
}

/// A key with where its value comes from: what it is set on, the broker's start, or the default.
pub fn shown(
    entry: GroupConfigEntry,
    set_on: i8,
    synonyms: bool,
    documented: bool,
    version: i16,
) -> DescribeConfigsResourceResult {
    let sources = sources(&entry, set_on);
    let (value, source) =
        sources.first().map_or((None, DEFAULT), |first| (first.value.clone(), first.source));
    let response = DescribeConfigsResourceResult::default()
        .with_name(KafkaString::from_static(entry.name))
        .with_value(value)
        .with_config_source(source)
        .with_synonyms(if synonyms { sources } else { Vec::new() });
    match version >= TYPES {
        true => response
            .with_config_type(entry.kind.code())
            .with_documentation(documented.then(|| KafkaString::from_static(entry.documentation))),
        false => response,
    }
}

fn sources(entry: &GroupConfigEntry, set_on: i8) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: &str, value: &str, source| {
        DescribeConfigsSynonym::default()
            .with_name(name.to_owned().into())
            .with_value(Some(value.to_owned().into()))
            .with_source(source)
    };
    let set = entry.set.iter().map(|value| synonym(entry.name, value, set_on));
    let broker = entry.broker.as_ref();
    let at_start = broker.filter(|(_, value)| value != entry.default);
    let at_start = at_start.map(|(name, value)| synonym(name, value, SET_AT_START));
    let name = broker.map_or(entry.name, |(name, _)| name);
    set.chain(at_start).chain([synonym(name, entry.default, DEFAULT)]).collect()
}

pub async fn alter(
    call: &Call,
    change: AlterConfig,
    validate_only: bool,
) -> Result<Result<(), Failure>, CallError> {
    let AlterConfig { topic: group_id, replace, changes } = change;
    let names: Vec<String> = changes.iter().map(|(name, _)| name.clone()).collect();
    let groups = vec![AlterGroupConfig { group_id: group_id.clone(), replace, changes }];
    let altered = call.ask(Request::AlterGroupConfigs { groups, validate_only }).await?;
    let Response::AlterGroupConfigs(mut altered) = altered else { return Err(call.mismatch()) };
    let Some((_, result)) = altered.pop() else { return Err(call.mismatch()) };
    if result.is_ok() && !validate_only {
        call.changed(rights::ALTER_GROUP_CONFIGS, &group_id, || Some(names.join(", ")));
    }
    Ok(result)
}
