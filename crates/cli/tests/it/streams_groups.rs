//! A real Kafka Streams application with `group.protocol=streams` (KIP-1071): two instances, one killed and taken over,
//! the broker killed and started again, and Kafka's own tool for streams groups.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Node, jars, kafka_tool, kafka_tools, succeeds};
use crate::java::{Java, LIMIT};

/// Dead members are found in seconds, not in Kafka's 45.
const SETTINGS: [&str; 3] = [
    "group.streams.session.timeout.ms=6000",
    "group.streams.heartbeat.interval.ms=500",
    "group.streams.initial.rebalance.delay.ms=1000",
];

fn application(jars: &Path, address: &str, dir: &Path, name: &str) -> Java {
    let state = dir.join(name).display().to_string();
    Java::start(jars, &["app", address, &state])
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// `kafka-streams-groups.sh`.
fn tool(tools: &Path, address: &str, arguments: &[&str]) -> String {
    let class = "org.apache.kafka.tools.streams.StreamsGroupCommand";
    succeeds(kafka_tool(tools, class, address).args(arguments))
}

#[test]
fn a_word_count_is_exact_through_the_death_of_an_instance_and_of_the_broker() {
    let (Some(jars), Some(tools)) = (jars("HEADWATER_TEST_STREAMS_JARS"), kafka_tools()) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let data: PathBuf = dir.path().join("data");
    let mut node = Node::start_set(&data, "127.0.0.1:0", &SETTINGS);
    let address = node.kafka.clone();
    for topic in ["lines", "counts"] {
        node.done(&["topic", "create", topic, "--partitions", "4"], "");
    }
    let mut first = application(&jars, &address, dir.path(), "first");
    let second = application(&jars, &address, dir.path(), "second");
    // Four tasks of the subtopology that splits lines, four of the one that counts.
    wait_until("two instances share eight tasks", || first.tasks().len() == 4 && second.tasks().len() == 4);
    second.wait("it runs", |line| line == "state RUNNING");
    let listed = tool(&tools, &address, &["--list", "--state"]);
    assert!(listed.contains("wordcount") && listed.contains("Stable"), "{listed}");
    let described = tool(&tools, &address, &["--describe", "--group", "wordcount", "--members", "--verbose"]);
    let members = described.lines().filter(|line| line.starts_with("wordcount")).count();
    assert_eq!(members, 4, "two threads of each instance: {described}");
    let described = node.done(&["group", "describe", "wordcount", "--json"], "");
    let described: Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!((&described["state"], &described["members"]), (&"Stable".into(), &4.into()), "{described}");

    let driver = Java::start(&jars, &["drive", &address, "3000"]);
    driver.wait("underway", |line| line == "kill the application");
    first.kill();
    wait_until("the other takes over", || second.tasks().len() == 8);
    let third = application(&jars, &address, dir.path(), "third");
    driver.wait("half way", |line| line == "kill the broker");
    node.kill();
    node = Node::start_set(&data, &address, &SETTINGS);
    wait_until("a new one gets its share", || second.tasks().len() == 4 && third.tasks().len() == 4);
    driver.wait("every count is exact", |line| line.starts_with("exact ") || line.starts_with("wrong: "));
    assert!(driver.said().iter().any(|line| line.starts_with("exact ")), "{:#?}", driver.said());

    let topics = node.done(&["topic", "list", "--json"], "");
    for internal in ["wordcount-words-repartition", "wordcount-words-changelog"] {
        assert!(topics.contains(internal), "{topics}");
    }
    let described = node.done(&["topic", "describe", "wordcount-words-changelog", "--json"], "");
    assert!(described.contains("\"compact\""), "a changelog is compacted: {described}");
    let offsets = tool(&tools, &address, &["--describe", "--group", "wordcount", "--offsets"]);
    assert_eq!(offsets.lines().filter(|line| line.contains("lines")).count(), 4, "{offsets}");
    second.close();
    third.close();
    wait_until("everybody has left", || tool(&tools, &address, &["--list", "--state"]).contains("Empty"));
    let reset =
        ["--reset-offsets", "--group", "wordcount", "--input-topic", "lines", "--to-earliest", "--execute"];
    let reset = tool(&tools, &address, &reset);
    assert!(reset.contains("lines"), "{reset}");
    let described = node.done(&["group", "describe", "wordcount", "--json"], "");
    let described: Value = serde_json::from_str(&described).expect("JSON");
    let partitions = described["partitions"].as_array().expect("partitions");
    let of_lines: Vec<&Value> = partitions.iter().filter(|one| one["topic"] == "lines").collect();
    assert_eq!(of_lines.len(), 4, "{described}");
    assert!(of_lines.iter().all(|one| one["committed"] == 0), "{described}");
    tool(&tools, &address, &["--delete", "--group", "wordcount"]);
    assert!(!tool(&tools, &address, &["--list"]).contains("wordcount"));
}
