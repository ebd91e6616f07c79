//! From a classic group to a consumer group and back, with its members in it.
//!
//! A classic group can come along when its members use the consumer's embedded protocol without data of an assignor of
//! their own. A consumer group goes back when the last member of the consumer protocol is gone.

use std::collections::BTreeMap;

use super::records::{
    ClassicMember, ConsumerGroupChange, ConsumerMemberRecord, CurrentAssignment, GroupEpochs, MemberState,
};
use super::{ConsumerGroup, Member, describe, embedded};
use crate::context::Context;
use crate::group::common;
use crate::records::{GroupRecord, MemberRecord, TopicPartitionId};
use crate::topics::Topics;

/// A classic member in the words of the consumer protocol.
struct Migrant {
    record: ConsumerMemberRecord,
    partitions: Vec<TopicPartitionId>,
}

impl Migrant {
    fn new(member: &MemberRecord, protocol: Option<&str>, topics: &Topics) -> Option<Self> {
        let chosen = member.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        let (_, metadata) = chosen.or(member.protocols.first())?;
        let subscription = embedded::read_subscription(metadata)?;
        let assignment = embedded::read_assignment(&member.assignment).filter(|read| !read.has_user_data)?;
        let places = assignment.partitions.iter().filter_map(|(name, partitions)| {
            let topic = topics.get(name)?;
            let exists = |partition: &&i32| (0..topic.partitions).contains(*partition);
            Some(partitions.iter().filter(exists).map(|partition| (topic.id, *partition)))
        });
        Some(Self {
            partitions: places.flatten().collect(),
            record: ConsumerMemberRecord {
                member_id: member.member_id.clone(),
                instance_id: member.instance_id.clone(),
                rack_id: subscription.rack,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                assignor: None,
                topics: subscription.topics.into_iter().collect(),
                regex: None,
                classic: Some(ClassicMember {
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: member.protocols.clone(),
                }),
            },
        })
    }
}

impl ConsumerGroup {
    /// The group that a classic one becomes; `None` when it cannot.
    pub fn from_classic(cx: &mut Context, topics: &Topics, classic: &GroupRecord) -> Option<Self> {
        let protocol = classic.protocol.as_deref();
        let migrants: Option<Vec<_>> =
            classic.members.iter().map(|member| Migrant::new(member, protocol, topics)).collect();
        let migrants = migrants.filter(|_| classic.protocol_type == "consumer")?;
        let mut group = Self::new(&classic.group_id);
        let epochs = GroupEpochs {
            epoch: classic.generation,
            assignment_epoch: classic.generation,
            metadata_hash: 0,
            timestamp: cx.now,
        };
        group.record(cx, ConsumerGroupChange::Epochs(epochs));
        for migrant in migrants {
            group.take_in(cx, migrant, classic.generation);
        }
        Some(group)
    }

    fn take_in(&mut self, cx: &mut Context, Migrant { record, partitions }: Migrant, generation: i32) {
        let member_id = record.member_id.clone();
        // A leader may have given a partition twice; here it has one owner.
        let free = partitions.into_iter().filter(|partition| !self.owners.contains_key(partition));
        let assigned: BTreeMap<_, _> = free.map(|partition| (partition, generation)).collect();
        let partitions = assigned.keys().copied().collect();
        let session = record.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
        self.record(cx, ConsumerGroupChange::Member(record));
        self.record(cx, ConsumerGroupChange::Target { member_id: member_id.clone(), partitions });
        let current = CurrentAssignment {
            member_id: member_id.clone(),
            epoch: generation,
            previous_epoch: generation,
            state: MemberState::Stable,
            assigned,
            revoking: BTreeMap::new(),
        };
        self.record(cx, ConsumerGroupChange::Current(current));
        if let Some(member) = self.members.get_mut(&member_id) {
            member.session_deadline = cx.now.saturating_add(session.into());
        }
    }

    /// Whether all members speak the classic protocol, and there are some.
    pub fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    /// The classic group that this one becomes, with those of its members that speak the classic protocol.
    pub fn to_classic(&self, topics: &Topics, now: headwater_model::TimestampMs) -> GroupRecord {
        let members: Vec<MemberRecord> =
            self.members.values().filter_map(|member| member.to_classic(topics)).collect();
        let mut offers = members.iter().map(|member| &member.protocols[..]);
        let protocol = offers.next().and_then(|first| {
            let common = common(first, offers);
            let mut names = first.iter().map(|(name, _)| name);
            names.find(|name| common.contains(name.as_str())).cloned()
        });
        GroupRecord {
            group_id: self.id.clone(),
            // The epoch that members have reached, so that their next heartbeats are of this generation.
            generation: self.epochs.assignment_epoch,
            protocol_type: "consumer".to_owned(),
            protocol,
            leader: members.first().map(|member| member.member_id.clone()),
            members,
            timestamp: now,
        }
    }
}

impl Member {
    fn to_classic(&self, topics: &Topics) -> Option<MemberRecord> {
        let classic = self.record.classic.as_ref()?;
        let (_, metadata) = classic.protocols.first()?;
        let version = embedded::read_subscription(metadata).map_or(0, |subscription| subscription.version);
        let assigned = describe::by_topic(self.current.assigned.keys(), topics);
        let assigned = assigned.iter().map(|topic| (topic.name.as_str(), topic.partitions.as_slice()));
        Some(MemberRecord {
            member_id: self.record.member_id.clone(),
            instance_id: self.record.instance_id.clone(),
            client_id: self.record.client_id.clone(),
            client_host: self.record.client_host.clone(),
            session_timeout_ms: classic.session_timeout_ms,
            rebalance_timeout_ms: self.record.rebalance_timeout_ms,
            protocols: classic.protocols.clone(),
            assignment: embedded::write_assignment(version, assigned),
        })
    }
}
