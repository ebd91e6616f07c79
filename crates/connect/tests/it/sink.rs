//! A sink's table is the fold of its topic, exactly once, whoever is killed when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use headwater_client::{NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_connect::sqlite::{Sink, SinkConfig, SinkStream};
use headwater_model::Header;
use headwater_registry::RegistryClient;
use headwater_schema::{AvroCodec, AvroSchema, confluent};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Cluster, Dice, eventually, never, unique};

/// A topic of rows, and who writes it.
struct Rows<'a> {
    cluster: &'a Cluster,
    topic: String,
    schema: AvroSchema,
    id: u32,
}

impl<'a> Rows<'a> {
    async fn new(cluster: &'a Cluster, topic: &str, fields: Value) -> Self {
        cluster.client.ensure_topic(NewTopic::new(topic, 2)).await.unwrap();
        let text = json!({"type": "record", "name": "Row", "fields": fields}).to_string();
        let id = cluster.registry.register(&format!("{topic}-value"), &text).await.unwrap();
        Self { cluster, topic: topic.to_owned(), schema: AvroSchema::parse(&text).unwrap(), id }
    }

    fn record(&self, key: &str, value: Option<Value>) -> ProduceRecord {
        let frame = |value| confluent::frame(self.id, &AvroCodec::from_json(&self.schema, &value).unwrap());
        self.raw(key, value.map(frame))
    }

    fn raw(&self, key: &str, value: Option<Bytes>) -> ProduceRecord {
        let key = Some(Bytes::copy_from_slice(key.as_bytes()));
        ProduceRecord { topic: self.topic.clone(), key, value, ..ProduceRecord::default() }
    }

