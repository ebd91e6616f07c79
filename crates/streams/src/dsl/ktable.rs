//! A table: the current value of each key, and the changes that led to it.
//!
//! Every change carries the old value, so whatever is computed from a table can take it back. A table that is not
//! materialized has no store of its own: its value is computed from the one it is derived from.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::MakeNode;
use crate::node::{Change, Payload, Rec, node};
use crate::serdes::{SerdeRef, nullable};

use super::grouped::windowless_name;
use super::kstream::KStream;
use super::options::{Grouped, Materialized, Partitioner, Produced};
use super::parts::{Getter, GraphRef, SourceLog, Sources, require};
use super::rows::{History, Rows};
use super::table_group::KGroupedTable;

const FILTER: &str = "filter";

/// A table. Clones are the same table.
pub struct KTable<K, V> {
    pub(crate) graph: GraphRef,
    pub(crate) node: usize,
    pub(crate) sources: Sources,
    pub(crate) key_serde: Option<SerdeRef<K>>,
    pub(crate) value_serde: Option<SerdeRef<V>>,
    /// What `getter` reads.
    pub(crate) stores: Vec<usize>,
    pub(crate) getter: Getter<K, V>,
    /// How long after a window's end it takes no more records; `None` if keys are not windowed.
    pub(crate) close_after_ms: Option<i64>,
    /// Reads earlier versions, if they are kept.
    pub(crate) history: Option<History<K, V>>,
    /// Set if changes come without old values and there is nothing to read (a foreign-key join): what needs either reads
    /// the table that is kept here from then on.
    pub(crate) unsettled: Option<Rc<OnceCell<KTable<K, V>>>>,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            sources: self.sources.clone(),
            key_serde: self.key_serde.clone(),
            value_serde: self.value_serde.clone(),
            stores: self.stores.clone(),
            getter: self.getter.clone(),
            close_after_ms: self.close_after_ms,
            history: self.history.clone(),
            unsettled: self.unsettled.clone(),
        }
    }
}

/// A table kept from a stream of its updates.
pub(crate) fn table_from_updates<K: Payload, V: Payload>(
    updates: &KStream<K, Option<V>>,
    prefix: &str,
    source: Option<SourceLog<'_, K, V>>,
    options: Materialized<K, V>,
) -> KTable<K, V> {
    let mut graph = updates.graph.borrow_mut();
    let name = graph.generate(prefix);
    let store_name = windowless_name(options.name.as_deref(), &name);
    let key = require(&mut graph, options.key.clone(), &name, "key", "Materialized::key_serde");
    let value = require(&mut graph, options.value.clone(), &name, "value", "Materialized::value_serde");
    let rows = Rows::add(&mut graph, &store_name, (&key, &value), source, &options);
    let (key_serde, topic) = (key.clone(), store_name.clone());
    let make: MakeNode = Arc::new(move || {
        let (key_serde, topic) = (key_serde.clone(), topic.clone());
        node(move |record: Rec<K, Option<V>>, cx| {
            let Some(key) = cx.key(&key_serde, &topic, &record.key)? else { return Ok(()) };
            let old = rows.get::<V>(&key, cx)?;
            if old.as_ref().is_some_and(|(newest, _)| record.timestamp < *newest) {
                cx.core.metrics.out_of_order_table_updates += 1;
            }
            let Rec { key: name, value: new, timestamp } = record;
            let written = rows.put(key, new.clone(), timestamp, cx)?;
            let change = Change { new, old: old.map(|(_, value)| value) };
            rows.forward(written, Rec { key: name, value: change, timestamp }, cx)
        })
    });
    let node = graph.operator(name, "table", &[updates.node], make);
    rows.connect(&mut graph, node);
    drop(graph);
    KTable {
        graph: updates.graph.clone(),
        node,
        sources: updates.sources.clone(),
        getter: rows.getter(&store_name, &key),
        history: rows.history(&store_name, &key),
        key_serde: Some(key),
        value_serde: Some(value),
        stores: vec![rows.store],
        close_after_ms: None,
        unsettled: None,
    }
}

impl<K: Payload, V: Payload> KTable<K, V> {
    /// This table with old values and a state to read, kept in a store if it has none.
    pub(crate) fn settled(&self) -> Self {
        match &self.unsettled {
            None => self.clone(),
            Some(kept) => kept.get_or_init(|| self.materialized(Materialized::new())).clone(),
        }
    }

    /// A table derived value by value: `map` turns both the new and the old value. Where it leaves out rows, those that
    /// were and are left out are not told of.
    fn derive<V2: Payload>(
        &self,
        prefix: &str,
        kind: &'static str,
        map: impl Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.settled().derive_settled(prefix, kind, map)
    }

    fn derive_settled<V2: Payload>(
        &self,
        prefix: &str,
        kind: &'static str,
        map: impl Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        let filters = kind == FILTER;
        let map = Arc::new(map);
        let history = self.history.as_ref().map(|history| history.derived(map.clone()));
        let versioned = history.is_some();
        let (mapper, inner) = (map.clone(), self.getter.clone());
        let getter: Getter<K, V2> = Arc::new(move |cx, key| {
            let found = inner(cx, key)?;
            Ok(found.and_then(|(timestamp, value)| Some((timestamp, mapper(key, value)?))))
        });
        let make: MakeNode = Arc::new(move || {
            let map = map.clone();
            node(move |record: Rec<K, Change<V>>, cx| {
                let Rec { key, value: Change { new, old }, timestamp } = record;
                let new = new.and_then(|value| map(&key, value));
                let old = old.and_then(|value| map(&key, value));
                // In a history, a row that is not there ends the one before.
                if filters && new.is_none() && old.is_none() && !versioned {
                    return Ok(());
                }
                cx.forward(Rec { key, value: Change { new, old }, timestamp })
            })
        });
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate(prefix);
        let node = graph.operator(name, kind, &[self.node], make);
        graph.connect(node, &self.stores);
        drop(graph);
        KTable {
            graph: self.graph.clone(),
            node,
            sources: self.sources.clone(),
            key_serde: self.key_serde.clone(),
            value_serde: None,
            stores: self.stores.clone(),
            getter,
            close_after_ms: self.close_after_ms,
            history,
            unsettled: None,
        }
    }

