//! Queries over committed state, answered in JSON without knowing the application's types.
//!
//! A store takes part if its `Materialized` was given `.json()`; keys are given as text: JSON, or a bare string.

use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::serdes::SerdeRef;
use crate::store::keys::{self, Layout};
use crate::store::{StoreBackend, StoreError, StoreKind};

mod versioned;

pub use versioned::{MultiVersionedKeyQuery, VersionedKeyQuery};

/// The current value of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    pub key: String,
}

/// Keys between two bounds (both included), in the order of their serialized form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeQuery {
    pub from: Option<String>,
    pub to: Option<String>,
    pub limit: usize,
}

/// Windows that start in `from..=to`, of one key or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRangeQuery {
    pub key: Option<String>,
    pub from: TimestampMs,
    pub to: TimestampMs,
    pub limit: usize,
}

/// Sessions that overlap `from..=to`, of one key or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuery {
    pub key: Option<String>,
    pub from: TimestampMs,
    pub to: TimestampMs,
    pub limit: usize,
}

/// Any of the queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    Key(KeyQuery),
    Range(RangeQuery),
    WindowRange(WindowRangeQuery),
    Session(SessionQuery),
    VersionedKey(VersionedKeyQuery),
    MultiVersionedKey(MultiVersionedKeyQuery),
}

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    #[error("read key {text:?}: {reason}")]
    Key { text: String, reason: String },
    #[error("query store {store:?}: it is a {kind:?} store, and this query asks for {asked}")]
    Kind { store: String, kind: StoreKind, asked: &'static str },
    #[error("read store {store:?}")]
    Store { store: String, source: StoreError },
    #[error("decode an entry of store {store:?}: {reason}")]
    Decode { store: String, reason: String },
}

/// Reads a key given as text, or says why not.
type Parse = Arc<dyn Fn(&str) -> Result<Bytes, String> + Send + Sync>;

/// Decodes to JSON, or says why not.
type Decode = Arc<dyn Fn(&Bytes) -> Result<Value, String> + Send + Sync>;

/// How keys and values of a store become JSON.
#[derive(Clone)]
pub(crate) struct Json {
    pub key_bytes: Parse,
    pub key: Decode,
    pub value: Decode,
}

/// Makes a [`Json`] once the serdes are known.
pub(crate) type MakeJson<K, V> = Arc<dyn Fn(SerdeRef<K>, SerdeRef<V>, String) -> Json + Send + Sync>;

pub(crate) fn make_json<K, V>() -> MakeJson<K, V>
where
    K: Serialize + DeserializeOwned + 'static,
    V: Serialize + 'static,
{
    Arc::new(|key: SerdeRef<K>, value: SerdeRef<V>, topic: String| {
        let (key_serde, key_topic) = (key.clone(), topic.clone());
        let (encode_serde, encode_topic) = (key, topic.clone());
        Json {
            key_bytes: Arc::new(move |text| {
                let as_json = serde_json::from_str::<K>(text);
                let as_text = || serde_json::from_value::<K>(Value::String(text.to_owned()));
                let key = as_json.or_else(|error| as_text().map_err(|_| error)).map_err(|e| e.to_string())?;
                encode_serde.serialize(&encode_topic, &key).map_err(|e| e.to_string())
            }),
            key: Arc::new(move |bytes| {
                let key = key_serde.deserialize(&key_topic, bytes).map_err(|e| e.to_string())?;
                serde_json::to_value(key).map_err(|e| e.to_string())
            }),
            value: Arc::new(move |bytes| {
                let value = value.deserialize(&topic, bytes).map_err(|e| e.to_string())?;
                serde_json::to_value(value).map_err(|e| e.to_string())
            }),
        }
    })
}

/// Answers queries over a backend with JSON.
#[derive(Clone)]
pub struct QueryableStore {
    pub(crate) name: Arc<str>,
    pub(crate) layout: Layout,
    /// For window stores.
    pub(crate) window_size_ms: Option<i64>,
    pub(crate) json: Json,
}

impl QueryableStore {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> StoreKind {
        self.layout.kind
    }

    /// The serialized key, by which the owner's partition is found (`partition::for_key`).
    pub fn key_bytes(&self, key: &str) -> Result<Bytes, QueryError> {
        (self.json.key_bytes)(key).map_err(|reason| QueryError::Key { text: key.to_owned(), reason })
    }

