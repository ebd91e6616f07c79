//! What outlives a broker, a registry, or both.

use headwater_client::{NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_schema::CompatibilityLevel;
use serde_json::json;

use crate::harness::{self, Served, client, record, subject};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let name = subject("kept");
    let (one, two) = (record("One", ""), record("Two", ""));
    let broker = harness::broker(dir.path(), 0).await;
    let registry = Served::start(&broker.bootstrap()).await;
    let id = registry.client.register(&name, &one).await.unwrap();
    registry.client.set_compatibility(&name, CompatibilityLevel::None).await.unwrap();
    registry.client.register(&name, &two).await.unwrap();
    assert_eq!(registry.ask("DELETE", &format!("/subjects/{name}/versions/1"), None).await.0, 200);
    drop(registry);
    broker.shutdown().await;

    let broker = harness::broker(dir.path(), 0).await;
    let registry = Served::start(&broker.bootstrap()).await;
    assert_eq!(registry.get(&format!("/subjects/{name}/versions")).await, (200, json!([2])));
    assert_eq!(registry.client.schema_by_id(id).await.unwrap().canonical(), one);
    assert_eq!(
        registry.get(&format!("/config/{name}")).await,
        (200, json!({ "compatibilityLevel": "NONE" }))
    );
    assert!(registry.client.register(&name, &record("Three", "")).await.unwrap() > id + 1);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_outlives_a_restart_of_its_broker() {
    let dir = tempfile::tempdir().unwrap();
    let name = subject("outlived");
    let broker = harness::broker(dir.path(), 0).await;
    let port = broker.bootstrap().rsplit(':').next().unwrap().parse().unwrap();
    let registry = Served::start(&broker.bootstrap()).await;
    let id = registry.client.register(&name, &record("One", "")).await.unwrap();
    broker.shutdown().await;
    let broker = harness::broker(dir.path(), port).await;
    // The client tries until the registry has found its broker again.
    registry.client.set_compatibility(&name, CompatibilityLevel::None).await.ok();
    let added = record("One", r#"{"name":"a","type":"int","default":0}"#);
    assert!(registry.client.register(&name, &added).await.unwrap() > id);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_delete_schemas_keeps_them() {
    harness::embedded(|bootstrap| async move {
        let kafka = client(&bootstrap).await;
        kafka.ensure_topic(NewTopic::new("_schemas", 1)).await.unwrap();
        let policy = async || kafka.topic_config("_schemas", "cleanup.policy").await.unwrap().unwrap().value;
        assert_eq!(policy().await.as_deref(), Some("delete"), "as one that is made by asking for it");
        let registry = Served::start(&bootstrap).await;
        assert_eq!(policy().await.as_deref(), Some("compact"));
        assert!(registry.client.register(&subject("kept"), "\"int\"").await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_other_registries_are_kept_and_passed_over() {
    harness::embedded(|bootstrap| async move {
        let kafka = client(&bootstrap).await;
        kafka.ensure_topic(NewTopic::new("_schemas", 1).config("cleanup.policy", "compact")).await.unwrap();
        let producer = Producer::new(&kafka, ProducerConfig::default()).await.unwrap();
        let records = [
            (r#"{"keytype":"NOOP","magic":0}"#, None),
            (r#"{"keytype":"MODE","subject":null,"magic":0}"#, Some(r#"{"mode":"READWRITE"}"#)),
            (r#"{"keytype":"FROM_THE_FUTURE","magic":7}"#, Some(r#"{"what":["ever"]}"#)),
            ("not JSON", Some("at all")),
            (
                r#"{"keytype":"SCHEMA","subject":"proto","version":1,"magic":1}"#,
                Some(r#"{"subject":"proto","version":1,"id":41,"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";","deleted":false}"#),
            ),
        ];
        for (key, value) in records {
            let record = ProduceRecord {
                topic: "_schemas".into(),
                key: Some(key.into()),
                value: value.map(Into::into),
                ..ProduceRecord::default()
            };
            producer.send(record).await.unwrap().await.unwrap();
        }
        let registry = Served::start(&bootstrap).await;
        let shown = json!({ "schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF" });
        assert_eq!(registry.get("/schemas/ids/41").await, (200, shown));
        assert_eq!(registry.client.register(&subject("new"), "\"string\"").await.unwrap(), 42);
        let path = "/subjects/proto/versions";
        assert_eq!(registry.refusal("POST", path, Some(json!({ "schema": "\"string\"" }))).await, (409, 409));
    })
    .await;
}
