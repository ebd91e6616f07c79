//! A group as tools see it: StreamsGroupDescribe and ListGroups.

use super::records::StreamsTopology;
use super::request::{StreamsGroupDescription, StreamsMemberDescription};
use super::{Member, StreamsGroup};
use crate::response::GroupListing;

impl StreamsGroup {
    /// Kafka's names.
    fn state(&self) -> &'static str {
        let assigned = self.epochs.assignment_epoch;
        let validated = self.epochs.validated_topology_epoch;
        match () {
            () if self.members.is_empty() => "Empty",
            () if self.topology.as_ref().is_none_or(|topology| topology.epoch != validated) => "NotReady",
            () if self.epochs.epoch > assigned => "Assigning",
            () if self.members.values().all(|member| member.is_reconciled_to(assigned)) => "Stable",
            () => "Reconciling",
        }
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            protocol_type: "streams".to_owned(),
            state: self.state(),
            kind: "streams",
        }
    }

    pub fn describe(&self) -> StreamsGroupDescription {
        StreamsGroupDescription {
            group_id: self.id.clone(),
            error: None,
            state: self.state(),
            epoch: self.epochs.epoch,
            assignment_epoch: self.epochs.assignment_epoch,
            topology: self.shown_topology(),
            members: self.members.values().map(Member::describe).collect(),
        }
    }

    fn shown_topology(&self) -> Option<StreamsTopology> {
        let mut topology = self.topology.clone()?;
        let Some(configured) = &self.configured else { return Some(topology) };
        for subtopology in topology.subtopologies.values_mut() {
            let internal = subtopology.repartition_source_topics.iter_mut();
            for (name, topic) in internal.chain(&mut subtopology.state_changelog_topics) {
                topic.partitions = configured.partitions.get(name).copied().unwrap_or(topic.partitions);
            }
        }
        Some(topology)
    }
}

impl Member {
    fn describe(&self) -> StreamsMemberDescription {
        StreamsMemberDescription {
            record: self.record.clone(),
            epoch: self.current.epoch,
            assignment: self.current.assigned.tasks(),
            target: self.target.clone(),
        }
    }
}
