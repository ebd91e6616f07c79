//! What a benchmark found: figures of both servers, their ratio with its interval, and the target beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::server::Durability;
use super::stats::{Interval, interval, median};

/// Figures of one run of one server, by the key of their metric.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    pub values: BTreeMap<String, f64>,
    pub driver: String,
    /// The driver was busier than the server and used up a core.
    pub driver_bound: bool,
}

impl Sample {
    pub fn set(mut self, key: &str, value: f64) -> Self {
        self.values.insert(key.to_owned(), value);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Better {
    Higher,
    Lower,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Target {
    /// Ours over the peer's: at least, or at most, as the metric's direction says.
    Ratio(f64),
    /// Our own figure: at least, or at most.
    Ours(f64),
}

#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub key: &'static str,
    pub unit: &'static str,
    pub better: Better,
    pub target: Option<Target>,
}

impl Metric {
    pub const fn higher(key: &'static str, unit: &'static str) -> Self {
        Self { key, unit, better: Better::Higher, target: None }
    }

    pub const fn lower(key: &'static str, unit: &'static str) -> Self {
        Self { key, unit, better: Better::Lower, target: None }
    }

    pub const fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }
}

/// One line of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compared {
    pub metric: String,
    pub unit: String,
    pub better: Better,
    pub ours: f64,
    pub peer: Option<f64>,
    /// Ours over the peer's, pair by pair.
    pub ratio: Option<(f64, f64, f64)>,
    pub target: Option<Target>,
}

impl Compared {
    pub fn of(metric: &Metric, ours: &[Sample], peer: &[Sample]) -> Option<Self> {
        let values = |samples: &[Sample]| -> Vec<f64> {
            samples.iter().filter_map(|sample| sample.values.get(metric.key).copied()).collect()
        };
        let (ours, peer) = (values(ours), values(peer));
        if ours.is_empty() {
            return None;
        }
        let ratios: Vec<f64> = ours.iter().zip(&peer).map(|(ours, peer)| ours / peer).collect();
        let usable = !ratios.is_empty() && ratios.iter().all(|ratio| ratio.is_finite());
        let ratio = usable.then(|| interval(&ratios));
        Some(Self {
            metric: metric.key.to_owned(),
            unit: metric.unit.to_owned(),
            better: metric.better,
            ours: median(&ours),
            peer: (!peer.is_empty()).then(|| median(&peer)),
            ratio: ratio.map(|Interval { median, low, high }| (median, low, high)),
            target: metric.target,
        })
    }

    /// The interval's worse end: what may be claimed.
    pub fn claim(&self) -> Option<f64> {
        let (_, low, high) = self.ratio?;
        Some(if self.better == Better::Higher { low } else { high })
    }

    /// The peer is better, by the median.
    pub fn lost(&self) -> bool {
        let Some((median, _, _)) = self.ratio else { return false };
        if self.better == Better::Higher { median < 1.0 } else { median > 1.0 }
    }

    pub fn met(&self) -> Option<bool> {
        let (figure, bound) = match self.target? {
            Target::Ratio(bound) => (self.claim()?, bound),
            Target::Ours(bound) => (self.ours, bound),
        };
        Some(if self.better == Better::Higher { figure >= bound } else { figure <= bound })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contestant {
    pub name: String,
    pub durability: Option<Durability>,
    pub server: String,
    pub driver: String,
    /// Flushes counted in a run of its own.
    pub flushes: Option<String>,
    pub driver_bound: bool,
}

impl Contestant {
    pub fn new(name: &str, durability: Option<Durability>) -> Self {
        Self {
            name: name.to_owned(),
            durability,
            server: String::new(),
            driver: String::new(),
            flushes: None,
            driver_bound: false,
        }
    }
}

/// One case of a benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub case: String,
    pub pairs: usize,
    pub contestants: Vec<Contestant>,
    pub compared: Vec<Compared>,
    pub notes: Vec<String>,
    /// Why there are no figures.
    pub failure: Option<String>,
}

impl Outcome {
    pub fn failed(case: &str, why: String) -> Self {
        Self {
            case: case.to_owned(),
            pairs: 0,
            contestants: Vec::new(),
            compared: Vec::new(),
            notes: Vec::new(),
            failure: Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<Sample> {
        values.iter().map(|value| Sample::default().set("MB/s", *value)).collect()
    }

    #[test]
    fn the_claim_is_the_worse_end() {
        let metric = Metric::higher("MB/s", "MB/s").target(Target::Ratio(2.0));
        let compared = Compared::of(&metric, &samples(&[30.0, 20.0, 40.0]), &samples(&[10.0; 3])).unwrap();
        assert_eq!((compared.claim(), compared.met(), compared.lost()), (Some(2.0), Some(true), false));
        let slower = Metric::lower("MB/s", "ms").target(Target::Ratio(0.5));
        let compared = Compared::of(&slower, &samples(&[3.0, 4.0]), &samples(&[10.0; 2])).unwrap();
        assert_eq!((compared.claim(), compared.met()), (Some(0.4), Some(true)));
    }
}
