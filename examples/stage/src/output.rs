//! A topic that is read from its beginning.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater::client::{Client, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater::streams::{Record, TopicPartition};
use serde::de::DeserializeOwned;

use crate::event::Row;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Committed records of a topic with keys in text and values in JSON, each partition in order.
pub struct Output<V> {
    topic: String,
    consumer: Consumer,
    rows: Vec<Row<V>>,
    values: PhantomData<V>,
}

impl<V: DeserializeOwned> Output<V> {
    pub(crate) async fn open(client: &Client, topic: String) -> Result<Self> {
        let known = client.topic(&topic).await?.with_context(|| format!("there is no topic {topic}"))?;
        let all: Vec<_> = (0..known.partitions)
            .map(|partition| (TopicPartition::new(&topic, partition), OffsetSpec::Earliest))
            .collect();
        let starts = client.list_offsets(&all, Isolation::Committed).await?;
        let mut consumer = Consumer::new(client, ConsumerConfig::default());
        consumer.assign(starts.into_iter().collect());
        Ok(Self { topic, consumer, rows: Vec::new(), values: PhantomData })
    }

    /// What has been read.
    pub fn rows(&self) -> &[Row<V>] {
        &self.rows
    }

    /// The last value of each key, tombstones left out.
    pub fn table(&self) -> BTreeMap<String, &V> {
        let mut table = BTreeMap::new();
        for (key, value, _) in &self.rows {
            match value {
                Some(value) => table.insert(key.clone(), value),
                None => table.remove(key),
            };
        }
        table
    }

    /// Reads on until `done` holds.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !done(self) {
            let read = self.rows.len();
            ensure!(
                begun.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}; {} has {read} records",
                self.topic
            );
            self.poll(Duration::from_millis(100)).await?;
        }
        Ok(())
    }

    /// Reads what is there; call it when nobody writes any more.
    pub async fn to_the_end(&mut self) -> Result<()> {
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.rows.len();
            self.poll(Duration::from_millis(200)).await?;
            quiet = if self.rows.len() == before { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    async fn poll(&mut self, wait: Duration) -> Result<()> {
        for fetched in self.consumer.poll(wait).await? {
            for record in fetched.records {
                self.rows.push(row(record).with_context(|| format!("a record of {}", self.topic))?);
            }
        }
        Ok(())
    }
}

fn row<V: DeserializeOwned>(record: Record) -> Result<Row<V>> {
    let key = record.key.context("it has no key")?;
    let key = String::from_utf8(key.to_vec()).context("its key is no text")?;
    let value = record.value.map(|value| serde_json::from_slice(&value)).transpose();
    Ok((key, value.context("its value is not the JSON that was expected")?, record.timestamp))
}
