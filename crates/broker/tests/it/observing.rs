//! Metrics, health and diagnosis of a running broker.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use headwater_broker::{
    Broker, CleanerConfig, Config, Diagnosis, Exporter, Finding, LogSettings, Severity, families,
};
use headwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use headwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use headwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use headwater_wire::messages::*;
use headwater_wire::{BatchBuilder, Compression, KafkaString, Producer};

use crate::common::{Raw, batch, batch_of, config, start};

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: BTreeMap<String, f64>,
}

/// The text format, strictly: every sample belongs to the family that was declared last.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a help");
            assert!(!families.contains_key(name), "{name} is there twice");
            current = name.to_owned();
            families.entry(current.clone()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert_eq!(name, current);
            families.entry(current.clone()).or_default().kind = kind.to_owned();
        } else if line.starts_with('#') {
            assert!(line.starts_with("# UNIT ") || line == "# EOF", "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and a value");
            let name = sample.split('{').next().expect("a name");
            assert!(name.starts_with(&current), "{line} in {current}");
            assert!(sample.contains('{') == sample.ends_with('}'), "{line}");
            let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            let twice = families.entry(current.clone()).or_default().samples.insert(sample.to_owned(), value);
            assert_eq!(twice, None, "{sample} is there twice");
        }
    }
    families
}

async fn scrape(exporter: &Exporter) -> BTreeMap<String, f64> {
    exporter.prepare().await;
    let (kind, text) = exporter.text(false);
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let families = parse(&text);
    for (name, family) in &families {
        assert!(!family.help.is_empty() && !family.kind.is_empty(), "{name}: {family:?}");
    }
    families.into_values().flat_map(|family| family.samples).collect()
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis() as i64
}

fn keyed(keys: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for key in 0..keys {
        builder.push(timestamp, Some(key.to_string().as_bytes()), Some(&[b'v'; 100]), &[]);
    }
    builder.build(Compression::None, None, false).expect("a batch")
}

async fn diagnose(broker: &Broker) -> Diagnosis {
    let diagnosis = broker.observer().diagnose().await.expect("the broker runs");
    assert!(diagnosis.findings.is_sorted_by_key(|finding| finding.severity));
    for finding in &diagnosis.findings {
        assert!(!finding.why.is_empty() && !finding.next.is_empty(), "{finding:?}");
    }
    diagnosis
}

fn of_kind<'a>(diagnosis: &'a Diagnosis, kind: &str) -> Vec<&'a Finding> {
    diagnosis.findings.iter().filter(|finding| finding.kind == kind).collect()
}