    /// Renames the operator that this table comes from.
    pub fn named(self, name: &str) -> Self {
        self.graph.borrow_mut().rename(self.node, name);
        self
    }

    /// New values under the same keys. The function must be pure: it also computes what is taken back.
    pub fn map_values<V2: Payload>(&self, map: impl Fn(V) -> V2 + Send + Sync + 'static) -> KTable<K, V2> {
        self.derive("KTABLE-MAPVALUES", "map values", move |_, value| Some(map(value)))
    }

    /// New values, with a look at the key.
    pub fn map_values_with_key<V2: Payload>(
        &self,
        map: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KTable<K, V2> {
        self.derive("KTABLE-MAPVALUES", "map values", move |key, value| Some(map(key, value)))
    }

    /// Only rows for which `keep` holds; a row that no longer does is deleted.
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let table =
            self.derive("KTABLE-FILTER", FILTER, move |key, value| keep(key, &value).then_some(value));
        Self { value_serde: self.value_serde.clone(), ..table }
    }

    /// Only rows for which `drop` does not hold; a row for which it does is deleted.
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !drop(key, value))
    }

    /// Keeps the table in a store of its own, for queries, or to compute it once only.
    pub fn materialized(&self, options: Materialized<K, V>) -> Self {
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate("KTABLE-MATERIALIZED");
        let store_name = windowless_name(options.name.as_deref(), &name);
        let key = require(
            &mut graph,
            options.key.clone().or(self.key_serde.clone()),
            &name,
            "key",
            "Materialized::key_serde",
        );
        let value = require(
            &mut graph,
            options.value.clone().or(self.value_serde.clone()),
            &name,
            "value",
            "Materialized::value_serde",
        );
        let rows = Rows::add(&mut graph, &store_name, (&key, &value), None, &options);
        let (key_serde, topic) = (key.clone(), store_name.clone());
        let make: MakeNode = Arc::new(move || {
            let (key_serde, topic) = (key_serde.clone(), topic.clone());
            node(move |record: Rec<K, Change<V>>, cx| {
                let Some(key) = cx.key(&key_serde, &topic, &record.key)? else { return Ok(()) };
                let Rec { value: Change { new, .. }, timestamp, .. } = record;
                let old = rows.get::<V>(&key, cx)?.map(|(_, value)| value);
                let written = rows.put(key, new.clone(), timestamp, cx)?;
                rows.forward(written, Rec { key: record.key, value: Change { new, old }, timestamp }, cx)
            })
        });
        let node = graph.operator(name, "table", &[self.node], make);
        rows.connect(&mut graph, node);
        drop(graph);
        Self {
            node,
            getter: rows.getter(&store_name, &key),
            history: rows.history(&store_name, &key),
            key_serde: Some(key),
            value_serde: Some(value),
            stores: vec![rows.store],
            unsettled: None,
            ..self.clone()
        }
    }

    /// Every change as a record, with what the row was before. A row that is new has no old value, a deleted one no new.
    /// What comes out of order to a versioned table changes nothing and is left out.
    pub fn changes(&self) -> KStream<K, Change<V>> {
        let table = self.settled();
        let make: MakeNode = Arc::new(|| {
            node(|record: Rec<K, Change<V>>, cx| if cx.out_of_order() { Ok(()) } else { cx.forward(record) })
        });
        let mut graph = table.graph.borrow_mut();
        let name = graph.generate("KTABLE-CHANGES");
        let node = graph.operator(name, "changes", &[table.node], make);
        drop(graph);
        KStream {
            graph: table.graph.clone(),
            node,
            sources: table.sources.clone(),
            key_serde: table.key_serde.clone(),
            value_serde: None,
            needs_repartition: false,
        }
    }

    /// Every change as a record; `None` where a row was deleted. From a versioned table also what came out of order, with
    /// its own timestamp.
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        let make: MakeNode = Arc::new(|| {
            node(|record: Rec<K, Change<V>>, cx| {
                let Rec { key, value: Change { new, .. }, timestamp } = record;
                cx.forward_version(Rec { key, value: new, timestamp }, false)
            })
        });
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate("KTABLE-TOSTREAM");
        let node = graph.operator(name, "to stream", &[self.node], make);
        drop(graph);
        KStream {
            graph: self.graph.clone(),
            node,
            sources: self.sources.clone(),
            key_serde: self.key_serde.clone(),
            value_serde: self.value_serde.clone().map(nullable),
            needs_repartition: false,
        }
    }

    /// Writes every change to a topic; a deleted row is a tombstone.
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let Produced { key, value, name, partitioner } = produced;
        let partitioner = partitioner.map(|choose| -> Partitioner<K, Option<V>> {
            Arc::new(move |key: &K, value: Option<&Option<V>>, count: i32| {
                choose(key, value.and_then(Option::as_ref), count)
            })
        });
        self.to_stream().to(topic, Produced { key, value: nullable(value), name, partitioner });
    }

    /// Groups by a new key, through a repartition topic that carries old and new values.
    pub fn group_by<K2: Payload, V2: Payload>(
        &self,
        select: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        KGroupedTable::new(&self.settled(), select, grouped)
    }
}
