//! The Kafka error codes that this crate answers with, and their standing messages.
//!
//! Owns the mapping between our names and the protocol's numbers (`org.apache.kafka.common.protocol.Errors`);
//! refuses free text: a message about one particular request travels in [`Failure`].

use thiserror::Error as ThisError;

/// A refusal, named as in the Kafka protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ThisError)]
pub enum Error {
    #[error("this server does not host this topic-partition")]
    UnknownTopicOrPartition,
    #[error("the committed metadata is larger than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    #[error("the topic name is not legal: use 1 to 249 of the characters a-z A-Z 0-9 . _ -")]
    InvalidTopic,
    #[error("the generation is not the group's current one: rejoin the group")]
    IllegalGeneration,
    #[error("the group has other members with another protocol type or no common protocol")]
    InconsistentGroupProtocol,
    #[error("the group id is not legal: it must not be empty")]
    InvalidGroupId,
    #[error("the coordinator does not know this member: rejoin the group with an empty member id")]
    UnknownMemberId,
    #[error("the session timeout is outside group.min.session.timeout.ms and group.max.session.timeout.ms")]
    InvalidSessionTimeout,
    #[error("the group is rebalancing: rejoin it")]
    RebalanceInProgress,
    #[error("a topic with this name exists")]
    TopicAlreadyExists,
    #[error("the number of partitions is not legal")]
    InvalidPartitions,
    #[error("the replication factor must be 1 on a single-node broker (or -1 for the default)")]
    InvalidReplicationFactor,
    #[error("the configuration is not legal")]
    InvalidConfig,
    #[error("the request is not legal")]
    InvalidRequest,
    #[error("the producer's epoch is older than the coordinator's: another producer took its place")]
    InvalidProducerEpoch,
    #[error("the transaction is in a state in which this request is not allowed")]
    InvalidTxnState,
    #[error("the producer id does not belong to this transactional id: initialise the producer again")]
    InvalidProducerIdMapping,
    #[error("the transaction timeout must be above 0 and at most transaction.max.timeout.ms")]
    InvalidTransactionTimeout,
    #[error("the request was not attempted because another part of it failed")]
    OperationNotAttempted,
    #[error("the group has members: stop them first")]
    NonEmptyGroup,
    #[error("there is no group with this id")]
    GroupIdNotFound,
    #[error("join again with the member id of this response")]
    MemberIdRequired,
    #[error("the group holds as many members as group.max.size allows")]
    GroupMaxSizeReached,
    #[error("another member registered this group.instance.id")]
    FencedInstanceId,
    #[error("the group subscribes to this topic: its offsets cannot be deleted")]
    GroupSubscribedToTopic,
    #[error("there are unstable offsets of an unfinished transaction: retry")]
    UnstableOffsetCommit,
    #[error("a newer producer with the same transactional id fenced this one")]
    ProducerFenced,
    #[error("there is no such credential")]
    ResourceNotFound,
    #[error("no topic has this id")]
    UnknownTopicId,
    #[error("no transaction has this transactional id")]
    TransactionalIdNotFound,
    #[error(
        "the version of the request does not know member epochs, which this group has: use a newer client"
    )]
    UnsupportedVersion,
    #[error("the member epoch is not the coordinator's: give up all partitions and join again with epoch 0")]
    FencedMemberEpoch,
    #[error("another member of the group has this instance id and has not left")]
    UnreleasedInstanceId,
    #[error("the server-side assignor is not known")]
    UnsupportedAssignor,
    #[error("the member epoch is old: retry with the one of the next heartbeat")]
    StaleMemberEpoch,
    #[error("the regular expression is not valid")]
    InvalidRegularExpression,
    #[error("the member does not hold these records: their lock ended, or they were never acquired")]
    InvalidRecordState,
    #[error("the topology of the streams application cannot be right")]
    StreamsInvalidTopology,
    #[error("the feature cannot be set to this level")]
    InvalidUpdateVersion,
}

impl Error {
    /// The number of this error on the wire.
    pub fn code(self) -> i16 {
        match self {
            Error::UnknownTopicOrPartition => 3,
            Error::OffsetMetadataTooLarge => 12,
            Error::InvalidTopic => 17,
            Error::IllegalGeneration => 22,
            Error::InconsistentGroupProtocol => 23,
            Error::InvalidGroupId => 24,
            Error::UnknownMemberId => 25,
            Error::InvalidSessionTimeout => 26,
            Error::RebalanceInProgress => 27,
            Error::TopicAlreadyExists => 36,
            Error::InvalidPartitions => 37,
            Error::InvalidReplicationFactor => 38,
            Error::InvalidConfig => 40,
            Error::InvalidRequest => 42,
            Error::InvalidProducerEpoch => 47,
            Error::InvalidTxnState => 48,
            Error::InvalidProducerIdMapping => 49,
            Error::InvalidTransactionTimeout => 50,
            Error::OperationNotAttempted => 55,
            Error::NonEmptyGroup => 68,
            Error::GroupIdNotFound => 69,
            Error::MemberIdRequired => 79,
            Error::GroupMaxSizeReached => 81,
            Error::FencedInstanceId => 82,
            Error::GroupSubscribedToTopic => 86,
            Error::UnstableOffsetCommit => 88,
            Error::ProducerFenced => 90,
            Error::ResourceNotFound => 91,
            Error::UnknownTopicId => 100,
            Error::TransactionalIdNotFound => 105,
            Error::UnsupportedVersion => 35,
            Error::FencedMemberEpoch => 110,
            Error::UnreleasedInstanceId => 111,
            Error::InvalidUpdateVersion => 95,
            Error::UnsupportedAssignor => 112,
            Error::StaleMemberEpoch => 113,
            Error::InvalidRecordState => 121,
            Error::InvalidRegularExpression => 128,
            Error::StreamsInvalidTopology => 130,
        }
    }
}

/// The wire code of an optional error: 0 for none.
pub fn code(error: Option<Error>) -> i16 {
    error.map_or(0, Error::code)
}

/// An error with a sentence about this very request, for APIs that carry an error message.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{message}")]
pub struct Failure {
    pub error: Error,
    pub message: String,
}

impl Failure {
    pub fn new(error: Error, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }

    /// There is no group of this kind by this name; nor can there be by the empty one.
    pub(crate) fn no_such_group(group_id: &str, kind: &str) -> Self {
        match group_id.is_empty() {
            true => Self::new(Error::InvalidGroupId, format!("name the {kind} group")),
            false => {
                let message = format!("group {group_id} is not a {kind} group, or does not exist");
                Self::new(Error::GroupIdNotFound, message)
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, message: error.to_string() }
    }
}
