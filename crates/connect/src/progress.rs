//! What a source tells about itself while it runs, and how it is told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// Follows and ends a running source; clones share it.
#[derive(Clone)]
pub struct SourceHandle {
    inner: Arc<Inner>,
}

struct Inner {
    published: AtomicU64,
    set_aside: AtomicU64,
    caught_up: AtomicBool,
    finishing: AtomicBool,
    stopping: watch::Sender<bool>,
}

impl SourceHandle {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            published: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
            caught_up: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Rows in transactions that this run has committed.
    pub fn published(&self) -> u64 {
        self.inner.published.load(Ordering::Acquire)
    }

    /// Rows that could not be encoded and wait in the set-aside table.
    pub fn set_aside(&self) -> u64 {
        self.inner.set_aside.load(Ordering::Acquire)
    }

    /// Whether the last look at the table found nothing new, with all that was read before committed.
    pub fn caught_up(&self) -> bool {
        self.inner.caught_up.load(Ordering::Acquire)
    }

    /// Publishes what is in the table by now, then ends.
    pub fn finish(&self) {
        self.inner.finishing.store(true, Ordering::Release);
    }

    /// Ends after the transaction that is under way; the rest is published by the next start.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.inner.finishing.load(Ordering::Acquire)
    }

    pub(crate) async fn stopping(&self) {
        let mut stopping = self.inner.stopping.subscribe();
        // An error would mean that the sender is gone, and `self` holds it.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    pub(crate) fn add_published(&self, rows: u64) {
        self.inner.published.fetch_add(rows, Ordering::AcqRel);
    }

    pub(crate) fn add_set_aside(&self, rows: u64) {
        self.inner.set_aside.fetch_add(rows, Ordering::AcqRel);
    }

    pub(crate) fn set_caught_up(&self, yes: bool) {
        self.inner.caught_up.store(yes, Ordering::Release);
    }
}
