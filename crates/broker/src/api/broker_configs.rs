//! The configuration of the broker (resource type 4): what it was started with, and what is set while it runs (KIP-226).
//!
//! What it was started with is read-only. What may be set is what topics inherit, and keys of Kafka that change nothing
//! here; on this broker, or with no name on every broker.

mod fixed;
mod started;

use headwater_coordinator::{
    AlterBrokerConfig, AlterConfig, BrokerConfigs, BrokerKey, BrokerLayer, ConfigChange, ConfigKind, Error,
    Failure, Request, Response,
};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::config_resources::BROKER;
use super::configs::DEFAULT;
use super::{Call, CallError, rights, texts};
use crate::{BROKER_SETTINGS, Config, NODE_ID};
use fixed::fixed;
use started::started;

const SET_ON_BROKER: i8 = 2;
const SET_ON_ALL: i8 = 3;
pub const SET_AT_START: i8 = 4;
/// From here on an entry says its type.
const TYPES: i16 = 3;

/// Where a value comes from, as `config_source`.
pub fn source(layer: BrokerLayer) -> i8 {
    match layer {
        BrokerLayer::Broker => SET_ON_BROKER,
        BrokerLayer::Cluster => SET_ON_ALL,
        BrokerLayer::Start => SET_AT_START,
    }
}

struct Entry {
    name: &'static str,
    /// What is set, what holds being first.
    values: Vec<(BrokerLayer, String)>,
    /// What it is unless set; nothing where nothing is set.
    default: Option<String>,
    kind: ConfigKind,
    documentation: &'static str,
    read_only: bool,
}

/// Which broker a resource is: `None` is every one.
fn broker(name: &str) -> Result<Option<i32>, Failure> {
    match name {
        "" => Ok(None),
        name if name == NODE_ID.to_string() => Ok(Some(NODE_ID)),
        name => Err(Failure::new(
            Error::InvalidRequest,
            format!("there is no broker '{name}', only {NODE_ID}, and '' for every broker"),
        )),
    }
}

pub async fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
    documented: bool,
) -> Result<DescribeConfigsResult, CallError> {
    let broker = broker(resource.resource_name.as_str());
    let response = DescribeConfigsResult::default()
        .with_resource_type(BROKER)
        .with_resource_name(resource.resource_name);
    let broker = match broker {
        Ok(broker) => broker,
        Err(failure) => {
            return Ok(response
                .with_error_code(ErrorCode::InvalidRequest.code())
                .with_error_message(Some(failure.message.into())));
        }
    };
    let Response::DescribeBrokerConfigs(set) = call.ask(Request::DescribeBrokerConfigs).await? else {
        return Err(call.mismatch());
    };
    let entries = match broker {
        Some(_) => entries(&call.shared.config, &set),
        None => of_all(&set),
    };
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let wanted = |entry: &Entry| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == entry.name));
    let shown =
        entries.into_iter().filter(wanted).map(|entry| entry.shown(synonyms, documented, call.version));
    Ok(response.with_configs(shown.collect()))
}

/// What is set on every broker, and nothing else.
fn of_all(set: &BrokerConfigs) -> Vec<Entry> {
    let configs = set.layer(BrokerLayer::Cluster);
    let entry = |key: BrokerKey| {
        let value = configs.get(key.name)?.clone();
        let values = vec![(BrokerLayer::Cluster, value)];
        Some(Entry { values, default: None, ..Entry::of(key, set) })
    };
    BrokerKey::all().filter_map(entry).collect()
}

fn entries(config: &Config, set: &BrokerConfigs) -> Vec<Entry> {
    let while_running = BrokerKey::all().map(|key| Entry::of(key, set));
    let mut entries: Vec<Entry> = while_running.chain(started(config)).chain(fixed(config)).collect();
    entries.sort_by_key(|entry| entry.name);
    entries.dedup_by_key(|entry| entry.name);
    entries
}

impl Entry {
    fn of(key: BrokerKey, set: &BrokerConfigs) -> Self {
        Self {
            name: key.name,
            values: set.values(key.name),
            default: Some(key.default.to_owned()),
            kind: key.kind,
            documentation: key.documentation,
            read_only: false,
        }
    }

    fn shown(self, synonyms: bool, documented: bool, version: i16) -> DescribeConfigsResourceResult {
        let secret = self.kind == ConfigKind::Password;
        let set = self.values.into_iter().map(|(layer, value)| (source(layer), value));
        let all: Vec<(i8, String)> = set.chain(self.default.map(|value| (DEFAULT, value))).collect();
        let synonym = |(source, value): &(i8, String)| {
            DescribeConfigsSynonym::default()
                .with_name(KafkaString::from_static(self.name))
                .with_value((!secret).then(|| value.clone().into()))
                .with_source(*source)
        };
        let told = if synonyms { all.iter().map(synonym).collect() } else { Vec::new() };
        let holds = all.into_iter().next();
        let (source, value) = holds.map_or((DEFAULT, None), |(source, value)| (source, Some(value)));
        let response = DescribeConfigsResourceResult::default()
            .with_name(KafkaString::from_static(self.name))
            .with_is_sensitive(secret)
            .with_value(value.filter(|_| !secret).map(KafkaString::from))
            .with_read_only(self.read_only)
            .with_config_source(source)
            .with_synonyms(told);
        match version >= TYPES {
            true => response
                .with_config_type(self.kind.code())
                .with_documentation(documented.then(|| KafkaString::from_static(self.documentation))),
            false => response,
        }
    }
}

pub async fn alter(
    call: &Call,
    change: AlterConfig,
    validate_only: bool,
) -> Result<Result<(), Failure>, CallError> {
    let AlterConfig { topic: name, replace, changes } = change;
    let broker = match broker(&name).and_then(|broker| settable(call, &changes).map(|()| broker)) {
        Ok(broker) => broker,
        Err(failure) => return Ok(Err(failure)),
    };
    let keys = changes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ");
    let change = AlterBrokerConfig { broker, replace, changes };
    let altered = call.ask(Request::AlterBrokerConfigs { change, validate_only }).await?;
    let Response::AlterBrokerConfigs(result) = altered else { return Err(call.mismatch()) };
    if result.is_ok() && !validate_only {
        call.changed(rights::ALTER_CLUSTER_CONFIGS, &name, || Some(keys));
    }
    Ok(result)
}

/// Refuses what the broker has from its start. To delete what is not set is no change.
fn settable(call: &Call, changes: &[(String, ConfigChange)]) -> Result<(), Failure> {
    let read_only = |name: &str| {
        BROKER_SETTINGS.iter().any(|setting| setting.name == name)
            || fixed(&call.shared.config).any(|entry| entry.name == name)
    };
    let set = changes.iter().filter(|(_, change)| *change != ConfigChange::Delete);
    let fixed: Vec<_> = set.map(|(name, _)| name.as_str()).filter(|name| read_only(name)).collect();
    match fixed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            Error::InvalidRequest,
            format!(
                "Cannot update these configs dynamically: [{}]: restart the broker with --config KEY=VALUE",
                fixed.join(", ")
            ),
        )),
    }
}
