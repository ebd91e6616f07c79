//! What every client meets: versions, order, and each API in each version that is offered.

use headwater_wire::messages::*;
use headwater_wire::{ApiKey, ErrorCode, KafkaString};

use crate::common::{self, Message, Raw, batch, produce, start};

async fn offered(raw: &mut Raw) -> Vec<ApiVersion> {
    raw.call(&common::api_versions(), 3).await.api_keys
}

/// Sends a request in every version on offer; the answer has to be whole and nothing else.
async fn in_every_version<M: Message>(raw: &mut Raw, offered: &[ApiVersion], request: impl Fn(i16) -> M) {
    let api = offered.iter().find(|api| api.api_key == M::KEY as i16).expect("it is offered");
    let oldest = if M::KEY == ApiKey::Produce { 3 } else { api.min_version };
    for version in oldest..=api.max_version {
        raw.call(&request(version), version).await;
    }
}

#[tokio::test]
async fn every_api_answers_in_every_version_it_offers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let all = offered(&mut raw).await;
    let t = || KafkaString::from_static("t");
    let g = || KafkaString::from_static("g");
    let mut seen = Vec::new();
    macro_rules! each {
        ($($request:ident, |$version:ident| $build:expr;)*) => {$(
            in_every_version::<$request>(&mut raw, &all, |$version| $build).await;
            seen.push($request::KEY as i16);
        )*};
    }
    each! {
        ProduceRequestData, |version| {
            let mut request = produce(None, "t", 0, batch(&["v"]));
            if version >= 13 {
                request.topic_data[0].name = KafkaString::default();
            }
            request
        };
        FetchRequestData, |version| {
            let mut request = common::fetch("t", 0, 0);
            if version >= 13 {
                request.topics[0].topic = KafkaString::default();
            }
            request
        };
        ListOffsetsRequestData, |_v| ListOffsetsRequestData::default().with_replica_id(-1).with_topics(vec![
            ListOffsetsTopic::default().with_name(t()).with_partitions(vec![
                ListOffsetsPartition::default().with_timestamp(-1),
                ListOffsetsPartition::default().with_timestamp(-2),
                ListOffsetsPartition::default().with_timestamp(-3),
                ListOffsetsPartition::default().with_timestamp(0),
                ListOffsetsPartition::default().with_partition_index(9),
            ]),
        ]);
        MetadataRequestData, |version| MetadataRequestData::default().with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(t())),
            MetadataRequestTopic::default().with_name(Some(KafkaString::from(format!("made-{version}")))),
            MetadataRequestTopic::default().with_name(Some(KafkaString::from_static("not legal"))),
        ]));
        OffsetCommitRequestData, |_v| OffsetCommitRequestData::default()
            .with_group_id(g())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![OffsetCommitRequestTopic::default().with_name(t()).with_partitions(vec![
                OffsetCommitRequestPartition::default().with_committed_offset(1),
                OffsetCommitRequestPartition::default().with_partition_index(9),
            ])]);
        OffsetFetchRequestData, |version| match version >= 8 {
            true => OffsetFetchRequestData::default().with_groups(vec![
                OffsetFetchRequestGroup::default().with_group_id(g()).with_topics(None),
            ]),
            false => OffsetFetchRequestData::default().with_group_id(g()).with_topics(Some(vec![
                OffsetFetchRequestTopic::default().with_name(t()).with_partition_indexes(vec![0, 1]),
            ])),
        };
        FindCoordinatorRequestData, |version| match version >= 4 {
            true => FindCoordinatorRequestData::default().with_coordinator_keys(vec![g()]),
            false => FindCoordinatorRequestData::default().with_key(g()),
        };
        JoinGroupRequestData, |_v| JoinGroupRequestData::default()
            .with_group_id(g())
            .with_session_timeout_ms(10_000)
            .with_protocol_type(KafkaString::from_static("consumer"));
        HeartbeatRequestData, |_v| HeartbeatRequestData::default().with_group_id(g());
        LeaveGroupRequestData, |version| match version >= 3 {
            true => LeaveGroupRequestData::default().with_group_id(g()).with_members(vec![MemberIdentity::default()]),
            false => LeaveGroupRequestData::default().with_group_id(g()),
        };
        SyncGroupRequestData, |_v| SyncGroupRequestData::default().with_group_id(g());
        DescribeGroupsRequestData, |_v| DescribeGroupsRequestData::default()
            .with_groups(vec![g(), KafkaString::from_static("unknown")]);
        ListGroupsRequestData, |_v| ListGroupsRequestData::default();
        ApiVersionsRequestData, |_v| common::api_versions();
        CreateTopicsRequestData, |version| CreateTopicsRequestData::default().with_topics(vec![
            CreatableTopic::default()
                .with_name(KafkaString::from(format!("created-{version}")))
                .with_num_partitions(1)
                .with_replication_factor(1),
            CreatableTopic::default().with_name(t()).with_num_partitions(1).with_replication_factor(1),
        ]);
        DeleteTopicsRequestData, |version| match version >= 6 {
            true => DeleteTopicsRequestData::default().with_topics(vec![DeleteTopicState::default()
                .with_name(Some(KafkaString::from_static("created-6")))]),
            false => DeleteTopicsRequestData::default()
                .with_topic_names(vec![KafkaString::from(format!("created-{version}"))]),
        };
        DeleteRecordsRequestData, |_v| DeleteRecordsRequestData::default().with_topics(vec![
            DeleteRecordsTopic::default().with_name(t()).with_partitions(vec![
                DeleteRecordsPartition::default().with_offset(1),
                DeleteRecordsPartition::default().with_offset(1000),
                DeleteRecordsPartition::default().with_partition_index(9),
            ]),
        ]);
        InitProducerIdRequestData, |_v| InitProducerIdRequestData::default()
            .with_transactional_id(Some(t()))
            .with_transaction_timeout_ms(1000);
        OffsetForLeaderEpochRequestData, |_v| OffsetForLeaderEpochRequestData::default().with_topics(vec![
            OffsetForLeaderTopic::default().with_topic(t()).with_partitions(vec![
                OffsetForLeaderPartition::default(),
                OffsetForLeaderPartition::default().with_partition(9),
            ]),
        ]);
        AddPartitionsToTxnRequestData, |version| {
            let topics = vec![AddPartitionsToTxnTopic::default().with_name(t()).with_partitions(vec![0, 1])];
            match version >= 4 {
                true => AddPartitionsToTxnRequestData::default().with_transactions(vec![
                    AddPartitionsToTxnTransaction::default().with_transactional_id(t()).with_topics(topics),
                ]),
                false => AddPartitionsToTxnRequestData::default()
                    .with_v3_and_below_transactional_id(t())
                    .with_v3_and_below_topics(topics),
            }
        };
        AddOffsetsToTxnRequestData, |_v| AddOffsetsToTxnRequestData::default().with_transactional_id(t());
        EndTxnRequestData, |_v| EndTxnRequestData::default().with_transactional_id(t());
        TxnOffsetCommitRequestData, |_v| TxnOffsetCommitRequestData::default()
            .with_transactional_id(t())
            .with_group_id(g())
            .with_topics(vec![TxnOffsetCommitRequestTopic::default()
                .with_name(t())
                .with_partitions(vec![TxnOffsetCommitRequestPartition::default()])]);
        DescribeConfigsRequestData, |_v| DescribeConfigsRequestData::default().with_resources(vec![
            DescribeConfigsResource::default().with_resource_type(2).with_resource_name(t()),
            DescribeConfigsResource::default().with_resource_type(4),
            DescribeConfigsResource::default().with_resource_type(8),
            DescribeConfigsResource::default().with_resource_type(32).with_resource_name(g()),
        ]);
        AlterConfigsRequestData, |_v| AlterConfigsRequestData::default();
        IncrementalAlterConfigsRequestData, |_v| IncrementalAlterConfigsRequestData::default();
        DescribeLogDirsRequestData, |_v| DescribeLogDirsRequestData::default().with_topics(None);
        CreatePartitionsRequestData, |version| CreatePartitionsRequestData::default().with_topics(vec![
            CreatePartitionsTopic::default().with_name(t()).with_count(3 + i32::from(version)),
        ]);
        DeleteGroupsRequestData, |_v| DeleteGroupsRequestData::default().with_groups_names(vec![g()]);
        OffsetDeleteRequestData, |_v| OffsetDeleteRequestData::default().with_group_id(g());
        DescribeClusterRequestData, |_v| DescribeClusterRequestData::default();
        ConsumerGroupHeartbeatRequestData, |_v| ConsumerGroupHeartbeatRequestData::default()
            .with_group_id(KafkaString::from_static("c"))
            .with_member_id(KafkaString::from_static("m"))
            .with_rebalance_timeout_ms(1000)
            .with_subscribed_topic_names(Some(vec![t()]))
            .with_topic_partitions(Some(Vec::new()));
        ConsumerGroupDescribeRequestData, |_v| ConsumerGroupDescribeRequestData::default()
            .with_group_ids(vec![KafkaString::from_static("c"), g()]);
        StreamsGroupHeartbeatRequestData, |_v| StreamsGroupHeartbeatRequestData::default()
            .with_group_id(KafkaString::from_static("s"))
            .with_member_id(KafkaString::from_static("m"))
            .with_rebalance_timeout_ms(1000)
            .with_active_tasks(Some(Vec::new()))
            .with_standby_tasks(Some(Vec::new()))
            .with_warmup_tasks(Some(Vec::new()));
        StreamsGroupDescribeRequestData, |_v| StreamsGroupDescribeRequestData::default()
            .with_group_ids(vec![KafkaString::from_static("s"), g()]);
        DescribeTransactionsRequestData, |_v| DescribeTransactionsRequestData::default()
            .with_transactional_ids(vec![t(), g()]);
        ListTransactionsRequestData, |_v| ListTransactionsRequestData::default();
        SaslHandshakeRequestData, |_v| SaslHandshakeRequestData::default()
            .with_mechanism(KafkaString::from_static("PLAIN"));
        SaslAuthenticateRequestData, |_v| SaslAuthenticateRequestData::default();
        DescribeUserScramCredentialsRequestData, |_v| DescribeUserScramCredentialsRequestData::default()
            .with_users(None);
        AlterUserScramCredentialsRequestData, |_v| AlterUserScramCredentialsRequestData::default()
            .with_deletions(vec![ScramCredentialDeletion::default().with_name(t()).with_mechanism(1)]);
        DescribeTopicPartitionsRequestData, |_v| DescribeTopicPartitionsRequestData::default()
            .with_response_partition_limit(2000);
        WriteTxnMarkersRequestData, |_v| WriteTxnMarkersRequestData::default().with_markers(vec![
            WritableTxnMarker::default().with_producer_id(7).with_topics(vec![
                WritableTxnMarkerTopic::default().with_name(t()).with_partition_indexes(vec![0, 9]),
            ]),
        ]);
        AlterReplicaLogDirsRequestData, |_v| AlterReplicaLogDirsRequestData::default().with_dirs(vec![
            AlterReplicaLogDir::default().with_path(t()).with_topics(vec![
                AlterReplicaLogDirTopic::default().with_name(t()).with_partitions(vec![0, 9]),
            ]),
        ]);
        CreateDelegationTokenRequestData, |_v| CreateDelegationTokenRequestData::default();
        RenewDelegationTokenRequestData, |_v| RenewDelegationTokenRequestData::default();
        ExpireDelegationTokenRequestData, |_v| ExpireDelegationTokenRequestData::default();
        DescribeDelegationTokenRequestData, |_v| DescribeDelegationTokenRequestData::default().with_owners(None);
        ElectLeadersRequestData, |_v| ElectLeadersRequestData::default().with_topic_partitions(Some(vec![
            elect_leaders_request::TopicPartitions::default().with_topic(t()).with_partitions(vec![0, 9]),
        ]));
        AlterPartitionReassignmentsRequestData, |_v| AlterPartitionReassignmentsRequestData::default()
            .with_topics(vec![ReassignableTopic::default().with_name(t()).with_partitions(vec![
                ReassignablePartition::default().with_replicas(Some(vec![1])),
                ReassignablePartition::default().with_replicas(None),
            ])]);
        ListPartitionReassignmentsRequestData, |_v| ListPartitionReassignmentsRequestData::default();
        DescribeQuorumRequestData, |_v| DescribeQuorumRequestData::default();
        UpdateFeaturesRequestData, |_v| UpdateFeaturesRequestData::default()
            .with_feature_updates(vec![FeatureUpdateKey::default().with_feature(t()).with_max_version_level(1)]);
        UnregisterBrokerRequestData, |_v| UnregisterBrokerRequestData::default().with_broker_id(7);
        DescribeProducersRequestData, |_v| DescribeProducersRequestData::default().with_topics(vec![
            headwater_wire::messages::describe_producers_request::TopicRequest::default()
                .with_name(t())
                .with_partition_indexes(vec![0, 9]),
        ]);
        GetTelemetrySubscriptionsRequestData, |_v| GetTelemetrySubscriptionsRequestData::default();
        PushTelemetryRequestData, |_v| PushTelemetryRequestData::default();
        ListConfigResourcesRequestData, |_v| ListConfigResourcesRequestData::default();
        DescribeAclsRequestData, |_v| DescribeAclsRequestData::default();
        CreateAclsRequestData, |_v| CreateAclsRequestData::default().with_creations(vec![AclCreation::default()]);
        DeleteAclsRequestData, |_v| DeleteAclsRequestData::default().with_filters(vec![DeleteAclsFilter::default()]);
        DescribeClientQuotasRequestData, |_v| DescribeClientQuotasRequestData::default();
        AlterClientQuotasRequestData, |_v| AlterClientQuotasRequestData::default()
            .with_entries(vec![alter_client_quotas_request::EntryData::default()]);
        ShareGroupHeartbeatRequestData, |_v| ShareGroupHeartbeatRequestData::default()
            .with_group_id(KafkaString::from_static("s"))
            .with_member_id(KafkaString::from_static("m"))
            .with_subscribed_topic_names(Some(vec![t()]));
        ShareGroupDescribeRequestData, |_v| ShareGroupDescribeRequestData::default()
            .with_group_ids(vec![KafkaString::from_static("s"), g()]);
        ShareFetchRequestData, |_v| ShareFetchRequestData::default()
            .with_group_id(Some(KafkaString::from_static("s")))
            .with_member_id(Some(KafkaString::from_static("m")));
        ShareAcknowledgeRequestData, |_v| ShareAcknowledgeRequestData::default()
            .with_group_id(Some(KafkaString::from_static("s")))
            .with_member_id(Some(KafkaString::from_static("m")))
            .with_share_session_epoch(1);
        DescribeShareGroupOffsetsRequestData, |_v| DescribeShareGroupOffsetsRequestData::default().with_groups(vec![
            DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(KafkaString::from_static("s"))
                .with_topics(None),
            DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(KafkaString::from_static("s"))
                .with_topics(Some(vec![DescribeShareGroupOffsetsRequestTopic::default()
                    .with_topic_name(KafkaString::from_static("unknown"))
                    .with_partitions(vec![0])])),
        ]);
        AlterShareGroupOffsetsRequestData, |_v| AlterShareGroupOffsetsRequestData::default().with_group_id(g());
        DeleteShareGroupOffsetsRequestData, |_v| DeleteShareGroupOffsetsRequestData::default().with_group_id(g());
    }
    let missing: Vec<_> = all.iter().filter(|api| !seen.contains(&api.api_key)).collect();
    assert!(missing.is_empty(), "offered and not tried: {missing:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_newer_api_versions_is_answered_in_version_0_with_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let frame = [0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0];
    tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &frame).await.unwrap();
    let mut answer = raw.frame().await.unwrap();
    assert_eq!(answer.split_to(4)[..], [0, 0, 0, 7]);
    let answer = ApiVersionsResponseData::read(&mut answer, 0).unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
    assert!(answer.api_keys.iter().any(|api| api.api_key == ApiKey::Fetch as i16));
    assert!(!offered(&mut raw).await.is_empty(), "the connection goes on");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let count = 100;
    for n in 0..count {
        raw.send(&produce(None, "t", 0, batch(&[&n.to_string()])), 9).await;
        raw.send(&MetadataRequestData::default(), 5).await;
    }
    for n in 0..count {
        let behind = 2 * (count - 1 - n) as i32;
        let produced = raw.receive::<ProduceRequestData>(9, behind + 1).await;
        assert_eq!(produced.responses[0].partition_responses[0].base_offset, n);
        raw.receive::<MetadataRequestData>(5, behind).await;
    }
}

