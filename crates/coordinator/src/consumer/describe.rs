//! A group as tools see it: ConsumerGroupDescribe and ListGroups.

use std::collections::BTreeMap;

use super::{ConsumerGroup, Member};
use crate::records::TopicPartitionId;
use crate::response::{AssignedTopic, ConsumerGroupDescription, ConsumerMemberDescription, GroupListing};
use crate::topics::Topics;

impl ConsumerGroup {
    /// Kafka's names.
    fn state(&self) -> &'static str {
        match () {
            () if self.members.is_empty() => "Empty",
            () if self.epochs.epoch > self.epochs.assignment_epoch => "Assigning",
            () if self
                .members
                .values()
                .all(|member| member.is_reconciled_to(self.epochs.assignment_epoch)) =>
            {
                "Stable"
            }
            () => "Reconciling",
        }
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            protocol_type: "consumer".to_owned(),
            state: self.state(),
            kind: "consumer",
        }
    }

    pub fn describe(&self, topics: &Topics) -> ConsumerGroupDescription {
        ConsumerGroupDescription {
            group_id: self.id.clone(),
            error: None,
            state: self.state(),
            epoch: self.epochs.epoch,
            assignment_epoch: self.epochs.assignment_epoch,
            assignor: self.assignor().to_owned(),
            members: self.members.values().map(|member| member.describe(topics)).collect(),
        }
    }
}

impl Member {
    fn describe(&self, topics: &Topics) -> ConsumerMemberDescription {
        let record = &self.record;
        ConsumerMemberDescription {
            member_id: record.member_id.clone(),
            instance_id: record.instance_id.clone(),
            rack_id: record.rack_id.clone(),
            epoch: self.current.epoch,
            client_id: record.client_id.clone(),
            client_host: record.client_host.clone(),
            topics: record.topics.iter().cloned().collect(),
            regex: record.regex.clone(),
            assignment: by_topic(self.current.assigned.keys(), topics),
            target: by_topic(self.target.iter(), topics),
            is_classic: self.is_classic(),
        }
    }
}

/// Partitions under their topics; those of topics that are gone are left out.
pub(super) fn by_topic<'a>(
    partitions: impl Iterator<Item = &'a TopicPartitionId>,
    topics: &Topics,
) -> Vec<AssignedTopic> {
    let mut found = BTreeMap::<_, Vec<i32>>::new();
    for (topic, partition) in partitions {
        found.entry(*topic).or_default().push(*partition);
    }
    let named =
        |(id, partitions)| Some(AssignedTopic { id, name: topics.by_id(&id)?.name.clone(), partitions });
    found.into_iter().filter_map(named).collect()
}
