//! The deterministic brain of topics, groups, transactions, access rules and quotas.
//!
//! Owns the rules; refuses clocks, input and output: time is an argument, randomness comes from [`Settings::seed`], and what
//! must happen is returned as [`Effect`]s. [`Coordinator::handle`] and [`Coordinator::tick`] have already applied their own
//! records when they return; [`Coordinator::apply`] is only for the replay at the start. If the broker cannot commit the
//! effects of a call, this state is ahead of the log and must be thrown away: stop, and replay.

mod acl;
mod broker_configs;
mod client_metrics;
mod compression;
mod configs;
mod consumer;
mod context;
mod credentials;
mod dispatch;
mod enforcement;
mod error;
mod features;
mod group;
mod group_configs;
mod group_types;
mod kinds;
mod offsets;
mod owners;
mod published;
mod quota;
mod records;
mod request;
mod response;
mod settings;
mod share;
mod sight;
mod streams;
mod timers;
mod topic_settings;
mod topics;
mod transaction;
mod usage;
mod whole_match;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use acl::{AclIndex, AclRecord, Asker, Verdict, matches as acl_matches};
pub use broker_configs::{BrokerConfigs, BrokerKey, BrokerLayer, broker_config_of_topic};
pub use compression::CompressionType;
pub use configs::{ConfigKey, ConfigKind, TOPIC_CONFIGS};
pub use consumer::{
    ASSIGNORS, ClassicMember, ConsumerGroupChange, ConsumerMemberRecord, CurrentAssignment, GroupEpochs,
    MemberState, check_consumer_heartbeat,
};
pub use enforcement::{Enforcement, SubjectStrategy};
pub use error::{Error, Failure, code};
pub use features::{FEATURES, Feature, FeatureChange, FeatureRecord, FeatureUpdate, Features};
pub use group_configs::GROUP_CONFIGS;
pub use headwater_model::StreamKind;
use headwater_model::TimestampMs;
use headwater_model::acl::AclBinding;
pub use owners::{INTERNAL, OWNER, is_of_a_service};
pub use published::{
    Published, PublishedTopic, Publisher, committed as published_offset, forgotten as published_tombstone,
    partition_of as published_partition,
};
pub use quota::{
    Applies, Bucket, EntityFilter, EntityName, Limit, QuotaAlteration, QuotaEntity, QuotaFilter, QuotaKey,
    QuotaRecord, QuotaTable, Samples, Windows,
};
pub use records::*;
pub use request::*;
pub use response::*;
pub use settings::{MigrationPolicy, Settings};
pub use share::*;
pub use sight::Sight;
pub use streams::*;
pub use topics::{is_internal, is_legal as is_legal_topic};
pub use usage::{DescribedUsage, KEPT_MS, MOST_CLIENTS, MOST_ROWS, Usage, UsageKind, UsageRecord};
pub use whole_match::{Compiled, whole_match};

use acl::Acls;
use client_metrics::ClientMetrics;
use consumer::ConsumerGroup;
use context::Context;
use credentials::Credentials;
use group::Group;
use group_configs::GroupConfigs;
use offsets::Offsets;
use quota::Quotas;
use share::Shares;
use sight::Sights;
use streams::StreamsGroup;
use timers::{Alarm, Timers};
pub use topic_settings::TopicSettings;
use topics::Topics;
use transaction::{Transactions, as_data_error};
use usage::Usages;

/// What the broker must do for one call. All effects of a call go into ONE atomic log commit; replies leave after it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write to the state log.
    Append(StateRecord),
    /// Write a control batch to each partition.
    Markers { partitions: Vec<TopicPartitionId>, producer_id: i64, producer_epoch: i16, commit: bool },
    /// Somebody may get records of this partition in a share group; at once, not with the commit.
    Wake(TopicPartitionId),
    /// Answer the request that came with this ticket.
    Reply { ticket: u64, response: Response },
    /// An offset of a transaction has become final with it; the state log knows by the transaction's record.
    Settled(OffsetRecord),
    /// A committed offset went with its group or topic; the state log knows by their records.
    Forgotten { group_id: String, topic: String, partition: i32 },
}

