//! A grouped stream: counted, reduced or aggregated per key.
//!
//! Records with a null key are skipped and counted.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::graph::MakeNode;
use crate::node::{Change, Payload, Rec, node};
use crate::serdes;
use crate::windows::{SessionWindows, SlidingWindows, TimeWindows};

use super::closing::EmitStrategy;
use super::cogroup::CogroupedKStream;
use super::kstream::KStream;
use super::ktable::KTable;
use super::options::{Grouped, Materialized};
use super::parts::require;
use super::rows::Rows;
use super::sliding::SlidingWindowedKStream;
use super::windowed::{SessionWindowedKStream, TimeWindowedKStream};

/// The store's name: the one given, or one made from its operator's, as Kafka Streams does.
pub(crate) fn windowless_name(given: Option<&str>, operator: &str) -> String {
    given.map_or_else(|| format!("{operator}-STORE"), str::to_owned)
}

/// A stream grouped by its key.
pub struct KGroupedStream<K, V> {
    stream: KStream<K, V>,
    name: Option<String>,
    /// Shared by all aggregations of this grouping, so that they share one repartition topic.
    partitioned: Rc<RefCell<Option<KStream<K, V>>>>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), name: self.name.clone(), partitioned: self.partitioned.clone() }
    }
}

impl<K: Payload, V: Payload> KGroupedStream<K, V> {
    pub(crate) fn new(stream: KStream<K, V>, grouped: Grouped<K, V>) -> Self {
        let stream = KStream {
            key_serde: grouped.key.or(stream.key_serde.clone()),
            value_serde: grouped.value.or(stream.value_serde.clone()),
            ..stream
        };
        Self { stream, name: grouped.name, partitioned: Rc::default() }
    }

    /// The stream partitioned by key; its repartition topic is named after the grouping or the first store.
    pub(crate) fn partitioned(&self, store: &str) -> KStream<K, V> {
        let make = || self.stream.by_key(self.name.as_deref().unwrap_or(store), None, None);
        self.partitioned.borrow_mut().get_or_insert_with(make).clone()
    }

    pub(crate) fn stream(&self) -> &KStream<K, V> {
        &self.stream
    }

    pub(crate) fn value_serde(&self) -> Option<serdes::SerdeRef<V>> {
        self.stream.value_serde.clone()
    }

    /// Aggregates per window of fixed size.
    pub fn windowed_by(&self, windows: TimeWindows) -> TimeWindowedKStream<K, V> {
        TimeWindowedKStream { grouped: self.clone(), windows, late: None, emit: EmitStrategy::OnWindowUpdate }
    }

    /// Aggregates per session.
    pub fn windowed_by_session(&self, windows: SessionWindows) -> SessionWindowedKStream<K, V> {
        let emit = EmitStrategy::OnWindowUpdate;
        SessionWindowedKStream { grouped: self.clone(), windows, late: None, emit }
    }

