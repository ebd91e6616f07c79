//! The writing thread: owns the database's only writing connection.
//!
//! WAL with synchronous=NORMAL: after a power failure the last transactions may be gone, each as a whole, rows and offsets
//! together; they are read again from the topic. FULL would buy nothing but a sync per transaction.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{Client, ClientError, Fetched};
use headwater_model::Record;
use headwater_registry::{RegistryClient, RegistryError};
use headwater_schema::confluent;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::super::{BUSY_TIMEOUT, failed, is_busy};
use super::dead_letter::{DeadLetter, DeadLetters};
use super::record::{Cell, RecordPlan};
use super::table::SinkTable;
use super::{Offsets, SinkConfig, SinkHandle, offsets};
use crate::SinkError;

/// A transaction takes what waits, up to this.
const BATCH_RECORDS: usize = 50_000;
const BATCH_BYTES: usize = 32 * 1024 * 1024;
/// How long a schema may be unknown: of several nodes of a registry one may have given an id of which this one has not heard.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// After an id that stayed unknown others are not waited for so long: the topic may hold something else.
const IN_VAIN: Duration = Duration::from_secs(60);
/// Attempts of `BUSY_TIMEOUT` each.
const LOCK_ATTEMPTS: u32 = 12;

pub(super) struct Writer {
    config: SinkConfig,
    connection: Connection,
    streams: Vec<Stream>,
    registry: RegistryClient,
    dead_letters: DeadLetters,
    handle: SinkHandle,
    runtime: Handle,
    next: Offsets,
    /// When a schema was waited for in vain.
    in_vain: Option<Instant>,
}

struct Stream {
    topic: String,
    table: SinkTable,
    plans: HashMap<u32, Plan>,
}

enum Plan {
    Known(RecordPlan),
    /// The registry does not know the schema.
    Unknown(String),
}

/// A record that decodes: what its key becomes.
enum Change {
    Upsert { schema: u32, body: Bytes },
    Delete,
}

/// The last change of each key, by stream.
type Changes = Vec<HashMap<Bytes, Change>>;

impl Writer {
    pub fn open(
        config: SinkConfig,
        client: Client,
        registry: RegistryClient,
        handle: SinkHandle,
        runtime: Handle,
    ) -> Result<Self, SinkError> {
        let database = |source| SinkError::database(&config.name, source);
        let opened =
            open(&config.database).map_err(|error| database(failed(&config.database, "open", error)))?;
        let (connection, next) = opened;
        let streams = config.streams.iter().map(|stream| {
            let table = SinkTable::open(&connection, &config.database, &stream.table).map_err(database)?;
            Ok(Stream { topic: stream.topic.clone(), table, plans: HashMap::new() })
        });
        let streams = streams.collect::<Result<_, SinkError>>()?;
        let dead_letters = DeadLetters::new(&config.name, client);
        Ok(Self { config, connection, streams, registry, dead_letters, handle, runtime, next, in_vain: None })
    }

    pub fn resume_from(&self) -> &Offsets {
        &self.next
    }

    /// Applies what arrives until the other side is gone.
    pub fn run(mut self, mut waiting: mpsc::Receiver<Vec<Fetched>>) -> Result<(), SinkError> {
        while let Some(mut fetched) = waiting.blocking_recv() {
            let (mut records, mut bytes) = size(&fetched);
            while records < BATCH_RECORDS
                && bytes < BATCH_BYTES
                && let Ok(more) = waiting.try_recv()
            {
                let size = size(&more);
                (records, bytes) = (records + size.0, bytes + size.1);
                fetched.extend(more);
            }
            self.apply(fetched)?;
        }
        Ok(())
    }

    fn apply(&mut self, fetched: Vec<Fetched>) -> Result<(), SinkError> {
        let (records, _) = size(&fetched);
        let mut next = Offsets::new();
        let mut changes: Changes = self.streams.iter().map(|_| HashMap::new()).collect();
        let mut dead = Vec::new();
        for part in fetched {
            let Some(stream) =
                self.streams.iter().position(|stream| stream.topic == part.topic_partition.topic)
            else {
                continue;
            };
            for record in part.records {
                match self.decode(stream, &record)? {
                    Ok((key, change)) => drop(changes[stream].insert(key, change)),
                    Err(reason) => {
                        dead.push(DeadLetter { from: part.topic_partition.clone(), record, reason })
                    }
                }
            }
            next.insert(part.topic_partition, part.next_offset);
        }
        let dead_count = dead.len() as u64;
        if !dead.is_empty() {
            let published = self.runtime.block_on(self.dead_letters.publish(dead));
            published.map_err(self.client_failed("publish dead letters"))?;
        }
        self.write(changes, &next)?;
        self.handle.committed(&next, records as u64 - dead_count, dead_count);
        self.next.extend(next);
        Ok(())
    }

