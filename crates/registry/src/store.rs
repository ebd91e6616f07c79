//! The shell around [`State`]: one writer, and answers only for what came back from the log.
//!
//! Two nodes on one Kafka both may write; neither asks the other. A write is decided on this node's
//! state, produced, and read back. If another node was quicker, the fold gives the version or the id to
//! it, this node sees that its record lost, puts the winner's record back on top, and decides again.
//! (Two nodes that register one new schema under two subjects in the same instant may give it two ids;
//! both stay valid.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use headwater_client::{Client, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_model::Offset;
use headwater_schema::{AvroSchema, CompatibilityLevel};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::RegistryError;
use crate::decide::{self, Registration, Wanted};
use crate::follower::Follower;
use crate::record::{self, Written};
use crate::refusal::Refusal;
use crate::state::State;

pub const TOPIC: &str = "_schemas";
/// What is said instead of what is remembered.
pub const GONE: &str = "the topic _schemas was deleted, and with it all schemas: restore a backup, or restart the node, which makes an empty one";
/// A write that is not on disk and read back by then is answered as timed out.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Each lost race means that another node has made progress.
const RACES: usize = 20;

/// What the follower writes and everyone reads.
pub struct Shared {
    state: RwLock<State>,
    /// The next offset to be read: everything before it is in the state.
    applied: watch::Sender<Offset>,
    /// The topic is not there any more.
    lost: AtomicBool,
}

impl Shared {
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn update(&self, applied: Offset, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.applied.send_replace(applied);
    }

    /// Whether it was known already.
    pub fn lose(&self) -> bool {
        self.lost.swap(true, Ordering::AcqRel)
    }

    /// There is a topic to follow again.
    pub fn find(&self) {
        self.lost.store(false, Ordering::Release);
    }

    async fn reached(&self, next: Offset) {
        // The sender lives as long as `self`.
        let _ = self.applied.subscribe().wait_for(|applied| *applied >= next).await;
    }
}

pub struct Store {
    shared: Arc<Shared>,
    client: Client,
    /// Whoever holds it writes. It is replaced after an error: what it had under way is unknown then.
    writer: Mutex<Option<Producer>>,
    following: JoinHandle<()>,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.following.abort();
    }
}

const POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";

/// Whoever made the topic before, be it by asking for it, may have made one that deletes schemas when they are old.
async fn keep(client: &Client) -> Result<(), RegistryError> {
    let policy = match client.topic_config(TOPIC, POLICY).await {
        Ok(policy) => policy.and_then(|entry| entry.value).unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "whether _schemas keeps schemas for ever is not known: it needs cleanup.policy=compact");
            return Ok(());
        }
    };
    if policy == COMPACT {
        return Ok(());
    }
    let wanted = [(POLICY.to_owned(), Some(COMPACT.to_owned()))];
    let changed = client.alter_topic_configs(TOPIC, &wanted).await;
    changed.map_err(|source| RegistryError::Policy { topic: TOPIC, policy: policy.clone(), source })?;
    tracing::warn!(
        policy,
        "_schemas had another cleanup.policy, by which schemas are deleted when they are old; it has compact now"
    );
    Ok(())
}

