//! What may be asked of the coordinator: plain fields, no wire structs and no API versions.
//!
//! Where a version changes behaviour, the difference is a named field (`require_known_member_id`, `implicit`,
//! `bump_epoch` …), which the broker sets from the version.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::acl::{AclBinding, AclFilter};
use headwater_model::{Offset, Principal, TopicPartition};

use crate::Compiled;
use crate::features::FeatureUpdate;
use crate::quota::QuotaAlteration;
use crate::records::{ScramRecord, TopicId, TopicPartitionId};
use crate::share::ShareRequest;
use crate::streams::StreamsGroupHeartbeat;
use crate::usage::UsageRecord;

/// Who asks: kept as member metadata and part of generated member ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    pub id: String,
    pub host: String,
    pub principal: Arc<Principal>,
}

/// One request; [`crate::Response`] has a variant of the same name for each.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics(Vec<TopicRef>),
    CreatePartitions {
        topics: Vec<NewPartitions>,
        validate_only: bool,
    },
    /// `None` asks for every topic.
    DescribeTopics(Option<Vec<TopicRef>>),
    DescribeConfigs(Vec<DescribeConfig>),
    AlterConfigs {
        topics: Vec<AlterConfig>,
        validate_only: bool,
    },
    JoinGroup(JoinGroup),
    SyncGroup(SyncGroup),
    Heartbeat(Heartbeat),
    LeaveGroup {
        group_id: String,
        members: Vec<LeavingMember>,
    },
    /// Empty filters match everything; `states` and `types` are compared without case.
    ListGroups {
        states: Vec<String>,
        types: Vec<String>,
    },
    DescribeGroups(Vec<String>),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeat),
    DescribeConsumerGroups(Vec<String>),
    DescribeGroupConfigs(Vec<DescribeGroupConfig>),
    AlterGroupConfigs {
        groups: Vec<AlterGroupConfig>,
        validate_only: bool,
    },
    /// What is set of the broker.
    DescribeBrokerConfigs,
    AlterBrokerConfigs {
        change: AlterBrokerConfig,
        validate_only: bool,
    },
    DeleteGroups(Vec<String>),
    OffsetCommit(OffsetCommit),
    OffsetFetch(OffsetFetch),
    OffsetDelete {
        group_id: String,
        partitions: Vec<TopicPartition>,
    },
    InitProducerId(InitProducerId),
    /// One entry for the shape of v3 and below; several, also verifying ones, from v4.
    AddPartitionsToTxn(Vec<AddPartitions>),
    AddOffsetsToTxn {
        transactional_id: String,
        producer_id: i64,
        producer_epoch: i16,
        group_id: String,
    },
    TxnOffsetCommit(TxnOffsetCommit),
    EndTxn(EndTxn),
    DescribeTransactions(Vec<String>),
    ListTransactions(ListTransactions),
    CreateAcls(Vec<AclBinding>),
    DeleteAcls(Vec<AclFilter>),
    AlterQuotas {
        alterations: Vec<QuotaAlteration>,
        validate_only: bool,
    },
    AlterScramCredentials(Vec<ScramChange>),
    Share(ShareRequest),
    /// Who was seen to produce and consume.
    RecordUsage(Vec<UsageRecord>),
    /// Who uses this topic.
    DescribeUsage(String),
    StreamsGroupHeartbeat(Box<StreamsGroupHeartbeat>),
    DescribeStreamsGroups(Vec<String>),
    /// Which groups, and which subscriptions to client metrics, have a configuration of their own.
    ListConfigured,
    /// One of them; `keys` as in [`DescribeConfig`].
    DescribeClientMetrics {
        name: String,
        keys: Option<Vec<String>>,
    },
    AlterClientMetrics {
        change: AlterConfig,
        validate_only: bool,
    },
    /// Each feature is set to its level, or none is.
    UpdateFeatures {
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    },
}

/// A credential that is set, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramChange {
    Put(ScramRecord),
    Delete { user: String, mechanism: i8 },
}

