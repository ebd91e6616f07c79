//! What administrators ask of a cluster, answered by a cluster of one.

use headwater_broker::{Broker, Config};
use headwater_wire::messages::api_versions_response::FinalizedFeatureKey;
use headwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::DescribeConfigsResult;
use headwater_wire::messages::describe_producers_request::TopicRequest;
use headwater_wire::messages::describe_producers_response::ProducerState;
use headwater_wire::messages::elect_leaders_request;
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid, Producer};

use crate::common::{self, Raw, batch_of, start};

fn t() -> KafkaString {
    KafkaString::from_static("t")
}

#[tokio::test]
async fn an_election_is_not_needed_where_the_only_replica_leads() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let of = |partitions| {
        elect_leaders_request::TopicPartitions::default().with_topic(t()).with_partitions(partitions)
    };
    let request = ElectLeadersRequestData::default().with_topic_partitions(Some(vec![of(vec![0, 7])]));
    let response = raw.call(&request, 2).await;
    let codes: Vec<_> =
        response.replica_election_results[0].partition_result.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [ErrorCode::ElectionNotNeeded.code(), ErrorCode::UnknownTopicOrPartition.code()]);
    let everything = raw.call(&ElectLeadersRequestData::default().with_topic_partitions(None), 2).await;
    assert_eq!((everything.error_code, everything.replica_election_results.len()), (0, 0));
    let illegal = raw.call(&request.with_election_type(5), 2).await;
    assert_eq!(illegal.error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn a_partition_can_only_be_assigned_to_the_only_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    for (replicas, code) in [
        (Some(vec![1]), ErrorCode::None),
        (Some(vec![1, 2]), ErrorCode::InvalidReplicaAssignment),
        (Some(Vec::new()), ErrorCode::InvalidReplicaAssignment),
        (None, ErrorCode::NoReassignmentInProgress),
    ] {
        let partition = ReassignablePartition::default().with_replicas(replicas.clone());
        let topic = ReassignableTopic::default().with_name(t()).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequestData::default().with_topics(vec![topic]);
        let response = raw.call(&request, 1).await;
        assert_eq!(response.responses[0].partitions[0].error_code, code.code(), "{replicas:?}");
    }
    let listed = raw.call(&ListPartitionReassignmentsRequestData::default().with_topics(None), 0).await;
    assert_eq!((listed.error_code, listed.topics.len()), (0, 0));
}

/// Writes a transaction's record without ending it.
async fn hang(raw: &mut Raw) -> Producer {
    let producer = raw.begin("hung", "t").await;
    let written = raw.produce_as(Some("hung"), "t", 0, batch_of(&["a", "b"], Some(producer), true)).await;
    assert_eq!(written.error_code, 0, "{written:?}");
    producer
}

async fn producers(raw: &mut Raw) -> Vec<ProducerState> {
    let topic = TopicRequest::default().with_name(t()).with_partition_indexes(vec![0]);
    let mut response = raw.call(&DescribeProducersRequestData::default().with_topics(vec![topic]), 0).await;
    let partition = response.topics.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, 0, "{partition:?}");
    partition.active_producers
}

async fn abort(raw: &mut Raw, producer: Producer) -> i16 {
    let topic = WritableTxnMarkerTopic::default().with_name(t()).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_topics(vec![topic]);
    let response = raw.call(&WriteTxnMarkersRequestData::default().with_markers(vec![marker]), 1).await;
    response.markers[0].topics[0].partitions[0].error_code
}

#[tokio::test]
async fn a_hung_transaction_is_seen_and_ended_by_a_marker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    raw.produce("t", 0, common::batch(&["before"])).await;
    let producer = hang(&mut raw).await;
    let seen = producers(&mut raw).await;
    assert_eq!((seen[0].producer_id, seen[0].producer_epoch), (producer.id, producer.epoch.into()));
    assert_eq!((seen[0].current_txn_start_offset, seen[0].last_sequence), (1, 1));
    assert_eq!(raw.fetch("t", 0, 0, true).await.last_stable_offset, 1);

    assert_eq!(abort(&mut raw, producer).await, 0);
    assert_eq!(producers(&mut raw).await[0].current_txn_start_offset, -1);
    assert_eq!(raw.fetch("t", 0, 0, true).await.last_stable_offset, 4);
    assert_eq!(raw.values("t", 0, true).await, ["before"]);
}

