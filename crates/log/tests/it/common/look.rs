//! What a log shows, and how that is compared.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_log::{Disk, Isolation, Log, LogError, PartitionId};
use headwater_wire::{BatchHeader, batch};

use super::model::{Model, ModelPartition};
use super::world::World;

/// Log start, high watermark, last stable offset and committed values of every partition.
pub type Visible = BTreeMap<PartitionId, (i64, i64, i64, Vec<Bytes>)>;

impl World {
    pub fn visible(model: &Model) -> Visible {
        let view = |partition: &ModelPartition| {
            let end = partition.records.len() as i64;
            (partition.log_start, end, partition.last_stable(), partition.committed_values())
        };
        model.partitions.iter().map(|(id, partition)| (*id, view(partition))).collect()
    }

    pub fn observe(&self) -> Visible {
        Self::observe_log(&self.log)
    }

    pub fn observe_log<D: Disk>(log: &Log<D>) -> Visible {
        let reader = log.reader();
        let mut found = BTreeMap::new();
        for id in log.partitions() {
            let offsets = reader.offsets(id).expect("offsets");
            let mut values = Vec::new();
            let mut aborted: Vec<(i64, i64)> = Vec::new();
            let mut at = offsets.log_start;
            while at < offsets.last_stable {
                let fetched = reader.read(id, at, 700, Isolation::Committed).expect("read");
                for transaction in fetched.aborted {
                    let known = (transaction.first_offset, transaction.producer_id);
                    if !aborted.contains(&known) {
                        aborted.push(known);
                    }
                }
                let mut rest = fetched.records;
                assert!(!rest.is_empty(), "nothing at {at} below {}", offsets.last_stable);
                while !rest.is_empty() {
                    let header = BatchHeader::read(&rest).expect("a batch");
                    header.verify(&rest).expect("its checksum");
                    let whole = rest.split_to(header.size);
                    at = header.last_offset() + 1;
                    if header.is_control() {
                        aborted.retain(|(first, producer)| {
                            *producer != header.producer_id || *first > header.base_offset
                        });
                        continue;
                    }
                    let skipped = header.is_transactional()
                        && aborted
                            .iter()
                            .any(|(first, p)| *p == header.producer_id && header.base_offset >= *first);
                    if !skipped {
                        let records = batch::decode(&header, &whole).expect("records");
                        values.extend(
                            records
                                .into_iter()
                                .filter(|r| r.offset >= offsets.log_start)
                                .filter_map(|r| r.value),
                        );
                    }
                }
            }
            found.insert(id, (offsets.log_start, offsets.high_watermark, offsets.last_stable, values));
        }
        found
    }

    pub fn check(&self) {
        let (log, model) = (self.observe(), Self::visible(&self.durable));
        for id in log.keys().chain(model.keys()) {
            assert_eq!(log.get(id), model.get(id), "{id}; left: the log, right: the model");
        }
    }
}

pub type Records = BTreeMap<PartitionId, BTreeMap<i64, Bytes>>;

/// Every batch that can be read, by its base offset, and what is known to be damaged then.
pub fn read_all<D: Disk>(log: &Log<D>) -> (Records, Vec<(PartitionId, headwater_log::Damage)>) {
    let reader = log.reader();
    let mut all = Records::new();
    for id in log.partitions() {
        let offsets = reader.offsets(id).expect("offsets");
        let of_partition = all.entry(id).or_default();
        let mut at = offsets.log_start;
        while at < offsets.high_watermark {
            let fetched = match reader.read(id, at, 500, Isolation::Uncommitted) {
                Ok(fetched) => fetched,
                Err(LogError::Damaged { damage, .. }) => {
                    at = damage.last + 1;
                    continue;
                }
                Err(error) => panic!("{id} at {at}: {error}"),
            };
            let mut rest = fetched.records;
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let header = BatchHeader::read(&rest).expect("a batch");
                at = header.last_offset() + 1;
                of_partition.insert(header.base_offset, rest.split_to(header.size));
            }
        }
    }
    (all, reader.damage())
}

/// What was there is there with its bytes, or named, or (from `cut` on) the tail that was cut off.
pub fn assert_named(
    before: &Records,
    after: &Records,
    damage: &[(PartitionId, headwater_log::Damage)],
    cut: &BTreeMap<PartitionId, i64>,
) {
    for (id, records) in before {
        let known = after.get(id);
        for (offset, bytes) in records {
            match known.and_then(|known| known.get(offset)) {
                Some(found) => assert_eq!(found, bytes, "{id} at {offset}"),
                None => {
                    let named = damage.iter().any(|(of, d)| of == id && (d.first..=d.last).contains(offset));
                    let cut = cut.get(id).is_some_and(|end| offset >= end);
                    assert!(named || cut, "{id}: offset {offset} is neither there nor named");
                }
            }
        }
    }
}
