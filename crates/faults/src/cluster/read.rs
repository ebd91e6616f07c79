//! A topic read back from beginning to end, as whoever reads only what is committed sees it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_client::{Client, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Record, TopicPartition};

const PATIENCE: Duration = Duration::from_secs(90);

pub fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// The records of each partition, in their order.
pub async fn all(client: &Client, topic: &str) -> Result<Vec<Vec<Record>>> {
    let info = client.topic(topic).await?.with_context(|| format!("the topic {topic} is gone"))?;
    let partitions: Vec<_> = (0..info.partitions).map(|index| TopicPartition::new(topic, index)).collect();
    let ask = |spec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
    let begins = client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Committed).await?;
    let ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Committed).await?;
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign(begins.into_iter().collect());
    let mut records = vec![Vec::new(); partitions.len()];
    let begun = Instant::now();
    while ends.iter().any(|(at, end)| consumer.position(at).is_some_and(|next| next < *end)) {
        if begun.elapsed() > PATIENCE {
            bail!("{topic} was not read to its end within {PATIENCE:?}");
        }
        for fetched in consumer.poll(Duration::from_millis(200)).await? {
            records[fetched.topic_partition.partition as usize].extend(fetched.records);
        }
    }
    Ok(records)
}

/// The values of each partition.
pub async fn values(client: &Client, topic: &str) -> Result<Vec<Vec<String>>> {
    let records = all(client, topic).await?;
    let values = |list: &Vec<Record>| list.iter().map(|record| text(record.value.as_deref())).collect();
    Ok(records.iter().map(values).collect())
}

/// How many records are visible, without reading them.
pub async fn count(client: &Client, topic: &str) -> Result<usize> {
    Ok(values(client, topic).await?.iter().map(Vec::len).sum())
}
