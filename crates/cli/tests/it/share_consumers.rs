//! Kafka's own Java share consumer (KIP-932), three of them in one group, with the broker killed in the middle.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Node, kafka_jars};

/// Every record is accepted or rejected once, whatever was released, and none comes again after that.
fn share_a_topic(mode: &str, released: bool) {
    let Some(jars) = kafka_jars() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(dir.path());
    let address = node.kafka.clone();
    node.done(&["topic", "create", "orders", "--partitions", "3"], "");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/ShareConsumers.java");
    let mut child = Command::new("java")
        .arg(format!("-Dlog4j2.configurationFile={}", jars.join("log4j2.properties").display()))
        .args(["-cp", &format!("{}/*", jars.display())])
        .arg(program)
        .args([&address, mode, "10000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("java starts");
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("stdout")).lines() {
        let line = line.expect("UTF-8");
        if line == "underway" {
            node.kill();
            node = Node::start_on(dir.path(), &address);
        }
        said.push(line);
    }
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}: {said:#?}");
    assert_eq!(said.last().map(String::as_str), Some("done"), "{said:#?}");
    assert!(said.iter().any(|line| line == "underway"), "{said:#?}");
    assert_eq!(said.iter().any(|line| line.starts_with("released ")), released, "{said:#?}");
    let listed = node.done(&["group", "list"], "");
    assert!(listed.contains("share"), "{listed}");
    let described = node.done(&["group", "describe", "workers", "--json"], "");
    let described: Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!((&described["state"], &described["lag"]), (&"Empty".into(), &0.into()), "{described}");
}

#[test]
fn java_share_consumers_settle_every_record_once_through_a_kill_of_the_broker() {
    share_a_topic("explicit", true);
}

#[test]
fn java_share_consumers_that_acknowledge_by_polling_get_every_record_once_through_a_kill() {
    share_a_topic("implicit", false);
}
