//! Stores of sessions in processors: a value for each key and session, for as long as they are kept.

use std::marker::PhantomData;
use std::sync::Arc;

use headwater_model::TimestampMs;

use super::ProcessorContext;
use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::SerdeRef;

/// A store of sessions that processors use, from `StreamsBuilder::add_session_store`.
pub struct SessionStateStore<K, V> {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) key: SerdeRef<K>,
    pub(crate) retention_ms: i64,
    pub(crate) value: PhantomData<fn() -> V>,
}

impl<K, V> Clone for SessionStateStore<K, V> {
    fn clone(&self) -> Self {
        let (name, key) = (self.name.clone(), self.key.clone());
        Self { index: self.index, name, key, retention_ms: self.retention_ms, value: PhantomData }
    }
}

impl<K, V> SessionStateStore<K, V> {
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Such a store forgets a session when the task's stream time is its retention past the session's end.
impl<KOut: Payload, VOut: Payload> ProcessorContext<'_, '_, KOut, VOut> {
    /// The first end of a session that is kept.
    fn oldest_end<K, V>(&self, store: &SessionStateStore<K, V>) -> TimestampMs {
        self.cx.core.stream_time.saturating_sub(store.retention_ms).saturating_add(1).max(0)
    }

    /// Writes the value of the session with these bounds, or (`None`) deletes it. False if such a session is not kept any more:
    /// nothing is written, and it is counted as late. Bounds that are negative or the wrong way round are an error.
    pub fn put_session<K, V: Payload>(
        &mut self,
        store: &SessionStateStore<K, V>,
        key: &K,
        value: Option<V>,
        (start, end): (TimestampMs, TimestampMs),
    ) -> Result<bool, TaskError> {
        self.check_time("write a session", start)?;
        if end < start {
            return Err(
                self.mistake(format!("write a session from {start} to {end}: it ends before it starts"))
            );
        }
        let key = self.store_key(&store.key, &store.name, key)?;
        let (oldest, timestamp) = (self.oldest_end(store), self.timestamp);
        if end < oldest {
            self.cx.core.metrics.dropped_late += 1;
            return Ok(false);
        }
        let kept = self.cx.store::<V>(store.index);
        kept.expire_before(oldest)?;
        let session = kept.layout().store_key(&key, end, start);
        kept.put(session, value.map(|value| (timestamp, value)));
        Ok(true)
    }

    /// The sessions of a key that end at `earliest_end` or later and start at `latest_start` or earlier (Kafka Streams'
    /// `findSessions`): start, end and value, in the order of their ends.
    pub fn find_sessions<K, V: Payload>(
        &mut self,
        store: &SessionStateStore<K, V>,
        key: &K,
        (earliest_end, latest_start): (TimestampMs, TimestampMs),
    ) -> Result<Vec<(TimestampMs, TimestampMs, V)>, TaskError> {
        let key = self.store_key(&store.key, &store.name, key)?;
        let from = earliest_end.max(self.oldest_end(store));
        let kept = self.cx.store::<V>(store.index);
        let (layout, found) = (kept.layout(), kept.fetch_far(&key, from, TimestampMs::MAX)?);
        let bounds = found.into_iter().filter_map(|(at, _, value)| {
            let session = layout.parse(&at)?;
            Some((session.second, session.time, value))
        });
        Ok(bounds.filter(|(start, ..)| *start <= latest_start).collect())
    }
}
