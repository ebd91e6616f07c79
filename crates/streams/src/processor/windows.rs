//! Stores of windows in processors: a value for each key and start of a window, for as long as they are kept.

use std::marker::PhantomData;
use std::sync::Arc;

use headwater_model::TimestampMs;

use super::ProcessorContext;
use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::SerdeRef;

/// A store of windows that processors use, from `StreamsBuilder::add_window_store`.
pub struct WindowStateStore<K, V> {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) key: SerdeRef<K>,
    pub(crate) retention_ms: i64,
    pub(crate) value: PhantomData<fn() -> V>,
}

impl<K, V> Clone for WindowStateStore<K, V> {
    fn clone(&self) -> Self {
        let (name, key) = (self.name.clone(), self.key.clone());
        Self { index: self.index, name, key, retention_ms: self.retention_ms, value: PhantomData }
    }
}

impl<K, V> WindowStateStore<K, V> {
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Such a store forgets a window when the task's stream time is its retention past the window's start.
impl<KOut: Payload, VOut: Payload> ProcessorContext<'_, '_, KOut, VOut> {
    /// The first start of a window that is kept.
    fn oldest<K, V>(&self, store: &WindowStateStore<K, V>) -> TimestampMs {
        self.cx.core.stream_time.saturating_sub(store.retention_ms).saturating_add(1).max(0)
    }

    /// Writes the value of the window that starts then, or (`None`) deletes it. False if such a window is not kept any more: nothing
    /// is written, and it is counted as late. A negative time is an error.
    pub fn put_window<K, V: Payload>(
        &mut self,
        store: &WindowStateStore<K, V>,
        key: &K,
        value: Option<V>,
        start: TimestampMs,
    ) -> Result<bool, TaskError> {
        self.check_time("write a window", start)?;
        let key = self.store_key(&store.key, &store.name, key)?;
        let (oldest, timestamp) = (self.oldest(store), self.timestamp);
        if start < oldest {
            self.cx.core.metrics.dropped_late += 1;
            return Ok(false);
        }
        let kept = self.cx.store::<V>(store.index);
        kept.expire_before(oldest)?;
        let window = kept.layout().store_key(&key, start, 0);
        kept.put(window, value.map(|value| (timestamp, value)));
        Ok(true)
    }

    /// The value of the window that starts then.
    pub fn get_window<K, V: Payload>(
        &mut self,
        store: &WindowStateStore<K, V>,
        key: &K,
        start: TimestampMs,
    ) -> Result<Option<V>, TaskError> {
        let key = self.store_key(&store.key, &store.name, key)?;
        if start < self.oldest(store) {
            return Ok(None);
        }
        let kept = self.cx.store::<V>(store.index);
        let window = kept.layout().store_key(&key, start, 0);
        Ok(kept.get(&window)?.map(|(_, value)| value))
    }

    /// The windows of a key that start within `from..=to`, each with its start, the earliest first.
    pub fn fetch<K, V: Payload>(
        &mut self,
        store: &WindowStateStore<K, V>,
        key: &K,
        from: TimestampMs,
        to: TimestampMs,
    ) -> Result<Vec<(TimestampMs, V)>, TaskError> {
        let key = self.store_key(&store.key, &store.name, key)?;
        let from = from.max(self.oldest(store));
        let kept = self.cx.store::<V>(store.index);
        let (layout, found) = (kept.layout(), kept.fetch_far(&key, from, to)?);
        Ok(found.into_iter().filter_map(|(at, _, value)| Some((layout.time_of(&at)?, value))).collect())
    }
}
