//! `/metrics`: the families, in one table that also makes the documentation, and their text.
//!
//! Names are those of Kafka's exporters where there is one; they carry no unit, so their help says it.

mod cleaner;
mod clients;
mod cold;
mod family;
mod log;
mod mirror;
mod process;
mod topics;

use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use self::family::Family;
use super::Observer;
use super::process::Process;
use super::scrape::Scrape;
use crate::clock;

/// A family as documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyInfo {
    /// As it stands in the text format.
    pub name: String,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

fn all_families() -> Vec<Family> {
    let all = [
        log::families(),
        clients::memory(),
        topics::families(),
        cleaner::families(),
        mirror::families(),
        cold::families(),
        clients::families(),
        process::families(),
    ];
    all.into_iter().flatten().collect()
}

/// Every family of `/metrics`, in its order.
pub fn families() -> Vec<FamilyInfo> {
    let info = |family: Family| {
        let unit = family.unit.as_ref().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let (kind, suffix) = match family.kind() {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Histogram => ("histogram", ""),
            _ => ("gauge", ""),
        };
        let name = format!("{}{unit}{suffix}", family.name);
        FamilyInfo { name, kind, labels: family.labels, help: family.help }
    };
    all_families().into_iter().map(info).collect()
}

/// The registry of one node, with or without a broker in it.
pub struct Exporter {
    observer: Option<Observer>,
    registry: Registry,
}

#[derive(Debug)]
struct Everything {
    observer: Option<Observer>,
}

impl Collector for Everything {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let observer = self.observer.as_ref();
        let shared = observer.and_then(|observer| observer.shared.upgrade());
        let oldest = observer.and_then(Observer::oldest_transaction);
        let scrape = shared.as_ref().map(|shared| Scrape::of(shared, oldest));
        let process = Process::read();
        all_families().iter().try_for_each(|family| family.write(&mut encoder, scrape.as_ref(), &process))
    }
}

impl Exporter {
    pub fn new(observer: Option<Observer>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything { observer: observer.clone() }));
        Self { observer, registry }
    }

    /// Asks the coordinator for what [`Self::text`] cannot wait for.
    pub async fn prepare(&self) {
        if let Some(observer) = &self.observer {
            observer.look_at_transactions().await;
        }
    }

    /// The text and its content type; reads the directory, so it is not for an async task.
    pub fn text(&self, openmetrics: bool) -> (&'static str, String) {
        let mut text = String::new();
        let (kind, written) = match openmetrics {
            true => (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                prometheus_client::encoding::text::encode(&mut text, &self.registry),
            ),
            false => (
                "text/plain; version=0.0.4; charset=utf-8",
                prometheus_client::encoding::prometheus_text::encode(&mut text, &self.registry),
            ),
        };
        if written.is_err() {
            // Writing to a string does not fail; a scraper sees an incomplete text as an error.
            let _ = write!(text, "# metrics could not be written at {}\n{{", clock::wall());
        }
        (kind, text)
    }
}
