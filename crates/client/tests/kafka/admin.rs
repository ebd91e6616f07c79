//! What an operator asks of a cluster.

use std::collections::HashMap;
use std::time::Instant;

use headwater_client::{ClientError, Committed, Isolation, NewTopic, OffsetSpec, ProduceRecord};
use headwater_model::TopicPartition;

use crate::support::{PATIENCE, client, producer, read_all, record, send, topic, unique, values};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_once_described_enlarged_and_deleted() {
    let Some(client) = client().await else { return };
    let name = unique("client");
    let wanted = NewTopic::new(&name, 2).config("cleanup.policy", "compact").config("segment.ms", "123456");
    client.create_topic(wanted.clone()).await.unwrap();
    let again = client.create_topic(wanted.clone()).await.unwrap_err();
    assert!(matches!(&again, ClientError::TopicExists(topic) if *topic == name), "{again}");
    client.ensure_topic(wanted).await.unwrap();
    assert_eq!(client.topic(&name).await.unwrap().unwrap().partitions, 2);
    assert!(client.topics().await.unwrap().iter().any(|topic| topic.name == name && !topic.internal));
    let configs = client.topic_configs(&name).await.unwrap();
    let policy = configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
    assert_eq!((policy.value.as_deref(), policy.is_default), (Some("compact"), false));
    assert!(configs.iter().any(|config| config.is_default));
    client.create_partitions(&name, 5).await.unwrap();
    assert_eq!(client.topic(&name).await.unwrap().unwrap().partitions, 5);
    client.delete_topic(&name).await.unwrap();
    let begun = Instant::now();
    while client.topic(&name).await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE);
    }
    let gone = client.delete_topic(&name).await.unwrap_err();
    assert!(matches!(gone, ClientError::UnknownTopic(_)), "{gone}");
    assert!(matches!(client.topic_configs(&name).await, Err(ClientError::UnknownTopic(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 2).await;
    let producer = producer(&client).await;
    for time in [1000, 2000, 3000] {
        send(&producer, ProduceRecord { timestamp: Some(time), ..record(&name, 0, "v") }).await;
        producer.flush().await.unwrap();
    }
    let (full, empty) = (TopicPartition::new(&name, 0), TopicPartition::new(&name, 1));
    let found = async |spec| {
        let ask = [(full.clone(), spec), (empty.clone(), spec)];
        let found = client.list_offsets(&ask, Isolation::Committed).await.unwrap();
        (found.get(&full).copied(), found.get(&empty).copied())
    };
    assert_eq!(found(OffsetSpec::Earliest).await, (Some(0), Some(0)));
    assert_eq!(found(OffsetSpec::Latest).await, (Some(3), Some(0)));
    assert_eq!(found(OffsetSpec::Timestamp(0)).await, (Some(0), None));
    assert_eq!(found(OffsetSpec::Timestamp(1001)).await, (Some(1), None));
    assert_eq!(found(OffsetSpec::Timestamp(3000)).await, (Some(2), None));
    assert_eq!(found(OffsetSpec::Timestamp(3001)).await, (None, None));
    assert_eq!(found(OffsetSpec::MaxTimestamp).await, (Some(2), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_gone_and_offsets_stay() {
    let Some(client) = client().await else { return };
    let name = topic(&client, 1).await;
    let producer = producer(&client).await;
    for i in 0..5 {
        send(&producer, record(&name, 0, i.to_string())).await;
    }
    producer.flush().await.unwrap();
    let at = TopicPartition::new(&name, 0);
    client.delete_records(&[(at.clone(), 3)]).await.unwrap();
    let begin =
        client.list_offsets(&[(at.clone(), OffsetSpec::Earliest)], Isolation::Committed).await.unwrap();
    assert_eq!(begin[&at], 3);
    assert_eq!(values(&read_all(&client, &name, Isolation::Committed).await), ["3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_committed_offsets_is_listed_described_and_deleted() {
    let Some(client) = client().await else { return };
    let (name, group) = (topic(&client, 2).await, unique("group"));
    let at = TopicPartition::new(&name, 1);
    let offsets = HashMap::from([(
        at.clone(),
        Committed { offset: 42, metadata: "why".into(), ..Committed::default() },
    )]);
    client.commit_offsets(&group, &offsets).await.unwrap();
    assert_eq!(client.committed(&group, None).await.unwrap(), offsets);
    assert_eq!(
        client.committed(&group, Some(&[TopicPartition::new(&name, 0)])).await.unwrap(),
        HashMap::new()
    );
    let listed = client.list_groups().await.unwrap();
    assert_eq!(listed.iter().filter(|listing| listing.group_id == group).count(), 1);
    let described = client.describe_group(&group).await.unwrap();
    assert_eq!((described.state.as_str(), described.members.len()), ("Empty", 0));
    client.delete_group(&group).await.unwrap();
    assert_eq!(client.committed(&group, None).await.unwrap(), HashMap::new());
}
