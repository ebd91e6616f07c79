//! Clients that we did not write, with `group.protocol=consumer` (KIP-848): librdkafka and Kafka's Java consumer.
//!
//! Each script says `restart` when the broker must be killed and come back, waits for a line, and says `done` in the end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Node, kafka_jars, python};

/// Heartbeats and sessions short enough for a test.
const SETTINGS: [&str; 4] = [
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=200",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=8000",
];

fn script(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind).join(name)
}

/// Runs a script that takes the broker's address, and restarts the broker when it says so.
fn follow(command: &mut Command) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start_set(dir.path(), "127.0.0.1:0", &SETTINGS);
    let address = node.kafka.clone();
    let mut child =
        command.arg(&address).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("stdin");
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("stdout")).lines() {
        let line = line.expect("UTF-8");
        if line == "restart" {
            let described = node.done(&["group", "describe", "readers", "--json"], "");
            let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
            assert_eq!((&described["state"], &described["members"]), (&"Stable".into(), &3.into()));
            node.kill();
            node = Node::start_set(dir.path(), &address, &SETTINGS);
            assert_eq!(node.kafka, address);
            input.write_all(b"\n").expect("it waits");
        }
        said.push(line);
    }
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}: {said:#?}");
    assert_eq!(said.last().map(String::as_str), Some("done"), "{said:#?}");
}

#[test]
fn librdkafka_shares_a_topic_through_rebalances_and_a_restart() {
    let Some(python) = python() else { return };
    follow(Command::new(python).arg(script("python", "consumer_protocol_client.py")));
}

#[test]
fn the_java_consumer_shares_a_topic_through_rebalances_and_a_restart() {
    let Some(jars) = kafka_jars() else { return };
    let mut java = Command::new("java");
    java.arg(format!("-Dlog4j2.configurationFile={}", jars.join("log4j2.properties").display()));
    java.args(["-cp", &format!("{}/*", jars.display())]).arg(script("java", "ConsumerProtocolClient.java"));
    follow(&mut java);
}
