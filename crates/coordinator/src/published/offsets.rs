//! Committed offsets: `OffsetCommitKey` v1 and `OffsetCommitValue` v3.

use bytes::BufMut;

use super::bytes::string;
use crate::records::OffsetRecord;

pub fn key(group_id: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + group_id.len() + topic.len());
    out.put_i16(1);
    string(&mut out, group_id);
    string(&mut out, topic);
    out.put_i32(partition);
    out
}

pub fn value(record: &OffsetRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + record.metadata.len());
    out.put_i16(3);
    out.put_i64(record.offset);
    out.put_i32(record.leader_epoch);
    string(&mut out, &record.metadata);
    out.put_i64(record.committed_ms);
    out
}
