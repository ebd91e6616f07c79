//! Reads Kafka's own topics as Burrow does: every partition from its beginning, the last value of a key counts.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use crate::common::{Raw, batches};

pub const OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTIONS: &str = "__transaction_state";
const PARTITIONS: i32 = 50;

/// Java's hash of UTF-16 units, on its own account.
pub fn partition_of(id: &str, partitions: i32) -> i32 {
    let hash =
        id.encode_utf16().fold(0i64, |hash, unit| (hash * 31 + i64::from(unit)) & 0xffff_ffff) as u32 as i32;
    if hash == i32::MIN { 0 } else { hash.abs() % partitions }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub topic: &'static str,
    pub partition: i32,
    pub offset: i64,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Read {
    /// The group or the transactional id.
    pub fn id(&self) -> String {
        let mut key = self.key.clone();
        key.advance(2);
        string(&mut key)
    }
}

#[derive(Debug, Default)]
pub struct Reading {
    pub records: Vec<Read>,
}

impl Reading {
    pub async fn of(raw: &mut Raw) -> Self {
        let mut reading = Self::default();
        for topic in [OFFSETS, TRANSACTIONS] {
            for partition in 0..PARTITIONS {
                reading.read(raw, topic, partition).await;
            }
        }
        reading
    }

    async fn read(&mut self, raw: &mut Raw, topic: &'static str, partition: i32) {
        let mut at = 0;
        loop {
            let data = raw.fetch(topic, partition, at, true).await;
            // Nobody has used a transaction yet.
            if data.error_code == 3 && topic == TRANSACTIONS {
                return;
            }
            assert_eq!(data.error_code, 0, "{topic}-{partition}: {data:?}");
            for (header, records) in batches(data.records.unwrap_or_default()) {
                at = header.last_offset() + 1;
                self.records.extend(records.into_iter().map(|record| Read {
                    topic,
                    partition,
                    offset: record.offset,
                    key: record.key.expect("a key"),
                    value: record.value,
                }));
            }
            if at >= data.high_watermark {
                return;
            }
        }
    }

    /// Whatever was read before is there, where it was.
    pub fn goes_on_from(&self, before: &Reading) {
        for record in &before.records {
            assert!(self.records.contains(record), "{record:?} is gone");
        }
    }

    fn last(&self, topic: &str) -> BTreeMap<Bytes, Bytes> {
        let mut last = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.topic == topic) {
            match &record.value {
                Some(value) => drop(last.insert(record.key.clone(), value.clone())),
                None => drop(last.remove(&record.key)),
            }
        }
        last
    }

    pub fn offsets(&self) -> BTreeMap<(String, String, i32), i64> {
        let mut offsets = BTreeMap::new();
        for (mut key, mut value) in self.last(OFFSETS) {
            let version = key.get_i16();
            if version > 1 {
                continue;
            }
            let at = (string(&mut key), string(&mut key), key.get_i32());
            assert!(key.is_empty());
            assert_eq!(value.get_i16(), 3);
            let (offset, epoch, metadata) = (value.get_i64(), value.get_i32(), string(&mut value));
            assert_eq!(epoch, -1);
            assert!(metadata.is_empty() || metadata == format!("at {offset}"));
            assert!(value.get_i64() > 1_500_000_000_000, "the time of the commit");
            assert!(value.is_empty());
            offsets.insert(at, offset);
        }
        offsets
    }

    /// The state of each.
    pub fn transactions(&self) -> BTreeMap<String, i8> {
        let last = self.last(TRANSACTIONS);
        last.into_iter().map(|(mut key, value)| (named(&mut key), state(value))).collect()
    }

    pub fn states_of(&self, id: &str) -> Vec<i8> {
        let of_id = self.records.iter().filter(|record| record.topic == TRANSACTIONS && record.id() == id);
        of_id.filter_map(|record| record.value.clone()).map(state).collect()
    }
}

fn named(key: &mut Bytes) -> String {
    assert_eq!(key.get_i16(), 0);
    string(key)
}

/// Version, producer, epoch and timeout come before it.
fn state(mut value: Bytes) -> i8 {
    assert_eq!(value.get_i16(), 0);
    value.advance(8 + 2 + 4);
    value.get_i8()
}

fn string(from: &mut Bytes) -> String {
    let length = usize::try_from(from.get_i16()).expect("a length");
    String::from_utf8(from.split_to(length).to_vec()).expect("UTF-8")
}