    async fn send(&self, records: Vec<ProduceRecord>) {
        let producer = Producer::new(&self.cluster.client, ProducerConfig::default()).await.unwrap();
        for record in records {
            drop(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
    }
}

fn sink(cluster: &Cluster, topic: &str) -> Sink {
    let streams = vec![SinkStream::new(topic, "rows")];
    let config = SinkConfig { name: unique("sink"), database: cluster.path("sink.sqlite"), streams };
    Sink::new(config, cluster.client.clone(), cluster.registry.clone())
}

async fn drain(cluster: &Cluster, topic: &str) -> u64 {
    let sink = sink(cluster, topic);
    sink.handle().finish();
    sink.run(never()).await.unwrap()
}

fn rows(cluster: &Cluster, sql: &str) -> Vec<String> {
    let database = Connection::open(cluster.path("sink.sqlite")).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_become_rows_and_tombstones_delete_them() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let fields = json!([
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "temp", "type": ["null", "double"], "default": null},
        {"name": "name", "type": "string"},
    ]);
    let source = Rows::new(&cluster, &topic, fields).await;
    source
        .send(vec![
            source.record("a", Some(json!({"at": 1_357_034_400_000_i64, "temp": null, "name": "first"}))),
            source.record("b", Some(json!({"at": 0, "temp": 1.5, "name": "gone"}))),
            source.record("a", Some(json!({"at": 1_357_034_400_000_i64, "temp": 0.5, "name": "second"}))),
            source.record("b", None),
            source.record("never there", None),
        ])
        .await;
    assert_eq!(drain(&cluster, &topic).await, 5);
    let told = rows(&cluster, "SELECT _key || ' ' || at || ' ' || temp || ' ' || name FROM rows");
    assert_eq!(told, ["a 2013-01-01T10:00:00Z 0.5 second"]);
    assert_eq!(drain(&cluster, &topic).await, 0, "what is applied is not read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_dropped_again_and_again_holds_the_fold_of_its_topic() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let source = Rows::new(&cluster, &topic, json!([{"name": "n", "type": "long"}])).await;
    let (mut dice, mut fold) = (Dice(0x5eed), BTreeMap::new());
    for n in 0..40_u64 {
        let mut records = Vec::new();
        for i in 0..500_u64 {
            let (key, value) = (format!("{}", dice.below(700)), (dice.below(4) > 0).then_some(n * 500 + i));
            fold.insert(key.clone(), value);
            records.push(source.record(&key, value.map(|n| json!({"n": n}))));
        }
        source.send(records).await;
        let sink = sink(&cluster, &topic);
        let handle = sink.handle();
        let running = tokio::spawn(sink.run(never()));
        let enough = dice.below(500);
        eventually("records are applied", || handle.applied() >= enough || running.is_finished()).await;
        running.abort();
        assert!(running.await.is_err_and(|error| error.is_cancelled()));
    }
    drain(&cluster, &topic).await;
    let expected: Vec<String> =
        fold.into_iter().filter_map(|(key, n)| n.map(|n| format!("{key}={n}"))).collect();
    assert_eq!(rows(&cluster, "SELECT _key || '=' || n FROM rows ORDER BY _key"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_schema_adds_its_column_and_an_older_writer_leaves_it_null() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let old = Rows::new(&cluster, &topic, json!([{"name": "n", "type": "long"}])).await;
    old.send(vec![old.record("a", Some(json!({"n": 1}))), old.record("b", Some(json!({"n": 2})))]).await;
    drain(&cluster, &topic).await;
    let fields =
        json!([{"name": "n", "type": "long"}, {"name": "note", "type": ["null", "string"], "default": null}]);
    let new = Rows::new(&cluster, &topic, fields).await;
    new.send(vec![
        new.record("a", Some(json!({"n": 3, "note": "new"}))),
        new.record("b", Some(json!({"n": 3, "note": "new"}))),
    ])
    .await;
    old.send(vec![old.record("b", Some(json!({"n": 4})))]).await;
    drain(&cluster, &topic).await;
    let told = rows(&cluster, "SELECT _key || n || coalesce(note, '-') FROM rows ORDER BY _key");
    assert_eq!(told, ["a3new", "b4-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_record_goes_to_the_dead_letters_and_the_rest_flows() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let source = Rows::new(&cluster, &topic, json!([{"name": "name", "type": "string"}])).await;
    let corrupt = confluent::frame(source.id, &[0x20, b'x']);
    let headers = vec![Header { key: "trace".into(), value: Some(Bytes::from_static(b"7")) }];
    source
        .send(vec![
            source.record("a", Some(json!({"name": "good"}))),
            ProduceRecord { headers, ..source.raw("a", Some(corrupt.clone())) },
            source.raw("unframed", Some(Bytes::from_static(b"?"))),
            source.raw("unknown schema", Some(confluent::frame(1_000_000, b""))),
            source.record("b", Some(json!({"name": "also good"}))),
        ])
        .await;
    let running = sink(&cluster, &topic);
    let handle = running.handle();
    handle.finish();
    assert_eq!(running.run(never()).await.unwrap(), 2);
    assert_eq!(handle.dead_letters(), 3);
    assert_eq!(rows(&cluster, "SELECT name FROM rows ORDER BY _key"), ["good", "also good"]);
    let letters = cluster.read(&format!("{topic}.dead-letter")).await;
    assert_eq!(letters.len(), 3);
    let letter = letters.iter().find(|letter| letter.key.as_deref() == Some(b"a")).unwrap();
    assert_eq!(letter.value, Some(corrupt));
    let header = |name: &str| {
        let found =
            letter.headers.iter().find(|header| header.key == name).unwrap_or_else(|| panic!("{name}"));
        String::from_utf8(found.value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("trace"), "7");
    assert_eq!(header("__connect.errors.topic"), topic);
    assert!(header("__connect.errors.exception.message").contains("ends within a field"));
}

/// A node of a registry that hears of each schema when it is asked for the second time.
async fn slow_registry(text: String) -> RegistryClient {
    let asked = Arc::new(AtomicU32::new(0));
    let answer = move || {
        let (status, body) = match asked.fetch_add(1, Ordering::Relaxed) {
            0 => (StatusCode::NOT_FOUND, json!({"error_code": 40403, "message": "Schema not found"})),
            _ => (StatusCode::OK, json!({ "schema": text })),
        };
        let answer = (status, body.to_string());
        async move { answer }
    };
    let app = axum::Router::new().route("/schemas/ids/{id}", axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    RegistryClient::new(format!("http://{address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_which_a_node_of_the_registry_hears_late_is_waited_for() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let source = Rows::new(&cluster, &topic, json!([{"name": "n", "type": "long"}])).await;
    source.send(vec![source.record("a", Some(json!({"n": 1})))]).await;
    let streams = vec![SinkStream::new(&topic, "rows")];
    let config = SinkConfig { name: unique("sink"), database: cluster.path("sink.sqlite"), streams };
    let registry = slow_registry(source.schema.text().to_owned()).await;
    let sink = Sink::new(config, cluster.client.clone(), registry);
    let handle = sink.handle();
    handle.finish();
    assert_eq!((sink.run(never()).await.unwrap(), handle.dead_letters()), (1, 0));
    assert_eq!(rows(&cluster, "SELECT _key || n FROM rows"), ["a1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_write_says_so_though_nothing_more_comes() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let tags = json!([{"name": "tags", "type": {"type": "array", "items": "string"}}]);
    let source = Rows::new(&cluster, &topic, tags).await;
    source.send(vec![source.record("a", Some(json!({"tags": ["x"]})))]).await;
    let running = sink(&cluster, &topic).run(never());
    let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
    let refused = ended.expect("it ends by itself").unwrap_err().to_string();
    assert!(refused.contains("tags"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_never_reach_the_table() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let source = Rows::new(&cluster, &topic, json!([{"name": "n", "type": "long"}])).await;
    let config = ProducerConfig { transactional_id: Some(unique("writer")), ..ProducerConfig::default() };
    let producer = Producer::new(&cluster.client, config).await.unwrap();
    for (n, commits) in [(1, true), (2, false)] {
        producer.begin_transaction().await.unwrap();
        drop(producer.send(source.record("a", Some(json!({"n": n})))).await.unwrap());
        match commits {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
    }
    drain(&cluster, &topic).await;
    assert_eq!(rows(&cluster, "SELECT _key || n FROM rows"), ["a1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_visible_in_the_consumer_group() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let source = Rows::new(&cluster, &topic, json!([{"name": "n", "type": "long"}])).await;
    source.send(vec![source.record("a", Some(json!({"n": 1})))]).await;
    let config = SinkConfig {
        name: unique("sink"),
        database: cluster.path("sink.sqlite"),
        streams: vec![SinkStream::new(&topic, "rows")],
    };
    let group = format!("connect-{}", config.name);
    let sink = Sink::new(config, cluster.client.clone(), cluster.registry.clone());
    sink.handle().finish();
    sink.run(never()).await.unwrap();
    let committed = cluster.client.committed(&group, None).await.unwrap();
    assert_eq!(committed.values().map(|committed| committed.offset).sum::<i64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sink_on_the_same_database_is_refused() {
    let cluster = Cluster::start().await;
    let topic = unique("rows");
    let source = Rows::new(&cluster, &topic, json!([{"name": "n", "type": "long"}])).await;
    let (first, second) = (sink(&cluster, &topic), sink(&cluster, &topic));
    let handles = [first.handle(), second.handle()];
    let first = tokio::spawn(first.run(never()));
    eventually("the first follows", || handles[0].caught_up()).await;
    let second = tokio::spawn(second.run(never()));
    eventually("the second follows", || handles[1].caught_up()).await;
    for n in 0.. {
        source
            .send(vec![source.record("a", Some(json!({"n": n}))), source.record("b", Some(json!({"n": n})))])
            .await;
        if first.is_finished() || second.is_finished() {
            break;
        }
        assert!(n < 1_000, "two sinks moved the same offsets");
    }
    first.abort();
    second.abort();
    let ended = [first.await, second.await].into_iter().filter_map(Result::ok);
    let messages: Vec<String> = ended.filter_map(Result::err).map(|error| error.to_string()).collect();
    assert!(messages.iter().any(|message| message.contains("run one sink per database")), "{messages:?}");
}
