//! Global tables: every partition of a topic, decoded once, shared by all tasks of a process.
//!
//! The shell applies records in offset order, from any thread; tasks only read. A record that does not decode is an error, or is
//! skipped and counted, as the table's handler says. It can be no dead letter and not be held: every instance reads it, and no
//! task's transaction could carry it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use headwater_model::{Bytes, Offset, Record};

use crate::error::{TaskError, TopologyError};
use crate::graph::{DeserializationHandler, Graph};
use crate::node::Payload;
use crate::serdes::{SerdeError, SerdeRef};
use crate::store::{MemoryStore, StoreBackend, keys};

/// The record that does not decode, and what of it does not.
pub(crate) struct Undecoded {
    offset: Offset,
    what: &'static str,
    source: SerdeError,
}

pub(crate) trait AnyGlobal: Send + Sync {
    /// What does not decode is skipped if `skips`, and otherwise ends it; what came before that is applied.
    fn apply(&self, records: &[Record], skips: bool) -> Result<(), Undecoded>;
    fn topic(&self) -> &str;
    fn len(&self) -> usize;
    fn skipped(&self) -> u64;
    fn backend(&self) -> Option<MemoryStore>;
    fn as_any(&self) -> &dyn Any;
}

pub(crate) struct GlobalRows<K, V> {
    pub topic: String,
    pub key: SerdeRef<K>,
    pub value: SerdeRef<V>,
    rows: RwLock<HashMap<Bytes, Arc<V>>>,
    skipped: AtomicU64,
    /// Encoded rows for queries, kept only if the store can be queried.
    queried: Option<MemoryStore>,
}

impl<K, V> GlobalRows<K, V> {
    pub fn new(topic: String, key: SerdeRef<K>, value: SerdeRef<V>, queried: bool) -> Self {
        Self {
            topic,
            key,
            value,
            rows: RwLock::default(),
            skipped: AtomicU64::new(0),
            queried: queried.then(MemoryStore::new),
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<Arc<V>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Nothing for a record without a key, which is in no table.
    fn decode(&self, record: &Record) -> Result<Option<(Bytes, Option<V>)>, Undecoded> {
        let wrong = |what| move |source| Undecoded { offset: record.offset, what, source };
        let Some(key) = &record.key else { return Ok(None) };
        let key = self.key.deserialize(&self.topic, key).map_err(wrong("key"))?;
        let key = self.key.serialize(&self.topic, &key).map_err(wrong("key"))?;
        let value = record.value.as_ref().map(|value| self.value.deserialize(&self.topic, value));
        Ok(Some((key, value.transpose().map_err(wrong("value"))?)))
    }
}

impl<K: 'static, V: Payload + Sync> AnyGlobal for GlobalRows<K, V> {
    fn apply(&self, records: &[Record], skips: bool) -> Result<(), Undecoded> {
        let (mut batch, mut failed) = (Vec::new(), Ok(()));
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let (key, value) = match self.decode(record) {
                Ok(Some(decoded)) => decoded,
                Err(undecoded) if !skips => {
                    failed = Err(undecoded);
                    break;
                }
                Ok(None) | Err(_) => {
                    self.skipped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            if self.queried.is_some() {
                let stored = record.value.as_ref().map(|value| keys::stored_value(record.timestamp, value));
                batch.push((key.clone(), stored));
            }
            match value {
                Some(value) => rows.insert(key, Arc::new(value)),
                None => rows.remove(&key),
            };
        }
        drop(rows);
        if let Some(mut store) = self.queried.clone() {
            // Memory cannot fail.
            let _ = store.apply(batch);
        }
        failed
    }

    fn topic(&self) -> &str {
        &self.topic
    }

    fn len(&self) -> usize {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    fn backend(&self) -> Option<MemoryStore> {
        self.queried.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct GlobalStore {
    name: String,
    table: Arc<dyn AnyGlobal>,
    /// What does not decode is skipped.
    skips: bool,
}

/// The global tables of one process; clones share them.
#[derive(Clone)]
pub struct GlobalStores {
    stores: Arc<Vec<GlobalStore>>,
}

fn handler<'a>(graph: &'a Graph, of: &'a Option<DeserializationHandler>) -> &'a DeserializationHandler {
    of.as_ref().unwrap_or(&graph.handler)
}

/// Refuses handlers that no global table can heed.
pub(crate) fn check_handlers(graph: &mut Graph) {
    let mut errors = Vec::new();
    for global in &graph.globals {
        let what = match handler(graph, &global.handler) {
            DeserializationHandler::Fail | DeserializationHandler::Continue => continue,
            DeserializationHandler::DeadLetter(_) => "a dead letter",
            DeserializationHandler::Quarantine => "held in quarantine",
            DeserializationHandler::Choose(_) => "a function's affair",
        };
        let reason = format!(
            "a record of a global table that does not decode cannot be {what}, as every instance reads all of them: give the \
             table a rule of its own, Consumed::deserialization_handler(DeserializationHandler::Fail) or Continue"
        );
        errors.push(TopologyError::InvalidWindow { node: global.name.clone(), reason });
    }
    graph.errors.extend(errors);
}

impl GlobalStores {
    pub(crate) fn new(graph: &Graph) -> Self {
        let store = |global: &crate::graph::GlobalSpec| GlobalStore {
            name: global.name.clone(),
            table: (global.make)(),
            skips: *handler(graph, &global.handler) != DeserializationHandler::Fail,
        };
        Self { stores: Arc::new(graph.globals.iter().map(store).collect()) }
    }

    fn store(&self, store: &str) -> Result<&GlobalStore, TaskError> {
        let found = self.stores.iter().find(|found| found.name == store);
        found.ok_or_else(|| TaskError::UnknownStore { task: "global".to_owned(), store: store.to_owned() })
    }

    /// Applies records of a partition of the store's topic; those of one key must come in offset order. One that does not decode
    /// is an error, unless the table was made to go on (`DeserializationHandler`).
    pub fn apply(&self, store: &str, partition: i32, records: &[Record]) -> Result<(), TaskError> {
        let GlobalStore { name, table, skips } = self.store(store)?;
        table.apply(records, *skips).map_err(|undecoded| TaskError::Deserialize {
            node: name.clone(),
            what: undecoded.what,
            topic: table.topic().to_owned(),
            partition,
            offset: undecoded.offset,
            source: undecoded.source,
        })
    }

    /// Number of rows.
    pub fn len(&self, store: &str) -> usize {
        self.store(store).map_or(0, |store| store.table.len())
    }

    /// Whether the store has no rows.
    pub fn is_empty(&self, store: &str) -> bool {
        self.len(store) == 0
    }

    /// Records skipped because they did not decode or had no key.
    pub fn skipped(&self, store: &str) -> u64 {
        self.store(store).map_or(0, |store| store.table.skipped())
    }

    /// The rows as bytes, for `QueryableStore::query`; `None` unless the table was made with `.json()`.
    pub fn backend(&self, store: &str) -> Option<MemoryStore> {
        self.store(store).ok()?.table.backend()
    }

    pub(crate) fn typed<K: 'static, V: 'static>(&self, index: usize) -> &GlobalRows<K, V> {
        let GlobalStore { name, table, .. } = &self.stores[index];
        table.as_any().downcast_ref().unwrap_or_else(|| panic!("global store {name:?} holds other types"))
    }
}
