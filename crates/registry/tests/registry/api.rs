//! Paths, statuses and error codes, as Confluent documents them.

use headwater_registry::{RegistryClient, RegistryError};
use headwater_schema::CompatibilityLevel;
use serde_json::{Value, json};

use crate::harness::{self, Served, record, subject};

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_interface_is_confluents_on_the_embedded_broker() {
    harness::embedded(rest_interface).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_interface_is_confluents_on_apache_kafka() {
    harness::apache_kafka(rest_interface).await;
}

async fn rest_interface(bootstrap: String) {
    let registry = Served::start(&bootstrap).await;
    let name = subject("s");
    versions(&registry, &name).await;
    refusals(&registry, &name).await;
    compatibility(&registry, &name).await;
    deletion(&registry, &name).await;
}

const A: &str = r#"{"name":"a","type":"int"}"#;
const B: &str = r#"{"name":"b","type":"int","default":0}"#;
const C: &str = r#"{"name":"c","type":"int"}"#;

fn body(schema: &str) -> Option<Value> {
    Some(json!({ "schema": schema }))
}

async fn versions(registry: &Served, name: &str) {
    let (one, two) = (record(name, A), record(name, &format!("{A},{B}")));
    let path = format!("/subjects/{name}/versions");
    assert_eq!(registry.refusal("GET", &path, None).await, (404, 40401));
    let (status, first) = registry.ask("POST", &path, body(&one)).await;
    assert_eq!(status, 200, "{first}");
    let id = first["id"].as_u64().unwrap();
    // White space does not make another schema, nor does another subject.
    let spaced = one.replace(':', " : ");
    assert_eq!(registry.ask("POST", &path, body(&spaced)).await, (200, json!({ "id": id })));
    let other = format!("/subjects/{name}-other/versions");
    assert_eq!(registry.ask("POST", &other, body(&one)).await, (200, json!({ "id": id })));
    let (_, second) = registry.ask("POST", &path, body(&two)).await;
    assert!(second["id"].as_u64().unwrap() > id);

    assert_eq!(registry.get(&path).await, (200, json!([1, 2])));
    let shown = json!({ "subject": name, "version": 1, "id": id, "schema": one });
    assert_eq!(registry.get(&format!("{path}/1")).await, (200, shown.clone()));
    assert_eq!(registry.get(&format!("{path}/latest")).await.1["version"], 2);
    assert_eq!(
        registry.get(&format!("{path}/1/schema")).await.1,
        serde_json::from_str::<Value>(&one).unwrap()
    );
    assert_eq!(registry.ask("POST", &format!("/subjects/{name}"), body(&one)).await, (200, shown));
    assert_eq!(registry.get(&format!("/schemas/ids/{id}")).await, (200, json!({ "schema": one })));
    let uses =
        json!([{ "subject": name, "version": 1 }, { "subject": format!("{name}-other"), "version": 1 }]);
    assert_eq!(registry.get(&format!("/schemas/ids/{id}/versions")).await, (200, uses));
    assert_eq!(registry.get("/schemas/types").await, (200, json!(["AVRO"])));
    assert_eq!(registry.get("/mode").await, (200, json!({ "mode": "READWRITE" })));
    let (_, subjects) = registry.get("/subjects").await;
    assert!(subjects.as_array().unwrap().contains(&json!(name)));
}

async fn refusals(registry: &Served, name: &str) {
    let path = format!("/subjects/{name}/versions");
    assert_eq!(registry.refusal("GET", &format!("{path}/9"), None).await, (404, 40402));
    assert_eq!(registry.refusal("GET", &format!("{path}/zero"), None).await, (422, 42202));
    assert_eq!(registry.refusal("GET", &format!("{path}/0"), None).await, (422, 42202));
    assert_eq!(registry.refusal("GET", "/schemas/ids/4000000000", None).await, (404, 40403));
    assert_eq!(registry.refusal("POST", &format!("/subjects/{name}"), body("\"int\"")).await, (404, 40403));
    assert_eq!(registry.refusal("POST", "/subjects/no-such", body("\"int\"")).await, (404, 40401));
    assert_eq!(registry.refusal("POST", &path, body("{\"type\":\"nonsense\"}")).await, (422, 42201));
    assert_eq!(registry.refusal("POST", &path, Some(json!({}))).await, (422, 42201));
    assert_eq!(registry.refusal("POST", &path, Some(json!([]))).await, (400, 400));
    let proto = json!({ "schemaType": "PROTOBUF", "schema": "syntax = \"proto3\";" });
    let (status, answer) = registry.ask("POST", &path, Some(proto)).await;
    assert_eq!((status, &answer["error_code"]), (422, &json!(42201)));
    assert!(answer["message"].as_str().unwrap().contains("PROTOBUF is not supported"), "{answer}");
    let (status, answer) = registry.ask("POST", &path, body(&record(name, &format!("{A},{C}")))).await;
    assert_eq!((status, &answer["error_code"]), (409, &json!(409)));
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1") && message.contains("version 2"),
        "{message}"
    );
}

