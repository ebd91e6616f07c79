//! A stream of records, each a fact of its own.

use std::marker::PhantomData;
use std::sync::Arc;

use headwater_model::TimestampMs;

use crate::error::TaskError;
use crate::graph::{Copartition, MakeNode};
use crate::node::{Cx, Payload, Rec, node};
use crate::processor::values::{FixedKeyNode, FixedKeyProcessor};
use crate::processor::{Processor, ProcessorNode};
use crate::serdes::SerdeRef;

use super::buffered_join::row_at;
use super::global::GlobalKTable;
use super::grouped::KGroupedStream;
use super::ktable::{KTable, table_from_updates};
use super::options::{Grouped, Joined, Materialized, Produced, Repartitioned};
use super::parts::{GraphRef, NullKeys, Sources, Writer, copartition, repartition, require, writing_node};

/// Decides whether a record takes a branch.
pub type Predicate<K, V> = Box<dyn Fn(&K, &V) -> bool + Send + Sync>;

/// A stream of records. Clones are the same stream.
pub struct KStream<K, V> {
    pub(crate) graph: GraphRef,
    pub(crate) node: usize,
    pub(crate) sources: Sources,
    pub(crate) key_serde: Option<SerdeRef<K>>,
    pub(crate) value_serde: Option<SerdeRef<V>>,
    /// The key has changed since the records were last partitioned.
    pub(crate) needs_repartition: bool,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            sources: self.sources.clone(),
            key_serde: self.key_serde.clone(),
            value_serde: self.value_serde.clone(),
            needs_repartition: self.needs_repartition,
        }
    }
}

