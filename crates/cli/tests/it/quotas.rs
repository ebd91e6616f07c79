//! Quotas set by Kafka's own tool and met by librdkafka.

use std::path::Path;
use std::process::Command;

use crate::common::{Node, kafka_jars, kafka_tool, python, succeeds};

#[test]
fn kafka_configs_sets_a_rate_and_librdkafka_is_throttled_by_it() {
    let (Some(jars), Some(python)) = (kafka_jars(), python()) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let kafka_configs = |arguments: &[&str]| {
        succeeds(kafka_tool(&jars, "kafka.admin.ConfigCommand", &node.kafka).args(arguments))
    };
    let client = ["--entity-type", "clients", "--entity-name", "hasty"];
    kafka_configs(&[&["--alter", "--add-config", "producer_byte_rate=20000"], &client[..]].concat());
    kafka_configs(&[
        "--alter",
        "--add-config",
        "request_percentage=200",
        "--entity-type",
        "users",
        "--entity-default",
    ]);
    let shown = kafka_configs(&[&["--describe"], &client[..]].concat());
    assert!(shown.contains("producer_byte_rate=20000"), "{shown}");
    let shown = kafka_configs(&["--describe", "--entity-type", "users", "--entity-default"]);
    assert!(shown.contains("request_percentage=200"), "{shown}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/confluent_kafka_quotas.py");
    let output = Command::new(python).arg(script).arg(&node.kafka).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out.lines().last(), Some("done"), "{out}\n{err}");
    kafka_configs(&[&["--alter", "--delete-config", "producer_byte_rate"], &client[..]].concat());
    let shown = kafka_configs(&[&["--describe"], &client[..]].concat());
    assert!(!shown.contains("producer_byte_rate"), "{shown}");
}
