//! What a test sees of a run.

use std::ops::Bound;

use headwater_model::{Bytes, Record, TimestampMs, TopicPartition};
use serde_json::Value;

use super::TopologyTestDriver;
use crate::query::{Query, QueryError, QueryableStore};
use crate::serdes::SerdeRef;
use crate::store::{MemoryStore, StoreBackend, StoreKind, keys};
use crate::task::{TaskId, TaskMetrics};

impl TopologyTestDriver {
    /// Records of a topic since the last call.
    pub fn read_output(&mut self, topic: &str) -> Vec<Record> {
        self.unread.remove(topic).map(Vec::from).unwrap_or_default()
    }

    /// Decoded records of a topic since the last call: key, value (`None` is a tombstone) and timestamp.
    ///
    /// # Panics
    /// When a record has no key or does not decode: a test should fail then.
    pub fn read<K, V>(
        &mut self,
        topic: &str,
        serdes: (&SerdeRef<K>, &SerdeRef<V>),
    ) -> Vec<(K, Option<V>, TimestampMs)> {
        let decode = |record: Record| {
            let key = record.key.unwrap_or_else(|| panic!("a record of {topic} has no key"));
            let key = serdes.0.deserialize(topic, &key).unwrap_or_else(|e| panic!("key in {topic}: {e}"));
            let value = record.value.map(|value| {
                serdes.1.deserialize(topic, &value).unwrap_or_else(|e| panic!("value in {topic}: {e}"))
            });
            (key, value, record.timestamp)
        };
        self.read_output(topic).into_iter().map(decode).collect()
    }

    /// Everything ever appended to a partition.
    pub fn log(&self, at: &TopicPartition) -> &[Record] {
        self.logs.get(at).map(Vec::as_slice).unwrap_or_default()
    }

    /// The committed entries of a store in one partition.
    pub fn backend(&self, store: &str, partition: i32) -> Option<MemoryStore> {
        if let Some(global) = self.globals.backend(store) {
            return Some(global);
        }
        let subtopology = self.topology.subtopology_of(store)?;
        self.backends.get(&TaskId { subtopology, partition })?.get(store).cloned()
    }

    /// The committed rows of a store by key, of all partitions, each in the order of its serialized keys: key, value and timestamp.
    ///
    /// # Panics
    /// When there is no such store, or it has other rows than these: a test should fail then.
    pub fn rows<K, V>(&self, store: &str, serdes: (&SerdeRef<K>, &SerdeRef<V>)) -> Vec<(K, V, TimestampMs)> {
        let subtopology = self.topology.subtopology_of(store);
        let stores = subtopology.map_or_else(Vec::new, |subtopology| self.topology.stores(subtopology));
        let found = stores.iter().find(|info| info.name == store);
        let kind = found.unwrap_or_else(|| panic!("there is no store {store:?}")).kind;
        assert_eq!(kind, StoreKind::KeyValue, "store {store:?} is not one by key");
        let decode = |(key, stored): (Bytes, Bytes)| {
            let key = serdes.0.deserialize(store, &key).unwrap_or_else(|e| panic!("key in {store}: {e}"));
            let (timestamp, value) =
                keys::split_value(&stored).unwrap_or_else(|| panic!("a row in {store} has no timestamp"));
            let value = serdes.1.read(store, value).unwrap_or_else(|e| panic!("value in {store}: {e}"));
            (key, value, timestamp)
        };
        let backends = self.backends.values().filter_map(|stores| stores.get(store));
        let entries = backends.flat_map(|backend| {
            let rows = backend.range(Bound::Unbounded, Bound::Unbounded);
            rows.unwrap_or_else(|e| panic!("read {store}: {e}"))
        });
        entries.map(decode).collect()
    }

    /// The query side of a store that was made with `.json()`; with `backend`, one partition is asked.
    pub fn queryable(&self, store: &str) -> Option<QueryableStore> {
        self.topology.queryable(store)
    }

    /// Answers a query from all partitions of a store that was made with `.json()`; `None` if there is no such store.
    pub fn query(&self, store: &str, query: &Query) -> Option<Result<Vec<Value>, QueryError>> {
        let queryable = self.topology.queryable(store)?;
        let partitions: Vec<MemoryStore> = match self.globals.backend(store) {
            Some(global) => vec![global],
            None => self.backends.values().filter_map(|stores| stores.get(store).cloned()).collect(),
        };
        let answers: Result<Vec<_>, _> =
            partitions.iter().map(|backend| queryable.query(backend, query)).collect();
        Some(answers.map(|rows| rows.into_iter().flatten().collect()))
    }

    /// The sum over all tasks since they were last started.
    pub fn metrics(&self) -> TaskMetrics {
        let mut sum = TaskMetrics::default();
        for running in self.tasks.values() {
            let metrics = running.task.metrics();
            sum.records_in += metrics.records_in;
            sum.records_out += metrics.records_out;
            sum.dropped_late += metrics.dropped_late;
            sum.skipped_null_key += metrics.skipped_null_key;
            sum.skipped_null_value += metrics.skipped_null_value;
            sum.skipped_invalid_timestamp += metrics.skipped_invalid_timestamp;
            sum.deserialization_errors += metrics.deserialization_errors;
            sum.out_of_order_table_updates += metrics.out_of_order_table_updates;
            sum.dropped_duplicates += metrics.dropped_duplicates;
            sum.processing_errors += metrics.processing_errors;
            sum.production_errors += metrics.production_errors;
            sum.quarantined += metrics.quarantined;
            sum.released += metrics.released;
            sum.calls += metrics.calls;
        }
        sum
    }
}
