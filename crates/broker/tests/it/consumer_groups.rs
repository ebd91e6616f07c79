//! The consumer group protocol on the wire (KIP-848), also across a restart.

use headwater_broker::Broker;
use headwater_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use headwater_wire::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponseData;
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use headwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use headwater_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid};

use crate::common::{Raw, start};

const GROUP: i8 = 32;

fn word(text: &str) -> KafkaString {
    text.to_owned().into()
}

fn joining(member: &str) -> ConsumerGroupHeartbeatRequestData {
    ConsumerGroupHeartbeatRequestData::default()
        .with_group_id(word("g"))
        .with_member_id(word(member))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![word("orders")]))
        .with_topic_partitions(Some(Vec::new()))
}

fn beating(answer: &ConsumerGroupHeartbeatResponseData) -> ConsumerGroupHeartbeatRequestData {
    ConsumerGroupHeartbeatRequestData::default()
        .with_group_id(word("g"))
        .with_member_id(answer.member_id.clone().unwrap_or_default())
        .with_member_epoch(answer.member_epoch)
        .with_rebalance_timeout_ms(-1)
}

fn given(answer: &ConsumerGroupHeartbeatResponseData) -> Vec<(KafkaUuid, Vec<i32>)> {
    let topics = answer.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    topics.map(|topic| (topic.topic_id, topic.partitions.clone())).collect()
}

async fn joined(broker: &Broker, member: &str) -> (Raw, ConsumerGroupHeartbeatResponseData) {
    let mut raw = Raw::connect(broker).await;
    let answer = raw.call(&joining(member), 1).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    (raw, answer)
}

#[tokio::test]
async fn members_share_a_topic_and_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    Raw::connect(&broker).await.create_topic("orders", 4).await;
    let (mut one, first) = joined(&broker, "m1").await;
    let topic = given(&first)[0].0;
    assert_eq!(given(&first), [(topic, vec![0, 1, 2, 3])]);
    let (mut two, second) = joined(&broker, "m2").await;
    assert_eq!((given(&second), second.member_epoch), (vec![], 2));
    let told = one.call(&beating(&first), 1).await;
    let kept = given(&told);
    assert_eq!(kept[0].1.len(), 2);
    let kept = vec![TopicPartitions::default().with_topic_id(topic).with_partitions(kept[0].1.clone())];
    let revoked = one.call(&beating(&told).with_topic_partitions(Some(kept)), 1).await;
    assert_eq!((revoked.error_code, revoked.member_epoch), (0, 2));
    let second = two.call(&beating(&second), 1).await;
    assert_eq!(given(&second)[0].1.len(), 2);
    broker.shutdown().await;

    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for member in [&revoked, &second] {
        let answer = raw.call(&beating(member), 1).await;
        assert_eq!((answer.error_code, answer.member_epoch), (0, 2));
        assert!(answer.assignment.is_none(), "nothing new");
    }
    let describe = ConsumerGroupDescribeRequestData::default().with_group_ids(vec![word("g"), word("none")]);
    let described = raw.call(&describe, 1).await;
    let group = &described.groups[0];
    assert_eq!((group.group_state.as_str(), group.group_epoch, group.members.len()), ("Stable", 2, 2));
    assert_eq!((group.assignor_name.as_str(), group.members[0].member_type), ("uniform", 1));
    assert_eq!(group.members[0].assignment.topic_partitions[0].topic_name.as_str(), "orders");
    assert_eq!(group.members[0].subscribed_topic_regex, Some(word("")), "none, which is not null");
    assert_eq!(described.groups[1].error_code, ErrorCode::GroupIdNotFound.code());
    let listed =
        raw.call(&ListGroupsRequestData::default().with_types_filter(vec![word("Consumer")]), 5).await;
    assert_eq!((listed.groups.len(), listed.groups[0].group_type.as_str()), (1, "consumer"));
    let classic = DescribeGroupsRequestData::default().with_groups(vec![word("g")]);
    let described = raw.call(&classic, 6).await;
    assert_eq!(described.groups[0].error_code, ErrorCode::GroupIdNotFound.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn refusals_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (request, version, code) in [
        (joining("m").with_subscribed_topic_regex(Some(word("["))), 1, ErrorCode::InvalidRegularExpression),
        (joining("m").with_server_assignor(Some(word("best"))), 1, ErrorCode::UnsupportedAssignor),
        (joining(""), 1, ErrorCode::InvalidRequest),
        (joining("m").with_member_epoch(5), 0, ErrorCode::GroupIdNotFound),
    ] {
        let answer = raw.call(&request, version).await;
        assert_eq!(ErrorCode::from(answer.error_code), code);
        assert!(!answer.error_message.unwrap_or_default().as_str().is_empty());
    }
    let named = raw.call(&joining(""), 0).await;
    assert_eq!((named.error_code, named.member_id.unwrap().as_str().len()), (0, 36));
    broker.shutdown().await;
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_by_topic_id() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    Raw::connect(&broker).await.create_topic("orders", 1).await;
    let (mut raw, member) = joined(&broker, "m1").await;
    let (known, unknown) = (given(&member)[0].0, KafkaUuid::from_parts(1, 2));
    let topic = |id| {
        OffsetCommitRequestTopic::default().with_topic_id(id).with_partitions(vec![
            OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(42),
        ])
    };
    let commit = OffsetCommitRequestData::default()
        .with_group_id(word("g"))
        .with_member_id(word("m1"))
        .with_generation_id_or_member_epoch(member.member_epoch)
        .with_topics(vec![topic(known), topic(unknown)]);
    let committed = raw.call(&commit, 10).await;
    let codes: Vec<_> =
        committed.topics.iter().map(|topic| (topic.topic_id, topic.partitions[0].error_code)).collect();
    assert_eq!(codes, [(known, 0), (unknown, ErrorCode::UnknownTopicId.code())]);
    let stale = raw.call(&commit.clone().with_generation_id_or_member_epoch(9), 10).await;
    assert_eq!(stale.topics[0].partitions[0].error_code, ErrorCode::StaleMemberEpoch.code());
    let old = raw.call(&OffsetCommitRequestData { topics: vec![], ..commit.clone() }, 8).await;
    assert!(old.topics.is_empty());

    let asked = |id| OffsetFetchRequestTopics::default().with_topic_id(id).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(word("g"))
        .with_member_id(Some(word("m1")))
        .with_member_epoch(member.member_epoch);
    let fetch = |group| OffsetFetchRequestData::default().with_groups(vec![group]);
    let some = fetch(group.clone().with_topics(Some(vec![asked(known), asked(unknown)])));
    let fetched = raw.call(&some, 10).await;
    let offsets: Vec<_> = fetched.groups[0]
        .topics
        .iter()
        .map(|topic| (topic.topic_id, topic.partitions[0].committed_offset, topic.partitions[0].error_code))
        .collect();
    assert_eq!(offsets, [(known, 42, 0), (unknown, -1, ErrorCode::UnknownTopicId.code())]);
    let all = raw.call(&fetch(group.clone().with_topics(None)), 10).await;
    assert_eq!(all.groups[0].topics[0].topic_id, known);
    let by_name = raw.call(&fetch(group.clone().with_topics(None)), 9).await;
    assert_eq!(by_name.groups[0].topics[0].name.as_str(), "orders");
    let stale = raw.call(&fetch(group.with_member_epoch(7).with_topics(None)), 9).await;
    assert_eq!(stale.groups[0].error_code, ErrorCode::StaleMemberEpoch.code());
    broker.shutdown().await;
}