    /// What a record changes, or why it cannot be applied.
    fn decode(
        &mut self,
        stream: usize,
        record: &Record,
    ) -> Result<Result<(Bytes, Change), String>, SinkError> {
        let Some(key) = record.key.clone() else { return Ok(Err("it has no key".to_owned())) };
        if std::str::from_utf8(&key).is_err() {
            return Ok(Err("its key is not UTF-8 text".to_owned()));
        }
        let Some(value) = &record.value else { return Ok(Ok((key, Change::Delete))) };
        let (schema, body) = match confluent::unframe(value) {
            Ok(framed) => framed,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(match self.plan(stream, schema)? {
            Plan::Unknown(reason) => Err(reason.clone()),
            Plan::Known(plan) => match plan.read(&body, |_, _| {}) {
                Ok(()) => Ok((key, Change::Upsert { schema, body })),
                Err(corrupt) => Err(format!("it does not decode by schema {schema}: {corrupt}")),
            },
        })
    }

    fn plan(&mut self, stream: usize, id: u32) -> Result<&Plan, SinkError> {
        if !self.streams[stream].plans.contains_key(&id) {
            let waits = self.in_vain.is_none_or(|at| at.elapsed() >= IN_VAIN);
            let plan = self.fetch_plan(stream, id, waits)?;
            if waits && matches!(plan, Plan::Unknown(_)) {
                self.in_vain = Some(Instant::now());
            }
            self.streams[stream].plans.insert(id, plan);
        }
        Ok(&self.streams[stream].plans[&id])
    }

    fn fetch_plan(&self, stream: usize, id: u32, waits: bool) -> Result<Plan, SinkError> {
        let (name, topic) = (self.config.name.clone(), self.streams[stream].topic.clone());
        let begun = Instant::now();
        let schema = loop {
            match self.runtime.block_on(self.registry.schema_by_id(id)) {
                Ok(schema) => break schema,
                Err(RegistryError::Refused { status: 404, .. }) if waits && begun.elapsed() < UNKNOWN_FOR => {
                    std::thread::sleep(ASK_AGAIN);
                }
                Err(error @ RegistryError::Refused { status: 404, .. }) => {
                    return Ok(Plan::Unknown(error.to_string()));
                }
                Err(error) => return Err(SinkError::Registry { name, topic, id, source: Box::new(error) }),
            }
        };
        let plan = RecordPlan::new(&schema);
        plan.map(Plan::Known).map_err(|unsupported| SinkError::Field {
            name,
            topic,
            id,
            field: unsupported.field,
            type_name: unsupported.type_name,
        })
    }

    /// Rows and offsets, in one transaction.
    fn write(&mut self, changes: Changes, next: &Offsets) -> Result<(), SinkError> {
        let (name, path) = (self.config.name.clone(), self.config.database.clone());
        let database = |source| SinkError::database(&name, source);
        let sqlite = |what| {
            let (name, path) = (name.clone(), path.clone());
            move |error| SinkError::database(&name, failed(&path, what, error))
        };
        let transaction = begin(&mut self.connection, &name).map_err(sqlite("begin a transaction"))?;
        // First, so that a second sink is found out before it changes a row.
        move_offsets(&transaction, &self.config, &self.next, next)?;
        for (stream, changes) in self.streams.iter_mut().zip(changes) {
            for plan in plans_used(&stream.plans, &changes) {
                stream.table.fit(&transaction, &path, plan).map_err(database)?;
            }
            put(&transaction, stream, &changes).map_err(sqlite("write rows"))?;
        }
        transaction.commit().map_err(sqlite("commit"))
    }

    fn client_failed(&self, what: &'static str) -> impl FnOnce(ClientError) -> SinkError {
        let name = self.config.name.clone();
        move |source| SinkError::Client { name, what, source }
    }
}

fn open(path: &PathBuf) -> rusqlite::Result<(Connection, Offsets)> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    // 16 MiB of pages kept (the system keeps the rest), and 64 MiB of the write-ahead log before it is folded into
    // the database.
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "wal_autocheckpoint", 16_384)?;
    connection.set_prepared_statement_cache_capacity(64);
    offsets::create(&connection)?;
    let next = offsets::read(&connection)?;
    Ok((connection, next))
}

