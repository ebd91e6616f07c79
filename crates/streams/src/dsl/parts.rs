//! What all of the DSL shares: the graph handle, sinks, repartitioning, stores.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_model::{Bytes, Record, TimestampMs};

use crate::error::{TaskError, TopologyError};
use crate::graph::{Changelog, Copartition, Graph, MakeNode, RelaxedKeys, StoreSpec};
use crate::node::{Cx, Payload, Rec, node};
use crate::query::QueryableStore;
use crate::serdes::{Serde, SerdeError, SerdeRef};
use crate::store::StoreKind;
use crate::store::keys::{self, Layout};
use crate::store::typed::{Normalize, StoreParts, TypedStore};
use crate::task::Output;
use crate::task::input::TypedSource;

use super::options::{Materialized, Partitioner};

pub(crate) type GraphRef = Rc<RefCell<Graph>>;

/// Source nodes that a stream or table comes from, without a topic of ours in between.
pub(crate) type Sources = BTreeSet<usize>;

/// Reads a table's current value.
pub(crate) type Getter<K, V> =
    Arc<dyn Fn(&mut Cx<'_>, &K) -> Result<Option<(TimestampMs, V)>, TaskError> + Send + Sync>;

/// Stands in where a serde is missing, so that building can go on to find more mistakes; `build()` refuses.
struct MissingSerde;

impl<T> Serde<T> for MissingSerde {
    fn serialize(&self, _topic: &str, _value: &T) -> Result<Bytes, SerdeError> {
        Err(SerdeError::new("no serde"))
    }

    fn deserialize(&self, _topic: &str, _bytes: &Bytes) -> Result<T, SerdeError> {
        Err(SerdeError::new("no serde"))
    }
}

pub(crate) fn require<T: 'static>(
    graph: &mut Graph,
    serde: Option<SerdeRef<T>>,
    node: &str,
    what: &'static str,
    option: &'static str,
) -> SerdeRef<T> {
    serde.unwrap_or_else(|| {
        graph.errors.push(TopologyError::NoSerde { node: node.to_owned(), what, option });
        Arc::new(MissingSerde)
    })
}

/// What a sink does with records that have a null key.
#[derive(Clone)]
pub(crate) enum NullKeys {
    Written,
    Skipped,
    /// Written if the flag is set when the task starts.
    If(RelaxedKeys),
}

/// How a sink makes bytes of records, and where it puts them.
pub(crate) struct Writer<K, V> {
    pub key: SerdeRef<K>,
    pub value: SerdeRef<V>,
    pub partitioner: Option<Partitioner<K, V>>,
}

impl<K: Payload, V: Payload> Writer<K, V> {
    /// Writes a record, unless its key is null and such are skipped.
    pub fn write(
        &self,
        topic: &Arc<str>,
        record: &Rec<K, V>,
        skip_null_keys: bool,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        let key = match cx.encode(&self.key, "key", topic, &record.key) {
            Ok(key) => key,
            Err(error) => return cx.unserializable(topic, error),
        };
        if key.is_none() && skip_null_keys {
            cx.core.metrics.skipped_null_key += 1;
            return Ok(());
        }
        let value = match cx.encode(&self.value, "value", topic, &record.value) {
            Ok(value) => value,
            Err(error) => return cx.unserializable(topic, error),
        };
        let partition = match (&self.partitioner, &key) {
            (Some(choose), _) => {
                let given = value.as_ref().map(|_| &record.value);
                cx.chosen_partition(topic, |count| choose(&record.key, given, count))?
            }
            (None, Some(_)) => cx.partition(&self.key, topic, &record.key)?,
            (None, None) => None,
        };
        let (headers, timestamp) = (cx.core.context.headers.clone(), record.timestamp);
        cx.produce(Output { topic: topic.clone(), partition, timestamp, key, value, headers })
    }
}

/// A node that writes records to a topic, each in the partition of its key.
pub(crate) fn sink_node<K: Payload, V: Payload>(
    topic: &str,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    null_keys: NullKeys,
) -> MakeNode {
    writing_node(topic, Writer { key, value, partitioner: None }, null_keys)
}

