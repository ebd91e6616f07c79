//! Sliding windows: a window ends at each record, and one begins right after each record that another one follows.
//!
//! The rules are those of Kafka Streams (KIP-450, `KStreamSlidingWindowAggregate`): windows come into being as records need
//! them, each from the aggregate of one that is already there, so no record is kept. An entry's timestamp is that of the
//! latest record in the window, by which the previous record is found.
//!
//! A record whose own window has closed by the stream time it carries is dropped and counted; so is one that some of its
//! windows can no longer take, which the others do take. Where several lanes feed the operator, a record of the latter kind may
//! find other windows to start from in another run.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, TimestampMs};

use crate::error::{TaskError, TopologyError};
use crate::graph::MakeNode;
use crate::node::{Change, Cx, Payload, Rec};
use crate::serdes::{self, SerdeRef};
use crate::store::StoreKind;
use crate::windows::{SlidingWindows, Windowed, time_windowed};

use super::closing::{Bounds, EmitStrategy, windowed_node};
use super::grouped::KGroupedStream;
use super::ktable::KTable;
use super::options::{Materialized, Produced};
use super::windowed::{LateSink, operator};

/// A grouped stream cut into windows around its records.
pub struct SlidingWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: SlidingWindows,
    late: Option<LateSink<K, V>>,
    emit: EmitStrategy,
}

impl<K: Payload, V: Payload> SlidingWindowedKStream<K, V> {
    pub(crate) fn new(grouped: KGroupedStream<K, V>, windows: SlidingWindows) -> Self {
        Self { grouped, windows, late: None, emit: EmitStrategy::OnWindowUpdate }
    }

    /// Writes what is dropped as late to a topic, key and value as they came. A record that only some of its windows could
    /// still take is written, too.
    pub fn late_to(self, topic: &str, produced: Produced<K, V>) -> Self {
        Self { late: Some(LateSink { topic: topic.to_owned(), produced }), ..self }
    }

    /// Emits each window once, when it takes no more records from any lane, instead of every update (Kafka Streams'
    /// `EmitStrategy.onWindowClose`, KIP-825).
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
        let SlidingWindows { difference, grace } = self.windows;
        // The window that a late record starts from may have begun two differences before it.
        let needed = difference.saturating_mul(2).saturating_add(grace);
        let options = Materialized { indexed: self.emit.on_close(), ..options };
        let sizes = (needed, Some(difference));
        let operator = operator(&self.grouped, StoreKind::Window, sizes, &options, self.late.as_ref());
        if let Some(reason) = self.windows.problem() {
            let node = operator.name.clone();
            operator.stream.graph.borrow_mut().errors.push(TopologyError::InvalidWindow { node, reason });
        }
        let sliding = Arc::new(Sliding {
            key: operator.key.clone(),
            topic: operator.store_name.clone(),
            store: operator.store,
            clock: operator.clock,
            retention: operator.retention.saturating_add(difference),
            difference,
            grace,
            on_close: self.emit.on_close(),
            fold,
        });
        // The end belongs to the window, so it closes a millisecond later than an aligned one.
        let close_after = grace.saturating_add(1);
        let closing = self
            .emit
            .on_close()
            .then(|| operator.closing(Bounds::Sized(difference), difference.saturating_add(close_after)));
        let make: MakeNode = Arc::new(move || {
            let sliding = sliding.clone();
            let run = move |record: Rec<K, V>, cx: &mut Cx<'_>| sliding.process(record, cx);
            windowed_node::<K, V, A>(run, closing.clone())
        });
        let size = Duration::from_millis(difference.unsigned_abs());
        let windowed = time_windowed(operator.key.clone(), size);
        operator.table(kind, make, windowed, false, close_after)
    }
}

/// The operator.
struct Sliding<K, F> {
    key: SerdeRef<K>,
    topic: String,
    store: usize,
    clock: usize,
    retention: i64,
    difference: i64,
    grace: i64,
    on_close: bool,
    fold: F,
}

