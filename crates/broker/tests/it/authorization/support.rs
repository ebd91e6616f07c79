//! A broker with an authorizer, once open to everybody to be filled, then closed.

use std::path::Path;

use headwater_broker::{AuthorizerConfig, Broker, Config};
use headwater_model::Principal;
use headwater_model::acl::{AclBinding, Operation, PatternType, Permission, ResourceType, WILDCARD};
use headwater_wire::KafkaString;
use headwater_wire::messages::*;

use crate::common::{Raw, config};

pub const TOPIC: i16 = 29;
pub const GROUP: i16 = 30;
pub const CLUSTER: i16 = 31;
pub const TRANSACTIONAL_ID: i16 = 53;

pub fn guarded(directory: &Path, super_users: &[&str]) -> Config {
    let super_users = super_users.iter().map(|name| Principal::user(*name)).collect();
    let authorizer = AuthorizerConfig { enabled: true, super_users, ..AuthorizerConfig::default() };
    Config { authorizer, ..config(directory) }
}

/// A broker on which whoever connects may do everything.
pub async fn open(directory: &Path) -> Broker {
    Broker::start(guarded(directory, &["ANONYMOUS"])).await.expect("it starts")
}

/// A broker on which only the rules count.
pub async fn closed(directory: &Path) -> Broker {
    Broker::start(guarded(directory, &["root"])).await.expect("it starts")
}

pub fn allow(operation: Operation, resource: ResourceType, name: &str) -> AclBinding {
    AclBinding {
        resource,
        name: name.to_owned(),
        pattern: PatternType::Literal,
        principal: "User:ANONYMOUS".to_owned(),
        host: WILDCARD.to_owned(),
        operation,
        permission: Permission::Allow,
    }
}

pub async fn create(raw: &mut Raw, acls: &[AclBinding]) -> Vec<i16> {
    let creation = |acl: &AclBinding| {
        AclCreation::default()
            .with_resource_type(acl.resource.code())
            .with_resource_name(acl.name.clone().into())
            .with_resource_pattern_type(acl.pattern.code())
            .with_principal(acl.principal.clone().into())
            .with_host(acl.host.clone().into())
            .with_operation(acl.operation.code())
            .with_permission_type(acl.permission.code())
    };
    let request = CreateAclsRequestData::default().with_creations(acls.iter().map(creation).collect());
    raw.call(&request, 3).await.results.iter().map(|result| result.error_code).collect()
}

/// The names of topics `orders` and `secrets` exist, with a record each, a group `readers` and an id `payer`.
pub async fn filled(directory: &Path, acls: &[AclBinding]) -> Broker {
    let broker = open(directory).await;
    let mut raw = Raw::connect(&broker).await;
    for topic in ["orders", "secrets"] {
        raw.create_topic(topic, 1).await;
        assert_eq!(raw.produce(topic, 0, crate::common::batch(&["x"])).await.error_code, 0);
        let committed = raw.call(&commit("readers", topic), 8).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0, "{committed:?}");
    }
    let init = InitProducerIdRequestData::default()
        .with_transactional_id(Some(named("payer")))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(-1)
        .with_producer_epoch(-1);
    assert_eq!(raw.call(&init, 4).await.error_code, 0);
    assert!(create(&mut raw, acls).await.iter().all(|code| *code == 0));
    drop(raw);
    broker.shutdown().await;
    closed(directory).await
}

pub fn commit(group: &str, topic: &str) -> OffsetCommitRequestData {
    let partition = headwater_wire::messages::offset_commit_request::OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(named("")));
    let topic = headwater_wire::messages::offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic.to_owned().into())
        .with_partitions(vec![partition]);
    OffsetCommitRequestData::default()
        .with_group_id(group.to_owned().into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

pub fn fetch_offsets(topics: Option<Vec<&str>>) -> OffsetFetchRequestData {
    use headwater_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
    let topic = |name: &str| {
        OffsetFetchRequestTopics::default().with_name(name.to_owned().into()).with_partition_indexes(vec![0])
    };
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(named("readers"))
        .with_topics(topics.map(|names| names.into_iter().map(topic).collect()));
    OffsetFetchRequestData::default().with_groups(vec![group])
}

pub fn metadata(topics: Option<&[&str]>) -> MetadataRequestData {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some((*name).to_owned().into()));
    MetadataRequestData::default()
        .with_topics(topics.map(|names| names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(true)
}

pub fn named(name: &'static str) -> KafkaString {
    KafkaString::from_static(name)
}
