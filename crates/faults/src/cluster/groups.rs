//! What reads the plain topic in groups: one that copies in transactions, and one that only commits.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use headwater_client::{
    Client, ClientError, Committed, Fetched, GroupConfig, GroupConsumer, GroupEvent, GroupProtocol,
    ProduceRecord, Producer, ProducerConfig,
};
use headwater_model::TopicPartition;

use super::{COPIED, COPIERS, Load, MEMBERS, PLAIN};

const POLL: Duration = Duration::from_millis(200);

fn group(id: &str) -> GroupConfig {
    let mut config = GroupConfig::new(id, vec![PLAIN.to_owned()]);
    config.session_timeout = Duration::from_secs(10);
    config.rebalance_timeout = Duration::from_secs(15);
    config
}

fn positions(fetched: &[Fetched]) -> HashMap<TopicPartition, Committed> {
    let one = |run: &Fetched| {
        let committed = Committed::from(run);
        (run.topic_partition.clone(), committed)
    };
    fetched.iter().map(one).collect()
}

/// How a copier's transactions ended.
#[derive(Debug, Default)]
pub struct Copies {
    pub transactions: usize,
    pub aborted: usize,
    /// Commits whose answer was lost and that an abort found carried out.
    pub committed_unheard: usize,
    /// Producers that had to be made anew.
    pub renewed: usize,
}

/// Reads, writes the same to the same partition of the other topic, and commits both together.
pub async fn copy(client: Client, id: String, load: Load) -> Result<Copies> {
    let mut consumer = GroupConsumer::join(&client, group(COPIERS)).await?;
    let mut producer = transactional(&client, &id).await?;
    let mut copies = Copies::default();
    while load.reading.load(Ordering::Relaxed) {
        let fetched = match consumer.poll(POLL).await {
            Ok(Some(GroupEvent::Records(fetched))) => fetched,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, id, "the copier's membership ended");
                drop(consumer);
                consumer = GroupConsumer::join(&client, group(COPIERS)).await?;
                continue;
            }
        };
        copies.transactions += 1;
        let Err(error) = copy_once(&producer, &consumer, &fetched).await else { continue };
        tracing::warn!(%error, id, "a copy failed");
        match producer.abort_transaction().await {
            Ok(()) => copies.aborted += 1,
            Err(ClientError::Committed(_)) => {
                copies.committed_unheard += 1;
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, id, "the copier's producer is replaced");
                copies.renewed += 1;
                producer = transactional(&client, &id).await?;
            }
        }
        rewind(&client, &mut consumer).await?;
    }
    consumer.leave().await?;
    Ok(copies)
}

async fn transactional(client: &Client, id: &str) -> Result<Producer> {
    let config = ProducerConfig {
        transactional_id: Some(id.to_owned()),
        transaction_timeout: Duration::from_secs(20),
        delivery_timeout: Duration::from_secs(15),
        ..ProducerConfig::default()
    };
    loop {
        match Producer::new(client, config.clone()).await {
            Ok(producer) => return Ok(producer),
            Err(error @ ClientError::GaveUp { .. }) => tracing::warn!(%error, id, "no producer yet"),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn copy_once(
    producer: &Producer,
    consumer: &GroupConsumer,
    fetched: &[Fetched],
) -> Result<(), ClientError> {
    producer.begin_transaction().await?;
    for run in fetched {
        for record in &run.records {
            let copy = ProduceRecord {
                topic: COPIED.to_owned(),
                partition: Some(run.topic_partition.partition),
                key: record.key.clone(),
                value: record.value.clone(),
                ..ProduceRecord::default()
            };
            drop(producer.send(copy).await?);
        }
    }
    producer.send_offsets(&consumer.metadata(), &positions(fetched)).await?;
    producer.commit_transaction().await
}

/// Back to what is committed: what was read since has not been copied.
async fn rewind(client: &Client, consumer: &mut GroupConsumer) -> Result<()> {
    let assigned = consumer.consumer().assignment();
    if assigned.is_empty() {
        return Ok(());
    }
    let committed = loop {
        match client.committed(COPIERS, Some(&assigned)).await {
            Ok(committed) => break committed,
            Err(error @ ClientError::GaveUp { .. }) => tracing::warn!(%error, "no committed offsets yet"),
            Err(error) => return Err(error.into()),
        }
    };
    for at in assigned {
        let offset = committed.get(&at).map_or(0, |committed| committed.offset);
        consumer.consumer().seek(&at, offset);
    }
    Ok(())
}

fn followers() -> GroupConfig {
    GroupConfig { protocol: GroupProtocol::consumer(), ..group(MEMBERS) }
}

/// Reads and commits, at least once: what was seen, and how often something came again.
pub async fn follow(client: Client, load: Load) -> Result<(HashSet<String>, usize)> {
    let mut consumer = GroupConsumer::join(&client, followers()).await?;
    let (mut seen, mut again) = (HashSet::new(), 0);
    while load.reading.load(Ordering::Relaxed) {
        let fetched = match consumer.poll(POLL).await {
            Ok(Some(GroupEvent::Records(fetched))) => fetched,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, "a member's group ended for it");
                drop(consumer);
                consumer = GroupConsumer::join(&client, followers()).await?;
                continue;
            }
        };
        for record in fetched.iter().flat_map(|run| &run.records) {
            again += usize::from(!seen.insert(super::read::text(record.value.as_deref())));
        }
        if let Err(error) = consumer.commit(&positions(&fetched)).await {
            tracing::warn!(%error, "a commit failed; the next one has it");
        }
    }
    consumer.leave().await?;
    Ok((seen, again))
}
