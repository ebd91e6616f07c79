//! State of one version brought to where the next one looks for it, by the command: a plan that changes nothing, and work that a
//! kill does not spoil.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use headwater_client::{
    Client, ClientConfig, Committed, Consumer, ConsumerConfig, Isolation, OffsetSpec, ProduceRecord,
    Producer, ProducerConfig,
};
use headwater_model::{Record, TopicPartition};
use headwater_streams::serdes::string;
use headwater_streams::{Consumed, Grouped, Materialized, StreamsBuilder, TopologyDescription};
use serde_json::Value;

use crate::common::Node;

const RECORDS: usize = 3_000;

fn version(store: &str) -> TopologyDescription {
    let builder = StreamsBuilder::new("app");
    builder
        .stream("orders", Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(Materialized::named(store));
    builder.build().unwrap().describe()
}

/// Committed records of a topic's only partition.
async fn read(client: &Client, topic: &str) -> Vec<Record> {
    let at = TopicPartition::new(topic, 0);
    let ends =
        client.list_offsets(&[(at.clone(), OffsetSpec::Latest)], Isolation::Committed).await.expect("an end");
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign(vec![(at.clone(), 0)]);
    let mut records = Vec::new();
    while consumer.position(&at).is_some_and(|next| next < ends[&at]) {
        let fetched = consumer.poll(Duration::from_millis(200)).await.expect("records");
        records.extend(fetched.into_iter().flat_map(|part| part.records));
    }
    records
}

async fn old_version_ran(client: &Client, node: &Node) {
    for topic in ["orders", "app-counts-changelog"] {
        node.done(&["topic", "create", topic, "--config", "cleanup.policy=compact"], "");
    }
    let producer = Producer::new(client, ProducerConfig::default()).await.expect("a producer");
    for n in 0..RECORDS {
        let record = ProduceRecord {
            topic: "app-counts-changelog".to_owned(),
            partition: Some(0),
            timestamp: Some(n as i64),
            key: Some(Bytes::from(format!("k{n}"))),
            value: (n % 10 != 0).then(|| Bytes::from(format!("v{n}"))),
            headers: Vec::new(),
        };
        drop(producer.send(record).await.expect("sent"));
    }
    producer.flush().await.expect("written");
    let committed = Committed { offset: 0, metadata: "hw3;7;7;;".to_owned(), leader_epoch: None };
    let offsets = HashMap::from([(TopicPartition::new("orders", 0), committed)]);
    client.commit_offsets("app", &offsets).await.expect("committed");
}

#[test]
fn a_plan_changes_nothing_and_a_command_that_is_killed_is_gone_on_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let files = ["counts", "totals"].map(|store| {
        let file = dir.path().join(format!("{store}.json"));
        std::fs::write(&file, serde_json::to_string(&version(store)).expect("JSON")).expect("written");
        file.display().to_string()
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client =
            Client::connect(ClientConfig::new(&node.kafka, "test")).await.expect("the broker answers");
        old_version_ran(&client, &node).await;
        let base = [
            "topology",
            "migrate",
            files[0].as_str(),
            files[1].as_str(),
            "--rename",
            "counts=totals",
            "--json",
        ];
        let first = |said: &str| -> Value {
            serde_json::from_str(said.lines().next().expect("a line")).expect("JSON")
        };

        let plan = first(&node.done(&base, ""));
        assert_eq!(plan["plan"]["copies"][0]["end"], RECORDS);
        assert_eq!(plan["records_to_copy"], RECORDS as f64);
        assert!(
            client.topic("app-totals-changelog").await.expect("asked").is_none(),
            "a plan changes nothing"
        );

        // One record in each transaction, so that there is time to kill it in.
        let arguments = [&base[..], &["--batch", "1", "--execute"]].concat();
        let mut running = node.spawn(&arguments, "");
        let copied = async || match client.topic("app-totals-changelog").await.expect("asked") {
            Some(_) => read(&client, "app-totals-changelog").await.len(),
            None => 0,
        };
        while copied().await < 20 {
            assert!(running.try_wait().expect("asked").is_none(), "it ended by itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.kill().expect("killed");
        running.wait().expect("it ended");
        assert!(copied().await < RECORDS, "it was killed in the middle");

        let said = node.done(&[&base[..], &["--execute"]].concat(), "");
        let plan = first(&said);
        assert_eq!(plan["plan"]["resumed"], true);
        assert!(plan["plan"]["copies"][0]["next"].as_i64().expect("a number") >= 20);
        assert!(said.contains("migrated"), "{said}");
        let rows = |records: Vec<Record>| -> Vec<_> {
            records.into_iter().map(|record| (record.key, record.value, record.timestamp)).collect()
        };
        let old = rows(read(&client, "app-counts-changelog").await);
        assert_eq!(rows(read(&client, "app-totals-changelog").await), old, "each once, in its order");
        let config = client.topic_config("app-totals-changelog", "cleanup.policy").await.expect("asked");
        assert_eq!(config.and_then(|entry| entry.value).as_deref(), Some("compact"));
        assert_eq!(first(&node.done(&base, ""))["plan"]["done"], true);
    });
    let wrong = node
        .run(&["topology", "migrate", files[0].as_str(), files[1].as_str(), "--rename", "cuonts=totals"], "");
    let said = String::from_utf8(wrong.stderr).expect("UTF-8");
    assert!(!wrong.status.success() && said.contains("cuonts"), "{said}");
}