/// A node that writes records to a topic.
pub(crate) fn writing_node<K: Payload, V: Payload>(
    topic: &str,
    writer: Writer<K, V>,
    null_keys: NullKeys,
) -> MakeNode {
    let (topic, writer): (Arc<str>, _) = (Arc::from(topic), Arc::new(writer));
    Arc::new(move || {
        let (topic, writer) = (topic.clone(), writer.clone());
        let skip_null_keys = match &null_keys {
            NullKeys::Written => false,
            NullKeys::Skipped => true,
            NullKeys::If(relaxed) => !relaxed.load(Ordering::Relaxed),
        };
        node(move |record: Rec<K, V>, cx| writer.write(&topic, &record, skip_null_keys, cx))
    })
}

/// Writes `parent` to a repartition topic and reads it back; returns the node that reads. Null keys are for left joins only.
pub(crate) fn repartition<K: Payload, V: Payload>(
    graph: &mut Graph,
    parent: usize,
    name: &str,
    partitions: Option<i32>,
    (key, value): (SerdeRef<K>, SerdeRef<V>),
) -> usize {
    graph.check_name(name);
    let topic = graph.repartition_topic(name);
    let relaxed = graph.add_repartition(&topic, partitions, false);
    let sink = sink_node(&topic, key.clone(), value.clone(), NullKeys::If(relaxed));
    graph.sink(format!("{name}-repartition-sink"), &topic, &[parent], sink);
    let make = move || Box::new(TypedSource::new(key.clone(), value.clone(), None)) as Box<_>;
    graph.source(format!("{name}-repartition-source"), &topic, Arc::new(make), None)
}

/// Demands equal partition counts of everything on both sides of a join.
pub(crate) fn copartition(graph: &mut Graph, node: usize, left: &Sources, right: &Sources) -> Sources {
    let sources: Sources = left.union(right).copied().collect();
    let node = graph.nodes[node].name.clone();
    graph.copartitions.push(Copartition { node, sources: sources.clone() });
    sources
}

/// A store to be, with its serdes settled.
pub(crate) struct NewStore<'a, K, V> {
    pub name: &'a str,
    pub layout: Layout,
    pub key: &'a SerdeRef<K>,
    pub value: &'a SerdeRef<V>,
    pub retention_ms: Option<i64>,
    pub window_size_ms: Option<i64>,
    pub source: Option<SourceLog<'a, K, V>>,
}

/// A topic whose records are a store's log, and how they are read.
pub(crate) struct SourceLog<'a, K, V> {
    pub topic: &'a str,
    pub key: &'a SerdeRef<K>,
    pub value: &'a SerdeRef<V>,
}

impl<K: Payload, V: Payload> NewStore<'_, K, V> {
    pub fn add(self, graph: &mut Graph, options: &Materialized<K, V>) -> usize {
        let name: Arc<str> = Arc::from(self.name);
        refuse_external(graph, self.name, self.layout.kind, options);
        let external = options.external.clone().map(Arc::new);
        let changelog = match &self.source {
            _ if external.is_some() => external.map_or(Changelog::Off, Changelog::External),
            _ if !options.logged => Changelog::Off,
            Some(source) => Changelog::SourceTopic(Arc::from(source.topic)),
            None => Changelog::Topic(graph.changelog_topic(self.name)),
        };
        let normalize = self.source.filter(|_| options.logged && options.external.is_none()).map(|source| {
            normalize(self.name, (source.key, source.value), (self.key, self.value), source.topic)
        });
        let parts = StoreParts {
            name: name.clone(),
            layout: self.layout,
            serde: self.value.clone(),
            changelog: match &changelog {
                Changelog::Topic(topic) => Some(topic.clone()),
                _ => None,
            },
            normalize,
            cache_entries: options.cache_entries,
        };
        let queryable = options.json.as_ref().map(|json| QueryableStore {
            name: name.clone(),
            layout: self.layout,
            window_size_ms: self.window_size_ms,
            json: json(self.key.clone(), self.value.clone(), self.name.to_owned()),
        });
        graph.add_store(StoreSpec {
            name,
            kind: self.layout.kind,
            changelog,
            retention_ms: self.retention_ms,
            configs: options.configs.clone(),
            make: Arc::new(move |backend| Box::new(TypedStore::<V>::new(parts.clone(), backend))),
            queryable,
        })
    }
}

