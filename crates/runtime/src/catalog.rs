//! What a running service says of itself in the compacted topic `_headwater.catalog`, under `service/<name>`.

use headwater_client::{Client, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_model::Bytes;
use serde_json::json;

use crate::app::Shared;

/// The topic that lists every service.
pub const TOPIC: &str = "_headwater.catalog";

/// Publishes manifest, topology, addresses and instance of this service, replacing what it said before.
pub(crate) async fn publish(client: &Client, shared: &Shared) -> Result<(), ClientError> {
    client.ensure_topic(NewTopic::new(TOPIC, 1).config("cleanup.policy", "compact")).await?;
    let config = &shared.config;
    let name =
        config.manifest.as_ref().map_or(config.application_id.as_str(), |manifest| &manifest.service.name);
    let scheme = if shared.door.is_tls() { "https" } else { "http" };
    let entry = json!({
        "manifest": config.manifest,
        "topology": shared.topology.describe(),
        "group_id": config.application_id,
        "client_id": config.client_id,
        "instance": shared.instance,
        "http": shared.endpoint().map(|address| format!("{scheme}://{address}")),
        "reads": shared.topology.source_topics(),
        "writes": shared.topology.sink_topics(),
    });
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    let record = ProduceRecord {
        topic: TOPIC.to_owned(),
        partition: Some(0),
        timestamp: None,
        key: Some(Bytes::from(format!("service/{name}"))),
        value: Some(Bytes::from(entry.to_string())),
        headers: Vec::new(),
    };
    producer.send(record).await?.await?;
    Ok(())
}
