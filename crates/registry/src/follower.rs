//! Reads `_schemas` from its beginning and stays with it.
//!
//! It never gives up: a broker that is away is warned about once for each failed attempt, and reading
//! goes on where it ended. Only when the log no longer has that place is everything read again.
//!
//! A topic that was deleted is no quiet one: what it held is nowhere any more, so it is not answered from memory. By its
//! id a new one is told from it (Kafka before 2.8 has none, and there nobody notices).

use std::sync::Arc;
use std::time::Duration;

use headwater_client::{Client, ClientError, Consumer, ConsumerConfig, Fetched, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};

use crate::record;
use crate::state::State;
use crate::store::{GONE, Shared, TOPIC};

const POLL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

pub struct Follower {
    client: Client,
    shared: Arc<Shared>,
    consumer: Consumer,
    position: Offset,
    end: Offset,
    /// The id of the topic that is followed.
    topic: Option<[u8; 16]>,
}

impl Follower {
    pub async fn begin(client: Client, shared: Arc<Shared>) -> Result<Self, ClientError> {
        let topic = client.topic_id(TOPIC).await?;
        let end = offset(&client, OffsetSpec::Latest).await?;
        let position = offset(&client, OffsetSpec::Earliest).await?;
        let consumer = consumer(&client, position);
        shared.update(position, |_| {});
        Ok(Self { client, shared, consumer, position, end, topic })
    }

    /// The end of the log when following began.
    pub fn end(&self) -> Offset {
        self.end
    }

    pub async fn run(mut self) {
        loop {
            match self.consumer.poll(POLL).await {
                Ok(batches) if batches.is_empty() => self.look_for_topic().await,
                Ok(batches) => batches.into_iter().for_each(|batch| self.apply(batch)),
                Err(ClientError::OffsetOutOfRange { offset, .. } | ClientError::Truncated { offset, .. }) => {
                    tracing::warn!(
                        offset,
                        "_schemas no longer has this offset, or not what was read; reading it again from its beginning"
                    );
                    self.begin_again().await;
                }
                Err(error) => {
                    tracing::warn!(%error, offset = self.position, "reading _schemas failed; trying again");
                    tokio::time::sleep(PAUSE).await;
                    self.consumer = consumer(&self.client, self.position);
                    self.look_for_topic().await;
                }
            }
        }
    }

    /// Whether nothing comes because nothing is written.
    async fn look_for_topic(&mut self) {
        let mut found = self.client.topic_id(TOPIC).await;
        if matches!(found, Ok(None)) && self.topic.is_some() {
            // A node of a cluster may not have heard of it yet.
            tokio::time::sleep(PAUSE).await;
            found = self.client.topic_id(TOPIC).await;
        }
        match found {
            Ok(found) if found == self.topic => {}
            Ok(None) => {
                if !self.shared.lose() {
                    tracing::error!("{GONE}");
                }
            }
            Ok(Some(_)) if self.topic.is_none() => self.topic = found.unwrap_or_default(),
            Ok(Some(_)) => {
                tracing::error!(
                    "_schemas was deleted and made anew: the registry holds what is in the new one, and what was registered before is gone"
                );
                self.begin_again().await;
            }
            // Whoever reads tells of it.
            Err(_) => {}
        }
    }

    fn apply(&mut self, batch: Fetched) {
        self.position = batch.next_offset;
        self.shared.update(batch.next_offset, |state| {
            for record in &batch.records {
                match record::read(record.key.as_deref(), record.value.as_deref()) {
                    Ok(change) => state.apply(change),
                    Err(reason) => {
                        tracing::warn!(offset = record.offset, reason, "a record of _schemas is passed over")
                    }
                }
            }
        });
    }

    async fn begin_again(&mut self) {
        let found = self.client.topic_id(TOPIC).await;
        let earliest = offset(&self.client, OffsetSpec::Earliest).await;
        match found.and_then(|topic| Ok((topic, earliest?))) {
            Ok((topic, earliest)) => {
                (self.topic, self.position) = (topic, earliest);
                self.shared.update(earliest, |state| *state = State::default());
                self.shared.find();
            }
            Err(error) => {
                tracing::warn!(%error, "the beginning of _schemas is not known; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.consumer = consumer(&self.client, self.position);
    }
}

fn place() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

fn consumer(client: &Client, position: Offset) -> Consumer {
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign(vec![(place(), position)]);
    consumer
}

async fn offset(client: &Client, spec: OffsetSpec) -> Result<Offset, ClientError> {
    let found = client.list_offsets(&[(place(), spec)], Isolation::Committed).await?;
    Ok(found.get(&place()).copied().unwrap_or(0))
}
