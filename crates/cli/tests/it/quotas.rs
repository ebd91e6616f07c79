//! Quotas set by Kafka's own tool and met by librdkafka.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Node, missing, python};

/// The jars of Apache Kafka's server, where `kafka-configs` lives.
fn kafka_jars() -> Option<PathBuf> {
    let found = std::env::var_os("HEADWATER_TEST_KAFKA_JARS").map(PathBuf::from);
    if found.is_none() {
        missing("HEADWATER_TEST_KAFKA_JARS is not set; `cargo xtask test` fetches Apache Kafka and sets it");
    }
    found
}

#[test]
fn kafka_configs_sets_a_rate_and_librdkafka_is_throttled_by_it() {
    let (Some(jars), Some(python)) = (kafka_jars(), python()) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path());
    let kafka_configs = |arguments: &[&str]| {
        let output = Command::new("java")
            .arg("-cp")
            .arg(jars.join("*"))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server", &node.kafka])
            .args(arguments)
            .output()
            .expect("java runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
        out.into_owned()
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
