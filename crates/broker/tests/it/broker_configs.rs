//! What is set on the running broker (KIP-226): what topics inherit, where values come from, what is refused, kill -9.

use std::time::{Duration, Instant};

use headwater_broker::{Broker, CleanerConfig, Config, LogSettings};
use headwater_wire::ErrorCode;
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::*;

use crate::common::{Raw, batch, config, start};
use crate::process::Process;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Sends one change of a resource and returns code and message.
async fn alter(raw: &mut Raw, of: (i8, &str), change: (&str, i8, &str), validate: bool) -> (i16, String) {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(change.0.to_owned().into())
        .with_config_operation(change.1)
        .with_value((change.1 != DELETE).then(|| change.2.to_owned().into()));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(of.0)
        .with_resource_name(of.1.to_owned().into())
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequestData::default()
        .with_resources(vec![resource])
        .with_validate_only(validate);
    let altered = raw.call(&request, 1).await.responses.remove(0);
    (
        altered.error_code,
        altered.error_message.map_or_else(String::new, |message| message.as_str().to_owned()),
    )
}

async fn set(raw: &mut Raw, broker: &str, key: &str, value: &str) {
    let altered = alter(raw, (BROKER, broker), (key, SET, value), false).await;
    assert_eq!(altered, (0, String::new()), "{broker} {key}={value}");
}

/// A key as it is described: its value, where that is from, and all values with where they are from.
async fn described(raw: &mut Raw, of: (i8, &str), key: &str) -> Option<(String, i8, Vec<String>)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(of.0)
        .with_resource_name(of.1.to_owned().into())
        .with_configuration_keys(Some(vec![key.to_owned().into()]));
    let request =
        DescribeConfigsRequestData::default().with_resources(vec![resource]).with_include_synonyms(true);
    let result = raw.call(&request, 4).await.results.remove(0);
    assert_eq!(result.error_code, 0, "{result:?}");
    let entry = result.configs.into_iter().next()?;
    let text = |value: Option<headwater_wire::KafkaString>| {
        value.map_or_else(String::new, |value| value.as_str().to_owned())
    };
    let synonyms = entry
        .synonyms
        .into_iter()
        .map(|one| format!("{} {}={}", one.source, one.name.as_str(), text(one.value)));
    Some((text(entry.value), entry.config_source, synonyms.collect()))
}

async fn value(raw: &mut Raw, of: (i8, &str), key: &str) -> Option<(String, i8)> {
    described(raw, of, key).await.map(|(value, source, _)| (value, source))
}

#[tokio::test]
async fn topics_have_from_the_broker_what_they_do_not_set_and_kill_9_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), None);
    let mut raw = Raw::to(&process.address).await;
    raw.create_topic("t", 1).await;
    set(&mut raw, "", "log.retention.ms", "111111").await;
    assert_eq!(value(&mut raw, (TOPIC, "t"), "retention.ms").await, Some(("111111".into(), 3)));
    set(&mut raw, "1", "log.retention.ms", "222222").await;
    set(&mut raw, "1", "background.threads", "9").await;
    let own = alter(&mut raw, (TOPIC, "t"), ("retention.ms", SET, "333333"), false).await;
    assert_eq!(own.0, 0);
    drop(process);

    let process = Process::start(dir.path(), None);
    let mut raw = Raw::to(&process.address).await;
    let layers = [
        "1 retention.ms=333333",
        "2 log.retention.ms=222222",
        "3 log.retention.ms=111111",
        "5 log.retention.ms=604800000",
    ];
    let (of_topic, source, all) = described(&mut raw, (TOPIC, "t"), "retention.ms").await.unwrap();
    assert_eq!((of_topic.as_str(), source, all), ("333333", 1, layers.map(str::to_owned).to_vec()));
    let (of_broker, source, all) = described(&mut raw, (BROKER, "1"), "log.retention.ms").await.unwrap();
    assert_eq!(
        (of_broker.as_str(), source, all),
        ("222222", 2, layers[1..].iter().map(|l| (*l).to_owned()).collect())
    );
    let (of_all, source, all) = described(&mut raw, (BROKER, ""), "log.retention.ms").await.unwrap();
    assert_eq!((of_all.as_str(), source, all), ("111111", 3, vec![layers[2].to_owned()]));
    assert_eq!(value(&mut raw, (BROKER, ""), "background.threads").await, None, "it is set on one broker");
    assert_eq!(value(&mut raw, (BROKER, "1"), "background.threads").await, Some(("9".into(), 2)));

    for (of, key) in [((TOPIC, "t"), "retention.ms"), ((BROKER, "1"), "log.retention.ms")] {
        assert_eq!(alter(&mut raw, of, (key, DELETE, ""), false).await.0, 0);
    }
    assert_eq!(value(&mut raw, (TOPIC, "t"), "retention.ms").await, Some(("111111".into(), 3)));
    assert_eq!(alter(&mut raw, (BROKER, ""), ("log.retention.ms", DELETE, ""), false).await.0, 0);
    assert_eq!(value(&mut raw, (TOPIC, "t"), "retention.ms").await, Some(("604800000".into(), 5)));
    drop(process);
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(value(&mut raw, (TOPIC, "t"), "retention.ms").await, Some(("604800000".into(), 5)));
}

