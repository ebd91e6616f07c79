//! What may be asked of share groups, and what is answered.

use headwater_model::Offset;

use super::configs::ShareIsolation;
use super::configs::ShareReset;
use crate::error::{Error, Failure};
use crate::records::{TopicId, TopicPartitionId};

/// One request about share groups; [`ShareResponse`] has a variant of the same name for each.
#[derive(Debug, Clone, PartialEq)]
pub enum ShareRequest {
    Heartbeat(ShareHeartbeat),
    Describe(Vec<String>),
    /// Acknowledges, and says where in each partition the next records are.
    Fetch {
        group_id: String,
        member_id: String,
        acknowledgements: Vec<Acknowledgement>,
        /// Partitions with their log start offsets.
        wanted: Vec<(TopicPartitionId, Offset)>,
    },
    /// Gives an offset to a partition that has none yet.
    Initialize {
        group_id: String,
        partition: TopicPartitionId,
        offset: Offset,
    },
    Acquire(Acquire),
    /// The member's share session is over: what it holds is available again, as if it had not been delivered.
    Release {
        group_id: String,
        member_id: String,
    },
    /// `None` asks for every partition that the group has.
    DescribeOffsets {
        group_id: String,
        partitions: Option<Vec<TopicPartitionId>>,
    },
    AlterOffsets {
        group_id: String,
        offsets: Vec<(TopicPartitionId, Offset)>,
    },
    DeleteOffsets {
        group_id: String,
        topics: Vec<TopicId>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum ShareResponse {
    Heartbeat(Result<ShareAssigned, Failure>),
    Describe(Vec<ShareGroupDescription>),
    Fetch(Result<SharePlan, Error>),
    Initialize,
    /// What was acquired of each partition, in the order of the request.
    Acquire(Vec<Vec<Acquired>>),
    Release,
    DescribeOffsets(Result<Vec<ShareOffset>, Error>),
    AlterOffsets(Result<Vec<(TopicPartitionId, Option<Error>)>, Failure>),
    DeleteOffsets(Result<Vec<(TopicId, Option<Error>)>, Failure>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHeartbeat {
    pub group_id: String,
    /// Chosen by the member.
    pub member_id: String,
    /// 0 to join, −1 to leave.
    pub member_epoch: i32,
    pub rack: Option<String>,
    /// `None` when it is as before.
    pub subscription: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAssigned {
    pub member_id: String,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None` when it is as before.
    pub assignment: Option<Vec<(TopicId, Vec<i32>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroupDescription {
    pub group_id: String,
    pub error: Option<Error>,
    /// Kafka's names: `Empty`, `Stable`, `Dead`.
    pub state: &'static str,
    pub epoch: i32,
    pub members: Vec<ShareMemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareMemberDescription {
    pub member_id: String,
    pub member_epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub rack: Option<String>,
    pub subscription: Vec<String>,
    /// Topics by id and name.
    pub assignment: Vec<(TopicId, String, Vec<i32>)>,
}

/// What a consumer did with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcknowledgeType {
    /// There is no record at this offset.
    Gap,
    Accept,
    Release,
    Reject,
    /// KIP-1222: it needs more time.
    Renew,
}

impl AcknowledgeType {
    /// The type of this number on the wire.
    pub fn of(number: i8) -> Option<Self> {
        Some(match number {
            0 => Self::Gap,
            1 => Self::Accept,
            2 => Self::Release,
            3 => Self::Reject,
            4 => Self::Renew,
            _ => return None,
        })
    }
}

/// What became of records of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    pub partition: TopicPartitionId,
    /// Ascending and disjoint.
    pub batches: Vec<AcknowledgementBatch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    pub first: Offset,
    pub last: Offset,
    /// One for all, or one for each offset.
    pub types: Vec<AcknowledgeType>,
}

/// How a share fetch goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharePlan {
    pub lock_duration_ms: i32,
    pub isolation: ShareIsolation,
    /// In the order of the acknowledgements.
    pub acknowledged: Vec<Option<Error>>,
    /// In the order of the wanted partitions.
    pub next: Vec<ShareNext>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareNext {
    /// There may be records to acquire from this offset on.
    At(Offset),
    /// As many records as are allowed are in flight.
    Full,
    /// The group has no offset for this partition: this is how it gets one.
    Uninitialized(ShareReset),
}

/// Takes records that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    pub group_id: String,
    pub member_id: String,
    pub max_records: i64,
    /// KIP-1206: exactly so many, though that splits a batch.
    pub strict: bool,
    /// Acquired records are told in ranges of about this length.
    pub batch_size: i64,
    pub partitions: Vec<(TopicPartitionId, ReadBatches)>,
}

/// What a partition's log holds from `from` on; offsets between the batches hold nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatches {
    pub from: Offset,
    /// Ascending.
    pub batches: Vec<ReadBatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBatch {
    pub first: Offset,
    pub last: Offset,
    /// A transaction's marker or an aborted record: nobody gets it.
    pub skipped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    pub first: Offset,
    pub last: Offset,
    pub delivery_count: i16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareOffset {
    pub partition: TopicPartitionId,
    /// Everything below is finished; −1 when the partition has no offset yet.
    pub start: Offset,
    /// How many offsets at or above `start` are finished.
    pub finished: i64,
}
