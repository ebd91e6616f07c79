//! Windowed aggregation: tumbling and hopping windows, and sessions.
//!
//! A record whose window has closed by the stream time it carries (at or past end + grace; sessions: past end + gap +
//! grace) is dropped, counted, and sent to [`late_to`](TimeWindowedKStream::late_to)'s topic. Windows are forgotten by the
//! watermark. So the result does not depend on the order in which lanes are read.
//!
//! A late record that extends a session which is still open is taken, as in Kafka Streams, where one lane feeds the
//! operator. With several lanes the open session might as well not be there yet, so the record alone decides.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, TimestampMs};

use crate::error::{TaskError, TopologyError};
use crate::graph::{Graph, MakeNode};
use crate::node::{Change, Cx, Payload, Rec};
use crate::serdes::{self, SerdeRef};
use crate::store::StoreKind;
use crate::windows::{SessionWindows, TimeWindows, Windowed, session_windowed, time_windowed};

use super::closing::{Bounds, Closing, EmitStrategy, windowed_node};
use super::grouped::{KGroupedStream, windowless_name};
use super::kstream::KStream;
use super::ktable::KTable;
use super::options::{Materialized, Produced};
use super::parts::{Getter, NullKeys, Writer, require, timed_store, writing_node};

/// A grouped stream cut into windows of fixed size.
pub struct TimeWindowedKStream<K, V> {
    pub(crate) grouped: KGroupedStream<K, V>,
    pub(crate) windows: TimeWindows,
    pub(crate) late: Option<LateSink<K, V>>,
    pub(crate) emit: EmitStrategy,
}

/// A grouped stream cut into sessions.
pub struct SessionWindowedKStream<K, V> {
    pub(crate) grouped: KGroupedStream<K, V>,
    pub(crate) windows: SessionWindows,
    pub(crate) late: Option<LateSink<K, V>>,
    pub(crate) emit: EmitStrategy,
}

/// Where late records go.
pub(crate) struct LateSink<K, V> {
    pub topic: String,
    pub produced: Produced<K, V>,
}

impl<K: Payload, V: Payload> LateSink<K, V> {
    /// A sink without parents: the windowed operator hands it what is late.
    fn add(&self, graph: &mut Graph) -> usize {
        let Produced { key, value, name, partitioner } = &self.produced;
        graph.check_name(&self.topic);
        let name = graph.name(name.as_deref(), "KSTREAM-SINK");
        let writer = Writer { key: key.clone(), value: value.clone(), partitioner: partitioner.clone() };
        graph.sink(name, &self.topic, &[], writing_node(&self.topic, writer, NullKeys::Written))
    }
}

/// What all kinds need to know about their operator.
pub(super) struct Operator<K, V, A> {
    pub name: String,
    pub store_name: String,
    pub stream: KStream<K, V>,
    pub key: SerdeRef<K>,
    pub value: SerdeRef<A>,
    pub store: usize,
    pub clock: usize,
    pub retention: i64,
    pub late: Option<usize>,
}

/// Settles names and serdes and adds the store.
pub(super) fn operator<K: Payload, V: Payload, A: Payload>(
    grouped: &KGroupedStream<K, V>,
    kind: StoreKind,
    (needed_ms, size): (i64, Option<i64>),
    options: &Materialized<K, A>,
    late: Option<&LateSink<K, V>>,
) -> Operator<K, V, A> {
    let name = grouped.stream().graph.borrow_mut().generate("KSTREAM-AGGREGATE");
    let store_name = windowless_name(options.name.as_deref(), &name);
    let stream = grouped.partitioned(&store_name);
    let mut guard = stream.graph.borrow_mut();
    let graph: &mut Graph = &mut guard;
    let key = require(graph, options.key.clone().or(stream.key_serde.clone()), &name, "key", "Grouped::with");
    let value = require(graph, options.value.clone(), &name, "aggregate", "Materialized::value_serde");
    let (store, retention) =
        timed_store(graph, &store_name, (&key, &value), kind, (needed_ms, size), options);
    let clock = graph.add_clock(&store_name);
    let late = late.map(|sink| sink.add(graph));
    drop(guard);
    Operator { name, store_name, stream, key, value, store, clock, retention, late }
}

impl<K: Payload, V: Payload, A: Payload> Operator<K, V, A> {
    /// What this operator emits when a window closes: `after` milliseconds after the time of its entry in the store.
    pub fn closing(&self, window: Bounds, after: i64) -> Closing<K> {
        let (key, topic) = (self.key.clone(), self.store_name.clone());
        // No store is called so.
        let told = self.stream.graph.borrow_mut().add_clock(&format!("{}/told", self.store_name));
        Closing { key, topic, store: self.store, clock: self.clock, told, window, after }
    }

