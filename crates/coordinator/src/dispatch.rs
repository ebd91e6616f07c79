//! From a request to the machine that decides it, and what one machine's decision means for another.

use std::collections::BTreeSet;

use headwater_model::{TimestampMs, TopicPartition};

use crate::consumer::{Committer, ConsumerGroup};
use crate::error::Error;
use crate::group::Group;
use crate::request::{
    AddPartitions, AlterGroupConfig, Client, OffsetCommit, Request, TopicRef, TxnOffsetCommit,
};
use crate::response::{
    AddedPartitions, DeletedTopic, GroupDescription, GroupListing, JoinedGroup, LeftMember, PartitionResult,
    ProducerIdentity, Response, SyncedGroup,
};
use crate::streams::StreamsGroup;
use crate::timers::Alarm;
use crate::transaction::as_data_error;
use crate::{Coordinator, Effect, OffsetRecord, StateRecord, TopicId, TransactionState};

/// How long the expiry of a group's offsets waits while one of them is in an open transaction.
const PENDING_RETRY_MS: i64 = 60_000;
/// How often offsets of a group with members are looked at, and how long a group without members or offsets is kept: as
/// Kafka's `offsets.retention.check.interval.ms` has it.
const RETENTION_CHECK_MS: i64 = 600_000;

/// Nobody is a member of a group that is not there; the group of the empty name only keeps offsets.
fn unknown_member(group_id: &str) -> Error {
    if group_id.is_empty() { Error::InvalidGroupId } else { Error::UnknownMemberId }
}

fn txn_committer<'a>(member_id: &'a str, instance_id: Option<&'a str>, epoch: i32) -> Committer<'a> {
    Committer { member_id, instance_id, epoch, transactional: true, knows_epochs: true }
}