#[tokio::test]
async fn every_partition_of_a_marker_has_its_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    hang(&mut raw).await;
    let producer = hang(&mut raw).await;
    let topic = |name: &'static str, partitions: &[i32]| {
        WritableTxnMarkerTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_partition_indexes(partitions.to_vec())
    };
    let marker = |epoch: i16, topics| {
        WritableTxnMarker::default()
            .with_producer_id(producer.id)
            .with_producer_epoch(epoch)
            .with_topics(topics)
    };
    let markers = vec![
        marker(producer.epoch, vec![topic("other", &[0]), topic("t", &[7, 0])]),
        marker(producer.epoch - 1, vec![topic("t", &[9, 0])]),
    ];
    let response = raw.call(&WriteTxnMarkersRequestData::default().with_markers(markers), 1).await;
    let topics = response.markers.iter().flat_map(|marker| &marker.topics);
    let codes: Vec<_> =
        topics.flat_map(|topic| &topic.partitions).map(|one| ErrorCode::from(one.error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [unknown, unknown, ErrorCode::None, unknown, ErrorCode::InvalidProducerEpoch]);
}

#[tokio::test]
async fn a_marker_of_an_epoch_that_has_ended_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let first = hang(&mut raw).await;
    let second = hang(&mut raw).await;
    assert!(second.epoch > first.epoch);
    assert_eq!(abort(&mut raw, first).await, ErrorCode::InvalidProducerEpoch.code());
    assert!(producers(&mut raw).await[0].current_txn_start_offset >= 0, "the second is open still");
}

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;

#[tokio::test]
async fn no_broker_can_be_taken_out_of_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (id, expected) in [
        (1, ErrorCode::InvalidRequest),
        (7, ErrorCode::BrokerIdNotRegistered),
        (-1, ErrorCode::BrokerIdNotRegistered),
    ] {
        let answer = raw.call(&UnregisterBrokerRequestData::default().with_broker_id(id), 0).await;
        assert_eq!(ErrorCode::from(answer.error_code), expected, "{id}");
        assert!(answer.error_message.is_some_and(|message| message.as_str().contains("only")), "{id}");
    }
    raw.create_topic("t", 1).await;
}

fn setting(name: &str, level: i16, upgrade_type: i8) -> UpdateFeaturesRequestData {
    let update = FeatureUpdateKey::default()
        .with_feature(name.to_owned().into())
        .with_max_version_level(level)
        .with_upgrade_type(upgrade_type);
    UpdateFeaturesRequestData::default().with_feature_updates(vec![update])
}

/// The epoch of the features, and the level of `transaction.version`.
async fn transaction_version(raw: &mut Raw) -> (i64, i16) {
    let answer = raw.call(&crate::common::api_versions(), 4).await;
    let level = |key: &FinalizedFeatureKey| key.name.as_str() == "transaction.version";
    let level =
        answer.finalized_features.iter().find(|key| level(key)).map_or(0, |key| key.max_version_level);
    (answer.finalized_features_epoch, level)
}

#[tokio::test]
async fn the_version_of_transactions_goes_down_and_up_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let (epoch, level) = transaction_version(&mut raw).await;
    assert_eq!(level, 2);
    let dry = setting("transaction.version", 1, SAFE_DOWNGRADE).with_validate_only(true);
    assert_eq!(raw.call(&dry, 1).await.error_code, 0);
    assert_eq!(transaction_version(&mut raw).await, (epoch, 2), "a dry run changes nothing");
    for (n, (level, way)) in [(1, SAFE_DOWNGRADE), (0, 3), (1, UPGRADE)].into_iter().enumerate() {
        let answer = raw.call(&setting("transaction.version", level, way), 1 + (n % 2) as i16).await;
        assert_eq!(answer.error_code, 0, "{answer:?}");
        assert_eq!(transaction_version(&mut raw).await, (epoch + 1 + n as i64, level));
    }
    drop(raw);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(transaction_version(&mut raw).await, (epoch + 3, 1));
    let supported = raw.call(&crate::common::api_versions(), 4).await.supported_features;
    let range = supported.iter().find(|key| key.name.as_str() == "transaction.version").unwrap();
    assert_eq!((range.min_version, range.max_version), (0, 2));
    let readable = raw.call(&crate::common::api_versions(), 3).await.supported_features;
    let names: Vec<_> = readable.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["metadata.version"], "older clients cannot read of a feature that begins at 0");
    broker.shutdown().await;
}

