//! Quotas over plain connections: what is told, what is slowed down, and for whom.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_broker::{Broker, Config, Exporter, QuotaConfig, WindowConfig};
use headwater_wire::KafkaString;
use headwater_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use headwater_wire::messages::describe_client_quotas_request::ComponentData;
use headwater_wire::messages::*;

use crate::common::{self, Raw, batch, config, fetch};

const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// With an allowance of one second.
fn allowing(directory: &Path) -> Config {
    let windows = |number| WindowConfig { number, seconds: 1 };
    let quota = QuotaConfig { clients: windows(2), controller: windows(1) };
    Config { quota, ..config(directory) }
}

async fn start(directory: &Path) -> Broker {
    Broker::start(allowing(directory)).await.expect("it starts")
}

fn named(name: &str) -> KafkaString {
    name.to_owned().into()
}

async fn limit(raw: &mut Raw, entity: &[(&str, Option<&str>)], key: &str, value: Option<f64>) -> i16 {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(named(kind)).with_entity_name(name.map(named))
    };
    let op = OpData::default()
        .with_key(named(key))
        .with_value(value.unwrap_or_default())
        .with_remove(value.is_none());
    let entry = EntryData::default().with_entity(entity.iter().map(part).collect()).with_ops(vec![op]);
    let request = AlterClientQuotasRequestData::default().with_entries(vec![entry]);
    raw.call(&request, 1).await.entries[0].error_code
}

fn large(bytes: usize) -> ProduceRequestData {
    common::produce(None, "orders", 0, batch(&["x".repeat(bytes).as_str()]))
}

/// How long the next answer takes.
async fn pause(raw: &mut Raw) -> Duration {
    let begun = Instant::now();
    raw.call(&MetadataRequestData::default().with_topics(Some(Vec::new())), 9).await;
    begun.elapsed()
}

#[tokio::test]
async fn a_producer_above_its_rate_is_told_and_its_channel_is_mute_for_so_long() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    assert_eq!(raw.call(&large(20_000), 9).await.throttle_time_ms, 0, "without a quota nothing is throttled");
    let mine = [("client-id", Some("test"))];
    assert_eq!(limit(&mut raw, &mine, "producer_byte_rate", Some(10_000.0)).await, 0);
    let answer = raw.call(&large(20_000), 9).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "it is written all the same");
    let told = answer.throttle_time_ms;
    assert!((900..1_100).contains(&told), "20,000 are one second's worth more than the allowance: {told}");
    let waited = pause(&mut raw).await;
    assert!(waited >= Duration::from_millis(850), "{waited:?}");
    let exporter = Exporter::new(Some(broker.observer()));
    exporter.prepare().await;
    let (_, text) = exporter.text(false);
    let throttles = text.lines().find_map(|line| line.strip_prefix("headwater_throttles_total "));
    assert_eq!(throttles.map(str::parse), Some(Ok(1.0)), "{text}");
    broker.shutdown().await;
}

/// A broker with two places, one of them taken, and a producer in the other that is mute for minutes.
async fn muted(config: Config) -> (Broker, Raw, Raw) {
    let broker = Broker::start(Config { max_connections: 2, ..config }).await.expect("it starts");
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    assert_eq!(limit(&mut raw, &[("client-id", None)], "producer_byte_rate", Some(100.0)).await, 0);
    let mut mute = Raw::connect(&broker).await;
    let told = mute.call(&large(20_000), 9).await.throttle_time_ms;
    assert!(told > 100_000, "{told}");
    (broker, raw, mute)
}

#[tokio::test]
async fn a_mute_channel_whose_client_has_gone_gives_its_place_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, _other, mute) = muted(allowing(directory.path())).await;
    drop(mute);
    let begun = Instant::now();
    loop {
        let mut again = Raw::connect(&broker).await;
        let closed = tokio::time::timeout(Duration::from_millis(200), again.is_closed()).await;
        if closed.is_err() {
            pause(&mut again).await;
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the place did not come back");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn a_channel_is_mute_for_no_longer_than_a_connection_may_be_idle() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config { max_idle: Duration::from_secs(2), ..allowing(directory.path()) };
    let (broker, _other, mut mute) = muted(config).await;
    mute.send(&MetadataRequestData::default().with_topics(Some(Vec::new())), 9).await;
    let closed = tokio::time::timeout(Duration::from_secs(30), mute.is_closed()).await;
    assert_eq!(closed, Ok(true));
    broker.shutdown().await;
}

#[tokio::test]
async fn a_producer_that_wants_no_answers_is_slowed_down_as_well() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    assert_eq!(limit(&mut raw, &[("user", None)], "producer_byte_rate", Some(10_000.0)).await, 0);
    raw.send(&large(20_000).with_acks(0), 9).await;
    // The first of these may have been read before the records were written.
    let waited = pause(&mut raw).await + pause(&mut raw).await;
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    broker.shutdown().await;
}

