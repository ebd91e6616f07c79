//! Drives a source: its table is read on a thread of its own, its batches are published in Kafka transactions.
//!
//! One batch is one transaction, and holds the position after it. Whatever goes wrong, the way back is the way of
//! the first start: a new `InitProducerId` settles the open transaction, the committed position is read, and the
//! reading thread begins there. So there is one path, and an unknown outcome of a commit is no special case.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{Client, ClientError, NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_registry::RegistryClient;
use headwater_schema::AvroSchema;
use tokio::sync::{mpsc as channel, oneshot};

use super::position::{self, Position};
use super::row::{Layout, RowEncoder};
use super::table::TableStream;
use crate::{DatabaseError, SourceError, SourceHandle, catalog};

/// Rows of a transaction, at most.
pub(crate) const BATCH_ROWS: usize = 5_000;
/// Bytes of a transaction, at most, but for its last row.
pub(crate) const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A table that had fewer rows than that is looked at again after this long.
const PACE: Duration = Duration::from_millis(100);
/// What is left for a transaction under way when the source is told to stop.
const GRACE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 6;

/// Records on their way, and the position after them.
pub(crate) struct Batch {
    pub records: Vec<ProduceRecord>,
    pub position: Option<Position>,
    pub bytes: usize,
}

impl Batch {
    fn new() -> Self {
        Self { records: Vec::with_capacity(BATCH_ROWS), position: None, bytes: 0 }
    }

    pub fn push(&mut self, topic: &str, timestamp: Option<i64>, key: Bytes, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        let topic = topic.to_owned();
        self.records.push(ProduceRecord {
            topic,
            timestamp,
            key: Some(key),
            value,
            ..ProduceRecord::default()
        });
    }

    pub fn is_full(&self) -> bool {
        self.records.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// There is probably more.
    More,
    /// Nothing more at the moment.
    Drained,
    /// Nothing more, ever.
    Done,
}

/// The reading side, on its own thread; it may block.
pub(crate) trait Feed {
    /// Adds the next rows and sets the position after them. `finishing`: nobody will write after this.
    fn read(&mut self, batch: &mut Batch, finishing: bool) -> Result<Read, SourceError>;
    /// This position is committed.
    fn committed(&mut self, _position: Position) {}
    /// There is time for chores. `ending`: it is the last call.
    fn rest(&mut self, _ending: bool) {}
}

/// What differs between the sources. Both functions block.
pub(crate) trait Plan: Send + Sync + 'static {
    fn stream(&self) -> &TableStream;
    fn prepare(&self) -> Result<Layout, DatabaseError>;
    fn open(
        &self,
        encoder: RowEncoder,
        position: Option<Position>,
        handle: &SourceHandle,
    ) -> Result<Box<dyn Feed>, SourceError>;
}

pub(crate) struct Source {
    pub plan: Arc<dyn Plan>,
    pub client: Client,
    pub registry: RegistryClient,
    pub handle: SourceHandle,
}