#[tokio::test]
async fn what_no_feature_can_be_set_to_is_refused_for_all_of_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (name, level, way, words) in [
        ("transaction.version", 3, UPGRADE, "levels 0 to 2"),
        ("transaction.version", 1, UPGRADE, "is a downgrade"),
        ("transaction.version", 1, 0, "neither"),
        ("group.version", 0, SAFE_DOWNGRADE, "stays at 1"),
        ("metadata.version", 29, SAFE_DOWNGRADE, "stays at 30"),
        ("no.such.version", 1, UPGRADE, "no such feature"),
    ] {
        let mut request = setting("transaction.version", 0, SAFE_DOWNGRADE);
        request.feature_updates.extend(setting(name, level, way).feature_updates);
        for version in [1, 2] {
            let answer = raw.call(&request, version).await;
            assert_eq!(answer.error_code, ErrorCode::InvalidUpdateVersion.code(), "{name} {level}");
            let message = answer.error_message.unwrap_or_default().to_string();
            assert!(message.contains(name) && message.contains(words), "{message}");
        }
        assert_eq!(transaction_version(&mut raw).await.1, 2, "all or nothing");
    }
    // As `kafka-features upgrade --release-version 4.3` asks for all of them.
    let mut release = setting("transaction.version", 2, UPGRADE);
    for (name, level) in [("metadata.version", 30), ("kraft.version", 1), ("group.version", 1)] {
        release.feature_updates.extend(setting(name, level, UPGRADE).feature_updates);
    }
    assert_eq!(raw.call(&release, 2).await.error_code, 0, "as it is already");
}

/// KIP-919: an administrator that was given brokers where it asks for controllers is told what is wrong.
#[tokio::test]
async fn who_asks_a_broker_for_controllers_is_told_that_it_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (kind, code) in [
        (1, ErrorCode::None),
        (2, ErrorCode::MismatchedEndpointType),
        (3, ErrorCode::UnsupportedEndpointType),
    ] {
        let asked = DescribeClusterRequestData::default().with_endpoint_type(kind);
        let told = raw.call(&asked, 1).await;
        let has_reason = told.error_message.is_some();
        assert_eq!((told.error_code, has_reason), (code.code(), kind != 1), "{kind}");
    }
}

#[tokio::test]
async fn clients_are_told_to_send_no_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let first = raw.call(&GetTelemetrySubscriptionsRequestData::default(), 0).await;
    assert!(first.error_code == 0 && !first.client_instance_id.is_nil(), "{first:?}");
    assert!(first.requested_metrics.is_empty());
    let again =
        GetTelemetrySubscriptionsRequestData::default().with_client_instance_id(first.client_instance_id);
    assert_eq!(raw.call(&again, 0).await.client_instance_id, first.client_instance_id);
    let push = PushTelemetryRequestData::default()
        .with_client_instance_id(first.client_instance_id)
        .with_subscription_id(first.subscription_id);
    assert_eq!(raw.call(&push, 0).await.error_code, 0);
    let stale = raw.call(&push.with_subscription_id(first.subscription_id + 1), 0).await;
    assert_eq!(stale.error_code, ErrorCode::UnknownSubscriptionId.code());
}

#[tokio::test]
async fn delegation_tokens_are_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    // Nobody knows who asks; who has said so is told that they are disabled.
    let code = ErrorCode::DelegationTokenRequestNotAllowed.code();
    assert_eq!(raw.call(&CreateDelegationTokenRequestData::default(), 3).await.error_code, code);
    assert_eq!(raw.call(&DescribeDelegationTokenRequestData::default(), 3).await.error_code, code);
}

#[tokio::test]
async fn more_than_one_replica_is_refused_with_the_number_of_brokers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let topic = CreatableTopic::default().with_name(t()).with_num_partitions(1).with_replication_factor(3);
    let response = raw.call(&CreateTopicsRequestData::default().with_topics(vec![topic]), 5).await;
    assert_eq!(response.topics[0].error_code, ErrorCode::InvalidReplicationFactor.code());
    let message = response.topics[0].error_message.as_ref().unwrap().as_str();
    assert!(message.contains("there is 1 broker"), "{message}");
}

