//! A grouped table: aggregates that add new values and take old ones back.

use std::sync::Arc;

use headwater_model::Bytes;

use crate::graph::MakeNode;
use crate::node::{Change, Payload, Rec, node};
use crate::serdes::{self, Serde, SerdeError, SerdeRef};

use super::grouped::windowless_name;
use super::ktable::KTable;
use super::options::{Grouped, Materialized};
use super::parts::{GraphRef, repartition, require};
use super::rows::Rows;

/// A table grouped by another key.
pub struct KGroupedTable<K, V> {
    graph: GraphRef,
    /// Selects the new key; what comes out still has to be repartitioned.
    node: usize,
    name: Option<String>,
    key_serde: Option<SerdeRef<K>>,
    value_serde: Option<SerdeRef<V>>,
    partitioned: std::cell::Cell<Option<usize>>,
}

/// `new | 1`, `old | 0`, or `length of new u32 | new | old | 2`: a change on its way through a repartition topic, as Kafka
/// Streams writes it (KIP-904).
struct ChangeSerde<V>(SerdeRef<V>);

impl<V> Serde<Change<V>> for ChangeSerde<V> {
    fn serialize(&self, topic: &str, change: &Change<V>) -> Result<Bytes, SerdeError> {
        let bytes = |value: &V| self.0.serialize(topic, value);
        let out = match (&change.new, &change.old) {
            (Some(new), None) => [&bytes(new)?[..], &[1]].concat(),
            (None, Some(old)) => [&bytes(old)?[..], &[0]].concat(),
            (Some(new), Some(old)) => {
                let (new, old) = (bytes(new)?, bytes(old)?);
                let length =
                    u32::try_from(new.len()).map_err(|_| SerdeError::new("a value of more than 4 GiB"))?;
                [&length.to_be_bytes()[..], &new[..], &old[..], &[2]].concat()
            }
            (None, None) => return Err(SerdeError::new("a change from nothing to nothing")),
        };
        Ok(Bytes::from(out))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Change<V>, SerdeError> {
        let (kind, rest) = bytes.split_last().ok_or_else(|| SerdeError::new("an empty change"))?;
        let rest = bytes.slice(..rest.len());
        let value = |bytes: &Bytes| self.0.deserialize(topic, bytes).map(Some);
        match kind {
            0 => Ok(Change { new: None, old: value(&rest)? }),
            1 => Ok(Change { new: value(&rest)?, old: None }),
            2 => {
                let short = || SerdeError::new("a change shorter than it says");
                let length = u32::from_be_bytes(*rest.first_chunk::<4>().ok_or_else(short)?) as usize;
                let end = length.checked_add(4).filter(|end| *end <= rest.len()).ok_or_else(short)?;
                Ok(Change { new: value(&rest.slice(4..end))?, old: value(&rest.slice(end..))? })
            }
            other => Err(SerdeError::new(format!("a change of unknown kind {other}"))),
        }
    }
}

impl<K: Payload, V: Payload> KGroupedTable<K, V> {
    pub(crate) fn new<K0: Payload, V0: Payload>(
        table: &KTable<K0, V0>,
        select: impl Fn(&K0, &V0) -> (K, V) + Send + Sync + 'static,
        grouped: Grouped<K, V>,
    ) -> Self {
        let mut graph = table.graph.borrow_mut();
        let name = graph.generate("KTABLE-SELECT");
        let key = require(&mut graph, grouped.key.clone(), &name, "key", "Grouped::with");
        let (select, value) = (Arc::new(select), grouped.value.clone());
        let make: MakeNode = Arc::new(move || {
            let (select, key_serde, value_serde) = (select.clone(), key.clone(), value.clone());
            node(move |record: Rec<K0, Change<V0>>, cx| {
                if cx.out_of_order() {
                    return Ok(());
                }
                let Rec { key, value: Change { new, old }, timestamp } = record;
                // A null value is no row of its group, as in Kafka Streams.
                let row = |value: V0| {
                    let (key, value) = select(&key, &value);
                    let null = value_serde.as_ref().is_some_and(|serde| serde.is_null(&value));
                    (!null).then_some((key, value))
                };
                let (new, old) = (new.and_then(row), old.and_then(row));
                let change = |new, old| Change { new, old };
                match (new, old) {
                    (None, None) => Ok(()),
                    (Some((key, new)), None) => {
                        cx.forward(Rec { key, value: change(Some(new), None), timestamp })
                    }
                    (None, Some((key, old))) => {
                        cx.forward(Rec { key, value: change(None, Some(old)), timestamp })
                    }
                    (Some((new_key, new)), Some((old_key, old))) => {
                        let encoded = cx.encode(&key_serde, "key", "a grouping", &new_key)?;
                        if encoded == cx.encode(&key_serde, "key", "a grouping", &old_key)? {
                            return cx.forward(Rec {
                                key: new_key,
                                value: change(Some(new), Some(old)),
                                timestamp,
                            });
                        }
                        cx.forward(Rec { key: old_key, value: change(None, Some(old)), timestamp })?;
                        cx.forward(Rec { key: new_key, value: change(Some(new), None), timestamp })
                    }
                }
            })
        });
        let node = graph.operator(name, "select key", &[table.node], make);
        drop(graph);
        Self {
            graph: table.graph.clone(),
            node,
            name: grouped.name,
            key_serde: grouped.key,
            value_serde: grouped.value,
            partitioned: std::cell::Cell::new(None),
        }
    }

