//! Queries over committed state, answered in JSON without knowing the application's types.
//!
//! A store takes part if its `Materialized` was given `.json()`; keys are given as text: JSON, or a bare string.

use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::serdes::SerdeRef;
use crate::store::keys::{self, Layout};
use crate::store::{StoreBackend, StoreError, StoreKind};

mod page;
mod timed;
mod versioned;

pub use page::Page;
pub use versioned::{MultiVersionedKeyQuery, VersionedKeyQuery};

/// The current value of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyQuery {
    pub key: String,
}

/// Keys between two bounds (both included), in the order of their serialized form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeQuery {
    pub from: Option<String>,
    pub to: Option<String>,
    pub limit: usize,
}

/// Windows that start in `from..=to`, of one key or of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRangeQuery {
    pub key: Option<String>,
    pub from: TimestampMs,
    pub to: TimestampMs,
    pub limit: usize,
}

/// Sessions that overlap `from..=to`, of one key or of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionQuery {
    pub key: Option<String>,
    pub from: TimestampMs,
    pub to: TimestampMs,
    pub limit: usize,
}

/// Any of the queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    #[error("go on in store {store:?}: {reason}; use `next` of the page before as it was given")]
    Place { store: String, reason: &'static str },
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
        Ok(self.page(backend, query, None)?.rows.into_iter().map(|(_, row)| row).collect())
    }

    /// The rows of [`QueryableStore::query`] that come behind a place, at most as many as the query's limit, each with its
    /// own. Places of different partitions can be compared: what is sorted by them is in the order of all rows.
    pub fn page(
        &self,
        backend: &dyn StoreBackend,
        query: &Query,
        after: Option<&[u8]>,
    ) -> Result<Page, QueryError> {
        match query {
            Query::Key(query) => self.by_key(backend, query, after),
            Query::Range(query) => self.by_range(backend, query, after),
            Query::WindowRange(WindowRangeQuery { key, from, to, limit }) => {
                self.expect(StoreKind::Window, "windows")?;
                self.timed(backend, key.as_deref(), (*from, *to), *limit, after)
            }
            Query::Session(SessionQuery { key, from, to, limit }) => {
                self.expect(StoreKind::Session, "sessions")?;
                self.timed(backend, key.as_deref(), (*from, *to), *limit, after)
            }
            Query::VersionedKey(query) => self.as_of(backend, query),
            Query::MultiVersionedKey(query) => self.versions(backend, query, after),
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
        let value = (self.json.value)(&stored.slice_ref(bytes)).map_err(|reason| self.wrong(reason))?;
        let key = (self.json.key)(key).map_err(|reason| self.wrong(reason))?;
        Ok(json!({ "key": key, "value": value, "timestamp": timestamp }))
    }

    fn by_key(
        &self,
        backend: &dyn StoreBackend,
        query: &KeyQuery,
        after: Option<&[u8]>,
    ) -> Result<Page, QueryError> {
        match self.layout.kind {
            StoreKind::KeyValue => {}
            StoreKind::Versioned => {
                return self.as_of(backend, &VersionedKeyQuery { key: query.key.clone(), as_of: None });
            }
            _ => return self.timed(backend, Some(&query.key), (0, i64::MAX), usize::MAX, after),
        }
        let key = self.key_bytes(&query.key)?;
        let stored = backend.get(&key).map_err(|e| self.failed(e))?;
        let rows = stored.map(|stored| Ok((page::place(&key, &[]), self.row(&key, &stored)?)));
        Ok(Page { rows: rows.into_iter().collect::<Result<_, QueryError>>()?, more: false })
    }

    fn by_range(
        &self,
        backend: &dyn StoreBackend,
        query: &RangeQuery,
        after: Option<&[u8]>,
    ) -> Result<Page, QueryError> {
        let after = after.map(|after| self.key_of(after)).transpose()?;
        let bytes = |text: &Option<String>| text.as_ref().map(|text| self.key_bytes(text)).transpose();
        let (from, to) = (bytes(&query.from)?, bytes(&query.to)?);
        if self.layout.kind == StoreKind::Versioned {
            return self.latest_in_range(backend, (from, to), query.limit, after);
        }
        self.expect(StoreKind::KeyValue, "a range of keys")?;
        let (low, high) = (page::low(from.as_ref(), after.as_ref()), page::high(to.as_ref()));
        let mut found = Vec::new();
        backend
            .scan(low, high, &mut |key, stored| {
                found.push((key, stored));
                found.len() <= query.limit
            })
            .map_err(|e| self.failed(e))?;
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let row = |(key, stored): &(Bytes, Bytes)| Ok((page::place(key, &[]), self.row(key, stored)?));
        Ok(Page { rows: found.iter().map(row).collect::<Result<_, QueryError>>()?, more })
    }
}
