//! The words every other crate shares: topics, partitions, offsets, records.
//!
//! Owns no behaviour beyond naming things; refuses any dependency but `bytes`.

use std::fmt;

pub mod acl;
mod caller;
mod kind;
pub mod partition;
mod principal;

pub use bytes::Bytes;
pub use caller::{Caller, Rights};
pub use kind::{CATALOG, StreamKind};
pub use principal::Principal;

/// A position in a partition; the first record of a partition has offset 0.
pub type Offset = i64;

/// Milliseconds since 1970-01-01T00:00:00Z, as Kafka counts them.
pub type TimestampMs = i64;

/// One partition of a named topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A record header; keys may repeat and their order is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub key: String,
    pub value: Option<Bytes>,
}

/// One event: a `None` value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}