#[tokio::test]
async fn a_limit_of_the_broker_holds_at_once_for_topics_that_are_there_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.create_topic("own", 1).await;
    assert_eq!(alter(&mut raw, (TOPIC, "own"), ("max.message.bytes", SET, "100000"), false).await.0, 0);
    let large = "x".repeat(2000);
    assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, 0);
    let tried = alter(&mut raw, (BROKER, "1"), ("message.max.bytes", SET, "1000"), true).await;
    assert_eq!(tried.0, 0);
    assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, 0, "it was only validated");
    set(&mut raw, "1", "message.max.bytes", "1000").await;
    let refused = ErrorCode::MessageTooLarge.code();
    assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, refused);
    assert_eq!(raw.produce("own", 0, batch(&[&large])).await.error_code, 0);
    broker.shutdown().await;

    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, refused);
    raw.create_topic("new", 1).await;
    assert_eq!(raw.produce("new", 0, batch(&[&large])).await.error_code, refused);
    assert_eq!(alter(&mut raw, (BROKER, "1"), ("message.max.bytes", DELETE, ""), false).await.0, 0);
    assert_eq!(raw.produce("t", 0, batch(&[&large])).await.error_code, 0);
}

#[tokio::test]
async fn records_go_by_the_brokers_retention() {
    let dir = tempfile::tempdir().unwrap();
    let cleaner = CleanerConfig { retention_check: Duration::from_millis(20), ..CleanerConfig::default() };
    let log = LogSettings { segment_bytes: 64 << 10, ..LogSettings::default() };
    let broker = Broker::start(Config { cleaner, log, ..config(dir.path()) }).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, batch(&["old"])).await;
    set(&mut raw, "", "log.retention.ms", "50").await;
    let begun = Instant::now();
    while raw.fetch("t", 0, 0, false).await.error_code == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the record is still there");
        // A partition is looked at when there is something newer.
        raw.produce("t", 0, batch(&["new"])).await;
    }
}

#[tokio::test]
async fn lists_grow_and_shrink() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let policy = "log.cleanup.policy";
    for (operation, item, left) in [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
    ] {
        assert_eq!(alter(&mut raw, (BROKER, "1"), (policy, operation, item), false).await.0, 0);
        assert_eq!(value(&mut raw, (BROKER, "1"), policy).await, Some((left.to_owned(), 2)));
        assert_eq!(value(&mut raw, (TOPIC, "t"), "cleanup.policy").await, Some((left.to_owned(), 2)));
    }
}

#[tokio::test]
async fn what_is_refused_is_named_and_what_was_never_set_can_be_taken_off() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let (request, config) = (ErrorCode::InvalidRequest, ErrorCode::InvalidConfig);
    for (of, change, code, says) in [
        (
            "1",
            ("num.partitions", SET, "3"),
            request,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        ("1", ("node.id", SET, "3"), request, "Cannot update these configs dynamically: [node.id]"),
        ("1", ("log.retention.ms", SET, "abc"), request, "log.retention.ms = 'abc'"),
        ("1", ("log.segment.bytes", SET, "10"), request, "1048576"),
        ("1", ("background.threads", SET, "0"), request, "background.threads = '0'"),
        ("1", ("log.retention.ms", APPEND, "5"), config, "not a list"),
        ("1", ("log.retention.m", SET, "5"), config, "did you mean 'log.retention.ms'?"),
        ("", ("sasl.kerberos.min.time.before.relogin", SET, "5"), request, "broker id must be specified"),
        ("7", ("log.retention.ms", SET, "5"), request, "there is no broker '7'"),
    ] {
        let (found, message) = alter(&mut raw, (BROKER, of), change, false).await;
        assert_eq!(found, code.code(), "{of} {change:?}: {message}");
        assert!(message.contains(says), "{of} {change:?}: {message}");
    }
    assert_eq!(value(&mut raw, (BROKER, "1"), "log.retention.ms").await, Some(("604800000".into(), 5)));
    // `kafka-reassign-partitions --verify` takes off throttles that were never set.
    for key in ["leader.replication.throttled.rate", "num.partitions", "no.such.key"] {
        assert_eq!(alter(&mut raw, (BROKER, "1"), (key, DELETE, ""), false).await.0, 0, "{key}");
    }
}

