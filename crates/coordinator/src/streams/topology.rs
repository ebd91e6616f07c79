//! A topology as it was declared: which topics it needs, and which subtopology reads a topic.

use std::collections::BTreeSet;

use super::records::{StreamsTopology, Subtopology};
use crate::topics::Topics;

impl Subtopology {
    /// What its tasks read.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &String> {
        self.source_topics.iter().chain(self.repartition_source_topics.keys())
    }

    /// Whether its tasks keep stores.
    pub(super) fn is_stateful(&self) -> bool {
        !self.state_changelog_topics.is_empty()
    }
}

impl StreamsTopology {
    /// Every topic that must be there.
    pub fn required_topics(&self) -> BTreeSet<&String> {
        let mut all = BTreeSet::new();
        for subtopology in self.subtopologies.values() {
            all.extend(subtopology.inputs());
            all.extend(subtopology.state_changelog_topics.keys());
            all.extend(&subtopology.repartition_sink_topics);
        }
        all
    }

    /// The subtopology that reads this topic.
    pub(super) fn reader_of(&self, topic: &str) -> Option<&String> {
        let mut all = self.subtopologies.iter();
        all.find(|(_, one)| one.inputs().any(|name| name == topic)).map(|(id, _)| id)
    }

    /// A digest of the topics that are there and of their partitions; the same in every build (FNV-1a).
    pub(super) fn digest(&self, topics: &Topics) -> u64 {
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        for topic in self.required_topics().into_iter().filter_map(|name| topics.get(name)) {
            for byte in topic.id.iter().chain(&topic.partitions.to_be_bytes()) {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        digest
    }
}
