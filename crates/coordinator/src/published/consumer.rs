//! Groups of the consumer protocol (KIP-848): key types 3 and 5 to 8 with their values of version 0.
//!
//! Kafka's resolved regular expressions (key type 16) are no records here: they are made anew at a start.

use std::collections::BTreeMap;

use bytes::BufMut;

use super::bytes::{compact, compact_length, no_tags, one_tag, string};
use crate::consumer::{ClassicMember, ConsumerMemberRecord, CurrentAssignment, GroupEpochs, MemberState};
use crate::records::{TopicId, TopicPartitionId};

/// What a record is about; the numbers are Kafka's.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Group = 3,
    Member = 5,
    TargetEpoch = 6,
    Target = 7,
    Current = 8,
}

/// What there is of each member.
pub const OF_MEMBER: [Kind; 3] = [Kind::Current, Kind::Target, Kind::Member];

/// What there is of a group once, the last first to go.
pub const OF_GROUP: [Kind; 2] = [Kind::TargetEpoch, Kind::Group];

pub fn is_of_member(number: i16) -> bool {
    OF_MEMBER.iter().any(|kind| *kind as i16 == number)
}

pub fn is_of_group(number: i16) -> bool {
    OF_GROUP.iter().any(|kind| *kind as i16 == number)
}

/// `member_id` for the kinds in [`OF_MEMBER`].
pub fn key(kind: Kind, group_id: &str, member_id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + group_id.len() + member_id.map_or(0, str::len));
    out.put_i16(kind as i16);
    string(&mut out, group_id);
    if let Some(member_id) = member_id {
        string(&mut out, member_id);
    }
    out
}

fn version() -> Vec<u8> {
    0i16.to_be_bytes().to_vec()
}

pub fn group(epochs: &GroupEpochs) -> Vec<u8> {
    let mut out = version();
    out.put_i32(epochs.epoch);
    one_tag(&mut out, 0, &epochs.metadata_hash.to_be_bytes());
    out
}

pub fn target_epoch(epochs: &GroupEpochs) -> Vec<u8> {
    let mut out = version();
    out.put_i32(epochs.assignment_epoch);
    no_tags(&mut out);
    out
}

pub fn member(member: &ConsumerMemberRecord) -> Vec<u8> {
    let mut out = version();
    let mut text = |text: Option<&String>| compact(&mut out, text.map(String::as_bytes));
    text(member.instance_id.as_ref());
    text(member.rack_id.as_ref());
    text(Some(&member.client_id));
    text(Some(&member.client_host));
    compact_length(&mut out, member.topics.len());
    for topic in &member.topics {
        compact(&mut out, Some(topic.as_bytes()));
    }
    compact(&mut out, member.regex.as_deref().map(str::as_bytes));
    out.put_i32(member.rebalance_timeout_ms);
    compact(&mut out, member.assignor.as_deref().map(str::as_bytes));
    // Where the field is missing Kafka takes the member for a classic one, so null is written.
    match &member.classic {
        Some(classic) => one_tag(&mut out, 0, &classic_member(classic)),
        None => one_tag(&mut out, 0, &[0]),
    }
    out
}

/// A nullable structure in a tagged field: 1 before one that is there.
fn classic_member(member: &ClassicMember) -> Vec<u8> {
    let mut out = vec![1];
    out.put_i32(member.session_timeout_ms);
    compact_length(&mut out, member.protocols.len());
    for (name, metadata) in &member.protocols {
        compact(&mut out, Some(name.as_bytes()));
        compact(&mut out, Some(metadata));
        no_tags(&mut out);
    }
    no_tags(&mut out);
    out
}

pub fn target<'a>(partitions: impl IntoIterator<Item = &'a TopicPartitionId>) -> Vec<u8> {
    let mut out = version();
    put_partitions(&mut out, partitions);
    no_tags(&mut out);
    out
}

pub fn current(current: &CurrentAssignment) -> Vec<u8> {
    let mut out = version();
    out.put_i32(current.epoch);
    out.put_i32(current.previous_epoch);
    out.put_i8(match current.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    put_partitions(&mut out, current.assigned.keys());
    put_partitions(&mut out, current.revoking.keys());
    no_tags(&mut out);
    out
}

fn put_partitions<'a>(out: &mut Vec<u8>, partitions: impl IntoIterator<Item = &'a TopicPartitionId>) {
    let mut by_topic = BTreeMap::<&TopicId, Vec<i32>>::new();
    for (topic, partition) in partitions {
        by_topic.entry(topic).or_default().push(*partition);
    }
    compact_length(out, by_topic.len());
    for (topic, partitions) in by_topic {
        out.extend_from_slice(topic);
        compact_length(out, partitions.len());
        partitions.into_iter().for_each(|partition| out.put_i32(partition));
        no_tags(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_the_consumer_protocol_says_that_it_is_not_a_classic_one() {
        let record = ConsumerMemberRecord {
            client_id: "c".into(),
            client_host: "h".into(),
            topics: ["t".to_owned()].into(),
            rebalance_timeout_ms: 5,
            ..ConsumerMemberRecord::default()
        };
        assert_eq!(member(&record), b"\0\0\0\0\x02c\x02h\x02\x02t\0\0\0\0\x05\0\x01\0\x01\0");
        let classic = ClassicMember { session_timeout_ms: 7, protocols: vec![("p".into(), "m".into())] };
        let record = ConsumerMemberRecord { classic: Some(classic), ..record };
        let tagged = b"\x01\0\x0c\x01\0\0\0\x07\x02\x02p\x02m\0\0";
        assert!(member(&record).ends_with(tagged), "{:?}", member(&record));
    }
}
