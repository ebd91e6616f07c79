//! What an operator does to groups and topics from the command line: the plan, the work, and its way back.

use std::collections::HashMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use headwater_client::{
    Client, ClientConfig, Committed, GroupConfig, GroupConsumer, GroupEvent, GroupMetadata, ProduceRecord,
    Producer, ProducerConfig,
};
use headwater_model::TopicPartition;
use serde_json::Value;

use crate::common::Node;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains("  try: "), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
}

async fn client(node: &Node) -> Client {
    Client::connect(ClientConfig::new(&node.kafka, "test")).await.expect("it connects")
}

/// A topic with ten events in each of two partitions, and a group that has read four of the first.
async fn read_in_part(node: &Node) {
    node.done(&["topic", "create", "orders", "--partitions", "2"], "");
    let client = client(node).await;
    let producer = Producer::new(&client, ProducerConfig::default()).await.expect("a producer");
    for number in 0..20 {
        let record = ProduceRecord {
            topic: "orders".to_owned(),
            partition: Some(number % 2),
            timestamp: Some(i64::from(1_000 + number / 2)),
            value: Some(number.to_string().into()),
            ..ProduceRecord::default()
        };
        drop(producer.send(record).await.expect("queued"));
    }
    producer.flush().await.expect("written");
    let read =
        HashMap::from([(TopicPartition::new("orders", 0), Committed { offset: 4, ..Committed::default() })]);
    client.commit_offsets("readers", &read).await.expect("committed");
}

fn committed(node: &Node) -> Vec<i64> {
    let described = json(&node.done(&["group", "describe", "readers", "--json"], ""));
    let partitions = described["partitions"].as_array().expect("partitions");
    partitions.iter().map(|one| one["committed"].as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn a_group_is_reset_by_a_plan_that_can_be_carried_out_and_undone() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    read_in_part(&node).await;
    let reset = ["group", "reset", "readers", "--topic", "orders"];
    let run = |more: &[&str]| node.done(&[&reset[..], more].concat(), "");
    let plan = run(&["--to-latest"]);
    assert!(plan.contains("orders/0\t4\t10\t10\t0") && plan.contains("orders/1\t-\t10"), "{plan}");
    assert!(plan.contains("--execute"), "{plan}");
    assert_eq!(committed(&node), [4], "a plan changes nothing");
    let done = run(&["--to-latest", "--execute"]);
    let undo = "headwater group reset readers --topic orders:0 --to-offset 4 --execute";
    assert!(done.contains(&format!("undo: {undo}")), "{done}");
    assert_eq!(committed(&node), [10, 10]);
    let words: Vec<&str> = undo.split(' ').skip(1).collect();
    node.done(&words, "");
    assert_eq!(committed(&node), [4, 10]);
    run(&["--shift-by", "-2", "--execute"]);
    assert_eq!(committed(&node), [2, 8]);
    run(&["--shift-by", "-5", "--execute"]);
    assert_eq!(committed(&node), [0, 3], "there is nothing before the beginning");
    run(&["--to-datetime", "1970-01-01T00:00:01.007Z", "--execute"]);
    assert_eq!(committed(&node), [7, 7]);
    run(&["--to-earliest", "--execute"]);
    assert_eq!(committed(&node), [0, 0]);
    let all =
        json(&node.done(&["group", "reset", "readers", "--all-topics", "--to-offset", "99", "--json"], ""));
    assert_eq!((&all["plan"][1]["to"], &all["plan"][1]["partition"]), (&10.into(), &1.into()));
    refused(&node.run(&["group", "reset", "readers", "--topic", "nope", "--to-latest"], ""), 66, &["nope"]);
    refused(&node.run(&["group", "reset", "readers", "--topic", "orders:7", "--to-latest"], ""), 66, &["7"]);
    refused(
        &node.run(&["group", "reset", "new", "--topic", "orders", "--shift-by", "1"], ""),
        65,
        &["shift"],
    );
}

#[tokio::test]
async fn groups_are_deleted_when_it_is_asked_for_twice_and_all_are_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    read_in_part(&node).await;
    refused(&node.run(&["group", "delete", "readers"], ""), 2, &["--yes"]);
    refused(&node.run(&["group", "delete", "readers", "nope", "--yes"], ""), 66, &["no group nope"]);
    assert_eq!(committed(&node), [4]);
    let connected = client(&node).await;
    let running = GroupConfig::new("running", vec!["orders".to_owned()]);
    let mut member = GroupConsumer::join(&connected, running).await.expect("it joins");
    loop {
        let event = member.poll(Duration::from_secs(30)).await.expect("it polls");
        if matches!(event, Some(GroupEvent::Assigned { .. })) {
            break;
        }
    }
    let described = json(&node.done(&["group", "describe", "running", "--json"], ""));
    let partition = &described["partitions"][1];
    assert_eq!((&partition["committed"], &partition["end"]), (&Value::Null, &10.into()), "{described}");
    refused(&node.run(&["group", "delete", "readers", "running", "--yes"], ""), 65, &["running has members"]);
    assert_eq!(committed(&node), [4], "all or none");
    member.leave().await.expect("it leaves");
    assert_eq!(node.done(&["group", "delete", "readers", "--yes"], ""), "deleted readers\n");
    refused(&node.run(&["group", "describe", "readers"], ""), 66, &["group list"]);
}

