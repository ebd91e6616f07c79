//! What one client has used of one quota.

use headwater_coordinator::{Bucket, QuotaKey, Samples, Windows};
use headwater_model::TimestampMs;

/// Kafka measures all rates by samples, but for that of mutations.
pub enum Meter {
    Samples(Samples),
    Tokens(Bucket),
}

/// By what is measured, and when.
#[derive(Clone, Copy)]
pub struct Measure {
    pub rate: f64,
    pub windows: Windows,
    pub now: TimestampMs,
}

impl Meter {
    pub fn new(key: QuotaKey, Measure { rate, windows, now }: Measure) -> Self {
        match key {
            QuotaKey::ControllerMutationRate => Self::Tokens(Bucket::full(rate, burst_ms(windows), now)),
            _ => Self::Samples(Samples::default()),
        }
    }

    /// Spends, and tells for how many milliseconds nothing more should be used.
    pub fn spend(&mut self, amount: f64, Measure { rate, windows, now }: Measure) -> i64 {
        match self {
            Self::Samples(samples) => samples.spend(amount, rate, windows, now),
            Self::Tokens(bucket) => bucket.spend(amount, rate, burst_ms(windows), now),
        }
    }

    /// Spends what may be used; the error is the time to wait, and nothing is spent.
    pub fn try_spend(&mut self, amount: f64, Measure { rate, windows, now }: Measure) -> Result<i64, i64> {
        match self {
            Self::Samples(samples) => samples.spend_if_fits(amount, rate, windows, now),
            Self::Tokens(bucket) => bucket.spend_if_free(amount, rate, burst_ms(windows), now),
        }
    }

    /// Whether it is as good as a new one.
    pub fn is_fresh(&mut self, Measure { rate, windows, now }: Measure) -> bool {
        match self {
            Self::Samples(samples) => samples.is_empty(windows, now),
            Self::Tokens(bucket) => bucket.is_full(rate, burst_ms(windows), now),
        }
    }
}

/// A bucket holds the rate over all windows, where samples allow that over all but one.
fn burst_ms(windows: Windows) -> i64 {
    windows.length_ms.saturating_mul(windows.number)
}
