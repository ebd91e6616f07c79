//! What the cold store was asked and whether it answered, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headwater_log::Ownership;
use headwater_model::TimestampMs;

#[derive(Debug, Default)]
pub struct ColdActivity {
    pub requests: AtomicU64,
    pub failures: AtomicU64,
    pub micros: AtomicU64,
    unreachable: Mutex<Option<Unreachable>>,
    refused: Mutex<Option<Refused>>,
}

/// The place in the store is not this broker's.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    pub since: TimestampMs,
    /// With what to do.
    pub reason: &'static str,
}

/// Every request since then has failed.
#[derive(Debug, Clone)]
pub struct Unreachable {
    pub since: TimestampMs,
    pub times: u64,
    /// Of the last one, with what to do.
    pub reason: String,
}

impl ColdActivity {
    /// A request ended after so long, with the reason if it failed.
    pub(super) fn asked(&self, took: Duration, failed: Option<String>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = failed else {
            *unreachable = None;
            return;
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (since, times) = unreachable
            .take()
            .map_or_else(|| (crate::clock::wall(), 0), |before| (before.since, before.times));
        *unreachable = Some(Unreachable { since, times: times + 1, reason });
    }

    /// Whose the place was found to be; whether it is this broker's.
    pub fn found(&self, ownership: Ownership) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = ownership.refusal() else {
            *refused = None;
            return true;
        };
        if refused.is_none_or(|before| before.reason != reason) {
            tracing::error!("{reason}");
            *refused = Some(Refused { since: crate::clock::wall(), reason });
        }
        false
    }

    pub fn refused(&self) -> Option<Refused> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when the last request went well, or there was none.
    pub fn unreachable(&self) -> Option<Unreachable> {
        self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
