//! What becomes of a registry whose topic is deleted.

use std::time::{Duration, Instant};

use headwater_client::NewTopic;
use serde_json::{Value, json};

use crate::harness::{self, Served, client, record, subject};

/// Asks until the answer is this.
async fn until(registry: &Served, path: &str, is_it: impl Fn(&(u16, Value)) -> bool) -> (u16, Value) {
    let begun = Instant::now();
    loop {
        let answer = registry.get(path).await;
        if is_it(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_from_memory_when_the_topic_was_deleted() {
    harness::embedded(|bootstrap| async move {
        let (kafka, name) = (client(&bootstrap).await, subject("lost"));
        let registry = Served::start(&bootstrap).await;
        let id = registry.client.register(&name, &record("One", "")).await.unwrap();
        let by_id = format!("/schemas/ids/{id}");
        kafka.delete_topic("_schemas").await.unwrap();
        let (_, said) = until(&registry, &by_id, |(status, _)| *status == 500).await;
        assert_eq!(said["error_code"], 50001);
        assert!(said["message"].as_str().unwrap().contains("restore a backup"), "{said}");
        assert_eq!(registry.refusal("GET", "/subjects", None).await, (500, 50001));
        let body = json!({ "schema": record("Two", "") });
        let path = format!("/subjects/{name}/versions");
        assert_eq!(registry.refusal("POST", &path, Some(body.clone())).await, (500, 50001));
        // A new one is followed from its beginning.
        kafka.create_topic(NewTopic::new("_schemas", 1).config("cleanup.policy", "compact")).await.unwrap();
        until(&registry, "/subjects", |answer| *answer == (200, json!([]))).await;
        assert_eq!(registry.get(&by_id).await.0, 404);
        assert_eq!(registry.ask("POST", &path, Some(body)).await.0, 200);
    })
    .await;
}
