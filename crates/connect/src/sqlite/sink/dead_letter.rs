//! Topic `<topic>.dead-letter`: records that could not be applied, as they were, with headers that say why.
//!
//! The headers have Kafka Connect's names, which tools know. A dead letter is acknowledged before the offset passes its
//! record; after a crash between the two it is there twice.

use std::collections::HashSet;

use bytes::Bytes;
use headwater_client::{Client, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_model::{Header, Record, TopicPartition};

pub(super) struct DeadLetters {
    sink: String,
    client: Client,
    producer: Option<Producer>,
    topics: HashSet<String>,
}

pub(super) struct DeadLetter {
    pub from: TopicPartition,
    pub record: Record,
    pub reason: String,
}

impl DeadLetters {
    pub fn new(sink: &str, client: Client) -> Self {
        Self { sink: sink.to_owned(), client, producer: None, topics: HashSet::new() }
    }

    /// Returns when all are acknowledged.
    pub async fn publish(&mut self, letters: Vec<DeadLetter>) -> Result<(), ClientError> {
        let producer = match &self.producer {
            Some(producer) => producer.clone(),
            None => Producer::new(&self.client, ProducerConfig::default()).await?,
        };
        self.producer = Some(producer.clone());
        for letter in letters {
            let topic = format!("{}.dead-letter", letter.from.topic);
            if !self.topics.contains(&topic) {
                self.client.ensure_topic(NewTopic::new(&topic, 1)).await?;
                self.topics.insert(topic.clone());
            }
            let (from, offset, reason) = (&letter.from, letter.record.offset, &letter.reason);
            tracing::warn!(sink = self.sink, %from, offset, reason, topic, "record goes to the dead-letter topic");
            drop(producer.send(self.record(topic, letter)).await?);
        }
        producer.flush().await
    }

    fn record(&self, topic: String, letter: DeadLetter) -> ProduceRecord {
        let DeadLetter { from, record, reason } = letter;
        let mut headers = record.headers;
        headers.extend([
            header("topic", from.topic),
            header("partition", from.partition.to_string()),
            header("offset", record.offset.to_string()),
            header("connector.name", self.sink.clone()),
            header("exception.message", reason),
        ]);
        let (timestamp, partition) = (Some(record.timestamp), Some(0));
        ProduceRecord { topic, partition, timestamp, key: record.key, value: record.value, headers }
    }
}

fn header(name: &str, value: String) -> Header {
    Header { key: format!("__connect.errors.{name}"), value: Some(Bytes::from(value)) }
}
