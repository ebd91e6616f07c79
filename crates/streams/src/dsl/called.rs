//! How calls of a service are made.

use std::time::Duration;

use crate::serdes::SerdeRef;

/// Serdes of what waits for a call, and how calls are made.
pub struct Called<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_waiting: usize,
    pub(crate) ordered: bool,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
}

impl<K, V> Default for Called<K, V> {
    fn default() -> Self {
        Self {
            name: None,
            key: None,
            value: None,
            max_in_flight: 16,
            max_waiting: 1_000,
            ordered: true,
            timeout: Duration::from_secs(10),
            retries: 3,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
        }
    }
}

impl<K, V> Called<K, V> {
    /// Sixteen calls at once, in the order of each key; ten seconds for each, and three retries.
    pub fn new() -> Self {
        Self::default()
    }

    /// An operator with this name; what is under way is kept in the store `<name>-calls`.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The serdes by which what is under way is kept; without them those of the stream.
    pub fn with(mut self, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        (self.key, self.value) = (Some(key), Some(value));
        self
    }

    /// How many calls run at once, in each task.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How many records may be under way or wait, in each task; then it takes no more of its input.
    pub fn max_waiting(mut self, records: usize) -> Self {
        self.max_waiting = records;
        self
    }

    /// Also the calls of one key run at once, and results go on as they come.
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a call that failed is made again, the first time after `backoff`, then after twice as long each time, at most
    /// ten seconds.
    pub fn retries(mut self, retries: u32, backoff: Duration) -> Self {
        (self.retries, self.backoff) = (retries, backoff);
        self.max_backoff = self.max_backoff.max(backoff);
        self
    }
}