impl Store {
    pub async fn start(client: Client) -> Result<Arc<Self>, RegistryError> {
        client.ensure_topic(NewTopic::new(TOPIC, 1).config("cleanup.policy", "compact")).await?;
        if let Some(found) = client.topic(TOPIC).await?.filter(|found| found.partitions != 1) {
            return Err(RegistryError::Topic { topic: TOPIC, partitions: found.partitions });
        }
        keep(&client).await?;
        let shared = Arc::new(Shared {
            state: RwLock::default(),
            applied: watch::Sender::new(0),
            lost: AtomicBool::new(false),
        });
        let follower = Follower::begin(client.clone(), Arc::clone(&shared)).await?;
        let end = follower.end();
        let following = tokio::spawn(follower.run());
        let store = Self { shared, client, writer: Mutex::new(None), following };
        tokio::time::timeout(START_TIMEOUT, store.shared.reached(end))
            .await
            .map_err(|_| RegistryError::TimedOut { what: "reading _schemas", after: START_TIMEOUT })?;
        store.restore_winners().await;
        Ok(Arc::new(store))
    }

    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state()
    }

    /// Whether the topic was deleted, so that nothing that is remembered is true.
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Acquire)
    }

    /// The schema's id, old or new.
    pub async fn register(&self, subject: &str, schema: &AvroSchema) -> Result<u32, Refusal> {
        if let Some((_, version)) = self.state().find(subject, schema, false) {
            return Ok(version.id);
        }
        let mut writer = self.writer.lock().await;
        for _ in 0..RACES {
            let decided = decide::register(&self.state(), subject, schema)?;
            let (number, id, record) = match decided {
                Registration::Known(id) => return Ok(id),
                Registration::New { version, id, record } => (version, id, record),
            };
            self.write(&mut writer, vec![record]).await?;
            if self
                .state()
                .version(subject, number)
                .is_some_and(|version| version.id == id && version.schema.is(schema))
            {
                return Ok(id);
            }
            tracing::info!(subject, version = number, "another node registered first; trying again");
            let winners = self.winners();
            self.write(&mut writer, winners).await?;
        }
        Err(Refusal::TimedOut(format!("other nodes registered first {RACES} times in a row")))
    }

    pub async fn delete_subject(&self, subject: &str, permanent: bool) -> Result<Vec<i32>, Refusal> {
        let mut writer = self.writer.lock().await;
        let (versions, records) = decide::delete_subject(&self.state(), subject, permanent)?;
        self.write(&mut writer, records).await?;
        Ok(versions)
    }

    pub async fn delete_version(
        &self,
        subject: &str,
        wanted: Wanted,
        permanent: bool,
    ) -> Result<i32, Refusal> {
        let mut writer = self.writer.lock().await;
        let (number, records) = decide::delete_version(&self.state(), subject, wanted, permanent)?;
        self.write(&mut writer, records).await?;
        Ok(number)
    }

    pub async fn set_level(
        &self,
        subject: Option<&str>,
        level: Option<CompatibilityLevel>,
    ) -> Result<(), Refusal> {
        let mut writer = self.writer.lock().await;
        self.write(&mut writer, vec![record::level_of(subject, level)]).await
    }

    fn winners(&self) -> Vec<Written> {
        let state = self.state();
        let again = |(subject, number, version): (&str, i32, &crate::state::Version)| {
            record::marked(subject, number, &version.members, version.deleted)
        };
        state.contested().map(again).collect()
    }

    /// A node may have ended between losing a race and putting the winner back.
    async fn restore_winners(&self) {
        let winners = self.winners();
        if let Err(error) = self.write(&mut *self.writer.lock().await, winners).await {
            tracing::warn!(%error, "could not put back the records of contested versions in _schemas; the next start tries again");
        }
    }

    /// Produces and reads back.
    async fn write(&self, writer: &mut Option<Producer>, records: Vec<Written>) -> Result<(), Refusal> {
        if records.is_empty() {
            return Ok(());
        }
        let written = async {
            let last = self.produce(writer, records).await?;
            self.shared.reached(last + 1).await;
            Ok(())
        };
        match tokio::time::timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                *writer = None;
                let error: ClientError = error;
                tracing::warn!(%error, "a write to _schemas failed");
                Err(Refusal::Store(error.to_string()))
            }
            Err(_) => {
                *writer = None;
                tracing::warn!(after = ?WRITE_TIMEOUT, "a write to _schemas was not read back in time");
                Err(Refusal::TimedOut(format!(
                    "the write was not confirmed within {WRITE_TIMEOUT:?}; trying again is safe"
                )))
            }
        }
    }

    /// The offset of the last record.
    async fn produce(
        &self,
        writer: &mut Option<Producer>,
        records: Vec<Written>,
    ) -> Result<Offset, ClientError> {
        let producer = match writer {
            Some(producer) => producer,
            None => {
                let config = ProducerConfig {
                    linger: Duration::ZERO,
                    delivery_timeout: WRITE_TIMEOUT,
                    ..ProducerConfig::default()
                };
                writer.insert(Producer::new(&self.client, config).await?)
            }
        };
        let mut deliveries = Vec::with_capacity(records.len());
        for Written { key, value } in records {
            let record = ProduceRecord {
                topic: TOPIC.to_owned(),
                partition: Some(0),
                key: Some(key),
                value,
                ..ProduceRecord::default()
            };
            deliveries.push(producer.send(record).await?);
        }
        let mut last = -1;
        for delivery in deliveries {
            last = delivery.await?.offset.max(last);
        }
        Ok(last)
    }
}
