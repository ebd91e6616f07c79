//! `/metrics`: the families, in one table that also makes the documentation, and their text.
//!
//! Names are those of Kafka's exporters where there is one; they carry no unit, so their help says it.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Observer;
use super::process::Process;
use super::scrape::{Scrape, TopicSummary};
use crate::clock;
use crate::engine::disk::FLUSH_BUCKETS;

/// Values with their labels.
type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

enum Read {
    Process(fn(&Process) -> Option<f64>),
    Counter(fn(&Scrape) -> f64),
    Gauge(fn(&Scrape) -> f64),
    Labelled(fn(&Scrape) -> Samples),
    /// Of the process, and counting up.
    ProcessCounter(fn(&Process) -> Option<f64>),
    FlushHistogram,
    Build,
}

struct Family {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    labels: &'static [&'static str],
    read: Read,
}

/// A family as documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyInfo {
    /// As it stands in the text format.
    pub name: String,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

fn family(name: &'static str, unit: Option<Unit>, help: &'static str, read: Read) -> Family {
    Family { name, unit, help, labels: &[], read }
}

fn labelled(
    name: &'static str,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape) -> Samples,
) -> Family {
    Family { name, unit, help, labels, read: Read::Labelled(read) }
}

fn of(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn memory_families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    let bytes = Some(Unit::Bytes);
    vec![
        family(
            "headwater_memory_limit",
            bytes.clone(),
            "What the requests and answers of all connections may take (headwater.memory.bytes)",
            Gauge(|s| s.shared.memory.limit() as f64),
        ),
        family("headwater_memory_used", bytes, "What they take", Gauge(|s| s.shared.memory.used() as f64)),
        family(
            "headwater_memory_cut_connections",
            None,
            "Connections closed because others waited for the memory of their slow requests or answers",
            Counter(|s| s.shared.memory.given_up() as f64),
        ),
    ]
}

fn log_families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
    vec![
        family(
            "headwater_log_flush",
            seconds.clone(),
            "Time from the begin of a commit to its end on disk; commits of unsynced topics only are in it, too",
            Read::FlushHistogram,
        ),
        family(
            "headwater_log_commits",
            None,
            "Commits, each one write for all partitions",
            Counter(|s| of(&s.shared.disk.commits)),
        ),
        family(
            "headwater_log_flushes",
            None,
            "Commits that were synced",
            Counter(|s| of(&s.shared.disk.flushes)),
        ),
        family(
            "headwater_log_written",
            bytes.clone(),
            "Bytes that commits wrote",
            Counter(|s| of(&s.shared.disk.bytes)),
        ),
        family(
            "headwater_log_commit_under_way",
            seconds.clone(),
            "How long the commit under way has taken; 0 when there is none",
            Gauge(|s| s.shared.disk.under_way().as_secs_f64()),
        ),
        family(
            "headwater_log_waits_for_space",
            None,
            "1 while the log waits for space on the disk and writes are refused",
            Gauge(|s| flag(s.shared.disk.waits_for_space.load(Ordering::Relaxed))),
        ),
        family(
            "headwater_log_fenced",
            None,
            "1 when a failed commit has ended writing until a restart",
            Gauge(|s| flag(s.shared.engine.fenced().is_some())),
        ),
        labelled(
            "headwater_log_files",
            None,
            &["kind", "place"],
            "Journals and runs, on this disk or in the cold store only",
            |s| files(s, |_| 1),
        ),
        labelled("headwater_log_file", bytes.clone(), &["kind", "place"], "Their bytes", |s| {
            files(s, |file| file.length)
        }),
        family(
            "headwater_log_live",
            bytes.clone(),
            "Bytes of batches that can be read",
            Gauge(|s| s.files.iter().map(|file| file.live).sum::<u64>() as f64),
        ),
        family(
            "headwater_log_damaged_ranges",
            None,
            "Ranges of offsets that are known to be damaged",
            Gauge(|s| s.damaged as f64),
        ),
        family(
            "headwater_disk_free",
            bytes.clone(),
            "Bytes of the data directory's file system that are free",
            Gauge(|s| s.space.map_or(f64::NAN, |space| space.free as f64)),
        ),
        family(
            "headwater_disk_size",
            bytes,
            "Bytes of the data directory's file system",
            Gauge(|s| s.space.map_or(f64::NAN, |space| space.size as f64)),
        ),
        family(
            "headwater_transactions_open",
            None,
            "Producers with an open transaction that has written",
            Gauge(|s| s.open_transactions as f64),
        ),
        family(
            "headwater_transaction_oldest_age",
            seconds,
            "Age of the oldest open transaction; 0 when there is none",
            Gauge(|s| s.oldest_transaction.map_or(0.0, |at| (s.shared.clock.now() - at).max(0) as f64 / 1e3)),
        ),
    ]
}

