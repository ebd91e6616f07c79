//! Committed offsets, and those that wait for the end of a transaction.
//!
//! Owns which offset counts; refuses to know members (see `group`) and whether a transaction is open (see `transaction`).
//! Invariant: a pending offset becomes visible only through [`Offsets::settle`] with `commit`.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::{TimestampMs, TopicPartition};

use crate::error::Error;
use crate::records::{OffsetRecord, StateRecord};
use crate::request::{NewOffset, OffsetFetchGroup};
use crate::response::{FetchedGroup, FetchedOffset};

type Pending = BTreeMap<(String, TopicPartition), OffsetRecord>;

#[derive(Debug, Default)]
pub(crate) struct Offsets {
    committed: BTreeMap<String, BTreeMap<TopicPartition, OffsetRecord>>,
    /// By transactional id.
    pending: BTreeMap<String, Pending>,
    next_sequence: u64,
}

fn place(record: &OffsetRecord) -> TopicPartition {
    TopicPartition::new(record.topic.clone(), record.partition)
}

impl Offsets {
    /// A record for an offset that is committed now; every call counts one further.
    pub fn record(&mut self, group_id: &str, new: NewOffset, now: TimestampMs) -> OffsetRecord {
        OffsetRecord {
            group_id: group_id.to_owned(),
            topic: new.partition.topic,
            partition: new.partition.partition,
            offset: new.offset,
            leader_epoch: new.leader_epoch,
            metadata: new.metadata.unwrap_or_default(),
            committed_ms: now,
            sequence: self.next_sequence,
        }
    }

    pub fn put(&mut self, record: OffsetRecord) {
        self.count(&record);
        self.committed.entry(record.group_id.clone()).or_default().insert(place(&record), record);
    }

    pub fn put_pending(&mut self, transactional_id: &str, record: OffsetRecord) {
        self.count(&record);
        let key = (record.group_id.clone(), place(&record));
        self.pending.entry(transactional_id.to_owned()).or_default().insert(key, record);
    }

    fn count(&mut self, record: &OffsetRecord) {
        self.next_sequence = self.next_sequence.max(record.sequence.saturating_add(1));
    }

    /// Ends the transaction's pending offsets. A commit never replaces an offset that was committed later.
    /// Returns the groups that had some, and tells what has become final.
    pub fn settle(
        &mut self,
        transactional_id: &str,
        commit: bool,
        mut settled: impl FnMut(&OffsetRecord),
    ) -> BTreeSet<String> {
        let pending = self.pending.remove(transactional_id).unwrap_or_default();
        let groups = pending.keys().map(|(group, _)| group.clone()).collect();
        for ((group, partition), record) in pending.into_iter().filter(|_| commit) {
            let offsets = self.committed.entry(group).or_default();
            if offsets.get(&partition).is_none_or(|current| current.sequence < record.sequence) {
                settled(&record);
                offsets.insert(partition, record);
            }
        }
        groups
    }

    /// Whether there was one, committed or pending.
    pub fn remove(&mut self, group_id: &str, topic: &str, partition: i32) -> bool {
        let partition = TopicPartition::new(topic, partition);
        let mut removed = false;
        if let Some(offsets) = self.committed.get_mut(group_id) {
            removed = offsets.remove(&partition).is_some();
            if offsets.is_empty() {
                self.committed.remove(group_id);
            }
        }
        self.drop_pending(|group, other| group == group_id && *other == partition) || removed
    }

    pub fn remove_group(&mut self, group_id: &str) {
        self.committed.remove(group_id);
        self.drop_pending(|group, _| group == group_id);
    }

    pub fn remove_topic(&mut self, topic: &str) {
        self.committed.retain(|_, offsets| {
            offsets.retain(|partition, _| partition.topic != topic);
            !offsets.is_empty()
        });
        self.drop_pending(|_, partition| partition.topic == topic);
    }

