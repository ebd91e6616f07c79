//! Joins of two tables by the same key.
//!
//! Either side's change looks up the other side's current row. The result has a row where the join kind says so, and its
//! old value is computed the same way, so downstream aggregates can take it back.

use std::sync::Arc;

use crate::graph::MakeNode;
use crate::node::{Change, Payload, Rec, node};

use super::ktable::KTable;
use super::parts::{Getter, copartition};

/// A row of the result, if the join kind wants one.
type Join<V1, V2, R> = Arc<dyn Fn(Option<&V1>, Option<&V2>) -> Option<R> + Send + Sync>;

impl<K: Payload, V: Payload> KTable<K, V> {
    /// Rows whose key is in both tables.
    pub fn join<V2: Payload, R: Payload>(
        &self,
        other: &KTable<K, V2>,
        join: impl Fn(&V, &V2) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.join_rows(other, Arc::new(move |left, right| Some(join(left?, right?))))
    }

    /// All rows of this table, with the other's where there is one.
    pub fn left_join<V2: Payload, R: Payload>(
        &self,
        other: &KTable<K, V2>,
        join: impl Fn(&V, Option<&V2>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.join_rows(other, Arc::new(move |left, right| Some(join(left?, right))))
    }

    /// Rows whose key is in either table.
    pub fn outer_join<V2: Payload, R: Payload>(
        &self,
        other: &KTable<K, V2>,
        join: impl Fn(Option<&V>, Option<&V2>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        self.join_rows(
            other,
            Arc::new(move |left, right| (left.is_some() || right.is_some()).then(|| join(left, right))),
        )
    }

    fn join_rows<V2: Payload, R: Payload>(
        &self,
        other: &KTable<K, V2>,
        join: Join<V, V2, R>,
    ) -> KTable<K, R> {
        let (this, other) = (self.settled(), &other.settled());
        this.join_settled(other, join)
    }

    fn join_settled<V2: Payload, R: Payload>(
        &self,
        other: &KTable<K, V2>,
        join: Join<V, V2, R>,
    ) -> KTable<K, R> {
        let flipped: Join<V2, V, R> = {
            let join = join.clone();
            Arc::new(move |right, left| join(left, right))
        };
        let mut graph = self.graph.borrow_mut();
        let name = graph.generate("KTABLE-JOINTHIS");
        let left = graph.operator(name, "join", &[self.node], side(other.getter.clone(), join.clone()));
        let name = graph.generate("KTABLE-JOINOTHER");
        let right = graph.operator(name, "join", &[other.node], side(self.getter.clone(), flipped));
        let name = graph.generate("KTABLE-MERGE");
        let pass: MakeNode = Arc::new(|| node(|record: Rec<K, Change<R>>, cx| cx.forward(record)));
        let merged = graph.operator(name, "merge", &[left, right], pass);
        graph.connect(left, &other.stores);
        graph.connect(right, &self.stores);
        let sources = copartition(&mut graph, merged, &self.sources, &other.sources);
        drop(graph);
        let (this, that) = (self.getter.clone(), other.getter.clone());
        let getter: Getter<K, R> = Arc::new(move |cx, key| {
            let (left, right) = (this(cx, key)?, that(cx, key)?);
            let timestamp = left.as_ref().map(|(t, _)| *t).max(right.as_ref().map(|(t, _)| *t)).unwrap_or(0);
            Ok(join(left.as_ref().map(|(_, v)| v), right.as_ref().map(|(_, v)| v))
                .map(|row| (timestamp, row)))
        });
        KTable {
            graph: self.graph.clone(),
            node: merged,
            sources,
            key_serde: self.key_serde.clone().or(other.key_serde.clone()),
            value_serde: None,
            stores: self.stores.iter().chain(&other.stores).copied().collect(),
            getter,
            // A window is final when neither side changes it any more.
            close_after_ms: self.close_after_ms.map(|own| own.max(other.close_after_ms.unwrap_or(0))),
            history: None,
            unsettled: None,
        }
    }
}

fn side<K: Payload, V: Payload, V2: Payload, R: Payload>(
    other: Getter<K, V2>,
    join: Join<V, V2, R>,
) -> MakeNode {
    Arc::new(move || {
        let (other, join) = (other.clone(), join.clone());
        node(move |record: Rec<K, Change<V>>, cx| {
            if cx.out_of_order() {
                return Ok(());
            }
            let found = other(cx, &record.key)?;
            let row = found.as_ref().map(|(_, row)| row);
            let new = join(record.value.new.as_ref(), row);
            let old = join(record.value.old.as_ref(), row);
            if new.is_none() && old.is_none() && found.is_none() {
                return Ok(());
            }
            let timestamp =
                found.as_ref().map_or(record.timestamp, |(other, _)| record.timestamp.max(*other));
            cx.forward(Rec { key: record.key, value: Change { new, old }, timestamp })
        })
    })
}
