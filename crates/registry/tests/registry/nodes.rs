//! Many writers at once, on one node and on two.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use headwater_schema::CompatibilityLevel;
use serde_json::json;

use crate::harness::{self, Served, record, subject};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_get_one_id_for_each_schema_on_the_embedded_broker() {
    harness::embedded(fifty_clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_get_one_id_for_each_schema_on_apache_kafka() {
    harness::apache_kafka(fifty_clients).await;
}

/// Each client registers five schemas under a subject of its own and under a shared one.
async fn fifty_clients(bootstrap: String) {
    let registry = Served::start(&bootstrap).await;
    let shared = subject("shared");
    registry.client.set_compatibility(&shared, CompatibilityLevel::None).await.unwrap();
    let schemas: Vec<String> = (0..5).map(|index| record(&format!("{shared}{index}"), "")).collect();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..50 {
        let client = headwater_registry::RegistryClient::new(&registry.base);
        let (shared, schemas) = (shared.clone(), schemas.clone());
        clients.spawn(async move {
            let own = format!("{shared}-{number}");
            let mut ids = Vec::new();
            for step in 0..5 {
                let index = (number + step) % 5;
                ids.push((index, client.register(&shared, &schemas[index]).await.unwrap()));
                if step == 0 {
                    ids.push((index, client.register(&own, &schemas[index]).await.unwrap()));
                }
            }
            ids
        });
    }
    let mut ids: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
    while let Some(registered) = clients.join_next().await {
        registered.unwrap().into_iter().for_each(|(index, id)| {
            ids.entry(index).or_default().insert(id);
        });
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(ids.values().flatten().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(registry.get(&format!("/subjects/{shared}/versions")).await, (200, json!([1, 2, 3, 4, 5])));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_give_an_id_to_two_schemas_on_the_embedded_broker() {
    harness::embedded(two_nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_give_an_id_to_two_schemas_on_apache_kafka() {
    harness::apache_kafka(two_nodes).await;
}

async fn two_nodes(bootstrap: String) {
    let (one, two) = (Served::start(&bootstrap).await, Served::start(&bootstrap).await);
    let name = subject("raced");
    one.client.set_compatibility(&name, CompatibilityLevel::None).await.unwrap();
    wait_for_level(&two, &name).await;
    const EACH: usize = 15;
    let register = |node: headwater_registry::RegistryClient, side: &'static str| {
        let name = name.clone();
        async move {
            let mut given = Vec::new();
            for index in 0..EACH {
                let schema = record(&format!("{name}_{side}_{index}"), "");
                given.push((node.register(&name, &schema).await.unwrap(), schema));
            }
            given
        }
    };
    let (left, right) =
        tokio::join!(register(one.client.clone(), "left"), register(two.client.clone(), "right"));
    let given: BTreeMap<u32, String> = left.into_iter().chain(right).collect();
    assert_eq!(given.len(), 2 * EACH, "an id was given twice");
    // A third node reads the log from its beginning and sees the same, as do both after it.
    let three = Served::start(&bootstrap).await;
    for (id, schema) in &given {
        for node in [&one, &two, &three] {
            assert_eq!(node.get(&format!("/schemas/ids/{id}")).await, (200, json!({ "schema": schema })));
        }
    }
    let versions = three.get(&format!("/subjects/{name}/versions")).await.1;
    assert_eq!(versions.as_array().unwrap().len(), 2 * EACH);
}

async fn wait_for_level(node: &Served, name: &str) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while node.get(&format!("/config/{name}")).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the other node's write does not arrive");
        tokio::task::yield_now().await;
    }
}