/// A short request would have a long answer otherwise.
#[tokio::test]
async fn what_is_asked_for_again_and_again_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let t = || KafkaString::from_static("t");
    let named = metadata_request::MetadataRequestTopic::default().with_name(Some(t()));
    let topics = MetadataRequestData::default().with_topics(Some(vec![named; 1_000]));
    assert_eq!(raw.call(&topics, 9).await.topics.len(), 1);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(t());
    let configs = DescribeConfigsRequestData::default().with_resources(vec![resource; 1_000]);
    assert_eq!(raw.call(&configs, 4).await.results.len(), 1);
    let groups = DescribeGroupsRequestData::default().with_groups(vec![t(); 1_000]);
    assert_eq!(raw.call(&groups, 5).await.groups.len(), 1);
    let groups = ConsumerGroupDescribeRequestData::default().with_group_ids(vec![t(); 1_000]);
    assert_eq!(raw.call(&groups, 0).await.groups.len(), 1);
    let group = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(t()).with_topics(None);
    let offsets = OffsetFetchRequestData::default().with_groups(vec![group; 1_000]);
    assert_eq!(raw.call(&offsets, 8).await.groups.len(), 1);
    let groups = ShareGroupDescribeRequestData::default().with_group_ids(vec![t(); 1_000]);
    assert_eq!(raw.call(&groups, 1).await.groups.len(), 1);
    let groups = StreamsGroupDescribeRequestData::default().with_group_ids(vec![t(); 1_000]);
    assert_eq!(raw.call(&groups, 0).await.groups.len(), 1);
    let group = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(t())
        .with_topics(None);
    let offsets = DescribeShareGroupOffsetsRequestData::default().with_groups(vec![group; 1_000]);
    assert_eq!(raw.call(&offsets, 0).await.groups.len(), 1);
    let transactions = DescribeTransactionsRequestData::default().with_transactional_ids(vec![t(); 1_000]);
    assert_eq!(raw.call(&transactions, 0).await.transaction_states.len(), 1);
    let types = |times| ListConfigResourcesRequestData::default().with_resource_types(vec![2; times]);
    let once = raw.call(&types(1), 1).await.config_resources.len();
    assert_eq!(raw.call(&types(1_000), 1).await.config_resources.len(), once);
    let topic = describe_producers_request::TopicRequest::default()
        .with_name(t())
        .with_partition_indexes(vec![0; 1_000]);
    let producers = DescribeProducersRequestData::default().with_topics(vec![topic; 2]);
    let told = raw.call(&producers, 0).await.topics;
    assert_eq!(told.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 1);
}

