//! The features of the cluster and the levels that are finalized (KIP-584): what clients decide by.
//!
//! Owns which levels there are and the rules of changing them; a level other than the one of a new broker is kept in the
//! state log. Of these, `transaction.version` alone can be changed, because the broker serves transactions of all its
//! levels at any time: below 2 a client adds partitions to its transaction itself, and ends it without a new epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;

/// One feature that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// The levels there are.
    pub oldest: i16,
    pub newest: i16,
    /// Whether it can be set to another level than its newest.
    changes: bool,
}

/// KIP-890: from level 2 on every transaction has its own epoch, and writing to a partition adds it.
const TRANSACTION_VERSION: &str = "transaction.version";

/// In the order of their names. Of Kafka's own replicas and metadata there is nothing here; their levels are those of
/// Apache Kafka 4.3, which tools ask for when they bring all features to a release.
pub static FEATURES: [Feature; 7] = [
    fixed("eligible.leader.replicas.version", 0, 1),
    // KIP-848: the consumer group protocol.
    fixed("group.version", 0, 1),
    fixed("kraft.version", 0, 1),
    fixed("metadata.version", 7, 30),
    // KIP-932: there are share groups.
    fixed("share.version", 0, 1),
    // KIP-1071: there are streams groups.
    fixed("streams.version", 0, 1),
    Feature { name: TRANSACTION_VERSION, oldest: 0, newest: 2, changes: true },
];

const fn fixed(name: &'static str, oldest: i16, newest: i16) -> Feature {
    Feature { name, oldest, newest, changes: false }
}

/// A level that was finalized, and the epoch of the features from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureRecord {
    pub name: String,
    pub level: i16,
    pub epoch: i64,
}

/// Which way a level is to go, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureChange {
    Unknown,
    Upgrade,
    Downgrade,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    pub change: FeatureChange,
}

/// The levels that were set, and how often any was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    levels: BTreeMap<String, i16>,
    epoch: i64,
}

impl FeatureChange {
    /// Of UpdateFeatures: 1 upgrades, 2 and 3 downgrade, safely or not.
    pub fn from_wire(number: i8) -> Self {
        match number {
            1 => Self::Upgrade,
            2 | 3 => Self::Downgrade,
            _ => Self::Unknown,
        }
    }
}

impl Features {
    /// Grows with every change.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    pub fn level(&self, feature: &Feature) -> i16 {
        self.levels.get(feature.name).copied().unwrap_or(feature.newest)
    }

    pub fn put(&mut self, FeatureRecord { name, level, epoch }: FeatureRecord) {
        self.epoch = self.epoch.max(epoch);
        self.levels.insert(name, level);
    }

    /// The records that lead to this.
    pub fn records(&self) -> impl Iterator<Item = FeatureRecord> + '_ {
        let record = |(name, level): (&String, &i16)| FeatureRecord {
            name: name.clone(),
            level: *level,
            epoch: self.epoch,
        };
        self.levels.iter().map(record)
    }

    /// All of the changes, or none.
    pub(crate) fn update(
        &mut self,
        cx: &mut Context,
        wanted: &[FeatureUpdate],
        validate_only: bool,
    ) -> Result<(), Failure> {
        for update in wanted {
            self.check(update).map_err(|why| {
                let FeatureUpdate { name, level, .. } = update;
                let message = format!("No feature was changed: {name} cannot be set to {level}. {why}");
                Failure::new(Error::InvalidUpdateVersion, message)
            })?;
        }
        let changed = wanted.iter().filter(|update| {
            let now = FEATURES.iter().find(|one| one.name == update.name).map(|feature| self.level(feature));
            now != Some(update.level)
        });
        let changed: Vec<_> = changed.cloned().collect();
        if validate_only || changed.is_empty() {
            return Ok(());
        }
        let epoch = self.epoch + 1;
        for FeatureUpdate { name, level, .. } in changed {
            let record = FeatureRecord { name, level, epoch };
            self.put(record.clone());
            cx.append(StateRecord::Feature(record));
        }
        Ok(())
    }

    fn check(&self, update: &FeatureUpdate) -> Result<(), String> {
        let FeatureUpdate { name, level, change } = update;
        let Some(feature) = FEATURES.iter().find(|feature| feature.name == name) else {
            let known: Vec<_> = FEATURES.iter().map(|feature| feature.name).collect();
            return Err(format!("This broker has no such feature; it has {}.", known.join(", ")));
        };
        let now = self.level(feature);
        if *change == FeatureChange::Unknown {
            return Err("The update says neither upgrade nor downgrade.".to_owned());
        }
        if !(feature.oldest..=feature.newest).contains(level) {
            return Err(format!("This broker has the levels {} to {}.", feature.oldest, feature.newest));
        }
        match (level.cmp(&now), change) {
            (std::cmp::Ordering::Less, FeatureChange::Upgrade) => {
                Err(format!("It is at {now}: that is a downgrade, which has to be asked for as one."))
            }
            (std::cmp::Ordering::Greater, FeatureChange::Downgrade) => {
                Err(format!("It is at {now}: that is an upgrade, which has to be asked for as one."))
            }
            (std::cmp::Ordering::Less | std::cmp::Ordering::Greater, _) if !feature.changes => {
                Err(format!("It stays at {now} in this build."))
            }
            _ => Ok(()),
        }
    }
}
