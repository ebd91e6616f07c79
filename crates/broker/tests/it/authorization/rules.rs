//! What a rule opens, and no more.

use headwater_model::acl::{
    AclBinding, CLUSTER_NAME, EVERYONE, Operation, PatternType, Permission, ResourceType,
};
use headwater_wire::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use headwater_wire::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use headwater_wire::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use headwater_wire::messages::*;

use super::support::*;
use crate::common::{Raw, batch, fetch, start};

#[tokio::test]
async fn who_may_read_a_topic_fetches_it_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = filled(directory.path(), &[allow(Operation::Read, ResourceType::Topic, "orders")]).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.values("orders", 0, false).await, ["x"]);
    let refused = raw.call(&fetch("secrets", 0, 0), 11).await;
    assert_eq!(refused.responses[0].partitions[0].error_code, TOPIC);
    assert_eq!(raw.produce("orders", 0, batch(&["y"])).await.error_code, TOPIC, "reading is not writing");
    let all = raw.call(&metadata(None), 9).await;
    let names: Vec<_> =
        all.topics.iter().map(|topic| topic.name.clone().expect("a name").to_string()).collect();
    assert_eq!(names, ["orders"], "what may not be described is not listed");
    let named = raw.call(&metadata(Some(&["orders", "secrets", "nothing"])), 9).await;
    let codes: Vec<_> = named.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, TOPIC, TOPIC], "nobody learns which topics there are");
    broker.shutdown().await;
}

/// As in Apache Kafka, and as CREATE of the cluster is that of any topic.
#[tokio::test]
async fn who_may_delete_of_the_cluster_deletes_any_topic() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [allow(Operation::Delete, ResourceType::Cluster, CLUSTER_NAME)];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let delete = DeleteTopicsRequestData::default().with_topic_names(vec![named("orders")]);
    let told = raw.call(&delete, 5).await;
    assert_eq!(told.responses[0].error_code, 0, "{told:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_deny_wins_over_a_prefix_that_allows() {
    let directory = tempfile::tempdir().expect("a directory");
    let prefix = |name: &str, permission| AclBinding {
        pattern: PatternType::Prefixed,
        permission,
        principal: EVERYONE.to_owned(),
        ..allow(Operation::All, ResourceType::Topic, name)
    };
    let rules =
        [prefix("or", Permission::Allow), prefix("s", Permission::Allow), prefix("sec", Permission::Deny)];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.produce("orders", 0, batch(&["y"])).await.error_code, 0);
    assert_eq!(raw.produce("secrets", 0, batch(&["y"])).await.error_code, TOPIC);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_topic_is_made_on_use_only_by_who_may_create_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let of = |operation, name| allow(operation, ResourceType::Topic, name);
    let rules = [of(Operation::Write, "a"), of(Operation::Write, "b"), of(Operation::Create, "b")];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let asked = raw.call(&metadata(Some(&["a", "b"])), 9).await;
    let codes: Vec<_> = asked.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [TOPIC, 0]);
    let made = |name: &'static str| {
        let topic = CreatableTopic::default()
            .with_name(name.to_owned().into())
            .with_num_partitions(2)
            .with_replication_factor(1);
        CreateTopicsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000)
    };
    assert_eq!(raw.call(&made("a"), 5).await.topics[0].error_code, TOPIC);
    let hidden = CreateTopicsRequestData { validate_only: true, ..made("bb") };
    assert_eq!(raw.call(&hidden, 5).await.topics[0].error_code, TOPIC);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_new_topic_hides_its_configuration_from_who_may_not_see_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker =
        filled(directory.path(), &[allow(Operation::Create, ResourceType::Cluster, CLUSTER_NAME)]).await;
    let mut raw = Raw::connect(&broker).await;
    let topic =
        CreatableTopic::default().with_name(named("new")).with_num_partitions(2).with_replication_factor(1);
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
    let created = raw.call(&request, 7).await.topics.remove(0);
    assert_eq!((created.error_code, created.topic_config_error_code, created.num_partitions), (0, TOPIC, -1));
    broker.shutdown().await;
}

