//! Keeps tables as the fold of topics: upsert by key, delete by tombstone, in order.
//!
//! Rows and the offsets after them (table `_headwater_offsets`) are written in one SQLite transaction, and reading resumes
//! from those offsets; so a table holds each record's effect exactly once, whoever is killed when. Only committed
//! records are read. The offsets are also committed to the consumer group `connect-<name>`, late and without promise,
//! for whoever looks at lag. Instants (timestamp-millis) become ISO 8601 text in UTC with seconds: the milliseconds are cut
//! off. A record that does not decode goes to `<topic>.dead-letter` (at least once), the rest flows.
//!
//! Partitions added to a topic are read after the next start.

mod dead_letter;
mod instant;
mod offsets;
mod progress;
mod record;
mod table;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use headwater_client::{
    Client, ClientError, Committed, Consumer, ConsumerConfig, Fetched, Isolation, OffsetSpec,
};
use headwater_model::{Offset, TopicPartition};
use headwater_registry::RegistryClient;
use tokio::sync::{mpsc, oneshot};

use crate::{SinkError, catalog};
pub use progress::SinkHandle;
use writer::Writer;

/// How long a topic that does not exist yet is waited for.
const TOPIC_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// Fetches that may wait for the writing thread; each is bounded by the consumer's `max_bytes`.
const WAITING_FETCHES: usize = 4;
/// The group's offsets are for people, who do not look more often.
const GROUP_COMMIT_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Of the connector: its consumer group is `connect-<name>`.
    pub name: String,
    /// Created when it is not there.
    pub database: PathBuf,
    pub streams: Vec<SinkStream>,
}

#[derive(Debug, Clone)]
pub struct SinkStream {
    pub topic: String,
    /// Created and widened by the sink: `_key TEXT PRIMARY KEY`, and a column for each field of the value.
    pub table: String,
}

impl SinkStream {
    pub fn new(topic: impl Into<String>, table: impl Into<String>) -> Self {
        Self { topic: topic.into(), table: table.into() }
    }
}

pub struct Sink {
    config: SinkConfig,
    client: Client,
    registry: RegistryClient,
    handle: SinkHandle,
}

type Offsets = HashMap<TopicPartition, Offset>;

/// The writing thread's other side.
struct Writing {
    fetches: mpsc::Sender<Vec<Fetched>>,
    ended: oneshot::Receiver<Result<(), SinkError>>,
}

impl Sink {
    pub fn new(config: SinkConfig, client: Client, registry: RegistryClient) -> Self {
        Self { config, client, registry, handle: SinkHandle::new() }
    }

    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Runs until `stop`, or until told to finish; returns how many records it has applied. May be dropped at any time.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<u64, SinkError> {
        tokio::select! {
            biased;
            ended = self.flow(stop) => ended?,
            () = self.tell_group() => {}
        }
        self.commit_group().await;
        Ok(self.handle.applied())
    }

    async fn flow(&self, stop: impl Future<Output = ()> + Send) -> Result<(), SinkError> {
        tokio::pin!(stop);
        let begun = tokio::select! {
            begun = self.begin() => begun,
            () = &mut stop => return Ok(()),
        };
        let (mut consumer, writing) = begun?;
        let mut until: Option<Offsets> = None;
        loop {
            if self.handle.is_finishing() && until.is_none() {
                until = Some(self.ends(&consumer.assignment()).await?);
            }
            if until.as_ref().is_some_and(|ends| reached(&consumer, ends)) {
                break;
            }
            let fetched = tokio::select! {
                () = &mut stop => break,
                fetched = consumer.poll(POLL) => fetched.map_err(self.failed("fetch"))?,
            };
            self.handle.seen(&fetched);
            // The thread may have ended with what it got last: that is told now, not when the next record comes.
            let ended = match fetched.is_empty() {
                true => writing.fetches.is_closed(),
                false => writing.fetches.send(fetched).await.is_err(),
            };
            if ended {
                break;
            }
        }
        drop(writing.fetches);
        writing.ended.await.unwrap_or_else(|_| Err(self.thread("panicked")))
    }

    /// Opens the database, and the topics where it left off.
    async fn begin(&self) -> Result<(Consumer, Writing), SinkError> {
        let mut partitions = Vec::new();
        for stream in &self.config.streams {
            let count = self.wait_for_topic(&stream.topic).await?;
            partitions.extend((0..count).map(|partition| TopicPartition::new(&stream.topic, partition)));
        }
        let (config, registry, client) = (self.config.clone(), self.registry.clone(), self.client.clone());
        let (handle, runtime) = (self.handle.clone(), tokio::runtime::Handle::current());
        let opened =
            tokio::task::spawn_blocking(move || Writer::open(config, client, registry, handle, runtime))
                .await;
        let writer = opened.map_err(|error| self.thread(&format!("did not start: {error}")))??;
        let ends = self.ends(&partitions).await?;
        let start = self.start(&partitions, writer.resume_from(), &ends).await?;
        self.handle.begin(&start, &ends);
        let topics: Vec<&str> = self.config.streams.iter().map(|stream| stream.topic.as_str()).collect();
        catalog::announce(&self.client, &self.config.name, &topics, &[]).await;
        let mut consumer = Consumer::new(
            &self.client,
            ConsumerConfig { isolation: Isolation::Committed, ..ConsumerConfig::default() },
        );
        consumer.assign(start.into_iter().collect());
        Ok((consumer, self.start_thread(writer)?))
    }

