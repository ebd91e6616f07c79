//! What is durable of a consumer group: its epochs, and of each member what it asks for, should get and has.
//!
//! Owns the records; replaying a group's changes in their order gives the group ([`super::ConsumerGroup::apply`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_model::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::records::TopicPartitionId;

/// One change of a consumer group; the first one of a group that is not there creates it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumerGroupChange {
    Epochs(GroupEpochs),
    /// A new member, or what a known one now asks for.
    Member(ConsumerMemberRecord),
    /// The member and all it had are gone.
    MemberRemoved {
        member_id: String,
    },
    /// What a member should have at the assignment epoch.
    Target {
        member_id: String,
        #[serde(with = "set_by_topic")]
        partitions: BTreeSet<TopicPartitionId>,
    },
    /// What a member has.
    Current(CurrentAssignment),
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupEpochs {
    /// Counts the changes of members, subscriptions and subscribed topics.
    pub epoch: i32,
    /// The group epoch that the members' targets were computed for.
    pub assignment_epoch: i32,
    /// A digest of the subscribed topics and their partitions at `epoch`.
    pub metadata_hash: u64,
    pub timestamp: TimestampMs,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerMemberRecord {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    /// The server-side assignor it prefers.
    pub assignor: Option<String>,
    pub topics: BTreeSet<String>,
    pub regex: Option<String>,
    /// Set for a member that speaks the classic protocol.
    pub classic: Option<ClassicMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicMember {
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
}

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MemberState {
    /// It has all it should have at its epoch.
    #[default]
    Stable,
    /// It must give up partitions before anything else.
    UnrevokedPartitions,
    /// It waits for partitions that others still have.
    UnreleasedPartitions,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CurrentAssignment {
    pub member_id: String,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    /// Each partition with the epoch from which the member has it.
    #[serde(with = "map_by_topic")]
    pub assigned: BTreeMap<TopicPartitionId, i32>,
    /// What the member was told to give up, and may still have.
    #[serde(with = "map_by_topic")]
    pub revoking: BTreeMap<TopicPartitionId, i32>,
}

/// On disk a topic's id is written once, not once a partition.
mod map_by_topic {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::records::{TopicId, TopicPartitionId};

    type Nested = BTreeMap<TopicId, BTreeMap<i32, i32>>;

    pub fn serialize<S: Serializer>(
        flat: &BTreeMap<TopicPartitionId, i32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut nested = Nested::new();
        for ((topic, partition), epoch) in flat {
            nested.entry(*topic).or_default().insert(*partition, *epoch);
        }
        nested.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TopicPartitionId, i32>, D::Error> {
        let nested = Nested::deserialize(deserializer)?;
        let flat = nested.into_iter().flat_map(|(topic, partitions)| {
            partitions.into_iter().map(move |(partition, epoch)| ((topic, partition), epoch))
        });
        Ok(flat.collect())
    }
}

mod set_by_topic {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::records::{TopicId, TopicPartitionId};

    type Nested = BTreeMap<TopicId, BTreeSet<i32>>;

    pub fn serialize<S: Serializer>(
        flat: &BTreeSet<TopicPartitionId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut nested = Nested::new();
        for (topic, partition) in flat {
            nested.entry(*topic).or_default().insert(*partition);
        }
        nested.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<TopicPartitionId>, D::Error> {
        let nested = Nested::deserialize(deserializer)?;
        let flat = nested
            .into_iter()
            .flat_map(|(topic, partitions)| partitions.into_iter().map(move |partition| (topic, partition)));
        Ok(flat.collect())
    }
}
