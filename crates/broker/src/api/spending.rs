//! What a request uses of its client's quotas.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use headwater_coordinator::QuotaKey;
use headwater_wire::ErrorCode;

use super::Call;
use crate::quota::User;

impl Call {
    fn user(&self) -> User<'_> {
        let client_id = self.client_id.as_ref().map_or("", |id| id.as_str());
        User { principal: &self.principal, client_id }
    }

    /// Spends what the request has used; when that was too much, the channel is mute for a while after the answer.
    pub fn spend(&self, key: QuotaKey, amount: f64) {
        self.mute_for(self.shared.quotas.spend(key, self.user(), amount));
    }

    /// Spends for an answer of records; `false` when they have to stay here, and the channel is mute for a while.
    pub fn may_bring(&self, bytes: usize) -> bool {
        let spent = self.shared.quotas.try_spend(QuotaKey::ConsumerByteRate, self.user(), bytes as f64);
        self.mute_for(spent.unwrap_or_else(|wait| wait));
        spent.is_ok()
    }

    fn mute_for(&self, wait_ms: i64) {
        if wait_ms > 0 {
            self.shared.quotas.count(wait_ms);
            self.mute.until(self.shared.quotas.now().saturating_add(wait_ms));
        }
    }

    /// The most that one answer should hold.
    pub fn most_at_once(&self, key: QuotaKey) -> usize {
        self.shared.quotas.most_at_once(key, self.user()).map_or(usize::MAX, |most| most as usize)
    }

    /// Spends for partitions that are to be made or deleted. A client whose version knows the error (KIP-599) is
    /// refused while too much was done before; another one waits after it.
    pub fn mutate(&self, partitions: i32, knows_error: bool) -> Result<(), ErrorCode> {
        let (quotas, key, amount) =
            (&self.shared.quotas, QuotaKey::ControllerMutationRate, f64::from(partitions));
        if !knows_error {
            self.spend(key, amount);
            return Ok(());
        }
        match quotas.try_spend(key, self.user(), amount) {
            Ok(_) => Ok(()),
            Err(wait) => {
                self.mute_for(wait);
                Err(ErrorCode::ThrottlingQuotaExceeded)
            }
        }
    }

    pub fn is_timed(&self) -> bool {
        self.shared.quotas.has(QuotaKey::RequestPercentage)
    }

    /// Spends the time that the request took of a thread; what the client is told to wait, in milliseconds.
    pub fn settle(&self, spent: Duration) -> i32 {
        if !spent.is_zero() {
            self.spend(QuotaKey::RequestPercentage, 100.0 * spent.as_secs_f64());
        }
        let left = self.mute.left(self.shared.quotas.now()).unwrap_or_default();
        i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Runs to the end, and tells for how long a thread was busy with it; nothing when nobody wants to know.
pub async fn timed<F: Future>(wanted: bool, future: F) -> (F::Output, Duration) {
    let mut future = std::pin::pin!(future);
    if !wanted {
        return (future.await, Duration::ZERO);
    }
    let mut spent = Duration::ZERO;
    let output = poll_fn(|context| {
        let begun = Instant::now();
        let polled = future.as_mut().poll(context);
        spent += begun.elapsed();
        polled
    });
    (output.await, spent)
}