    pub fn table(
        self,
        kind: &'static str,
        make: MakeNode,
        key_serde: SerdeRef<Windowed<K>>,
        session: bool,
        close_after_ms: i64,
    ) -> KTable<Windowed<K>, A> {
        let mut graph = self.stream.graph.borrow_mut();
        let node = graph.operator(self.name.clone(), kind, &[self.stream.node], make);
        graph.connect(node, &[self.store]);
        graph.set_clock(node, self.clock);
        graph.nodes[node].late = self.late;
        drop(graph);
        let (store, topic, key) = (self.store, self.store_name, self.key);
        let getter: Getter<Windowed<K>, A> = Arc::new(move |cx, window| {
            let Some(key) = cx.encode(&key, "key", &topic, &window.key)? else { return Ok(None) };
            let store = cx.store::<A>(store);
            let (time, second) = if session { (window.end, window.start) } else { (window.start, 0) };
            let store_key = store.layout().store_key(&key, time, second);
            store.get(&store_key)
        });
        KTable {
            graph: self.stream.graph.clone(),
            node,
            sources: self.stream.sources.clone(),
            key_serde: Some(key_serde),
            value_serde: Some(self.value),
            stores: vec![self.store],
            getter,
            close_after_ms: Some(close_after_ms),
            history: None,
            unsettled: None,
        }
    }
}

impl<K: Payload, V: Payload> TimeWindowedKStream<K, V> {
    /// Writes what is dropped as late to a topic, key and value as they came. A record that only some of its hopping
    /// windows could still take is written, too.
    pub fn late_to(self, topic: &str, produced: Produced<K, V>) -> Self {
        Self { late: Some(LateSink { topic: topic.to_owned(), produced }), ..self }
    }

    /// Emits each window once, when it takes no more records from any lane, instead of every update (Kafka Streams'
    /// `EmitStrategy.onWindowClose`, KIP-825).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{
    /// #     Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, TopologyTestDriver, time_windowed,
    /// # };
    /// let ten = Duration::from_millis(10);
    /// let builder = StreamsBuilder::new("app");
    /// builder
    ///     .stream("in", Consumed::with(string(), i64()))
    ///     .group_by_key(Grouped::new())
    ///     .windowed_by(TimeWindows::of(ten))
    ///     .emit_on_close()
    ///     .count(Materialized::named("counts"))
    ///     .to("out", Produced::with(time_windowed(string(), ten), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for time in [1, 9, 10] {
    ///     driver.pipe("in", (&string(), &i64()), (&"k".to_owned(), &0), time)?;
    /// }
    /// let closed = driver.read("out", (&time_windowed(string(), ten), &i64()));
    /// assert_eq!((closed.len(), closed[0].1, closed[0].2), (1, Some(2), 9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn emit_on_close(self) -> Self {
        Self { emit: EmitStrategy::OnWindowClose, ..self }
    }

    /// How many records each key has per window.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        let value = Some(materialized.value.clone().unwrap_or_else(serdes::i64));
        let options = Materialized { value, ..materialized };
        self.fold("count", options, |_, _, count: Option<i64>| count.unwrap_or(0) + 1)
    }

    /// Combines the values of each key and window.
    pub fn reduce(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let value = materialized.value.clone().or(self.grouped.value_serde());
        self.fold("reduce", Materialized { value, ..materialized }, move |_, value, sum| match sum {
            Some(sum) => reduce(sum, value),
            None => value,
        })
    }

    /// Adds each value to the aggregate of its key and window.
    pub fn aggregate<A: Payload>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.fold("aggregate", materialized, move |key, value, sum| {
            add(key, value, sum.unwrap_or_else(&initial))
        })
    }

    fn fold<A: Payload>(
        &self,
        kind: &'static str,
        options: Materialized<K, A>,
        fold: impl Fn(&K, V, Option<A>) -> A + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let windows = self.windows;
        let needed = windows.size.saturating_add(windows.grace);
        let sizes = (needed, Some(windows.size));
        let options = Materialized { indexed: self.emit.on_close(), ..options };
        let operator = operator(&self.grouped, StoreKind::Window, sizes, &options, self.late.as_ref());
        if let Some(reason) = windows.problem() {
            let node = operator.name.clone();
            operator.stream.graph.borrow_mut().errors.push(TopologyError::InvalidWindow { node, reason });
        }
        let (key_serde, topic, fold) = (operator.key.clone(), operator.store_name.clone(), Arc::new(fold));
        let (store, clock, retention) = (operator.store, operator.clock, operator.retention);
        let on_close = self.emit.on_close();
        let closing = on_close.then(|| operator.closing(Bounds::Sized(windows.size), needed));
        let make: MakeNode = Arc::new(move || {
            let (key_serde, topic, fold) = (key_serde.clone(), topic.clone(), fold.clone());
            let run = move |record: Rec<K, V>, cx: &mut Cx<'_>| {
                let Some(key) = cx.key(&key_serde, &topic, &record.key)? else { return Ok(()) };
                let oldest = cx.watermark(clock).saturating_sub(retention);
                cx.store::<A>(store).expire_before(oldest)?;
                let closed = cx.stream_time().saturating_sub(windows.grace);
                let is_open = |start: &i64| start.saturating_add(windows.size) > closed;
                if windows.starts(record.timestamp).any(|start| !is_open(&start)) {
                    cx.core.metrics.dropped_late += 1;
                    cx.forward_late(record.clone())?;
                }
                let mut open = windows.starts(record.timestamp).filter(is_open).peekable();
                let mut value = Some(record.value);
                while let Some(start) = open.next() {
                    let value = if open.peek().is_some() { value.clone() } else { value.take() };
                    let Some(value) = value else { break };
                    let end = start.saturating_add(windows.size);
                    let store = cx.store::<A>(store);
                    let store_key = store.layout().store_key(&key, start, 0);
                    let old = store.get(&store_key)?;
                    let timestamp =
                        old.as_ref().map_or(record.timestamp, |(newest, _)| record.timestamp.max(*newest));
                    let old = old.map(|(_, value)| value);
                    let new = fold(&record.key, value, old.clone());
                    store.put(store_key, Some((timestamp, new.clone())));
                    if !on_close {
                        let window = Windowed { key: record.key.clone(), start, end };
                        cx.forward(Rec { key: window, value: Change { new: Some(new), old }, timestamp })?;
                    }
                }
                Ok(())
            };
            windowed_node::<K, V, A>(run, closing.clone())
        });
        let size = Duration::from_millis(windows.size.unsigned_abs());
        let windowed = time_windowed(operator.key.clone(), size);
        operator.table(kind, make, windowed, false, windows.grace)
    }
}

