//! How much of a rate may be used at once, by Kafka's keys.

/// `quota.window.num` windows of `quota.window.size.seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaConfig {
    pub windows: i64,
    pub window_seconds: i64,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { windows: 11, window_seconds: 1 }
    }
}

impl QuotaConfig {
    pub fn window_ms(self) -> i64 {
        self.window_seconds.saturating_mul(1000)
    }

    /// Who has been quiet may use the rate over all windows but the one that has just begun.
    pub fn allowance_ms(self) -> i64 {
        self.window_ms().saturating_mul((self.windows - 1).max(1))
    }
}
