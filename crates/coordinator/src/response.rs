//! What the coordinator answers: plain fields, errors as [`Error`]; `None` is success.

use std::collections::BTreeSet;

use bytes::Bytes;
use headwater_model::acl::AclBinding;
use headwater_model::{Offset, TimestampMs, TopicPartition};

use crate::broker_configs::{BrokerConfigs, BrokerLayer};
use crate::configs::ConfigKind;
use crate::error::{Error, Failure};
use crate::records::{TopicId, TopicPartitionId};
use crate::request::LeavingMember;
use crate::share::ShareResponse;
use crate::streams::{StreamsGroupBeat, StreamsGroupDescription};
use crate::usage::DescribedUsage;

/// The answer to the [`crate::Request`] variant of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    CreateTopics(Vec<TopicResult>),
    DeleteTopics(Vec<DeletedTopic>),
    CreatePartitions(Vec<TopicResult>),
    DescribeTopics(Vec<DescribedTopic>),
    DescribeConfigs(Vec<DescribedConfigs>),
    DescribeBrokerConfigs(Box<BrokerConfigs>),
    AlterBrokerConfigs(Result<(), Failure>),
    AlterConfigs(Vec<TopicResult>),
    JoinGroup(JoinedGroup),
    SyncGroup(SyncedGroup),
    Heartbeat(Option<Error>),
    LeaveGroup {
        error: Option<Error>,
        members: Vec<LeftMember>,
    },
    ListGroups(Vec<GroupListing>),
    DescribeGroups(Vec<GroupDescription>),
    ConsumerGroupHeartbeat(Result<ConsumerGroupBeat, Failure>),
    DescribeConsumerGroups(Vec<ConsumerGroupDescription>),
    DescribeGroupConfigs(Vec<DescribedGroupConfigs>),
    AlterGroupConfigs(Vec<(String, Result<(), Failure>)>),
    DeleteGroups(Vec<(String, Option<Error>)>),
    OffsetCommit(Vec<PartitionResult>),
    OffsetFetch(Vec<FetchedGroup>),
    OffsetDelete {
        error: Option<Error>,
        partitions: Vec<PartitionResult>,
    },
    InitProducerId(Result<ProducerIdentity, Error>),
    AddPartitionsToTxn(Vec<AddedPartitions>),
    AddOffsetsToTxn(Option<Error>),
    TxnOffsetCommit(Vec<PartitionResult>),
    /// The identity to go on with; unchanged unless the epoch was bumped.
    EndTxn(Result<ProducerIdentity, Error>),
    DescribeTransactions(Vec<DescribedTransaction>),
    ListTransactions(Vec<TransactionListing>),
    CreateAcls(Vec<Result<(), Failure>>),
    /// What went with each filter.
    DeleteAcls(Vec<Vec<AclBinding>>),
    AlterQuotas(Vec<Result<(), Failure>>),
    /// Each user once.
    AlterScramCredentials(Vec<(String, Option<Error>)>),
    Share(ShareResponse),
    /// Sightings that found no room, since the start.
    RecordUsage(u64),
    DescribeUsage(DescribedUsage),
    StreamsGroupHeartbeat(Box<Result<StreamsGroupBeat, Failure>>),
    DescribeStreamsGroups(Vec<StreamsGroupDescription>),
    UpdateFeatures(Result<(), Failure>),
    ListConfigured {
        groups: Vec<String>,
        client_metrics: Vec<String>,
    },
    DescribeClientMetrics(Vec<GroupConfigEntry>),
    AlterClientMetrics(Result<(), Failure>),
}

