//! Dead letters on their way back: as they were, chosen, counted, and once each however often the command is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use headwater_client::{
    Client, ClientConfig, Consumer, ConsumerConfig, Isolation, OffsetSpec, ProduceRecord, Producer,
    ProducerConfig,
};
use headwater_model::{Header, Record, TopicPartition};
use serde_json::Value;

use crate::common::Node;

fn header(key: &str, value: impl Into<String>) -> Header {
    Header { key: key.to_owned(), value: Some(Bytes::from(value.into())) }
}

/// Letter `n`: from partition `n % 2` of `orders`, with bytes that are no text.
fn letter(n: i64, more: &[Header]) -> ProduceRecord {
    let mut headers = vec![header("trace", format!("t{n}"))];
    headers.extend_from_slice(more);
    let exception = if n % 3 == 0 { "TimedOut" } else { "ProcessorError" };
    for (name, value) in [
        ("exception", format!("{exception} in parse")),
        ("message", "it would not".to_owned()),
        ("topic", "orders".to_owned()),
        ("partition", (n % 2).to_string()),
        ("offset", n.to_string()),
    ] {
        headers.push(header(&format!("__streams.errors.{name}"), value));
    }
    let value = Some(Bytes::from([&[0xff, 0x00][..], &n.to_be_bytes()].concat()));
    let key = Some(Bytes::from(format!("k{}", n % 5)));
    ProduceRecord {
        topic: "dead".to_owned(),
        timestamp: Some(1_000_000 + n),
        key,
        value,
        headers,
        partition: None,
    }
}

struct Cluster {
    node: Node,
    client: Client,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let node = Node::start(dir.path());
        node.done(&["topic", "create", "orders", "--partitions", "2"], "");
        node.done(&["topic", "create", "dead", "--partitions", "3"], "");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let client = runtime
            .block_on(Client::connect(ClientConfig::new(&node.kafka, "test")))
            .expect("the broker answers");
        Self { node, client, runtime, _dir: dir }
    }

    fn write(&self, records: Vec<ProduceRecord>) {
        self.runtime.block_on(async {
            let producer = Producer::new(&self.client, ProducerConfig::default()).await.expect("a producer");
            for record in records {
                drop(producer.send(record).await.expect("sent"));
            }
            producer.flush().await.expect("written");
        });
    }

    /// Committed records of `orders`, with their partitions.
    fn orders(&self) -> Vec<(i32, Record)> {
        self.runtime.block_on(async {
            let all: Vec<_> = (0..2).map(|partition| TopicPartition::new("orders", partition)).collect();
            let ask: Vec<_> = all.iter().map(|at| (at.clone(), OffsetSpec::Latest)).collect();
            let mut ends = self.client.list_offsets(&ask, Isolation::Committed).await.expect("ends");
            ends.retain(|_, end| *end > 0);
            let mut consumer = Consumer::new(&self.client, ConsumerConfig::default());
            consumer.assign(ends.keys().map(|at| (at.clone(), 0)).collect());
            let mut records = Vec::new();
            while !ends.is_empty() {
                for part in consumer.poll(Duration::from_secs(5)).await.expect("polled") {
                    let at = part.topic_partition;
                    if ends.get(&at).is_some_and(|end| part.next_offset >= *end) {
                        ends.remove(&at);
                    }
                    records.extend(part.records.into_iter().map(|record| (at.partition, record)));
                }
            }
            records
        })
    }

    /// The summary of a command, and whether it was content.
    fn summary(&self, arguments: &[&str]) -> (Value, bool) {
        let mut all = vec!["dead-letters"];
        all.extend_from_slice(arguments);
        all.push("--json");
        let output = self.node.run(&all, "");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let last =
            text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (serde_json::from_str(last).expect("JSON"), output.status.success())
    }
}

#[test]
fn letters_go_back_as_they_were_and_each_filter_takes_only_its_own() {
    let cluster = Cluster::start();
    cluster.write((0..30).map(|n| letter(n, &[])).collect());
    let (would, _) = cluster.summary(&["redrive", "dead", "--dry-run"]);
    assert_eq!((&would["redriven"], &would["dry_run"]), (&30.into(), &true.into()));
    assert!(cluster.orders().is_empty(), "a dry run sends nothing");

    let (first, content) = cluster.summary(&["redrive", "dead", "--exception", "TimedOut", "--batch", "3"]);
    assert!(content && first["redriven"] == 10 && first["left"]["filtered"] == 20, "{first}");
    let listed = cluster.node.done(&["dead-letters", "list", "dead", "--json"], "");
    assert_eq!(listed.lines().count(), 20);
    let (second, _) = cluster.summary(&["redrive", "dead", "--origin-partition", "1", "--limit", "4"]);
    assert_eq!(second["redriven"], 4);
    let until = (1_000_000 + 15).to_string();
    let (third, _) = cluster.summary(&["discard", "dead", "--yes", "--until", &until, "--origin", "orders"]);
    let (rest, _) = cluster.summary(&["redrive", "dead"]);
    let count = |value: &Value| value.as_u64().expect("a number");
    let discarded = count(&third["discarded"]);
    assert!(discarded > 0);
    assert_eq!(count(&rest["redriven"]) + 14 + discarded, 30);
    let (nothing, _) = cluster.summary(&["redrive", "dead"]);
    assert_eq!(nothing["redriven"], 0);

    let orders = cluster.orders();
    assert_eq!(orders.len() as u64, 30 - discarded);
    for (partition, record) in orders {
        let value = record.value.clone().expect("a value");
        let n = i64::from_be_bytes(value[2..].try_into().expect("eight bytes"));
        let sent = letter(n, &[]);
        assert_eq!((partition, record.timestamp), ((n % 2) as i32, 1_000_000 + n));
        assert_eq!((record.key, record.value), (sent.key, sent.value));
        assert_eq!(record.headers, [header("trace", format!("t{n}")), header("__headwater.redrives", "1")]);
    }
}

