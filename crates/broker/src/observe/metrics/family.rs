//! One family: where its values are read, and how they are written.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::engine::disk::FLUSH_BUCKETS;
use crate::observe::process::Process;
use crate::observe::scrape::Scrape;

/// Values with their labels.
pub type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

pub enum Read {
    Process(fn(&Process) -> Option<f64>),
    Counter(fn(&Scrape) -> f64),
    Gauge(fn(&Scrape) -> f64),
    Labelled(fn(&Scrape) -> Samples),
    /// Of the process, and counting up.
    ProcessCounter(fn(&Process) -> Option<f64>),
    FlushHistogram,
    Build,
}

pub struct Family {
    pub name: &'static str,
    pub unit: Option<Unit>,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    pub read: Read,
}

pub fn family(name: &'static str, unit: Option<Unit>, help: &'static str, read: Read) -> Family {
    Family { name, unit, help, labels: &[], read }
}

pub fn labelled(
    name: &'static str,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape) -> Samples,
) -> Family {
    Family { name, unit, help, labels, read: Read::Labelled(read) }
}

pub fn of(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

pub fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

impl Family {
    pub fn kind(&self) -> MetricType {
        match self.read {
            Read::Counter(_) | Read::ProcessCounter(_) => MetricType::Counter,
            Read::FlushHistogram => MetricType::Histogram,
            _ => MetricType::Gauge,
        }
    }

    pub fn write(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        scrape: Option<&Scrape>,
        process: &Process,
    ) -> fmt::Result {
        let value = match (&self.read, scrape) {
            (Read::Process(read) | Read::ProcessCounter(read), _) => read(process),
            (Read::Counter(read) | Read::Gauge(read), Some(scrape)) => Some(read(scrape)),
            (Read::Build, _) => Some(1.0),
            (Read::Labelled(_) | Read::FlushHistogram, Some(_)) => Some(0.0),
            (_, None) => None,
        };
        let Some(value) = value.filter(|value| !value.is_nan()) else { return Ok(()) };
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind())?;
        match (&self.read, scrape) {
            (Read::Labelled(read), Some(scrape)) => {
                for (labels, value) in read(scrape) {
                    ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
                }
                Ok(())
            }
            (Read::FlushHistogram, Some(scrape)) => flushes(scrape, metric),
            (Read::Build, _) => {
                let labels = vec![("version", env!("CARGO_PKG_VERSION"))];
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)
            }
            (Read::Counter(_) | Read::ProcessCounter(_), _) => ConstCounter::new(value).encode(metric),
            _ => ConstGauge::new(value).encode(metric),
        }
    }
}

fn flushes(scrape: &Scrape, mut metric: MetricEncoder<'_>) -> fmt::Result {
    let disk = &scrape.shared.disk;
    let bounds = FLUSH_BUCKETS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
    let counts = disk.buckets.iter().map(|count| count.load(Ordering::Relaxed));
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(of(&disk.busy_micros) / 1e6, count, &buckets, None)
}
