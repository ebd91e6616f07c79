//! Configuration of single groups (resource type GROUP of KIP-848), durable before a group exists and after it is gone.
//!
//! Owns the keys and their legal ranges, which the broker's settings give; refuses unknown keys by naming the nearest.

use std::collections::BTreeMap;

use crate::configs::{ConfigKey, ConfigKind, Legal, key};
use crate::consumer::Timeouts;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;
use crate::request::{AlterGroupConfig, ConfigChange, DescribeGroupConfig};
use crate::response::{ConfigEntry, DescribedGroupConfigs};
use crate::settings::Settings;

const SESSION: &str = "consumer.session.timeout.ms";
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";

/// Every key a group may set, in alphabetical order.
#[rustfmt::skip]
pub static GROUP_CONFIGS: &[ConfigKey] = &[
    key(HEARTBEAT, ConfigKind::Int, "5000", Legal::AtLeast(1), "How often members of the consumer protocol should send a heartbeat, in milliseconds."),
    key(SESSION, ConfigKind::Int, "45000", Legal::AtLeast(1), "How long a member of the consumer protocol may be silent before it is out, in milliseconds."),
];

type Configs = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(crate) struct GroupConfigs {
    groups: BTreeMap<String, Configs>,
}

/// What the broker's settings say of a key: its default, the least and the most.
fn range(settings: &Settings, name: &str) -> (i32, i32, i32) {
    match name {
        HEARTBEAT => (
            settings.consumer_heartbeat_interval_ms,
            settings.consumer_min_heartbeat_interval_ms,
            settings.consumer_max_heartbeat_interval_ms,
        ),
        _ => (
            settings.consumer_session_timeout_ms,
            settings.consumer_min_session_timeout_ms,
            settings.consumer_max_session_timeout_ms,
        ),
    }
}

fn find(name: &str) -> Result<&'static ConfigKey, Failure> {
    if let Some(key) = GROUP_CONFIGS.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let nearest = GROUP_CONFIGS
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(name, a.name).total_cmp(&strsim::jaro_winkler(name, b.name)))
        .map_or("", |key| key.name);
    let shown: String = name.chars().take(100).collect();
    let message = format!("unknown group configuration '{shown}': did you mean '{nearest}'?");
    Err(Failure::new(Error::InvalidConfig, message))
}

fn check(settings: &Settings, key: &ConfigKey, value: &str) -> Result<(), Failure> {
    let (_, least, most) = range(settings, key.name);
    match value.trim().parse::<i32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(()),
        _ => Err(Failure::new(
            Error::InvalidConfig,
            format!("{} = '{value}' is not legal: use a whole number from {least} to {most}", key.name),
        )),
    }
}

impl GroupConfigs {
    pub fn put(&mut self, group_id: &str, configs: Configs) {
        match configs.is_empty() {
            true => drop(self.groups.remove(group_id)),
            false => drop(self.groups.insert(group_id.to_owned(), configs)),
        }
    }

    fn number(&self, settings: &Settings, group_id: &str, name: &str) -> i32 {
        let (default, least, most) = range(settings, name);
        let set = self.groups.get(group_id).and_then(|configs| configs.get(name));
        let set = set.and_then(|value| value.trim().parse::<i32>().ok());
        // The range may be another one than when the value was set.
        set.map_or(default, |value| value.clamp(least, most.max(least)))
    }

    pub fn timeouts(&self, settings: &Settings, group_id: &str) -> Timeouts {
        Timeouts {
            session_ms: self.number(settings, group_id, SESSION),
            heartbeat_interval_ms: self.number(settings, group_id, HEARTBEAT),
        }
    }

    /// Every key, or those asked for, with its effective value; any group id is a group.
    pub fn describe(&self, settings: &Settings, wanted: DescribeGroupConfig) -> DescribedGroupConfigs {
        let DescribeGroupConfig { group_id, keys } = wanted;
        if group_id.is_empty() {
            return DescribedGroupConfigs { group_id, result: Err(Error::InvalidGroupId.into()) };
        }
        let set = self.groups.get(&group_id);
        let asked =
            |key: &&ConfigKey| keys.as_ref().is_none_or(|keys| keys.iter().any(|name| name == key.name));
        let entry = |key: &'static ConfigKey| ConfigEntry {
            name: key.name,
            value: self.number(settings, &group_id, key.name).to_string(),
            default: key.default,
            is_default: !set.is_some_and(|configs| configs.contains_key(key.name)),
            kind: key.kind,
            documentation: key.documentation,
        };
        let entries = GROUP_CONFIGS.iter().filter(asked).map(entry).collect();
        DescribedGroupConfigs { group_id, result: Ok(entries) }
    }

    pub fn alter(
        &mut self,
        cx: &mut Context,
        wanted: AlterGroupConfig,
        validate_only: bool,
    ) -> Result<(), Failure> {
        let AlterGroupConfig { group_id, replace, changes } = wanted;
        if group_id.is_empty() {
            return Err(Error::InvalidGroupId.into());
        }
        let before = self.groups.get(&group_id).filter(|_| !replace).cloned().unwrap_or_default();
        let configs = altered(&cx.settings, before, &changes)?;
        if !validate_only {
            self.put(&group_id, configs.clone());
            cx.append(StateRecord::GroupConfigs { group_id, configs });
        }
        Ok(())
    }

    pub fn snapshot(&self) -> impl Iterator<Item = StateRecord> + '_ {
        self.groups.iter().map(|(group_id, configs)| StateRecord::GroupConfigs {
            group_id: group_id.clone(),
            configs: configs.clone(),
        })
    }
}

fn altered(
    settings: &Settings,
    mut configs: Configs,
    changes: &[(String, ConfigChange)],
) -> Result<Configs, Failure> {
    for (place, (name, change)) in changes.iter().enumerate() {
        let key = find(name)?;
        if changes[..place].iter().any(|(other, _)| other == name) {
            let message = format!("configuration '{name}' is given twice");
            return Err(Failure::new(Error::InvalidRequest, message));
        }
        match change {
            ConfigChange::Delete => drop(configs.remove(name)),
            ConfigChange::Set(value) => {
                check(settings, key, value)?;
                configs.insert(name.clone(), value.clone());
            }
            ConfigChange::Append(_) | ConfigChange::Subtract(_) => {
                let message = format!("'{name}' is not a list: it can be set or deleted, not appended to");
                return Err(Failure::new(Error::InvalidConfig, message));
            }
        }
    }
    let number = |name| {
        let set: Option<i32> = configs.get(name).and_then(|value: &String| value.trim().parse().ok());
        set.unwrap_or(range(settings, name).0)
    };
    if number(HEARTBEAT) >= number(SESSION) {
        let message =
            format!("{HEARTBEAT} must be less than {SESSION}, or members are out between two heartbeats");
        return Err(Failure::new(Error::InvalidConfig, message));
    }
    Ok(configs)
}
