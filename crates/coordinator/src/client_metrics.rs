//! Subscriptions to the metrics of clients (resource type CLIENT_METRICS, KIP-714), as tools set and show them.
//!
//! Owns what is set of each; a change is taken as a whole or not at all. Nobody here takes the metrics, so that clients are
//! told to send none, as by an Apache Kafka without a receiver of them.

use std::collections::BTreeMap;

use crate::configs::{self, ConfigKey, ConfigKind, Legal, key};
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;
use crate::request::AlterConfig;
use crate::response::GroupConfigEntry;
use crate::whole_match::whole_match;

/// What may be asked of a client, in `match`.
const SELECTORS: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];
/// Between 100 ms and an hour.
const INTERVALS_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;

/// Every key, in alphabetical order.
static CLIENT_METRICS_CONFIGS: &[ConfigKey] = &[
    key(
        "interval.ms",
        ConfigKind::Int,
        "300000",
        Legal::Checked(is_interval, "a whole number of milliseconds from 100 to 3600000"),
        "How often clients send the metrics, in milliseconds.",
    ),
    key(
        "match",
        ConfigKind::List,
        "",
        Legal::Checked(
            is_match,
            "NAME=REGEX with commas between several; names are client_id, client_instance_id, client_software_name, client_software_version, client_source_address and client_source_port",
        ),
        "Which clients send the metrics; all where nothing is said.",
    ),
    key("metrics", ConfigKind::List, "", Legal::Any, "How the names of the metrics begin; * for all."),
];

type Configs = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(crate) struct ClientMetrics {
    subscriptions: BTreeMap<String, Configs>,
}

fn is_interval(value: &str) -> bool {
    value.trim().parse().is_ok_and(|ms| INTERVALS_MS.contains(&ms))
}

fn is_match(value: &str) -> bool {
    let legal = |part: &str| {
        part.split_once('=').is_some_and(|(name, regex)| {
            SELECTORS.contains(&name.trim()) && whole_match(regex.trim()).is_ok()
        })
    };
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).all(legal)
}

impl ClientMetrics {
    pub fn put(&mut self, name: &str, configs: Configs) {
        match configs.is_empty() {
            true => drop(self.subscriptions.remove(name)),
            false => drop(self.subscriptions.insert(name.to_owned(), configs)),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.subscriptions.keys().cloned().collect()
    }

    /// Every key of a subscription, or those asked for; one of which nothing is set has the defaults.
    pub fn describe(&self, name: &str, keys: Option<&[String]>) -> Vec<GroupConfigEntry> {
        let set = self.subscriptions.get(name);
        let asked = |key: &&ConfigKey| keys.is_none_or(|keys| keys.iter().any(|name| name == key.name));
        let entry = |key: &'static ConfigKey| GroupConfigEntry {
            name: key.name,
            set: set.and_then(|set| set.get(key.name)).cloned(),
            broker: None,
            default: key.default,
            kind: key.kind,
            documentation: key.documentation,
        };
        CLIENT_METRICS_CONFIGS.iter().filter(asked).map(entry).collect()
    }

    pub fn alter(
        &mut self,
        cx: &mut Context,
        wanted: AlterConfig,
        validate_only: bool,
    ) -> Result<(), Failure> {
        let AlterConfig { topic: name, replace, changes } = wanted;
        if name.is_empty() {
            return Err(Failure::new(Error::InvalidRequest, "name the subscription"));
        }
        let before = self.subscriptions.get(&name).cloned().unwrap_or_default();
        let configs = configs::changed(
            CLIENT_METRICS_CONFIGS,
            "subscription to client metrics",
            &before,
            replace,
            &changes,
        )?;
        if !validate_only {
            self.put(&name, configs.clone());
            cx.append(StateRecord::ClientMetrics { name, configs });
        }
        Ok(())
    }

    pub fn snapshot(&self) -> impl Iterator<Item = StateRecord> + '_ {
        let record = |(name, configs): (&String, &Configs)| StateRecord::ClientMetrics {
            name: name.clone(),
            configs: configs.clone(),
        };
        self.subscriptions.iter().map(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_name_what_clients_say_of_themselves() {
        for legal in
            ["", "client_id=a.*", "client_software_name=apache-kafka-java, client_source_port=90[0-9]+"]
        {
            assert!(is_match(legal), "{legal}");
        }
        for illegal in ["client_id", "nonsense=x", "client_id=[", "client_id=a,b"] {
            assert!(!is_match(illegal), "{illegal}");
        }
        assert!(is_interval("100") && is_interval("3600000") && !is_interval("99") && !is_interval("x"));
    }
}