impl<K: Payload, V: Payload> SessionWindowedKStream<K, V> {
    /// Writes what is dropped as late to a topic, key and value as they came.
    pub fn late_to(self, topic: &str, produced: Produced<K, V>) -> Self {
        Self { late: Some(LateSink { topic: topic.to_owned(), produced }), ..self }
    }

    /// Emits each window once, when it takes no more records from any lane, instead of every update (Kafka Streams'
    /// `EmitStrategy.onWindowClose`, KIP-825).
    pub fn emit_on_close(self) -> Self {
        Self { emit: EmitStrategy::OnWindowClose, ..self }
    }

    /// How many records each session has.
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        let value = Some(materialized.value.clone().unwrap_or_else(serdes::i64));
        let options = Materialized { value, ..materialized };
        self.fold("count", options, |_, _, count: Option<i64>| count.unwrap_or(0) + 1, |_, a, b| a + b)
    }

    /// Combines the values of each session.
    pub fn reduce(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let value = materialized.value.clone().or(self.grouped.value_serde());
        let (reduce, merge) = {
            let reduce = Arc::new(reduce);
            (reduce.clone(), reduce)
        };
        let fold = move |_: &K, value: V, sum: Option<V>| match sum {
            Some(sum) => reduce(sum, value),
            None => value,
        };
        self.fold("reduce", Materialized { value, ..materialized }, fold, move |_, a, b| merge(a, b))
    }

    /// Adds each value to its session's aggregate; `merge` joins the aggregates of sessions that grow together, the
    /// earlier one first.
    pub fn aggregate<A: Payload>(
        &self,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let fold = move |key: &K, value, sum: Option<A>| add(key, value, sum.unwrap_or_else(&initial));
        self.fold("aggregate", materialized, fold, merge)
    }

    fn fold<A: Payload>(
        &self,
        kind: &'static str,
        options: Materialized<K, A>,
        fold: impl Fn(&K, V, Option<A>) -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let SessionWindows { gap, grace } = self.windows;
        // With several lanes, a record that is just not late may touch a session that ended a gap before it.
        let close_after = gap.saturating_mul(2).saturating_add(grace).saturating_add(1);
        let options = Materialized { indexed: self.emit.on_close(), ..options };
        let operator =
            operator(&self.grouped, StoreKind::Session, (close_after, None), &options, self.late.as_ref());
        let closes = gap.saturating_add(grace);
        let kept = options.retention_ms.map_or(closes, |retention| retention.max(closes));
        operator.stream.graph.borrow_mut().session_closes.insert(operator.store, closes);
        let windowed = session_windowed(operator.key.clone());
        let session = Arc::new(Session {
            key: operator.key.clone(),
            topic: operator.store_name.clone(),
            store: operator.store,
            clock: operator.clock,
            retention: operator.retention,
            gap,
            grace,
            kept,
            on_close: self.emit.on_close(),
            fold,
            merge,
        });
        let closes = gap.saturating_add(grace).saturating_add(1);
        let closing = self.emit.on_close().then(|| operator.closing(Bounds::Session, closes));
        let make: MakeNode = Arc::new(move || {
            let session = session.clone();
            let run = move |record: Rec<K, V>, cx: &mut Cx<'_>| session.process(record, cx);
            windowed_node::<K, V, A>(run, closing.clone())
        });
        operator.table(kind, make, windowed, true, close_after)
    }
}

