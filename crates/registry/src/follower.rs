//! Reads `_schemas` from its beginning and stays with it.
//!
//! It never gives up: a broker that is away is warned about once for each failed attempt, and reading
//! goes on where it ended. Only when the log no longer has that place is everything read again.

use std::sync::Arc;
use std::time::Duration;

use headwater_client::{Client, ClientError, Consumer, ConsumerConfig, Fetched, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};

use crate::record;
use crate::state::State;
use crate::store::{Shared, TOPIC};

const POLL: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

pub struct Follower {
    client: Client,
    shared: Arc<Shared>,
    consumer: Consumer,
    position: Offset,
    end: Offset,
}

impl Follower {
    pub async fn begin(client: Client, shared: Arc<Shared>) -> Result<Self, ClientError> {
        let end = offset(&client, OffsetSpec::Latest).await?;
        let position = offset(&client, OffsetSpec::Earliest).await?;
        let consumer = consumer(&client, position);
        shared.update(position, |_| {});
        Ok(Self { client, shared, consumer, position, end })
    }

    /// The end of the log when following began.
    pub fn end(&self) -> Offset {
        self.end
    }

    pub async fn run(mut self) {
        loop {
            match self.consumer.poll(POLL).await {
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
                }
            }
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
        match offset(&self.client, OffsetSpec::Earliest).await {
            Ok(earliest) => {
                self.position = earliest;
                self.shared.update(earliest, |state| *state = State::default());
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
