//! So many bytes a second, without bursts that others would feel.

use std::time::{Duration, Instant};

/// The longest sleep at once, so that a stop is noticed.
const LONGEST: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Throttle {
    rate: Option<u64>,
    /// When the next byte is due.
    due: Instant,
}

impl Throttle {
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, due: Instant::now() }
    }

    pub fn pass(&mut self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        self.due = self.due.max(now) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        std::thread::sleep(self.due.saturating_duration_since(now).min(LONGEST));
    }
}
