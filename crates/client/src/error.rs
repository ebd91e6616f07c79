//! What can go wrong, said so that one knows what to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use headwater_wire::{BatchError, CompressionError, ErrorCode, KafkaString, ProtocolError};
use thiserror::Error;

#[derive(Debug, Clone, Error)]
pub enum ClientError {
    #[error(
        "no Kafka broker answers at {bootstrap}: {reason}; is it running, and is this its address? (--bootstrap, HEADWATER_BOOTSTRAP)"
    )]
    Unreachable { bootstrap: String, reason: String },
    #[error(
        "the broker at {address} is too old: it does not offer {api}; Apache Kafka 2.5 or later is needed"
    )]
    TooOld { address: String, api: &'static str },
    #[error(
        "{address} does not accept who this client says it is ({mechanism}): {reason}; look at the file of --command-config or HEADWATER_COMMAND_CONFIG"
    )]
    Authentication { address: String, mechanism: &'static str, reason: String },
    #[error(
        "no TLS with {address}: {reason}; look at security.protocol and ssl.truststore.location in the file of --command-config or HEADWATER_COMMAND_CONFIG"
    )]
    Tls { address: String, reason: String },
    #[error("connection to {address} lost: {reason}")]
    Disconnected { address: String, reason: String },
    #[error("{what}: no answer from {address} within {after:?}")]
    Timeout { what: &'static str, address: String, after: Duration },
    #[error("{what}: {message} ({code:?})")]
    Kafka { what: String, code: ErrorCode, message: String },
    /// What a streams group is told to be in its way (KIP-1071), in the broker's words.
    #[error("streams group {group} cannot go on: {status}: {detail}; {next}")]
    Streams { group: String, status: &'static str, detail: String, next: &'static str },
    /// The broker, or what the catalog says of the stream, does not take these records.
    #[error("produce to {}: {message} ({code:?})", target(topic, *partition))]
    RecordsRefused {
        topic: String,
        /// -1 when it was not chosen yet.
        partition: i32,
        code: ErrorCode,
        message: String,
        /// Those that were refused; none where that cannot be told.
        records: Arc<[headwater_model::Record]>,
    },
    #[error("topic {0} exists already")]
    TopicExists(String),
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    #[error("offset {offset} of {at} is out of range, and the consumer is told not to choose another")]
    OffsetOutOfRange { at: headwater_model::TopicPartition, offset: i64 },
    #[error(
        "the log of {at} was truncated: what was read before offset {offset} is not in it any more{}; an unclean leader election does that, and the consumer is told not to choose where to go on: seek to where it should",
        parted(*divergent)
    )]
    Truncated {
        at: headwater_model::TopicPartition,
        /// What would have been read next.
        offset: i64,
        /// From where on the log is another one, when its leader knows.
        divergent: Option<i64>,
    },
    #[error("{what}: still failing after {after:?}: {last}")]
    GaveUp { what: String, after: Duration, last: Arc<ClientError> },
    #[error("a record of {topic} has {size} bytes, more than the buffer's {limit}")]
    RecordTooLarge { topic: String, size: usize, limit: usize },
    #[error("{0}")]
    State(&'static str),
    /// What `abort_transaction` finds where a commit was not answered: the next transaction may begin.
    #[error(
        "the transaction of {0} cannot be aborted: its commit, whose answer was lost, has been carried out"
    )]
    Committed(String),
    #[error("the transaction must be aborted: {0}")]
    Abortable(Arc<ClientError>),
    #[error("{address} sent what is not Kafka: {reason}")]
    Malformed { address: String, reason: String },
    #[error(transparent)]
    Batch(Arc<BatchError>),
    #[error(transparent)]
    Compression(Arc<CompressionError>),
}

impl ClientError {
    pub(crate) fn kafka(what: impl Into<String>, code: i16, message: Option<&str>) -> Self {
        let code = ErrorCode::from(code);
        let message = message.map_or_else(|| describe(code), str::to_owned);
        Self::Kafka { what: what.into(), code, message }
    }

    /// `Ok` for Kafka's code 0.
    pub(crate) fn check(
        code: i16,
        message: Option<&KafkaString>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        match code {
            0 => Ok(()),
            code => Err(Self::kafka(what(), code, message.map(KafkaString::as_str))),
        }
    }

    pub(crate) fn lost(address: &str, error: &io::Error) -> Self {
        Self::Disconnected { address: address.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn malformed(address: &str, error: &ProtocolError) -> Self {
        Self::Malformed { address: address.to_owned(), reason: error.to_string() }
    }

    /// The broker's own code, when it was the broker that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Kafka { code, .. } | Self::RecordsRefused { code, .. } => Some(*code),
            Self::Abortable(inner) | Self::GaveUp { last: inner, .. } => inner.code(),
            _ => None,
        }
    }

    /// What was refused, and why, if that is what is the matter.
    pub fn refused_records(&self) -> Option<(&str, ErrorCode, &str, &[headwater_model::Record])> {
        match self {
            Self::RecordsRefused { topic, code, message, records, .. } => {
                Some((topic, *code, message, records))
            }
            Self::Abortable(inner) | Self::GaveUp { last: inner, .. } => inner.refused_records(),
            _ => None,
        }
    }

    /// Another producer with the same transactional id has taken over: this one must end.
    pub fn is_fenced(&self) -> bool {
        matches!(
            self.code(),
            Some(
                ErrorCode::ProducerFenced
                    | ErrorCode::InvalidProducerEpoch
                    | ErrorCode::InvalidProducerIdMapping
            )
        )
    }