#[tokio::test]
async fn metrics_move_after_produce() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let exporter = Exporter::new(Some(broker.observer()));
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let before = scrape(&exporter).await;
    let end = r#"kafka_topic_partition_current_offset{topic="t",partition="1"}"#;
    let size = r#"kafka_log_log_size{topic="t",partition="1"}"#;
    assert_eq!((before[end], before[size]), (0.0, 0.0));
    assert_eq!(before["headwater_connections"], 1.0);
    assert_eq!(before["headwater_partitions_summed"], 0.0);
    let sent = batch(&["a", "b", "c"]);
    raw.produce("t", 1, sent.clone()).await;
    let after = scrape(&exporter).await;
    assert_eq!((after[end], after[size]), (3.0, sent.len() as f64));
    assert_eq!(after[r#"headwater_topic_size_bytes{topic="t"}"#], sent.len() as f64);
    let moved = |name: &str| after[name] - before[name];
    assert!(moved("headwater_log_commits_total") >= 1.0);
    assert!(moved("headwater_log_flush_seconds_count") >= 1.0);
    assert!(moved("headwater_log_written_bytes_total") >= sent.len() as f64);
    assert_eq!(
        after["headwater_log_flush_seconds_count"],
        after[r#"headwater_log_flush_seconds_bucket{le="+Inf"}"#]
    );
    for positive in [
        r#"headwater_log_files{kind="journal",place="local"}"#,
        "headwater_disk_free_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(after[positive] > 0.0, "{positive}");
    }
    assert_eq!(after["headwater_log_fenced"], 0.0);
}

#[tokio::test]
async fn every_family_is_written_and_documented() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    Raw::connect(&broker).await.create_topic("t", 1).await;
    let exporter = Exporter::new(Some(broker.observer()));
    let (kind, openmetrics) = exporter.text(true);
    assert!(kind.starts_with("application/openmetrics-text") && openmetrics.ends_with("# EOF\n"));
    parse(&openmetrics);
    let written = parse(&exporter.text(false).1);
    let documented: HashSet<String> = families().into_iter().map(|family| family.name).collect();
    let names: HashSet<String> = written.keys().cloned().collect();
    assert_eq!(names, documented);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let page = std::fs::read_to_string(&path).expect("docs/operating.md");
    let (before, rest) = page.split_once("<!-- metrics -->\n").expect("the mark before the table");
    let (table, after) = rest.split_once("<!-- end of metrics -->").expect("the mark behind the table");
    if std::env::var_os("HEADWATER_WRITE_DOCS").is_some() {
        let page = format!("{before}<!-- metrics -->\n{}<!-- end of metrics -->{after}", documentation());
        std::fs::write(&path, page).expect("written");
    } else {
        assert_eq!(table, documentation(), "run this test with HEADWATER_WRITE_DOCS=1");
    }
}

fn documentation() -> String {
    let mut table = String::from("| name | type | labels | meaning |\n|---|---|---|---|\n");
    for family in families() {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(" ");
        table.push_str(&format!("| `{}` | {} | {labels} | {} |\n", family.name, family.kind, family.help));
    }
    table
}

#[tokio::test]
async fn many_partitions_are_summed_by_topic() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { metrics_partitions: 3, ..config(dir.path()) };
    let broker = Broker::start(config).await.expect("the broker starts");
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 4).await;
    raw.produce("t", 0, batch(&["a"])).await;
    raw.produce("t", 3, batch(&["b", "c"])).await;
    let samples = scrape(&Exporter::new(Some(broker.observer()))).await;
    assert_eq!(samples["headwater_partitions_summed"], 1.0);
    assert_eq!(samples[r#"headwater_topic_offsets{topic="t"}"#], 3.0);
    assert!(!samples.keys().any(|name| name.contains("partition=")));
}

#[tokio::test]
async fn a_node_without_a_broker_still_has_a_process() {
    let samples = scrape(&Exporter::new(None)).await;
    assert!(samples["process_cpu_seconds_total"] >= 0.0);
    assert!(!samples.contains_key("headwater_log_commits_total"));
}

#[tokio::test]
async fn a_broker_without_findings_says_what_was_looked_at() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    raw.produce("t", 0, batch(&["a"])).await;
    let mut diagnosis = diagnose(&broker).await;
    // Whoever runs this may have little space.
    diagnosis.findings.retain(|finding| finding.kind != "disk_low");
    assert_eq!(diagnosis.findings, []);
    assert_eq!((diagnosis.looked_at.topics, diagnosis.looked_at.partitions), (1, 2));
    let health = broker.observer().health();
    assert!(health.live && health.ready && health.findings.is_empty());
    let observer = broker.observer();
    broker.shutdown().await;
    assert!(!observer.health().live);
    assert!(observer.diagnose().await.is_none());
}

#[tokio::test]
async fn an_open_transaction_is_named_with_its_producer_and_what_it_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = raw.begin("payments-1", "t").await;
    raw.produce("t", 0, batch(&["before"])).await;
    raw.produce_as(Some("payments-1"), "t", 0, batch_of(&["x"], Some(producer), true)).await;
    let diagnosis = diagnose(&broker).await;
    let [finding] = of_kind(&diagnosis, "open_transaction")[..] else { panic!("{diagnosis:?}") };
    assert_eq!(finding.place.producer_id, Some(producer.id));
    assert_eq!(finding.place.transactional_id.as_deref(), Some("payments-1"));
    assert_eq!((finding.place.topic.as_deref(), finding.place.first_offset), (Some("t"), Some(1)));
    assert!(finding.since_ms.is_some_and(|at| (now() - at).abs() < 60_000));
    assert!(finding.next.contains("headwater transaction abort payments-1"), "{finding:?}");
    assert!(finding.next.contains("60.0 s"), "{finding:?}");
    let samples = scrape(&Exporter::new(Some(broker.observer()))).await;
    assert_eq!(samples["headwater_transactions_open"], 1.0);
    assert_eq!(samples[r#"headwater_topic_partition_last_stable_offset{topic="t",partition="0"}"#], 1.0);
    // What the command does.
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some(KafkaString::from_static("payments-1")))
        .with_transaction_timeout_ms(60_000);
    raw.call(&init, 3).await;
    assert!(of_kind(&diagnose(&broker).await, "open_transaction").is_empty());
}