fn topic_families() -> Vec<Family> {
    use Read::Gauge;
    const PARTITION: &[&str] = &["topic", "partition"];
    vec![
        family("headwater_partitions", None, "Partitions of all topics", Gauge(|s| s.partitions as f64)),
        family(
            "headwater_partitions_summed",
            None,
            "1 when there are too many partitions (1,000) for a sample each: then there are sums by topic only",
            Gauge(|s| flag(!s.is_detailed())),
        ),
        family(
            "headwater_topics_left_out",
            None,
            "Topics without samples because there are too many (1,000); the largest have samples",
            Gauge(|s| s.topics_left_out as f64),
        ),
        labelled("kafka_topic_partitions", None, &["topic"], "Partitions of a topic", |s| {
            topics(s, |t| t.partitions.len() as f64)
        }),
        labelled(
            "headwater_topic_size",
            Some(Unit::Bytes),
            &["topic"],
            "Bytes of a topic's batches that can be read",
            |s| topics(s, |t| t.bytes() as f64),
        ),
        labelled(
            "headwater_topic_offsets",
            None,
            &["topic"],
            "Offsets from log start to log end, over a topic's partitions",
            |s| topics(s, |t| t.offsets() as f64),
        ),
        labelled("kafka_topic_partition_oldest_offset", None, PARTITION, "Log start offset", |s| {
            partitions(s, |p| p.offsets.log_start as f64)
        }),
        labelled("kafka_topic_partition_current_offset", None, PARTITION, "Log end offset", |s| {
            partitions(s, |p| p.offsets.high_watermark as f64)
        }),
        labelled(
            "headwater_topic_partition_last_stable_offset",
            None,
            PARTITION,
            "Up to where read_committed consumers read",
            |s| partitions(s, |p| p.offsets.last_stable as f64),
        ),
        labelled("kafka_log_log_size", None, PARTITION, "Bytes of batches that can be read", |s| {
            partitions(s, |p| p.bytes as f64)
        }),
    ]
}