    /// How many rows each key has.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let value = Some(materialized.value.clone().unwrap_or_else(serdes::i64));
        let options = Materialized { value, ..materialized };
        self.fold("count", options, |_, _, count| count.unwrap_or(0) + 1, |_, _, count: i64| count - 1)
    }

    /// Combines the values of each key; `subtract` takes an old value out of the result.
    pub fn reduce(
        &self,
        add: impl Fn(V, V) -> V + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let value = materialized.value.clone().or(self.value_serde.clone());
        let fold = move |_: &K, value, sum| match sum {
            Some(sum) => add(sum, value),
            None => value,
        };
        self.fold("reduce", Materialized { value, ..materialized }, fold, move |_, old, sum| {
            subtract(sum, old)
        })
    }

    /// Adds new values to their key's aggregate and subtracts old ones.
    pub fn aggregate<A: Payload>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let fold = move |key: &K, value, sum: Option<A>| add(key, value, sum.unwrap_or_else(&initial));
        self.fold("aggregate", materialized, fold, subtract)
    }

    fn fold<A: Payload>(
        &self,
        kind: &'static str,
        options: Materialized<K, A>,
        add: impl Fn(&K, V, Option<A>) -> A + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate("KTABLE-AGGREGATE");
        let store_name = windowless_name(options.name.as_deref(), &name);
        let key = options.key.clone().or(self.key_serde.clone());
        let key = require(&mut graph, key, &name, "key", "Grouped::with");
        let value =
            require(&mut graph, options.value.clone(), &name, "aggregate", "Materialized::value_serde");
        let source = self.partitioned.get().unwrap_or_else(|| {
            let value = require(&mut graph, self.value_serde.clone(), &name, "value", "Grouped::with");
            let change: SerdeRef<Change<V>> = Arc::new(ChangeSerde(value));
            let topic = self.name.as_deref().unwrap_or(&store_name);
            repartition(&mut graph, self.node, topic, None, (key.clone(), change))
        });
        self.partitioned.set(Some(source));
        let rows = Rows::add(&mut graph, &store_name, (&key, &value), None, &options);
        let (key_serde, topic, add, subtract) =
            (key.clone(), store_name.clone(), Arc::new(add), Arc::new(subtract));
        let make: MakeNode = Arc::new(move || {
            let (key_serde, topic) = (key_serde.clone(), topic.clone());
            let (add, subtract) = (add.clone(), subtract.clone());
            node(move |record: Rec<K, Change<V>>, cx| {
                let Some(key) = cx.key(&key_serde, &topic, &record.key)? else { return Ok(()) };
                let stored = rows.get::<A>(&key, cx)?;
                let timestamp =
                    stored.as_ref().map_or(record.timestamp, |(newest, _)| record.timestamp.max(*newest));
                let old = stored.map(|(_, value)| value);
                let mut sum = old.clone();
                if let Some(value) = record.value.old {
                    sum = sum.map(|sum| subtract(&record.key, value, sum));
                }
                if let Some(value) = record.value.new {
                    sum = Some(add(&record.key, value, sum));
                }
                let written = rows.put(key, sum.clone(), timestamp, cx)?;
                rows.forward(written, Rec { key: record.key, value: Change { new: sum, old }, timestamp }, cx)
            })
        });
        let node = graph.operator(name, kind, &[source], make);
        rows.connect(&mut graph, node);
        drop(graph);
        KTable {
            graph: self.graph.clone(),
            node,
            sources: [source].into(),
            getter: rows.getter(&store_name, &key),
            history: rows.history(&store_name, &key),
            key_serde: Some(key),
            value_serde: Some(value),
            stores: vec![rows.store],
            close_after_ms: None,
            unsettled: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_and_short_ones_are_refused() {
        let serde = ChangeSerde(serdes::string());
        let text = |s: &str| Some(s.to_owned());
        for (new, old) in [(text("n"), text("o")), (text(""), text("")), (text("n"), None), (None, text("o"))]
        {
            let change = Change { new, old };
            assert_eq!(serde.deserialize("t", &serde.serialize("t", &change).unwrap()).unwrap(), change);
        }
        for bad in [&b""[..], b"\x07", b"\0\0\0\x09ab\x02", b"\0\x02"] {
            assert!(serde.deserialize("t", &Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