#[test]
fn a_record_that_fails_again_and_again_and_one_without_a_home_are_left_and_told() {
    let cluster = Cluster::start();
    let mut away = letter(2, &[]);
    away.headers.iter_mut().filter(|h| h.key.ends_with(".topic")).for_each(|h| h.value = Some("gone".into()));
    let mut beyond = letter(4, &[]);
    let partition = |h: &&mut Header| h.key.ends_with(".partition");
    beyond.headers.iter_mut().filter(partition).for_each(|h| h.value = Some("7".into()));
    let plain = ProduceRecord { headers: Vec::new(), ..letter(6, &[]) };
    let of_a_window = ProduceRecord { key: None, value: None, ..letter(10, &[]) };
    cluster.write(vec![
        letter(0, &[header("__headwater.redrives", "3")]),
        away,
        beyond,
        plain,
        of_a_window,
        letter(8, &[]),
    ]);
    let (told, content) = cluster.summary(&["redrive", "dead"]);
    assert!(!content, "{told}");
    let left = &told["left"];
    assert_eq!((&told["redriven"], &left["given_up"]), (&1.into(), &1.into()));
    assert_eq!((&left["homeless"], &left["unreadable"]), (&3.into(), &1.into()));
    let (told, _) = cluster.summary(&["redrive", "dead", "--max-redrives", "4", "--by-key"]);
    assert_eq!(told["redriven"], 2);
    let counts: Vec<_> = cluster.orders().into_iter().map(|(_, record)| record.headers[1].clone()).collect();
    assert!(counts.contains(&header("__headwater.redrives", "4")), "{counts:?}");
    let output = cluster.node.run(&["dead-letters", "redrive", "dead"], "");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("topic gone does not exist"), "{said}");
    assert!(said.contains("neither key nor value"), "{said}");
}

#[test]
fn a_redrive_that_fails_leaves_no_open_transaction() {
    let cluster = Cluster::start();
    cluster.node.done(&["topic", "alter", "orders", "--config", "max.message.bytes=2000"], "");
    let long = (0..5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>();
    let letters =
        [letter(0, &[]), letter(2, &[]), ProduceRecord { value: Some(long.into()), ..letter(1, &[]) }];
    cluster.write(letters.to_vec());
    let output = cluster.node.run(&["dead-letters", "redrive", "dead"], "");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && said.contains("error: "), "{said}");
    let known = cluster.runtime.block_on(cluster.client.describe_transaction("headwater-dead-letters-dead"));
    let known = known.expect("described").expect("a producer has come");
    assert!(!known.is_open(), "{known:?}");
    cluster.node.done(&["topic", "alter", "orders", "--delete-config", "max.message.bytes"], "");
    let (told, content) = cluster.summary(&["redrive", "dead"]);
    assert!(content && told["redriven"] == 3, "{told}");
    assert_eq!(cluster.orders().len(), 3, "each once");
}

const LETTERS: i64 = 10_000;

#[test]
fn a_redrive_that_is_killed_again_and_again_sends_every_letter_once() {
    let cluster = Cluster::start();
    // So many that no machine is done with them before the second is killed.
    cluster.write((0..LETTERS).map(|n| letter(n, &[])).collect());
    let arguments = ["dead-letters", "redrive", "dead", "--batch", "40", "--json"];
    let (mut killed, mut wait) = (0, 40);
    loop {
        let mut child = cluster.node.spawn(&arguments, "");
        std::thread::sleep(Duration::from_millis(wait));
        match child.try_wait().expect("try_wait") {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => child.kill().expect("SIGKILL"),
        }
        child.wait().expect("gone");
        killed += 1;
        // Sooner or later one comes to the end.
        wait += 37;
        assert!(killed < 100, "no run comes to its end");
    }
    let mut seen: BTreeMap<i64, u32> = BTreeMap::new();
    let mut last: BTreeMap<(i32, Bytes), i64> = BTreeMap::new();
    for (partition, record) in cluster.orders() {
        let n = i64::from_be_bytes(record.value.expect("a value")[2..].try_into().expect("eight bytes"));
        *seen.entry(n).or_default() += 1;
        let before = last.insert((partition, record.key.expect("a key")), n);
        assert!(before.is_none_or(|before| before < n), "{n} came after {before:?}");
    }
    assert!(killed > 1, "it was over before it could be killed");
    assert!(
        seen.len() == LETTERS as usize && seen.values().all(|count| *count == 1),
        "killed {killed} times"
    );
}
