//! Which process answers interactive queries for which partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::StreamsGroup;
use super::records::TaskId;
use super::request::EndpointPartitions;
use crate::topics::Topics;

impl StreamsGroup {
    /// Every member with an endpoint, and the input partitions of its tasks.
    pub(super) fn endpoints(&self, topics: &Topics) -> Vec<EndpointPartitions> {
        let known = self.members.values().filter_map(|member| {
            let tasks = &member.current.assigned;
            Some(EndpointPartitions {
                endpoint: member.record.user_endpoint.clone()?,
                active: self.inputs(topics, tasks.active.keys()),
                standby: self.inputs(topics, tasks.standby.iter()),
            })
        });
        known.collect()
    }

    /// The partitions of topics that these tasks read.
    fn inputs<'a>(
        &self,
        topics: &Topics,
        tasks: impl Iterator<Item = &'a TaskId>,
    ) -> BTreeMap<String, BTreeSet<i32>> {
        let mut inputs = BTreeMap::<String, BTreeSet<i32>>::new();
        for (id, partition) in tasks {
            let subtopology = self.topology.as_ref().and_then(|topology| topology.subtopologies.get(id));
            for name in subtopology.into_iter().flat_map(|subtopology| subtopology.inputs()) {
                // Not every topic of a subtopology has as many partitions as there are tasks.
                if topics.get(name).is_some_and(|topic| *partition < topic.partitions) {
                    inputs.entry(name.clone()).or_default().insert(*partition);
                }
            }
        }
        inputs
    }
}
