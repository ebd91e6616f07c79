//! Who produces and consumes is recorded, and survives the broker.

use headwater_broker::Broker;
use headwater_wire::messages::*;
use serde_json::Value;

use crate::common::{Raw, batch, config, produce, start};

async fn usage(broker: &Broker, topic: &str) -> Value {
    let mut raw = Raw::connect(broker).await;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(topic.to_owned().into())
        .with_configuration_keys(Some(vec!["headwater.usage".to_owned().into()]));
    let describe = DescribeConfigsRequestData::default().with_resources(vec![resource]);
    let answer = raw.call(&describe, 4).await;
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
    serde_json::from_str(answer.results[0].configs[0].value.as_ref().unwrap().as_str()).unwrap()
}

fn of_kind<'v>(usage: &'v Value, kind: &str) -> Vec<&'v Value> {
    usage["uses"].as_array().unwrap().iter().filter(|one| one["kind"] == kind).collect()
}

fn commit(group: &str, topic: &str) -> OffsetCommitRequestData {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_metadata(Some("".to_owned().into()));
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic.to_owned().into())
        .with_partitions(vec![partition]);
    OffsetCommitRequestData::default()
        .with_group_id(group.to_owned().into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

#[tokio::test]
async fn writers_and_readers_are_told_apart_and_outlive_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for topic in ["written", "read", "neither"] {
        raw.create_topic(topic, 2).await;
    }
    for _ in 0..50 {
        assert_eq!(raw.produce("written", 1, batch(&["x"])).await.error_code, 0);
        raw.fetch("read", 0, 0, false).await;
    }
    let refused = raw.call(&produce(None, "neither", 9, batch(&["x"])), 9).await;
    assert_ne!(refused.responses[0].partition_responses[0].error_code, 0, "no such partition");
    assert_eq!(raw.call(&commit("readers", "read"), 8).await.topics[0].partitions[0].error_code, 0);
    let written = usage(&broker, "written").await;
    let writers = of_kind(&written, "writer");
    assert_eq!(writers.len(), 1, "{written}");
    assert_eq!(writers[0]["principal"], "User:ANONYMOUS");
    assert_eq!(writers[0]["client_id"], "test");
    assert!(of_kind(&written, "reader").is_empty(), "{written}");
    let read = usage(&broker, "read").await;
    let readers = of_kind(&read, "reader");
    assert_eq!(readers.len(), 1, "the fetches and the commit are one client's: {read}");
    assert_eq!(readers[0]["groups"], serde_json::json!(["readers"]));
    assert!(of_kind(&read, "writer").is_empty(), "{read}");
    assert!(usage(&broker, "neither").await["uses"].as_array().unwrap().is_empty());
    drop(raw);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    assert_eq!(usage(&broker, "written").await, written);
    assert_eq!(usage(&broker, "read").await["uses"][0]["groups"], readers[0]["groups"]);
    broker.shutdown().await;
}

#[tokio::test]
async fn it_is_no_setting_and_is_not_shown_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(dir.path())).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("t".to_owned().into())
        .with_configuration_keys(None);
    let describe = DescribeConfigsRequestData::default().with_resources(vec![resource]);
    let answer = raw.call(&describe, 4).await;
    assert!(!answer.results[0].configs.iter().any(|config| config.name.as_str() == "headwater.usage"));
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name("headwater.usage".to_owned().into())
        .with_value(Some("x".to_owned().into()));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("t".to_owned().into())
        .with_configs(vec![config]);
    let alter = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    assert_ne!(raw.call(&alter, 1).await.responses[0].error_code, 0);
    broker.shutdown().await;
}
