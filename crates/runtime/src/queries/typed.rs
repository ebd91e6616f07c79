//! Questions to one store, with keys and values of the application's own types.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use headwater_model::TimestampMs;
use headwater_streams::{
    KeyQuery, MultiVersionedKeyQuery, Query, RangeQuery, SessionQuery, VersionedKeyQuery, WindowRangeQuery,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Place, QueryResultInfo};
use super::client::{Queries, key_text};
use super::failure::{Merged, StateQueryError};
use super::position::Position;
use super::serving::Staleness;

/// Rows of an answer unless [`StoreQueries::limit`] says otherwise.
pub(crate) const DEFAULT_LIMIT: usize = 1000;

/// A row of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<K, V> {
    pub key: K,
    pub value: V,
    /// Milliseconds since 1970, as all times here.
    pub timestamp: TimestampMs,
    /// Of a window or session.
    #[serde(default)]
    pub start: Option<TimestampMs>,
    #[serde(default)]
    pub end: Option<TimestampMs>,
    /// When a version ended; `None` while it holds.
    #[serde(default)]
    pub valid_to: Option<TimestampMs>,
}

/// An answer, and what it was given by (KIP-796).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateQueryResult<T> {
    pub result: T,
    /// Where the rows go on, if the limit cut them off: see [`StoreQueries::after`].
    pub next: Option<Place>,
    /// What the state had seen. A question that carries it is answered by a state that is no older; copies know no more of
    /// it than what they were asked for.
    pub position: Position,
    /// Who answered for each task, or for `global`.
    pub partition_results: BTreeMap<String, QueryResultInfo>,
}

/// Questions to one store. Unless told otherwise the instances that run its tasks answer, at once or not at all, and
/// [`StateQueryError::is_retriable`] says whether to ask again.
pub struct StoreQueries<K, V> {
    queries: Queries,
    store: String,
    limit: usize,
    after: Option<Place>,
    staleness: Staleness,
    position: Position,
    timeout: Duration,
    types: PhantomData<fn() -> (K, V)>,
}

/// Whatever the types are.
impl<K, V> Clone for StoreQueries<K, V> {
    fn clone(&self) -> Self {
        Self {
            queries: self.queries.clone(),
            store: self.store.clone(),
            limit: self.limit,
            after: self.after.clone(),
            staleness: self.staleness,
            position: self.position.clone(),
            timeout: self.timeout,
            types: PhantomData,
        }
    }
}

type Answer<T> = Result<StateQueryResult<T>, StateQueryError>;

impl<K: Serialize + DeserializeOwned, V: DeserializeOwned> StoreQueries<K, V> {
    pub(super) fn new(queries: Queries, store: String) -> Self {
        Self {
            queries,
            store,
            limit: DEFAULT_LIMIT,
            after: None,
            staleness: Staleness::none(),
            position: Position::empty(),
            timeout: Duration::ZERO,
            types: PhantomData,
        }
    }

    /// Lets copies answer that are no further behind.
    #[must_use]
    pub fn max_staleness(self, staleness: Staleness) -> Self {
        Self { staleness, ..self }
    }

    /// The state has to have seen as much as this (KIP-796's `PositionBound`).
    #[must_use]
    pub fn at_least(self, position: Position) -> Self {
        Self { position, ..self }
    }

    /// How long to wait for that, and for a task that nobody runs because the group rebalances.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The most rows of an answer, 1000 by default.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Goes on behind the rows of the answer that had this `next`.
    #[must_use]
    pub fn after(self, place: Place) -> Self {
        Self { after: Some(place), ..self }
    }

    /// The row of a key; of a store with versions the latest.
    pub async fn get(&self, key: &K) -> Answer<Option<Row<K, V>>> {
        self.one(Query::Key(KeyQuery { key: key_text(key)? })).await
    }

    /// The version of a key's row that held at a time.
    pub async fn as_of(&self, key: &K, as_of: TimestampMs) -> Answer<Option<Row<K, V>>> {
        let key = key_text(key)?;
        self.one(Query::VersionedKey(VersionedKeyQuery { key, as_of: Some(as_of) })).await
    }

    /// Rows by key, both bounds included, in the order of the serialized keys.
    pub async fn range(&self, from: Option<&K>, to: Option<&K>) -> Answer<Vec<Row<K, V>>> {
        let (from, to) = (from.map(key_text).transpose()?, to.map(key_text).transpose()?);
        self.many(Query::Range(RangeQuery { from, to, limit: self.limit })).await
    }

    /// Windows of a key, or of all, that start in `from..=to`, in the order of key and time.
    pub async fn windows(
        &self,
        key: Option<&K>,
        from: TimestampMs,
        to: TimestampMs,
    ) -> Answer<Vec<Row<K, V>>> {
        let key = key.map(key_text).transpose()?;
        self.many(Query::WindowRange(WindowRangeQuery { key, from, to, limit: self.limit })).await
    }

    /// Sessions of a key, or of all, that overlap `from..=to`, in the order of key and time.
    pub async fn sessions(
        &self,
        key: Option<&K>,
        from: TimestampMs,
        to: TimestampMs,
    ) -> Answer<Vec<Row<K, V>>> {
        let key = key.map(key_text).transpose()?;
        self.many(Query::Session(SessionQuery { key, from, to, limit: self.limit })).await
    }

    /// All versions of a key's row that held at any time in `from..=to`, the latest first.
    pub async fn versions(&self, key: &K, from: TimestampMs, to: TimestampMs) -> Answer<Vec<Row<K, V>>> {
        let key = key_text(key)?;
        self.many(Query::MultiVersionedKey(MultiVersionedKeyQuery { key, from, to, limit: self.limit })).await
    }

    async fn one(&self, query: Query) -> Answer<Option<Row<K, V>>> {
        let StateQueryResult { result, next, position, partition_results } = self.many(query).await?;
        if result.len() > 1 {
            let detail = format!(
                "store {:?} has {} rows of that key: ask for its windows or sessions",
                self.store,
                result.len()
            );
            return Err(StateQueryError::Refused { detail });
        }
        Ok(StateQueryResult { result: result.into_iter().next(), next, position, partition_results })
    }

    async fn many(&self, query: Query) -> Answer<Vec<Row<K, V>>> {
        let ask = Ask {
            store: self.store.clone(),
            query,
            tasks: None,
            after: self.after.clone(),
            staleness: self.staleness,
            position: self.position.clone(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let merged = self.queries.ask(&ask).await?;
        let position = merged.position();
        let Merged { rows, next, infos } = merged;
        let rows = rows.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
        let result = rows.map_err(|error| StateQueryError::Unreadable {
            store: self.store.clone(),
            detail: error.to_string(),
        })?;
        Ok(StateQueryResult { result, next, position, partition_results: infos })
    }
}
