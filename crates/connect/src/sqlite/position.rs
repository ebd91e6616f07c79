//! Where a source is in its table, kept in the compacted topic `_headwater.connectors` under the source's name.
//!
//! A position is produced in the transaction of the records it stands for. A topic rather than a consumer group's
//! offsets: those expire when a group is idle for a week, and hold 4 KiB of opaque text at most. It is read back
//! read_committed and only after `InitProducerId` has settled the predecessor's transaction; never before.

use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{
    Client, ClientError, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec, ProduceRecord,
};
use headwater_model::{TopicPartition, partition};
use serde::{Deserialize, Serialize};

use crate::SourceError;

/// Key: the source's name. Value: its position as JSON.
pub const POSITIONS_TOPIC: &str = "_headwater.connectors";

/// A source waits for the open transactions of the others on its partition; with several there are fewer.
const PARTITIONS: i32 = 8;

/// More than the transaction timeout of another source that was killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// A value that rows are ordered by. Real numbers are left out: JSON would not keep them to the bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum KeyValue {
    Integer(i64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Position {
    /// All rows of this outbox up to `sequence` are published.
    Outbox { outbox: String, sequence: i64 },
    /// All rows up to this `(updated_at, id)` are published.
    Query { after: Vec<KeyValue> },
    /// The rows up to this key are published; with `done`, the whole table.
    Bulk { label: String, after: Option<Vec<KeyValue>>, done: bool },
}

impl Position {
    pub fn describe(&self) -> String {
        match self {
            Self::Outbox { outbox, .. } => format!("outbox {outbox}"),
            Self::Query { .. } => "a query source".to_owned(),
            Self::Bulk { .. } => "a bulk source".to_owned(),
        }
    }

    pub fn record(&self, name: &str) -> ProduceRecord {
        // Strings, integers and lists of them: nothing in there that JSON cannot say.
        let value = serde_json::to_vec(self).unwrap_or_default();
        ProduceRecord {
            topic: POSITIONS_TOPIC.to_owned(),
            key: Some(Bytes::copy_from_slice(name.as_bytes())),
            value: Some(Bytes::from(value)),
            ..ProduceRecord::default()
        }
    }
}

pub(crate) async fn ensure_topic(client: &Client) -> Result<(), ClientError> {
    client.ensure_topic(NewTopic::new(POSITIONS_TOPIC, PARTITIONS).config("cleanup.policy", "compact")).await
}

/// The last committed position of `name`.
pub(crate) async fn read(client: &Client, name: &str) -> Result<Option<Position>, SourceError> {
    let failed = |source| SourceError::Client { name: name.to_owned(), what: "read its position", source };
    let Some(value) = last_value(client, name).await.map_err(failed)? else { return Ok(None) };
    let position = serde_json::from_slice(&value);
    position.map(Some).map_err(|error| SourceError::Position {
        name: name.to_owned(),
        topic: POSITIONS_TOPIC,
        reason: error.to_string(),
    })
}

async fn last_value(client: &Client, name: &str) -> Result<Option<Bytes>, ClientError> {
    let partitions = client.topic(POSITIONS_TOPIC).await?.map_or(PARTITIONS, |topic| topic.partitions);
    let at = TopicPartition::new(POSITIONS_TOPIC, partition::for_key(name.as_bytes(), partitions));
    let start = offset(client, &at, OffsetSpec::Earliest).await?;
    // Up to the high watermark, not to the last stable offset: our record may lie behind the first record of a
    // transaction that another source has open.
    let end = offset(client, &at, OffsetSpec::Latest).await?;
    let mut consumer = Consumer::new(
        client,
        ConsumerConfig { isolation: Isolation::Committed, ..ConsumerConfig::default() },
    );
    consumer.assign(vec![(at.clone(), start)]);
    let (mut last, mut moved, mut told) = (None, Instant::now(), false);
    while consumer.position(&at).is_some_and(|next| next < end) {
        for fetched in consumer.poll(Duration::from_millis(500)).await? {
            moved = Instant::now();
            let ours =
                fetched.records.into_iter().filter(|record| record.key.as_deref() == Some(name.as_bytes()));
            if let Some(record) = ours.last() {
                last = record.value;
            }
        }
        if moved.elapsed() > PATIENCE {
            return Err(ClientError::State(
                "open transactions on _headwater.connectors do not end; is the broker healthy?",
            ));
        }
        if moved.elapsed() > Duration::from_secs(2) && !told {
            told = true;
            tracing::warn!(source = name, partition = %at, "waiting for another source's open transaction to end");
        }
    }
    Ok(last)
}

async fn offset(client: &Client, at: &TopicPartition, spec: OffsetSpec) -> Result<i64, ClientError> {
    let found = client.list_offsets(&[(at.clone(), spec)], Isolation::Uncommitted).await?;
    Ok(found.get(at).copied().unwrap_or(0))
}