impl Source {
    pub fn new(plan: impl Plan, client: Client, registry: RegistryClient) -> Self {
        Self { plan: Arc::new(plan), client, registry, handle: SourceHandle::new() }
    }

    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<u64, SourceError> {
        let told = async {
            tokio::select! {
                () = stop => self.handle.stop(),
                () = self.handle.stopping() => {}
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            ended = self.sessions() => ended?,
            () = told => tracing::warn!(source = self.name(), "stopped within a transaction: it will be aborted and published again"),
        }
        Ok(self.handle.published())
    }

    fn name(&self) -> &str {
        &self.plan.stream().name
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(ClientError) -> SourceError {
        let name = self.name().to_owned();
        move |source| match source.is_fenced() {
            true => SourceError::Fenced { name, source },
            false => SourceError::Client { name, what, source },
        }
    }

    /// Starts again from the committed position for as long as that may help.
    async fn sessions(&self) -> Result<(), SourceError> {
        let mut attempts = 0;
        loop {
            let before = self.handle.published();
            let error = match self.session().await {
                Ok(()) => return Ok(()),
                Err(error) if !error.may_heal() => return Err(error),
                Err(error) => error,
            };
            attempts = if self.handle.published() > before { 1 } else { attempts + 1 };
            if attempts >= ATTEMPTS {
                return Err(SourceError::GaveUp {
                    name: self.name().to_owned(),
                    attempts,
                    last: Box::new(error),
                });
            }
            let pause = Duration::from_millis(250) * 2_u32.pow(attempts);
            tracing::warn!(source = self.name(), attempts, ?pause, %error, "starting again from the committed position");
            tokio::select! {
                () = self.handle.stopping() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn session(&self) -> Result<(), SourceError> {
        self.handle.set_caught_up(false);
        let (producer, mut reader) = tokio::select! {
            begun = self.begin() => begun?,
            () = self.handle.stopping() => return Ok(()),
        };
        loop {
            let batch = tokio::select! {
                biased;
                () = self.handle.stopping() => None,
                batch = reader.batches.recv() => batch,
            };
            let Some(batch) = batch else { break };
            let rows = batch.records.len() as u64;
            let Some(position) = batch.position.clone() else { continue };
            self.publish(&producer, batch).await?;
            self.handle.add_published(rows);
            // The thread may have ended with an error, which is what `end` returns.
            let _ = reader.commits.send(position);
        }
        reader.end(self.name()).await
    }

    /// Everything before the first batch, in the order that exactly-once needs.
    async fn begin(&self) -> Result<(Producer, Reader), SourceError> {
        let layout = self.prepare().await?;
        let stream = self.plan.stream();
        let schema_id = self.register(&layout).await?;
        let topic = NewTopic::new(&stream.topic, stream.partitions).config("cleanup.policy", "compact");
        self.client.ensure_topic(topic).await.map_err(self.failed("create its topic"))?;
        position::ensure_topic(&self.client).await.map_err(self.failed("create the topic of positions"))?;
        let transactional_id = Some(format!("connect-{}", stream.name));
        let config = ProducerConfig { transactional_id, ..ProducerConfig::default() };
        let producer =
            Producer::new(&self.client, config).await.map_err(self.failed("settle its predecessor"))?;
        let position = position::read(&self.client, &stream.name).await?;
        tracing::info!(source = stream.name, topic = stream.topic, ?position, "source starts");
        catalog::announce(&self.client, &stream.name, &[], &[&stream.topic]).await;
        let reader = self.start_reader(RowEncoder::new(layout, schema_id), position)?;
        Ok((producer, reader))
    }

    async fn prepare(&self) -> Result<Layout, SourceError> {
        let plan = Arc::clone(&self.plan);
        let prepared = tokio::task::spawn_blocking(move || plan.prepare()).await;
        let prepared = prepared.map_err(|error| thread(self.name(), &format!("did not end: {error}")))?;
        prepared.map_err(|source| SourceError::database(self.name(), source))
    }

    async fn register(&self, layout: &Layout) -> Result<u32, SourceError> {
        let (name, subject) = (self.name().to_owned(), self.plan.stream().subject());
        let text = layout.schema.avro();
        match AvroSchema::parse(&text) {
            Ok(_) => {}
            Err(source) => return Err(SourceError::Schema { name, subject, source }),
        }
        let registered = self.registry.register(&subject, &text).await;
        registered.map_err(|error| SourceError::Registry { name, subject, source: Box::new(error) })
    }

    async fn publish(&self, producer: &Producer, batch: Batch) -> Result<(), SourceError> {
        let name = self.name();
        producer.begin_transaction().await.map_err(self.failed("begin a transaction"))?;
        let position = batch.position.map(|position| position.record(name));
        for record in batch.records.into_iter().chain(position) {
            // What becomes of each record is told by the commit.
            drop(producer.send(record).await.map_err(self.failed("publish"))?);
        }
        producer.commit_transaction().await.map_err(self.failed("commit a transaction"))
    }

    fn start_reader(&self, encoder: RowEncoder, position: Option<Position>) -> Result<Reader, SourceError> {
        let (batches_in, batches) = channel::channel(1);
        let (commits, commits_out) = mpsc::channel();
        let (ended_in, ended) = oneshot::channel();
        let (plan, handle) = (Arc::clone(&self.plan), self.handle.clone());
        let reading = move || {
            let result = plan
                .open(encoder, position, &handle)
                .and_then(|mut feed| read_all(feed.as_mut(), batches_in, &commits_out, &handle));
            // Nobody waits for it when the source was dropped.
            let _ = ended_in.send(result);
        };
        let spawned = std::thread::Builder::new().name(format!("source-{}", self.name())).spawn(reading);
        spawned.map_err(|error| thread(self.name(), &format!("did not start: {error}")))?;
        Ok(Reader { batches, commits, ended })
    }
}

fn thread(name: &str, what: &str) -> SourceError {
    SourceError::Thread { name: name.to_owned(), what: what.to_owned() }
}

/// The thread's other side.
struct Reader {
    batches: channel::Receiver<Batch>,
    commits: mpsc::Sender<Position>,
    ended: oneshot::Receiver<Result<(), SourceError>>,
}

impl Reader {
    /// Lets the thread do its last chores, and tells how it ended.
    async fn end(self, name: &str) -> Result<(), SourceError> {
        drop((self.batches, self.commits));
        self.ended.await.unwrap_or_else(|_| Err(thread(name, "panicked")))
    }
}

/// The thread's loop: reads until there is nothing more, told to finish, or left alone.
fn read_all(
    feed: &mut dyn Feed,
    batches: channel::Sender<Batch>,
    commits: &mpsc::Receiver<Position>,
    handle: &SourceHandle,
) -> Result<(), SourceError> {
    let mut in_flight = 0_usize;
    loop {
        while let Ok(position) = commits.try_recv() {
            in_flight -= 1;
            feed.committed(position);
        }
        if batches.is_closed() {
            break;
        }
        // Asked before reading: what was written before `finish` is then seen.
        let finishing = handle.is_finishing();
        let mut batch = Batch::new();
        let read = feed.read(&mut batch, finishing)?;
        if batch.position.is_some() {
            handle.set_caught_up(false);
            in_flight += 1;
            if batches.blocking_send(batch).is_err() {
                break;
            }
        } else if read == Read::Done || (read == Read::Drained && finishing) {
            break;
        } else if in_flight == 0 && read == Read::Drained {
            handle.set_caught_up(true);
        }
        feed.rest(false);
        if read == Read::Drained && !finishing {
            in_flight -= wait(feed, commits, PACE);
        }
    }
    drop(batches);
    commits.iter().for_each(|position| feed.committed(position));
    feed.rest(true);
    handle.set_caught_up(true);
    Ok(())
}

/// Passes the time with what is committed meanwhile; returns how much that was.
fn wait(feed: &mut dyn Feed, commits: &mpsc::Receiver<Position>, pace: Duration) -> usize {
    let until = Instant::now() + pace;
    let mut count = 0;
    while let Ok(position) = commits.recv_timeout(until.saturating_duration_since(Instant::now())) {
        count += 1;
        feed.committed(position);
    }
    count
}