#[tokio::test]
async fn groups_that_lost_records_or_have_nobody_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["a", "b", "c", "d"])).await;
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(1);
    let topic =
        OffsetCommitRequestTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let commit = OffsetCommitRequestData::default()
        .with_group_id("enrich".to_owned().into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    assert_eq!(raw.call(&commit, 7).await.topics[0].partitions[0].error_code, 0);
    let diagnosis = diagnose(&broker).await;
    let [finding] = of_kind(&diagnosis, "group_without_members")[..] else { panic!("{diagnosis:?}") };
    assert!(finding.what.contains("enrich is 3 records behind on t/0"), "{finding:?}");
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(3);
    let topic =
        DeleteRecordsTopic::default().with_name("t".to_owned().into()).with_partitions(vec![partition]);
    let delete = DeleteRecordsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
    raw.call(&delete, 2).await;
    let diagnosis = diagnose(&broker).await;
    let [finding] = of_kind(&diagnosis, "group_below_log_start")[..] else { panic!("{diagnosis:?}") };
    assert_eq!((finding.place.first_offset, finding.place.last_offset), (Some(1), Some(2)));
    assert_eq!(finding.severity, Severity::Warning);
    let [finding] = of_kind(&diagnosis, "group_without_members")[..] else { panic!("{diagnosis:?}") };
    assert!(finding.what.contains("enrich is 1 records behind"), "what was deleted is no lag: {finding:?}");
    // Somebody reads for it by the consumer protocol from now on; what was deleted it has not read, either.
    let heartbeat = ConsumerGroupHeartbeatRequestData::default()
        .with_group_id("enrich".to_owned().into())
        .with_member_id("m".to_owned().into())
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec!["t".to_owned().into()]))
        .with_topic_partitions(Some(Vec::new()));
    assert_eq!(raw.call(&heartbeat, 1).await.error_code, 0);
    let diagnosis = diagnose(&broker).await;
    assert_eq!(of_kind(&diagnosis, "group_below_log_start").len(), 1, "{diagnosis:?}");
    assert!(of_kind(&diagnosis, "group_without_members").is_empty(), "{diagnosis:?}");
    assert_eq!(diagnosis.looked_at.groups, 1);
}

#[tokio::test]
async fn a_group_that_has_only_the_end_of_a_transaction_before_it_is_not_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let id = KafkaString::from_static("tool");
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000);
    let given = raw.call(&init, 3).await;
    let producer = Producer { id: given.producer_id, epoch: given.producer_epoch, base_sequence: 0 };
    let topic = AddPartitionsToTxnTopic::default().with_name("t".to_owned().into()).with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequestData::default()
        .with_v3_and_below_transactional_id(id.clone())
        .with_v3_and_below_producer_id(producer.id)
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(vec![topic]);
    raw.call(&add, 3).await;
    raw.produce_as(Some("tool"), "t", 0, batch_of(&["x"], Some(producer), true)).await;
    let end = EndTxnRequestData::default()
        .with_transactional_id(id)
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_committed(true);
    assert_eq!(raw.call(&end, 3).await.error_code, 0);
    for (committed, findings) in [(1, 0), (0, 1)] {
        let partition =
            OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(committed);
        let topic = OffsetCommitRequestTopic::default()
            .with_name("t".to_owned().into())
            .with_partitions(vec![partition]);
        let commit = OffsetCommitRequestData::default()
            .with_group_id("tool".to_owned().into())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        assert_eq!(raw.call(&commit, 7).await.topics[0].partitions[0].error_code, 0);
        let diagnosis = diagnose(&broker).await;
        let found = of_kind(&diagnosis, "group_without_members");
        assert_eq!(found.len(), findings, "committed {committed}: {found:?}");
    }
}