#[tokio::test]
async fn a_group_has_configurations_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let alter = |name: &str, value: &str| {
        let config = AlterableConfig::default().with_name(word(name)).with_value(Some(word(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(GROUP)
            .with_resource_name(word("g"))
            .with_configs(vec![config]);
        IncrementalAlterConfigsRequestData::default().with_resources(vec![resource])
    };
    let altered = raw.call(&alter("consumer.session.timeout.ms", "50000"), 1).await;
    assert_eq!(altered.responses[0].error_code, 0, "{:?}", altered.responses[0].error_message);
    let refused = raw.call(&alter("consumer.session.timeot.ms", "50000"), 1).await;
    assert_eq!(refused.responses[0].error_code, ErrorCode::InvalidConfig.code());
    let refused = raw.call(&alter("consumer.heartbeat.interval.ms", "1"), 1).await;
    assert_eq!(refused.responses[0].error_code, ErrorCode::InvalidConfig.code());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(word("g"))
        .with_configuration_keys(None);
    let describe = DescribeConfigsRequestData::default().with_resources(vec![resource]);
    let described = raw.call(&describe, 4).await;
    let shown: Vec<_> = described.results[0]
        .configs
        .iter()
        .filter(|config| config.name.as_str().starts_with("consumer."))
        .map(|config| (config.name.as_str(), config.value.clone().unwrap_or_default(), config.config_source))
        .collect();
    assert_eq!(
        shown,
        [
            ("consumer.assignment.interval.ms", word("0"), 5),
            ("consumer.heartbeat.interval.ms", word("5000"), 5),
            ("consumer.session.timeout.ms", word("50000"), 8)
        ]
    );
    broker.shutdown().await;
}

#[tokio::test]
async fn clients_learn_that_the_protocol_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let versions = raw.call(&crate::common::api_versions(), 4).await;
    let finalized: Vec<_> = versions
        .finalized_features
        .iter()
        .map(|feature| (feature.name.as_str(), feature.max_version_level))
        .collect();
    assert!(finalized.contains(&("group.version", 1)), "{finalized:?}");
    assert!(versions.api_keys.iter().any(|key| (key.api_key, key.max_version) == (68, 1)));
    broker.shutdown().await;
}