/// How many bytes of records come, and for how long the channel is mute after them.
async fn brought(raw: &mut Raw, version: i16) -> (usize, i32) {
    let answer = raw.call(&fetch("orders", 0, 0), version).await;
    assert_eq!(answer.error_code, 0);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let records = partitions.map(|partition| partition.records.as_ref().map_or(0, bytes::Bytes::len)).sum();
    (records, answer.throttle_time_ms)
}

#[tokio::test]
async fn a_consumer_above_its_rate_is_sent_away_empty_and_then_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    raw.call(&large(8_000), 9).await;
    assert_eq!(limit(&mut raw, &[("client-id", None)], "consumer_byte_rate", Some(10_000.0)).await, 0);
    for version in [11, 12] {
        let (records, throttle) = brought(&mut raw, version).await;
        assert!(records > 8_000 && throttle == 0, "v{version}: {records}, {throttle}");
        let (records, throttle) = brought(&mut raw, version).await;
        assert_eq!(records, 0, "v{version}: 16,000 are more than a second's worth");
        assert!((500..1_000).contains(&throttle), "v{version}: {throttle}");
        assert!(pause(&mut raw).await >= Duration::from_millis(450));
        // What was kept back is not counted: two windows later all is forgotten.
        tokio::time::sleep(Duration::from_millis(1_600)).await;
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn a_batch_larger_than_all_windows_comes_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    raw.call(&large(20_000), 9).await;
    assert_eq!(limit(&mut raw, &[("client-id", None)], "consumer_byte_rate", Some(10_000.0)).await, 0);
    let (records, throttle) = brought(&mut raw, 12).await;
    assert!(records > 20_000 && throttle >= 900, "{records}, {throttle}");
    assert!(pause(&mut raw).await >= Duration::from_millis(850));
    let (records, throttle) = brought(&mut raw, 12).await;
    assert!(records == 0 && throttle >= 1_500, "{records}, {throttle}");
    assert!(brought(&mut raw, 12).await.0 > 20_000, "nothing else was used for two windows");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_consumer_waits_for_no_more_bytes_than_its_quota_lets_through() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    raw.call(&large(8_000), 9).await;
    assert_eq!(limit(&mut raw, &[("client-id", None)], "consumer_byte_rate", Some(5_000.0)).await, 0);
    let begun = Instant::now();
    let patient = fetch("orders", 0, 0).with_min_bytes(1 << 20).with_max_wait_ms(20_000);
    raw.call(&patient, 12).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    broker.shutdown().await;
}

#[tokio::test]
async fn topics_above_the_rate_of_mutations_are_refused_to_who_knows_and_slow_down_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(
        limit(&mut raw, &[("user", Some("ANONYMOUS"))], "controller_mutation_rate", Some(4.0)).await,
        0
    );
    let topic = |name: &str| {
        CreatableTopic::default().with_name(named(name)).with_num_partitions(6).with_replication_factor(1)
    };
    let create = CreateTopicsRequestData::default().with_topics(vec![topic("a"), topic("b")]);
    let created = raw.call(&create, 6).await;
    let codes: Vec<_> =
        created.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    assert_eq!(codes, [("a".to_owned(), 0), ("b".to_owned(), THROTTLING_QUOTA_EXCEEDED)]);
    assert!(
        (400..=500).contains(&created.throttle_time_ms),
        "two of four a second: {}",
        created.throttle_time_ms
    );
    let again = CreateTopicsRequestData::default().with_topics(vec![topic("a")]);
    let code = raw.call(&again, 6).await.topics[0].error_code;
    assert_eq!(code, TOPIC_ALREADY_EXISTS, "what cannot be done costs nothing");
    let old = CreateTopicsRequestData::default().with_topics(vec![topic("c")]);
    let created = raw.call(&old, 5).await;
    assert_eq!(created.topics[0].error_code, 0, "who does not know the error is not refused");
    assert!(created.throttle_time_ms > 1_000, "{}", created.throttle_time_ms);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_client_that_keeps_threads_busy_waits_for_a_window_at_most() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(limit(&mut raw, &[("client-id", Some("test"))], "request_percentage", Some(1e-9)).await, 0);
    let all = MetadataRequestData::default().with_topics(None);
    let told = raw.call(&all, 9).await.throttle_time_ms;
    assert!((900..=1_000).contains(&told), "{told}");
    broker.shutdown().await;
}