/// A window in the store.
#[derive(Clone)]
struct Found<A> {
    start: TimestampMs,
    /// The time of its latest record.
    latest: TimestampMs,
    value: A,
}

/// A record on its way through its windows.
struct Arrival<K, V> {
    bytes: Bytes,
    record: Rec<K, V>,
    /// Windows that end before this take no more records.
    closed: TimestampMs,
    /// A window could not take it.
    refused: bool,
}

impl<K: Payload, F> Sliding<K, F> {
    fn process<V: Payload, A: Payload>(&self, record: Rec<K, V>, cx: &mut Cx<'_>) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
    {
        let Some(bytes) = cx.key(&self.key, &self.topic, &record.key)? else { return Ok(()) };
        let oldest = cx.watermark(self.clock).saturating_sub(self.retention);
        cx.store::<A>(self.store).expire_before(oldest)?;
        let closed = cx.stream_time().saturating_sub(self.grace);
        let time = record.timestamp;
        let mut arrival = Arrival { bytes, record, closed, refused: false };
        // Not even the window that begins after the record could take anything.
        if time.saturating_add(1).saturating_add(self.difference) <= closed {
            arrival.refused = true;
        } else if time < self.difference {
            self.early(&mut arrival, cx)?;
        } else {
            self.usual(&mut arrival, cx)?;
        }
        if !arrival.refused {
            return Ok(());
        }
        cx.core.metrics.dropped_late += 1;
        cx.forward_late(arrival.record)
    }

    /// The key's windows that start in `from..=to`, oldest first.
    fn windows<A: Payload>(
        &self,
        key: &[u8],
        (from, to): (TimestampMs, TimestampMs),
        cx: &mut Cx<'_>,
    ) -> Result<Vec<Found<A>>, TaskError> {
        let store = cx.store::<A>(self.store);
        let layout = store.layout();
        let found = store.fetch(key, from, to)?;
        let window = |(store_key, latest, value): (Bytes, TimestampMs, A)| {
            layout.parse(&store_key).map(|entry| Found { start: entry.time, latest, value })
        };
        Ok(found.into_iter().filter_map(window).collect())
    }

    /// A record that lies at least one difference after 1970 began.
    fn usual<V: Payload, A: Payload>(
        &self,
        arrival: &mut Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
    {
        let time = arrival.record.timestamp;
        let reach = (time.saturating_sub(self.difference.saturating_mul(2)).max(0), time.saturating_add(1));
        let mut after = None;
        let mut before: Option<Found<A>> = None;
        let (mut left_exists, mut right_exists) = (false, false);
        let mut previous = None;
        let mut starts = Vec::new();
        for window in self.windows::<A>(&arrival.bytes, reach, cx)?.into_iter().rev() {
            let end = window.start.saturating_add(self.difference);
            starts.push(window.start);
            if window.start > time {
                right_exists = true;
            } else if end > time {
                let existing = (window.latest, window.value);
                after.get_or_insert_with(|| existing.clone());
                self.update(window.start, Some(existing), arrival, cx)?;
            } else if end == time {
                left_exists = true;
                let latest = window.latest;
                self.update(window.start, Some((latest, window.value)), arrival, cx)?;
                if latest >= time {
                    // Another record of this very time has made all windows there are.
                    return Ok(());
                }
                previous = Some(latest);
            } else {
                previous = Some(window.latest);
                before = Some(window);
                break;
            }
        }
        if let Some(start) = previous.map(|previous| previous.saturating_add(1))
            && !starts.contains(&start)
            && start.saturating_add(self.difference) >= time
        {
            self.update::<V, A>(start, None, arrival, cx)?;
        }
        if !left_exists {
            let shared = previous.is_some_and(|previous| time.saturating_sub(self.difference) <= previous);
            let copied = before.filter(|_| shared).map(|window| (time, window.value));
            self.create(time.saturating_sub(self.difference), copied, arrival, cx)?;
        }
        match after {
            Some((latest, value)) if !right_exists && latest > time => {
                self.copy_after(latest, value, arrival, cx)
            }
            _ => Ok(()),
        }
    }

    /// A record so close to 1970 that its window would begin before: all such records share the window that begins at 0.
    fn early<V: Payload, A: Payload>(
        &self,
        arrival: &mut Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
    {
        let time = arrival.record.timestamp;
        let mut after = None;
        let mut shared: Option<(TimestampMs, A)> = None;
        let mut right_exists = false;
        let mut previous = None;
        let mut starts = Vec::new();
        for window in self.windows::<A>(&arrival.bytes, (0, time.saturating_add(1)), cx)? {
            starts.push(window.start);
            let existing = (window.latest, window.value);
            if window.start == 0 {
                previous = Some(existing.0).filter(|latest| *latest < time);
                shared = Some(existing);
            } else if window.start <= time {
                after = Some(existing.clone());
                self.update(window.start, Some(existing), arrival, cx)?;
            } else {
                right_exists = true;
            }
        }
        // Whatever the shared window holds then comes after this record.
        let after = after.or_else(|| shared.clone().filter(|(latest, _)| *latest > time));
        if let Some((latest, value)) = after
            && !right_exists
            && latest > time
        {
            self.copy_after(latest, value, arrival, cx)?;
        }
        if let Some(start) = previous.map(|previous| previous.saturating_add(1))
            && !starts.contains(&start)
        {
            self.update::<V, A>(start, None, arrival, cx)?;
        }
        self.update(0, shared, arrival, cx)
    }

    /// The window right after the record: it holds what a window that goes on beyond the record held without it.
    fn copy_after<V: Payload, A: Payload>(
        &self,
        latest: TimestampMs,
        value: A,
        arrival: &Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        let start = arrival.record.timestamp.saturating_add(1);
        self.store(start, (latest, value), None, arrival, cx)
    }

    /// Adds the record to a window that is not there yet, and begins with the aggregate of another one, if given.
    fn create<V: Payload, A: Payload>(
        &self,
        start: TimestampMs,
        copied: Option<(TimestampMs, A)>,
        arrival: &mut Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
    {
        self.add(start, copied, false, arrival, cx)
    }

    /// Adds the record to a window: the one that is there, if given.
    fn update<V: Payload, A: Payload>(
        &self,
        start: TimestampMs,
        existing: Option<(TimestampMs, A)>,
        arrival: &mut Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
    {
        self.add(start, existing, true, arrival, cx)
    }

    fn add<V: Payload, A: Payload>(
        &self,
        start: TimestampMs,
        sum: Option<(TimestampMs, A)>,
        existed: bool,
        arrival: &mut Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError>
    where
        F: Fn(&K, V, Option<A>) -> A,
    {
        if start.saturating_add(self.difference) < arrival.closed {
            arrival.refused = true;
            return Ok(());
        }
        let Rec { key, value, timestamp } = &arrival.record;
        let latest = sum.as_ref().map_or(*timestamp, |(latest, _)| (*latest).max(*timestamp));
        let sum = sum.map(|(_, sum)| sum);
        let old = sum.clone().filter(|_| existed);
        let new = (self.fold)(key, value.clone(), sum);
        self.store(start, (latest, new), old, arrival, cx)
    }

    fn store<V: Payload, A: Payload>(
        &self,
        start: TimestampMs,
        (latest, new): (TimestampMs, A),
        old: Option<A>,
        arrival: &Arrival<K, V>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        let store = cx.store::<A>(self.store);
        let store_key = store.layout().store_key(&arrival.bytes, start, 0);
        store.put(store_key, Some((latest, new.clone())));
        if self.on_close {
            return Ok(());
        }
        let key = arrival.record.key.clone();
        let window = Windowed { key, start, end: start.saturating_add(self.difference) };
        cx.forward(Rec { key: window, value: Change { new: Some(new), old }, timestamp: latest })
    }
}