#[tokio::test]
async fn a_group_is_described_while_a_transaction_holds_its_offsets() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    read_in_part(&node).await;
    let connected = client(&node).await;
    let config = ProducerConfig { transactional_id: Some("copier".to_owned()), ..ProducerConfig::default() };
    let producer = Producer::new(&connected, config).await.expect("a producer");
    producer.begin_transaction().await.expect("begun");
    let read =
        HashMap::from([(TopicPartition::new("orders", 0), Committed { offset: 6, ..Committed::default() })]);
    producer.send_offsets(&GroupMetadata::simple("readers"), &read).await.expect("sent");
    assert_eq!(committed(&node), [4], "as it is now");
    let overview = reqwest::get(format!("{}/api/v1/overview", node.http)).await.expect("an answer");
    let overview = json(&overview.text().await.expect("text"));
    assert_eq!((&overview["error"], &overview["groups"][0]["lag"]), (&Value::Null, &6.into()), "{overview}");
    producer.abort_transaction().await.expect("aborted");
}

#[test]
fn a_topics_settings_are_changed_one_by_one_and_brought_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    node.done(&["topic", "create", "orders", "--config", "retention.ms=5000"], "");
    let configs = || {
        let described = json(&node.done(&["topic", "describe", "orders", "--json"], ""));
        (described["configs"].clone(), described["partitions"].as_array().map(Vec::len))
    };
    let alter = ["topic", "alter", "orders"];
    let run = |more: &[&str]| node.run(&[&alter[..], more].concat(), "");
    let set = run(&["--config", "retention.ms=6000", "--config", "cleanup.policy=compact"]);
    let said = String::from_utf8(set.stdout).expect("UTF-8");
    let undo = "headwater topic alter orders --config retention.ms=5000 --delete-config cleanup.policy";
    assert_eq!(said, format!("altered orders; undo: {undo}\n"));
    assert_eq!(configs().0["retention.ms"], "6000");
    assert_eq!(configs().0["cleanup.policy"], "compact");
    node.done(&undo.split(' ').skip(1).collect::<Vec<_>>(), "");
    assert_eq!(
        (&configs().0["retention.ms"], &configs().0["cleanup.policy"]),
        (&"5000".into(), &"delete".into())
    );
    assert_eq!(run(&["--config", "retention.mss=1"]).status.code(), Some(65));
    refused(&run(&["--partitions", "3"]), 2, &["--yes", "cannot be taken back"]);
    refused(&run(&["--partitions", "1", "--yes"]), 65, &["only have more"]);
    assert!(run(&["--partitions", "3", "--yes"]).status.success());
    assert_eq!(configs().1, Some(3));
    assert_eq!(run(&[]).status.code(), Some(2), "nothing to do");
}