    /// Rows `{key, value, timestamp}`, with `start` and `end` (milliseconds) for windows and sessions, in the order of
    /// key and time; with `valid_to` from stores that keep versions.
    pub fn query(&self, backend: &dyn StoreBackend, query: &Query) -> Result<Vec<Value>, QueryError> {
        match query {
            Query::Key(query) => self.by_key(backend, query),
            Query::Range(query) => self.by_range(backend, query),
            Query::WindowRange(WindowRangeQuery { key, from, to, limit }) => {
                self.expect(StoreKind::Window, "windows")?;
                self.timed(backend, key.as_deref(), (*from, *to), *limit)
            }
            Query::Session(SessionQuery { key, from, to, limit }) => {
                self.expect(StoreKind::Session, "sessions")?;
                self.timed(backend, key.as_deref(), (*from, *to), *limit)
            }
            Query::VersionedKey(query) => self.as_of(backend, query),
            Query::MultiVersionedKey(query) => self.versions(backend, query),
        }
    }

    fn expect(&self, kind: StoreKind, asked: &'static str) -> Result<(), QueryError> {
        if self.layout.kind == kind {
            return Ok(());
        }
        Err(QueryError::Kind { store: self.name.to_string(), kind: self.layout.kind, asked })
    }

    fn failed(&self, source: StoreError) -> QueryError {
        QueryError::Store { store: self.name.to_string(), source }
    }

    fn wrong(&self, reason: impl Into<String>) -> QueryError {
        QueryError::Decode { store: self.name.to_string(), reason: reason.into() }
    }

    fn row(&self, key: &Bytes, stored: &Bytes) -> Result<Value, QueryError> {
        let (timestamp, bytes) =
            keys::split_value(stored).ok_or_else(|| self.wrong("shorter than a timestamp"))?;
        let value = (self.json.value)(&bytes).map_err(|reason| self.wrong(reason))?;
        let key = (self.json.key)(key).map_err(|reason| self.wrong(reason))?;
        Ok(json!({ "key": key, "value": value, "timestamp": timestamp }))
    }

    fn by_key(&self, backend: &dyn StoreBackend, query: &KeyQuery) -> Result<Vec<Value>, QueryError> {
        match self.layout.kind {
            StoreKind::KeyValue => {}
            StoreKind::Versioned => {
                return self.as_of(backend, &VersionedKeyQuery { key: query.key.clone(), as_of: None });
            }
            _ => return self.timed(backend, Some(&query.key), (0, i64::MAX), usize::MAX),
        }
        let key = self.key_bytes(&query.key)?;
        let stored = backend.get(&key).map_err(|e| self.failed(e))?;
        stored.map(|stored| self.row(&key, &stored)).into_iter().collect()
    }

    fn by_range(&self, backend: &dyn StoreBackend, query: &RangeQuery) -> Result<Vec<Value>, QueryError> {
        if self.layout.kind == StoreKind::Versioned {
            return self.latest_in_range(backend, query);
        }
        self.expect(StoreKind::KeyValue, "a range of keys")?;
        let bytes = |text: &Option<String>| text.as_ref().map(|text| self.key_bytes(text)).transpose();
        let (from, to) = (bytes(&query.from)?, bytes(&query.to)?);
        let bound = |key: &'_ Option<Bytes>| {
            key.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(key.clone()))
        };
        let (from, to) = (bound(&from), bound(&to));
        let rows = backend
            .range(from.as_ref().map(|b| &b[..]), to.as_ref().map(|b| &b[..]))
            .map_err(|e| self.failed(e))?;
        rows.iter().take(query.limit).map(|(key, stored)| self.row(key, stored)).collect()
    }

    fn timed(
        &self,
        backend: &dyn StoreBackend,
        key: Option<&str>,
        (from, to): (TimestampMs, TimestampMs),
        limit: usize,
    ) -> Result<Vec<Value>, QueryError> {
        let key = key.map(|key| self.key_bytes(key)).transpose()?;
        let first = Layout::segment_start(self.layout.segment(from));
        let mut found = Vec::new();
        for (store_key, stored) in backend
            .range(Bound::Included(&first), Bound::Excluded(&keys::INDEX))
            .map_err(|e| self.failed(e))?
        {
            let entry =
                self.layout.parse(&store_key).ok_or_else(|| self.wrong("not a key of a windowed store"))?;
            let starts_by = if self.layout.kind == StoreKind::Session { entry.second } else { entry.time };
            if entry.time >= from && starts_by <= to && key.as_ref().is_none_or(|key| *key == entry.key) {
                found.push((entry, stored));
            }
        }
        found.sort_by(|(a, _), (b, _)| (&a.key, a.time).cmp(&(&b.key, b.time)));
        let rows = found.into_iter().take(limit).map(|(entry, stored)| {
            let mut row = self.row(&entry.key, &stored)?;
            let (start, end) = match self.layout.kind {
                StoreKind::Session => (entry.second, entry.time),
                _ => (entry.time, entry.time.saturating_add(self.window_size_ms.unwrap_or(0))),
            };
            row["start"] = start.into();
            row["end"] = end.into();
            Ok(row)
        });
        rows.collect()
    }
}
