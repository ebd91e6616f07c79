//! What is durable of share groups: parts of [`crate::StateRecord`].
//!
//! An acquisition is not durable: it lasts as long as the share session, which no restart survives. What a record has
//! become (and how often it was delivered) is.

use headwater_model::Offset;
use serde::{Deserialize, Serialize};

use crate::records::TopicId;

/// One change of what is durable of share groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareRecord {
    /// The members of a group have changed.
    Group(ShareGroupRecord),
    /// The group and all its offsets are gone.
    GroupDeleted { group_id: String },
    /// A share-partition, complete: what is not in a range and at or above `start` was never delivered.
    Partition { key: ShareKey, start: Offset, ranges: Vec<ShareRange> },
    /// These records of a share-partition have become something else.
    Delivered { key: ShareKey, ranges: Vec<ShareRange> },
    /// The group has no offsets of the topic any more.
    PartitionsDeleted { group_id: String, topic_id: TopicId },
}

impl ShareRecord {
    pub fn group_id(&self) -> &str {
        match self {
            Self::Group(record) => &record.group_id,
            Self::Partition { key, .. } | Self::Delivered { key, .. } => &key.group_id,
            Self::GroupDeleted { group_id } | Self::PartitionsDeleted { group_id, .. } => group_id,
        }
    }
}

/// A share group, complete: its epoch and its members with their assignments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareGroupRecord {
    pub group_id: String,
    pub epoch: i32,
    pub members: Vec<ShareMemberRecord>,
    /// The subscribed topics and how many partitions they had when the assignments were made.
    pub topics: Vec<(TopicId, i32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareMemberRecord {
    pub member_id: String,
    pub client_id: String,
    pub client_host: String,
    pub rack: Option<String>,
    /// Names of topics, sorted.
    pub subscription: Vec<String>,
    /// Sorted.
    pub assignment: Vec<(TopicId, Vec<i32>)>,
}

/// A share-partition by the names of its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShareKey {
    pub group_id: String,
    pub topic_id: TopicId,
    pub partition: i32,
}

/// Offsets `first..=last` that are in the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRange {
    pub first: Offset,
    pub last: Offset,
    pub state: ShareState,
    pub delivery_count: i16,
}

/// KIP-932's states without `Acquired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareState {
    Available,
    Acknowledged,
    Archived,
}