#[test]
fn several_topics_are_deleted_all_or_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for name in ["a", "b"] {
        let created = node.done(&["topic", "create", name], "");
        assert_eq!(created, format!("created {name}; undo: headwater topic delete {name} --yes\n"));
    }
    refused(&node.run(&["topic", "delete", "a", "nope", "--yes"], ""), 66, &["nope"]);
    refused(&node.run(&["topic", "delete", "a", "b"], ""), 2, &["topic delete a b --yes"]);
    node.done(&["topic", "delete", "a", "b", "--yes"], "");
    assert_eq!(node.done(&["topic", "list"], ""), "TOPIC\tPARTITIONS\tRECORDS\n");
}

#[test]
fn each_topic_is_listed_with_its_own_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for (name, partitions, events) in [("a", "3", 5), ("b", "1", 0), ("c", "2", 2)] {
        node.done(&["topic", "create", name, "--partitions", partitions], "");
        node.done(&["produce", name], &"event\n".repeat(events));
    }
    let listed = node.done(&["topic", "list"], "");
    assert_eq!(listed, "TOPIC\tPARTITIONS\tRECORDS\na\t3\t5\nb\t1\t0\nc\t2\t2\n");
}

#[test]
fn a_topic_that_much_hangs_on_needs_to_be_asked_for_by_that_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(&dir.path().join("node"));
    let schema = dir.path().join("schema.avsc").display().to_string();
    std::fs::write(&schema, r#""string""#).expect("written");
    node.done(&["schema", "register", "orders-value", &schema], "");
    node.done(&["topic", "create", "customers", "--kind", "entity"], "");
    for (name, word) in
        [("_schemas", "schemas"), ("__consumer_offsets", "groups"), ("_headwater.catalog", "kinds")]
    {
        if node.run(&["topic", "describe", name], "").status.success() {
            refused(&node.run(&["topic", "delete", name, "--yes"], ""), 2, &["--internal", word]);
        } else {
            assert_ne!(name, "_schemas");
        }
    }
    node.done(&["topic", "delete", "_schemas", "--yes", "--internal"], "");
}

#[tokio::test]
async fn tail_begins_where_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    read_in_part(&node).await;
    let offsets = |more: &[&str]| {
        let said = node.done(&[&["tail", "orders", "--no-follow", "--json"], more].concat(), "");
        let mut seen: Vec<(i64, i64)> = said
            .lines()
            .map(json)
            .map(|event| (event["partition"].as_i64().expect("one"), event["offset"].as_i64().expect("one")))
            .collect();
        seen.sort_unstable();
        seen
    };
    assert_eq!(offsets(&["--offset", "-1"]), [(0, 9), (1, 9)]);
    assert_eq!(offsets(&["--offset", "8", "--partition", "1"]), [(1, 8), (1, 9)]);
    assert_eq!(offsets(&["--offset", "earliest", "--partition", "0", "--max", "1"]), [(0, 0)]);
    assert_eq!(offsets(&["--offset", "latest"]), []);
    refused(&node.run(&["tail", "orders", "--offset", "11", "--no-follow"], ""), 66, &["0 to 10"]);
    refused(&node.run(&["tail", "orders", "--partition", "2", "--no-follow"], ""), 66, &["2 partitions"]);
}

#[test]
fn a_transaction_of_nobody_is_not_aborted() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    for _ in 0..2 {
        refused(&node.run(&["transaction", "abort", "nope", "--yes"], ""), 66, &["nope", "doctor"]);
    }
}

#[test]
fn a_rule_for_an_address_that_never_matches_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(Path::new(dir.path()));
    let add = ["acl", "add", "--topic", "x", "--principal", "User:a", "-o", "read", "--deny", "--host"];
    for (host, word) in [("10.0.0.0/8", "a network"), ("foo", "a name")] {
        let output = node.run(&[&add[..], &[host]].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && said.contains("matches nobody"), "{said}");
    }
}