#[tokio::test]
async fn offsets_are_shown_and_committed_for_topics_that_may_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let of = |resource, name| allow(Operation::Read, resource, name);
    let rules = [of(ResourceType::Group, "readers"), of(ResourceType::Topic, "orders")];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.call(&commit("readers", "orders"), 8).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(raw.call(&commit("readers", "secrets"), 8).await.topics[0].partitions[0].error_code, TOPIC);
    assert_eq!(raw.call(&commit("others", "orders"), 8).await.topics[0].partitions[0].error_code, GROUP);
    let group = |response: OffsetFetchResponseData| response.groups.into_iter().next().expect("a group");
    let all = group(raw.call(&fetch_offsets(None), 8).await);
    assert_eq!(all.topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["orders"]);
    let named = group(raw.call(&fetch_offsets(Some(vec!["orders", "secrets"])), 8).await);
    let shown: Vec<_> = named
        .topics
        .iter()
        .map(|topic| {
            (topic.name.as_str(), topic.partitions[0].error_code, topic.partitions[0].committed_offset)
        })
        .collect();
    assert_eq!(shown, [("orders", 0, 1), ("secrets", TOPIC, -1)]);
    broker.shutdown().await;
}

/// As in Apache Kafka, a topic that may not be used is refused as such, whether it exists or not.
#[tokio::test]
async fn offsets_of_share_groups_are_shown_and_set_for_topics_that_may_be_read() {
    const UNKNOWN_TOPIC: i16 = 3;
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [
        allow(Operation::Read, ResourceType::Group, "sharers"),
        allow(Operation::Delete, ResourceType::Group, "sharers"),
        allow(Operation::Read, ResourceType::Topic, "orders"),
        allow(Operation::Read, ResourceType::Topic, "nothing"),
    ];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let names = ["orders", "secrets", "hidden", "nothing"];
    let expected = [0, TOPIC, TOPIC, UNKNOWN_TOPIC];
    let topic = |name| {
        let partition = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(0);
        AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(named(name))
            .with_partitions(vec![partition])
    };
    let alter = AlterShareGroupOffsetsRequestData::default()
        .with_group_id(named("sharers"))
        .with_topics(names.map(topic).to_vec());
    let refused = alter.clone().with_topics(vec![topic("secrets")]);
    let refused = raw.call(&refused, 0).await;
    assert_eq!(
        (refused.error_code, refused.responses[0].partitions[0].error_code),
        (0, TOPIC),
        "no group yet"
    );
    let altered = raw.call(&alter, 0).await;
    let codes: Vec<_> = altered.responses.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!((altered.error_code, codes), (0, expected.to_vec()));
    let topic = |name| {
        DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(named(name)).with_partitions(vec![0])
    };
    let wanted = DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(named("sharers"))
        .with_topics(Some(names.map(topic).to_vec()));
    let describe = DescribeShareGroupOffsetsRequestData::default().with_groups(vec![wanted]);
    let described = raw.call(&describe, 0).await.groups.remove(0);
    let codes: Vec<_> = described.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!((described.error_code, codes), (0, expected.to_vec()));
    let topic = |name| DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(named(name));
    let delete = DeleteShareGroupOffsetsRequestData::default()
        .with_group_id(named("sharers"))
        .with_topics(names.map(topic).to_vec());
    let deleted = raw.call(&delete, 0).await;
    let codes: Vec<_> = deleted.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!((deleted.error_code, codes), (0, expected.to_vec()));
    broker.shutdown().await;
}

/// As in Apache Kafka, whose brokers asked for epochs before clients did.
#[tokio::test]
async fn who_acts_for_the_cluster_asks_for_epochs_and_for_the_coordinators_of_shares() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [allow(Operation::ClusterAction, ResourceType::Cluster, CLUSTER_NAME)];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let topic = |name| {
        OffsetForLeaderTopic::default()
            .with_topic(named(name))
            .with_partitions(vec![OffsetForLeaderPartition::default()])
    };
    let epoch = OffsetForLeaderEpochRequestData::default().with_topics(vec![topic("orders")]);
    let found = raw.call(&epoch, 4).await.topics.remove(0).partitions.remove(0);
    assert_eq!((found.error_code, found.end_offset), (0, 1));
    let find = FindCoordinatorRequestData::default()
        .with_key_type(2)
        .with_coordinator_keys(vec![named("readers:AAAAAAAAAAAAAAAAAAAAAA:0")]);
    assert_eq!(raw.call(&find, 6).await.coordinators[0].error_code, 0);
    assert_eq!(raw.call(&fetch("orders", 0, 0), 11).await.responses[0].partitions[0].error_code, TOPIC);
    broker.shutdown().await;
}

#[tokio::test]
async fn an_idempotent_producer_needs_a_topic_to_write_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = filled(directory.path(), &[allow(Operation::Write, ResourceType::Topic, "orders")]).await;
    let mut raw = Raw::connect(&broker).await;
    let init = InitProducerIdRequestData::default().with_producer_id(-1).with_producer_epoch(-1);
    assert_eq!(raw.call(&init, 4).await.error_code, 0);
    let transactional = init.with_transactional_id(Some(named("payer"))).with_transaction_timeout_ms(60_000);
    assert_eq!(raw.call(&transactional, 4).await.error_code, TRANSACTIONAL_ID);
    broker.shutdown().await;
}

