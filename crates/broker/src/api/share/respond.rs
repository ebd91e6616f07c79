//! The response to ShareFetch, put together by topic and partition.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_coordinator::{Acquired, TopicId, TopicPartitionId};
use headwater_wire::ErrorCode;
use headwater_wire::messages::share_fetch_response::{
    AcquiredRecords, PartitionData, ShareFetchResponseData, ShareFetchableTopicResponse,
};

use super::read::Batches;
use crate::api::uuid;

/// What is told of each partition; those of which there is nothing to tell are not in it, unless they are mentioned.
#[derive(Default)]
pub struct Answers {
    topics: BTreeMap<TopicId, BTreeMap<i32, PartitionData>>,
}

impl Answers {
    fn partition(&mut self, (topic, index): TopicPartitionId) -> &mut PartitionData {
        let partitions = self.topics.entry(topic).or_default();
        // None is no records, and not nothing: Java's client refuses to read a null here.
        let none = || PartitionData::default().with_partition_index(index).with_records(Some(Bytes::new()));
        partitions.entry(index).or_insert_with(none)
    }

    /// There need be nothing to tell of it.
    pub fn mention(&mut self, place: TopicPartitionId) {
        self.partition(place);
    }

    pub fn acknowledged(&mut self, place: TopicPartitionId, code: i16) {
        self.partition(place).acknowledge_error_code = code;
    }

    pub fn refuse(&mut self, place: TopicPartitionId, code: ErrorCode) {
        self.partition(place).error_code = code.code();
    }

    pub fn has_refusals(&self) -> bool {
        self.topics.values().flat_map(BTreeMap::values).any(|partition| partition.error_code != 0)
    }

    pub fn acquired(&mut self, place: TopicPartitionId, batches: &Batches, acquired: &[Acquired]) {
        let ranges: Vec<_> = acquired.iter().map(|range| (range.first, range.last)).collect();
        let told = acquired.iter().map(|range| {
            AcquiredRecords::default()
                .with_first_offset(range.first)
                .with_last_offset(range.last)
                .with_delivery_count(range.delivery_count)
        });
        let partition = self.partition(place);
        partition.records = Some(batches.of(&ranges));
        partition.acquired_records = told.collect();
    }

    pub fn response(self, lock_duration_ms: i32) -> ShareFetchResponseData {
        let topics = self.topics.into_iter().map(|(id, partitions)| {
            ShareFetchableTopicResponse::default()
                .with_topic_id(uuid(id))
                .with_partitions(partitions.into_values().collect())
        });
        ShareFetchResponseData::default()
            .with_acquisition_lock_timeout_ms(lock_duration_ms)
            .with_responses(topics.collect())
    }
}
