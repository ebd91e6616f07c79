//! Transactions: `TransactionLogKey` v0 and `TransactionLogValue` v0.
//!
//! Kafka's `PrepareCommit` and `PrepareAbort` are missing: a transaction ends in one step here.

use std::collections::BTreeMap;

use bytes::BufMut;

use super::bytes::string;
use crate::records::{TransactionRecord, TransactionState};

pub fn key(transactional_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + transactional_id.len());
    out.put_i16(0);
    string(&mut out, transactional_id);
    out
}

/// `partitions` by topic, of an ongoing transaction.
pub fn value(record: &TransactionRecord, partitions: &BTreeMap<String, Vec<i32>>) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(0);
    out.put_i64(record.producer_id);
    out.put_i16(record.producer_epoch);
    out.put_i32(record.timeout_ms);
    out.put_i8(match record.state {
        TransactionState::Empty => 0,
        TransactionState::Ongoing => 1,
        TransactionState::CompleteCommit => 4,
        TransactionState::CompleteAbort => 5,
    });
    match record.state {
        TransactionState::Empty => out.put_i32(-1),
        _ => put_partitions(&mut out, partitions),
    }
    out.put_i64(record.updated_ms);
    out.put_i64(record.started_ms);
    out
}

fn put_partitions(out: &mut Vec<u8>, partitions: &BTreeMap<String, Vec<i32>>) {
    out.put_i32(partitions.len() as i32);
    for (topic, partitions) in partitions {
        string(out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
}