fn move_offsets(
    transaction: &Transaction<'_>,
    config: &SinkConfig,
    from: &Offsets,
    to: &Offsets,
) -> Result<(), SinkError> {
    let (name, path) = (&config.name, &config.database);
    for (at, next) in to {
        let expected = from.get(at).copied();
        let moved = offsets::move_on(transaction, at, expected, *next);
        let moved = moved.map_err(|error| SinkError::database(name, failed(path, "write offsets", error)))?;
        moved.map_err(|found| SinkError::Contended {
            name: name.clone(),
            path: path.clone(),
            topic: at.topic.clone(),
            partition: at.partition,
            expected: expected.unwrap_or(-1),
            found,
        })?;
    }
    Ok(())
}

/// Records, and the bytes of their keys and values.
fn size(fetched: &[Fetched]) -> (usize, usize) {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let records = fetched.iter().flat_map(|part| &part.records);
    records.fold((0, 0), |(count, bytes), record| (count + 1, bytes + of(&record.key) + of(&record.value)))
}

/// Waits for the write lock, told and bounded.
fn begin<'a>(connection: &'a mut Connection, sink: &str) -> rusqlite::Result<Transaction<'a>> {
    let connection: &'a Connection = connection;
    for attempt in 1..LOCK_ATTEMPTS {
        match Transaction::new_unchecked(connection, TransactionBehavior::Immediate) {
            Err(error) if is_busy(&error) => {
                let waited: Duration = BUSY_TIMEOUT * attempt;
                tracing::warn!(sink, ?waited, "another program holds the sink database's write lock");
            }
            other => return other,
        }
    }
    Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
}

fn plans_used<'a>(plans: &'a HashMap<u32, Plan>, changes: &HashMap<Bytes, Change>) -> Vec<&'a RecordPlan> {
    let mut ids: Vec<u32> = changes.values().filter_map(Change::schema).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.iter().filter_map(|id| plans.get(id)).filter_map(Plan::known).collect()
}

fn put(
    transaction: &Transaction<'_>,
    stream: &Stream,
    changes: &HashMap<Bytes, Change>,
) -> rusqlite::Result<()> {
    let mut ordered: Vec<(&Bytes, &Change)> = changes.iter().collect();
    // By schema, so that each statement is prepared once; by key, so that neighbours share pages.
    ordered.sort_unstable_by_key(|(key, change)| (change.schema(), *key));
    for group in ordered.chunk_by(|(_, a), (_, b)| a.schema() == b.schema()) {
        match group.first().and_then(|(_, change)| change.schema()) {
            None => delete(transaction, stream, group)?,
            Some(id) => {
                if let Some(plan) = stream.plans.get(&id).and_then(Plan::known) {
                    upsert(transaction, &stream.table, plan, group)?;
                }
            }
        }
    }
    Ok(())
}

fn delete(
    transaction: &Transaction<'_>,
    stream: &Stream,
    keys: &[(&Bytes, &Change)],
) -> rusqlite::Result<()> {
    let Some(sql) = stream.table.delete() else { return Ok(()) };
    let mut statement = transaction.prepare_cached(&sql)?;
    for (key, _) in keys {
        statement.execute([text(key)])?;
    }
    Ok(())
}

fn upsert(
    transaction: &Transaction<'_>,
    table: &SinkTable,
    plan: &RecordPlan,
    rows: &[(&Bytes, &Change)],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(&table.upsert(plan))?;
    for (key, change) in rows {
        let Change::Upsert { body, .. } = change else { continue };
        statement.raw_bind_parameter(1, text(key))?;
        let mut bound = Ok(());
        let read = plan.read(body, |place, cell| {
            let cell = match &cell {
                Cell::Value(value) => *value,
                Cell::Instant(text) => ValueRef::Text(text),
            };
            if bound.is_ok() {
                bound = statement.raw_bind_parameter(place + 2, ToSqlOutput::Borrowed(cell));
            }
        });
        bound?;
        debug_assert!(read.is_ok(), "read once before, by the same plan");
        statement.raw_execute()?;
    }
    Ok(())
}

/// Seen to be UTF-8 before.
fn text(key: &Bytes) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(key))
}

impl Change {
    fn schema(&self) -> Option<u32> {
        match self {
            Self::Upsert { schema, .. } => Some(*schema),
            Self::Delete => None,
        }
    }
}

impl Plan {
    fn known(&self) -> Option<&RecordPlan> {
        match self {
            Self::Known(plan) => Some(plan),
            Self::Unknown(_) => None,
        }
    }
}
