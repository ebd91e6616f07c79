//! An async Kafka client: admin, producer with transactions, consumer, consumer groups.
//!
//! Works against Headwater's broker and Apache Kafka alike; versions are negotiated by `ApiVersions`.
//! Fetches, produce requests and coordination go over connections of their own, so a long poll never
//! holds up a write. Whatever is retried has a deadline, and ends with an error that names the server.

mod admin;
mod assignor;
mod authentication;
mod call;
mod cluster;
mod connection;
mod consumer;
mod error;
mod group;
mod kinds;
#[doc(hidden)]
pub mod planted;
mod producer;
mod security;
mod transaction;

pub use admin::{
    ConfigEntry, GroupDescription, GroupListing, Member, NewTopic, OffsetSpec, ShareGroupDescription,
    ShareOffset, TransactionDescription, UserListing,
};
pub use assignor::{Assignment, Assignor, MemberSubscription, RangeAssignor};
pub use cluster::{Client, ClientConfig, TopicInfo, Wait};
pub use consumer::{AutoOffsetReset, Consumer, ConsumerConfig, Fetched, Isolation, Position};
pub use error::ClientError;
pub use group::{
    GroupConfig, GroupConsumer, GroupEvent, GroupProtocol, Lease, Remote, StreamsApplication,
    StreamsEndpoint, StreamsInternalTopic, StreamsSubtopology, StreamsTask, StreamsTasks,
};
pub use headwater_security::Secret;
pub use headwater_wire::{Compression, ErrorCode};
pub use producer::{Delivered, Delivery, ProduceRecord, Producer, ProducerConfig, RecordRef};
pub use security::{HttpSecurity, Proof, Security, SecurityError, TokenError, without_password};
pub use transaction::GroupMetadata;

/// A committed position: the next offset to read, and what its owner wrote beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    pub offset: headwater_model::Offset,
    pub metadata: String,
    /// The leader epoch of the record before (`Fetched::leader_epoch`), so that whoever goes on from here notices when the
    /// log was cut back meanwhile (KIP-320).
    pub leader_epoch: Option<i32>,
}

impl Committed {
    pub fn position(&self) -> Position {
        Position { offset: self.offset, leader_epoch: self.leader_epoch }
    }
}

/// The position after what was fetched.
impl From<&Fetched> for Committed {
    fn from(fetched: &Fetched) -> Self {
        Self { offset: fetched.next_offset, metadata: String::new(), leader_epoch: fetched.leader_epoch }
    }
}
