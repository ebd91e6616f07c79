//! Reads `_schemas` from its beginning and stays with it.
//!
//! It never gives up: a broker that is away is warned about once for each failed attempt, and reading
//! goes on where it ended. Only when the log no longer has that place is everything read again. Until it is read, what
//! was known before is answered: a part of it would look like schemas that are not there.
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
    again: Option<Again>,
}

/// What is being read again.
struct Again {
    state: State,
    /// The end of the log when that began.
    end: Offset,
}

impl Follower {
    pub async fn begin(client: Client, shared: Arc<Shared>) -> Result<Self, ClientError> {
        let topic = client.topic_id(TOPIC).await?;
        let end = offset(&client, OffsetSpec::Latest).await?;
        let position = offset(&client, OffsetSpec::Earliest).await?;
        let consumer = consumer(&client, position);
        shared.update(position, |_| {});
        Ok(Self { client, shared, consumer, position, end, topic, again: None })
    }

    /// The end of the log when following began.
    pub fn end(&self) -> Offset {
        self.end
    }

    pub async fn run(mut self) {
        loop {
            match self.consumer.poll(POLL).await {
                Ok(batches) if batches.is_empty() => {
                    self.look_for_end().await;
                    self.look_for_topic().await;
                }
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

    /// The log may have become shorter while it is read again.
    async fn look_for_end(&mut self) {
        let Some(again) = &mut self.again else { return };
        // Whoever reads tells of an error.
        if let Ok(end) = offset(&self.client, OffsetSpec::Latest).await {
            again.end = end;
            self.take_over();
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
            Ok(found) if found == self.topic => {
                // Who was asked had not heard of it for long, or did not tell.
                if found.is_some() && self.again.is_none() {
                    self.shared.find();
                }
            }
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
        match &mut self.again {
            None => self.shared.update(batch.next_offset, |state| fold(state, &batch)),
            Some(again) => {
                fold(&mut again.state, &batch);
                self.take_over();
            }
        }
    }

    /// What is read again counts as soon as it is whole.
    fn take_over(&mut self) {
        if let Some(again) = self.again.take_if(|again| self.position >= again.end) {
            self.shared.update(self.position, |state| *state = again.state);
            self.shared.find();
        }
    }

    async fn begin_again(&mut self) {
        match self.bounds().await {
            Ok((topic, earliest, end)) => {
                if topic != self.topic {
                    self.shared.lose();
                }
                (self.topic, self.position) = (topic, earliest);
                // Whoever has written waits until it is read again.
                self.shared.update(earliest, |_| {});
                self.again = Some(Again { state: State::default(), end });
                self.take_over();
            }
            Err(error) => {
                tracing::warn!(%error, "the beginning of _schemas is not known; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.consumer = consumer(&self.client, self.position);
    }

    async fn bounds(&self) -> Result<(Option<[u8; 16]>, Offset, Offset), ClientError> {
        let topic = self.client.topic_id(TOPIC).await?;
        let end = offset(&self.client, OffsetSpec::Latest).await?;
        Ok((topic, offset(&self.client, OffsetSpec::Earliest).await?, end))
    }
}

fn fold(state: &mut State, batch: &Fetched) {
    for record in &batch.records {
        match record::read(record.key.as_deref(), record.value.as_deref()) {
            Ok(change) => state.apply(change),
            Err(reason) => {
                tracing::warn!(offset = record.offset, reason, "a record of _schemas is passed over")
            }
        }
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
