//! Idempotent producers whose records carry a number each, and topics that are written to as they are created.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use headwater_client::{Client, Delivery, NewTopic, ProduceRecord, Producer, ProducerConfig};

use super::{Acknowledged, Load, PARTITIONS, PLAIN};

/// Sent at once, then a pause.
const BURST: usize = 40;
const PAUSE: Duration = Duration::from_millis(100);
const FRESH_PARTITIONS: i32 = 3;
const FRESH_RECORDS: usize = 200;

/// Several batches of one partition on their way at once.
fn small_batches() -> ProducerConfig {
    ProducerConfig { batch_bytes: 1 << 10, linger: Duration::from_millis(2), ..ProducerConfig::default() }
}

fn record(topic: &str, partition: i32, value: &str) -> ProduceRecord {
    ProduceRecord {
        topic: topic.to_owned(),
        partition: Some(partition),
        key: Some(value.to_owned().into()),
        value: Some(value.to_owned().into()),
        ..ProduceRecord::default()
    }
}

/// Sorts what was sent by what became of it.
async fn settle(topic: &str, sent: Vec<(i32, String, Delivery)>, acknowledged: &mut Acknowledged) {
    for (partition, value, delivery) in sent {
        match delivery.await {
            Ok(_) => {
                acknowledged.records.entry((topic.to_owned(), partition)).or_default().insert(value);
            }
            Err(error) => {
                tracing::warn!(%error, topic, value, "not acknowledged");
                acknowledged.refused += 1;
            }
        }
    }
}

/// Numbers `writer-0`, `writer-1`, … to one partition after the other, until the load ends.
pub async fn write(client: Client, writer: String, load: Load) -> Result<Acknowledged> {
    let producer = Producer::new(&client, small_batches()).await?;
    let (mut number, mut sent) = (0, Vec::new());
    while load.writing.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            // Runs of one partition make more than one batch of it.
            let partition = (number / 10 % PARTITIONS as usize) as i32;
            let value = format!("{writer}-{number}");
            let delivery = producer.send(record(PLAIN, partition, &value)).await?;
            sent.push((partition, value, delivery));
            number += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let mut acknowledged = Acknowledged::default();
    settle(PLAIN, sent, &mut acknowledged).await;
    Ok(acknowledged)
}

/// Creates a topic and writes to it without waiting for its leaders, again and again.
pub async fn write_fresh(client: Client, load: Load) -> Result<Acknowledged> {
    let mut acknowledged = Acknowledged::default();
    for round in 0.. {
        if !load.writing.load(Ordering::Relaxed) {
            break;
        }
        let topic = format!("fresh-{round}");
        client.create_topic(NewTopic::new(&topic, FRESH_PARTITIONS)).await.or_else(|error| match error {
            // The answer to the first attempt was lost.
            headwater_client::ClientError::TopicExists(_) => Ok(()),
            error => Err(error),
        })?;
        let producer = Producer::new(&client, small_batches()).await?;
        let mut sent = Vec::new();
        for number in 0..FRESH_RECORDS {
            let partition = (number % FRESH_PARTITIONS as usize) as i32;
            let value = format!("{topic}-{number}");
            let delivery = producer.send(record(&topic, partition, &value)).await?;
            sent.push((partition, value, delivery));
        }
        settle(&topic, sent, &mut acknowledged).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(acknowledged)
}
