//! The letters of a topic in the order of each partition, up to the ends it had at the start: what fails again meanwhile
//! is for the next run.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use headwater_client::{Client, Committed, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Offset, Record, TopicPartition};

use super::super::unknown_topic;
use super::progress::{Progress, TooManyGaps};
use crate::output::{DATA, Failure, UNAVAILABLE};

/// Without anything to read for so long, the broker is not well.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Letters {
    consumer: Consumer,
    topic: String,
    progress: HashMap<TopicPartition, Progress>,
    starts: HashMap<TopicPartition, Offset>,
    /// Where each partition ends that is not read to its end.
    ends: HashMap<TopicPartition, Offset>,
    read: VecDeque<(TopicPartition, Record)>,
}

impl Letters {
    /// From what the group has committed, or from the beginning (`all`). Waits while a transaction that holds offsets of the
    /// group is open.
    pub async fn open(client: &Client, topic: &str, group: &str, all: bool) -> Result<Self, Failure> {
        let Some(info) = client.topic(topic).await? else { return Err(unknown_topic(topic)) };
        let partitions: Vec<_> = (0..info.partitions).map(|p| TopicPartition::new(topic, p)).collect();
        let committed = client.committed(group, Some(&partitions)).await?;
        let ask = |spec: OffsetSpec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
        let earliest = client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Committed).await?;
        let mut ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Committed).await?;
        let mut progress = HashMap::new();
        let mut starts = HashMap::new();
        for at in partitions {
            let first = earliest.get(&at).copied().unwrap_or(0);
            let mine = Progress::new(committed.get(&at));
            if ends.get(&at).is_some_and(|end| mine.start() > *end) {
                let what = format!(
                    "group {group} has settled the letters of {at} up to offset {}, and it ends before: the topic was made anew",
                    mine.start()
                );
                return Err(Failure::new(DATA, what, "name another --group".to_owned()));
            }
            // What is before a committed offset may have been deleted.
            starts.insert(at.clone(), if all { first } else { mine.start().max(first) });
            progress.insert(at, mine);
        }
        ends.retain(|at, end| starts.get(at).is_some_and(|start| start < end));
        let mut consumer = Consumer::new(client, ConsumerConfig::default());
        let assigned = starts.iter().filter(|(at, _)| ends.contains_key(*at));
        consumer.assign(assigned.map(|(at, start)| (at.clone(), *start)).collect());
        Ok(Self { consumer, topic: topic.to_owned(), progress, starts, ends, read: VecDeque::new() })
    }

    /// Offsets that are to be read: letters, and what is between them.
    pub fn total(&self) -> u64 {
        let of = |(at, end): (&TopicPartition, &Offset)| end - self.starts.get(at).copied().unwrap_or(0);
        self.ends.iter().map(of).sum::<i64>().max(0).cast_unsigned()
    }

    /// Only this offset of this partition.
    pub fn seek(&mut self, partition: i32, offset: Offset) {
        let at = TopicPartition::new(&self.topic, partition);
        let start = self.starts.get(&at).copied().unwrap_or(0);
        self.ends.retain(|known, end| *known == at && (start..*end).contains(&offset));
        self.consumer.assign(self.ends.keys().map(|at| (at.clone(), offset)).collect());
    }

    pub async fn next(&mut self) -> Result<Option<(TopicPartition, Record)>, Failure> {
        while self.read.is_empty() && !self.ends.is_empty() {
            let fetched = self.consumer.poll(PATIENCE).await?;
            if fetched.is_empty() {
                let what = format!("nothing of {} came within {PATIENCE:?}", self.topic);
                return Err(Failure::new(UNAVAILABLE, what, "headwater doctor".to_owned()));
            }
            for part in fetched {
                let Some(end) = self.ends.get(&part.topic_partition).copied() else { continue };
                let within = part.records.into_iter().filter(|record| record.offset < end);
                self.read.extend(within.map(|record| (part.topic_partition.clone(), record)));
                if part.next_offset >= end {
                    self.ends.remove(&part.topic_partition);
                    self.consumer.remove(&[part.topic_partition]);
                }
            }
        }
        Ok(self.read.pop_front())
    }

    /// Whether an earlier run has settled it.
    pub fn is_done(&mut self, at: &TopicPartition, offset: Offset) -> bool {
        let mine = self.progress.get_mut(at);
        mine.is_some_and(|mine| offset < mine.start() || mine.is_done(offset))
    }

    pub fn pass(&mut self, at: &TopicPartition, offset: Offset, done: bool) {
        if let Some(mine) = self.progress.get_mut(at) {
            mine.pass(offset, done);
        }
    }

    /// What to commit of a partition whose letters up to `offset` have been passed.
    pub fn committed(&self, at: &TopicPartition, offset: Offset) -> Result<Committed, TooManyGaps> {
        self.progress.get(at).map_or(Err(TooManyGaps), |mine| mine.committed(offset))
    }
}
