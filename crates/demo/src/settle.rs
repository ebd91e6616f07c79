//! Has a consumer group read everything there is to read?
//!
//! A position below a partition's end does not mean that records are left: the last offsets of a partition may
//! be the markers of transactions. So what lies between is read, and only records count.

use std::time::Duration;

use anyhow::{Result, ensure};
use headwater_client::{AutoOffsetReset, Client, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};
use tokio::time::Instant;

use crate::sources::{ANSWERS, LATE_TOPICS};

/// How long a look at the ends of partitions may take; an unanswered look says "not yet".
const LOOK: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// How long nothing may move before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether the service writes this topic for others.
pub fn is_an_answer(topic: &str) -> bool {
    LATE_TOPICS.contains(&topic) || ANSWERS.iter().any(|(answer, _)| *answer == topic)
}

/// Waits until a service has processed everything that its sources have published.
pub struct Settling<'a> {
    client: &'a Client,
    group: &'a str,
}

impl<'a> Settling<'a> {
    pub fn new(client: &'a Client, group: &'a str) -> Self {
        Self { client, group }
    }

    /// Returns when nothing is left to read and no output is open. An error when neither the group nor `progress`
    /// moves for two minutes. That the cluster does not answer for a while is part of the job.
    pub async fn wait(&self, progress: impl Fn() -> u64) -> Result<()> {
        let mut seen = None;
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let look = self.look().await;
            match look {
                Ok(Look { settled: true, .. }) => return Ok(()),
                Ok(Look { moved, .. }) if seen.replace((moved, progress())) != Some((moved, progress())) => {
                    deadline = Instant::now() + PATIENCE;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the cluster does not answer"),
            }
            ensure!(
                Instant::now() < deadline,
                "nothing has moved for {PATIENCE:?}: group {} does not read on; `headwater group describe {}` shows where",
                self.group,
                self.group
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<Look> {
        let topics: Vec<String> = self.client.topics().await?.into_iter().map(|topic| topic.name).collect();
        let read: Vec<String> = topics.iter().filter(|topic| self.reads(topic)).cloned().collect();
        let written: Vec<String> = topics.into_iter().filter(|topic| is_an_answer(topic)).collect();
        let committed = self.client.committed(self.group, None).await?;
        let moved = committed.values().map(|committed| committed.offset).sum();
        let settled = has_read_everything(self.client, self.group, &read).await?
            && is_quiet(self.client, &written).await?;
        Ok(Look { settled, moved })
    }

    /// What the group has positions on: the changing tables, and the streams it repartitions for itself.
    fn reads(&self, topic: &str) -> bool {
        let own = topic
            .strip_prefix(self.group)
            .is_some_and(|rest| rest.starts_with('-') && rest.ends_with("-repartition"));
        own || ["flights", "weather"].contains(&topic)
    }
}

struct Look {
    settled: bool,
    /// The sum of the group's positions.
    moved: Offset,
}

/// Whether `group` has committed past every record of `topics`, and no transaction is open on them.
///
/// The group's positions are asked for before the ends: whatever is written in between shows as unread.
async fn has_read_everything(client: &Client, group: &str, topics: &[String]) -> Result<bool> {
    let partitions = partitions(client, topics).await?;
    let committed = client.committed(group, Some(&partitions)).await?;
    if !no_open_transactions(client, &partitions).await? {
        return Ok(false);
    }
    let at = |partition: &TopicPartition| committed.get(partition).map_or(0, |committed| committed.offset);
    let starts = partitions.into_iter().map(|partition| (at(&partition), partition));
    let unread = records_from(client, starts.map(|(at, partition)| (partition, at)).collect(), true).await?;
    Ok(unread == Some(0))
}

/// Whether everything on `topics` is committed or aborted.
async fn is_quiet(client: &Client, topics: &[String]) -> Result<bool> {
    let partitions = partitions(client, topics).await?;
    no_open_transactions(client, &partitions).await
}

/// Committed records of a topic, counted by reading them.
pub async fn count(client: &Client, topic: &str) -> Result<u64> {
    let partitions = partitions(client, &[topic.to_owned()]).await?;
    let starts = partitions.into_iter().map(|partition| (partition, 0)).collect();
    let count = records_from(client, starts, false).await?;
    count
        .ok_or_else(|| anyhow::anyhow!("reading {topic} to its end took more than {LOOK:?} without a record"))
}

async fn partitions(client: &Client, topics: &[String]) -> Result<Vec<TopicPartition>> {
    let known = client.topics().await?;
    let wanted = known.iter().filter(|topic| topics.contains(&topic.name));
    Ok(wanted.flat_map(|topic| (0..topic.partitions).map(|n| TopicPartition::new(&topic.name, n))).collect())
}

async fn no_open_transactions(client: &Client, partitions: &[TopicPartition]) -> Result<bool> {
    let ask: Vec<_> = partitions.iter().map(|partition| (partition.clone(), OffsetSpec::Latest)).collect();
    let stable = client.list_offsets(&ask, Isolation::Committed).await?;
    Ok(stable == client.list_offsets(&ask, Isolation::Uncommitted).await?)
}

/// Counts committed records from the given positions to the ends as they are now; with `first_only`, any record ends
/// the count. `None` when the ends are not reached in time.
async fn records_from(
    client: &Client,
    starts: Vec<(TopicPartition, Offset)>,
    first_only: bool,
) -> Result<Option<u64>> {
    let ask: Vec<_> = starts.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Latest)).collect();
    let ends = client.list_offsets(&ask, Isolation::Committed).await?;
    let end = |partition: &TopicPartition| ends.get(partition).copied().unwrap_or(0);
    let mut left: Vec<_> = starts.into_iter().filter(|(partition, at)| *at < end(partition)).collect();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        max_wait: POLL,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(client, config);
    consumer.assign(left.clone());
    let mut count = 0;
    let mut deadline = Instant::now() + LOOK;
    while !left.is_empty() {
        for fetched in consumer.poll(POLL).await? {
            count += fetched.records.len() as u64;
            deadline = Instant::now() + LOOK;
        }
        if first_only && count > 0 {
            return Ok(Some(count));
        }
        left.retain(|(partition, _)| consumer.position(partition).is_none_or(|at| at < end(partition)));
        if Instant::now() >= deadline {
            return Ok(None);
        }
    }
    Ok(Some(count))
}