    /// The transaction can be aborted and the work tried again.
    pub fn is_abortable(&self) -> bool {
        matches!(self, Self::Abortable(_)) && !self.is_fenced()
    }

    /// Trying the same again may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::Timeout { .. } => true,
            Self::Kafka { code, .. } => heals(*code),
            _ => false,
        }
    }

    /// Somebody has to allow it first.
    pub fn is_denied(&self) -> bool {
        self.code().is_some_and(is_denied)
    }

    /// Whoever tries the same again hears the same: somebody must change what may be done, what is configured or what is sent.
    ///
    /// It is asked about the cause, too, of a transaction that must be aborted: aborting it changes nothing. What a broker
    /// says while it stops (`UnknownServerError`) is not among it.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Abortable(inner) | Self::GaveUp { last: inner, .. } => inner.is_final(),
            Self::Kafka { code, .. } => is_denied(*code) || is_final(*code),
            Self::RecordsRefused { .. }
            | Self::RecordTooLarge { .. }
            | Self::TooOld { .. }
            | Self::Authentication { .. }
            | Self::Tls { .. }
            | Self::Malformed { .. }
            | Self::Batch(_)
            | Self::Compression(_) => true,
            _ => false,
        }
    }
}

/// `orders/3`; `orders` where no partition was chosen.
fn target(topic: &str, partition: i32) -> String {
    if partition < 0 { topic.to_owned() } else { format!("{topic}/{partition}") }
}

fn parted(divergent: Option<i64>) -> String {
    divergent.map_or_else(String::new, |from| format!(" from offset {from} on"))
}

/// Kafka's own list, less what a group's member answers by joining again, and more what it keeps to
/// its producers and fetchers.
fn heals(code: ErrorCode) -> bool {
    match code {
        ErrorCode::RebalanceInProgress
        | ErrorCode::FencedMemberEpoch
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::UnreleasedInstanceId => false,
        ErrorCode::ConcurrentTransactions
        | ErrorCode::BrokerNotAvailable
        | ErrorCode::KafkaStorageError
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch => true,
        other => other.is_retriable(),
    }
}

fn is_denied(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::DelegationTokenAuthorizationFailed
    )
}

/// Beside those that are denied.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        // Who one is.
        ErrorCode::SaslAuthenticationFailed
            | ErrorCode::UnsupportedSaslMechanism
            | ErrorCode::IllegalSaslState
            | ErrorCode::SecurityDisabled
            // What the broker takes.
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnsupportedForMessageFormat
            | ErrorCode::UnsupportedCompressionType
            | ErrorCode::PolicyViolation
            | ErrorCode::InvalidConfig
            | ErrorCode::InvalidRequest
            | ErrorCode::InvalidTopicException
            | ErrorCode::InvalidGroupId
            | ErrorCode::InvalidRequiredAcks
            | ErrorCode::InvalidSessionTimeout
            | ErrorCode::InvalidTransactionTimeout
            | ErrorCode::InconsistentGroupProtocol
            // What is sent.
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::OffsetMetadataTooLarge
            | ErrorCode::InvalidCommitOffsetSize
    )
}

fn describe(code: ErrorCode) -> String {
    match code {
        ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => {
            "a newer producer with the same transactional id has taken over".into()
        }
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than the topic's min.insync.replicas asks for".into()
        }
        ErrorCode::KafkaStorageError => "the broker cannot write to its disk".into(),
        ErrorCode::UnknownMemberId => "the group does not know this member any more".into(),
        ErrorCode::IllegalGeneration => "the group has moved on to another generation".into(),
        ErrorCode::RebalanceInProgress => "the group is rebalancing".into(),
        ErrorCode::StaleMemberEpoch => "the group has moved on to another member epoch".into(),
        ErrorCode::UnreleasedInstanceId => {
            "another member has this instance id: stop it, or wait for the end of its session".into()
        }
        ErrorCode::FencedInstanceId => "a newer member has taken over this instance id".into(),
        ErrorCode::GroupMaxSizeReached => {
            "the group is full; the broker's group.consumer.max.size and group.max.size say how many it takes"
                .into()
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "the record alone is larger than the topic's max.message.bytes allows".into()
        }
        ErrorCode::TopicAuthorizationFailed => {
            "this client may not do so with the topic; headwater acl list shows who may".into()
        }
        ErrorCode::GroupAuthorizationFailed => {
            "this client may not do so with the group; headwater acl list shows who may".into()
        }
        ErrorCode::ClusterAuthorizationFailed => {
            "this client may not do so with the cluster; headwater acl list shows who may".into()
        }
        ErrorCode::TransactionalIdAuthorizationFailed => {
            "this client may not use the transactional id; headwater acl list shows who may".into()
        }
        other => format!("the broker refused with code {}", other.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_partition_that_was_chosen_and_no_other() {
        let refused = |partition| ClientError::RecordsRefused {
            topic: "orders".to_owned(),
            partition,
            code: ErrorCode::InvalidRecord,
            message: "no key".to_owned(),
            records: Arc::default(),
        };
        assert_eq!(refused(3).to_string(), "produce to orders/3: no key (InvalidRecord)");
        assert_eq!(refused(-1).to_string(), "produce to orders: no key (InvalidRecord)");
    }
}
