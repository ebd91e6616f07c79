//! Quotas: what each client has used, and for how long its channel is mute.
//!
//! Owns the meters of those for whom there is a limit; whose limit it is and how use is measured is decided by the
//! coordinator's core. Without any limit of a kind nothing is looked up and nothing is kept.
//!
//! Invariant: a request that exceeds a quota is answered at once, with the time for which the channel is mute after it;
//! so that a client that does not know quotas is slowed down by its own connection.

mod config;
mod meter;
mod mute;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_coordinator::QuotaKey;
use headwater_model::{Principal, TimestampMs};

pub use self::config::{QuotaConfig, WindowConfig};
use self::meter::{Measure, Meter};
pub use self::mute::Mute;

use crate::clock::Clock;
use crate::rules::Rules;
use crate::usage::cut;

/// With fewer meters nobody looks for such as can go.
const FEW: usize = 1024;

pub struct Quotas {
    rules: Arc<Rules>,
    config: QuotaConfig,
    clock: Clock,
    meters: Mutex<Meters>,
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
struct Meters {
    /// With the rate of their last use.
    all: HashMap<Owner, (Meter, f64)>,
    /// Those that are as good as new are dropped when there are more than this.
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
        Self { rules, config, clock, meters: Mutex::default(), throttles, throttled_ms }
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
            client_id: applies.by_client_id.then(|| cut(user.client_id)),
            ip: None,
        };
        Some((owner, applies.limit))
    }

    fn with_meter<T>(&self, owner: Owner, rate: f64, change: impl FnOnce(&mut Meter, Measure) -> T) -> T {
        let now = self.clock.now();
        let measure = |key, rate| Measure { rate, windows: self.config.of(key), now };
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.all.len() > meters.many.max(FEW) {
            meters.all.retain(|owner, (meter, rate)| !meter.is_fresh(measure(owner.key, *rate)));
            meters.many = 2 * meters.all.len();
        }
        let measure = measure(owner.key, rate);
        let meter =
            meters.all.entry(owner).or_insert_with_key(|owner| (Meter::new(owner.key, measure), rate));
        meter.1 = rate;
        change(&mut meter.0, measure)
    }

    /// Spends what was used, and tells for how many milliseconds the channel has to be mute.
    pub fn spend(&self, key: QuotaKey, user: User<'_>, amount: f64) -> i64 {
        if !self.has(key) {
            return 0;
        }
        let Some((owner, rate)) = self.owner(key, user) else { return 0 };
        let wait = self.with_meter(owner, rate, |meter, measure| meter.spend(amount, measure));
        // A window is the most that a request's time makes wait.
        if key == QuotaKey::RequestPercentage { wait.min(self.config.of(key).length_ms) } else { wait }
    }

    /// Spends for what is about to be done or answered; the error is when it may not be, and nothing is spent.
    pub fn try_spend(&self, key: QuotaKey, user: User<'_>, amount: f64) -> Result<i64, i64> {
        if !self.has(key) {
            return Ok(0);
        }
        let Some((owner, rate)) = self.owner(key, user) else { return Ok(0) };
        self.with_meter(owner, rate, |meter, measure| meter.try_spend(amount, measure))
    }

    /// What may be used at once by who has been quiet; more is always throttled.
    pub fn most_at_once(&self, key: QuotaKey, user: User<'_>) -> Option<f64> {
        let (_, rate) = self.has(key).then(|| self.owner(key, user))??;
        Some(rate * self.config.of(key).allowance_ms() as f64 / 1e3)
    }

    /// For how long a connection from this address has to wait for its end, at most a window; `None` when it is welcome
    /// (KIP-612).
    pub fn connecting(&self, ip: IpAddr) -> Option<Duration> {
        let key = QuotaKey::ConnectionCreationRate;
        if !self.has(key) {
            return None;
        }
        let ip = ip.to_canonical();
        let rate = self.rules.quotas().of_address(&ip.to_string())?;
        let owner = Owner { key, user: None, client_id: None, ip: Some(ip) };
        let wait = self.with_meter(owner, rate, |meter, measure| meter.try_spend(1.0, measure)).err()?;
        let wait = wait.min(self.config.of(key).length_ms);
        self.count(wait);
        Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }

    pub fn count(&self, wait_ms: i64) {
        self.throttles.fetch_add(1, Ordering::Relaxed);
        self.throttled_ms.fetch_add(u64::try_from(wait_ms).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use headwater_coordinator::{EntityName, Limit, QuotaEntity, QuotaRecord};

    use super::*;
    use crate::rules::RuleChange;

    /// A client may call itself by another long name with each request.
    #[test]
    fn of_a_client_id_as_long_as_can_be_a_meter_keeps_little() {
        let rules = Arc::new(Rules::default());
        let entity = QuotaEntity { user: None, client_id: Some(EntityName::Default), ip: None };
        let key = QuotaKey::ProducerByteRate;
        rules.apply(vec![RuleChange::Quota(QuotaRecord { entity, key, limit: Some(Limit(1.0)) })]);
        let quotas = Quotas::new(rules, QuotaConfig::default(), Clock::start());
        let principal = Principal::anonymous();
        for end in ["a", "b"] {
            let client_id = "c".repeat(30_000) + end;
            quotas.spend(key, User { principal: &principal, client_id: &client_id }, 1_000.0);
        }
        let meters = quotas.meters.lock().unwrap();
        let kept = meters.all.keys().map(|owner| owner.client_id.as_deref().unwrap_or_default().len());
        assert_eq!(kept.collect::<Vec<_>>(), [255]);
    }
}