    /// Whether there was one that matches.
    fn drop_pending(&mut self, matches: impl Fn(&str, &TopicPartition) -> bool) -> bool {
        let mut dropped = false;
        self.pending.retain(|_, pending| {
            let before = pending.len();
            pending.retain(|(group, partition), _| !matches(group, partition));
            dropped |= pending.len() < before;
            !pending.is_empty()
        });
        dropped
    }

    /// Whether the group has an offset, committed or pending.
    pub fn knows(&self, group_id: &str) -> bool {
        self.committed.contains_key(group_id) || !self.unstable(group_id).is_empty()
    }

    pub fn has_pending(&self, group_id: &str) -> bool {
        !self.unstable(group_id).is_empty()
    }

    pub fn groups(&self) -> impl Iterator<Item = &String> {
        self.committed.keys()
    }

    /// The groups with a committed offset in the topic, and in which partitions.
    pub fn of_topic(&self, topic: &str) -> Vec<(String, i32)> {
        let of_group = |(group, offsets): (&String, &BTreeMap<TopicPartition, OffsetRecord>)| {
            let range = offsets.range(TopicPartition::new(topic, i32::MIN)..);
            let partitions = range.map(|(at, _)| at).take_while(|at| at.topic == topic);
            partitions.map(|at| (group.clone(), at.partition)).collect::<Vec<_>>()
        };
        self.committed.iter().flat_map(of_group).collect()
    }

    pub fn of_group(&self, group_id: &str) -> impl Iterator<Item = (&TopicPartition, &OffsetRecord)> {
        self.committed.get(group_id).into_iter().flatten()
    }

    /// The partitions of the group with an offset in an unfinished transaction.
    fn unstable(&self, group_id: &str) -> BTreeSet<&TopicPartition> {
        let first = (group_id.to_owned(), TopicPartition::new("", i32::MIN));
        let of_group = |pending| {
            let range = BTreeMap::range::<(String, TopicPartition), _>(pending, &first..);
            range.map(|(key, _)| key).take_while(|(group, _)| group == group_id)
        };
        self.pending.values().flat_map(of_group).map(|(_, partition)| partition).collect()
    }

    pub fn fetch(
        &self,
        OffsetFetchGroup { group_id, partitions, .. }: OffsetFetchGroup,
        stable: bool,
    ) -> FetchedGroup {
        let unstable = if stable { self.unstable(&group_id) } else { BTreeSet::new() };
        let committed = self.committed.get(&group_id);
        let wanted = partitions.unwrap_or_else(|| {
            let mut all: BTreeSet<_> = committed.into_iter().flat_map(BTreeMap::keys).collect();
            all.extend(&unstable);
            all.into_iter().cloned().collect()
        });
        let fetch = |partition: TopicPartition| {
            let record = committed.and_then(|offsets| offsets.get(&partition));
            match record.filter(|_| !unstable.contains(&partition)) {
                Some(record) => FetchedOffset {
                    offset: record.offset,
                    leader_epoch: record.leader_epoch,
                    metadata: record.metadata.clone(),
                    error: None,
                    partition,
                },
                None => FetchedOffset {
                    offset: -1,
                    leader_epoch: -1,
                    metadata: String::new(),
                    error: unstable.contains(&partition).then_some(Error::UnstableOffsetCommit),
                    partition,
                },
            }
        };
        let offsets = wanted.into_iter().map(fetch).collect();
        FetchedGroup { group_id, error: None, offsets }
    }

    pub fn snapshot(&self) -> impl Iterator<Item = StateRecord> {
        let committed = self.committed.values().flat_map(BTreeMap::values).cloned().map(StateRecord::Offset);
        let pending = self.pending.iter().flat_map(|(id, pending)| {
            pending.values().map(|offset| StateRecord::PendingOffset {
                transactional_id: id.clone(),
                offset: offset.clone(),
            })
        });
        committed.chain(pending)
    }
}
