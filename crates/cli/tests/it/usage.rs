//! `headwater topic describe` says who writes and reads.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Node, program};

fn usage(node: &Node, topic: &str) -> Value {
    let described = node.done(&["topic", "describe", topic, "--json"], "");
    serde_json::from_str::<Value>(&described).expect("JSON")["usage"].clone()
}

#[test]
fn a_foreign_client_is_seen_as_writer_and_as_reader_in_its_group_and_after_sigkill() {
    let Some(kcat) = program("kcat") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders"], "");
    let quiet = node.done(&["topic", "describe", "orders"], "");
    assert!(
        quiet.contains("no writer has been seen") && quiet.contains("no reader has been seen"),
        "{quiet}"
    );
    node.done(&["produce", "orders"], "one\ntwo\n");
    let common = ["-b", &node.kafka, "-X", "auto.offset.reset=earliest", "-X", "client.id=billing"];
    let read = Command::new(kcat)
        .args(common)
        .args(["-G", "bills", "-e", "-q", "orders"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&read.stdout), "one\ntwo\n");
    let seen = usage(&node, "orders");
    assert_eq!(seen["writers"][0]["principal"], "User:ANONYMOUS", "{seen}");
    let readers = seen["readers"].as_array().expect("a list");
    let billing = readers.iter().find(|one| one["client_id"] == "billing").expect("it read");
    assert_eq!(billing["groups"], serde_json::json!(["bills"]), "{seen}");
    let shown = node.done(&["topic", "describe", "orders"], "");
    assert!(shown.contains("billing\tbills"), "{shown}");
    node.done(&["topic", "create", "shop-totals-changelog"], "");
    let open = node.done(&["topic", "describe", "shop-totals-changelog"], "");
    assert!(open.contains("it has no headwater.owner"), "{open}");
    // Within a second it is on disk.
    std::thread::sleep(Duration::from_millis(1500));
    node.kill();
    let node = Node::start(dir.path());
    let after = usage(&node, "orders");
    assert!(after["readers"].as_array().expect("a list").iter().any(|one| one["client_id"] == "billing"));
    node.terminate();
}