    fn start_thread(&self, writer: Writer) -> Result<Writing, SinkError> {
        let (fetches, waiting) = mpsc::channel(WAITING_FETCHES);
        let (ended_in, ended) = oneshot::channel();
        let name = format!("sink-{}", self.config.name);
        let writing = move || {
            // Nobody waits for it when the sink was dropped.
            let _ = ended_in.send(writer.run(waiting));
        };
        let spawned = std::thread::Builder::new().name(name).spawn(writing);
        spawned.map_err(|error| self.thread(&format!("did not start: {error}")))?;
        Ok(Writing { fetches, ended })
    }

    async fn wait_for_topic(&self, topic: &str) -> Result<i32, SinkError> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            if let Some(found) = self.client.topic(topic).await.map_err(self.failed("describe a topic"))? {
                return Ok(found.partitions);
            }
            if begun.elapsed() > TOPIC_PATIENCE {
                return Err(SinkError::NoTopic { name: self.config.name.clone(), topic: topic.to_owned() });
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(sink = self.config.name, topic, patience = ?TOPIC_PATIENCE, "waiting for a topic to be created");
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Where each partition is read from: after what the database holds, else from the beginning.
    async fn start(
        &self,
        of: &[TopicPartition],
        known: &Offsets,
        ends: &Offsets,
    ) -> Result<Offsets, SinkError> {
        let ask: Vec<_> = of
            .iter()
            .filter(|at| !known.contains_key(at))
            .map(|at| (at.clone(), OffsetSpec::Earliest))
            .collect();
        let mut start = Offsets::new();
        if !ask.is_empty() {
            let found = self.client.list_offsets(&ask, Isolation::Uncommitted).await;
            let found = found.map_err(self.failed("find the beginning of its topics"))?;
            start.extend(ask.into_iter().map(|(at, _)| (at.clone(), found.get(&at).copied().unwrap_or(0))));
        }
        for at in of {
            let Some(next) = known.get(at).copied() else { continue };
            let end = ends.get(at).copied().unwrap_or(0);
            if next > end {
                let (name, path) = (self.config.name.clone(), self.config.database.clone());
                let (topic, partition) = (at.topic.clone(), at.partition);
                return Err(SinkError::TopicReplaced { name, path, topic, partition, next, end });
            }
            start.insert(at.clone(), next);
        }
        Ok(start)
    }

    /// The ends by now, open transactions included: a broker may answer a commit before it is stable.
    async fn ends(&self, of: &[TopicPartition]) -> Result<Offsets, SinkError> {
        let ask: Vec<_> = of.iter().map(|at| (at.clone(), OffsetSpec::Latest)).collect();
        let found = self.client.list_offsets(&ask, Isolation::Uncommitted).await;
        found.map_err(self.failed("find the end of its topics"))
    }

    async fn tell_group(&self) {
        loop {
            self.handle.changed().await;
            self.commit_group().await;
            tokio::time::sleep(GROUP_COMMIT_EVERY).await;
        }
    }

    async fn commit_group(&self) {
        let offsets = self.handle.next_offsets().into_iter();
        let offsets: HashMap<_, _> =
            offsets.map(|(at, offset)| (at, Committed { offset, ..Committed::default() })).collect();
        if offsets.is_empty() {
            return;
        }
        let group = format!("connect-{}", self.config.name);
        let committed =
            tokio::time::timeout(Duration::from_secs(5), self.client.commit_offsets(&group, &offsets)).await;
        match committed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(group, %error, "the group's offsets are behind; the database's are not")
            }
            Err(_) => {
                tracing::warn!(group, "the group's offsets are behind: no answer; the database's are not")
            }
        }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(ClientError) -> SinkError {
        let name = self.config.name.clone();
        move |source| SinkError::Client { name, what, source }
    }

    fn thread(&self, what: &str) -> SinkError {
        SinkError::Thread { name: self.config.name.clone(), what: what.to_owned() }
    }
}

fn reached(consumer: &Consumer, ends: &Offsets) -> bool {
    ends.iter().all(|(at, end)| consumer.position(at).is_some_and(|next| next >= *end))
}
