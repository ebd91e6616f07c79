//! The time, in two ways: what records are stamped with, and what sessions are measured by.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use headwater_model::TimestampMs;

/// Milliseconds of the system's clock, which may jump.
pub fn wall() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs::try_from(since.as_millis()).unwrap_or(TimestampMs::MAX)
}

/// Starts at the wall clock and never jumps, so that setting the system's clock ends no session.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: TimestampMs,
    instant: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: wall(), instant: Instant::now() }
    }

    /// The same clock, set back.
    pub fn set_back(self, by: TimestampMs) -> Self {
        Self { start: self.start - by, ..self }
    }

    pub fn now(&self) -> TimestampMs {
        self.start + TimestampMs::try_from(self.instant.elapsed().as_millis()).unwrap_or(TimestampMs::MAX / 2)
    }
}
