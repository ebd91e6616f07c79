//! How the rate of mutations is kept (KIP-599): credit that grows with time up to a bound, and is spent by use.
//!
//! As Kafka's `TokenBucket`: what was too much stays owed until it is paid by waiting, and meanwhile all is refused.
//!
//! Invariant: between any two times, who waits as told uses at most rate × (time + allowance), and one use more.

use headwater_model::TimestampMs;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Negative while too much was used.
    credit: f64,
    at: TimestampMs,
}

impl Bucket {
    /// Full: the whole allowance, which is a rate over a time.
    pub fn full(rate: f64, allowance_ms: i64, now: TimestampMs) -> Self {
        Self { credit: rate * seconds(allowance_ms), at: now }
    }

    /// The credit grows by what the time since brought; a rate that has changed counts from here.
    fn grow(&mut self, rate: f64, allowance_ms: i64, now: TimestampMs) {
        // A clock that was set back gives nothing and takes nothing.
        let passed = (now - self.at).max(0);
        self.at = now;
        self.credit = (self.credit + rate * seconds(passed)).min(rate * seconds(allowance_ms));
    }

    /// Spends, whatever there is, and tells for how many milliseconds nothing more may be used.
    pub fn spend(&mut self, amount: f64, rate: f64, allowance_ms: i64, now: TimestampMs) -> i64 {
        self.grow(rate, allowance_ms, now);
        self.credit -= amount;
        self.wait(rate)
    }

    /// As [`Self::spend`], but only when nothing is owed; otherwise the time to wait is the error.
    pub fn spend_if_free(
        &mut self,
        amount: f64,
        rate: f64,
        allowance_ms: i64,
        now: TimestampMs,
    ) -> Result<i64, i64> {
        self.grow(rate, allowance_ms, now);
        match self.wait(rate) {
            0 => {
                self.credit -= amount;
                Ok(self.wait(rate))
            }
            wait => Err(wait),
        }
    }

    /// Whether it is as good as a new one.
    pub fn is_full(&self, rate: f64, allowance_ms: i64, now: TimestampMs) -> bool {
        self.credit + rate * seconds(now - self.at) >= rate * seconds(allowance_ms)
    }

    fn wait(&self, rate: f64) -> i64 {
        if self.credit >= 0.0 { 0 } else { (-self.credit / rate * 1e3).ceil() as i64 }
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owes_is_refused_until_it_is_paid() {
        let mut bucket = Bucket::full(1_000.0, 10_000, 0);
        assert_eq!(bucket.spend(10_000.0, 1_000.0, 10_000, 0), 0);
        let mut bucket = Bucket::full(1_000.0, 10_000, 0);
        assert_eq!(bucket.spend(15_000.0, 1_000.0, 10_000, 0), 5_000);
        assert_eq!(bucket.spend_if_free(1.0, 1_000.0, 10_000, 4_000), Err(1_000));
        assert_eq!(bucket.spend_if_free(1.0, 1_000.0, 10_000, 5_000), Ok(1));
    }

    #[test]
    fn a_lower_rate_counts_at_once_and_a_clock_set_back_gives_nothing() {
        let mut bucket = Bucket::full(1_000.0, 10_000, 50_000);
        assert_eq!(bucket.spend(20.0, 1.0, 10_000, 50_000), 10_000);
        assert_eq!(bucket.spend(0.0, 1.0, 10_000, 10_000), 10_000);
    }
}