#[tokio::test]
async fn connections_above_the_rate_of_their_address_end_after_a_while() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let address = [("ip", Some("127.0.0.1"))];
    assert_eq!(limit(&mut raw, &address, "connection_creation_rate", Some(1.0)).await, 0);
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(Raw::connect(&broker).await);
    }
    pause(&mut open[0]).await;
    let last = open.last_mut().expect("the last");
    let closed = tokio::time::timeout(Duration::from_secs(30), last.is_closed()).await;
    assert_eq!(closed, Ok(true), "six at once are more than one a second");
    pause(&mut raw).await;
    assert_eq!(limit(&mut raw, &address, "connection_creation_rate", None).await, 0);
    let mut again = Raw::connect(&broker).await;
    pause(&mut again).await;
    broker.shutdown().await;
}

#[tokio::test]
async fn the_parts_of_the_process_come_in_however_often_others_come() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut wanted = allowing(directory.path());
    for setting in [
        "listeners=PLAINTEXT://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
        "listener.security.protocol.map=OUTSIDE:SASL_PLAINTEXT",
    ] {
        wanted.set(setting).expect("a setting");
    }
    let broker = Broker::start(wanted).await.expect("it starts");
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(limit(&mut raw, &[("ip", None)], "connection_creation_rate", Some(1.0)).await, 0);
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(Raw::connect(&broker).await);
    }
    pause(&mut open[0]).await;
    let (internal, _) = broker.internal().expect("a listener for the process");
    let mut own = Raw::to(internal).await;
    assert_eq!(own.call(&ApiVersionsRequestData::default(), 0).await.error_code, 0);
    broker.shutdown().await;
}

#[tokio::test]
async fn quotas_are_listed_as_set_and_outlive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let both = [("user", Some("alice")), ("client-id", None)];
    assert_eq!(limit(&mut raw, &both, "producer_byte_rate", Some(1024.0)).await, 0);
    assert_eq!(limit(&mut raw, &both, "request_percentage", Some(12.5)).await, 0);
    assert_eq!(limit(&mut raw, &[("ip", None)], "connection_creation_rate", Some(7.0)).await, 0);
    assert_eq!(limit(&mut raw, &both, "nonsense", Some(7.0)).await, 42);
    drop(raw);
    broker.shutdown().await;
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for version in [0, 1] {
        let all = raw.call(&DescribeClientQuotasRequestData::default(), version).await;
        assert_eq!(all.entries.map_or(0, |entries| entries.len()), 2);
        let component =
            ComponentData::default().with_entity_type(named("user")).with_match(Some(named("alice")));
        let request = DescribeClientQuotasRequestData::default().with_components(vec![component]);
        let found = raw.call(&request, version).await.entries.expect("entries");
        let values: Vec<_> = found[0].values.iter().map(|value| (value.key.as_str(), value.value)).collect();
        assert_eq!(values, [("producer_byte_rate", 1024.0), ("request_percentage", 12.5)]);
        let strict = raw.call(&request.with_strict(true), version).await;
        assert_eq!(strict.entries.map_or(9, |entries| entries.len()), 0);
    }
    let wrong = ComponentData::default().with_entity_type(named("planet")).with_match_type(1);
    let request = DescribeClientQuotasRequestData::default().with_components(vec![wrong]);
    // Kafka's answer to types of one's own: UNSUPPORTED_VERSION.
    assert_eq!(raw.call(&request, 1).await.error_code, 35);
    broker.shutdown().await;
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_its_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limited = config(directory.path());
    limited.max_connections_per_ip.each = 2;
    let broker = Broker::start(limited).await.expect("it starts");
    let (mut first, mut second) = (Raw::connect(&broker).await, Raw::connect(&broker).await);
    pause(&mut first).await;
    pause(&mut second).await;
    assert!(Raw::connect(&broker).await.is_closed().await, "a third is one too many");
    drop(second);
    let begun = Instant::now();
    loop {
        let mut again = Raw::connect(&broker).await;
        let closed = tokio::time::timeout(Duration::from_millis(200), again.is_closed()).await;
        if closed.is_err() {
            pause(&mut again).await;
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the place did not come back");
    }
    broker.shutdown().await;
}
