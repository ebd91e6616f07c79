//! What a cluster has finalized (KIP-584): the levels by which a client decides which protocol it speaks.

use std::collections::HashMap;

use headwater_wire::messages::ApiVersionsResponseData;

use crate::Client;

/// Levels by the features' names, as of an epoch; -1 from a broker that says none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Features {
    epoch: i64,
    levels: HashMap<String, i16>,
}

impl Default for Features {
    fn default() -> Self {
        Self { epoch: -1, levels: HashMap::new() }
    }
}

impl Features {
    pub(crate) fn of(answer: &ApiVersionsResponseData) -> Self {
        let level = |feature: &headwater_wire::messages::FinalizedFeatureKey| {
            (feature.name.to_string(), feature.max_version_level)
        };
        let levels = answer.finalized_features.iter().map(level).collect();
        Self { epoch: answer.finalized_features_epoch, levels }
    }

    /// Brokers hear of a change one after the other: what is older than what is known says nothing.
    pub(crate) fn learn(&mut self, said: &Self) {
        if said.epoch >= self.epoch {
            self.clone_from(said);
        }
    }

    pub(crate) fn level(&self, name: &str) -> i16 {
        self.levels.get(name).copied().unwrap_or(0)
    }
}

impl Client {
    /// The level of a feature that the cluster has finalized, 0 where it has not: `transaction.version`, for example.
    ///
    /// Brokers say it when a connection is opened, so a change shows with the next one.
    pub fn finalized_level(&self, feature: &str) -> i16 {
        self.state().features.level(feature)
    }
}

#[cfg(test)]
mod tests {
    use headwater_wire::KafkaString;
    use headwater_wire::messages::FinalizedFeatureKey;

    use super::*;

    fn said(epoch: i64, level: i16) -> Features {
        let feature = FinalizedFeatureKey::default()
            .with_name(KafkaString::from_static("transaction.version"))
            .with_min_version_level(level)
            .with_max_version_level(level);
        Features::of(
            &ApiVersionsResponseData::default()
                .with_finalized_features_epoch(epoch)
                .with_finalized_features(vec![feature]),
        )
    }

    #[test]
    fn the_newest_epoch_counts_and_a_broker_that_has_not_heard_of_it_does_not() {
        let mut known = Features::default();
        assert_eq!(known.level("transaction.version"), 0);
        for (epoch, level, counts) in [(4, 1, 1), (7, 2, 2), (6, 1, 2), (-1, 0, 2), (9, 1, 1)] {
            known.learn(&said(epoch, level));
            assert_eq!(known.level("transaction.version"), counts, "after epoch {epoch}");
        }
        assert_eq!(known.level("group.version"), 0);
    }

    #[test]
    fn a_broker_without_epochs_has_no_features() {
        let mut known = Features::default();
        known.learn(&Features::of(&ApiVersionsResponseData::default()));
        assert_eq!(known, Features::default());
    }
}
