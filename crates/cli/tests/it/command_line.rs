//! The command line as a stranger meets it, with good and bad input.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::common::{self, HEADWATER, Node};

fn fails(arguments: &[&str]) -> String {
    let output =
        Command::new(HEADWATER).args(arguments).env_remove("HEADWATER_BOOTSTRAP").output().expect("it runs");
    assert!(!output.status.success(), "{arguments:?} should fail");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn what_was_acknowledged_survives_kill_and_a_clean_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders", "--partitions", "2"], "");
    let first: String = (0..500).map(|n| format!("{n}={n}\n")).collect();
    node.done(&["produce", "orders", "--key-separator", "="], &first);
    node.kill();
    let node = Node::start(dir.path());
    let second: String = (500..1000).map(|n| format!("{n}={n}\n")).collect();
    node.done(&["produce", "orders", "--key-separator", "="], &second);
    node.terminate();
    let node = Node::start(dir.path());
    let read = node.done(&["tail", "orders", "--from-beginning", "--no-follow", "--json"], "");
    let mut keys: Vec<i64> = read
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["key"].as_i64().expect("a number"))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_second_node_on_the_same_directory_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let _node = Node::start(dir.path());
    let path = dir.path().display().to_string();
    let said = fails(&["up", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", &path]);
    assert!(said.contains(&path), "{said}");
    assert!(said.contains("process") || said.contains("pid"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let path = dir.path().join("data").display().to_string();
    for (listen, http) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let said = fails(&["up", "--listen", listen, "--http", http, "--data-dir", &path]);
        assert!(said.contains(&address), "{said}");
        assert!(said.contains("port 0") || said.contains("--listen"), "{said}");
    }
}

#[test]
fn a_directory_that_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("thesis.tex"), "precious").expect("written");
    let path = dir.path().display().to_string();
    let said = fails(&["up", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", &path]);
    assert!(said.contains("thesis.tex") && said.contains(&path), "{said}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn a_broker_that_is_not_there_is_named_with_what_to_do() {
    let said = fails(&["topic", "list", "--bootstrap", "127.0.0.1:1"]);
    assert!(said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn an_unknown_configuration_key_names_the_nearest() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let output = node.run(&["topic", "create", "x", "--config", "cleanup.polizy=compact"], "");
    assert_eq!(output.status.code(), Some(65));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cleanup.policy"), "{said}");
}

#[test]
fn an_incompatible_schema_is_refused_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(&dir.path().join("node"));
    let schema = |fields: &str| format!(r#"{{"type":"record","name":"Order","fields":[{fields}]}}"#);
    let old = dir.path().join("old.avsc");
    let new = dir.path().join("new.avsc");
    std::fs::write(&old, schema(r#"{"name":"id","type":"long"}"#)).expect("written");
    std::fs::write(&new, schema(r#"{"name":"id","type":"long"},{"name":"customer","type":"string"}"#))
        .expect("written");
    let (old, new) = (old.display().to_string(), new.display().to_string());
    node.done(&["schema", "register", "orders-value", &old], "");
    let output = node.run(&["schema", "check", "orders-value", &new], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("customer"), "{output:?}");
    let output = node.run(&["schema", "register", "orders-value", &new], "");
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    node.done(&["topic", "create", "orders"], "");
    node.done(&["produce", "orders", "--avro"], "{\"id\": 7}\n");
    let read = node.done(&["tail", "orders", "--from-beginning", "--no-follow", "--decode", "--json"], "");
    let event: Value = serde_json::from_str(read.trim()).expect("JSON");
    assert_eq!(event["value"]["id"], 7);
}

#[test]
fn a_stream_has_a_kind_and_refuses_what_does_not_fit() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "customers", "--kind", "entity"], "");
    node.done(&["produce", "customers", "--key-separator", "="], "ada={\"name\":\"Ada\"}\n");
    let refused = node.run(&["produce", "customers"], "{\"name\":\"nobody\"}\n");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("record 0"), "{said}");
    let described = node.done(&["topic", "describe", "customers", "--json"], "");
    let described: Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described["kind"], "entity");
    assert_eq!(described["configs"]["cleanup.policy"], "compact");
    assert_eq!(described["partitions"][0]["end_offset"], 1);
}

/// Apache Kafka does not know kinds: the catalog has them.
#[test]
fn a_kind_is_in_the_catalog_on_apache_kafka() {
    let Some(kafka) = common::kafka() else { return };
    let name = format!("kind-{}", std::process::id());
    let run = |arguments: &[&str]| {
        let output = Command::new(HEADWATER).args(arguments).args(["--bootstrap", &kafka, "--json"]).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let created = run(&["topic", "create", &name, "--kind", "entity"]);
    assert_eq!((&created["kind"], &created["enforced"]), (&"entity".into(), &false.into()));
    let described = run(&["topic", "describe", &name]);
    assert_eq!(described["kind"], "entity");
    assert_eq!(described["configs"]["cleanup.policy"], "compact");
    assert_eq!(described["usage"], Value::Null, "Apache Kafka does not record it");
    let refused = Command::new("sh")
        .args(["-c", "echo nobody | \"$0\" produce \"$1\" --bootstrap \"$2\"", HEADWATER, &name, &kafka])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("headwater.stream.kind=entity needs the entity's id as key"), "{said}");
    assert_eq!(run(&["topic", "describe", &name])["partitions"][0]["end_offset"], 0);
    run(&["topic", "delete", &name, "--yes"]);
}

/// A service with a store that has no name, and an operator before it or none.
fn version(filtered: bool) -> headwater_streams::TopologyDescription {
    use headwater_streams::serdes::{i64, nullable, string};
    use headwater_streams::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
    let builder = StreamsBuilder::new("shop");
    let orders = builder.stream("orders", Consumed::with(string(), string()));
    let orders = if filtered { orders.filter(|_, order: &String| order != "test") } else { orders };
    let counts = orders.group_by_key(Grouped::with(string(), string())).count(Materialized::new());
    counts.to_stream().to("counts", Produced::with(string(), nullable(i64())));
    builder.build().expect("a topology").describe()
}

#[test]
fn a_new_version_is_compared_before_it_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| {
        let path = dir.path().join(name).display().to_string();
        std::fs::write(&path, text).expect("written");
        path
    };
    let old = write("old.json", serde_json::to_string(&version(false)).expect("JSON"));
    // As an instance tells it.
    let told = serde_json::json!({ "application_id": "shop", "topology": version(true), "tasks": {} });
    let new = write("new.json", told.to_string());
    let run = |arguments: &[&str]| Command::new(HEADWATER).args(arguments).output().expect("it runs");
    let diff = run(&["topology", "diff", &old, &new]);
    let said = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{said}");
    assert!(said.starts_with("rebuild: store KSTREAM-AGGREGATE-0000000001-STORE becomes"), "{said}");
    let allowed = run(&["--json", "topology", "diff", &old, &new, "--allow", "rebuild"]);
    assert_eq!(allowed.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&allowed.stdout).expect("JSON");
    assert_eq!((&json["safety"], &json["changes"][0]["safety"]), (&"rebuild".into(), &"rebuild".into()));
    let same = run(&["topology", "diff", &new, &new]);
    assert_eq!(same.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&same.stdout), "no difference in stores, topics or tasks\n");
    let described = run(&["topology", "describe", &new]);
    assert!(String::from_utf8_lossy(&described.stdout).starts_with("Topologies:\n   Sub-topology: 0\n"));

    let odd = write("odd.json", "{\"application_id\": 5}".to_owned());
    let said = fails(&["topology", "diff", &old, &odd]);
    assert!(said.contains("odd.json") && said.contains("topology.describe()"), "{said}");
    let said = fails(&["topology", "describe", "http://127.0.0.1:1"]);
    assert!(said.contains("http://127.0.0.1:1/topology"), "{said}");
}
