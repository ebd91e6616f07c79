//! What a connector says of itself in the compacted topic `_headwater.catalog`, under `service/connect-<name>`, so that
//! the topology shows where streams come from and where they go. It is for people: failing to say it stops nothing.

use bytes::Bytes;
use headwater_client::{Client, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig};
use serde_json::json;

const TOPIC: &str = "_headwater.catalog";

/// Announces a connector that reads and writes these topics, replacing what it said before.
pub(crate) async fn announce(client: &Client, name: &str, reads: &[&str], writes: &[&str]) {
    if let Err(error) = publish(client, name, reads, writes).await {
        tracing::warn!(connector = name, %error, "the catalog does not know this connector");
    }
}

async fn publish(client: &Client, name: &str, reads: &[&str], writes: &[&str]) -> Result<(), ClientError> {
    client.ensure_topic(NewTopic::new(TOPIC, 1).config("cleanup.policy", "compact")).await?;
    let entry = json!({ "group_id": format!("connect-{name}"), "reads": reads, "writes": writes });
    let record = ProduceRecord {
        topic: TOPIC.to_owned(),
        partition: Some(0),
        key: Some(Bytes::from(format!("service/connect-{name}"))),
        value: Some(Bytes::from(entry.to_string())),
        ..ProduceRecord::default()
    };
    Producer::new(client, ProducerConfig::default()).await?.send(record).await?.await?;
    Ok(())
}