impl<K: Payload, V: Payload> KStream<K, V> {
    /// Appends a node that runs `run` for each record.
    fn each<F>(&self, prefix: &str, kind: &'static str, run: F) -> usize
    where
        F: Fn(Rec<K, V>, &mut Cx<'_>) -> Result<(), TaskError> + Send + Sync + 'static,
    {
        let run = Arc::new(run);
        self.append(
            prefix,
            kind,
            Arc::new(move || {
                let run = run.clone();
                node(move |record: Rec<K, V>, cx| run(record, cx))
            }),
        )
    }

    fn append(&self, prefix: &str, kind: &'static str, make: MakeNode) -> usize {
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate(prefix);
        graph.operator(name, kind, &[self.node], make)
    }

    /// The same records behind another node.
    fn at(&self, node: usize) -> Self {
        Self { node, ..self.clone() }
    }

    /// Other values under the same keys.
    pub(crate) fn with_values<V2>(&self, node: usize) -> KStream<K, V2> {
        KStream {
            graph: self.graph.clone(),
            node,
            sources: self.sources.clone(),
            key_serde: self.key_serde.clone(),
            value_serde: None,
            needs_repartition: self.needs_repartition,
        }
    }

    pub(crate) fn with_keys<K2, V2>(
        &self,
        node: usize,
        value_serde: Option<SerdeRef<V2>>,
    ) -> KStream<K2, V2> {
        KStream {
            graph: self.graph.clone(),
            node,
            sources: self.sources.clone(),
            key_serde: None,
            value_serde,
            needs_repartition: true,
        }
    }

    /// Renames the operator that this stream comes from.
    pub fn named(self, name: &str) -> Self {
        self.graph.borrow_mut().rename(self.node, name);
        self
    }

    /// Says that the operator that this stream comes from may have other results for the same input, and why (it reads a file,
    /// draws a number): `describe` tells it, and what is planned by it.
    pub fn nondeterministic(self, why: &str) -> Self {
        self.graph.borrow_mut().nodes[self.node].impure = Some(why.to_owned());
        self
    }

    /// New keys and values. What is grouped or joined after it is repartitioned.
    pub fn map<K2: Payload, V2: Payload>(
        &self,
        map: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let node = self.each("KSTREAM-MAP", "map", move |record, cx| {
            let (key, value) = map(record.key, record.value);
            cx.forward(Rec { key, value, timestamp: record.timestamp })
        });
        self.with_keys(node, None)
    }

    /// New values under the same keys.
    pub fn map_values<V2: Payload>(&self, map: impl Fn(V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.map_values_with_key(move |_, value| map(value))
    }

    /// New values, with a look at the key.
    pub fn map_values_with_key<V2: Payload>(
        &self,
        map: impl Fn(&K, V) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let node = self.each("KSTREAM-MAPVALUES", "map values", move |record, cx| {
            let value = map(&record.key, record.value);
            cx.forward(Rec { key: record.key, value, timestamp: record.timestamp })
        });
        self.with_values(node)
    }

    /// Any number of records for each.
    pub fn flat_map<K2: Payload, V2: Payload, I: IntoIterator<Item = (K2, V2)>>(
        &self,
        map: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let node = self.each("KSTREAM-FLATMAP", "flat map", move |record, cx| {
            let timestamp = record.timestamp;
            map(record.key, record.value)
                .into_iter()
                .try_for_each(|(key, value)| cx.forward(Rec { key, value, timestamp }))
        });
        self.with_keys(node, None)
    }

    /// Any number of values for each, under the same key.
    pub fn flat_map_values<V2: Payload, I: IntoIterator<Item = V2>>(
        &self,
        map: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.flat_map_values_with_key(move |_, value| map(value))
    }

    /// Any number of values for each, under the same key, with a look at the key.
    pub fn flat_map_values_with_key<V2: Payload, I: IntoIterator<Item = V2>>(
        &self,
        map: impl Fn(&K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let node = self.each("KSTREAM-FLATMAPVALUES", "flat map values", move |record, cx| {
            let Rec { key, value, timestamp } = record;
            map(&key, value)
                .into_iter()
                .try_for_each(|value| cx.forward(Rec { key: key.clone(), value, timestamp }))
        });
        self.with_values(node)
    }

    /// Another event time for each record, for the windows and joins that follow. Whether it is late there is still judged by the time
    /// of its source partition: give them a grace as long as the new times may be behind that. Where all records have such a
    /// time, `Consumed::timestamp_extractor` makes it the source's own.
    pub fn with_timestamp(&self, extract: impl Fn(&K, &V) -> TimestampMs + Send + Sync + 'static) -> Self {
        let node = self.each("KSTREAM-TIMESTAMP", "timestamp", move |record, cx| {
            let timestamp = extract(&record.key, &record.value);
            if timestamp < 0 {
                cx.core.metrics.skipped_invalid_timestamp += 1;
                return Ok(());
            }
            cx.forward(Rec { timestamp, ..record })
        });
        self.at(node)
    }

    /// Only records for which `keep` holds.
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let node = self.each("KSTREAM-FILTER", "filter", move |record, cx| {
            if keep(&record.key, &record.value) { cx.forward(record) } else { Ok(()) }
        });
        self.at(node)
    }

    /// Only records for which `drop` does not hold.
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !drop(key, value))
    }

    /// Without the records that are processed again after the application was reset (`headwater topology reprocess`): what goes to
    /// people, or into the world, is for new ones only.
    pub fn skip_reprocessed(&self) -> Self {
        let node = self.each("KSTREAM-SKIP-REPROCESSED", "skip reprocessed", |record, cx| {
            if cx.core.context.reprocessing { Ok(()) } else { cx.forward(record) }
        });
        self.at(node)
    }

    /// Looks at each record; may run again for the same record after a crash.
    pub fn peek(&self, look: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        let node = self.each("KSTREAM-PEEK", "peek", move |record, cx| {
            look(&record.key, &record.value);
            cx.forward(record)
        });
        self.at(node)
    }

    /// Ends the stream in a side effect; may run again for the same record after a crash.
    pub fn for_each(&self, run: impl Fn(K, V) + Send + Sync + 'static) {
        self.each("KSTREAM-FOREACH", "for each", move |record, _| {
            run(record.key, record.value);
            Ok(())
        });
    }

    /// A new key for each record.
    pub fn select_key<K2: Payload>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let node = self.each("KSTREAM-KEY-SELECT", "select key", move |record, cx| {
            let key = select(&record.key, &record.value);
            cx.forward(Rec { key, value: record.value, timestamp: record.timestamp })
        });
        self.with_keys(node, self.value_serde.clone())
    }

