//! Several grouped streams aggregated into one table.
//!
//! Each stream's values are paired with the function that adds them; what is aggregated is the stream of these pairs. So a
//! cogrouped aggregate is windowed, stored and queried as any other. All streams have to be copartitioned.

use std::sync::Arc;

use crate::graph::{Copartition, MakeNode};
use crate::node::{Payload, Rec, node};
use crate::windows::{SessionWindows, SlidingWindows, TimeWindows, Windowed};

use super::grouped::KGroupedStream;
use super::kstream::KStream;
use super::ktable::KTable;
use super::options::{Grouped, Materialized};
use super::parts::{GraphRef, Sources};

/// One value and how it is added.
trait Addition<K, A>: Send {
    fn add_to(self: Box<Self>, key: &K, sum: A) -> A;
    fn copied(&self) -> Box<dyn Addition<K, A>>;
}

type Add<K, V, A> = Arc<dyn Fn(&K, V, A) -> A + Send + Sync>;

struct Pair<K, V, A> {
    value: V,
    add: Add<K, V, A>,
}

impl<K: Payload, V: Payload, A: Payload> Addition<K, A> for Pair<K, V, A> {
    fn add_to(self: Box<Self>, key: &K, sum: A) -> A {
        (self.add)(key, self.value, sum)
    }

    fn copied(&self) -> Box<dyn Addition<K, A>> {
        Box::new(Self { value: self.value.clone(), add: self.add.clone() })
    }
}

/// What flows from the streams to the aggregate.
struct Step<K, A>(Box<dyn Addition<K, A>>);

impl<K: Payload, A: Payload> Clone for Step<K, A> {
    fn clone(&self) -> Self {
        Self(self.0.copied())
    }
}

/// Makes a stream's part once the store's name is known, by which its repartition topic is named.
type Part<K, A> = Arc<dyn Fn(&str) -> KStream<K, Step<K, A>>>;

/// Grouped streams that are aggregated together.
pub struct CogroupedKStream<K, A> {
    graph: GraphRef,
    parts: Vec<Part<K, A>>,
}

impl<K, A> Clone for CogroupedKStream<K, A> {
    fn clone(&self) -> Self {
        Self { graph: self.graph.clone(), parts: self.parts.clone() }
    }
}

/// The stream of a group, each value with its addition.
fn part<K: Payload, V: Payload, A: Payload>(grouped: &KGroupedStream<K, V>, add: Add<K, V, A>) -> Part<K, A> {
    let grouped = grouped.clone();
    Arc::new(move |store| {
        let stream = grouped.partitioned(store);
        let add = add.clone();
        let make: MakeNode = Arc::new(move || {
            let add = add.clone();
            node(move |record: Rec<K, V>, cx| {
                let Rec { key, value, timestamp } = record;
                cx.forward(Rec { key, value: Step(Box::new(Pair { value, add: add.clone() })), timestamp })
            })
        });
        let mut graph = stream.graph.borrow_mut();
        let name = graph.generate("COGROUPKSTREAM-AGGREGATE");
        let node = graph.operator(name, "cogroup", &[stream.node], make);
        drop(graph);
        stream.with_values(node)
    })
}

impl<K: Payload, A: Payload> CogroupedKStream<K, A> {
    pub(crate) fn new<V: Payload>(
        grouped: &KGroupedStream<K, V>,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        Self { graph: grouped.stream().graph.clone(), parts: Vec::new() }.cogroup(grouped, add)
    }

    /// Adds another stream, whose values are added by `add`.
    pub fn cogroup<V: Payload>(
        mut self,
        grouped: &KGroupedStream<K, V>,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        self.parts.push(part(grouped, Arc::new(add)));
        self
    }

    /// Aggregates per window of fixed size.
    pub fn windowed_by(&self, windows: TimeWindows) -> TimeWindowedCogroupedKStream<K, A> {
        TimeWindowedCogroupedKStream { cogrouped: self.clone(), windows }
    }

