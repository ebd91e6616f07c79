//! Positions: where partitions begin and end, and what groups have committed.

use std::collections::HashMap;

use headwater_model::{Offset, TimestampMs, TopicPartition};
use headwater_wire::messages::{
    ListOffsetsPartition, ListOffsetsRequestData, ListOffsetsTopic, OffsetCommitRequestData,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponseData, OffsetFetchRequestData,
    OffsetFetchRequestTopic, OffsetFetchResponseData,
};

use super::{by_topic, text};
use crate::cluster::{CoordinatorOf, Lane};
use crate::{Client, ClientError, Committed, Isolation};

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    /// The end; under `Isolation::Committed` the last stable offset.
    Latest,
    /// That of the record with the greatest timestamp.
    MaxTimestamp,
    /// That of the first record at or after the time.
    Timestamp(TimestampMs),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Timestamp(time) => time.max(0),
        }
    }
}

type Ask = (TopicPartition, OffsetSpec);

impl Client {
    /// Asks each partition's leader. A partition is absent from the answer when it has no record at
    /// or after the time.
    pub async fn list_offsets(
        &self,
        ask: &[(TopicPartition, OffsetSpec)],
        isolation: Isolation,
    ) -> Result<HashMap<TopicPartition, Offset>, ClientError> {
        let mut found = HashMap::with_capacity(ask.len());
        let mut left = ask.to_vec();
        let mut pause = self.patience();
        loop {
            let mut last = None;
            for (address, part) in self.by_leader(std::mem::take(&mut left), |(at, _)| at).await? {
                match self.list_offsets_at(&address, &part, isolation, &mut found).await {
                    Ok((again, None)) => left.extend(again),
                    Ok((again, Some(error))) => {
                        left.extend(again);
                        last = Some(error);
                    }
                    Err(error) if error.is_retriable() => {
                        left.extend(part);
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(error) = last else { return Ok(found) };
            left.iter().for_each(|(at, _)| self.forget_topic(&at.topic));
            pause.wait("list offsets", error).await?;
        }
    }

    /// What this leader answers goes to `found`; what it refuses for now is returned.
    async fn list_offsets_at(
        &self,
        address: &str,
        part: &[Ask],
        isolation: Isolation,
        found: &mut HashMap<TopicPartition, Offset>,
    ) -> Result<(Vec<Ask>, Option<ClientError>), ClientError> {
        let topics = by_topic(part.iter().map(|(at, spec)| (at, *spec))).into_iter().map(|(name, list)| {
            let partition = |(index, spec): (i32, OffsetSpec)| {
                ListOffsetsPartition::default().with_partition_index(index).with_timestamp(spec.timestamp())
            };
            ListOffsetsTopic::default()
                .with_name(text(name))
                .with_partitions(list.into_iter().map(partition).collect())
        });
        let request = ListOffsetsRequestData::default()
            .with_replica_id(-1)
            .with_isolation_level(isolation.level())
            .with_topics(topics.collect());
        let connection = self.connection(Lane::ADMIN, address).await?;
        let answer = connection.call(&request, self.request_timeout()).await?;
        let (mut again, mut last) = (Vec::new(), None);
        for topic in &answer.topics {
            for result in &topic.partitions {
                let at = TopicPartition::new(topic.name.as_str(), result.partition_index);
                match ClientError::check(result.error_code, None, || format!("list offsets of {at}")) {
                    Ok(()) if result.offset >= 0 => drop(found.insert(at, result.offset)),
                    Ok(()) => {}
                    Err(error) if error.is_retriable() => {
                        again.extend(part.iter().filter(|(of, _)| *of == at).cloned());
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((again, last))
    }

    /// What a group has committed, of some partitions or of all; those without an offset are absent.
    /// Waits while a transaction that holds offsets of the group is open.
    pub async fn committed(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<HashMap<TopicPartition, Committed>, ClientError> {
        self.fetch_committed(group, partitions, true).await
    }

    /// All that a group has committed until now, whatever an open transaction may add.
    pub async fn committed_until_now(
        &self,
        group: &str,
    ) -> Result<HashMap<TopicPartition, Committed>, ClientError> {
        self.fetch_committed(group, None, false).await
    }

    async fn fetch_committed(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        stable: bool,
    ) -> Result<HashMap<TopicPartition, Committed>, ClientError> {
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions.iter().map(|at| (at, ()))).into_iter().map(|(name, list)| {
                OffsetFetchRequestTopic::default()
                    .with_name(text(name))
                    .with_partition_indexes(list.into_iter().map(|(index, ())| index).collect())
            });
            topics.collect::<Vec<_>>()
        });
        let request = OffsetFetchRequestData::default()
            .with_group_id(text(group))
            .with_topics(topics)
            .with_require_stable(stable);
        let timeout = self.request_timeout();
        let check = |answer: &OffsetFetchResponseData| check_fetched(group, answer);
        let answer =
            self.call_coordinator(Lane::ADMIN, CoordinatorOf::Group, group, &request, timeout, check).await?;
        let mut offsets = HashMap::new();
        for topic in &answer.topics {
            for partition in topic.partitions.iter().filter(|partition| partition.committed_offset >= 0) {
                let metadata = partition.metadata.as_ref().map_or_else(String::new, ToString::to_string);
                let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                let leader_epoch = Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0);
                let offset = partition.committed_offset;
                offsets.insert(at, Committed { offset, metadata, leader_epoch });
            }
        }
        Ok(offsets)
    }

    /// Commits for a group that has no members (a simple consumer's, or a reset).
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ClientError> {
        let request = OffsetCommitRequestData::default()
            .with_group_id(text(group))
            .with_generation_id_or_member_epoch(-1);
        self.commit_with(Lane::ADMIN, group, request, offsets).await
    }

    /// Fills `request` with the offsets and sends it to the group's coordinator.
    pub(crate) async fn commit_with(
        &self,
        lane: Lane,
        group: &str,
        request: OffsetCommitRequestData,
        offsets: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let topics = by_topic(offsets).into_iter().map(|(name, list)| {
            let partition = |(index, committed): (i32, &Committed)| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch.unwrap_or(-1))
                    .with_committed_metadata(Some(text(&committed.metadata)))
            };
            OffsetCommitRequestTopic::default()
                .with_name(text(name))
                .with_partitions(list.into_iter().map(partition).collect())
        });
        let request = request.with_topics(topics.collect());
        let check = |answer: &OffsetCommitResponseData| check_committed(group, answer);
        let timeout = self.request_timeout();
        self.call_coordinator(lane, CoordinatorOf::Group, group, &request, timeout, check).await?;
        Ok(())
    }
}

fn check_fetched(group: &str, answer: &OffsetFetchResponseData) -> Result<(), ClientError> {
    ClientError::check(answer.error_code, None, || format!("fetch the offsets of group {group}"))?;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let what =
                || format!("fetch group {group}'s offset of {}/{}", topic.name, partition.partition_index);
            ClientError::check(partition.error_code, None, what)?;
        }
    }
    Ok(())
}

fn check_committed(group: &str, answer: &OffsetCommitResponseData) -> Result<(), ClientError> {
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let what =
                || format!("commit group {group}'s offset of {}/{}", topic.name, partition.partition_index);
            ClientError::check(partition.error_code, None, what)?;
        }
    }
    Ok(())
}
