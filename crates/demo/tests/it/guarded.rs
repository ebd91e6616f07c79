//! Connect, registry and the flights service on a node that lets in nobody it does not know, each with the rights that
//! docs/security.md says it needs and no others.

use std::path::Path;
use std::time::{Duration, Instant};

use headwater_client::{
    Client, ClientConfig, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec, ProduceRecord, Producer,
    ProducerConfig, Security,
};
use headwater_connect::sqlite::{BulkSource, Sink, SinkConfig, SinkStream, TableStream};
use headwater_model::TopicPartition;
use headwater_model::acl::{AclBinding, Operation, PatternType, Permission, ResourceType, WILDCARD};
use headwater_node::{Node, NodeConfig};
use headwater_registry::RegistryClient;
use rusqlite::Connection;
use serde_json::Value;

use Operation::{Create, Delete, Read, Write};
use PatternType::{Literal, Prefixed};
use ResourceType::{Group, Topic, TransactionalId};

use crate::certificates::Authority;

struct Guarded {
    node: Node,
    ca: Authority,
    directory: tempfile::TempDir,
    admin: Client,
}

impl Guarded {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Authority::new(directory.path(), "company");
        let users = directory.path().join("users");
        std::fs::write(&users, "root=root\nliberator=liberator\nflights=flights\nsinker=sinker\n").unwrap();
        let config = NodeConfig {
            data_dir: directory.path().join("data"),
            kafka: "127.0.0.1:0".parse().unwrap(),
            http: "127.0.0.1:0".parse().unwrap(),
            bootstrap: None,
            default_partitions: 1,
            config_file: None,
            configs: vec![
                "listeners=SASL_SSL://127.0.0.1:0".to_owned(),
                format!("ssl.keystore.location={}", ca.issue("server", &["127.0.0.1"]).display()),
                format!("headwater.sasl.users.file={}", users.display()),
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
                "super.users=User:root".to_owned(),
                "auto.create.topics.enable=false".to_owned(),
            ],
            security: Security::default(),
        };
        let node = Node::start(config).await.unwrap();
        let file = settings(directory.path(), &ca, "root");
        let admin = connect(&node, &file).await;
        Self { node, ca, directory, admin }
    }

    /// The one file that a program of this user gets.
    fn file(&self, user: &str) -> std::path::PathBuf {
        settings(self.directory.path(), &self.ca, user)
    }

    async fn as_user(&self, user: &str) -> (Client, RegistryClient) {
        let file = self.file(user);
        let registry = RegistryClient::secured(self.node.http(), &Security::load(&file).unwrap()).unwrap();
        (connect(&self.node, &file).await, registry)
    }

    /// What a user was refused so far, as the audit stream tells it.
    async fn denials(&self, user: &str) -> Vec<String> {
        // It is written within 200 ms.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let audit = TopicPartition::new("_headwater.audit", 0);
        let ends =
            self.admin.list_offsets(&[(audit.clone(), OffsetSpec::Latest)], Isolation::Uncommitted).await;
        let end = ends.unwrap()[&audit];
        let mut consumer = Consumer::new(&self.admin, ConsumerConfig::default());
        consumer.assign(vec![(audit.clone(), 0)]);
        let mut denied = Vec::new();
        while consumer.position(&audit).unwrap() < end {
            for fetched in consumer.poll(Duration::from_secs(1)).await.unwrap() {
                let values = fetched.records.iter().filter_map(|record| record.value.as_ref());
                for line in values.map(|value| serde_json::from_slice::<Value>(value).unwrap()) {
                    if line["allowed"] == false && line["principal"] == format!("User:{user}") {
                        denied.push(format!(
                            "{} on {} by {}",
                            line["operation"], line["resource"], line["api"]
                        ));
                    }
                }
            }
        }
        denied
    }

    async fn allow(&self, user: &str, rights: &[(ResourceType, PatternType, &str, &[Operation])]) {
        let rule = |resource, pattern, name: &str, operation| AclBinding {
            resource,
            name: name.to_owned(),
            pattern,
            principal: format!("User:{user}"),
            host: WILDCARD.to_owned(),
            operation,
            permission: Permission::Allow,
        };
        let each = rights.iter().flat_map(|(resource, pattern, name, operations)| {
            operations.iter().map(|operation| rule(*resource, *pattern, name, *operation))
        });
        self.admin.create_acls(&each.collect::<Vec<_>>()).await.unwrap();
    }
}

async fn connect(node: &Node, file: &Path) -> Client {
    let security = Security::load(file).unwrap();
    Client::connect(ClientConfig::new(node.kafka(), "guarded").security(security)).await.unwrap()
}

