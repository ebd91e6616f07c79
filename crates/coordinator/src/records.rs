//! The coordinator's durable state as records: what the broker writes to its state log and replays at the start.
//!
//! Layout: one version byte ([`VERSION`]), then the record in postcard. Every record is an upsert or a deletion of one
//! thing, so replay is a fold and compaction is [`crate::Coordinator::snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use headwater_model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

use crate::acl::AclRecord;
use crate::consumer::ConsumerGroupChange;
use crate::features::FeatureRecord;
use crate::quota::QuotaRecord;
use crate::share::ShareRecord;
use crate::streams::StreamsGroupChange;
use crate::usage::{Usage, UsageRecord};

/// The format version that [`StateRecord::encode`] writes, and the newest that `decode` reads.
pub const VERSION: u8 = 1;

/// A topic's identity; a topic that is deleted and created again has another one.
pub type TopicId = [u8; 16];

/// A partition by the identity of its topic.
pub type TopicPartitionId = (TopicId, i32);

/// One change of durable state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateRecord {
    /// Created or changed. The broker creates the log partitions `0..partitions` that it does not have.
    Topic(TopicRecord),
    /// The topic, its committed offsets and its part in transactions are gone.
    TopicDeleted {
        name: String,
        id: TopicId,
    },
    /// A generation of a classic group, complete: members with their assignments; none for an empty group. A group of
    /// the consumer protocol of this id has become it.
    Group(GroupRecord),
    /// The group and all its offsets are gone.
    GroupDeleted {
        group_id: String,
    },
    Offset(OffsetRecord),
    OffsetDeleted {
        group_id: String,
        topic: String,
        partition: i32,
    },
    /// An offset that becomes final, or disappears, with the transaction.
    PendingOffset {
        transactional_id: String,
        offset: OffsetRecord,
    },
    /// Producer ids below this one may be in use.
    ProducerIds {
        reserved: i64,
    },
    /// In any state but `Ongoing` the record also settles the transaction's pending offsets:
    /// `CompleteCommit` makes them final, the others drop them.
    Transaction(TransactionRecord),
    TransactionDeleted {
        transactional_id: String,
    },
    /// An access rule is there.
    Acl(AclRecord),
    /// The same rule is gone.
    AclDeleted(AclRecord),
    /// One change of a group of the consumer protocol; a classic group of this id has become it.
    ConsumerGroup {
        group_id: String,
        change: ConsumerGroupChange,
    },
    /// All that is set on a group; empty for nothing.
    GroupConfigs {
        group_id: String,
        configs: BTreeMap<String, String>,
    },
    /// A client's limit is set or taken away.
    Quota(QuotaRecord),
    ScramCredential(ScramRecord),
    ScramCredentialDeleted {
        user: String,
        mechanism: i8,
    },
    Share(ShareRecord),
    /// Somebody was seen to produce or consume.
    Usage(UsageRecord),
    /// … and was not for long.
    UsageForgotten(Usage),
    /// One change of a streams group; a classic group of this id has become it.
    StreamsGroup {
        group_id: String,
        change: StreamsGroupChange,
    },
    /// All that is set on a running broker, `None` for every broker of the cluster; empty for nothing.
    BrokerConfigs {
        broker: Option<i32>,
        configs: BTreeMap<String, String>,
    },
    Feature(FeatureRecord),
    /// All that is set of a subscription to client metrics; empty for nothing.
    ClientMetrics {
        name: String,
        configs: BTreeMap<String, String>,
    },
}

/// What is kept of one user's password for one mechanism (RFC 5802's keys, KIP-554's number).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramRecord {
    pub user: String,
    pub mechanism: i8,
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramRecord {
    /// The keys stay out of messages: they are as good as the password to whoever plays the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, mechanism, iterations, .. } = self;
        f.debug_struct("ScramRecord")
            .field("user", user)
            .field("mechanism", mechanism)
            .field("iterations", iterations)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    pub name: String,
    pub id: TopicId,
    pub partitions: i32,
    /// Only what differs from the defaults by an explicit setting.
    pub configs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    pub group_id: String,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: Vec<MemberRecord>,
    /// When the group got into this state.
    pub timestamp: TimestampMs,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Every protocol the member offered, in its order of preference.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRecord {
    pub group_id: String,
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: TimestampMs,
    /// Counts commits over the whole coordinator, so that a transaction's end never replaces a later commit.
    pub sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRecord {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The identity before the latest bump, −1 when a retry with it must be fenced.
    pub last_producer_id: i64,
    pub last_producer_epoch: i16,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub partitions: BTreeSet<TopicPartitionId>,
    /// Groups whose offsets are part of the transaction.
    pub groups: BTreeSet<String>,
    /// When the transaction began; −1 unless ongoing.
    pub started_ms: TimestampMs,
    pub updated_ms: TimestampMs,
}

/// Kafka's states without its `Prepare…` ones: the end of a transaction is one atomic log commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionState {
    Empty,
    Ongoing,
    CompleteCommit,
    CompleteAbort,
}

/// Why bytes are not a state record.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum DecodeError {
    #[error("decode a state record: no bytes")]
    Empty,
    #[error(
        "decode a state record: format version {0}, but this build reads up to {VERSION}: use a newer build"
    )]
    Version(u8),
    #[error("decode a state record: {0}")]
    Malformed(#[from] postcard::Error),
    #[error("decode a state record: {0} bytes left over after the record")]
    TrailingBytes(usize),
}

impl StateRecord {
    pub fn encode(&self) -> Vec<u8> {
        // Writing to a vector fails only for types postcard cannot represent, which the tests cover for every variant.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_else(|error| panic!("encode {self:?}: {error}"))
    }

    /// Reads exactly one record.
    ///
    /// # Errors
    /// [`DecodeError`] for any bytes that `encode` did not write; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [] => Err(DecodeError::Empty),
            [VERSION, body @ ..] => match postcard::take_from_bytes(body)? {
                (record, []) => Ok(record),
                (_, rest) => Err(DecodeError::TrailingBytes(rest.len())),
            },
            [version, ..] => Err(DecodeError::Version(*version)),
        }
    }
}
