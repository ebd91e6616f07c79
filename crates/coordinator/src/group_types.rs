//! What holds for a group of any type with committed offsets, classic, consumer or streams: whether it is there, lives, reads a topic, may commit.
//!
//! Offsets belong to a group id and outlast a change of its type.

use std::collections::BTreeSet;

use headwater_model::TimestampMs;

use crate::Coordinator;
use crate::consumer::Committer;
use crate::error::Error;
use crate::group::Group;
use crate::request::{NewOffset, OffsetFetch, OffsetFetchGroup};
use crate::response::FetchedGroup;

impl Coordinator {
    pub(crate) fn has_group(&self, id: &str) -> bool {
        self.groups.contains_key(id)
            || self.consumer_groups.contains_key(id)
            || self.streams_groups.contains_key(id)
    }

    pub(crate) fn has_members(&self, id: &str) -> bool {
        self.groups.get(id).is_some_and(|group| !group.is_empty())
            || self.consumer_groups.get(id).is_some_and(|group| !group.is_empty())
            || self.streams_groups.get(id).is_some_and(|group| !group.is_empty())
    }

    /// When the group got into its durable state; `None` without one.
    pub(crate) fn group_changed_ms(&self, id: &str) -> Option<TimestampMs> {
        let classic = self.groups.get(id).and_then(Group::persisted).map(|record| record.timestamp);
        let consumer = || Some(self.consumer_groups.get(id)?.changed_ms());
        classic.or_else(consumer).or_else(|| Some(self.streams_groups.get(id)?.changed_ms()))
    }

    pub(crate) fn group_deadline(&self, id: &str) -> Option<TimestampMs> {
        let classic = self.groups.get(id).and_then(Group::deadline);
        let consumer = || self.consumer_groups.get(id)?.deadline();
        classic.or_else(consumer).or_else(|| self.streams_groups.get(id)?.deadline())
    }

    /// Which of these topics the members of a group read; `None` when a subscription cannot be read.
    pub(crate) fn topics_read<'a>(
        &self,
        id: &str,
        topics: impl Iterator<Item = &'a str>,
    ) -> Option<BTreeSet<String>> {
        let mut topics: BTreeSet<&str> = topics.collect();
        if topics.is_empty() {
            return Some(BTreeSet::new());
        }
        let (classic, consumer) = (self.groups.get(id), self.consumer_groups.get(id));
        if let Some(group) = self.streams_groups.get(id) {
            topics.retain(|topic| group.subscribes_to(topic));
        } else if let Some(group) = classic.filter(|group| !group.is_empty()) {
            // There may be many members and topics: a subscription is read once.
            let subscribed = group.subscribed()?;
            topics.retain(|topic| subscribed.contains(topic));
        } else if let Some(group) = consumer {
            topics.retain(|topic| group.subscribes_to(topic));
        } else {
            topics.clear();
        }
        Some(topics.into_iter().map(str::to_owned).collect())
    }

    /// Whether offsets may be committed in this name; counts as a heartbeat of a classic member.
    pub(crate) fn check_commit(&mut self, group_id: &str, who: Committer<'_>) -> Result<(), Error> {
        let Committer { member_id, instance_id, epoch, transactional, .. } = who;
        // As in Apache Kafka, old clients may keep offsets, and nothing else, in the group of the empty name.
        if group_id.is_empty() && transactional {
            return Err(Error::InvalidGroupId);
        }
        if self.shares.has(group_id) {
            // A share group has no committed offsets.
            return Err(Error::GroupIdNotFound);
        }
        if let Some(group) = self.groups.get_mut(group_id) {
            return group.check_commit(self.cx.now, member_id, instance_id, epoch, transactional);
        }
        if let Some(group) = self.streams_groups.get(group_id) {
            return group.check_commit(who);
        }
        match self.consumer_groups.get(group_id) {
            Some(group) => group.check_commit(who),
            None if epoch < 0 => Ok(()),
            None => Err(Error::IllegalGeneration),
        }
    }

    /// What is wrong with one offset: by itself, or because its partition is not the member's.
    pub(crate) fn check_offset(
        &self,
        group_id: &str,
        who: Committer<'_>,
        offset: &NewOffset,
    ) -> Result<(), Error> {
        let metadata = offset.metadata.as_ref().map_or(0, String::len);
        if metadata > self.cx.settings.max_offset_metadata_bytes {
            return Err(Error::OffsetMetadataTooLarge);
        }
        let partition = self.topics.partition_id(&offset.partition);
        if let Some(group) = self.consumer_groups.get(group_id) {
            group.check_partition(who, partition)?;
        }
        if let Some(group) = self.streams_groups.get(group_id) {
            group.check_partition(who, &offset.partition)?;
        }
        partition.map(drop).ok_or(Error::UnknownTopicOrPartition)
    }

    pub(crate) fn fetch_offsets(&self, fetch: OffsetFetch) -> Vec<FetchedGroup> {
        let stable = fetch.require_stable;
        fetch.groups.into_iter().map(|group| self.fetch_of_group(group, stable)).collect()
    }

    fn fetch_of_group(&self, fetch: OffsetFetchGroup, stable: bool) -> FetchedGroup {
        let allowed = match &fetch.member {
            None => Ok(()),
            Some((member, epoch)) => self.check_fetch(&fetch.group_id, member, *epoch),
        };
        match allowed {
            Ok(()) => self.offsets.fetch(fetch, stable),
            Err(error) => FetchedGroup { group_id: fetch.group_id, error: Some(error), offsets: Vec::new() },
        }
    }

    fn check_fetch(&self, group_id: &str, member_id: &str, epoch: i32) -> Result<(), Error> {
        match (self.consumer_groups.get(group_id), self.streams_groups.get(group_id)) {
            (Some(group), _) => group.check_fetch(member_id, epoch),
            (_, Some(group)) => group.check_fetch(member_id, epoch),
            _ => Ok(()),
        }
    }
}
