//! What is set on the running broker: resource type BROKER of AlterConfigs and IncrementalAlterConfigs (KIP-226).
//!
//! Owns what is set on the broker and on every broker of the cluster, and what topics inherit of it; a change is taken as a
//! whole or not at all. What is set on the broker goes before what is set on all, before what it was started with.

mod keys;

use std::collections::{BTreeMap, BTreeSet};

use crate::configs;
use crate::error::{Error, Failure};
use crate::kinds;
use crate::records::{StateRecord, TopicRecord};
use crate::request::{AlterBrokerConfig, ConfigChange};

pub use keys::{BrokerKey, of_topic as broker_config_of_topic};

type Configs = BTreeMap<String, String>;

/// Where the broker has a value from, what goes first being first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerLayer {
    /// Set on this broker while it runs.
    Broker,
    /// Set on every broker of the cluster.
    Cluster,
    /// From its start.
    Start,
}

/// What is set of the broker, by the broker's names of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfigs {
    /// The id of the broker that `broker` is of.
    id: i32,
    broker: Configs,
    cluster: Configs,
    start: Configs,
}

impl BrokerConfigs {
    /// `start` is what the broker was started with, of keys that topics inherit.
    pub(crate) fn new(start: Configs) -> Self {
        Self { start, ..Self::default() }
    }

    pub fn layer(&self, layer: BrokerLayer) -> &BTreeMap<String, String> {
        match layer {
            BrokerLayer::Broker => &self.broker,
            BrokerLayer::Cluster => &self.cluster,
            BrokerLayer::Start => &self.start,
        }
    }

    /// Every value of a key that is set, what holds being first.
    pub fn values(&self, name: &str) -> Vec<(BrokerLayer, String)> {
        let layers = [BrokerLayer::Broker, BrokerLayer::Cluster, BrokerLayer::Start];
        let value = |layer| Some((layer, self.layer(layer).get(name)?.clone()));
        layers.into_iter().filter_map(value).collect()
    }

    /// What a topic has of a key that it does not set; `None` for the default.
    pub(crate) fn inherited(&self, topic: &TopicRecord, topic_key: &str) -> Option<&str> {
        let name = broker_name(topic, topic_key)?;
        let layers = [&self.broker, &self.cluster, &self.start];
        layers.into_iter().find_map(|layer| layer.get(name)).map(String::as_str)
    }

    /// Every value that a topic could have from the broker, what holds being first.
    pub(crate) fn of_topic(&self, topic: &TopicRecord, topic_key: &str) -> Vec<(BrokerLayer, String)> {
        broker_name(topic, topic_key).map_or_else(Vec::new, |name| self.values(name))
    }

    pub(crate) fn put(&mut self, broker: Option<i32>, configs: Configs) {
        match broker {
            // There is one broker, so what is set on any is set on this one.
            Some(id) => (self.id, self.broker) = (id, configs),
            None => self.cluster = configs,
        }
    }

    /// All that is set once a change is made.
    pub(crate) fn altered(&self, wanted: AlterBrokerConfig) -> Result<Configs, Failure> {
        let AlterBrokerConfig { broker, replace, changes } = wanted;
        let before = if broker.is_some() { &self.broker } else { &self.cluster };
        changed(before, broker.is_none(), replace, &changes)
    }

    /// The records that lead to this.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = StateRecord> + '_ {
        let layers = [(Some(self.id), &self.broker), (None, &self.cluster)];
        let set = layers.into_iter().filter(|(_, configs)| !configs.is_empty());
        set.map(|(broker, configs)| StateRecord::BrokerConfigs { broker, configs: configs.clone() })
    }
}

/// How the names of the node's own streams begin.
const OF_THE_NODE: &str = "_headwater.";

/// What a topic's key is called on the broker, if the topic has it from there.
fn broker_name(topic: &TopicRecord, topic_key: &str) -> Option<&'static str> {
    // Without keys there is nothing to compact by, so such a stream has its policy from nobody.
    // The node's own streams are not compacted because somebody wants it of all others: they are a record.
    let alone = topic_key == kinds::POLICY
        && (kinds::is_unkeyed(&topic.configs) || topic.name.starts_with(OF_THE_NODE));
    if alone { None } else { keys::of_topic(topic_key) }
}

/// `before` with the changes made, or without anything else when `replace`.
fn changed(
    before: &Configs,
    of_cluster: bool,
    replace: bool,
    changes: &[(String, ConfigChange)],
) -> Result<Configs, Failure> {
    let mut result = if replace { Configs::new() } else { before.clone() };
    let mut seen = BTreeSet::new();
    for (name, change) in changes {
        if !seen.insert(name) {
            return Err(invalid(format!("configuration '{name}' is given twice")));
        }
        // Tools take off what may be set on a broker without asking whether it is.
        if *change == ConfigChange::Delete {
            result.remove(name);
            continue;
        }
        let key = BrokerKey::find(name).ok_or_else(|| unknown(name))?;
        if of_cluster && key.is_per_broker() {
            let message = format!(
                "Cannot update these configs at default cluster level, broker id must be specified: [{name}]"
            );
            return Err(invalid(message));
        }
        let current = result.get(name).map_or(key.default, String::as_str);
        let value = configs::value_after(name, key.kind, current, change)?;
        key.check(&value).map_err(invalid)?;
        result.insert(name.clone(), configs::kept(key.kind, value));
    }
    Ok(result)
}

fn invalid(message: String) -> Failure {
    Failure::new(Error::InvalidRequest, message)
}

fn unknown(name: &str) -> Failure {
    let shown: String = name.chars().take(100).collect();
    let name = shown.as_str();
    let nearest = BrokerKey::all()
        .max_by(|a, b| strsim::jaro_winkler(name, a.name).total_cmp(&strsim::jaro_winkler(name, b.name)))
        .map_or("", |key| key.name);
    let message = format!("'{shown}' cannot be set on a running broker: did you mean '{nearest}'?");
    Failure::new(Error::InvalidConfig, message)
}
