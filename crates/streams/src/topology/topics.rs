//! The topics of each sub-topology, as a broker is told of them that assigns tasks (KIP-1071).

use std::collections::BTreeSet;

use super::{InternalTopic, Topology};
use crate::error::TopologyError;
use crate::graph::Role;

/// What the tasks of a sub-topology read, write and keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtopologyTopics {
    pub id: i32,
    /// Topics of users that it reads; global tables are everybody's and not among them.
    pub sources: BTreeSet<String>,
    /// Repartition topics that it writes to.
    pub repartition_sinks: BTreeSet<String>,
    /// Repartition topics that it reads.
    pub repartition_sources: Vec<InternalTopic>,
    /// Without topics of users that are their own tables' changelogs.
    pub changelogs: Vec<InternalTopic>,
    /// Topics that it reads and that must have equally many partitions.
    pub copartitions: BTreeSet<BTreeSet<String>>,
}

impl Topology {
    /// The topics of every sub-topology, given the partitions of the topics that exist.
    pub fn subtopology_topics(
        &self,
        partitions: &dyn Fn(&str) -> Option<i32>,
    ) -> Result<Vec<SubtopologyTopics>, TopologyError> {
        let internal = self.internal_topics(partitions)?;
        Ok((0..self.subtopologies.len()).map(|index| self.topics_of(index, &internal)).collect())
    }

    fn topics_of(&self, index: usize, internal: &[InternalTopic]) -> SubtopologyTopics {
        let id = i32::try_from(index).unwrap_or(i32::MAX);
        let read: BTreeSet<&str> = self.sources_of(index).map(|(_, topic)| &**topic).collect();
        let written =
            self.subtopologies[index].iter().filter_map(|&node| match &self.graph.nodes[node].role {
                Role::Sink { topic, .. } if self.graph.is_internal(topic) => Some(topic.to_string()),
                _ => None,
            });
        let kept: BTreeSet<String> = self
            .stores(id)
            .into_iter()
            .filter(|store| !store.source_topic)
            .filter_map(|store| store.changelog)
            .collect();
        let own =
            |is: &dyn Fn(&str) -> bool| internal.iter().filter(|topic| is(&topic.name)).cloned().collect();
        SubtopologyTopics {
            id,
            sources: read
                .iter()
                .filter(|topic| !self.graph.is_internal(topic))
                .map(ToString::to_string)
                .collect(),
            repartition_sinks: written.collect(),
            repartition_sources: own(&|name| read.contains(name)),
            changelogs: own(&|name| kept.contains(name)),
            copartitions: self.copartitions_of(index),
        }
    }

    fn copartitions_of(&self, index: usize) -> BTreeSet<BTreeSet<String>> {
        let topics: Vec<(usize, String)> =
            self.sources_of(index).map(|(node, topic)| (node, topic.to_string())).collect();
        let groups = self.graph.copartitions.iter().map(|group| {
            let members = topics.iter().filter(|(node, _)| group.sources.contains(node));
            members.map(|(_, topic)| topic.clone()).collect::<BTreeSet<String>>()
        });
        groups.filter(|group| group.len() > 1).collect()
    }
}
