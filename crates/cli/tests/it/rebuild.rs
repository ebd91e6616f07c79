//! `headwater topology reprocess --external`: the rebuild of stores in a database: everything again, and the tables equal what they were.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{Client, ClientConfig, ProduceRecord, Producer, ProducerConfig};
use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    ColumnType, Consumed, ExternalTable, Grouped, Materialized, StreamsBuilder, Topology,
};

use crate::common::Node;
use crate::servers::PostgresServer;

const RECORDS: i64 = 900;
const COUNTED: &str = "SELECT key, value FROM words ORDER BY key";

/// Counts behind a repartition topic, which is skipped by the reset, and by key.
fn topology() -> Topology {
    let builder = StreamsBuilder::new("app");
    let kept = |name: &str| {
        let table = ExternalTable::named(name).key(ColumnType::Text).value(ColumnType::BigInt);
        Materialized::with(name, string(), i64()).external(table)
    };
    builder
        .stream("lines", Consumed::with(string(), string()))
        .group_by(|_, word| word.clone(), Grouped::with(string(), string()).named("words"))
        .count(kept("words"));
    builder
        .stream("items", Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(kept("items"));
    builder.build().expect("a topology")
}

async fn start(node: &Node, server: &PostgresServer, state: &Path) -> StreamsApp {
    let mut config = AppConfig::new(&node.kafka, "app");
    config.state_dir = state.to_owned();
    config.session_timeout = Duration::from_secs(6);
    config.external = Some(headwater_external::open(&server.url()).expect("a database"));
    StreamsApp::start(topology(), config).await.expect("it starts")
}

async fn counted(server: &PostgresServer) {
    let begun = Instant::now();
    for table in ["words", "items"] {
        let all = || server.sql(&format!("SELECT coalesce(sum(value), 0) FROM {table}"));
        while all() != [RECORDS.to_string()] {
            assert!(begun.elapsed() < Duration::from_secs(60), "{table}: {:?}", all());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[test]
fn tables_that_are_rebuilt_equal_what_they_were_and_a_plan_changes_nothing() {
    let Some(server) = PostgresServer::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for topic in ["lines", "items"] {
            node.done(&["topic", "create", topic, "--partitions", "2"], "");
        }
        let client = Client::connect(ClientConfig::new(&node.kafka, "test")).await.expect("the broker answers");
        let producer = Producer::new(&client, ProducerConfig::default()).await.expect("a producer");
        for n in 0..RECORDS {
            for topic in ["lines", "items"] {
                let record = ProduceRecord {
                    topic: topic.to_owned(),
                    timestamp: Some(n),
                    key: Some(Bytes::from(format!("k{}", n % 7))),
                    value: Some(Bytes::from(format!("w{}", n * n % 31))),
                    ..ProduceRecord::default()
                };
                drop(producer.send(record).await.expect("sent"));
            }
        }
        producer.flush().await.expect("written");
        let state = tempfile::tempdir().expect("a directory");
        let app = start(&node, &server, state.path()).await;
        counted(&server).await;
        app.stop().await.expect("it stops");
        let before = server.sql(COUNTED);
        // What somebody broke by hand.
        server.sql("UPDATE words SET value = 1000000 WHERE key = 'w1'; DELETE FROM items");

        let url = server.url();
        let run = |more: &[&str]| {
            let arguments = [&["topology", "reprocess", "app", "--external", &url], more].concat();
            node.run(&arguments, "")
        };
        let plan = run(&[]);
        let said = String::from_utf8(plan.stdout).expect("UTF-8");
        assert!(said.contains("tables that are emptied: items (") && said.contains("words ("), "{said}");
        assert_eq!(server.sql("SELECT value FROM words WHERE key = 'w1'"), ["1000000"]);

        let begun = Instant::now();
        while !run(&["--execute"]).status.success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the group stays");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(server.sql("SELECT count(*) FROM words"), ["0"]);
        let marks = server.sql("SELECT DISTINCT next_offset, metadata LIKE 'hw3;-1;-1;;;%' FROM headwater_positions WHERE topic = 'items'");
        assert_eq!(marks, ["0|t"]);
        let state = tempfile::tempdir().expect("a directory");
        let app = start(&node, &server, state.path()).await;
        counted(&server).await;
        app.stop().await.expect("it stops");
        assert_eq!(server.sql(COUNTED), before);
    });
    let nobody = node.run(&["topology", "reprocess", "nobody", "--external", &server.url()], "");
    assert!(!nobody.status.success());
}