    /// Aggregates per window around each record.
    pub fn windowed_by_sliding(&self, windows: SlidingWindows) -> SlidingWindowedCogroupedKStream<K, A> {
        SlidingWindowedCogroupedKStream { cogrouped: self.clone(), windows }
    }

    /// Aggregates per session.
    pub fn windowed_by_session(&self, windows: SessionWindows) -> SessionWindowedCogroupedKStream<K, A> {
        SessionWindowedCogroupedKStream { cogrouped: self.clone(), windows }
    }

    /// The streams as one, and the options with the store's name.
    fn merged(&self, options: Materialized<K, A>) -> (KGroupedStream<K, Step<K, A>>, Materialized<K, A>) {
        let given = options.name.clone();
        let name =
            given.unwrap_or_else(|| self.graph.borrow_mut().generate("COGROUPKSTREAM-AGGREGATE-STATE-STORE"));
        let streams: Vec<_> = self.parts.iter().map(|part| part(&name)).collect();
        let first = &streams[0];
        let mut graph = self.graph.borrow_mut();
        let make: MakeNode = Arc::new(|| node(|record: Rec<K, Step<K, A>>, cx| cx.forward(record)));
        let merge = graph.generate("COGROUPKSTREAM-MERGE");
        let parents: Vec<usize> = streams.iter().map(|stream| stream.node).collect();
        let merged = graph.operator(merge, "merge", &parents, make);
        let sources: Sources = streams.iter().flat_map(|stream| stream.sources.iter().copied()).collect();
        if sources.len() > 1 {
            let node = graph.nodes[merged].name.clone();
            graph.copartitions.push(Copartition { node, sources: sources.clone() });
        }
        drop(graph);
        let key_serde = streams.iter().find_map(|stream| stream.key_serde.clone());
        let stream = KStream { key_serde, sources, ..first.with_values(merged) };
        let grouped = KGroupedStream::new(stream, Grouped::new());
        (grouped, Materialized { name: Some(name), ..options })
    }

    /// One aggregate per key over all streams.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let (grouped, options) = self.merged(materialized);
        grouped.aggregate(initial, add, options)
    }
}

fn add<K, A>(key: &K, step: Step<K, A>, sum: A) -> A {
    step.0.add_to(key, sum)
}

/// Cogrouped streams cut into windows of fixed size.
pub struct TimeWindowedCogroupedKStream<K, A> {
    cogrouped: CogroupedKStream<K, A>,
    windows: TimeWindows,
}

impl<K: Payload, A: Payload> TimeWindowedCogroupedKStream<K, A> {
    /// One aggregate per key and window over all streams.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let (grouped, options) = self.cogrouped.merged(materialized);
        grouped.windowed_by(self.windows).aggregate(initial, add, options)
    }
}

/// Cogrouped streams cut into windows around their records.
pub struct SlidingWindowedCogroupedKStream<K, A> {
    cogrouped: CogroupedKStream<K, A>,
    windows: SlidingWindows,
}

impl<K: Payload, A: Payload> SlidingWindowedCogroupedKStream<K, A> {
    /// One aggregate per key and window over all streams.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let (grouped, options) = self.cogrouped.merged(materialized);
        grouped.windowed_by_sliding(self.windows).aggregate(initial, add, options)
    }
}

/// Cogrouped streams cut into sessions.
pub struct SessionWindowedCogroupedKStream<K, A> {
    cogrouped: CogroupedKStream<K, A>,
    windows: SessionWindows,
}

impl<K: Payload, A: Payload> SessionWindowedCogroupedKStream<K, A> {
    /// One aggregate per key and session over all streams; `merge` joins those of sessions that grow together, the earlier
    /// one first.
    pub fn aggregate(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let (grouped, options) = self.cogrouped.merged(materialized);
        grouped.windowed_by_session(self.windows).aggregate(initial, add, merge, options)
    }
}
