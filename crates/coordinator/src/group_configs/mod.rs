//! Configuration of single groups (resource type GROUP of KIP-848), durable before a group exists and after it is gone.
//!
//! Owns what is set on each group, of whatever type; a change is taken as a whole or not at all. Refuses unknown keys by
//! naming the nearest, and numbers outside the bounds that the broker's settings give.

mod keys;

use std::collections::BTreeMap;

use crate::configs::{self, ConfigKey};
use crate::consumer::Timeouts;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;
use crate::request::{AlterGroupConfig, DescribeGroupConfig};
use crate::response::{DescribedGroupConfigs, GroupConfigEntry};
use crate::settings::Settings;
use crate::share::ShareSettings;

pub use keys::GROUP_CONFIGS;
pub(crate) use keys::*;

type Configs = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(crate) struct GroupConfigs {
    groups: BTreeMap<String, Configs>,
}

/// What holds for one group: what it has set, within the bounds, and the broker's defaults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effective<'a> {
    set: Option<&'a Configs>,
    settings: &'a Settings,
}

impl Effective<'_> {
    /// Of a key with bounds.
    pub fn number(&self, name: &str) -> i32 {
        let Some(Bounds { default, least, most }) = keys::bounds(self.settings, name) else { return 0 };
        let set = self.text(name).and_then(|value| value.trim().parse::<i32>().ok());
        // The bounds may be others than when the value was set.
        set.map_or(default, |value| value.clamp(least, most.max(least)))
    }

    /// What is set on the group itself.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.set?.get(name).map(String::as_str)
    }

    fn entry(&self, key: &'static ConfigKey) -> GroupConfigEntry {
        let broker = keys::of_broker(key).zip(keys::bounds(self.settings, key.name));
        let broker = broker.map(|(name, bounds)| (name, bounds.default.to_string()));
        let set = self.text(key.name).map(|set| match broker {
            Some(_) => self.number(key.name).to_string(),
            None => set.to_owned(),
        });
        GroupConfigEntry {
            name: key.name,
            set,
            broker,
            default: key.default,
            kind: key.kind,
            documentation: key.documentation,
        }
    }
}

impl GroupConfigs {
    pub fn put(&mut self, group_id: &str, configs: Configs) {
        match configs.is_empty() {
            true => drop(self.groups.remove(group_id)),
            false => drop(self.groups.insert(group_id.to_owned(), configs)),
        }
    }

    /// The groups of which anything is set.
    pub fn names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    pub fn of<'a>(&'a self, settings: &'a Settings, group_id: &str) -> Effective<'a> {
        Effective { set: self.groups.get(group_id), settings }
    }

    pub fn timeouts(&self, settings: &Settings, group_id: &str) -> Timeouts {
        let of = self.of(settings, group_id);
        Timeouts {
            session_ms: of.number(CONSUMER_SESSION),
            heartbeat_interval_ms: of.number(CONSUMER_HEARTBEAT),
            assignment_interval_ms: of.number(CONSUMER_ASSIGNMENT),
        }
    }

    pub fn share(&self, settings: &Settings, group_id: &str) -> ShareSettings {
        ShareSettings::of(self.of(settings, group_id))
    }

    /// Every key, or those asked for; any group id is a group.
    pub fn describe(&self, settings: &Settings, wanted: DescribeGroupConfig) -> DescribedGroupConfigs {
        let DescribeGroupConfig { group_id, keys } = wanted;
        if group_id.is_empty() {
            let unnamed = Failure::new(Error::InvalidRequest, "name the group");
            return DescribedGroupConfigs { group_id, result: Err(unnamed) };
        }
        let of = self.of(settings, &group_id);
        let asked =
            |key: &&ConfigKey| keys.as_ref().is_none_or(|keys| keys.iter().any(|name| name == key.name));
        let entries = GROUP_CONFIGS.iter().filter(asked).map(|key| of.entry(key)).collect();
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
        let before = self.groups.get(&group_id).cloned().unwrap_or_default();
        let configs = configs::changed(GROUP_CONFIGS, "group", &before, replace, &changes)?;
        check(&cx.settings, &configs)?;
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

/// Whether numbers are within their bounds, and sessions longer than the time between two heartbeats.
fn check(settings: &Settings, configs: &Configs) -> Result<(), Failure> {
    let number = |name: &str| configs.get(name).and_then(|value| value.trim().parse::<i32>().ok());
    for (name, value) in configs {
        let Some(Bounds { least, most, .. }) = keys::bounds(settings, name) else { continue };
        if !number(name).is_some_and(|number| (least..=most).contains(&number)) {
            let message = format!(
                "{name} = '{value}' is not legal: use a whole number from {least} to {most}, which are the broker's bounds"
            );
            return Err(Failure::new(Error::InvalidConfig, message));
        }
    }
    let of = Effective { set: Some(configs), settings };
    for (session, heartbeat) in SESSIONS {
        let touched = configs.contains_key(session) || configs.contains_key(heartbeat);
        if touched && of.number(heartbeat) >= of.number(session) {
            let message =
                format!("{heartbeat} must be less than {session}, or members are out between two heartbeats");
            return Err(Failure::new(Error::InvalidConfig, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_the_table_is_the_brokers_and_within_the_bounds() {
        let settings = Settings::default();
        for key in GROUP_CONFIGS {
            let Some(bounds) = keys::bounds(&settings, key.name) else { continue };
            assert_eq!(bounds.default.to_string(), key.default, "{}", key.name);
            assert!((bounds.least..=bounds.most).contains(&bounds.default), "{}: {bounds:?}", key.name);
            assert_eq!(keys::of_broker(key), Some(format!("group.{}", key.name)));
        }
        assert!(GROUP_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
    }
}
