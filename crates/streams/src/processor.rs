//! The processor API: an operator of the user's own, with stores, punctuations and full control over what it forwards.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, Header, Offset, TimestampMs};

use crate::error::TaskError;
use crate::node::{Cx, Node, Payload, Punctuation, Rec, take};
use crate::serdes::SerdeRef;
use crate::windows::duration_ms;

pub(crate) mod sessions;
pub(crate) mod tables;
pub(crate) mod values;
pub(crate) mod versions;
pub(crate) mod windows;

/// Which clock a punctuation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PunctuationType {
    /// The task's stream time: deterministic.
    StreamTime,
    /// The shell's clock.
    WallClock,
}

/// Whatever a processor fails with; it stops the task.
pub type ProcessorError = Box<dyn std::error::Error + Send + Sync>;

/// An operator written by hand. One instance per task; its state belongs in stores.
pub trait Processor<KIn, VIn, KOut, VOut>: Send + 'static {
    /// Runs once before the first record, with restored stores: schedule punctuations here.
    fn init(&mut self, _cx: &mut ProcessorContext<'_, '_, KOut, VOut>) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn process(
        &mut self,
        key: KIn,
        value: VIn,
        cx: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<(), ProcessorError>;

    /// A punctuation is due; `time` is its clock's.
    fn punctuate(
        &mut self,
        _schedule: ScheduleId,
        _time: TimestampMs,
        _cx: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// Tells the punctuations of one processor apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScheduleId(usize);

/// A key-value store that processors use, from `StreamsBuilder::add_store`.
pub struct StateStore<K, V> {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: PhantomData<fn() -> V>,
}

impl<K, V> Clone for StateStore<K, V> {
    fn clone(&self) -> Self {
        Self { index: self.index, name: self.name.clone(), key: self.key.clone(), value: PhantomData }
    }
}

impl<K, V> StateStore<K, V> {
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a processor may do besides its own computing.
pub struct ProcessorContext<'a, 'b, KOut, VOut> {
    cx: &'a mut Cx<'b>,
    timestamp: TimestampMs,
    forwards: PhantomData<fn(KOut, VOut)>,
}

impl<KOut: Payload, VOut: Payload> ProcessorContext<'_, '_, KOut, VOut> {
    /// Hands a record on with the timestamp of the current one.
    pub fn forward(&mut self, key: KOut, value: VOut) -> Result<(), TaskError> {
        self.forward_at(key, value, self.timestamp)
    }

    /// Hands a record on with a timestamp of its own; a negative one is an error.
    pub fn forward_at(&mut self, key: KOut, value: VOut, timestamp: TimestampMs) -> Result<(), TaskError> {
        self.check_time("forward a record", timestamp)?;
        self.cx.forward(Rec { key, value, timestamp })
    }

    /// The current record's timestamp; within a punctuation, its time.
    pub fn timestamp(&self) -> TimestampMs {
        self.timestamp
    }

    /// The current record's headers; forwarded records carry them on.
    pub fn headers(&self) -> &[Header] {
        &self.cx.core.context.headers
    }

    /// Replaces the headers that forwarded records carry.
    pub fn set_headers(&mut self, headers: Vec<Header>) {
        self.cx.core.context.headers = headers;
    }

    /// Topic, partition and offset of the current record; `None` where there is none, in what a punctuation forwards.
    pub fn origin(&self) -> Option<(&str, i32, Offset)> {
        let context = &self.cx.core.context;
        (!self.cx.core.punctuating).then_some((&*context.topic, context.partition, context.offset))
    }

    /// The highest timestamp that the task has processed.
    pub fn stream_time(&self) -> TimestampMs {
        self.cx.core.stream_time
    }

    /// The shell's clock at the last call of `process` or `punctuate`. What depends on it cannot be replayed.
    pub fn wall_clock(&self) -> TimestampMs {
        self.cx.wall_clock()
    }

    /// Whether the record at hand was processed before the application was reset: what it causes outside has happened once
    /// (a notification, a mail). Within a punctuation, whether an input of the task is still before where it was reset.
    pub fn is_reprocessing(&self) -> bool {
        self.cx.core.context.reprocessing
    }

    /// The partition of the task.
    pub fn partition(&self) -> i32 {
        self.cx.core.partition
    }

    /// Calls `Processor::punctuate` every `interval` (at least a millisecond). By stream time the first call comes
    /// with the first record; by wall clock after one interval.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> ScheduleId {
        let interval = duration_ms(interval).max(1);
        let next = match kind {
            PunctuationType::StreamTime => Some(0),
            PunctuationType::WallClock => self.cx.wall_clock().checked_add(interval),
        };
        self.punctuate_at(next, interval, kind)
    }

    /// As [`ProcessorContext::schedule`], at `start` and whole intervals after it (KIP-1146), at the full hour for example: the first
    /// call is for the first of these moments that has not passed by that clock.
    pub fn schedule_from(
        &mut self,
        start: TimestampMs,
        interval: Duration,
        kind: PunctuationType,
    ) -> ScheduleId {
        let interval = duration_ms(interval).max(1);
        let now = match kind {
            PunctuationType::StreamTime => self.cx.core.stream_time,
            PunctuationType::WallClock => self.cx.wall_clock(),
        };
        let passed = now.saturating_sub(start).max(0);
        let intervals = passed / interval + i64::from(passed % interval > 0);
        let next = intervals.checked_mul(interval).and_then(|after| start.checked_add(after));
        self.punctuate_at(next, interval, kind)
    }

    fn punctuate_at(
        &mut self,
        next: Option<TimestampMs>,
        interval: i64,
        kind: PunctuationType,
    ) -> ScheduleId {
        let (node, id) = (self.cx.node, self.cx.core.punctuations.len());
        self.cx.core.punctuations.push(Punctuation { node, id, kind, interval, next });
        ScheduleId(id)
    }

    /// Ends a schedule of this processor (Kafka Streams' `Cancellable`), also from within its own punctuation. One that has ended
    /// stays so.
    pub fn cancel(&mut self, schedule: ScheduleId) {
        let node = self.cx.node;
        if let Some(punctuation) = self.cx.core.punctuations.get_mut(schedule.0)
            && punctuation.node == node
        {
            punctuation.next = None;
        }
    }

    /// What the processor did wrong, as if it had failed with that: the handler decides.
    fn mistake(&self, message: String) -> TaskError {
        TaskError::Processor { node: self.cx.name().to_string(), message }
    }

    fn check_time(&self, what: &'static str, time: TimestampMs) -> Result<(), TaskError> {
        if time >= 0 {
            return Ok(());
        }
        Err(self.mistake(format!(
            "{what} at time {time}: times are milliseconds since 1970 and never negative; use the record's or the wall clock's"
        )))
    }

    fn store_key<K>(&self, serde: &SerdeRef<K>, store: &Arc<str>, key: &K) -> Result<Bytes, TaskError> {
        self.cx.encode(serde, "key", store, key)?.ok_or_else(|| {
            self.mistake(format!(
                "use store {store:?} with a null key: it has none; leave the record out, or give it a key"
            ))
        })
    }

    fn key<K, V>(&self, store: &StateStore<K, V>, key: &K) -> Result<Bytes, TaskError> {
        self.store_key(&store.key, &store.name, key)
    }

    pub fn get<K, V: Payload>(&mut self, store: &StateStore<K, V>, key: &K) -> Result<Option<V>, TaskError> {
        let key = self.key(store, key)?;
        Ok(self.cx.store::<V>(store.index).get(&key)?.map(|(_, value)| value))
    }

    pub fn put<K, V: Payload>(
        &mut self,
        store: &StateStore<K, V>,
        key: &K,
        value: V,
    ) -> Result<(), TaskError> {
        let key = self.key(store, key)?;
        let timestamp = self.timestamp;
        self.cx.store::<V>(store.index).put(key, Some((timestamp, value)));
        Ok(())
    }

    pub fn delete<K, V: Payload>(&mut self, store: &StateStore<K, V>, key: &K) -> Result<(), TaskError> {
        let key = self.key(store, key)?;
        self.cx.store::<V>(store.index).put(key, None);
        Ok(())
    }

    /// Every entry, in the order of the serialized keys.
    pub fn all<K, V: Payload>(&mut self, store: &StateStore<K, V>) -> Result<Vec<(K, V)>, TaskError> {
        self.range(store, None, None)
    }

    /// Entries between two keys (both included; `None` is no bound), in the order of the serialized keys.
    pub fn range<K, V: Payload>(
        &mut self,
        store: &StateStore<K, V>,
        from: Option<&K>,
        to: Option<&K>,
    ) -> Result<Vec<(K, V)>, TaskError> {
        let from = from.map(|key| self.key(store, key)).transpose()?;
        let to = to.map(|key| self.key(store, key)).transpose()?;
        let low = from.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let high = to.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let entries = self.cx.store::<V>(store.index).range(low, high)?;
        let decoded = entries.into_iter().map(|(key, _, value)| {
            let key = store.key.deserialize(&store.name, &key);
            let wrong = |source| TaskError::StoredValue { store: store.name.to_string(), source };
            Ok((key.map_err(wrong)?, value))
        });
        decoded.collect()
    }
}

/// A processor in its node.
pub(crate) struct ProcessorNode<P, KIn, VIn, KOut, VOut> {
    pub processor: P,
    pub types: PhantomData<fn(KIn, VIn, KOut, VOut)>,
}

fn failed(error: ProcessorError, cx: &Cx<'_>) -> TaskError {
    match error.downcast::<TaskError>() {
        Ok(error) => *error,
        Err(error) => TaskError::Processor { node: cx.name().to_string(), message: error.to_string() },
    }
}

impl<P, KIn, VIn, KOut, VOut> ProcessorNode<P, KIn, VIn, KOut, VOut>
where
    P: Processor<KIn, VIn, KOut, VOut>,
{
    fn with(
        &mut self,
        cx: &mut Cx<'_>,
        timestamp: TimestampMs,
        call: impl FnOnce(&mut P, &mut ProcessorContext<'_, '_, KOut, VOut>) -> Result<(), ProcessorError>,
    ) -> Result<(), TaskError> {
        let result =
            call(&mut self.processor, &mut ProcessorContext { cx, timestamp, forwards: PhantomData });
        result.map_err(|error| failed(error, cx))
    }
}

impl<P, KIn, VIn, KOut, VOut> Node for ProcessorNode<P, KIn, VIn, KOut, VOut>
where
    P: Processor<KIn, VIn, KOut, VOut>,
    KIn: Payload,
    VIn: Payload,
    KOut: Payload,
    VOut: Payload,
{
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value, timestamp } = take::<KIn, VIn>(record, cx);
        self.with(cx, timestamp, |processor, cx| processor.process(key, value, cx))
    }

    fn init(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let time = cx.core.stream_time;
        self.with(cx, time, |processor, cx| processor.init(cx))
    }

    fn punctuate(&mut self, id: usize, time: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        self.with(cx, time, |processor, cx| processor.punctuate(ScheduleId(id), time, cx))
    }
}
