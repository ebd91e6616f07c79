//! What a log must hold, told naively.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use headwater_log::PartitionId;

/// What one record looked like when it was sent, and who sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub value: Option<Bytes>,
    pub producer: i64,
    pub transactional: bool,
    /// Of a marker: commit or abort.
    pub marker: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub partitions: BTreeMap<PartitionId, ModelPartition>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelPartition {
    pub log_start: i64,
    pub records: Vec<Sent>,
}

impl ModelPartition {
    /// First offset of the earliest open transaction, or the end; never before the start.
    pub fn last_stable(&self) -> i64 {
        let mut open: HashMap<i64, i64> = HashMap::new();
        for (offset, sent) in self.records.iter().enumerate() {
            if sent.marker.is_some() {
                open.remove(&sent.producer);
            } else if sent.transactional {
                open.entry(sent.producer).or_insert(offset as i64);
            }
        }
        open.values().copied().min().unwrap_or(self.records.len() as i64).max(self.log_start)
    }

    /// Values a read_committed consumer sees.
    pub fn committed_values(&self) -> Vec<Bytes> {
        let mut seen: Vec<(i64, Option<i64>, Bytes)> = Vec::new();
        let mut fate: HashMap<usize, bool> = HashMap::new();
        let mut open: HashMap<i64, Vec<usize>> = HashMap::new();
        for (offset, sent) in self.records.iter().enumerate() {
            match (sent.marker, &sent.value) {
                (Some(committed), _) => {
                    for place in open.remove(&sent.producer).unwrap_or_default() {
                        fate.insert(place, committed);
                    }
                }
                (None, Some(value)) => {
                    if sent.transactional {
                        open.entry(sent.producer).or_default().push(seen.len());
                    } else {
                        fate.insert(seen.len(), true);
                    }
                    seen.push((offset as i64, None, value.clone()));
                }
                _ => {}
            }
        }
        let stable = self.last_stable();
        let visible = seen.into_iter().enumerate().filter(|(place, (offset, _, _))| {
            *offset >= self.log_start && *offset < stable && fate.get(place).copied().unwrap_or(false)
        });
        visible.map(|(_, (_, _, value))| value).collect()
    }
}
