//! Fetch by topic name, and the offsets a partition begins and ends with.

use bytes::Bytes;
use headwater_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use headwater_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use headwater_wire::messages::{FetchRequestData, ListOffsetsRequestData};

use super::{At, Connection, Failure, by_topic};

const EARLIEST: i64 = -2;
const PARTITION_BYTES: i32 = 4 << 20;
const ANSWER_BYTES: i32 = 32 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    Uncommitted,
    Committed,
}

/// One partition of an answer.
#[derive(Debug, Clone)]
pub struct PartitionFetched {
    pub at: At,
    pub error: Result<(), Failure>,
    pub high_watermark: i64,
    pub log_start: i64,
    pub records: Bytes,
    /// Producer id and first offset of transactions that a read_committed reader skips.
    pub aborted: Vec<(i64, i64)>,
}

impl Connection {
    pub fn fetch(
        &mut self,
        from: &[(At, i64)],
        isolation: Isolation,
        wait_ms: i32,
    ) -> Result<Vec<PartitionFetched>, Failure> {
        let wanted = from.iter().map(|((topic, partition), offset)| {
            let wanted = FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(PARTITION_BYTES);
            (topic.clone(), wanted)
        });
        let topics = by_topic(wanted)
            .into_iter()
            .map(|(name, list)| FetchTopic::default().with_topic(name.into()).with_partitions(list));
        let request = FetchRequestData::default()
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(ANSWER_BYTES)
            .with_isolation_level(i8::from(isolation == Isolation::Committed))
            .with_topics(topics.collect());
        let answer = self.call(&request)?;
        Failure::check("fetch", answer.error_code, None)?;
        let mut fetched = Vec::new();
        for topic in answer.responses {
            for data in topic.partitions {
                let aborted = data.aborted_transactions.unwrap_or_default();
                fetched.push(PartitionFetched {
                    at: (topic.topic.to_string(), data.partition_index),
                    error: Failure::check("fetch", data.error_code, None),
                    high_watermark: data.high_watermark,
                    log_start: data.log_start_offset,
                    records: data.records.unwrap_or_default(),
                    aborted: aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect(),
                });
            }
        }
        Ok(fetched)
    }

    pub fn earliest(&mut self, at: &At) -> Result<i64, Failure> {
        let partition = ListOffsetsPartition::default().with_partition_index(at.1).with_timestamp(EARLIEST);
        let topic =
            ListOffsetsTopic::default().with_name(at.0.clone().into()).with_partitions(vec![partition]);
        let request = ListOffsetsRequestData::default().with_replica_id(-1).with_topics(vec![topic]);
        let answer = self.call(&request)?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let partition = partition.ok_or_else(|| Failure::Malformed("an empty offsets answer".into()))?;
        Failure::check("list offsets", partition.error_code, None)?;
        Ok(partition.offset)
    }
}