    /// Aggregates per window around each record.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{
    /// #     Consumed, Grouped, Materialized, Produced, SlidingWindows, StreamsBuilder, TopologyTestDriver, time_windowed,
    /// # };
    /// let ten = Duration::from_millis(10);
    /// let builder = StreamsBuilder::new("app");
    /// builder
    ///     .stream("in", Consumed::with(string(), i64()))
    ///     .group_by_key(Grouped::new())
    ///     .windowed_by_sliding(SlidingWindows::of_time_difference_with_no_grace(ten))
    ///     .count(Materialized::named("counts"))
    ///     .to("out", Produced::with(time_windowed(string(), ten), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for time in [20, 25] {
    ///     driver.pipe("in", (&string(), &i64()), (&"k".to_owned(), &0), time)?;
    /// }
    /// let windows = driver.read("out", (&time_windowed(string(), ten), &i64()));
    /// let shown: Vec<_> = windows.iter().map(|(w, count, _)| (w.start, w.end, count.unwrap())).collect();
    /// assert_eq!(shown, [(10, 20, 1), (21, 31, 1), (15, 25, 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn windowed_by_sliding(&self, windows: SlidingWindows) -> SlidingWindowedKStream<K, V> {
        SlidingWindowedKStream::new(self.clone(), windows)
    }

    /// Aggregates several streams into one table; each has its own way to be added.
    ///
    /// ```
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Consumed, Grouped, KeyQuery, Materialized, Query, StreamsBuilder, TopologyTestDriver};
    /// let builder = StreamsBuilder::new("app");
    /// let numbers = builder.stream("numbers", Consumed::with(string(), i64())).group_by_key(Grouped::new());
    /// let texts = builder.stream("texts", Consumed::with(string(), string())).group_by_key(Grouped::new());
    /// numbers
    ///     .cogroup(|_, number, sum: i64| sum + number)
    ///     .cogroup(&texts, |_, text: String, sum| sum + text.len() as i64)
    ///     .aggregate(|| 0, Materialized::named("sums").value_serde(i64()).json());
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("numbers", (&string(), &i64()), (&"k".to_owned(), &4), 0)?;
    /// driver.pipe("texts", (&string(), &string()), (&"k".to_owned(), &"abc".to_owned()), 1)?;
    /// let row = driver.query("sums", &Query::Key(KeyQuery { key: "k".to_owned() })).unwrap()?;
    /// assert_eq!(row[0]["value"], 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cogroup<A: Payload>(
        &self,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        CogroupedKStream::new(self, add)
    }

    /// How many records each key has.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let value = Some(materialized.value.clone().unwrap_or_else(serdes::i64));
        let options = Materialized { value, ..materialized };
        self.fold("count", options, |_, _, count: Option<i64>| count.unwrap_or(0) + 1)
    }

    /// Combines the values of each key; the first value is the first result.
    pub fn reduce(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let value = materialized.value.clone().or(self.stream.value_serde.clone());
        self.fold("reduce", Materialized { value, ..materialized }, move |_, value, sum| match sum {
            Some(sum) => reduce(sum, value),
            None => value,
        })
    }

    /// Adds each value to its key's aggregate.
    pub fn aggregate<A: Payload>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.fold("aggregate", materialized, move |key, value, sum| {
            add(key, value, sum.unwrap_or_else(&initial))
        })
    }

    fn fold<A: Payload>(
        &self,
        kind: &'static str,
        options: Materialized<K, A>,
        fold: impl Fn(&K, V, Option<A>) -> A + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let name = self.stream.graph.borrow_mut().generate("KSTREAM-AGGREGATE");
        let store_name = windowless_name(options.name.as_deref(), &name);
        let stream = self.partitioned(&store_name);
        let mut graph = stream.graph.borrow_mut();
        let key = options.key.clone().or(stream.key_serde.clone());
        let key = require(&mut graph, key, &name, "key", "Grouped::with");
        let value =
            require(&mut graph, options.value.clone(), &name, "aggregate", "Materialized::value_serde");
        let rows = Rows::add(&mut graph, &store_name, (&key, &value), None, &options);
        let (key_serde, topic, fold) = (key.clone(), store_name.clone(), Arc::new(fold));
        let make: MakeNode = Arc::new(move || {
            let (key_serde, topic, fold) = (key_serde.clone(), topic.clone(), fold.clone());
            node(move |record: Rec<K, V>, cx| {
                let Some(key) = cx.key(&key_serde, &topic, &record.key)? else { return Ok(()) };
                let old = rows.get::<A>(&key, cx)?;
                let timestamp =
                    old.as_ref().map_or(record.timestamp, |(newest, _)| record.timestamp.max(*newest));
                let old = old.map(|(_, value)| value);
                let new = fold(&record.key, record.value, old.clone());
                let written = rows.put(key, Some(new.clone()), timestamp, cx)?;
                let change = Change { new: Some(new), old };
                rows.forward(written, Rec { key: record.key, value: change, timestamp }, cx)
            })
        });
        let node = graph.operator(name, kind, &[stream.node], make);
        rows.connect(&mut graph, node);
        drop(graph);
        KTable {
            graph: stream.graph.clone(),
            node,
            sources: stream.sources.clone(),
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
