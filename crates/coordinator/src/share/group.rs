//! One share group: its members, what they read, and the partitions it has read from.
//!
//! Owns epochs and assignments (KIP-932): whatever changes the assignments begins a new epoch, and a member is in it with
//! its next heartbeat; nothing is taken from a member, so nobody waits for anybody. A member's epoch is not durable:
//! after a restart the first heartbeat says which it is.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::TimestampMs;

use super::assign::{self, Candidate};
use super::partition::SharePartition;
use super::records::{ShareGroupRecord, ShareKey, ShareMemberRecord, ShareRecord};
use super::request::{ShareGroupDescription, ShareMemberDescription};
use crate::records::{TopicId, TopicPartitionId};
use crate::response::GroupListing;
use crate::topics::Topics;

#[derive(Debug)]
pub(super) struct Member {
    pub record: ShareMemberRecord,
    /// `None` until the first heartbeat after a restart.
    pub epoch: Option<i32>,
    pub previous_epoch: i32,
    pub session_deadline: TimestampMs,
}

#[derive(Debug)]
pub(super) struct ShareGroup {
    pub id: String,
    pub epoch: i32,
    pub members: BTreeMap<String, Member>,
    /// What the assignments were made of.
    topics: BTreeMap<TopicId, i32>,
    /// When they were made; `None` after a restart.
    pub assigned_ms: Option<TimestampMs>,
    pub partitions: BTreeMap<TopicPartitionId, SharePartition>,
}

impl ShareGroup {
    pub fn new(id: &str) -> Self {
        let (members, topics, partitions) = Default::default();
        Self { id: id.to_owned(), epoch: 0, members, topics, assigned_ms: None, partitions }
    }

    /// Takes members over as they were persisted, with fresh sessions.
    pub fn restore(&mut self, record: ShareGroupRecord, session_deadline: TimestampMs) {
        self.epoch = record.epoch;
        self.topics = record.topics.into_iter().collect();
        let members = record.members.into_iter().map(|record| {
            let member = Member { epoch: None, previous_epoch: -1, session_deadline, record };
            (member.record.member_id.clone(), member)
        });
        self.members = members.collect();
    }

    pub fn record(&self) -> ShareGroupRecord {
        ShareGroupRecord {
            group_id: self.id.clone(),
            epoch: self.epoch,
            members: self.members.values().map(|member| member.record.clone()).collect(),
            topics: self.topics.iter().map(|(id, count)| (*id, *count)).collect(),
        }
    }

    pub fn key(&self, (topic_id, partition): TopicPartitionId) -> ShareKey {
        ShareKey { group_id: self.id.clone(), topic_id, partition }
    }

    pub fn snapshot(&self) -> impl Iterator<Item = ShareRecord> {
        let partitions = self.partitions.iter().map(|(place, partition)| ShareRecord::Partition {
            key: self.key(*place),
            start: partition.start(),
            ranges: partition.ranges(),
        });
        std::iter::once(ShareRecord::Group(self.record())).chain(partitions)
    }

    /// The subscribed topics that exist, with their partition counts.
    fn subscribed(&self, topics: &Topics) -> BTreeMap<TopicId, i32> {
        let names: BTreeSet<&String> =
            self.members.values().flat_map(|member| &member.record.subscription).collect();
        let found = names.into_iter().filter_map(|name| topics.get(name));
        found.map(|topic| (topic.id, topic.partitions)).collect()
    }

    /// Whether topics have changed since the assignments were made.
    pub fn is_outdated(&self, topics: &Topics) -> bool {
        self.topics != self.subscribed(topics)
    }

    /// Whether somebody has joined for whom no assignment was made: in an assignment everybody gets something of a topic
    /// that exists.
    pub fn is_awaited(&self, topics: &Topics) -> bool {
        let waits = |member: &Member| {
            let record = &member.record;
            record.assignment.is_empty() && record.subscription.iter().any(|name| topics.get(name).is_some())
        };
        self.members.values().any(waits)
    }

    /// Begins an epoch with new assignments.
    pub fn assign(&mut self, topics: &Topics, now: TimestampMs) {
        self.epoch += 1;
        self.assigned_ms = Some(now);
        self.topics = self.subscribed(topics);
        let candidate = |member: &Member| Candidate {
            topics: member
                .record
                .subscription
                .iter()
                .filter_map(|name| topics.get(name))
                .map(|t| t.id)
                .collect(),
            assigned: flat(&member.record.assignment),
        };
        let mut candidates: Vec<Candidate> = self.members.values().map(candidate).collect();
        assign::assign(&self.topics, &mut candidates);
        for (member, candidate) in self.members.values_mut().zip(candidates) {
            member.record.assignment = nested(&candidate.assigned);
        }
    }

    pub fn state(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            protocol_type: "share".to_owned(),
            state: self.state(),
            kind: "share",
        }
    }

    pub fn describe(&self, topics: &Topics) -> ShareGroupDescription {
        let name = |id: &TopicId| topics.by_id(id).map(|topic| topic.name.clone());
        let describe = |member: &Member| ShareMemberDescription {
            member_id: member.record.member_id.clone(),
            member_epoch: member.epoch.unwrap_or(self.epoch),
            client_id: member.record.client_id.clone(),
            client_host: member.record.client_host.clone(),
            rack: member.record.rack.clone(),
            subscription: member.record.subscription.clone(),
            assignment: member
                .record
                .assignment
                .iter()
                .filter_map(|(id, partitions)| Some((*id, name(id)?, partitions.clone())))
                .collect(),
        };
        ShareGroupDescription {
            group_id: self.id.clone(),
            error: None,
            state: self.state(),
            epoch: self.epoch,
            members: self.members.values().map(describe).collect(),
        }
    }

    /// When a session or a lock ends at the earliest.
    pub fn deadline(&self) -> Option<TimestampMs> {
        let sessions = self.members.values().map(|member| member.session_deadline);
        let locks = self.partitions.values().filter_map(|partition| partition.next_deadline);
        sessions.chain(locks).min()
    }
}

fn flat(assignment: &[(TopicId, Vec<i32>)]) -> BTreeSet<TopicPartitionId> {
    assignment.iter().flat_map(|(topic, list)| list.iter().map(move |index| (*topic, *index))).collect()
}

fn nested(partitions: &BTreeSet<TopicPartitionId>) -> Vec<(TopicId, Vec<i32>)> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(*partition);
    }
    topics.into_iter().collect()
}