#[tokio::test]
async fn what_compaction_and_retention_wait_for_is_named_with_figures() {
    let dir = tempfile::tempdir().expect("a directory");
    // The cleaner sleeps through the test.
    let cleaner = CleanerConfig { backoff: Duration::from_secs(600), ..CleanerConfig::default() };
    let log = LogSettings { segment_bytes: 256 << 10, ..LogSettings::default() };
    let config = Config { cleaner, log, ..config(dir.path()) };
    let broker = Broker::start(config).await.expect("the broker starts");
    let mut raw = Raw::connect(&broker).await;
    let compact = ("cleanup.policy", "compact");
    raw.create("active", &[compact]).await;
    raw.create("lag", &[compact, ("min.compaction.lag.ms", "86400000"), ("segment.bytes", "1048576")]).await;
    raw.create("young", &[compact]).await;
    raw.create("ratio", &[compact, ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "1")]).await;
    let unchecked = ("message.timestamp.after.max.ms", "9223372036854775807");
    raw.create("future", &[("retention.ms", "1000"), unchecked]).await;
    raw.create("forever", &[("retention.ms", "-1")]).await;
    let hours_ago = now() - 2 * 3_600_000;
    raw.produce("active", 0, keyed(10, hours_ago)).await;
    raw.produce("young", 0, keyed(10, now())).await;
    for _ in 0..3 {
        raw.produce("lag", 0, keyed(5000, hours_ago)).await;
        raw.produce("ratio", 0, keyed(10, hours_ago)).await;
    }
    raw.produce("future", 0, keyed(10, now() + 10 * 86_400_000)).await;
    raw.produce("forever", 0, keyed(10, now())).await;
    let diagnosis = diagnose(&broker).await;
    let waits: BTreeMap<&str, &str> = of_kind(&diagnosis, "compaction_waits")
        .into_iter()
        .map(|finding| (finding.place.topic.as_deref().expect("a topic"), finding.what.as_str()))
        .collect();
    assert!(!waits.contains_key("young"), "what has just come does not wait: {waits:?}");
    assert!(waits["active"].contains("active segment"), "{waits:?}");
    assert!(waits["lag"].contains("min.compaction.lag.ms"), "{waits:?}");
    assert!(waits["ratio"].contains("1.00 and min.cleanable.dirty.ratio is 1.00"), "{waits:?}");
    let [future] = of_kind(&diagnosis, "future_timestamps")[..] else { panic!("{diagnosis:?}") };
    assert!(future.what.contains("9 days") || future.what.contains("10 days"), "{future:?}");
    let [forever] = of_kind(&diagnosis, "retention_off")[..] else { panic!("{diagnosis:?}") };
    assert_eq!((forever.severity, forever.place.topic.as_deref()), (Severity::Note, Some("forever")));
}

#[tokio::test]
async fn damage_is_a_warning_and_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["a stone that will be thrown"])).await;
    raw.produce("t", 0, batch(&["whole"])).await;
    drop(raw);
    broker.shutdown().await;
    for entry in std::fs::read_dir(dir.path().join("log")).expect("listed") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("read");
        if let Some(at) = bytes.windows(7).position(|window| window == b"a stone") {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("written");
        }
    }
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_ne!(raw.fetch("t", 0, 0, false).await.error_code, 0);
    let diagnosis = diagnose(&broker).await;
    let [finding] = of_kind(&diagnosis, "damage")[..] else { panic!("{diagnosis:?}") };
    assert_eq!((finding.place.first_offset, finding.place.last_offset), (Some(0), Some(0)));
    assert!(finding.place.path.as_deref().is_some_and(|file| file.ends_with(".wal")), "{finding:?}");
    let health = broker.observer().health();
    assert!(health.ready, "{health:?}");
    assert_eq!(health.findings[0].kind, "damage");
    let samples = scrape(&Exporter::new(Some(broker.observer()))).await;
    assert_eq!(samples["headwater_log_damaged_ranges"], 1.0);
}

#[tokio::test]
async fn records_without_a_key_that_compaction_left_out_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let cleaner = CleanerConfig { backoff: Duration::from_millis(20), ..CleanerConfig::default() };
    let broker = Broker::start(Config { cleaner, ..config(dir.path()) }).await.expect("the broker starts");
    let mut raw = Raw::connect(&broker).await;
    raw.create("was-plain", &[("segment.ms", "1")]).await;
    raw.produce("was-plain", 0, batch(&["a", "b"])).await;
    let change = |name: &str, value: &str| {
        AlterableConfig::default()
            .with_name(name.to_owned().into())
            .with_config_operation(0)
            .with_value(Some(value.to_owned().into()))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("was-plain".to_owned().into())
        .with_configs(vec![change("cleanup.policy", "compact"), change("min.cleanable.dirty.ratio", "0.0")]);
    let alter = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    assert_eq!(raw.call(&alter, 1).await.responses[0].error_code, 0);
    raw.produce("was-plain", 0, keyed(3, now())).await;
    let begun = std::time::Instant::now();
    loop {
        let diagnosis = diagnose(&broker).await;
        if let [finding] = of_kind(&diagnosis, "keyless_records")[..] {
            assert!(finding.what.contains("left out 2 records of was-plain/0"), "{finding:?}");
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{diagnosis:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