fn cleaner_families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    let bytes = Some(Unit::Bytes);
    vec![
        family(
            "headwater_cleaner_cleanings",
            None,
            "Compactions of a partition",
            Counter(|s| of(&s.shared.cleaner.cleanings)),
        ),
        family(
            "headwater_cleaner_read",
            bytes.clone(),
            "Bytes that compaction read",
            Counter(|s| of(&s.shared.cleaner.bytes_read)),
        ),
        family(
            "headwater_cleaner_written",
            bytes.clone(),
            "Bytes that compaction and moving wrote",
            Counter(|s| of(&s.shared.cleaner.bytes_written)),
        ),
        family(
            "headwater_cleaner_records_dropped",
            None,
            "Records that compaction left out",
            Counter(|s| of(&s.shared.cleaner.records_dropped)),
        ),
        family(
            "headwater_cleaner_offsets_deleted",
            None,
            "Offsets that retention deleted",
            Counter(|s| of(&s.shared.cleaner.offsets_deleted)),
        ),
        family(
            "headwater_cleaner_files_emptied",
            None,
            "Files whose rest was moved so that they can go",
            Counter(|s| of(&s.shared.cleaner.files_emptied)),
        ),
        family(
            "headwater_cleaner_failures",
            None,
            "Cleanings that failed; headwater doctor has the reasons",
            Counter(|s| of(&s.shared.cleaner.failures)),
        ),
        family(
            "headwater_cleaner_clock_held",
            None,
            "1 while nothing is deleted by age because the clock is not believed",
            Gauge(|s| flag(s.shared.cleaner.clock_held.load(Ordering::Relaxed))),
        ),
        family(
            "headwater_cleaner_max_dirty_ratio",
            None,
            "The largest part of a compacted partition that was never compacted, its active segment included",
            Gauge(|s| s.max_dirty_ratio),
        ),
        family(
            "headwater_scrub_read",
            bytes.clone(),
            "Bytes that were checked without a reader",
            Counter(|s| of(&s.shared.cleaner.bytes_scrubbed)),
        ),
        family(
            "headwater_scrub_damaged_batches",
            None,
            "Damaged batches that the check found",
            Counter(|s| of(&s.shared.cleaner.batches_damaged)),
        ),
        family(
            "headwater_mirror_complete_sides",
            None,
            "Directories that hold all of the log: 2 with a complete mirror",
            Gauge(|s| if s.shared.mirror.standing() == headwater_log::Standing::Both { 2.0 } else { 1.0 }),
        ),
        family(
            "headwater_mirror_files_left",
            None,
            "Files that are still to be copied to the directory that is being filled",
            Gauge(|s| match s.shared.mirror.standing() {
                headwater_log::Standing::Filling { files_left, .. } => files_left as f64,
                _ => 0.0,
            }),
        ),
        family(
            "headwater_mirror_return_attempts",
            None,
            "Attempts to take a directory in again that had failed",
            Counter(|s| of(&s.shared.mirror_retries.attempts)),
        ),
        family(
            "headwater_mirror_returned",
            None,
            "Attempts that brought the directory back: it was filled from then on",
            Counter(|s| of(&s.shared.mirror_retries.returned)),
        ),
        family(
            "headwater_mirror_filled",
            bytes.clone(),
            "Bytes that were copied to a directory that lacked them",
            Counter(|s| of(&s.shared.mirror.activity().bytes_filled)),
        ),
        family(
            "headwater_mirror_repaired",
            None,
            "Damaged copies that were written again from the other directory",
            Counter(|s| of(&s.shared.mirror.activity().repaired)),
        ),
        family(
            "headwater_mirror_unwritable",
            None,
            "Damaged copies that could not be written again; the other directory is read",
            Counter(|s| of(&s.shared.mirror.activity().unwritable)),
        ),
        family(
            "headwater_mirror_beyond_repair",
            None,
            "Batches that were found damaged in both directories",
            Counter(|s| of(&s.shared.mirror.activity().beyond_repair)),
        ),
        family(
            "headwater_cold_files_moved",
            None,
            "Files that went to the cold store",
            Counter(|s| of(&s.shared.cleaner.files_cooled)),
        ),
        family(
            "headwater_cold_objects_swept",
            None,
            "Objects that nobody needed any more and that were removed from the cold store",
            Counter(|s| of(&s.shared.cleaner.objects_swept)),
        ),
        family("headwater_cold_moved", bytes, "Their bytes", Counter(|s| of(&s.shared.cleaner.bytes_cooled))),
        family(
            "headwater_cold_requests",
            None,
            "Requests to the cold store, each with the attempts that it took",
            Counter(|s| of(&s.shared.cleaner.cold.requests)),
        ),
        family(
            "headwater_cold_requests_failed",
            None,
            "Of them those that failed in the end; an object that is not there is no failure",
            Counter(|s| of(&s.shared.cleaner.cold.failures)),
        ),
        family(
            "headwater_cold_requests_time",
            Some(Unit::Seconds),
            "How long they took together",
            Counter(|s| of(&s.shared.cleaner.cold.micros) / 1e6),
        ),
        family(
            "headwater_connections",
            None,
            "Open client connections",
            Gauge(|s| {
                (s.shared.config.max_connections
                    - s.shared.connections.available_permits().min(s.shared.config.max_connections))
                    as f64
            }),
        ),
        family(
            "headwater_connections_limit",
            None,
            "Further connections are refused",
            Gauge(|s| s.shared.config.max_connections as f64),
        ),
    ]
}