    /// One stream per predicate; a record goes to the first that holds, or nowhere.
    pub fn branch(&self, predicates: Vec<Predicate<K, V>>) -> Vec<Self> {
        let mut branches = self.split(predicates);
        branches.pop();
        branches
    }

    /// One stream per predicate and a last one for the rest; a record goes to the first that holds.
    pub fn split(&self, predicates: Vec<Predicate<K, V>>) -> Vec<Self> {
        let count = predicates.len();
        let node_index = self.each("KSTREAM-BRANCH", "branch", move |record, cx| {
            let first = predicates.iter().position(|holds| holds(&record.key, &record.value));
            cx.forward_to(first.unwrap_or(count), record)
        });
        let parent = self.at(node_index);
        (0..=count)
            .map(|_| {
                let node = parent.each("KSTREAM-BRANCHCHILD", "branch", |record, cx| cx.forward(record));
                parent.at(node)
            })
            .collect()
    }

    /// Both streams as one; their order is that of processing. What groups or joins the result by its key needs topics of
    /// equal partition counts on both sides; [`KStream::repartition`] makes them so.
    pub fn merge(&self, other: &Self) -> Self {
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate("KSTREAM-MERGE");
        let make: MakeNode = Arc::new(|| node(|record: Rec<K, V>, cx| cx.forward(record)));
        let merged = graph.operator(name, "merge", &[self.node, other.node], make);
        drop(graph);
        Self {
            sources: self.sources.union(&other.sources).copied().collect(),
            needs_repartition: self.needs_repartition || other.needs_repartition,
            ..self.at(merged)
        }
    }