async fn compatibility(registry: &Served, name: &str) {
    let with_c = body(&record(name, &format!("{A},{B},{C}")));
    let latest = format!("/compatibility/subjects/{name}/versions/latest");
    assert_eq!(registry.ask("POST", &latest, with_c.clone()).await, (200, json!({ "is_compatible": false })));
    let (_, verbose) = registry.ask("POST", &format!("{latest}?verbose=true"), with_c.clone()).await;
    assert_eq!(verbose["messages"].as_array().unwrap().len(), 1);
    assert_eq!(
        registry.refusal("POST", "/compatibility/subjects/no-such/versions/latest", with_c.clone()).await,
        (404, 40401)
    );
    let new = registry.ask("POST", "/compatibility/subjects/no-such/versions", with_c.clone()).await;
    assert_eq!(new, (200, json!({ "is_compatible": true })));

    let config = format!("/config/{name}");
    assert_eq!(registry.refusal("GET", &config, None).await, (404, 40408));
    assert_eq!(
        registry.get(&format!("{config}?defaultToGlobal=true")).await,
        (200, json!({ "compatibilityLevel": "BACKWARD" }))
    );
    assert_eq!(
        registry.refusal("PUT", &config, Some(json!({ "compatibility": "SIDEWAYS" }))).await,
        (422, 42203)
    );
    let set = registry.ask("PUT", &config, Some(json!({ "compatibility": "FORWARD" }))).await;
    assert_eq!(set, (200, json!({ "compatibility": "FORWARD" })));
    assert_eq!(registry.get(&config).await, (200, json!({ "compatibilityLevel": "FORWARD" })));
    assert_eq!(registry.ask("POST", &latest, with_c).await, (200, json!({ "is_compatible": true })));
    assert_eq!(
        registry.ask("DELETE", &config, None).await,
        (200, json!({ "compatibilityLevel": "FORWARD" }))
    );
    assert_eq!(registry.refusal("GET", &config, None).await, (404, 40408));
    assert_eq!(registry.get("/config").await, (200, json!({ "compatibilityLevel": "BACKWARD" })));
}

async fn deletion(registry: &Served, name: &str) {
    let path = format!("/subjects/{name}");
    let second = registry.get(&format!("{path}/versions/2")).await.1["id"].as_u64().unwrap();
    assert_eq!(
        registry.refusal("DELETE", &format!("{path}/versions/2?permanent=true"), None).await,
        (404, 40407)
    );
    assert_eq!(registry.ask("DELETE", &format!("{path}/versions/latest"), None).await, (200, json!(2)));
    assert_eq!(registry.refusal("DELETE", &format!("{path}/versions/2"), None).await, (404, 40406));
    assert_eq!(registry.get(&format!("{path}/versions")).await, (200, json!([1])));
    assert_eq!(registry.get(&format!("{path}/versions?deleted=true")).await, (200, json!([1, 2])));
    // A deleted schema is still there for those who hold its id.
    assert_eq!(registry.get(&format!("/schemas/ids/{second}")).await.0, 200);
    assert_eq!(
        registry.ask("DELETE", &format!("{path}/versions/2?permanent=true"), None).await,
        (200, json!(2))
    );
    assert_eq!(registry.refusal("GET", &format!("/schemas/ids/{second}"), None).await, (404, 40403));

    assert_eq!(registry.refusal("DELETE", &format!("{path}?permanent=true"), None).await, (404, 40405));
    assert_eq!(registry.ask("DELETE", &path, None).await, (200, json!([1])));
    assert_eq!(registry.refusal("DELETE", &path, None).await, (404, 40404));
    assert_eq!(registry.refusal("GET", &format!("{path}/versions"), None).await, (404, 40401));
    let (_, deleted) = registry.get(&format!("/subjects?deleted=true&subjectPrefix={name}")).await;
    assert_eq!(deleted, json!([name, format!("{name}-other")]));
    assert_eq!(registry.ask("DELETE", &format!("{path}?permanent=true"), None).await, (200, json!([1])));
    assert_eq!(registry.refusal("DELETE", &path, None).await, (404, 40401));
    // An id that was given is not given again.
    let (_, again) = registry.ask("POST", &format!("{path}/versions"), body(&record(name, C))).await;
    assert!(again["id"].as_u64().unwrap() > second, "{again} {second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_speaks_for_its_callers() {
    harness::embedded(|bootstrap| async move {
        let registry = Served::start(&bootstrap).await;
        let client = &registry.client;
        // Escapes are needed for such a name.
        let name = subject("dir/with space?");
        let one = record("One", A);
        let id = client.register(&name, &one).await.unwrap();
        assert_eq!(client.register(&name, &one).await.unwrap(), id);
        assert_eq!(client.schema_by_id(id).await.unwrap().canonical(), one);
        let latest = client.latest(&name).await.unwrap();
        assert_eq!(
            (latest.subject, latest.id, latest.version, latest.schema),
            (name.clone(), id, 1, one.clone())
        );
        assert_eq!(client.subjects().await.unwrap(), [name.as_str()]);
        let wrong = record("One", C);
        assert_eq!(client.check(&name, &wrong).await.unwrap().len(), 1);
        let refused = client.register(&name, &wrong).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Refused { status: 409, error_code: 409, .. }), "{refused}");
        client.set_compatibility(&name, CompatibilityLevel::None).await.unwrap();
        assert!(client.check(&name, &wrong).await.unwrap().is_empty());
        assert_ne!(client.register(&name, &wrong).await.unwrap(), id);
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let error = RegistryClient::new("http://127.0.0.1:1").subjects().await.unwrap_err();
    assert!(error.is_retriable());
    assert!(error.to_string().contains("no schema registry answers at http://127.0.0.1:1"), "{error}");
}
