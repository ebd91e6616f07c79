//! How a rate is measured: what was used in the last windows, by the time they cover.
//!
//! As Kafka's `Rate` over a `WindowedSum`: a window begins with the first use after the one before has ended, and is
//! forgotten when its last use is as old as all windows together. Windows that are missing count as such in which
//! nothing was used, so that who has been quiet may use the rate over all windows but one at once.

use std::collections::VecDeque;

use headwater_model::TimestampMs;

/// `quota.window.num` windows of `quota.window.size.seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    pub number: i64,
    pub length_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    begun: TimestampMs,
    last: TimestampMs,
    used: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    all: VecDeque<Sample>,
}

impl Windows {
    /// For how long the rate may be used at once.
    pub fn allowance_ms(self) -> i64 {
        self.length_ms.saturating_mul((self.number - 1).max(1))
    }

    fn all_ms(self) -> i64 {
        self.length_ms.saturating_mul(self.number)
    }
}

impl Samples {
    /// Adds what was used, and tells for how many milliseconds nothing more should be.
    pub fn spend(&mut self, amount: f64, rate: f64, windows: Windows, now: TimestampMs) -> i64 {
        match self.all.back_mut() {
            Some(sample) if now - sample.begun < windows.length_ms => {
                sample.used += amount;
                sample.last = now;
            }
            _ => self.all.push_back(Sample { begun: now, last: now, used: amount }),
        }
        // One more than the windows: the oldest may overlap them with its end only.
        while self.all.len() as i64 > windows.number + 1 {
            self.all.pop_front();
        }
        self.wait(rate, windows, now)
    }

    /// As [`Self::spend`] when there is nothing to wait for after it, or nothing else was used: one use that is larger
    /// than all windows would else never be let through. Otherwise the time to wait is the error.
    pub fn spend_if_fits(
        &mut self,
        amount: f64,
        rate: f64,
        windows: Windows,
        now: TimestampMs,
    ) -> Result<i64, i64> {
        let wait = self.spend(amount, rate, windows, now);
        let used: f64 = self.all.iter().map(|sample| sample.used).sum();
        if wait == 0 || used <= amount {
            return Ok(wait);
        }
        if let Some(sample) = self.all.back_mut() {
            sample.used -= amount;
        }
        Err(wait)
    }

    /// Whether it is as good as a new one.
    pub fn is_empty(&mut self, windows: Windows, now: TimestampMs) -> bool {
        self.forget(windows, now);
        self.all.iter().all(|sample| sample.used <= 0.0)
    }

    fn forget(&mut self, windows: Windows, now: TimestampMs) {
        self.all.retain(|sample| now - sample.last < windows.all_ms());
    }

    /// By how much the rate is exceeded, as a share of the time that was measured.
    fn wait(&mut self, rate: f64, windows: Windows, now: TimestampMs) -> i64 {
        self.forget(windows, now);
        let begun = self.all.iter().map(|sample| sample.begun).min().unwrap_or(now);
        // A clock that was set back measures as if no time had passed.
        let passed = (now - begun).max(0);
        let missing = (windows.number - 1 - passed / windows.length_ms).max(0);
        let measured = passed + missing * windows.length_ms;
        let used: f64 = self.all.iter().map(|sample| sample.used).sum();
        let seconds = measured as f64 / 1e3;
        match used / seconds {
            found if measured > 0 && found > rate => ((found - rate) / rate * measured as f64).round() as i64,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELEVEN: Windows = Windows { number: 11, length_ms: 1_000 };

    #[test]
    fn the_rate_over_ten_windows_may_be_used_at_once() {
        let mut samples = Samples::default();
        assert_eq!(samples.spend(10_000.0, 1_000.0, ELEVEN, 50), 0);
        let mut samples = Samples::default();
        assert_eq!(samples.spend(15_000.0, 1_000.0, ELEVEN, 50), 5_000);
    }

    /// As `kafka.server.ClientQuotaManagerTest` has it: 500 a second, ten quiet windows with 400 in each, then 2,300
    /// half a second later.
    #[test]
    fn the_time_measured_ends_within_a_window() {
        let mut samples = Samples::default();
        for window in 0..10 {
            assert_eq!(samples.spend(400.0, 500.0, ELEVEN, window * 1_000), 0);
        }
        // 6,300 in 10.5 seconds are 600 a second.
        assert_eq!(samples.spend(2_300.0, 500.0, ELEVEN, 10_500), 2_100);
        // What stays for so long is forgotten with its window, and no sooner.
        assert!(samples.spend(0.0, 500.0, ELEVEN, 12_000) > 0);
        assert_eq!(samples.spend(0.0, 500.0, ELEVEN, 30_000), 0);
    }

    #[test]
    fn what_does_not_fit_is_not_kept_but_for_one_that_never_would() {
        let mut samples = Samples::default();
        assert_eq!(samples.spend_if_fits(15_000.0, 1_000.0, ELEVEN, 0), Ok(5_000));
        assert_eq!(samples.spend_if_fits(1_000.0, 1_000.0, ELEVEN, 1_000), Err(6_000));
        assert_eq!(samples.spend_if_fits(1_000.0, 1_000.0, ELEVEN, 1_000), Err(6_000));
        assert_eq!(samples.spend_if_fits(1_000.0, 1_000.0, ELEVEN, 11_000), Ok(0));
        assert!(!samples.is_empty(ELEVEN, 21_999));
        assert!(samples.is_empty(ELEVEN, 22_000));
    }

    #[test]
    fn a_clock_set_back_neither_forgives_nor_panics() {
        let mut samples = Samples::default();
        assert_eq!(samples.spend(20_000.0, 1_000.0, ELEVEN, 50_000), 10_000);
        assert_eq!(samples.spend(0.0, 1_000.0, ELEVEN, 10_000), 10_000);
        let one = Windows { number: 1, length_ms: 1_000 };
        assert_eq!(Samples::default().spend(9.0, 1.0, one, 0), 0, "no time was measured");
    }
}