#[tokio::test]
async fn replicas_can_only_be_assigned_as_they_are_and_to_each_new_partition_once() {
    use headwater_wire::messages::create_partitions_request::{
        CreatePartitionsAssignment, CreatePartitionsTopic,
    };
    use headwater_wire::messages::create_topics_request::CreatableReplicaAssignment;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let (fine, misassigned) = (ErrorCode::None, ErrorCode::InvalidReplicaAssignment);
    let told_twice = ErrorCode::InvalidRequest;
    for (name, indexes, node, partitions, expected) in [
        ("gap", &[1][..], 1, -1, misassigned),
        ("doubled", &[0, 0], 1, -1, misassigned),
        ("elsewhere", &[0], 9, -1, misassigned),
        ("counted", &[0], 1, 1, told_twice),
        ("right", &[1, 0], 1, -1, fine),
        ("right", &[1], 9, 1, ErrorCode::TopicAlreadyExists),
        ("not legal", &[1], 9, 1, ErrorCode::InvalidTopicException),
    ] {
        let assigned = indexes.iter().map(|index| {
            CreatableReplicaAssignment::default().with_partition_index(*index).with_broker_ids(vec![node])
        });
        let topic = CreatableTopic::default()
            .with_name(name.to_owned().into())
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_assignments(assigned.collect());
        let request = CreateTopicsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
        let answer = raw.call(&request, 7).await;
        assert_eq!(ErrorCode::from(answer.topics[0].error_code), expected, "{name}");
    }
    for (count, nodes, expected) in [
        (4, &[1][..], misassigned),
        (3, &[9], misassigned),
        (2, &[], ErrorCode::InvalidPartitions),
        (3, &[1], fine),
    ] {
        let assigned =
            nodes.iter().map(|node| CreatePartitionsAssignment::default().with_broker_ids(vec![*node]));
        let topic = CreatePartitionsTopic::default()
            .with_name(KafkaString::from_static("right"))
            .with_count(count)
            .with_assignments(Some(assigned.collect()));
        let request = CreatePartitionsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
        let answer = raw.call(&request, 3).await;
        assert_eq!(ErrorCode::from(answer.results[0].error_code), expected, "{count}");
    }
}

#[tokio::test]
async fn acks_all_is_refused_where_more_replicas_must_be_in_sync_than_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let config = create_topics_request::CreatableTopicConfig::default()
        .with_name(KafkaString::from_static("min.insync.replicas"))
        .with_value(Some(KafkaString::from_static("2")));
    let topic = CreatableTopic::default()
        .with_name(t())
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let created = raw.call(&CreateTopicsRequestData::default().with_topics(vec![topic]), 5).await;
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    let request = common::produce(None, "t", 0, common::batch(&["v"]));
    for (acks, code) in [(-1, ErrorCode::NotEnoughReplicas), (1, ErrorCode::None)] {
        let response = raw.call(&request.clone().with_acks(acks), 9).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, code.code(), "acks={acks}");
    }
}

async fn configs(raw: &mut Raw, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(name.to_owned().into())
        .with_configuration_keys(None);
    let request = DescribeConfigsRequestData::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    raw.call(&request, 4).await.results.remove(0)
}

#[tokio::test]
async fn the_brokers_configuration_has_types_sources_and_the_defaults_of_topics() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let of_broker = configs(&mut raw, 4, "1").await;
    let entry = |name: &str| of_broker.configs.iter().find(|entry| entry.name.as_str() == name).unwrap();
    let retention = entry("log.retention.ms");
    assert_eq!((retention.config_type, retention.config_source, retention.read_only), (5, 5, false));
    assert_eq!(retention.value.as_ref().unwrap().as_str(), "604800000");
    let at_start = entry("auto.create.topics.enable");
    assert_eq!((at_start.config_type, at_start.read_only), (1, true));
    assert!(!entry("log.dirs").documentation.as_ref().unwrap().is_empty());
    let shown = |name: &str| {
        let entry = entry(name);
        (entry.value.as_ref().map(|value| value.as_str().to_owned()), entry.config_type, entry.config_source)
    };
    assert_eq!(shown("num.partitions"), (Some("1".to_owned()), 3, 5));
    assert_eq!(shown("ssl.keystore.location"), (None, 2, 5), "nothing is not the empty text");
    assert_eq!(shown("ssl.keystore.password"), (None, 9, 5));
    assert_eq!(shown("sasl.oauthbearer.jwks.endpoint.refresh.ms"), (Some("3600000".to_owned()), 5, 5));
    assert_eq!(shown("listeners"), (Some("PLAINTEXT://127.0.0.1:0".to_owned()), 7, 4), "as it was started");
    assert_eq!(shown("remote.log.storage.system.enable"), (Some("false".to_owned()), 1, 5));
    assert_eq!(shown("create.topic.policy.class.name"), (None, 8, 5));
    assert!(entry("group.consumer.assignors").read_only);
    let names: Vec<_> = of_broker.configs.iter().map(|entry| entry.name.as_str()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");

    let of_topic = configs(&mut raw, 2, "t").await;
    let policy = of_topic.configs.iter().find(|entry| entry.name.as_str() == "cleanup.policy").unwrap();
    let synonyms: Vec<_> = policy.synonyms.iter().map(|synonym| synonym.name.as_str()).collect();
    assert_eq!(synonyms, ["log.cleanup.policy"]);
}