/// What need not exist is made up easily.
#[tokio::test]
async fn the_configuration_of_so_many_groups_is_told_at_once_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let resource = |at: i32| {
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(32)
            .with_resource_name(format!("g{at}").into())
    };
    let groups = DescribeConfigsRequestData::default().with_resources((0..10_001).map(resource).collect());
    let told = raw.call(&groups, 4).await.results;
    assert_eq!(told.len(), 10_001);
    assert!(told[..10_000].iter().all(|group| group.error_code == 0 && !group.configs.is_empty()));
    assert_eq!(told[10_000].error_code, ErrorCode::InvalidRequest.code());
}

/// KIP-511: words of letters and digits, with dots and hyphens within.
#[tokio::test]
async fn a_client_says_what_it_is_where_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let named = |name: &str, version: &str| {
        ApiVersionsRequestData::default()
            .with_client_software_name(name.to_owned().into())
            .with_client_software_version(version.to_owned().into())
    };
    for version in 0..=4 {
        let legal = [("a", "1"), ("apache-kafka-java", "4.3.1")];
        let wrong = [("", ""), ("a", ""), ("", "1"), ("a b", "1"), ("a", "1-"), (".a", "1"), ("ä", "1")];
        for (name, of) in legal.into_iter().chain(wrong) {
            let expected = version < 3 || legal.contains(&(name, of));
            let answer = raw.call(&named(name, of), version).await;
            let code = if expected { ErrorCode::None } else { ErrorCode::InvalidRequest };
            assert_eq!(ErrorCode::from(answer.error_code), code, "v{version}: {name} {of}");
            assert_eq!(!answer.api_keys.is_empty(), expected);
        }
    }
}
