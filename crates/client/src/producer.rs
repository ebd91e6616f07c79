//! A producer: idempotent unless told otherwise, transactional when it has a transactional id.
//!
//! `send` pushes into a batch under one lock and returns; `producer/sender.rs` is the task that takes
//! batches to their leaders. Order within a partition is kept over every retry.

mod accumulator;
mod delivery;
mod queue;
mod request;
mod sender;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use headwater_model::{Header, StreamKind, TimestampMs};
use headwater_wire::Compression;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::Lane;
use crate::{Client, ClientError};
use accumulator::{Accumulator, Pushed};
pub use delivery::{Delivered, Delivery};
pub(crate) use queue::Identity;

#[derive(Debug, Clone)]
pub struct ProducerConfig {
    pub transactional_id: Option<String>,
    /// After this long without an end the coordinator aborts a transaction.
    pub transaction_timeout: Duration,
    pub compression: Compression,
    /// A batch is sent when it has this many bytes before compression; a larger record goes alone.
    pub batch_bytes: usize,
    /// A batch is sent when it is this old.
    pub linger: Duration,
    /// `send` waits while more than this is unacknowledged.
    pub buffer_bytes: usize,
    /// A batch that is not acknowledged within this time has failed.
    pub delivery_timeout: Duration,
    pub idempotent: bool,
    /// Records that do not fit what the catalog says of their stream are refused here, on any broker. The
    /// catalog is asked when the producer first meets a topic.
    pub keeps_kinds: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            compression: Compression::None,
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            idempotent: true,
            keeps_kinds: true,
        }
    }
}

/// A record to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceRecord {
    pub topic: String,
    /// `None`: by the key's hash; without a key, to one partition after the other.
    pub partition: Option<i32>,
    /// `None`: now.
    pub timestamp: Option<TimestampMs>,
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// A record to be written that somebody else holds.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    pub topic: &'a str,
    pub partition: Option<i32>,
    pub timestamp: Option<TimestampMs>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header],
}

impl<'a> From<&'a ProduceRecord> for RecordRef<'a> {
    fn from(record: &'a ProduceRecord) -> Self {
        Self {
            topic: &record.topic,
            partition: record.partition,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        }
    }
}

/// Records that are queued under one lock; the sender waits so long.
const AT_ONCE: usize = 64;

/// What the handles and the sender share.
pub(crate) struct Shared {
    state: Mutex<Accumulator>,
    /// The sender must look.
    wake: Notify,
    /// Bytes have become free.
    space: Notify,
    /// Something that was on its way no longer is.
    pub(crate) settled: Notify,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits for space looks again: no answer of a broker tells of what was dropped.
    pub(crate) fn freed(&self) {
        self.space.notify_waiters();
    }
}

/// Clones share one producer; when the last is dropped, what was sent is still delivered, unless it
/// belongs to a transaction.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

struct Handle {
    client: Client,
    config: ProducerConfig,
    shared: Arc<Shared>,
    control: Lane,
    ending: tokio::sync::Mutex<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        self.client.close_lane(self.control);
    }
}

impl Producer {
    /// Gets a producer id. With a transactional id this fences predecessors, and aborts what they left
    /// open.
    pub async fn new(client: &Client, config: ProducerConfig) -> Result<Self, ClientError> {
        let control = client.new_lane();
        let identity = match config.idempotent || config.transactional_id.is_some() {
            true => {
                let timeout = millis(config.transaction_timeout);
                Some(
                    client
                        .init_producer_id(control, config.transactional_id.as_deref(), timeout, None)
                        .await?,
                )
            }
            false => None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(Accumulator::new(config.clone(), identity)),
            wake: Notify::new(),
            space: Notify::new(),
            settled: Notify::new(),
        });
        tokio::spawn(sender::Sender::new(client.clone(), config.clone(), Arc::clone(&shared), control).run());
        let ending = tokio::sync::Mutex::new(());
        Ok(Self { handle: Arc::new(Handle { client: client.clone(), config, shared, control, ending }) })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    pub(crate) fn client(&self) -> &Client {
        &self.handle.client
    }

    pub(crate) fn control_lane(&self) -> Lane {
        self.handle.control
    }

    pub(crate) fn transaction_timeout_ms(&self) -> i32 {
        millis(self.handle.config.transaction_timeout)
    }

    /// Held while a transaction is ended.
    pub(crate) async fn ending(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.handle.ending.lock().await
    }

    pub(crate) fn identity(&self) -> Result<(&str, Identity), ClientError> {
        let id = self.handle.config.transactional_id.as_deref();
        match (id, self.shared().lock().identity) {
            (Some(id), Some(identity)) => Ok((id, identity)),
            _ => Err(ClientError::State("this producer has no transactional id")),
        }
    }

    /// Queues a record; waits only while the buffer is full, and for the topic's metadata the first
    /// time.
    pub async fn send(&self, record: ProduceRecord) -> Result<Delivery, ClientError> {
        self.send_one(RecordRef::from(&record), now()).await
    }