/// Re-encodes a source record as the table would have written it; what does not decode was never in the table, nor what has no time.
fn normalize<K: Payload, V: Payload>(
    store: &str,
    (key, value): (&SerdeRef<K>, &SerdeRef<V>),
    (store_key, store_value): (&SerdeRef<K>, &SerdeRef<V>),
    topic: &str,
) -> Normalize {
    let (store, topic, as_it_is) = (store.to_owned(), topic.to_owned(), Arc::ptr_eq(value, store_value));
    let (key, value, key_out, value_out) =
        (key.clone(), value.clone(), store_key.clone(), store_value.clone());
    Arc::new(move |record: &Record| {
        if record.timestamp < 0 {
            return None;
        }
        let decoded = key.deserialize(&topic, record.key.as_ref()?).ok()?;
        let store_key = key_out.serialize(&store, &decoded).ok()?;
        let stored = match &record.value {
            None => None,
            Some(bytes) => {
                let decoded = value.deserialize(&topic, bytes).ok()?;
                let bytes =
                    if as_it_is { bytes.clone() } else { value_out.serialize(&store, &decoded).ok()? };
                Some(keys::stored_value(record.timestamp, &bytes))
            }
        };
        Some((store_key, stored))
    })
}

/// Versions are kept of rows, not of windows, nor by stores that nothing would read them from.
pub(crate) fn refuse_versions<K, V>(graph: &mut Graph, name: &str, options: &Materialized<K, V>) {
    if options.history_ms.is_some() {
        let reason =
            "Materialized::versioned is for tables that are not windowed, and for add_versioned_store()";
        graph.errors.push(TopologyError::InvalidWindow { node: name.to_owned(), reason: reason.to_owned() });
    }
}

/// A database keeps rows by key, as they are.
fn refuse_external<K, V>(graph: &mut Graph, name: &str, kind: StoreKind, options: &Materialized<K, V>) {
    if options.external.is_none() {
        return;
    }
    let reason = match () {
        () if kind != StoreKind::KeyValue => {
            "windows and sessions are kept inside: leave Materialized::external out"
        }
        () if options.json.is_some() => {
            "queries are for stores inside, and the database answers its own: leave Materialized::json out"
        }
        () if !options.configs.is_empty() => "it has no changelog: leave Materialized::config out",
        () => return,
    };
    graph.errors.push(TopologyError::External { store: name.to_owned(), reason: reason.to_owned() });
}

/// A key-value store with the name given, or one made from the node's.
pub(crate) fn key_value_store<K: Payload, V: Payload>(
    graph: &mut Graph,
    name: &str,
    key: &SerdeRef<K>,
    value: &SerdeRef<V>,
    source: Option<SourceLog<'_, K, V>>,
    options: &Materialized<K, V>,
) -> usize {
    refuse_versions(graph, name, options);
    let layout = Layout::key_value();
    NewStore { name, layout, key, value, retention_ms: None, window_size_ms: None, source }
        .add(graph, options)
}

/// A store for windows (`size` given) or sessions.
pub(crate) fn timed_store<K: Payload, V: Payload>(
    graph: &mut Graph,
    name: &str,
    (key, value): (&SerdeRef<K>, &SerdeRef<V>),
    kind: StoreKind,
    (needed_ms, window_size_ms): (i64, Option<i64>),
    options: &Materialized<K, V>,
) -> (usize, i64) {
    refuse_versions(graph, name, options);
    let retention = options.retention_ms.unwrap_or(needed_ms);
    if retention < needed_ms {
        graph.errors.push(TopologyError::InvalidWindow {
            node: name.to_owned(),
            reason: format!("a retention of {retention} ms is shorter than window and grace, {needed_ms} ms"),
        });
    }
    let layout = Layout { indexed: options.indexed, ..Layout::timed(kind, retention) };
    let retention_ms = Some(retention);
    let store = NewStore { name, layout, key, value, retention_ms, window_size_ms, source: None };
    (store.add(graph, options), retention)
}

/// Reads a key-value store as a table.
pub(crate) fn store_getter<K: Payload, V: Payload>(
    store: usize,
    name: &str,
    key: &SerdeRef<K>,
) -> Getter<K, V> {
    let (name, serde): (Arc<str>, _) = (Arc::from(name), key.clone());
    Arc::new(move |cx, key| match cx.encode(&serde, "key", &name, key)? {
        Some(key) => Ok(cx.store::<V>(store).get(&key)?),
        None => Ok(None),
    })
}
