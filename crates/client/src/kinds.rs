//! What the catalog stream says of topics: the kind of each, which a producer keeps to on any broker.
//!
//! Headwater's broker refuses what does not fit by itself. Apache Kafka does not know of kinds, so there
//! the producer is the one who refuses.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use headwater_model::{CATALOG, Offset, Record, StreamKind, TopicPartition};
use headwater_wire::ErrorCode;
use serde_json::{Value, json};

use crate::{
    Client, ClientError, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec, ProduceRecord, Producer,
    ProducerConfig,
};

/// The configuration of a topic by which a broker shows that it knows kinds.
const KIND: &str = "headwater.stream.kind";
const POLL: Duration = Duration::from_millis(500);

/// What of the catalog has been read.
#[derive(Default)]
pub(crate) struct Catalog {
    /// The next offset to read.
    next: Offset,
    kinds: HashMap<String, StreamKind>,
}

impl Catalog {
    /// An entry that is no stream's, or whose kind is not known here, says nothing.
    fn apply(&mut self, record: &Record) {
        let name = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let Some(topic) = name.and_then(|name| name.strip_prefix("topic/")) else { return };
        let value = record.value.as_deref().and_then(|value| serde_json::from_slice::<Value>(value).ok());
        let kind = value.and_then(|value| StreamKind::parse(value.get("kind")?.as_str()?));
        match kind {
            Some(kind) => self.kinds.insert(topic.to_owned(), kind),
            None => self.kinds.remove(topic),
        };
    }

    async fn read_on(&mut self, client: &Client) -> Result<(), ClientError> {
        if client.topic(CATALOG).await?.is_none() {
            *self = Self::default();
            return Ok(());
        }
        let partition = TopicPartition::new(CATALOG, 0);
        let at = async |spec| {
            let found = client.list_offsets(&[(partition.clone(), spec)], Isolation::Committed).await?;
            Ok::<_, ClientError>(found.get(&partition).copied().unwrap_or(0))
        };
        let (start, end) = (at(OffsetSpec::Earliest).await?, at(OffsetSpec::Latest).await?);
        if self.next > end {
            // It is another topic by the same name.
            *self = Self::default();
        }
        if self.next == end {
            return Ok(());
        }
        let mut consumer = Consumer::new(client, ConsumerConfig::default());
        consumer.assign(vec![(partition.clone(), self.next.max(start))]);
        while consumer.position(&partition).is_some_and(|at| at < end) {
            for fetched in consumer.poll(POLL).await? {
                fetched.records.iter().for_each(|record| self.apply(record));
            }
        }
        self.next = end;
        Ok(())
    }
}

impl Client {
    /// The kind of a topic by the catalog, as it is now; `Unspecified` when nobody said.
    ///
    /// # Errors
    /// Those of reading the catalog.
    pub async fn kind_of(&self, topic: &str) -> Result<StreamKind, ClientError> {
        let mut catalog = self.catalog().lock().await;
        catalog.read_on(self).await?;
        Ok(catalog.kinds.get(topic).copied().unwrap_or_default())
    }

    /// Takes back what the catalog says of a topic that has gone; nothing where there is no catalog.
    ///
    /// # Errors
    /// Those of writing the catalog.
    pub async fn withdraw_kind(&self, topic: &str) -> Result<(), ClientError> {
        match self.kind_of(topic).await? {
            StreamKind::Unspecified => Ok(()),
            _ => self.write_entry(topic, None).await,
        }
    }

    /// Says in the catalog what kind a topic is; makes the catalog where there is none.
    ///
    /// # Errors
    /// Those of writing the catalog.
    pub async fn announce_kind(&self, topic: &str, kind: StreamKind) -> Result<(), ClientError> {
        self.ensure_topic(NewTopic::new(CATALOG, 1).config("cleanup.policy", "compact")).await?;
        self.write_entry(topic, Some(json!({ "kind": kind.name() }))).await
    }

    async fn write_entry(&self, topic: &str, entry: Option<Value>) -> Result<(), ClientError> {
        let record = ProduceRecord {
            topic: CATALOG.to_owned(),
            partition: Some(0),
            key: Some(Bytes::from(format!("topic/{topic}"))),
            value: entry.map(|entry| Bytes::from(entry.to_string())),
            ..ProduceRecord::default()
        };
        Producer::new(self, ProducerConfig::default()).await?.send(record).await?.await?;
        Ok(())
    }

    /// What a producer holds records to. Topics of the platform have no kind, a broker that knows kinds
    /// refuses by itself and by what is true now, and whoever may not read the catalog goes without.
    pub(crate) async fn kind_for_producer(&self, topic: &str) -> Result<StreamKind, ClientError> {
        if topic.starts_with('_') {
            return Ok(StreamKind::Unspecified);
        }
        let may_not = |error: &ClientError| error.code() == Some(ErrorCode::TopicAuthorizationFailed);
        match self.kind_of(topic).await {
            Ok(StreamKind::Unspecified) => Ok(StreamKind::Unspecified),
            Ok(kind) => match self.topic_configs(topic).await {
                Ok(configs) if configs.iter().any(|entry| entry.name == KIND) => Ok(StreamKind::Unspecified),
                Err(error) if !may_not(&error) => Err(error),
                _ => Ok(kind),
            },
            Err(error) if may_not(&error) => {
                tracing::warn!(
                    topic,
                    "the catalog may not be read ({CATALOG}), so records are not held to the stream's kind here"
                );
                Ok(StreamKind::Unspecified)
            }
            Err(error) => Err(error),
        }
    }
}