/// As in Apache Kafka: an id tells nothing, and a name does.
#[tokio::test]
async fn a_topic_that_may_not_be_described_is_refused_by_its_id_and_not_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [
        allow(Operation::Alter, ResourceType::Cluster, CLUSTER_NAME),
        allow(Operation::Read, ResourceType::Topic, "orders"),
    ];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let id = raw.call(&metadata(Some(&["orders"])), 12).await.topics[0].topic_id;
    let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let by_id = MetadataRequestData::default().with_topics(Some(vec![topic]));
    let shown = raw.call(&by_id, 12).await.topics.remove(0);
    assert_eq!((shown.error_code, shown.name), (0, Some(named("orders"))));
    let of_topics = DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    raw.call(&DeleteAclsRequestData::default().with_filters(vec![of_topics]), 3).await;
    let refused = raw.call(&by_id, 12).await.topics.remove(0);
    assert_eq!((refused.error_code, refused.name, refused.topic_id), (TOPIC, None, id));
    let mut request = fetch("", 0, 0);
    request.topics[0].topic_id = id;
    assert_eq!(raw.call(&request, 13).await.responses[0].partitions[0].error_code, TOPIC);
    broker.shutdown().await;
}

#[tokio::test]
async fn rules_take_effect_at_once_and_outlive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let manage = allow(Operation::Alter, ResourceType::Cluster, CLUSTER_NAME);
    let broker = filled(directory.path(), &[manage]).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.produce("orders", 0, batch(&["y"])).await.error_code, TOPIC);
    let write = allow(Operation::Write, ResourceType::Topic, "orders");
    assert_eq!(create(&mut raw, std::slice::from_ref(&write)).await, [0]);
    assert_eq!(raw.produce("orders", 0, batch(&["y"])).await.error_code, 0);
    drop(raw);
    broker.shutdown().await;
    let broker = closed(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.produce("orders", 0, batch(&["y"])).await.error_code, 0);
    let any = DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    let deleted = raw.call(&DeleteAclsRequestData::default().with_filters(vec![any]), 3).await;
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 1, "{deleted:?}");
    assert_eq!(raw.produce("orders", 0, batch(&["y"])).await.error_code, TOPIC);
    broker.shutdown().await;
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused_one_by_one() {
    const INVALID: i16 = 42;
    let directory = tempfile::tempdir().expect("a directory");
    let broker = open(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let good = allow(Operation::Read, ResourceType::Topic, "orders");
    let wrong = [
        allow(Operation::Alter, ResourceType::Cluster, "mine"),
        allow(Operation::Read, ResourceType::Topic, ""),
        AclBinding { principal: "alice".to_owned(), ..good.clone() },
        good,
    ];
    assert_eq!(create(&mut raw, &wrong).await, [INVALID, INVALID, INVALID, 0]);
    let unknown =
        AclCreation::default().with_resource_type(1).with_resource_name(named("x")).with_operation(3);
    let answer = raw.call(&CreateAclsRequestData::default().with_creations(vec![unknown]), 2).await;
    assert_eq!(answer.results[0].error_code, INVALID, "ANY is for filters");
    let all = DescribeAclsRequestData::default()
        .with_resource_type_filter(1)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    for version in 1..=3 {
        let found = raw.call(&all, version).await;
        assert_eq!((found.error_code, found.resources.len()), (0, 1), "v{version}");
    }
    let malformed = DescribeAclsRequestData { operation: 99, ..all };
    assert_eq!(raw.call(&malformed, 3).await.error_code, INVALID);
    broker.shutdown().await;
}

#[tokio::test]
async fn without_an_authorizer_rules_are_refused_and_everything_is_allowed() {
    const SECURITY_DISABLED: i16 = 54;
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(
        create(&mut raw, &[allow(Operation::Read, ResourceType::Topic, "t")]).await,
        [SECURITY_DISABLED]
    );
    let all = DescribeAclsRequestData::default().with_resource_type_filter(1).with_pattern_type_filter(1);
    assert_eq!(raw.call(&all, 3).await.error_code, SECURITY_DISABLED);
    raw.create_topic("t", 1).await;
    assert_eq!(raw.produce("t", 0, batch(&["x"])).await.error_code, 0);
    broker.shutdown().await;
}

/// One that counts what it reads from a topic.
fn counting(source: &'static str) -> StreamsGroupHeartbeatRequestData {
    use headwater_wire::messages::streams_group_heartbeat_request::{Subtopology, TopicInfo, Topology};
    let subtopology = Subtopology::default()
        .with_subtopology_id(named("0"))
        .with_source_topics(vec![named(source)])
        .with_state_changelog_topics(vec![TopicInfo::default().with_name(named("changelog"))]);
    StreamsGroupHeartbeatRequestData::default()
        .with_group_id(named("counter"))
        .with_member_id(named("me"))
        .with_rebalance_timeout_ms(1_000)
        .with_topology(Some(Box::new(Topology::default().with_subtopologies(vec![subtopology]))))
        .with_active_tasks(Some(Vec::new()))
        .with_standby_tasks(Some(Vec::new()))
        .with_warmup_tasks(Some(Vec::new()))
        .with_process_id(Some(named("process")))
}

#[tokio::test]
async fn a_streams_application_gets_its_internal_topics_only_from_who_may_create_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [
        allow(Operation::Read, ResourceType::Group, "counter"),
        allow(Operation::Read, ResourceType::Topic, "orders"),
        allow(Operation::Describe, ResourceType::Topic, "changelog"),
    ];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(raw.call(&counting("secrets"), 0).await.error_code, TOPIC);
    let joined = raw.call(&counting("orders"), 0).await;
    assert_eq!(joined.error_code, 0, "{joined:?}");
    let told = format!("{:?}", joined.status);
    assert!(told.contains("Unauthorized to CREATE on topics changelog."), "{told}");
    drop(raw);
    broker.shutdown().await;
    let broker = open(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    create(&mut raw, &[allow(Operation::Create, ResourceType::Topic, "changelog")]).await;
    broker.shutdown().await;
    let broker = closed(directory.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let joined = raw.call(&counting("orders"), 0).await;
    assert!(!format!("{:?}", joined.status).contains("Unauthorized"), "{joined:?}");
    let beat = StreamsGroupHeartbeatRequestData::default()
        .with_group_id(named("counter"))
        .with_member_id(named("me"))
        .with_member_epoch(joined.member_epoch)
        .with_rebalance_timeout_ms(-1);
    let lives = raw.call(&beat, 0).await;
    assert_eq!(lives.error_code, 0, "{lives:?}");
    assert!(!format!("{:?}", lives.status).contains("missing"), "the topic is there: {lives:?}");
    broker.shutdown().await;
}

/// The topics that a member of group `g` is given that asks for every topic.
async fn matched(raw: &mut Raw, member: &str, epoch: i32) -> (i32, Option<usize>) {
    let beat = ConsumerGroupHeartbeatRequestData::default()
        .with_group_id(named("g"))
        .with_member_id(member.to_owned().into())
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_regex(Some(named("[^_].*")))
        .with_topic_partitions(Some(Vec::new()));
    let answer = raw.call(&beat, 1).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    (answer.member_epoch, answer.assignment.map(|assignment| assignment.topic_partitions.len()))
}

#[tokio::test]
async fn a_group_is_hidden_for_topics_that_may_not_be_described_and_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [
        allow(Operation::Read, ResourceType::Group, "g"),
        allow(Operation::Read, ResourceType::Topic, "orders"),
        allow(Operation::Alter, ResourceType::Cluster, CLUSTER_NAME),
    ];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(matched(&mut raw, "m", 0).await.1, Some(1));
    let describe = ConsumerGroupDescribeRequestData::default().with_group_ids(vec![named("g")]);
    let shown = raw.call(&describe, 1).await.groups.remove(0);
    assert_eq!((shown.error_code, shown.members.len()), (0, 1));
    let of_topics = DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    raw.call(&DeleteAclsRequestData::default().with_filters(vec![of_topics]), 3).await;
    let hidden = raw.call(&describe, 1).await.groups.remove(0);
    assert_eq!((hidden.error_code, hidden.members.len()), (TOPIC, 0));
    let why = hidden.error_message.expect("a message");
    assert!(why.as_str().contains("uses topics"), "{why:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn an_expression_matches_no_topic_that_its_member_may_not_describe() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = allow(Operation::Alter, ResourceType::Cluster, CLUSTER_NAME);
    let rules = [
        allow(Operation::Read, ResourceType::Group, "g"),
        allow(Operation::Read, ResourceType::Topic, "orders"),
        cluster,
    ];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let (epoch, topics) = matched(&mut raw, "m", 0).await;
    assert_eq!(topics, Some(1), "orders, and not secrets");
    let rule = allow(Operation::Describe, ResourceType::Topic, "secrets");
    assert_eq!(create(&mut raw, &[rule]).await, [0]);
    assert_eq!(matched(&mut raw, "m", epoch).await.1, Some(2), "a new rule is heard of");
    broker.shutdown().await;
}