/// The state of topics, groups, offsets, producers and transactions.
#[derive(Debug)]
pub struct Coordinator {
    cx: Context,
    topics: Topics,
    groups: BTreeMap<String, Group>,
    /// A group id is here, in `streams_groups`, in `groups` or in `shares`, and nowhere twice.
    consumer_groups: BTreeMap<String, ConsumerGroup>,
    streams_groups: BTreeMap<String, StreamsGroup>,
    group_configs: GroupConfigs,
    shares: Shares,
    offsets: Offsets,
    transactions: Transactions,
    credentials: Credentials,
    timers: Timers,
    acls: Acls,
    quotas: Quotas,
    usages: Usages,
    features: Features,
    client_metrics: ClientMetrics,
}

impl Coordinator {
    pub fn new(settings: Settings) -> Self {
        Self {
            cx: Context::new(settings),
            topics: Topics::default(),
            groups: BTreeMap::new(),
            consumer_groups: BTreeMap::new(),
            streams_groups: BTreeMap::new(),
            group_configs: GroupConfigs::default(),
            shares: Shares::default(),
            offsets: Offsets::default(),
            transactions: Transactions::default(),
            credentials: Credentials::default(),
            timers: Timers::default(),
            acls: Acls::default(),
            quotas: Quotas::default(),
            usages: Usages::default(),
            features: Features::default(),
            client_metrics: ClientMetrics::default(),
        }
    }

    /// From now on clients see the topics that this lets them see.
    pub fn look_through(&mut self, sight: Arc<dyn Sight>) {
        self.cx.sights = Sights(Some(sight));
    }

    /// Decides a request. The ticket is answered in this call's effects, or (JoinGroup, SyncGroup) in a later call's.
    pub fn handle(
        &mut self,
        ticket: u64,
        client: &Client,
        request: Request,
        now: TimestampMs,
    ) -> Vec<Effect> {
        self.cx.now = now;
        self.dispatch(ticket, client, request);
        std::mem::take(&mut self.cx.effects)
    }

