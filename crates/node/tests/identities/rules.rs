//! What the rules allow: in the registry, in the console, of operations.

use headwater_client::{NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};
use serde_json::json;

use crate::support::{Guarded, answer, schema};

#[tokio::test]
async fn a_subject_is_as_its_topic() {
    use Operation::{AlterConfigs, Delete, Read, Write};
    let guarded = Guarded::start(&[]).await;
    let register = async |user: &str, subject: &str| {
        guarded.ask(user, "POST", &format!("/subjects/{subject}/versions"), schema()).await
    };
    for subject in ["orders-value", "secrets-value", "com.example.Order"] {
        assert_eq!(register("root", subject).await.0, 200);
    }
    let other = Some(json!({ "schema": r#"{"type":"enum","name":"Colour","symbols":["RED"]}"# }));
    let (_, hidden) = guarded.ask("root", "POST", "/subjects/hidden-value/versions", other).await;
    let (status, refused) = register("bob", "orders-value").await;
    assert_eq!((status, &refused["error_code"]), (403, &json!(40301)), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("WRITE on TOPIC orders"), "{refused}");
    assert_eq!(guarded.get("bob", "/subjects").await, (200, json!([])));
    let line = guarded.audited(|line| line["resource"]["name"] == "orders" && line["allowed"] == false).await;
    assert_eq!((&line["principal"], &line["operation"]), (&json!("User:bob"), &json!("WRITE")), "{line}");

    guarded.allow("bob", Write, ResourceType::Topic, "orders").await;
    let (status, registered) = register("bob", "orders-value").await;
    assert_eq!(status, 200, "{registered}");
    assert_eq!(register("bob", "orders-key").await.0, 200);
    assert_eq!(register("bob", "secrets-value").await.0, 403);
    assert_eq!(guarded.get("bob", "/subjects").await, (200, json!(["orders-key", "orders-value"])));
    assert_eq!(guarded.get("bob", "/subjects/orders-value/versions/latest").await.0, 200);
    assert_eq!(guarded.get("bob", "/subjects/secrets-value/versions/latest").await.0, 403);
    // The same schema is that of subjects he does not see.
    let id = &registered["id"];
    assert_eq!(guarded.get("bob", &format!("/schemas/ids/{id}")).await.0, 200);
    let seen = guarded.get("bob", &format!("/schemas/ids/{id}/subjects")).await.1;
    assert_eq!(seen, json!(["orders-key", "orders-value"]));
    let seen = guarded.get("bob", &format!("/schemas/ids/{id}/versions")).await.1;
    assert_eq!(seen.as_array().unwrap().len(), 2, "{seen}");
    let (status, unknown) = guarded.get("bob", &format!("/schemas/ids/{}", hidden["id"])).await;
    assert_eq!((status, &unknown["error_code"]), (404, &json!(40403)), "as one that is not there");

    let level = || Some(json!({ "compatibility": "FULL" }));
    assert_eq!(guarded.ask("bob", "PUT", "/config/orders-value", level()).await.0, 403);
    guarded.allow("bob", AlterConfigs, ResourceType::Topic, "orders").await;
    assert_eq!(guarded.ask("bob", "PUT", "/config/orders-value", level()).await.0, 200);
    assert_eq!(guarded.get("bob", "/config/orders-value").await.0, 200);
    assert_eq!(guarded.ask("bob", "PUT", "/config", level()).await.0, 403);
    assert_eq!(guarded.ask("bob", "DELETE", "/subjects/orders-value", None).await.0, 403);
    guarded.allow("bob", Delete, ResourceType::Topic, "orders").await;
    assert_eq!(guarded.ask("bob", "DELETE", "/subjects/orders-value", None).await.0, 200);
    let deleted = |line: &serde_json::Value| line["operation"] == "DELETE" && line["allowed"] == true;
    assert_eq!(guarded.audited(deleted).await["detail"], "/subjects/orders-value");

    // Who may use `_schemas` itself may do the same here.
    guarded.allow("eve", Read, ResourceType::Topic, "_schemas").await;
    assert_eq!(guarded.get("eve", "/subjects/secrets-value/versions/latest").await.0, 200);
    assert_eq!(register("eve", "new-value").await.0, 403);
    guarded.allow("eve", Write, ResourceType::Topic, "_schemas").await;
    assert_eq!(register("eve", "new-value").await.0, 200);
    assert_eq!(guarded.ask("eve", "PUT", "/config", level()).await.0, 200);
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn the_console_shows_what_its_user_may_see() {
    let guarded = Guarded::start(&[]).await;
    let root = guarded.kafka("root").await;
    let producer = Producer::new(&root, ProducerConfig::default()).await.unwrap();
    for topic in ["orders", "secrets"] {
        root.create_topic(NewTopic::new(topic, 1)).await.unwrap();
        let record = ProduceRecord {
            topic: topic.to_owned(),
            value: Some(topic.as_bytes().to_vec().into()),
            ..ProduceRecord::default()
        };
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let streams = async |user: &str| {
        let (status, overview) = guarded.get(user, "/api/v1/overview").await;
        assert_eq!(status, 200, "{overview}");
        let rows = overview["streams"].as_array().unwrap().clone();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = streams("root").await;
    assert!(
        ["orders", "secrets", "_schemas"].iter().all(|name| all.iter().any(|one| one == name)),
        "{all:?}"
    );
    assert_eq!(streams("bob").await, [""; 0]);
    assert_eq!(guarded.get("bob", "/api/v1/streams/orders/latest").await.0, 403);
    guarded.allow("bob", Operation::Describe, ResourceType::Topic, "orders").await;
    assert_eq!(streams("bob").await, ["orders"]);
    assert_eq!(guarded.get("bob", "/api/v1/streams/orders/latest").await.0, 403, "describing is not reading");
    guarded.allow("bob", Operation::Read, ResourceType::Topic, "orders").await;
    let (status, events) = guarded.get("bob", "/api/v1/streams/orders/latest").await;
    assert_eq!((status, &events[0]["value"]), (200, &json!("orders")), "{events}");
    assert_eq!(guarded.get("bob", "/api/v1/streams/secrets/latest").await.0, 403);
    assert_eq!(guarded.get("bob", "/").await.0, 200, "the page itself holds nothing");
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn a_closed_stream_is_read_by_its_owner_and_not_by_whoever_may_read_it() {
    use Operation::{Create, Read, Write};
    let guarded = Guarded::start(&[]).await;
    let own = "bob-totals-changelog";
    for operation in [Create, Read, Write] {
        guarded.allow("bob", operation, ResourceType::Topic, own).await;
    }
    guarded.allow("eve", Read, ResourceType::Topic, own).await;
    let bob = guarded.kafka("bob").await;
    bob.create_topic(NewTopic::new(own, 1)).await.unwrap();
    let producer = Producer::new(&bob, ProducerConfig::default()).await.unwrap();
    let value = Some(b"private".to_vec().into());
    let record = ProduceRecord { topic: own.to_owned(), value, ..ProduceRecord::default() };
    drop(producer.send(record).await.unwrap());
    producer.flush().await.unwrap();

    let path = format!("/api/v1/streams/{own}/latest");
    let (status, refused) = guarded.get("eve", &path).await;
    assert_eq!(status, 403, "{refused}");
    assert!(!refused.to_string().contains("private"), "{refused}");
    for user in ["bob", "root"] {
        let (status, events) = guarded.get(user, &path).await;
        assert_eq!((status, &events[0]["value"]), (200, &json!("private")), "{user}: {events}");
    }
    let line = guarded.audited(|line| line["resource"]["name"] == own && line["allowed"] == false).await;
    assert_eq!((&line["principal"], &line["api"]), (&json!("User:eve"), &json!("HTTP GET")), "{line}");
    // Made open by a super-user for everybody, a stream of such a name is as any other.
    let open = "made-for-all-changelog";
    guarded.kafka("root").await.create_topic(NewTopic::new(open, 1)).await.unwrap();
    guarded.allow("eve", Read, ResourceType::Topic, open).await;
    assert_eq!(guarded.get("eve", &format!("/api/v1/streams/{open}/latest")).await.0, 200);
    guarded.node.shutdown().await;
}

#[tokio::test]
async fn operations_are_for_those_who_may_describe_the_cluster() {
    let guarded = Guarded::start(&[]).await;
    for path in ["/metrics", "/api/diagnosis"] {
        assert_eq!(answer(guarded.request("GET", path)).await.0, 401, "{path}");
        assert_eq!(guarded.get("bob", path).await.0, 403, "{path}");
        assert_eq!(guarded.get("root", path).await.0, 200, "{path}");
    }
    guarded.allow("bob", Operation::Describe, ResourceType::Cluster, CLUSTER_NAME).await;
    assert_eq!(guarded.get("bob", "/metrics").await.0, 200);
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(answer(guarded.request("GET", path)).await.0, 200, "{path} is for everybody");
    }
    guarded.node.shutdown().await;
}