/// The outcome of creating or changing one topic; on success what it is now (or would be, when only validated).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    pub name: String,
    pub result: Result<TopicSummary, Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    pub id: TopicId,
    pub partitions: i32,
    /// Every key with its effective value.
    pub configs: Vec<ConfigEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// `None` when an unknown id was given.
    pub name: Option<String>,
    pub id: Option<TopicId>,
    pub error: Option<Error>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTopic {
    pub name: Option<String>,
    pub id: Option<TopicId>,
    pub internal: bool,
    /// 0 on error.
    pub partitions: i32,
    pub error: Option<Error>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConfigs {
    pub topic: String,
    pub result: Result<Vec<ConfigEntry>, Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroupConfigs {
    pub group_id: String,
    pub result: Result<Vec<GroupConfigEntry>, Failure>,
}

/// A key of the configuration of a group, or of another thing of which each key is shown; what holds is the first of `set`, the broker's and the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfigEntry {
    pub name: &'static str,
    /// What the group has set, within the broker's bounds.
    pub set: Option<String>,
    /// The broker's name of the key and its value there, which it may have from its start or by default.
    pub broker: Option<(String, String)>,
    pub default: &'static str,
    pub kind: ConfigKind,
    pub documentation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    pub value: String,
    pub default: &'static str,
    /// `false` when set on the topic, even to the same value.
    pub is_default: bool,
    /// What the topic has, or would have, from the broker; what holds being first.
    pub broker: Vec<(BrokerLayer, String)>,
    pub kind: ConfigKind,
    pub documentation: &'static str,
}

/// What a member learns when the group's members are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedGroup {
    pub error: Option<Error>,
    /// −1 on error.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Empty on error.
    pub leader: String,
    pub skip_assignment: bool,
    /// Set also with `MEMBER_ID_REQUIRED`.
    pub member_id: String,
    /// All members for the leader, nothing for the others.
    pub members: Vec<JoinedMember>,
}

impl JoinedGroup {
    pub(crate) fn refused(member_id: String, error: Error) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncedGroup {
    pub error: Option<Error>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub error: Option<Error>,
}

impl LeftMember {
    /// Of a group that is not there.
    pub(crate) fn unknown(LeavingMember { member_id, instance_id }: LeavingMember) -> Self {
        Self { member_id, instance_id, error: Some(Error::UnknownMemberId) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: String,
    pub protocol_type: String,
    /// Kafka's names: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`; of the consumer protocol `Empty`,
    /// `Assigning`, `Reconciling`, `Stable`; of streams groups also `NotReady`.
    pub state: &'static str,
    /// Kafka's names: `classic`, `consumer`, `share`, `streams`.
    pub kind: &'static str,
}

/// What a member of the consumer protocol learns (KIP-848).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupBeat {
    pub member_id: String,
    pub member_epoch: i32,
    /// 0 for who leaves.
    pub heartbeat_interval_ms: i32,
    /// `None` when the member knows it.
    pub assignment: Option<BTreeSet<TopicPartitionId>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    pub group_id: String,
    pub error: Option<Failure>,
    /// Empty on error.
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: String,
    pub members: Vec<ConsumerMemberDescription>,
}

impl ConsumerGroupDescription {
    pub(crate) fn unknown(group_id: String) -> Self {
        Self {
            error: Some(Failure::no_such_group(&group_id, "consumer")),
            group_id,
            state: "",
            epoch: 0,
            assignment_epoch: 0,
            assignor: String::new(),
            members: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: Vec<String>,
    pub regex: Option<String>,
    pub assignment: Vec<AssignedTopic>,
    /// What it should have at the group's assignment epoch.
    pub target: Vec<AssignedTopic>,
    /// It speaks the classic protocol.
    pub is_classic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedTopic {
    pub id: TopicId,
    pub name: String,
    pub partitions: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group_id: String,
    /// `Dead` for a group that does not exist (v6 and above carry the error, too).
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<MemberDescription>,
    pub error: Option<Error>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// The metadata for the protocol that was chosen; empty while rebalancing.
    pub metadata: Bytes,
    /// Empty unless the group is stable.
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResult {
    pub partition: TopicPartition,
    pub error: Option<Error>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedGroup {
    pub group_id: String,
    /// Why there is nothing for this member.
    pub error: Option<Error>,
    pub offsets: Vec<FetchedOffset>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: TopicPartition,
    /// −1 when there is none.
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
    pub error: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedPartitions {
    pub transactional_id: String,
    pub partitions: Vec<PartitionResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTransaction {
    pub transactional_id: String,
    pub error: Option<Error>,
    /// Kafka's names: `Empty`, `Ongoing`, `CompleteCommit`, `CompleteAbort`.
    pub state: &'static str,
    pub timeout_ms: i32,
    /// −1 unless ongoing.
    pub started_ms: TimestampMs,
    pub producer: ProducerIdentity,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionListing {
    pub transactional_id: String,
    pub producer_id: i64,
    pub state: &'static str,
}
