//! Where a table's rows are kept: the latest of each key, or all of its versions within a history.

use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};

use crate::error::{TaskError, TopologyError};
use crate::graph::{Changelog, Graph, StoreSpec};
use crate::node::{Cx, Payload, Rec};
use crate::query::QueryableStore;
use crate::serdes::SerdeRef;
use crate::store::StoreKind;
use crate::store::keys::Layout;
use crate::store::versioned::{VersionedParts, VersionedStore, Written};

use super::options::Materialized;
use super::parts::{Getter, SourceLog, key_value_store, store_getter};

type ReadAsOf<K, V> =
    Arc<dyn Fn(&mut Cx<'_>, &K, TimestampMs) -> Result<Option<(TimestampMs, V)>, TaskError> + Send + Sync>;

/// Reads a table's earlier versions.
pub(crate) struct History<K, V> {
    /// The row of a key as of a time.
    pub as_of: ReadAsOf<K, V>,
    pub retention_ms: i64,
}

impl<K, V> Clone for History<K, V> {
    fn clone(&self) -> Self {
        Self { as_of: self.as_of.clone(), retention_ms: self.retention_ms }
    }
}

impl<K: Payload, V: Payload> History<K, V> {
    /// The history of a table that is derived row by row.
    pub fn derived<V2: Payload>(
        &self,
        map: Arc<impl Fn(&K, V) -> Option<V2> + Send + Sync + 'static>,
    ) -> History<K, V2> {
        let inner = self.as_of.clone();
        let as_of: ReadAsOf<K, V2> = Arc::new(move |cx, key, time| {
            let found = inner(cx, key, time)?;
            Ok(found.and_then(|(timestamp, value)| Some((timestamp, map(key, value)?))))
        });
        History { as_of, retention_ms: self.retention_ms }
    }
}

/// A table's store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub store: usize,
    /// Of a store with versions: the clock by which its history moves on, and how long it is.
    versions: Option<(usize, i64)>,
}

impl Rows {
    /// Adds the store. One with versions has a changelog of its own even where the source topic could be one: the topic
    /// also has what came too late.
    pub fn add<K: Payload, V: Payload>(
        graph: &mut Graph,
        name: &str,
        (key, value): (&SerdeRef<K>, &SerdeRef<V>),
        source: Option<SourceLog<'_, K, V>>,
        options: &Materialized<K, V>,
    ) -> Self {
        match options.history_ms {
            None => Self { store: key_value_store(graph, name, key, value, source, options), versions: None },
            Some(history) => {
                let store = add_versioned(graph, name, (key, value), history, options);
                Self { store, versions: Some((graph.add_clock(name), history)) }
            }
        }
    }

    /// Tells the graph that `node` writes the rows.
    pub fn connect(self, graph: &mut Graph, node: usize) {
        graph.connect(node, &[self.store]);
        if let Some((clock, _)) = self.versions {
            graph.set_clock(node, clock);
        }
    }

    /// The latest row.
    pub fn get<V: Payload>(
        self,
        key: &Bytes,
        cx: &mut Cx<'_>,
    ) -> Result<Option<(TimestampMs, V)>, TaskError> {
        if self.versions.is_none() {
            return cx.store::<V>(self.store).get(key);
        }
        let latest = cx.versions::<V>(self.store).latest(key)?;
        Ok(latest.and_then(|version| Some((version.from, version.value?))))
    }

    /// Writes a row, or (`None`) deletes it.
    pub fn put<V: Payload>(
        self,
        key: Bytes,
        value: Option<V>,
        timestamp: TimestampMs,
        cx: &mut Cx<'_>,
    ) -> Result<Written, TaskError> {
        let Some((clock, _)) = self.versions else {
            cx.store::<V>(self.store).put(key, value.map(|value| (timestamp, value)));
            return Ok(Written::Latest);
        };
        let (stream_time, watermark) = (cx.stream_time(), cx.watermark(clock));
        let store = cx.versions::<V>(self.store);
        store.observe(watermark);
        store.put(&key, value, timestamp, stream_time)
    }

    /// Hands on the change that a write was; one that was too late to be written is counted.
    pub fn forward<K: Payload, V: Payload>(
        self,
        written: Written,
        change: Rec<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        match written {
            Written::Expired => {
                cx.core.metrics.dropped_late += 1;
                Ok(())
            }
            Written::Latest => cx.forward_version(change, false),
            Written::Older => cx.forward_version(change, true),
        }
    }

    /// Reads the latest rows.
    pub fn getter<K: Payload, V: Payload>(self, name: &str, key: &SerdeRef<K>) -> Getter<K, V> {
        if self.versions.is_none() {
            return store_getter(self.store, name, key);
        }
        let (name, serde): (Arc<str>, _) = (Arc::from(name), key.clone());
        Arc::new(move |cx, key| match cx.encode(&serde, "key", &name, key)? {
            Some(key) => self.get(&key, cx),
            None => Ok(None),
        })
    }

    /// Reads earlier rows, if they are kept.
    pub fn history<K: Payload, V: Payload>(self, name: &str, key: &SerdeRef<K>) -> Option<History<K, V>> {
        let (clock, retention_ms) = self.versions?;
        let (name, serde): (Arc<str>, _) = (Arc::from(name), key.clone());
        let as_of: ReadAsOf<K, V> = Arc::new(move |cx, key, time| {
            let Some(key) = cx.encode(&serde, "key", &name, key)? else { return Ok(None) };
            let watermark = cx.watermark(clock);
            let store = cx.versions::<V>(self.store);
            store.observe(watermark);
            Ok(store.as_of(&key, time)?.and_then(|version| Some((version.from, version.value?))))
        });
        Some(History { as_of, retention_ms })
    }
}

/// A store that keeps versions.
pub(crate) fn add_versioned<K: Payload, V: Payload>(
    graph: &mut Graph,
    name: &str,
    (key, value): (&SerdeRef<K>, &SerdeRef<V>),
    history_ms: i64,
    options: &Materialized<K, V>,
) -> usize {
    if options.external.is_some() {
        let reason = "versions are kept inside: leave Materialized::external out".to_owned();
        graph.errors.push(TopologyError::External { store: name.to_owned(), reason });
    }
    let changelog = options.logged.then(|| graph.changelog_topic(name));
    let name: Arc<str> = Arc::from(name);
    let parts = VersionedParts {
        name: name.clone(),
        serde: value.clone(),
        changelog: changelog.clone(),
        history_ms,
        cache_entries: options.cache_entries,
    };
    let queryable = options.json.as_ref().map(|json| QueryableStore {
        name: name.clone(),
        layout: Layout::versioned(),
        window_size_ms: None,
        json: json(key.clone(), value.clone(), name.to_string()),
    });
    graph.add_store(StoreSpec {
        name,
        kind: StoreKind::Versioned,
        changelog: changelog.map_or(Changelog::Off, Changelog::Topic),
        retention_ms: Some(history_ms),
        configs: options.configs.clone(),
        make: Arc::new(move |backend| Box::new(VersionedStore::<V>::new(parts.clone(), backend))),
        queryable,
    })
}