fn access_families() -> Vec<Family> {
    use Read::Counter;
    vec![
        family(
            "headwater_denied",
            None,
            "Refusals by the authorizer",
            Counter(|s| of(&s.shared.audit.denied)),
        ),
        family(
            "headwater_throttles",
            None,
            "Answers after which a channel was mute because of a quota, and connections that were refused by one",
            Counter(|s| of(&s.shared.quotas.throttles)),
        ),
        family(
            "headwater_throttle_time",
            Some(Unit::Seconds),
            "For how long in all",
            Counter(|s| of(&s.shared.quotas.throttled_ms) / 1e3),
        ),
        family(
            "headwater_audit_lost",
            None,
            "Lines that the audit stream lost because they came faster than it writes",
            Counter(|s| of(&s.shared.audit.lost)),
        ),
        family(
            "headwater_usage_dropped",
            None,
            "Sightings of clients that produce or consume that found no room in the record of who does",
            Counter(|s| s.shared.sightings.dropped() as f64),
        ),
    ]
}

fn process_families() -> Vec<Family> {
    use Read::Process as P;
    let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
    vec![
        family(
            "process_cpu",
            seconds.clone(),
            "CPU time, user and system",
            Read::ProcessCounter(|p| p.cpu_seconds),
        ),
        family("process_resident_memory", bytes.clone(), "Memory in RAM", P(|p| p.resident_bytes)),
        family("process_virtual_memory", bytes, "Address space", P(|p| p.virtual_bytes)),
        family("process_threads", None, "Threads", P(|p| p.threads)),
        family("process_open_fds", None, "Open file descriptors", P(|p| p.open_files)),
        family("process_max_fds", None, "Limit of open file descriptors", P(|p| p.max_files)),
        family("process_start_time", seconds, "Start of the process, Unix time", P(|p| p.start_seconds)),
        Family {
            name: "headwater_build_info",
            unit: None,
            help: "Always 1; the label says which version",
            labels: &["version"],
            read: Read::Build,
        },
    ]
}

fn all_families() -> Vec<Family> {
    let all = [
        log_families(),
        memory_families(),
        topic_families(),
        cleaner_families(),
        access_families(),
        process_families(),
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

impl Family {
    fn kind(&self) -> MetricType {
        match self.read {
            Read::Counter(_) | Read::ProcessCounter(_) => MetricType::Counter,
            Read::FlushHistogram => MetricType::Histogram,
            _ => MetricType::Gauge,
        }
    }

    fn write(
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

fn files(scrape: &Scrape, measure: fn(&headwater_log::FileUse) -> u64) -> Samples {
    let mut samples = Samples::new();
    for (kind, is_run) in [("journal", false), ("run", true)] {
        for (place, local) in [("local", true), ("cold", false)] {
            let these =
                scrape.files.iter().filter(|file| file.file.is_run() == is_run && file.local == local);
            let labels = vec![("kind", kind.to_owned()), ("place", place.to_owned())];
            samples.push((labels, these.map(measure).sum::<u64>() as f64));
        }
    }
    samples
}

fn topics(scrape: &Scrape, measure: fn(&TopicSummary) -> f64) -> Samples {
    let sample = |topic: &TopicSummary| (vec![("topic", topic.topic.name().to_owned())], measure(topic));
    scrape.topics.iter().map(sample).collect()
}

fn partitions(scrape: &Scrape, measure: fn(&headwater_log::PartitionSummary) -> f64) -> Samples {
    if !scrape.is_detailed() {
        return Samples::new();
    }
    let mut samples = Samples::new();
    for topic in &scrape.topics {
        for (index, partition) in &topic.partitions {
            let labels = vec![("topic", topic.topic.name().to_owned()), ("partition", index.to_string())];
            samples.push((labels, measure(partition)));
        }
    }
    samples
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