#[tokio::test]
async fn resources_that_nothing_is_set_on_are_described_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (kind, name) in [(4, ""), (8, "1")] {
        let described = configs(&mut raw, kind, name).await;
        assert_eq!((described.error_code, described.configs.len()), (0, 0), "{kind} {name}");
    }
    assert_eq!(configs(&mut raw, 4, "7").await.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(configs(&mut raw, 99, "x").await.error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn the_log_directory_says_how_large_its_file_system_is() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let described = raw.call(&DescribeLogDirsRequestData::default().with_topics(None), 5).await;
    let only = &described.results[0];
    assert_eq!(only.log_dir.as_str(), dir.path().display().to_string());
    assert!(0 < only.usable_bytes && only.usable_bytes <= only.total_bytes, "{only:?}");
}

#[tokio::test]
async fn who_moves_partitions_to_several_directories_is_answered_once_for_a_topic() {
    use headwater_wire::messages::alter_replica_log_dirs_request::{
        AlterReplicaLogDir, AlterReplicaLogDirTopic,
    };
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let to = |path: &str, partitions| {
        let topic = AlterReplicaLogDirTopic::default().with_name(t()).with_partitions(partitions);
        AlterReplicaLogDir::default().with_path(KafkaString::from(path.to_owned())).with_topics(vec![topic])
    };
    let ours = dir.path().display().to_string();
    let dirs = vec![to("/nowhere", vec![1, 8]), to(&ours, vec![0, 9])];
    let answer = raw.call(&AlterReplicaLogDirsRequestData::default().with_dirs(dirs), 2).await;
    assert_eq!(answer.results.len(), 1, "{answer:?}");
    let told = answer.results[0].partitions.iter().map(|one| (one.partition_index, one.error_code));
    let (missing, unknown) = (ErrorCode::LogDirNotFound, ErrorCode::UnknownTopicOrPartition);
    let expected = [(1, missing.code()), (8, missing.code()), (0, 0), (9, unknown.code())];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

const CLIENT_METRICS: i8 = 16;

async fn subscribe(raw: &mut Raw, name: &str, configs: &[(&str, Option<&str>)]) -> i16 {
    use headwater_wire::messages::incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig,
    };
    let config = |(key, value): &(&str, Option<&str>)| {
        AlterableConfig::default()
            .with_name((*key).to_owned().into())
            .with_config_operation(i8::from(value.is_none()))
            .with_value(value.map(|value| value.to_owned().into()))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(name.to_owned().into())
        .with_configs(configs.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    raw.call(&request, 1).await.responses[0].error_code
}

async fn subscriptions(raw: &mut Raw) -> Vec<String> {
    let request = ListConfigResourcesRequestData::default().with_resource_types(vec![CLIENT_METRICS]);
    let listed = raw.call(&request, 1).await.config_resources;
    listed.iter().map(|resource| resource.resource_name.to_string()).collect()
}

#[tokio::test]
async fn subscriptions_to_client_metrics_are_kept_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let set = [("interval.ms", Some("60000")), ("match", Some("client_id=app-.*")), ("metrics", Some("*"))];
    assert_eq!(subscribe(&mut raw, "all", &set).await, 0);
    let invalid = ErrorCode::InvalidConfig.code();
    for wrong in [("interval.ms", Some("99")), ("match", Some("nobody=x")), ("nonsense", Some("x"))] {
        assert_eq!(subscribe(&mut raw, "all", &[wrong]).await, invalid, "{wrong:?}");
    }
    assert_eq!(subscribe(&mut raw, "", &set).await, ErrorCode::InvalidRequest.code());
    drop(raw);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert_eq!(subscriptions(&mut raw).await, ["all"]);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(KafkaString::from_static("all"))
        .with_configuration_keys(None);
    let described = raw.call(&DescribeConfigsRequestData::default().with_resources(vec![resource]), 4).await;
    let shown = described.results[0].configs.iter().map(|one| {
        (one.name.to_string(), one.value.clone().unwrap_or_default().to_string(), one.config_source)
    });
    let shown: Vec<_> = shown.collect();
    let expected = [("interval.ms", "60000", 7), ("match", "client_id=app-.*", 7), ("metrics", "*", 7)];
    assert_eq!(shown, expected.map(|(name, value, source)| (name.to_owned(), value.to_owned(), source)));
    let none = set.map(|(name, _)| (name, None));
    assert_eq!(subscribe(&mut raw, "all", &none).await, 0);
    assert!(subscriptions(&mut raw).await.is_empty());
    broker.shutdown().await;
}

#[tokio::test]
async fn records_of_what_is_only_compacted_cannot_be_deleted() {
    use headwater_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for (name, policy, code) in [
        ("compacted", "compact", ErrorCode::PolicyViolation),
        ("both", "compact,delete", ErrorCode::None),
        ("deleted", "delete", ErrorCode::None),
    ] {
        let config = CreatableTopicConfig::default()
            .with_name(KafkaString::from_static("cleanup.policy"))
            .with_value(Some(KafkaString::from_static(policy)));
        let topic = CreatableTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(vec![config]);
        raw.call(&CreateTopicsRequestData::default().with_topics(vec![topic]), 5).await;
        let topic = DeleteRecordsTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_partitions(vec![DeleteRecordsPartition::default().with_offset(0)]);
        let deleted = raw.call(&DeleteRecordsRequestData::default().with_topics(vec![topic]), 2).await;
        assert_eq!(deleted.topics[0].partitions[0].error_code, code.code(), "{name}");
    }
    broker.shutdown().await;
}

/// A producer waits for a topic that is not there, and not for one that cannot be.
#[tokio::test]
async fn a_topic_that_cannot_be_is_told_from_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { auto_create_topics: false, ..common::config(dir.path()) };
    let broker = Broker::start(config).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let named = |name| {
        metadata_request::MetadataRequestTopic::default().with_name(Some(KafkaString::from_static(name)))
    };
    let topics = vec![named("orders"), named("not legal")];
    let told = raw.call(&MetadataRequestData::default().with_topics(Some(topics)), 9).await;
    let codes: Vec<_> = told.topics.iter().map(|topic| topic.error_code).collect();
    let expected = [ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException];
    assert_eq!(codes, expected.map(|code| code.code()));
}

/// Who has mixed up names and ids may have a topic in mind that is not the one that would be gone.
#[tokio::test]
async fn no_topic_is_deleted_where_it_is_not_clear_which_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for name in ["both", "twice", "id-twice", "name-and-id", "once"] {
        raw.create_topic(name, 1).await;
    }
    let there = raw.call(&MetadataRequestData::default().with_topics(None), 12).await.topics;
    let id = |name: &str| {
        let named = |topic: &&metadata_response::MetadataResponseTopic| {
            topic.name == Some(KafkaString::from(name.to_owned()))
        };
        there.iter().find(named).unwrap().topic_id
    };
    let named = |name: &'static str| {
        delete_topics_request::DeleteTopicState::default().with_name(Some(KafkaString::from_static(name)))
    };
    let by_id = |name: &str| delete_topics_request::DeleteTopicState::default().with_topic_id(id(name));
    let request = DeleteTopicsRequestData::default().with_timeout_ms(1000).with_topics(vec![
        delete_topics_request::DeleteTopicState::default(),
        named("both").with_topic_id(id("once")),
        named("twice"),
        named("twice"),
        by_id("id-twice"),
        by_id("id-twice"),
        by_id("id-twice"),
        named("name-and-id"),
        by_id("name-and-id"),
        named("once"),
    ]);
    let answer = raw.call(&request, 6).await;
    let told: Vec<_> = answer
        .responses
        .iter()
        .map(|topic| {
            let name = topic.name.as_ref().map(KafkaString::as_str);
            (name, topic.topic_id, topic.error_code, topic.error_message.is_some())
        })
        .collect();
    let (invalid, none) = (ErrorCode::InvalidRequest.code(), KafkaUuid::default());
    let expected = [
        (Some("once"), id("once"), 0, false),
        (None, none, invalid, true),
        (Some("both"), id("once"), invalid, true),
        (Some("twice"), none, invalid, true),
        (None, id("id-twice"), invalid, true),
        (Some("name-and-id"), id("name-and-id"), invalid, true),
    ];
    assert_eq!(told, expected);
    let left = raw.call(&MetadataRequestData::default().with_topics(None), 12).await.topics;
    assert_eq!(left.len(), there.len() - 1);
    // Older clients know names only.
    let names = ["twice", "twice", "both"].map(KafkaString::from_static).to_vec();
    let request = DeleteTopicsRequestData::default().with_timeout_ms(1000).with_topic_names(names);
    let codes = raw.call(&request, 5).await.responses.into_iter().map(|topic| topic.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [0, invalid]);
}