fn settings(directory: &Path, ca: &Authority, user: &str) -> std::path::PathBuf {
    let file = directory.join(format!("{user}.properties"));
    let text = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password={user}\n\
         ssl.truststore.location={}\n",
        ca.trust("company").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn table(directory: &Path) -> TableStream {
    let database = directory.join("legacy.sqlite");
    let connection = Connection::open(&database).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS airlines (carrier TEXT PRIMARY KEY, name TEXT NOT NULL);
             INSERT OR REPLACE INTO airlines VALUES ('UA', 'United Air Lines Inc.'), ('AA', 'American Airlines Inc.');",
        )
        .unwrap();
    TableStream::new("airlines", database, "airlines", "airlines")
        .columns(&["carrier", "name"])
        .key(&["carrier"])
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_publishes_and_sinks_with_the_rights_of_its_table() {
    let guarded = Guarded::start().await;
    let (client, registry) = guarded.as_user("liberator").await;
    let publish = async || {
        let source = BulkSource::new(table(guarded.directory.path()), client.clone(), registry.clone());
        source.handle().finish();
        source.run(std::future::pending()).await
    };
    let refused = publish().await.err().map(|error| format!("{error:?}")).unwrap();
    assert!(refused.contains("denied") || refused.contains("uthoriz"), "{refused}");
    guarded
        .allow(
            "liberator",
            &[
                (Topic, Literal, "airlines", &[Write, Create]),
                (Topic, Literal, "_headwater.connectors", &[Read, Write, Create]),
                (Topic, Literal, "_headwater.catalog", &[Read, Write, Create]),
                (TransactionalId, Literal, "connect-airlines", &[Write]),
            ],
        )
        .await;
    assert_eq!(publish().await.unwrap(), 2);

    let (client, registry) = guarded.as_user("sinker").await;
    guarded
        .allow(
            "sinker",
            &[
                (Topic, Literal, "airlines", &[Read]),
                (Topic, Literal, "_headwater.catalog", &[Write, Create]),
            ],
        )
        .await;
    let database = guarded.directory.path().join("sink.sqlite");
    let streams = vec![SinkStream::new("airlines", "airlines")];
    let config = SinkConfig { name: "airlines-sink".to_owned(), database: database.clone(), streams };
    let sink = Sink::new(config, client, registry);
    sink.handle().finish();
    sink.run(std::future::pending()).await.unwrap();
    let rows: i64 = Connection::open(database)
        .unwrap()
        .query_row("SELECT count(*) FROM airlines", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);
    guarded.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_runs_with_the_rights_of_its_table_and_not_without_them() {
    let guarded = Guarded::start().await;
    let inputs = ["flights", "weather", "aircraft", "airports", "airlines"];
    for topic in inputs {
        guarded.admin.create_topic(NewTopic::new(topic, 2)).await.unwrap();
    }
    let (file, state) = (guarded.file("flights"), guarded.directory.path().join("state"));
    let (kafka, http) = (guarded.node.kafka().to_owned(), guarded.node.http());
    let environment = |name: &str| match name {
        "HEADWATER_COMMAND_CONFIG" => Some(file.display().to_string()),
        "HEADWATER_BOOTSTRAP" => Some(kafka.clone()),
        "HEADWATER_REGISTRY" => Some(http.clone()),
        "HEADWATER_STATE_DIR" => Some(state.display().to_string()),
        _ => None,
    };
    assert!(headwater_flights::start(&environment).await.is_err(), "it sees no input");
    let refused_before = guarded.denials("flights").await.len();

    let manifest = headwater_flights::manifest().unwrap();
    let mut rights: Vec<(ResourceType, PatternType, &str, &[Operation])> = vec![
        (Topic, Prefixed, "flight-operations-", &[Read, Write, Create, Delete]),
        (Topic, Literal, "_headwater.catalog", &[Read, Write, Create]),
        (Group, Literal, "flight-operations", &[Read]),
        (TransactionalId, Prefixed, "flight-operations-", &[Write]),
    ];
    rights.extend(inputs.map(|topic| (Topic, Literal, topic, &[Read][..])));
    for output in manifest.outputs.values() {
        rights.push((Topic, Literal, &output.topic, &[Write, Create]));
    }
    guarded.allow("flights", &rights).await;

    let app = headwater_flights::start(&environment).await.unwrap();
    let begun = Instant::now();
    while !app.ready() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", app.phase());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What cannot be read goes through a transaction to where the manifest says.
    let producer = Producer::new(&guarded.admin, ProducerConfig::default()).await.unwrap();
    let garbage = ProduceRecord {
        topic: "flights".to_owned(),
        key: Some(b"UA1545".to_vec().into()),
        value: Some(b"no flight".to_vec().into()),
        ..ProduceRecord::default()
    };
    producer.send(garbage).await.unwrap().await.unwrap();
    let dead = TopicPartition::new("flight-operations.dead-letter", 0);
    let begun = Instant::now();
    let told = async || {
        let ends =
            guarded.admin.list_offsets(&[(dead.clone(), OffsetSpec::Latest)], Isolation::Committed).await;
        ends.unwrap()[&dead] > 0
    };
    while !told().await {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing comes out: {:?}",
            guarded.denials("flights").await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    app.stop().await.unwrap();
    let denied = guarded.denials("flights").await.split_off(refused_before);
    assert!(denied.is_empty(), "it needs no right that it does not have: {denied:?}");
    guarded.node.shutdown().await;
}