impl ScramChange {
    pub fn user(&self) -> &str {
        match self {
            Self::Put(record) => &record.user,
            Self::Delete { user, .. } => user,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// −1 for [`crate::Settings::default_partitions`].
    pub partitions: i32,
    /// −1 or 1.
    pub replication_factor: i16,
    /// `None` as value leaves the default.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic by name or by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    pub name: String,
    /// The new total.
    pub count: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeConfig {
    pub topic: String,
    /// `None` asks for every key.
    pub keys: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConfig {
    pub topic: String,
    /// `true` for the old AlterConfigs, which forgets every key that is not named.
    pub replace: bool,
    pub changes: Vec<(String, ConfigChange)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeGroupConfig {
    pub group_id: String,
    /// `None` asks for every key.
    pub keys: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterGroupConfig {
    pub group_id: String,
    /// As in [`AlterConfig`].
    pub replace: bool,
    pub changes: Vec<(String, ConfigChange)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterBrokerConfig {
    /// `None` for every broker of the cluster.
    pub broker: Option<i32>,
    /// As in [`AlterConfig`].
    pub replace: bool,
    pub changes: Vec<(String, ConfigChange)>,
}

/// One incremental change (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    Set(String),
    Delete,
    /// Lists only.
    Append(String),
    /// Lists only.
    Subtract(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    pub group_id: String,
    pub session_timeout_ms: i32,
    /// −1 (v0) means the session timeout.
    pub rebalance_timeout_ms: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// v4 and above (KIP-394): a dynamic member first gets its id and joins again with it.
    pub require_known_member_id: bool,
    /// v9 and above (KIP-814): a returning static leader is told not to assign.
    pub supports_skipping_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    pub group_id: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// The leader's assignments, by member id; empty from followers.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub group_id: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// May be empty when an instance id is given.
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// KIP-848; what is `None` is as in the heartbeat before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerGroupHeartbeat {
    pub group_id: String,
    pub member_id: String,
    /// 0 joins, −1 leaves, −2 leaves to come back with the same instance id.
    pub member_epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<Vec<String>>,
    /// Empty for none.
    pub regex: Option<String>,
    /// What `regex` is compiled; `None` where that is left to the coordinator.
    pub compiled: Option<Compiled>,
    pub assignor: Option<String>,
    /// What the member has.
    pub owned: Option<BTreeSet<TopicPartitionId>>,
    /// v1 and above (KIP-1082): the member makes its own id.
    pub names_itself: bool,
}

/// An offset to remember for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOffset {
    pub partition: TopicPartition,
    pub offset: Offset,
    /// −1 when unknown.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    pub group_id: String,
    /// −1 for a simple consumer; the member epoch in a group of the consumer protocol.
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// v9 and above (KIP-848).
    pub knows_member_epochs: bool,
    pub offsets: Vec<NewOffset>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetch {
    pub groups: Vec<OffsetFetchGroup>,
    /// Answer `UNSTABLE_OFFSET_COMMIT` for partitions with offsets of an unfinished transaction (KIP-447).
    pub require_stable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchGroup {
    pub group_id: String,
    /// v9 and above (KIP-848): the member that asks, and its epoch.
    pub member: Option<(String, i32)>,
    /// `None` asks for every partition with an offset.
    pub partitions: Option<Vec<TopicPartition>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerId {
    /// `None` for a producer that is only idempotent.
    pub transactional_id: Option<String>,
    pub transaction_timeout_ms: i32,
    /// −1 unless the producer bumps its own epoch (KIP-360).
    pub producer_id: i64,
    pub producer_epoch: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitions {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Only ask whether the partitions are in the transaction.
    pub verify_only: bool,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnOffsetCommit {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub group_id: String,
    /// −1 when the producer gave no group metadata.
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// v5 and above (KIP-890): the group joins the transaction without AddOffsetsToTxn.
    pub implicit: bool,
    pub offsets: Vec<NewOffset>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndTxn {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub commit: bool,
    /// v5 and above (KIP-890): every transaction has its own epoch.
    pub bump_epoch: bool,
}

/// Empty filters match everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListTransactions {
    pub states: Vec<String>,
    pub producer_ids: Vec<i64>,
    /// Only transactions open for longer than this; negative for all.
    pub longer_than_ms: i64,
}