impl Coordinator {
    pub(crate) fn dispatch(&mut self, ticket: u64, client: &Client, request: Request) {
        let Some(request) = self.serve_classic_member(ticket, client, request) else { return };
        let cx = &mut self.cx;
        let response = match request {
            Request::CreateTopics { topics, validate_only } => {
                Response::CreateTopics(self.topics.create(cx, topics, validate_only))
            }
            Request::DeleteTopics(topics) => Response::DeleteTopics(self.delete_topics(topics)),
            Request::CreatePartitions { topics, validate_only } => {
                Response::CreatePartitions(self.topics.create_partitions(cx, topics, validate_only))
            }
            Request::DescribeTopics(topics) => Response::DescribeTopics(self.topics.describe(topics)),
            Request::DescribeConfigs(topics) => {
                Response::DescribeConfigs(self.topics.describe_configs(&cx.broker_configs, topics))
            }
            Request::AlterConfigs { topics, validate_only } => {
                Response::AlterConfigs(self.topics.alter_configs(cx, topics, validate_only))
            }
            Request::DescribeBrokerConfigs => {
                Response::DescribeBrokerConfigs(Box::new(cx.broker_configs.clone()))
            }
            Request::AlterBrokerConfigs { change, validate_only } => {
                Response::AlterBrokerConfigs(cx.alter_broker(change, validate_only))
            }
            Request::JoinGroup(join) => {
                let id = join.group_id.clone();
                if id.is_empty() {
                    return self.cx.reply(
                        ticket,
                        Response::JoinGroup(JoinedGroup::refused(String::new(), Error::InvalidGroupId)),
                    );
                }
                if self.shares.has(&id) || !self.yield_streams_group(&id) {
                    let refused = JoinedGroup::refused(join.member_id, Error::InconsistentGroupProtocol);
                    return self.cx.reply(ticket, Response::JoinGroup(refused));
                }
                let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(&id));
                group.join(&mut self.cx, ticket, client, join);
                return self.watch_group(&id);
            }
            Request::SyncGroup(sync) => {
                let id = sync.group_id.clone();
                if let Some(group) = self.groups.get_mut(&id) {
                    group.sync(cx, ticket, sync);
                    return self.watch_group(&id);
                }
                Response::SyncGroup(SyncedGroup {
                    error: Some(unknown_member(&id)),
                    ..SyncedGroup::default()
                })
            }
            Request::Heartbeat(beat) => Response::Heartbeat(match self.groups.get_mut(&beat.group_id) {
                Some(group) => group.heartbeat(cx, &beat).err(),
                None => Some(unknown_member(&beat.group_id)),
            }),
            Request::LeaveGroup { group_id, members } => {
                if group_id.is_empty() {
                    let (error, members) = (Some(Error::InvalidGroupId), Vec::new());
                    return self.cx.reply(ticket, Response::LeaveGroup { error, members });
                }
                let members = match self.groups.get_mut(&group_id) {
                    Some(group) => members.into_iter().map(|member| group.leave(cx, member)).collect(),
                    None => members.into_iter().map(LeftMember::unknown).collect(),
                };
                self.watch_group(&group_id);
                Response::LeaveGroup { error: None, members }
            }
            Request::ListGroups { states, types } => Response::ListGroups(self.list_groups(&states, &types)),
            Request::DescribeGroups(ids) => {
                Response::DescribeGroups(ids.into_iter().map(|id| self.describe_group(id)).collect())
            }
            Request::ConsumerGroupHeartbeat(beat) => {
                Response::ConsumerGroupHeartbeat(self.consumer_heartbeat(client, beat))
            }
            Request::DescribeConsumerGroups(ids) => {
                let described = ids.into_iter().map(|id| self.describe_consumer_group(id));
                Response::DescribeConsumerGroups(described.collect())
            }
            Request::DescribeGroupConfigs(wanted) => {
                let (configs, settings) = (&self.group_configs, &cx.settings);
                let described = wanted.into_iter().map(|wanted| configs.describe(settings, wanted));
                Response::DescribeGroupConfigs(described.collect())
            }
            Request::AlterGroupConfigs { groups, validate_only } => {
                let alter = |wanted: AlterGroupConfig| {
                    let id = wanted.group_id.clone();
                    (id, self.group_configs.alter(cx, wanted, validate_only))
                };
                Response::AlterGroupConfigs(groups.into_iter().map(alter).collect())
            }
            Request::DeleteGroups(ids) => Response::DeleteGroups(
                ids.into_iter()
                    .map(|id| {
                        let error = self.delete_group(&id).err();
                        (id, error)
                    })
                    .collect(),
            ),
            Request::OffsetCommit(commit) => Response::OffsetCommit(self.commit_offsets(commit)),
            Request::OffsetFetch(fetch) => Response::OffsetFetch(self.fetch_offsets(fetch)),
            Request::OffsetDelete { group_id, partitions } => self.delete_offsets(&group_id, partitions),
            Request::InitProducerId(init) => {
                let id = init.transactional_id.clone();
                let result = self.transactions.init(cx, init);
                if let Some(id) = id {
                    self.settle_offsets(&id);
                    self.watch_transaction(&id);
                }
                Response::InitProducerId(result)
            }
            Request::AddPartitionsToTxn(adds) => {
                Response::AddPartitionsToTxn(adds.into_iter().map(|add| self.add_partitions(add)).collect())
            }
            Request::AddOffsetsToTxn { transactional_id, producer_id, producer_epoch, group_id } => {
                let producer = ProducerIdentity { producer_id, producer_epoch };
                let result = match group_id.is_empty() {
                    true => Err(Error::InvalidGroupId),
                    false => self.transactions.add(cx, &transactional_id, producer, &[], Some(&group_id)),
                };
                self.watch_transaction(&transactional_id);
                Response::AddOffsetsToTxn(result.err())
            }
            Request::TxnOffsetCommit(commit) => Response::TxnOffsetCommit(self.commit_txn_offsets(commit)),
            Request::EndTxn(end) => {
                let result = self.transactions.end(cx, &end);
                self.settle_offsets(&end.transactional_id);
                self.watch_transaction(&end.transactional_id);
                Response::EndTxn(result)
            }
            Request::DescribeTransactions(ids) => {
                Response::DescribeTransactions(self.transactions.describe(&self.topics, ids))
            }
            Request::ListTransactions(filter) => {
                Response::ListTransactions(self.transactions.list(self.cx.now, &filter))
            }
            Request::CreateAcls(acls) => Response::CreateAcls(self.acls.create(cx, acls)),
            Request::AlterQuotas { alterations, validate_only } => {
                Response::AlterQuotas(self.quotas.alter(cx, alterations, validate_only))
            }
            Request::DeleteAcls(filters) => Response::DeleteAcls(self.acls.delete(cx, &filters)),
            Request::AlterScramCredentials(changes) => {
                Response::AlterScramCredentials(self.credentials.alter(cx, changes))
            }
            Request::Share(request) => self.share(client, request),
            Request::RecordUsage(seen) => Response::RecordUsage(self.usages.record(cx, &self.topics, seen)),
            Request::DescribeUsage(topic) => Response::DescribeUsage(self.usages.describe(&topic)),
            Request::StreamsGroupHeartbeat(beat) => {
                Response::StreamsGroupHeartbeat(Box::new(self.streams_heartbeat(client, &beat)))
            }
            Request::DescribeStreamsGroups(ids) => {
                let described = ids.into_iter().map(|id| self.describe_streams_group(id));
                Response::DescribeStreamsGroups(described.collect())
            }
            Request::ListConfigured => Response::ListConfigured {
                groups: self.group_configs.names(),
                client_metrics: self.client_metrics.names(),
            },
            Request::DescribeClientMetrics { name, keys } => {
                Response::DescribeClientMetrics(self.client_metrics.describe(&name, keys.as_deref()))
            }
            Request::AlterClientMetrics { change, validate_only } => {
                Response::AlterClientMetrics(self.client_metrics.alter(cx, change, validate_only))
            }
            Request::UpdateFeatures { updates, validate_only } => {
                Response::UpdateFeatures(self.features.update(cx, &updates, validate_only))
            }
        };
        self.cx.reply(ticket, response);
    }

    fn delete_topics(&mut self, topics: Vec<TopicRef>) -> Vec<DeletedTopic> {
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            let found = self.topics.find(&topic).map(|record| (record.name.clone(), record.id));
            results.push(match (found, topic) {
                (Ok((name, id)), _) => {
                    self.forget_topic(&name, &id);
                    self.cx.append(StateRecord::TopicDeleted { name: name.clone(), id });
                    DeletedTopic { name: Some(name), id: Some(id), error: None }
                }
                (Err(error), TopicRef::Name(name)) => {
                    DeletedTopic { name: Some(name), id: None, error: Some(error) }
                }
                (Err(error), TopicRef::Id(id)) => {
                    DeletedTopic { name: None, id: Some(id), error: Some(error) }
                }
            });
        }
        results
    }

    pub(crate) fn forget_topic(&mut self, name: &str, id: &TopicId) {
        self.topics.remove(name);
        let forgotten = self.offsets.of_topic(name);
        self.offsets.remove_topic(name);
        let mut groups = BTreeSet::new();
        for (group_id, partition) in forgotten {
            groups.insert(group_id.clone());
            self.cx.effects.push(Effect::Forgotten { group_id, topic: name.to_owned(), partition });
        }
        for group_id in groups {
            self.watch_group(&group_id);
        }
        self.usages.forget_topic(name);
        self.forget_topic_id(id);
    }

    pub(crate) fn forget_topic_id(&mut self, id: &TopicId) {
        self.shares.forget_topic(id);
        self.transactions.forget_topic(id);
    }

    pub(crate) fn forget_group(&mut self, group_id: &str) {
        self.groups.remove(group_id);
        self.consumer_groups.remove(group_id);
        self.streams_groups.remove(group_id);
        for (at, _) in self.offsets.of_group(group_id) {
            let (group_id, topic, partition) = (group_id.to_owned(), at.topic.clone(), at.partition);
            self.cx.effects.push(Effect::Forgotten { group_id, topic, partition });
        }
        self.offsets.remove_group(group_id);
        self.watch_group(group_id);
    }

    fn list_groups(&self, states: &[String], types: &[String]) -> Vec<GroupListing> {
        let any = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let alone = self.offsets.groups().filter(|id| !self.has_group(id));
        let mut groups: Vec<_> = self.groups.values().map(Group::listing).collect();
        groups.extend(self.consumer_groups.values().map(ConsumerGroup::listing));
        groups.extend(self.streams_groups.values().map(StreamsGroup::listing));
        groups.extend(alone.map(|id| Group::new(id).listing()));
        groups.extend(self.shares.list());
        groups.retain(|group| any(states, group.state) && any(types, group.kind));
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        groups
    }

    fn describe_group(&self, id: String) -> GroupDescription {
        match self.groups.get(&id) {
            Some(group) => group.describe(),
            None if self.offsets.knows(&id) && !self.has_group(&id) => Group::new(&id).describe(),
            None => GroupDescription {
                state: "Dead",
                error: Some(Error::GroupIdNotFound),
                ..Group::new(&id).describe()
            },
        }
    }

    fn delete_group(&mut self, id: &str) -> Result<(), Error> {
        if self.shares.has(id) {
            return self.shares.delete(&mut self.cx, id);
        }
        match () {
            () if self.has_members(id) => return Err(Error::NonEmptyGroup),
            () if !self.has_group(id) && !self.offsets.knows(id) => return Err(Error::GroupIdNotFound),
            () => {}
        }
        self.forget_group(id);
        self.cx.append(StateRecord::GroupDeleted { group_id: id.to_owned() });
        Ok(())
    }

    fn commit_offsets(&mut self, commit: OffsetCommit) -> Vec<PartitionResult> {
        let OffsetCommit { group_id, generation, member_id, instance_id, knows_member_epochs, offsets } =
            commit;
        let who = Committer {
            member_id: &member_id,
            instance_id: instance_id.as_deref(),
            epoch: generation,
            transactional: false,
            knows_epochs: knows_member_epochs,
        };
        let allowed = self.check_commit(&group_id, who);
        let mut results = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let partition = offset.partition.clone();
            let result = allowed.and_then(|()| self.check_offset(&group_id, who, &offset));
            if result.is_ok() {
                let record = self.offsets.record(&group_id, offset, self.cx.now);
                self.offsets.put(record.clone());
                self.cx.append(StateRecord::Offset(record));
            }
            results.push(PartitionResult { partition, error: result.err() });
        }
        self.watch_offsets(&group_id);
        results
    }

    fn commit_txn_offsets(&mut self, commit: TxnOffsetCommit) -> Vec<PartitionResult> {
        let allowed = self.check_txn_commit(&commit);
        let TxnOffsetCommit {
            transactional_id, group_id, member_id, instance_id, generation, offsets, ..
        } = commit;
        let who = txn_committer(&member_id, instance_id.as_deref(), generation);
        let mut results = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let partition = offset.partition.clone();
            let result = allowed.and_then(|()| self.check_offset(&group_id, who, &offset));
            if result.is_ok() {
                let offset = self.offsets.record(&group_id, offset, self.cx.now);
                self.offsets.put_pending(&transactional_id, offset.clone());
                let transactional_id = transactional_id.clone();
                self.cx.append(StateRecord::PendingOffset { transactional_id, offset });
            }
            results.push(PartitionResult { partition, error: result.err() });
        }
        self.watch_transaction(&transactional_id);
        results
    }

    fn check_txn_commit(&mut self, commit: &TxnOffsetCommit) -> Result<(), Error> {
        let producer =
            ProducerIdentity { producer_id: commit.producer_id, producer_epoch: commit.producer_epoch };
        let (id, group) = (commit.transactional_id.as_str(), commit.group_id.as_str());
        if group.is_empty() {
            return Err(Error::InvalidGroupId);
        }
        let who = txn_committer(&commit.member_id, commit.instance_id.as_deref(), commit.generation);
        if !commit.implicit {
            self.transactions.verify_group(id, producer, group).map_err(as_data_error)?;
            return self.check_commit(group, who);
        }
        self.check_commit(group, who)?;
        self.transactions.add(&mut self.cx, id, producer, &[], Some(group)).map_err(as_data_error)
    }

    fn delete_offsets(&mut self, group_id: &str, partitions: Vec<TopicPartition>) -> Response {
        let refuse = |error| Response::OffsetDelete { error: Some(error), partitions: Vec::new() };
        if group_id.is_empty() {
            return refuse(Error::InvalidGroupId);
        }
        if !self.has_group(group_id) && !self.offsets.knows(group_id) {
            return refuse(Error::GroupIdNotFound);
        }
        let Some(read) = self.topics_read(group_id, partitions.iter().map(|partition| &*partition.topic))
        else {
            return refuse(Error::NonEmptyGroup);
        };
        let mut results = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let error = match self.topics.partition_id(&partition) {
                None => Some(Error::UnknownTopicOrPartition),
                Some(_) => read.contains(&partition.topic).then_some(Error::GroupSubscribedToTopic),
            };
            if error.is_none() {
                self.delete_offset(group_id, &partition);
            }
            results.push(PartitionResult { partition, error });
        }
        self.watch_group(group_id);
        Response::OffsetDelete { error: None, partitions: results }
    }

    fn delete_offset(&mut self, group_id: &str, TopicPartition { topic, partition }: &TopicPartition) {
        if !self.offsets.remove(group_id, topic, *partition) {
            return;
        }
        let (group_id, topic, partition) = (group_id.to_owned(), topic.clone(), *partition);
        self.cx.append(StateRecord::OffsetDeleted { group_id, topic, partition });
    }

    fn add_partitions(&mut self, add: AddPartitions) -> AddedPartitions {
        let producer = ProducerIdentity { producer_id: add.producer_id, producer_epoch: add.producer_epoch };
        let id = add.transactional_id;
        let found: Vec<_> =
            add.partitions.iter().map(|partition| self.topics.partition_id(partition)).collect();
        let known: Vec<_> = found.iter().flatten().copied().collect();
        let all = known.len() == found.len();
        let added = match all && !add.verify_only {
            true => self.transactions.add(&mut self.cx, &id, producer, &known, None),
            false => Ok(()),
        };
        let outcome = |found: Option<_>| match found {
            None => Err(Error::UnknownTopicOrPartition),
            Some(partition) if add.verify_only => self.transactions.verify(&id, producer, partition),
            Some(_) if !all => Err(Error::OperationNotAttempted),
            Some(_) => added,
        };
        let results = add.partitions.into_iter().zip(found);
        let partitions = results
            .map(|(partition, found)| PartitionResult { partition, error: outcome(found).err() })
            .collect();
        self.watch_transaction(&id);
        AddedPartitions { transactional_id: id, partitions }
    }

    /// Offsets follow what became of their transaction; a no-op while it is open.
    pub(crate) fn settle_offsets(&mut self, transactional_id: &str) {
        let state = self.transactions.get(transactional_id).map(|record| record.state);
        if state != Some(TransactionState::Ongoing) {
            let committed = state == Some(TransactionState::CompleteCommit);
            let effects = &mut self.cx.effects;
            let settled = |offset: &OffsetRecord| effects.push(Effect::Settled(offset.clone()));
            for group in self.offsets.settle(transactional_id, committed, settled) {
                self.watch_offsets(&group);
            }
        }
    }

    /// When the offset of a group is too old. With members it depends on what they read, too: that is looked at now and then.
    fn offset_deadline(&self, group_id: &str, committed: TimestampMs) -> Option<TimestampMs> {
        let retention = self.cx.settings.offsets_retention_ms?;
        if self.has_members(group_id) {
            let next_look = (self.cx.now / RETENTION_CHECK_MS + 1) * RETENTION_CHECK_MS;
            return Some(committed.saturating_add(retention).max(next_look));
        }
        let emptied = self.group_changed_ms(group_id).unwrap_or(committed);
        Some(committed.max(emptied).saturating_add(retention))
    }

    /// When a group without members and offsets goes: nothing is lost with it that a new one would not have.
    fn bare_deadline(&self, group_id: &str) -> Option<TimestampMs> {
        Some(self.group_changed_ms(group_id)?.saturating_add(RETENTION_CHECK_MS))
    }

    /// Forgets old offsets of topics that no member reads (KIP-211). What a group that is rebalancing reads is not settled.
    fn expire_unread(&mut self, group_id: &str) {
        let Some(retention) = self.cx.settings.offsets_retention_ms else { return };
        let unsettled =
            self.groups.get(group_id).is_some_and(|group| !group.is_empty() && !group.is_stable());
        if unsettled || self.offsets.has_pending(group_id) {
            return;
        }
        let due = |committed: TimestampMs| committed.saturating_add(retention) <= self.cx.now;
        let old = self.offsets.of_group(group_id).filter(|(_, offset)| due(offset.committed_ms));
        let old: Vec<_> = old.map(|(partition, _)| partition.clone()).collect();
        let Some(read) = self.topics_read(group_id, old.iter().map(|partition| &*partition.topic)) else {
            return;
        };
        for partition in old.iter().filter(|partition| !read.contains(&partition.topic)) {
            self.delete_offset(group_id, partition);
        }
    }

    /// Forgets old offsets of a group, and a group without members with the last of them.
    pub(crate) fn expire_offsets(&mut self, group_id: &str) {
        if self.has_members(group_id) {
            return self.expire_unread(group_id);
        }
        let now = self.cx.now;
        let due =
            |committed| self.offset_deadline(group_id, committed).is_some_and(|deadline| deadline <= now);
        let old = self.offsets.of_group(group_id).filter(|(_, offset)| due(offset.committed_ms));
        let old: Vec<_> = old.map(|(partition, _)| partition.clone()).collect();
        let goes = match self.offsets.of_group(group_id).count() {
            0 => self.bare_deadline(group_id).is_some_and(|deadline| deadline <= now),
            all => old.len() == all,
        };
        if goes && !self.offsets.has_pending(group_id) {
            self.forget_group(group_id);
            self.cx.append(StateRecord::GroupDeleted { group_id: group_id.to_owned() });
            return;
        }
        for partition in old {
            // A pending offset of the same partition is as new as its transaction and stays.
            if !self.offsets.has_pending(group_id) {
                self.delete_offset(group_id, &partition);
            }
        }
    }

    /// Sets the group's alarm to its next deadline, after now, and drops a group that is nothing.
    pub(crate) fn watch_group(&mut self, group_id: &str) {
        if self.groups.get(group_id).is_some_and(Group::is_nothing) {
            self.groups.remove(group_id);
        }
        // The oldest commit decides; without any, the time when the last member left.
        let oldest = self.offsets.of_group(group_id).map(|(_, offset)| offset.committed_ms).min();
        let mut expiry = match oldest {
            Some(committed) => self.offset_deadline(group_id, committed),
            None if self.has_members(group_id) => None,
            None => self.bare_deadline(group_id),
        };
        if self.offsets.has_pending(group_id) {
            expiry = expiry.map(|at| at.max(self.cx.now.saturating_add(PENDING_RETRY_MS)));
        }
        let deadline = self.group_deadline(group_id).into_iter().chain(expiry).min();
        let later = deadline.map(|deadline| deadline.max(self.cx.now.saturating_add(1)));
        self.timers.set(Alarm::Group(group_id.to_owned()), later);
    }

    /// Makes sure that the group has an alarm; commits only move its deadlines later.
    pub(crate) fn watch_offsets(&mut self, group_id: &str) {
        if !self.timers.is_set(&Alarm::Group(group_id.to_owned())) {
            self.watch_group(group_id);
        }
    }

    pub(crate) fn watch_transaction(&mut self, transactional_id: &str) {
        let deadline = self.transactions.deadline(&self.cx, transactional_id);
        let later = deadline.map(|deadline| deadline.max(self.cx.now.saturating_add(1)));
        self.timers.set(Alarm::Transaction(transactional_id.to_owned()), later);
    }
}