#[tokio::test]
async fn a_topic_that_is_named_twice_is_neither_made_nor_grown_and_answered_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let wanted = |name: &'static str, partitions| {
        create_topics_request::CreatableTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
    };
    let topics = vec![wanted("a", 1), wanted("b", 1), wanted("a", 2), wanted("a", 1)];
    let made = raw.call(&CreateTopicsRequestData::default().with_topics(topics), 7).await;
    let told: Vec<_> = made.topics.iter().map(|topic| (topic.name.as_str(), topic.error_code)).collect();
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(told, [("b", 0), ("a", invalid)]);
    raw.create_topic("a", 1).await;
    let grown = |name: &'static str, count| {
        create_partitions_request::CreatePartitionsTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_count(count)
    };
    let topics = vec![grown("a", 2), grown("b", 2), grown("a", 3)];
    let told = raw.call(&CreatePartitionsRequestData::default().with_topics(topics), 3).await;
    let told: Vec<_> = told.results.iter().map(|topic| (topic.name.as_str(), topic.error_code)).collect();
    assert_eq!(told, [("b", 0), ("a", invalid)]);
}

#[tokio::test]
async fn one_request_makes_no_more_than_ten_thousand_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let topic = |name| {
        create_topics_request::CreatableTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_num_partitions(6_000)
            .with_replication_factor(1)
    };
    let both = CreateTopicsRequestData::default().with_topics(vec![topic("a"), topic("b")]);
    let made = raw.call(&both.with_timeout_ms(1000), 5).await;
    let codes: Vec<_> = made.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::PolicyViolation.code(); 2], "{made:?}");
    raw.create_topic("a", 1).await;
    raw.create_topic("b", 1).await;
    let grown = |name| {
        create_partitions_request::CreatePartitionsTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_count(6_000)
    };
    let both = CreatePartitionsRequestData::default().with_topics(vec![grown("a"), grown("b")]);
    let told = raw.call(&both.with_timeout_ms(1000), 1).await;
    let codes: Vec<_> = told.results.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::PolicyViolation.code(); 2], "{told:?}");
    // Nor does it name more topics, which would each be looked for among all others.
    let nothing = |at: i32| {
        create_topics_request::CreatableTopic::default().with_name(KafkaString::from(format!("t{at}")))
    };
    let many = CreateTopicsRequestData::default().with_topics((0..10_001).map(nothing).collect());
    let told = raw.call(&many.with_timeout_ms(1000), 5).await;
    assert!(told.topics.iter().all(|topic| topic.error_code == ErrorCode::PolicyViolation.code()));
}

#[tokio::test]
async fn what_is_made_on_use_is_no_more_at_once_than_a_request_may_make() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { default_partitions: 5_000, ..common::config(dir.path()) };
    let broker = Broker::start(config).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    let named = |name| {
        metadata_request::MetadataRequestTopic::default().with_name(Some(KafkaString::from_static(name)))
    };
    let topics = vec![named("a"), named("b"), named("c")];
    let wanted = MetadataRequestData::default().with_topics(Some(topics));
    for last in [ErrorCode::UnknownTopicOrPartition, ErrorCode::None] {
        let told = raw.call(&wanted, 9).await;
        let codes: Vec<_> = told.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 0, last.code()]);
    }
}
