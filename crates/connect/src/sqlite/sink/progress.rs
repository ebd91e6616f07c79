//! What a sink tells about itself while it runs, and how it is told to end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_client::Fetched;
use headwater_model::{Offset, TopicPartition};
use tokio::sync::Notify;

use super::Offsets;

/// Follows and ends a running sink; clones share it.
#[derive(Clone)]
pub struct SinkHandle {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    applied: AtomicU64,
    dead_letters: AtomicU64,
    finishing: AtomicBool,
    places: Mutex<HashMap<TopicPartition, Place>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    next: Offset,
    end: Offset,
}

impl SinkHandle {
    pub(super) fn new() -> Self {
        Self { inner: Arc::default() }
    }

    /// Records whose effect this run has committed to the database, superseded ones included.
    pub fn applied(&self) -> u64 {
        self.inner.applied.load(Ordering::Acquire)
    }

    /// Records that went to a dead-letter topic.
    pub fn dead_letters(&self) -> u64 {
        self.inner.dead_letters.load(Ordering::Acquire)
    }

    /// The offset up to which the database holds a partition.
    pub fn next_offset(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.places().get(&TopicPartition::new(topic, partition)).map(|place| place.next)
    }

    /// Whether the database holds everything up to the ends of the topics that were seen last.
    pub fn caught_up(&self) -> bool {
        let places = self.places();
        !places.is_empty() && places.values().all(|place| place.next >= place.end)
    }

    /// Applies what its topics hold by now, open transactions once they have ended, then ends.
    pub fn finish(&self) {
        self.inner.finishing.store(true, Ordering::Release);
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.inner.finishing.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self, start: &Offsets, ends: &Offsets) {
        let end = |at| ends.get(at).copied().unwrap_or(0);
        let places = start.iter().map(|(at, next)| (at.clone(), Place { next: *next, end: end(at) }));
        *self.places() = places.collect();
    }

    pub(super) fn seen(&self, fetched: &[Fetched]) {
        let mut places = self.places();
        for part in fetched {
            if let Some(place) = places.get_mut(&part.topic_partition) {
                place.end = place.end.max(part.high_watermark);
            }
        }
    }

    pub(super) fn committed(&self, next: &Offsets, records: u64, dead_letters: u64) {
        let mut places = self.places();
        for (at, offset) in next {
            if let Some(place) = places.get_mut(at) {
                place.next = *offset;
            }
        }
        drop(places);
        self.inner.applied.fetch_add(records, Ordering::AcqRel);
        self.inner.dead_letters.fetch_add(dead_letters, Ordering::AcqRel);
        self.inner.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    pub(super) fn next_offsets(&self) -> Offsets {
        self.places().iter().map(|(at, place)| (at.clone(), place.next)).collect()
    }

    fn places(&self) -> MutexGuard<'_, HashMap<TopicPartition, Place>> {
        self.inner.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
