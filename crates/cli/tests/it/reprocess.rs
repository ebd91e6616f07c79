//! The plan of doing the work of an application again, and the reset that it asks for.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use headwater_client::{
    Client, ClientConfig, Committed, GroupConfig, GroupConsumer, ProduceRecord, Producer, ProducerConfig,
};
use headwater_model::TopicPartition;
use serde_json::Value;

use crate::common::Node;

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn committed(offset: i64) -> Committed {
    Committed { offset, metadata: "hw3;7;7;;".to_owned(), leader_epoch: None }
}

/// An application `app` that has read `orders`, half of `bills`, and what went through a repartition topic.
async fn application(client: &Client, node: &Node) {
    for (topic, partitions) in
        [("orders", "2"), ("bills", "1"), ("app-by-value-repartition", "1"), ("app-counts-changelog", "1")]
    {
        node.done(&["topic", "create", topic, "--partitions", partitions], "");
    }
    let producer = Producer::new(client, ProducerConfig::default()).await.expect("a producer");
    for n in 0..400_i64 {
        let topic = ["orders", "orders", "bills", "app-by-value-repartition"][(n % 4) as usize];
        let record = ProduceRecord {
            topic: topic.to_owned(),
            partition: Some(i32::from(n % 4 == 1)),
            timestamp: Some(n),
            key: Some(Bytes::from("0123456789")),
            value: Some(Bytes::from("0123456789")),
            headers: Vec::new(),
        };
        drop(producer.send(record).await.expect("sent"));
    }
    producer.flush().await.expect("written");
    let offsets = HashMap::from([
        (at("orders", 0), committed(100)),
        (at("orders", 1), committed(90)),
        (at("bills", 0), committed(50)),
        (at("app-by-value-repartition", 0), committed(70)),
    ]);
    client.commit_offsets("app", &offsets).await.expect("committed");
}

#[test]
fn a_plan_changes_nothing_and_what_is_executed_is_what_was_planned() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client =
            Client::connect(ClientConfig::new(&node.kafka, "test")).await.expect("the broker answers");
        application(&client, &node).await;
        let run = |more: &[&str]| -> Value {
            let arguments =
                [&["topology", "reprocess", "app", "--records-per-second", "30", "--json"], more].concat();
            let said = node.done(&arguments, "");
            serde_json::from_str(said.lines().next().expect("a line")).expect("JSON")
        };
        let plan = run(&[]);
        assert_eq!(
            (&plan["offsets"], &plan["records"], &plan["bytes"]),
            (&300.into(), &300.0.into(), &6000.0.into())
        );
        assert_eq!((&plan["seconds"], &plan["deleted"][0]), (&10.0.into(), &"app-counts-changelog".into()));
        assert_eq!(plan["skipped"].as_array().map(Vec::len), Some(1));
        let later = run(&["--from", "200", "--topic", "bills"]);
        assert_eq!((&later["offsets"], &later["partitions"][0]["from"]), (&50.into(), &50.into()));
        assert_eq!(client.committed("app", None).await.expect("offsets")[&at("orders", 1)], committed(90));

        let mut config = GroupConfig::new("app", vec!["bills".to_owned()]);
        config.session_timeout = Duration::from_secs(6);
        let mut member = GroupConsumer::join(&client, config).await.expect("a member");
        while member.poll(Duration::from_millis(100)).await.expect("polled").is_none() {}
        let refused = node.run(&["topology", "reprocess", "app", "--execute"], "");
        let said = String::from_utf8(refused.stderr).expect("UTF-8");
        assert!(!refused.status.success() && said.contains("stop every instance"), "{said}");
        member.leave().await.expect("gone");

        // Another application's name begins with this one's, so its changelog's does, too.
        node.done(&["topic", "create", "app-two-totals-changelog"], "");
        let others = HashMap::from([(at("orders", 0), committed(1))]);
        client.commit_offsets("app-two", &others).await.expect("committed");
        let refused = node.run(&["topology", "reprocess", "app", "--execute"], "");
        let said = String::from_utf8(refused.stderr).expect("UTF-8");
        assert_eq!(refused.status.code(), Some(65), "{said}");
        assert!(said.contains("--keep app-two-totals-changelog"), "{said}");
        assert!(client.topic("app-counts-changelog").await.expect("asked").is_some(), "nothing is done");

        run(&["--execute", "--keep", "app-two-totals-changelog"]);
        assert!(client.topic("app-two-totals-changelog").await.expect("asked").is_some());
        let offsets = client.committed("app", None).await.expect("offsets");
        let again =
            |end: i64| Committed { offset: 0, metadata: format!("hw3;-1;-1;;;{end}"), leader_epoch: None };
        assert_eq!(offsets[&at("orders", 1)], again(100));
        assert_eq!(offsets[&at("bills", 0)], again(100));
        assert_eq!(offsets[&at("app-by-value-repartition", 0)].offset, 100);
        assert!(client.topic("app-counts-changelog").await.expect("asked").is_none());
    });
    let unknown = node.run(&["topology", "reprocess", "nobody"], "");
    assert!(String::from_utf8(unknown.stderr).expect("UTF-8").contains("has committed nothing"));
}
