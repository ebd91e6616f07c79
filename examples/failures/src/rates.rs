//! A service of exchange rates, as services are: it takes its time, and now and then it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts what it is asked.
#[derive(Debug, Default)]
pub struct Rates {
    asked: AtomicU64,
    failed: AtomicU64,
}

impl Rates {
    /// Cents for one unit of a currency.
    pub async fn cents(self: Arc<Self>, currency: String) -> Result<i64, String> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1 + asked % 5)).await;
        if asked % 9 == 8 {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err("the service of rates is busy".to_owned());
        }
        crate::payments::cents(&currency).ok_or_else(|| format!("no rate for {currency}"))
    }

    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
