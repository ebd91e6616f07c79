//! What an example is fed, and what comes back.

use anyhow::{Context, Result};
use headwater::client::ProduceRecord;
use headwater::streams::serdes::{json, string};
use headwater::streams::{Bytes, Record, TimestampMs, TopologyTestDriver};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record on its way to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub topic: String,
    /// `None`: by the key.
    pub partition: Option<i32>,
    pub key: String,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    pub at: TimestampMs,
}

impl Event {
    /// With a value in JSON.
    ///
    /// # Panics
    /// When the value has no JSON form: maps with keys that are no text.
    pub fn new<V: Serialize>(
        topic: impl Into<String>,
        key: impl Into<String>,
        value: &V,
        at: TimestampMs,
    ) -> Self {
        let value = serde_json::to_vec(value).map(Bytes::from);
        let value = value.unwrap_or_else(|error| panic!("an event has no JSON form: {error}"));
        Self { topic: topic.into(), partition: None, key: key.into(), value: Some(value), at }
    }

    pub fn tombstone(topic: impl Into<String>, key: impl Into<String>, at: TimestampMs) -> Self {
        Self { topic: topic.into(), partition: None, key: key.into(), value: None, at }
    }

    pub(crate) fn produced(self) -> ProduceRecord {
        ProduceRecord {
            topic: self.topic,
            partition: self.partition,
            timestamp: Some(self.at),
            key: Some(Bytes::from(self.key)),
            value: self.value,
            headers: Vec::new(),
        }
    }

    fn record(self) -> Record {
        Record {
            timestamp: self.at,
            key: Some(Bytes::from(self.key)),
            value: self.value,
            ..Record::default()
        }
    }
}

/// One record for every partition, so that each of them knows that it is `at`: what is final by then comes out.
pub fn ends<V: Serialize>(topic: &str, partitions: i32, value: &V, at: TimestampMs) -> Vec<Event> {
    let end = |partition| Event {
        partition: Some(partition),
        ..Event::new(topic, format!("end-{partition}"), value, at)
    };
    (0..partitions).map(end).collect()
}

/// A record that came out: key, value (`None` is a tombstone) and time.
pub type Row<V> = (String, Option<V>, TimestampMs);

/// Hands events to a topology in a test, one after the other.
pub fn pipe(driver: &mut TopologyTestDriver, events: impl IntoIterator<Item = Event>) -> Result<()> {
    for event in events {
        let topic = event.topic.clone();
        let piped = match event.partition {
            None => driver.pipe_record(&topic, event.record()),
            Some(partition) => driver.pipe_to(&topic, partition, event.record()),
        };
        piped.with_context(|| format!("piping into {topic}"))?;
    }
    Ok(())
}

/// What a topology in a test has written to a topic since the last call.
pub fn read<V: Serialize + DeserializeOwned + 'static>(
    driver: &mut TopologyTestDriver,
    topic: &str,
) -> Vec<Row<V>> {
    driver.read(topic, (&string(), &json()))
}