    /// As [`Producer::send`] of one after the other, with less to do for each. `queued` is told the delivery of each record by its
    /// place; after an error those before it are queued.
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = RecordRef<'a>>,
        mut queued: impl FnMut(usize, Delivery),
    ) -> Result<(), ClientError> {
        let now = now();
        let mut records = records.into_iter().enumerate();
        let mut next = records.next();
        while next.is_some() {
            self.push_some(&mut next, &mut records, now, &mut queued)?;
            if let Some((place, record)) = next {
                queued(place, self.send_one(record, now).await?);
                next = records.next();
            }
        }
        Ok(())
    }

    /// Stops at a record that has to wait, or where others should have the lock.
    fn push_some<'a>(
        &self,
        next: &mut Option<(usize, RecordRef<'a>)>,
        records: &mut impl Iterator<Item = (usize, RecordRef<'a>)>,
        now: TimestampMs,
        queued: &mut impl FnMut(usize, Delivery),
    ) -> Result<(), ClientError> {
        let (mut state, mut wakes) = (self.shared().lock(), false);
        let mut failure = None;
        for _ in 0..AT_ONCE {
            let Some((place, record)) = *next else { break };
            match state.push(record, now) {
                Ok(Pushed::Done { delivery, wake }) => {
                    wakes |= wake;
                    queued(place, delivery);
                    *next = records.next();
                }
                Ok(Pushed::UnknownTopic | Pushed::NoSpace) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(state);
        if wakes {
            self.shared().wake.notify_one();
        }
        failure.map_or(Ok(()), Err)
    }

    async fn send_one(&self, record: RecordRef<'_>, now: TimestampMs) -> Result<Delivery, ClientError> {
        loop {
            match self.push(record, now)? {
                Pushed::Done { delivery, .. } => return Ok(delivery),
                Pushed::UnknownTopic => self.learn(record).await?,
                Pushed::NoSpace => {
                    if let Some(delivery) = self.send_when_space(record, now).await? {
                        return Ok(delivery);
                    }
                }
            }
        }
    }

    fn push(&self, record: RecordRef<'_>, now: TimestampMs) -> Result<Pushed, ClientError> {
        let pushed = self.shared().lock().push(record, now)?;
        if matches!(pushed, Pushed::Done { wake: true, .. }) {
            self.shared().wake.notify_one();
        }
        Ok(pushed)
    }

    /// Learns how many partitions a topic has, and of what kind it is; an explicit partition beyond them is an error.
    async fn learn(&self, record: RecordRef<'_>) -> Result<(), ClientError> {
        let mut count = self.client().partitions(record.topic).await?;
        if record.partition.is_some_and(|partition| partition >= count) {
            // There may be more by now.
            self.client().forget_topic(record.topic);
            count = self.client().partitions(record.topic).await?;
        }
        if record.partition.is_some_and(|partition| !(0..count).contains(&partition)) {
            let code = headwater_wire::ErrorCode::InvalidPartitions.code();
            return Err(ClientError::kafka(
                format!("produce to {}", record.topic),
                code,
                Some("no such partition"),
            ));
        }
        let kind = match self.handle.config.keeps_kinds {
            true => self.client().kind_for_producer(record.topic).await?,
            false => StreamKind::Unspecified,
        };
        self.shared().lock().set_topic(record.topic, count, kind);
        Ok(())
    }

    async fn send_when_space(
        &self,
        record: RecordRef<'_>,
        now: TimestampMs,
    ) -> Result<Option<Delivery>, ClientError> {
        let deadline = Instant::now() + self.handle.config.delivery_timeout;
        loop {
            let space = self.shared().space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            match self.push(record, now)? {
                Pushed::Done { delivery, .. } => return Ok(Some(delivery)),
                Pushed::UnknownTopic => return Ok(None),
                Pushed::NoSpace => self.shared().wake.notify_one(),
            }
            if tokio::time::timeout_at(deadline, space).await.is_err() {
                let cause = self.shared().lock().obstacle.clone();
                return Err(ClientError::GaveUp {
                    what: format!("wait for space in the producer's buffer for {}", record.topic),
                    after: self.handle.config.delivery_timeout,
                    last: Arc::new(cause.unwrap_or(ClientError::State("the producer's buffer is full"))),
                });
            }
        }
    }

    /// Waits until everything sent so far is acknowledged; the first failure since the last flush is
    /// returned.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let (outstanding, _flushing) = {
            let mut state = self.shared().lock();
            state.flushing += 1;
            (state.outstanding(), Flushing(self.shared()))
        };
        self.shared().wake.notify_one();
        let mut failure = None;
        for outcome in outstanding {
            if let Err(error) = outcome.wait().await {
                failure.get_or_insert(error);
            }
        }
        let first = self.shared().lock().first_failure.take();
        first.or(failure).map_or(Ok(()), Err)
    }
}

/// Counts a caller that waits in `flush`, also one that is cancelled.
struct Flushing<'a>(&'a Shared);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.lock().flushing -= 1;
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