    /// Writes the stream to a topic, each record in the partition of its key, unless [`Produced::partitioner`] says otherwise; all
    /// windows of a key lie in that of the key.
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let mut graph = self.graph.borrow_mut();
        graph.check_name(topic);
        let Produced { key, value, name, partitioner } = produced;
        let name = graph.name(name.as_deref(), "KSTREAM-SINK");
        let make = writing_node(topic, Writer { key, value, partitioner }, NullKeys::Written);
        graph.sink(name, topic, &[self.node], make);
    }

    /// Sends the stream through an internal topic, partitioned by its key. Records with a null key are skipped and counted,
    /// unless a left or outer join of streams follows somewhere (KIP-962).
    pub fn repartition(&self, options: Repartitioned<K, V>) -> Self {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(options.name.as_deref(), "KSTREAM-REPARTITION");
        let key = options.key.or(self.key_serde.clone());
        let value = options.value.or(self.value_serde.clone());
        let key = require(&mut graph, key, &name, "key", "Repartitioned::with");
        let value = require(&mut graph, value, &name, "value", "Repartitioned::with");
        let serdes = (key.clone(), value.clone());
        let node = repartition(&mut graph, self.node, &name, options.partitions, serdes);
        drop(graph);
        self.partitioned(node, key, value)
    }

    fn partitioned(&self, node: usize, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self {
            graph: self.graph.clone(),
            node,
            sources: [node].into(),
            key_serde: Some(key),
            value_serde: Some(value),
            needs_repartition: false,
        }
    }

    /// This stream partitioned by its key, through a topic of this name if it is not yet.
    pub(crate) fn by_key(&self, name: &str, key: Option<SerdeRef<K>>, value: Option<SerdeRef<V>>) -> Self {
        let (key, value) = (key.or(self.key_serde.clone()), value.or(self.value_serde.clone()));
        if !self.needs_repartition {
            self.demand_copartition(name);
            return Self { key_serde: key, value_serde: value, ..self.clone() };
        }
        let mut graph = self.graph.borrow_mut();
        let option = "Grouped::with or Joined::with";
        let key = require(&mut graph, key, name, "key", option);
        let value = require(&mut graph, value, name, "value", option);
        let node = repartition(&mut graph, self.node, name, None, (key.clone(), value.clone()));
        drop(graph);
        self.partitioned(node, key, value)
    }

    /// Records of one key come to one task only if the topics of a merged stream have equal partition counts.
    fn demand_copartition(&self, name: &str) {
        if self.sources.len() > 1 {
            let (node, sources) = (Arc::from(name), self.sources.clone());
            self.graph.borrow_mut().copartitions.push(Copartition { node, sources });
        }
    }

    /// Groups by the present key.
    pub fn group_by_key(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        KGroupedStream::new(self.clone(), grouped)
    }

    /// Groups by a new key, through a repartition topic.
    pub fn group_by<K2: Payload>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        self.select_key(select).group_by_key(grouped)
    }

    /// The last value of each key.
    pub fn to_table(&self, materialized: Materialized<K, V>) -> KTable<K, V> {
        let value = materialized.value.clone().or(self.value_serde.clone());
        self.map_values(Some).to_table_with_tombstones(Materialized { value, ..materialized })
    }

    /// An operator of one's own, with the stores it uses. `make` runs once per task.
    pub fn process<K2: Payload, V2: Payload, P: Processor<K, V, K2, V2>>(
        &self,
        make: impl Fn() -> P + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<K2, V2> {
        let node = self.append(
            "KSTREAM-PROCESSOR",
            "process",
            Arc::new(move || {
                Box::new(ProcessorNode { processor: make(), types: PhantomData::<fn(K, V, K2, V2)> })
            }),
        );
        self.graph.borrow_mut().connect_named(node, stores);
        self.with_keys(node, None)
    }

    /// As [`KStream::process`], by a processor that keeps keys: what is grouped or joined behind it needs no new partitioning
    /// (Kafka Streams' `processValues`).
    pub fn process_values<V2: Payload, P: FixedKeyProcessor<K, V, V2>>(
        &self,
        make: impl Fn() -> P + Send + Sync + 'static,
        stores: &[&str],
    ) -> KStream<K, V2> {
        let node = self.append(
            "KSTREAM-PROCESSVALUES",
            "process",
            Arc::new(move || {
                Box::new(FixedKeyNode { processor: make(), types: PhantomData::<fn(K, V, V2)> })
            }),
        );
        self.graph.borrow_mut().connect_named(node, stores);
        self.with_values(node)
    }

    /// For each record the table's row of the same key; records without one are dropped. Of a versioned table the row as of
    /// the record's timestamp; with [`Joined::grace`] the record waits first for late updates of the table.
    ///
    /// A record whose value is null by its serde ([`Joined::with`], or the stream's own) is skipped and counted, in this join
    /// and in all others of a stream.
    pub fn join<VT: Payload, V2: Payload>(
        &self,
        table: &KTable<K, VT>,
        join: impl Fn(V, &VT) -> V2 + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, V2> {
        self.join_table(table, move |value, row| row.map(|row| join(value, row)), joined)
    }

    /// For each record the table's row of the same key, if there is one.
    pub fn left_join<VT: Payload, V2: Payload>(
        &self,
        table: &KTable<K, VT>,
        join: impl Fn(V, Option<&VT>) -> V2 + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, V2> {
        let joined = self.join_table(table, move |value, row| Some(join(value, row)), joined);
        joined.graph.borrow_mut().relax_null_keys(joined.node);
        joined
    }

    fn join_table<VT: Payload, V2: Payload>(
        &self,
        table: &KTable<K, VT>,
        join: impl Fn(V, Option<&VT>) -> Option<V2> + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, V2> {
        let name = self.graph.borrow_mut().name(joined.name.as_deref(), "KSTREAM-JOIN");
        let table = &table.settled();
        let key = joined.key.or(self.key_serde.clone()).or(table.key_serde.clone());
        let stream = self.by_key(&name, key, joined.value);
        let (row_at, join) = (row_at(table), Arc::new(join));
        if let Some(grace) = joined.grace_ms {
            return stream.join_later(table, &name, grace, (row_at, join));
        }
        let value_serde = stream.value_serde.clone();
        let make: MakeNode = Arc::new(move || {
            let (row_at, join, serde) = (row_at.clone(), join.clone(), value_serde.clone());
            node(move |record: Rec<K, V>, cx| {
                if serde.as_ref().is_some_and(|serde| cx.skips_null(serde, &record.value)) {
                    return Ok(());
                }
                let row = row_at(cx, &record.key, record.timestamp)?;
                match join(record.value, row.as_ref().map(|(_, row)| row)) {
                    Some(value) => cx.forward(Rec { key: record.key, value, timestamp: record.timestamp }),
                    None => Ok(()),
                }
            })
        });
        let mut graph = self.graph.borrow_mut();
        let node = graph.operator(name, "join", &[stream.node], make);
        graph.connect(node, &table.stores);
        let sources = copartition(&mut graph, node, &stream.sources, &table.sources);
        drop(graph);
        KStream { sources, ..stream.with_values(node) }
    }

    /// For each record the global row that `select` names; records without one are dropped.
    pub fn join_global<KG: Payload, VG: Payload + Sync, V2: Payload>(
        &self,
        global: &GlobalKTable<KG, VG>,
        select: impl Fn(&K, &V) -> Option<KG> + Send + Sync + 'static,
        join: impl Fn(V, &VG) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        self.join_rows(global, select, move |value, row| row.map(|row| join(value, row)))
    }

    /// For each record the global row that `select` names, if there is one.
    pub fn left_join_global<KG: Payload, VG: Payload + Sync, V2: Payload>(
        &self,
        global: &GlobalKTable<KG, VG>,
        select: impl Fn(&K, &V) -> Option<KG> + Send + Sync + 'static,
        join: impl Fn(V, Option<&VG>) -> V2 + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let joined = self.join_rows(global, select, move |value, row| Some(join(value, row)));
        joined.graph.borrow_mut().relax_null_keys(joined.node);
        joined
    }

    fn join_rows<KG: Payload, VG: Payload + Sync, V2: Payload>(
        &self,
        global: &GlobalKTable<KG, VG>,
        select: impl Fn(&K, &V) -> Option<KG> + Send + Sync + 'static,
        join: impl Fn(V, Option<&VG>) -> Option<V2> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        let (index, serde) = (global.index, global.key_serde.clone());
        let value_serde = self.value_serde.clone();
        let node = self.each("KSTREAM-GLOBALJOIN", "join global", move |record, cx| {
            if value_serde.as_ref().is_some_and(|serde| cx.skips_null(serde, &record.value)) {
                return Ok(());
            }
            let row = match select(&record.key, &record.value) {
                Some(key) => cx
                    .encode(&serde, "key", "a global table", &key)?
                    .and_then(|key| cx.core.globals.typed::<KG, VG>(index).get(&key)),
                None => None,
            };
            match join(record.value, row.as_deref()) {
                Some(value) => cx.forward(Rec { key: record.key, value, timestamp: record.timestamp }),
                None => Ok(()),
            }
        });
        self.graph.borrow_mut().nodes[node].globals.push(index);
        self.with_values(node)
    }
}

impl<K: Payload, V: Payload> KStream<K, Option<V>> {
    /// The last value of each key; `None` deletes.
    pub fn to_table_with_tombstones(&self, materialized: Materialized<K, V>) -> KTable<K, V> {
        let name = self.graph.borrow_mut().name(materialized.name.as_deref(), "KSTREAM-TOTABLE");
        let value = materialized.value.clone().map(crate::serdes::nullable);
        let stream = self.by_key(&name, materialized.key.clone(), value);
        let options = Materialized { key: stream.key_serde.clone(), ..materialized };
        table_from_updates(&stream, "KTABLE-TOTABLE", None, options)
    }

    /// Only records that are not tombstones.
    pub fn without_tombstones(&self) -> KStream<K, V> {
        let node = self.each("KSTREAM-VALUES", "filter", |record, cx| match record.value {
            Some(value) => cx.forward(Rec { key: record.key, value, timestamp: record.timestamp }),
            None => Ok(()),
        });
        self.with_values(node)
    }
}
