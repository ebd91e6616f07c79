//! What the events of a stream are (`--kind`): a configuration of the topic on Headwater's broker, which then refuses
//! what does not fit, and an entry `topic/NAME` in `_headwater.catalog` on every broker.

use std::time::Duration;

use bytes::Bytes;
use headwater_client::{
    Client, ClientError, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec, ProduceRecord, Producer,
    ProducerConfig,
};
use headwater_model::TopicPartition;
use serde_json::{Value, json};

const CATALOG: &str = "_headwater.catalog";
pub const KEY: &str = "headwater.stream.kind";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Facts without a key
    Unkeyed,
    /// Facts about what the key names
    Keyed,
    /// States: the last one of each key counts, a null value deletes; compacted
    Entity,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unkeyed => "unkeyed",
            Self::Keyed => "keyed",
            Self::Entity => "entity",
        }
    }
}

/// Creates a topic of a kind; says whether its broker enforces it.
pub async fn create(
    client: &Client,
    wanted: &NewTopic,
    configs: &[(String, String)],
    kind: Kind,
) -> Result<bool, ClientError> {
    let topic = |own: bool| {
        let mut topic = wanted.clone();
        if own {
            topic = topic.config(KEY, kind.name());
        } else if kind == Kind::Entity && !configs.iter().any(|(key, _)| key == "cleanup.policy") {
            topic = topic.config("cleanup.policy", "compact");
        }
        configs.iter().fold(topic, |topic, (key, value)| topic.config(key, value))
    };
    let enforced = match client.create_topic(topic(true)).await {
        Ok(_) => true,
        // Apache Kafka does not know the key.
        Err(error) if error.to_string().contains(KEY) && !error.to_string().contains("cleanup.policy") => {
            client.create_topic(topic(false)).await?;
            false
        }
        Err(error) => return Err(error),
    };
    announce(client, &wanted.name, kind).await?;
    Ok(enforced)
}

async fn announce(client: &Client, name: &str, kind: Kind) -> Result<(), ClientError> {
    client.ensure_topic(NewTopic::new(CATALOG, 1).config("cleanup.policy", "compact")).await?;
    let record = ProduceRecord {
        topic: CATALOG.to_owned(),
        partition: Some(0),
        key: Some(Bytes::from(format!("topic/{name}"))),
        value: Some(Bytes::from(json!({ "kind": kind.name() }).to_string())),
        ..ProduceRecord::default()
    };
    Producer::new(client, ProducerConfig::default()).await?.send(record).await?.await?;
    Ok(())
}

/// The kind that the catalog knows of a topic.
pub async fn of(client: &Client, name: &str) -> Result<Option<String>, ClientError> {
    if client.topic(CATALOG).await?.is_none() {
        return Ok(None);
    }
    let partition = TopicPartition::new(CATALOG, 0);
    let ask = |spec| [(partition.clone(), spec)];
    let start = client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Uncommitted).await?;
    let end = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Uncommitted).await?;
    let (start, end) =
        (start.get(&partition).copied().unwrap_or(0), end.get(&partition).copied().unwrap_or(0));
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign(vec![(partition.clone(), start)]);
    let key = format!("topic/{name}");
    let mut kind = None;
    while consumer.position(&partition).is_some_and(|at| at < end) {
        for fetched in consumer.poll(Duration::from_millis(500)).await? {
            for record in
                fetched.records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()))
            {
                let value =
                    record.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
                kind = value.and_then(|value| Some(value.get("kind")?.as_str()?.to_owned()));
            }
        }
    }
    Ok(kind)
}