#[tokio::test]
async fn the_old_request_forgets_what_it_does_not_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    set(&mut raw, "1", "log.retention.ms", "5000").await;
    let entry = alter_configs_request::AlterableConfig::default()
        .with_name("log.retention.bytes".to_owned().into())
        .with_value(Some("7000000".to_owned().into()));
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name("1".to_owned().into())
        .with_configs(vec![entry]);
    let altered = raw
        .call(&AlterConfigsRequestData::default().with_resources(vec![resource]), 2)
        .await
        .responses
        .remove(0);
    assert_eq!(altered.error_code, 0, "{altered:?}");
    assert_eq!(value(&mut raw, (BROKER, "1"), "log.retention.bytes").await, Some(("7000000".into(), 2)));
    assert_eq!(value(&mut raw, (BROKER, "1"), "log.retention.ms").await, Some(("604800000".into(), 5)));
}

#[tokio::test]
async fn a_resource_that_is_named_twice_and_a_key_without_a_value_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for name in ["t", "u"] {
        raw.create_topic(name, 1).await;
    }
    let invalid = ErrorCode::InvalidRequest.code();
    let of = |name: &str, value: &str| {
        let entry = incremental_alter_configs_request::AlterableConfig::default()
            .with_name("retention.ms".to_owned().into())
            .with_value(Some(value.to_owned().into()));
        incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(name.to_owned().into())
            .with_configs(vec![entry])
    };
    let resources = vec![of("t", "1000"), of("u", "2000"), of("t", "3000")];
    let request = IncrementalAlterConfigsRequestData::default().with_resources(resources);
    let codes = raw.call(&request, 1).await.responses.into_iter().map(|one| one.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [invalid, 0, invalid]);
    assert_eq!(value(&mut raw, (TOPIC, "t"), "retention.ms").await, Some(("604800000".into(), 5)));
    let of = |name: &str, value: Option<&str>| {
        let entry = alter_configs_request::AlterableConfig::default()
            .with_name("retention.ms".to_owned().into())
            .with_value(value.map(|value| value.to_owned().into()));
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(name.to_owned().into())
            .with_configs(vec![entry])
    };
    let resources = vec![of("t", Some("1000")), of("u", None), of("t", Some("1000"))];
    let request = AlterConfigsRequestData::default().with_resources(resources);
    let codes = raw.call(&request, 2).await.responses.into_iter().map(|one| one.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [invalid; 3]);
    assert_eq!(value(&mut raw, (TOPIC, "u"), "retention.ms").await, Some(("2000".into(), 1)));
}

#[tokio::test]
async fn defaults_from_the_start_hold_until_something_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut started = config(dir.path());
    started.set("log.retention.ms=444444").unwrap();
    let broker = Broker::start(started).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let (of_topic, source, all) = described(&mut raw, (TOPIC, "t"), "retention.ms").await.unwrap();
    let layers = ["4 log.retention.ms=444444", "5 log.retention.ms=604800000"];
    assert_eq!((of_topic.as_str(), source, all), ("444444", 4, layers.map(str::to_owned).to_vec()));
    set(&mut raw, "", "log.retention.ms", "111111").await;
    assert_eq!(value(&mut raw, (TOPIC, "t"), "retention.ms").await, Some(("111111".into(), 3)));
}

#[tokio::test]
async fn a_stream_without_keys_is_not_compacted_by_the_brokers_policy() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("facts", 1).await;
    let unkeyed = alter(&mut raw, (TOPIC, "facts"), ("headwater.stream.kind", SET, "unkeyed"), false).await;
    assert_eq!(unkeyed.0, 0, "{unkeyed:?}");
    set(&mut raw, "1", "log.cleanup.policy", "compact").await;
    assert_eq!(value(&mut raw, (TOPIC, "facts"), "cleanup.policy").await, Some(("delete".into(), 5)));
}
