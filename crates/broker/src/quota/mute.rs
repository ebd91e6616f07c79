//! Until when nothing more is read from a channel.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use headwater_model::TimestampMs;

/// One for each connection; its requests make it mute, and the connection obeys.
#[derive(Debug, Default)]
pub struct Mute {
    until: AtomicI64,
}

impl Mute {
    pub fn until(&self, time: TimestampMs) {
        self.until.fetch_max(time, Ordering::Relaxed);
    }

    /// `None` when the channel may be read.
    pub fn left(&self, now: TimestampMs) -> Option<Duration> {
        let left = self.until.load(Ordering::Relaxed) - now;
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }
}
