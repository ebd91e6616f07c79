//! The group's epochs and the members' targets: when they must be computed again, and what that changes.

use std::collections::{BTreeMap, BTreeSet};

use super::assignor::{self, Assignee, Bucket};
use super::records::{ConsumerGroupChange, GroupEpochs};
use super::{ConsumerGroup, Member};
use crate::context::Context;
use crate::records::{TopicId, TopicPartitionId};
use crate::request::Client;
use crate::topics::Topics;

impl ConsumerGroup {
    /// Begins an epoch when members, subscriptions or topics have changed, and brings the targets up to it, unless the last
    /// ones are younger than `interval_ms`: then a later heartbeat does.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        client: &Client,
        subscription_changed: bool,
        interval_ms: i32,
    ) {
        let mut epochs = self.epochs.clone();
        if subscription_changed || epochs.epoch == 0 || self.looks_at_old_topics(cx, topics) {
            let hash = self.look(cx, topics, client);
            if subscription_changed || epochs.epoch == 0 || hash != epochs.metadata_hash {
                epochs.epoch = epochs.epoch.saturating_add(1);
                epochs.metadata_hash = hash;
            }
        }
        let next_ms = self.assigned_ms.map(|at| at.saturating_add(interval_ms.into()));
        if epochs.epoch > epochs.assignment_epoch && next_ms.is_none_or(|at| cx.now >= at) {
            self.retarget(cx, topics);
            self.assigned_ms = Some(cx.now);
            epochs.assignment_epoch = epochs.epoch;
        }
        if epochs != self.epochs {
            self.record(cx, ConsumerGroupChange::Epochs(GroupEpochs { timestamp: cx.now, ..epochs }));
        }
    }

    /// Begins an epoch because somebody left; the next heartbeat computes the targets.
    pub(super) fn bump(&mut self, cx: &mut Context) {
        let epochs = GroupEpochs {
            epoch: self.epochs.epoch.saturating_add(1),
            timestamp: cx.now,
            ..self.epochs.clone()
        };
        // The hash is of what the remaining members read.
        self.seen = None;
        self.record(cx, ConsumerGroupChange::Epochs(epochs));
    }

    /// The assignor that most members prefer; the first by name when even.
    pub(super) fn assignor(&self) -> &str {
        let mut votes = BTreeMap::<&str, usize>::new();
        for name in self.members.values().filter_map(|member| member.record.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().max().copied();
        let elected = votes.into_iter().find(|(_, count)| Some(*count) == most);
        elected.map_or(assignor::DEFAULT, |(name, _)| name)
    }

    fn retarget(&mut self, cx: &mut Context, topics: &Topics) {
        let ids: Vec<&String> = self.members.keys().collect();
        let assignees: Vec<Assignee<'_>> = self.members.values().map(assignee).collect();
        let buckets = self.buckets(topics, &ids);
        let targets = assignor::assign(self.assignor(), &assignees, &buckets);
        let changed: Vec<(String, BTreeSet<TopicPartitionId>)> = ids
            .into_iter()
            .zip(targets)
            .filter(|(id, target)| self.members.get(*id).is_some_and(|member| member.target != *target))
            .map(|(id, target)| (id.clone(), target))
            .collect();
        for (member_id, partitions) in changed {
            self.record(cx, ConsumerGroupChange::Target { member_id, partitions });
        }
    }

    /// The topics by who reads them: topics with the same readers are shared out together.
    fn buckets(&self, topics: &Topics, ids: &[&String]) -> Vec<Bucket> {
        let subscriptions = self.subscriptions();
        let mut readers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (kind, (record, _)) in subscriptions.iter().enumerate() {
            for topic in self.subscribed(record, topics) {
                readers.entry(topic).or_default().push(kind);
            }
        }
        let mut buckets: BTreeMap<Vec<usize>, Vec<TopicId>> = BTreeMap::new();
        for (topic, kinds) in readers {
            buckets.entry(kinds).or_default().push(topic);
        }
        let place = |id: &&str| ids.binary_search_by(|other| other.as_str().cmp(id)).ok();
        let places: Vec<Vec<usize>> =
            subscriptions.iter().map(|(_, members)| members.iter().filter_map(place).collect()).collect();
        let counted = |id: TopicId| topics.by_id(&id).map(|topic| (id, topic.partitions));
        buckets
            .into_iter()
            .map(|(kinds, ids)| Bucket {
                members: kinds.iter().flat_map(|kind| places[*kind].iter().copied()).collect(),
                topics: ids.into_iter().filter_map(counted).collect(),
            })
            .collect()
    }
}

fn assignee(member: &Member) -> Assignee<'_> {
    Assignee {
        member_id: &member.record.member_id,
        instance_id: member.record.instance_id.as_deref(),
        target: &member.target,
    }
}
