//! Stores with versions in processors.

use std::marker::PhantomData;
use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};

use super::ProcessorContext;
use crate::error::TaskError;
use crate::node::Payload;
use crate::serdes::SerdeRef;
use crate::store::versioned::{Version, Written};

/// A store with versions that processors use, from `StreamsBuilder::add_versioned_store`.
pub struct VersionedStateStore<K, V> {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: PhantomData<fn() -> V>,
}

impl<K, V> Clone for VersionedStateStore<K, V> {
    fn clone(&self) -> Self {
        Self { index: self.index, name: self.name.clone(), key: self.key.clone(), value: PhantomData }
    }
}

impl<K, V> VersionedStateStore<K, V> {
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A value and the time from which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedRecord<V> {
    pub value: V,
    pub timestamp: TimestampMs,
}

fn record<V>(version: Option<Version<V>>) -> Option<VersionedRecord<V>> {
    let Version { from, value } = version?;
    Some(VersionedRecord { value: value?, timestamp: from })
}

/// The history of such a store begins its retention before the task's stream time.
impl<KOut: Payload, VOut: Payload> ProcessorContext<'_, '_, KOut, VOut> {
    fn version_key<K, V>(&self, store: &VersionedStateStore<K, V>, key: &K) -> Result<Bytes, TaskError> {
        self.store_key(&store.key, &store.name, key)
    }

    /// The latest version.
    pub fn get_latest<K, V: Payload>(
        &mut self,
        store: &VersionedStateStore<K, V>,
        key: &K,
    ) -> Result<Option<VersionedRecord<V>>, TaskError> {
        let key = self.version_key(store, key)?;
        Ok(record(self.cx.versions::<V>(store.index).latest(&key)?))
    }

    /// The version that held at `time`; none if the history began later, unless it is the latest.
    pub fn get_as_of<K, V: Payload>(
        &mut self,
        store: &VersionedStateStore<K, V>,
        key: &K,
        time: TimestampMs,
    ) -> Result<Option<VersionedRecord<V>>, TaskError> {
        let key = self.version_key(store, key)?;
        let stream_time = self.cx.core.stream_time;
        let store = self.cx.versions::<V>(store.index);
        store.observe(stream_time);
        Ok(record(store.as_of(&key, time)?))
    }

    /// Writes the version that holds from `time`, or (`None`) that the key was deleted then. False if the history begins
    /// later: nothing is written. A negative time is an error.
    pub fn put_version<K, V: Payload>(
        &mut self,
        store: &VersionedStateStore<K, V>,
        key: &K,
        value: Option<V>,
        time: TimestampMs,
    ) -> Result<bool, TaskError> {
        self.check_time("write a version", time)?;
        let key = self.version_key(store, key)?;
        let stream_time = self.cx.core.stream_time.max(time);
        let store = self.cx.versions::<V>(store.index);
        store.observe(stream_time);
        Ok(store.put(&key, value, time, stream_time)? != Written::Expired)
    }
}
