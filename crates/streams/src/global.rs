//! Global tables: every partition of a topic, decoded once, shared by all tasks of a process.
//!
//! The shell applies records in offset order, from any thread; tasks only read. A record that does not decode is skipped
//! and counted, because a global table has no task whose output could carry a dead letter.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use headwater_model::{Bytes, Record};

use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::SerdeRef;
use crate::store::{MemoryStore, StoreBackend, keys};

pub(crate) trait AnyGlobal: Send + Sync {
    fn apply(&self, records: &[Record]);
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

    fn decode(&self, record: &Record) -> Option<(Bytes, Option<V>)> {
        let key = self.key.deserialize(&self.topic, record.key.as_ref()?).ok()?;
        let key = self.key.serialize(&self.topic, &key).ok()?;
        match &record.value {
            None => Some((key, None)),
            Some(value) => Some((key, Some(self.value.deserialize(&self.topic, value).ok()?))),
        }
    }
}

impl<K: 'static, V: Payload + Sync> AnyGlobal for GlobalRows<K, V> {
    fn apply(&self, records: &[Record]) {
        let mut batch = Vec::new();
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let Some((key, value)) = self.decode(record) else {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
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

/// The global tables of one process; clones share them.
#[derive(Clone)]
pub struct GlobalStores {
    pub(crate) tables: Arc<Vec<(String, Arc<dyn AnyGlobal>)>>,
}

impl GlobalStores {
    fn table(&self, store: &str) -> Result<&Arc<dyn AnyGlobal>, TaskError> {
        self.tables
            .iter()
            .find(|(name, _)| name == store)
            .map(|(_, table)| table)
            .ok_or_else(|| TaskError::UnknownStore { task: "global".to_owned(), store: store.to_owned() })
    }

    /// Applies records of the store's topic; those of one key must come in offset order.
    pub fn apply(&self, store: &str, records: &[Record]) -> Result<(), TaskError> {
        self.table(store)?.apply(records);
        Ok(())
    }

    /// Number of rows.
    pub fn len(&self, store: &str) -> usize {
        self.table(store).map_or(0, |table| table.len())
    }

    /// Whether the store has no rows.
    pub fn is_empty(&self, store: &str) -> bool {
        self.len(store) == 0
    }

    /// Records skipped because they did not decode or had no key.
    pub fn skipped(&self, store: &str) -> u64 {
        self.table(store).map_or(0, |table| table.skipped())
    }

    /// The rows as bytes, for `QueryableStore::query`; `None` unless the table was made with `.json()`.
    pub fn backend(&self, store: &str) -> Option<MemoryStore> {
        self.table(store).ok()?.backend()
    }

    pub(crate) fn typed<K: 'static, V: 'static>(&self, index: usize) -> &GlobalRows<K, V> {
        self.tables[index]
            .1
            .as_any()
            .downcast_ref()
            .unwrap_or_else(|| panic!("global store {:?} holds other types", self.tables[index].0))
    }
}