/// The session operator.
struct Session<K, F, M> {
    key: SerdeRef<K>,
    topic: String,
    store: usize,
    clock: usize,
    retention: i64,
    gap: i64,
    grace: i64,
    /// How long after its end a session of a single lane is there for later records.
    kept: i64,
    on_close: bool,
    fold: F,
    merge: M,
}

/// A session in the store: its key there, start, end and aggregate.
type Stored<A> = (Bytes, TimestampMs, TimestampMs, A);

impl<K: Payload, F, M> Session<K, F, M> {
    /// Sessions that end no more than a gap before `time`, but after `closed`, and start no more than a gap after it.
    fn touched<A: Payload>(
        &self,
        key: &[u8],
        (time, closed): (TimestampMs, TimestampMs),
        latest: TimestampMs,
        cx: &mut Cx<'_>,
    ) -> Result<Vec<Stored<A>>, TaskError> {
        let first_end = time.saturating_sub(self.gap).max(closed.saturating_add(1)).max(0);
        let bounds = (first_end, time.saturating_add(self.gap));
        let found = cx.store::<A>(self.store).sessions(key, bounds, latest)?;
        Ok(found.into_iter().map(|(key, at, value)| (key, at.second, at.time, value)).collect())
    }

    fn process<V: Payload, A: Payload>(&self, record: Rec<K, V>, cx: &mut Cx<'_>) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
        M: Fn(&K, A, A) -> A,
    {
        let Some(key) = cx.key(&self.key, &self.topic, &record.key)? else { return Ok(()) };
        let time = record.timestamp;
        let oldest = cx.watermark(self.clock).saturating_sub(self.retention);
        cx.store::<A>(self.store).expire_before(oldest)?;
        // A session of a single lane is closed to every record after the one that has closed it, as in Kafka Streams.
        let before = cx.core.clocks[self.clock];
        let latest = cx.observe(self.clock, time);
        let closed = if cx.one_lane(self.clock) { before.saturating_sub(self.kept) } else { -1 };
        let merged = self.touched::<A>(&key, (time, closed), latest, cx)?;
        let start = merged.iter().map(|(_, start, ..)| *start).fold(time, i64::min);
        let end = merged.iter().map(|(_, _, end, _)| *end).fold(time, i64::max);
        let decides = if cx.one_lane(self.clock) { end } else { time };
        if decides < cx.stream_time().saturating_sub(self.grace).saturating_sub(self.gap) {
            cx.core.metrics.dropped_late += 1;
            return cx.forward_late(record);
        }
        // A session is of several records, so it has the headers of none, as in Kafka Streams.
        let headers = std::mem::take(&mut cx.core.context.headers);
        let extended = self.extend(record, (key, merged), (start, end), cx);
        cx.core.context.headers = headers;
        extended
    }

    /// Puts the merged sessions and the record into one session.
    fn extend<V: Payload, A: Payload>(
        &self,
        record: Rec<K, V>,
        (key, merged): (Bytes, Vec<Stored<A>>),
        (start, end): (TimestampMs, TimestampMs),
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
        M: Fn(&K, A, A) -> A,
    {
        let layout = cx.store::<A>(self.store).layout();
        let window = |start, end| Windowed { key: record.key.clone(), start, end };
        let mut sum = None;
        let mut replaced = None;
        for (store_key, from, to, value) in merged {
            sum = Some(match sum {
                None => value.clone(),
                Some(sum) => (self.merge)(&record.key, sum, value.clone()),
            });
            // One that grows is deleted first, even within its bounds; one of a single moment that stays one is replaced.
            if (from, to) == (start, end) && start == end {
                replaced = Some(value);
                continue;
            }
            cx.store::<A>(self.store).put(store_key, None);
            if self.on_close {
                continue;
            }
            let change = Change { new: None, old: Some(value) };
            cx.forward(Rec { key: window(from, to), value: change, timestamp: to })?;
        }
        let new = (self.fold)(&record.key, record.value, sum);
        cx.store::<A>(self.store).put(layout.store_key(&key, end, start), Some((end, new.clone())));
        if self.on_close {
            return Ok(());
        }
        let change = Change { new: Some(new), old: replaced };
        cx.forward(Rec { key: window(start, end), value: change, timestamp: end })
    }
}