    /// Does what is due: ends sessions, rebalances and transactions, forgets what expired.
    pub fn tick(&mut self, now: TimestampMs) -> Vec<Effect> {
        self.cx.now = now;
        while let Some(alarm) = self.timers.pop(now) {
            match alarm {
                Alarm::Group(id) => {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.expire(&mut self.cx);
                    }
                    self.expire_consumer_group(&id);
                    self.expire_streams_group(&id);
                    self.expire_offsets(&id);
                    self.watch_group(&id);
                }
                Alarm::ShareGroup(id) => self.expire_share_group(&id),
                Alarm::Transaction(id) => {
                    self.transactions.expire(&mut self.cx, &id);
                    self.settle_offsets(&id);
                    self.watch_transaction(&id);
                }
            }
        }
        std::mem::take(&mut self.cx.effects)
    }

    /// When [`Self::tick`] has something to do; calling it earlier or later is harmless.
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        self.timers.next()
    }

    /// The connection that waits for this ticket is gone: it will not be answered.
    pub fn cancel(&mut self, ticket: u64) {
        let now = self.cx.now;
        let waited =
            self.groups.iter_mut().find_map(|(id, group)| group.cancel(ticket, now).then(|| id.clone()));
        if let Some(id) = waited {
            self.watch_group(&id);
        }
    }

    /// Replays a record at the start, oldest first. `now` is when the sessions of restored members begin.
    pub fn apply(&mut self, record: &StateRecord, now: TimestampMs) {
        self.cx.now = now;
        match record.clone() {
            StateRecord::Topic(topic) => self.topics.put(topic),
            // The name may belong to another topic since.
            StateRecord::TopicDeleted { name, id } => {
                match self.topics.get(&name).is_none_or(|topic| topic.id == id) {
                    true => self.forget_topic(&name, &id),
                    false => self.forget_topic_id(&id),
                }
            }
            StateRecord::Group(group) => {
                self.consumer_groups.remove(&group.group_id);
                self.streams_groups.remove(&group.group_id);
                self.groups.insert(group.group_id.clone(), Group::restored(&group, now));
                self.watch_group(&group.group_id);
            }
            StateRecord::GroupDeleted { group_id } => self.forget_group(&group_id),
            StateRecord::Offset(offset) => {
                let id = offset.group_id.clone();
                self.offsets.put(offset);
                self.watch_offsets(&id);
            }
            StateRecord::OffsetDeleted { group_id, topic, partition } => {
                self.offsets.remove(&group_id, &topic, partition);
                self.watch_group(&group_id);
            }
            StateRecord::PendingOffset { transactional_id, offset } => {
                self.offsets.put_pending(&transactional_id, offset);
            }
            StateRecord::ProducerIds { reserved } => self.transactions.reserve(reserved),
            StateRecord::Transaction(record) => {
                let id = record.transactional_id.clone();
                self.transactions.put(record, now);
                self.settle_offsets(&id);
                self.watch_transaction(&id);
            }
            StateRecord::ConsumerGroup { group_id, change } => {
                self.apply_consumer_change(&group_id, &change, now);
            }
            StateRecord::StreamsGroup { group_id, change } => {
                self.apply_streams_change(&group_id, &change, now);
            }
            StateRecord::GroupConfigs { group_id, configs } => self.group_configs.put(&group_id, configs),
            StateRecord::ScramCredential(record) => self.credentials.put(record),
            StateRecord::ScramCredentialDeleted { user, mechanism } => {
                self.credentials.remove(&user, mechanism);
            }
            StateRecord::TransactionDeleted { transactional_id } => {
                self.transactions.remove(&transactional_id);
                self.watch_transaction(&transactional_id);
            }
            StateRecord::Acl(acl) => self.acls.put(acl.0),
            StateRecord::AclDeleted(acl) => self.acls.remove(&acl.0),
            StateRecord::Quota(record) => self.quotas.put(record),
            StateRecord::Share(record) => {
                let group_id = record.group_id().to_owned();
                let settings = self.group_configs.share(&self.cx.settings, &group_id);
                self.shares.apply(record, &settings, now);
                self.watch_share_group(&group_id);
            }
            StateRecord::Usage(record) => self.usages.put(record),
            StateRecord::UsageForgotten(of) => self.usages.remove(&of),
            StateRecord::BrokerConfigs { broker, configs } => self.cx.broker_configs.put(broker, configs),
            StateRecord::Feature(record) => self.features.put(record),
            StateRecord::ClientMetrics { name, configs } => self.client_metrics.put(&name, configs),
        }
        // What a replay implies was told when it happened.
        self.cx.effects.clear();
    }

    /// The durable state in as few records as possible; replaying them gives an equal coordinator.
    pub fn snapshot(&self) -> Vec<StateRecord> {
        let topics = self.topics.iter().cloned().map(StateRecord::Topic);
        let groups = self.groups.values().filter_map(Group::persisted).cloned().map(StateRecord::Group);
        let acls = self.acls.iter().cloned().map(AclRecord).map(StateRecord::Acl);
        let configs = self.group_configs.snapshot();
        let groups = configs.chain(groups).chain(self.consumer_snapshot()).chain(self.streams_snapshot());
        let groups = groups.chain(self.shares.snapshot());
        let of_data = topics.chain(groups).chain(self.transactions.snapshot()).chain(self.offsets.snapshot());
        let credentials = self.credentials.iter().cloned().map(StateRecord::ScramCredential);
        let quotas = self.quotas.iter().map(StateRecord::Quota);
        let usages = self.usages.iter().map(StateRecord::Usage);
        let of_broker = self.cx.broker_configs.snapshot();
        let of_broker = of_broker.chain(self.features.records().map(StateRecord::Feature));
        let of_broker = of_broker.chain(self.client_metrics.snapshot());
        of_broker.chain(of_data).chain(acls).chain(quotas).chain(credentials).chain(usages).collect()
    }

    /// How many partitions one of Kafka's own topics has when it is created.
    pub fn published_partitions(&self, topic: PublishedTopic) -> i32 {
        match topic {
            PublishedTopic::Offsets => self.cx.settings.offsets_topic_partitions,
            PublishedTopic::Transactions => self.cx.settings.transaction_log_partitions,
        }
    }

    /// Creates one of Kafka's own topics unless it is there.
    pub fn create_published(&mut self, topic: PublishedTopic, now: TimestampMs) -> Vec<Effect> {
        self.cx.now = now;
        self.topics.create_published(&mut self.cx, topic);
        std::mem::take(&mut self.cx.effects)
    }

    /// Has one of Kafka's own topics compacted again, whose policy somebody had changed.
    pub fn compact_published(&mut self, topic: PublishedTopic, now: TimestampMs) -> Vec<Effect> {
        self.cx.now = now;
        self.topics.compact_published(&mut self.cx, topic);
        std::mem::take(&mut self.cx.effects)
    }

    /// Deletes one of Kafka's own topics if it is there.
    pub fn delete_published(&mut self, topic: PublishedTopic, now: TimestampMs) -> Vec<Effect> {
        self.cx.now = now;
        if let Some(id) = self.topic(topic.name()).map(|record| record.id) {
            self.forget_topic(topic.name(), &id);
            self.cx.append(StateRecord::TopicDeleted { name: topic.name().to_owned(), id });
        }
        std::mem::take(&mut self.cx.effects)
    }

    /// What is set of the broker, from which topics inherit.
    pub fn broker_configs(&self) -> &BrokerConfigs {
        &self.cx.broker_configs
    }

    /// The levels of the features that are finalized.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &TopicRecord> {
        self.topics.iter()
    }

    /// Every access rule, in the order of their resources.
    pub fn acls(&self) -> impl Iterator<Item = &AclBinding> {
        self.acls.iter()
    }

    /// Every limit of every client.
    pub fn quotas(&self) -> impl Iterator<Item = QuotaRecord> {
        self.quotas.iter()
    }

    /// SCRAM credentials in the order of their users.
    pub fn scram_credentials(&self) -> impl Iterator<Item = &ScramRecord> {
        self.credentials.iter()
    }

    pub fn topic(&self, name: &str) -> Option<&TopicRecord> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: &TopicId) -> Option<&TopicRecord> {
        self.topics.by_id(id)
    }

    /// Whether a batch of this producer may be appended to this partition; `None` for one that is only idempotent.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `INVALID_PRODUCER_EPOCH`, or `INVALID_TXN_STATE` when the partition is not in the
    /// open transaction (Produce v11 and above call that `TRANSACTION_ABORTABLE`).
    pub fn check_transactional_produce(
        &self,
        transactional_id: Option<&str>,
        producer_id: i64,
        producer_epoch: i16,
        partition: TopicPartitionId,
    ) -> Result<(), Error> {
        match transactional_id {
            None => self.transactions.check_idempotent(producer_id),
            Some(id) => {
                let producer = ProducerIdentity { producer_id, producer_epoch };
                self.transactions.verify(id, producer, partition).map_err(as_data_error)
            }
        }
    }

    /// KIP-890: Produce v12 and above adds partitions to the transaction, all of them or none. No effects when they are there;
    /// the effects belong into the log commit of the batches, before them.
    ///
    /// # Errors
    /// As [`Self::check_transactional_produce`], and `UNKNOWN_TOPIC_OR_PARTITION`.
    pub fn add_partitions_implicitly(
        &mut self,
        transactional_id: &str,
        producer_id: i64,
        producer_epoch: i16,
        partitions: &[TopicPartitionId],
        now: TimestampMs,
    ) -> Result<Vec<Effect>, Error> {
        self.cx.now = now;
        if !partitions.iter().all(|partition| self.topics.has(*partition)) {
            return Err(Error::UnknownTopicOrPartition);
        }
        let producer = ProducerIdentity { producer_id, producer_epoch };
        self.transactions
            .add(&mut self.cx, transactional_id, producer, partitions, None)
            .map_err(as_data_error)?;
        self.watch_transaction(transactional_id);
        Ok(std::mem::take(&mut self.cx.effects))
    }
}
