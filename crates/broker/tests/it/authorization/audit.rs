//! The audit stream: denials and changes, as JSON, and never in anybody's way.

use std::time::Duration;

use headwater_broker::{Broker, Config};
use headwater_model::acl::{Operation, ResourceType};
use headwater_wire::messages::*;
use serde_json::{Value, json};

use super::support::*;
use crate::common::{Raw, batch, config};

const AUDIT: &str = "_headwater.audit";

/// The lines of the stream, as soon as `enough` likes them.
async fn lines(raw: &mut Raw, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let there = raw.call(&metadata(None), 9).await;
        let there =
            there.topics.iter().any(|topic| topic.name.as_ref().is_some_and(|name| name.as_str() == AUDIT));
        let values = if there { raw.values(AUDIT, 0, false).await } else { Vec::new() };
        let lines: Vec<Value> = values.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        if enough(&lines) {
            return lines;
        }
        assert!(tokio::time::Instant::now() < deadline, "{lines:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn of<'a>(lines: &'a [Value], operation: &str, kind: &str, name: &str) -> Vec<&'a Value> {
    let resource = json!({ "type": kind, "name": name });
    lines.iter().filter(|line| line["operation"] == operation && line["resource"] == resource).collect()
}

#[tokio::test]
async fn denials_and_changes_are_told_with_who_and_what() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = filled(directory.path(), &[allow(Operation::Read, ResourceType::Topic, AUDIT)]).await;
    let mut raw = Raw::connect(&broker).await;
    for _ in 0..50 {
        assert_eq!(raw.produce("orders", 0, batch(&["a secret payload"])).await.error_code, TOPIC);
    }
    let denied = |lines: &[Value]| -> u64 {
        of(lines, "WRITE", "TOPIC", "orders")
            .iter()
            .map(|line| line["count"].as_u64().expect("a count"))
            .sum()
    };
    let told = lines(&mut raw, |lines| denied(lines) == 50).await;
    let writes = of(&told, "WRITE", "TOPIC", "orders");
    assert!(writes.len() < 25, "what is tried again and again is told once a while: {}", writes.len());
    let expected = json!({
        "principal": "User:ANONYMOUS", "host": "127.0.0.1", "client_id": "test", "operation": "WRITE",
        "resource": { "type": "TOPIC", "name": "orders" }, "allowed": false, "api": "Produce", "detail": null,
    });
    let mut first = writes[0].clone();
    let rest = first.as_object_mut().expect("an object");
    assert!(rest.remove("time").is_some_and(|time| time.as_i64() > Some(1_600_000_000_000)));
    assert!(rest.remove("count").is_some());
    assert_eq!(first, expected);
    let made = of(&told, "CREATE", "TOPIC", "orders");
    assert_eq!((made.len(), &made[0]["allowed"], &made[0]["api"]), (1, &json!(true), &json!("CreateTopics")));
    let rules = of(&told, "ALTER", "CLUSTER", "kafka-cluster");
    let rule = "made: ALLOW User:ANONYMOUS from * to READ TOPIC:LITERAL:_headwater.audit";
    assert_eq!((rules.len(), &rules[0]["detail"]), (1, &json!(rule)));
    assert!(told.iter().all(|line| !line.to_string().contains("payload")));
    broker.shutdown().await;
}

#[tokio::test]
async fn only_the_broker_writes_to_the_stream_and_it_comes_back_when_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = open(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    lines(&mut raw, |lines| of(lines, "CREATE", "TOPIC", "orders").len() == 1).await;
    assert_eq!(raw.produce(AUDIT, 0, batch(&["forged"])).await.error_code, TOPIC, "not even by a super-user");
    let delete = DeleteTopicsRequestData::default().with_topic_names(vec![named("_headwater.audit")]);
    assert_eq!(raw.call(&delete, 5).await.responses[0].error_code, 0);
    let told = lines(&mut raw, |lines| of(lines, "DELETE", "TOPIC", AUDIT).len() == 1).await;
    assert_eq!(told.len(), 1, "{told:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn changes_are_told_at_the_end_and_without_an_authorizer_only_when_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    for (audit, expected) in [(false, 0), (true, 1)] {
        let name = format!("topic-{audit}");
        let broker = Broker::start(Config { audit, ..config(directory.path()) }).await.expect("it starts");
        let mut raw = Raw::connect(&broker).await;
        raw.create_topic(&name, 1).await;
        drop(raw);
        broker.shutdown().await;
        let broker = Broker::start(config(directory.path())).await.expect("it starts");
        let mut raw = Raw::connect(&broker).await;
        let told = lines(&mut raw, |lines| lines.len() == expected).await;
        assert!(of(&told, "CREATE", "TOPIC", &name).len() == expected, "{told:?}");
        broker.shutdown().await;
    }
}
