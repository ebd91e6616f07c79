//! What is told in passing: a refusal or a description names nothing that its reader may not see.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use headwater_broker::Broker;
use headwater_model::acl::{AclBinding, CLUSTER_NAME, Operation, ResourceType};
use headwater_wire::messages::*;
use headwater_wire::{BatchBuilder, Compression, Producer};

use super::support::*;
use crate::common::{Raw, batch_of, produce};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis() as i64
}

/// A node that enforces schemas: ids 1 and 2 are of subjects of topics that nobody has said anything of.
async fn enforcing(directory: &Path, strategy: &'static str, acls: &[AclBinding]) -> Broker {
    let broker = open(directory).await;
    let mut raw = Raw::connect(&broker).await;
    let set = |name: &'static str, value: &'static str| {
        create_topics_request::CreatableTopicConfig::default()
            .with_name(named(name))
            .with_value(Some(named(value)))
    };
    let topic = |name: &'static str, configs| {
        CreatableTopic::default()
            .with_name(named(name))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs)
    };
    let checked = vec![
        set("confluent.value.schema.validation", "true"),
        set("confluent.value.subject.name.strategy", strategy),
    ];
    let topics = vec![topic("orders", checked), topic("_schemas", vec![set("cleanup.policy", "compact")])];
    let request = CreateTopicsRequestData::default().with_topics(topics).with_timeout_ms(1000);
    let created = raw.call(&request, 5).await;
    assert!(created.topics.iter().all(|topic| topic.error_code == 0), "{created:?}");
    let mut records = BatchBuilder::new();
    let now = now();
    for (subject, version) in [("payroll-value", 1), ("public-value", 1)] {
        let key = format!(r#"{{"keytype":"SCHEMA","subject":"{subject}","version":{version},"magic":1}}"#);
        let schema = r#"{\"type\":\"record\",\"name\":\"Salary\",\"fields\":[]}"#;
        let value =
            format!(r#"{{"subject":"{subject}","version":1,"id":1,"schema":"{schema}","deleted":false}}"#);
        records.push(now, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    let records = records.build(Compression::None, None, false).expect("a batch");
    assert_eq!(raw.produce("_schemas", 0, records).await.error_code, 0);
    assert!(create(&mut raw, acls).await.iter().all(|code| *code == 0));
    drop(raw);
    broker.shutdown().await;
    closed(directory).await
}

/// What a producer is told whose record has a schema of other subjects.
async fn told(strategy: &'static str, acls: &[AclBinding]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = enforcing(directory.path(), strategy, acls).await;
    let mut raw = Raw::connect(&broker).await;
    let mut records = BatchBuilder::new();
    let now = now();
    records.push(now, None, Some(&[0, 0, 0, 0, 1]), &[]);
    let records = records.build(Compression::None, None, false).expect("a batch");
    let refused = raw.produce("orders", 0, records).await;
    assert_eq!(refused.error_code, 87, "{refused:?}");
    broker.shutdown().await;
    refused.error_message.expect("a message").to_string()
}

#[tokio::test]
async fn a_refusal_by_schema_names_no_subject_that_its_producer_may_not_see() {
    use Operation::{Describe, Read, Write};
    let of = |operation, name| allow(operation, ResourceType::Topic, name);
    let topic_name = "io.confluent.kafka.serializers.subject.TopicNameStrategy";
    let said = told(topic_name, &[of(Write, "orders")]).await;
    assert!(said.contains("register the schema under orders-value"), "{said}");
    assert!(!said.contains("payroll") && !said.contains("public"), "{said}");
    let said = told(topic_name, &[of(Write, "orders"), of(Describe, "public")]).await;
    assert!(said.contains("it is one of public-value)"), "{said}");
    let said = told(topic_name, &[of(Write, "orders"), of(Read, "_schemas")]).await;
    assert!(said.contains("it is one of payroll-value, public-value)"), "{said}");
    // The name of a record is known from its schema, which the producer need not have.
    let by_record = "io.confluent.kafka.serializers.subject.RecordNameStrategy";
    let said = told(by_record, &[of(Write, "orders")]).await;
    assert!(!said.contains("Salary"), "{said}");
    let said = told(by_record, &[of(Write, "orders"), of(Describe, "Salary")]).await;
    assert!(said.contains("register the schema under Salary"), "{said}");
}

/// `payer` writes to `orders`, and `readers` have read it.
async fn used(directory: &Path, acls: &[AclBinding]) -> Broker {
    let broker = open(directory).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("orders", 1).await;
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some(named("payer")))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(-1)
        .with_producer_epoch(-1);
    let init = raw.call(&init, 4).await;
    let producer = Producer { id: init.producer_id, epoch: init.producer_epoch, base_sequence: 0 };
    let written = produce(Some("payer"), "orders", 0, batch_of(&["x"], Some(producer), true));
    let written = raw.call(&written, 12).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0, "{written:?}");
    assert_eq!(raw.call(&commit("readers", "orders"), 8).await.topics[0].partitions[0].error_code, 0);
    assert!(create(&mut raw, acls).await.iter().all(|code| *code == 0));
    drop(raw);
    broker.shutdown().await;
    closed(directory).await
}

/// What `headwater topic describe` shows of `orders`: groups and transactional ids.
async fn through(acls: &[AclBinding]) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = used(directory.path(), acls).await;
    let mut raw = Raw::connect(&broker).await;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(named("orders"))
        .with_configuration_keys(Some(vec![named("headwater.usage")]));
    let answer = raw.call(&DescribeConfigsRequestData::default().with_resources(vec![resource]), 4).await;
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
    let value = answer.results[0].configs[0].value.clone().expect("a value");
    let usage: serde_json::Value = serde_json::from_str(value.as_str()).expect("JSON");
    let all = |key: &str| -> Vec<String> {
        let uses = usage["uses"].as_array().expect("an array").iter();
        let names = uses.flat_map(|one| one[key].as_array().expect("an array").clone());
        names.map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(usage["uses"].as_array().expect("an array").len(), 2, "who writes and reads is told: {usage}");
    let found = (all("groups"), all("transactional_ids"));
    broker.shutdown().await;
    found
}

#[tokio::test]
async fn of_a_topics_users_only_those_groups_and_ids_are_named_that_may_be_described() {
    use ResourceType::{Cluster, Group, Topic, TransactionalId};
    let describe = |resource, name| allow(Operation::Describe, resource, name);
    let (none, readers, payer) = (Vec::<String>::new(), vec!["readers".to_owned()], vec!["payer".to_owned()]);
    let topic = describe(Topic, "orders");
    assert_eq!(through(std::slice::from_ref(&topic)).await, (none.clone(), none.clone()));
    assert_eq!(through(&[topic.clone(), describe(Group, "readers")]).await, (readers.clone(), none.clone()));
    assert_eq!(through(&[topic.clone(), describe(TransactionalId, "payer")]).await, (none.clone(), payer));
    // As ListGroups has it.
    assert_eq!(through(&[topic, describe(Cluster, CLUSTER_NAME)]).await, (readers, none));
}
