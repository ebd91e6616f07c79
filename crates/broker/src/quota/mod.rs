//! Quotas: what each client has used, and for how long its channel is mute.
//!
//! Owns the buckets of those for whom there is a limit; whose limit it is and how credit grows is decided by the
//! coordinator's core. Without any limit of a kind nothing is looked up and nothing is kept.
//!
//! Invariant: a request that exceeds a quota is answered at once and in full, with the time for which the channel is
//! mute after it; so that a client that does not know quotas is slowed down by its own connection.

mod config;
mod mute;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_coordinator::{Bucket, QuotaKey};
use headwater_model::{Principal, TimestampMs};

pub use config::QuotaConfig;
pub use mute::Mute;

use crate::clock::Clock;
use crate::rules::Rules;

/// With fewer buckets nobody looks for such as can go.
const FEW: usize = 1024;

pub struct Quotas {
    rules: Arc<Rules>,
    config: QuotaConfig,
    clock: Clock,
    buckets: Mutex<Buckets>,
    /// How often a channel was made mute, and for how many milliseconds in all.
    pub throttles: AtomicU64,
    pub throttled_ms: AtomicU64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Owner {
    key: QuotaKey,
    user: Option<String>,
    client_id: Option<String>,
    ip: Option<IpAddr>,
}

#[derive(Default)]
struct Buckets {
    all: HashMap<Owner, (Bucket, f64)>,
    /// Full ones are dropped when there are more than this.
    many: usize,
}

/// Whose use it is.
#[derive(Clone, Copy)]
pub struct User<'a> {
    pub principal: &'a Principal,
    pub client_id: &'a str,
}

impl Quotas {
    pub fn new(rules: Arc<Rules>, config: QuotaConfig, clock: Clock) -> Self {
        let (throttles, throttled_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { rules, config, clock, buckets: Mutex::default(), throttles, throttled_ms }
    }

    pub fn now(&self) -> TimestampMs {
        self.clock.now()
    }

    pub fn has(&self, key: QuotaKey) -> bool {
        self.rules.quotas().has(key)
    }

    fn owner(&self, key: QuotaKey, user: User<'_>) -> Option<(Owner, f64)> {
        let applies = self.rules.quotas().of_client(key, &user.principal.name, user.client_id)?;
        let owner = Owner {
            key,
            user: applies.by_user.then(|| user.principal.name.clone()),
            client_id: applies.by_client_id.then(|| user.client_id.to_owned()),
            ip: None,
        };
        Some((owner, applies.limit))
    }

    fn with_bucket<T>(&self, owner: Owner, rate: f64, change: impl FnOnce(&mut Bucket) -> T) -> T {
        let (allowance, now) = (self.config.allowance_ms(), self.clock.now());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.all.len() > buckets.many.max(FEW) {
            buckets.all.retain(|_, (bucket, rate)| !bucket.is_full(*rate, allowance, now));
            buckets.many = 2 * buckets.all.len();
        }
        let bucket = buckets.all.entry(owner).or_insert_with(|| (Bucket::full(rate, allowance, now), rate));
        bucket.1 = rate;
        change(&mut bucket.0)
    }

    /// Spends what was used, and tells for how many milliseconds the channel has to be mute.
    pub fn spend(&self, key: QuotaKey, user: User<'_>, amount: f64) -> i64 {
        if !self.has(key) {
            return 0;
        }
        let Some((owner, rate)) = self.owner(key, user) else { return 0 };
        let (allowance, now) = (self.config.allowance_ms(), self.clock.now());
        let wait = self.with_bucket(owner, rate, |bucket| bucket.spend(amount, rate, allowance, now));
        // A window is the most that a request's time makes wait, as in Kafka; the rest stays owed.
        if key == QuotaKey::RequestPercentage { wait.min(self.config.window_ms()) } else { wait }
    }

    /// Spends for what is about to be done; the error is when it may not be done, because too much was done before.
    pub fn spend_before(&self, key: QuotaKey, user: User<'_>, amount: f64) -> Result<i64, i64> {
        if !self.has(key) {
            return Ok(0);
        }
        let Some((owner, rate)) = self.owner(key, user) else { return Ok(0) };
        let (allowance, now) = (self.config.allowance_ms(), self.clock.now());
        self.with_bucket(owner, rate, |bucket| bucket.spend_if_free(amount, rate, allowance, now))
    }

    /// What may be used at once by who has been quiet; more is always throttled.
    pub fn most_at_once(&self, key: QuotaKey, user: User<'_>) -> Option<f64> {
        let (_, rate) = self.has(key).then(|| self.owner(key, user))??;
        Some(rate * self.config.allowance_ms() as f64 / 1e3)
    }

    /// For how long a connection from this address has to wait for its end; `None` when it is welcome (KIP-612).
    pub fn connecting(&self, ip: IpAddr) -> Option<Duration> {
        let key = QuotaKey::ConnectionCreationRate;
        if !self.has(key) {
            return None;
        }
        let ip = ip.to_canonical();
        let rate = self.rules.quotas().of_address(&ip.to_string())?;
        let owner = Owner { key, user: None, client_id: None, ip: Some(ip) };
        let (allowance, now) = (self.config.allowance_ms(), self.clock.now());
        let wait =
            self.with_bucket(owner, rate, |bucket| bucket.spend_if_free(1.0, rate, allowance, now)).err()?;
        self.count(wait);
        Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }

    pub fn count(&self, wait_ms: i64) {
        self.throttles.fetch_add(1, Ordering::Relaxed);
        self.throttled_ms.fetch_add(u64::try_from(wait_ms).unwrap_or(0), Ordering::Relaxed);
    }
}
