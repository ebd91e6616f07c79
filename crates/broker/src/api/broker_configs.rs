//! The configuration of the broker as tools see it: what it was started with, and the defaults that topics have from it.
//!
//! All of it is read-only: the broker's configuration is fixed at its start.

use headwater_coordinator::{ConfigKind, TOPIC_CONFIGS};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::config_resources::BROKER;
use super::configs::DEFAULT;
use super::{config_synonyms, texts};
use crate::{BROKER_SETTINGS, Config, NODE_ID};

pub const SET_AT_START: i8 = 4;
/// From here on an entry says its type.
const TYPES: i16 = 3;

struct Entry {
    name: &'static str,
    value: String,
    /// What it is unless set.
    default: Option<String>,
    kind: ConfigKind,
    documentation: &'static str,
}

pub fn describe(
    config: &Config,
    resource: DescribeConfigsResource,
    synonyms: bool,
    version: i16,
) -> DescribeConfigsResult {
    let name = resource.resource_name.as_str().to_owned();
    let response = DescribeConfigsResult::default()
        .with_resource_type(BROKER)
        .with_resource_name(resource.resource_name);
    if name.is_empty() {
        // What all brokers of a cluster were told while they ran, which is nothing.
        return response;
    }
    if name != NODE_ID.to_string() {
        return response
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_error_message(Some(format!("there is no broker '{name}', only {NODE_ID}").into()));
    }
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let wanted = |entry: &Entry| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == entry.name));
    let shown = entries(config).into_iter().filter(wanted).map(|entry| entry.shown(synonyms, version));
    response.with_configs(shown.collect())
}

fn entries(config: &Config) -> Vec<Entry> {
    let unset = Config::default();
    let set = BROKER_SETTINGS.iter().map(|setting| Entry {
        name: setting.name,
        value: setting.value(config),
        default: Some(setting.value(&unset)),
        kind: setting.config_kind(),
        documentation: setting.documentation,
    });
    let of_topics = TOPIC_CONFIGS.iter().filter_map(|key| {
        Some(Entry {
            name: config_synonyms::of_broker(key.name)?,
            value: key.default.to_owned(),
            default: Some(key.default.to_owned()),
            kind: key.kind,
            documentation: key.documentation,
        })
    });
    let mut entries: Vec<Entry> = set.chain(of_topics).chain(fixed(config)).collect();
    entries.sort_by_key(|entry| entry.name);
    entries.dedup_by_key(|entry| entry.name);
    entries
}

/// What one broker cannot have otherwise.
fn fixed(config: &Config) -> impl Iterator<Item = Entry> {
    let node = NODE_ID.to_string();
    let whole = ConfigKind::Int;
    let fixed = [
        ("broker.id", node.clone(), whole, "The id of the only broker."),
        (
            "default.replication.factor",
            "1".to_owned(),
            whole,
            "Replicas of a topic whose creator does not say.",
        ),
        ("delete.topic.enable", "true".to_owned(), ConfigKind::Boolean, "Whether topics can be deleted."),
        ("log.dirs", config.data_dir.display().to_string(), ConfigKind::String, "Where all data is."),
        ("node.id", node, whole, "The id of the only node."),
        ("offsets.topic.replication.factor", "1".to_owned(), whole, "Replicas of committed offsets."),
        ("process.roles", "broker,controller".to_owned(), ConfigKind::List, "What the only node is."),
        (
            "transaction.state.log.min.isr",
            "1".to_owned(),
            whole,
            "Replicas that must have a transaction's state.",
        ),
        (
            "transaction.state.log.replication.factor",
            "1".to_owned(),
            whole,
            "Replicas of transactions' states.",
        ),
    ];
    fixed.into_iter().map(|(name, value, kind, documentation)| Entry {
        name,
        value,
        default: None,
        kind,
        documentation,
    })
}

impl Entry {
    fn shown(self, synonyms: bool, version: i16) -> DescribeConfigsResourceResult {
        let set = self.default.as_ref() != Some(&self.value);
        let source = if set { SET_AT_START } else { DEFAULT };
        let synonym = |value: &str, source: i8| {
            DescribeConfigsSynonym::default()
                .with_name(KafkaString::from_static(self.name))
                .with_value(Some(value.to_owned().into()))
                .with_source(source)
        };
        let own = set.then(|| synonym(&self.value, SET_AT_START));
        let all = own.into_iter().chain(self.default.as_deref().map(|value| synonym(value, DEFAULT)));
        let all: Vec<_> = if synonyms { all.collect() } else { Vec::new() };
        let secret = self.kind == ConfigKind::Password;
        let response = DescribeConfigsResourceResult::default()
            .with_name(KafkaString::from_static(self.name))
            .with_is_sensitive(secret)
            .with_value((!secret).then(|| self.value.into()))
            .with_read_only(true)
            .with_config_source(source)
            .with_synonyms(all);
        match version >= TYPES {
            true => response
                .with_config_type(self.kind.code())
                .with_documentation(Some(KafkaString::from_static(self.documentation))),
            false => response,
        }
    }
}
