//! Classic groups: `GroupMetadataKey` v2 and `GroupMetadataValue` v3.

use bytes::BufMut;

use super::bytes::{bytes, nullable_string, string};
use crate::records::{GroupRecord, MemberRecord};

/// Which key it is.
pub const KIND: i16 = 2;

pub fn key(group_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + group_id.len());
    out.put_i16(KIND);
    string(&mut out, group_id);
    out
}

pub fn value(group: &GroupRecord) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(3);
    string(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    nullable_string(&mut out, group.protocol.as_deref());
    nullable_string(&mut out, group.leader.as_deref());
    out.put_i64(group.timestamp);
    out.put_i32(group.members.len() as i32);
    for member in &group.members {
        put_member(&mut out, member, group.protocol.as_deref());
    }
    out
}

fn put_member(out: &mut Vec<u8>, member: &MemberRecord, protocol: Option<&str>) {
    string(out, &member.member_id);
    nullable_string(out, member.instance_id.as_deref());
    string(out, &member.client_id);
    string(out, &member.client_host);
    out.put_i32(member.rebalance_timeout_ms);
    out.put_i32(member.session_timeout_ms);
    let chosen = member.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
    bytes(out, chosen.map_or(&[], |(_, metadata)| metadata));
    bytes(out, &member.assignment);
}
