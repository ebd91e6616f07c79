//! Every API that is served, called by one who may do nothing.

use std::collections::BTreeSet;

use headwater_wire::ApiKey;
use headwater_wire::messages::describe_topic_partitions_request::TopicRequest;
use headwater_wire::messages::*;

use super::support::*;
use crate::common::{Message, Raw, batch, fetch, produce};

struct Stranger {
    raw: Raw,
    called: BTreeSet<i16>,
}

impl Stranger {
    /// Calls, and compares what `codes` finds in the answer.
    async fn gets<M: Message>(
        &mut self,
        request: M,
        version: i16,
        expected: &[i16],
        codes: impl Fn(&M::Response) -> Vec<i16>,
    ) {
        let answer = self.raw.call(&request, version).await;
        self.called.insert(M::KEY as i16);
        assert_eq!(codes(&answer), expected, "{:?} v{version}", M::KEY);
    }
}

#[tokio::test]
async fn a_stranger_is_refused_by_every_api() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = filled(directory.path(), &[]).await;
    let mut raw = Raw::connect(&broker).await;
    let offered = raw.call(&crate::common::api_versions(), 3).await;
    let offered: BTreeSet<i16> = offered.api_keys.iter().map(|key| key.api_key).collect();
    let mut stranger = Stranger {
        raw,
        called: BTreeSet::from(
            [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate].map(|key| key as i16),
        ),
    };
    records(&mut stranger).await;
    topics(&mut stranger).await;
    configs(&mut stranger).await;
    groups(&mut stranger).await;
    offsets(&mut stranger).await;
    transactions(&mut stranger).await;
    cluster(&mut stranger).await;
    acls(&mut stranger).await;
    let forgotten: Vec<_> = offered.difference(&stranger.called).collect();
    assert!(forgotten.is_empty(), "APIs {forgotten:?} are served and not tried by a stranger: add them here");
    broker.shutdown().await;
}

async fn records(stranger: &mut Stranger) {
    let all = |answer: &ProduceResponseData| {
        answer.responses.iter().map(|topic| topic.partition_responses[0].error_code).collect()
    };
    stranger.gets(produce(None, "orders", 0, batch(&["y"])), 9, &[TOPIC], all).await;
    stranger.gets(produce(None, "nothing", 0, batch(&["y"])), 9, &[TOPIC], all).await;
    stranger.gets(produce(Some("payer"), "orders", 0, batch(&["y"])), 9, &[TRANSACTIONAL_ID], all).await;
    stranger
        .gets(fetch("orders", 0, 0), 11, &[TOPIC], |answer| {
            vec![answer.responses[0].partitions[0].error_code]
        })
        .await;
    let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(named("orders")).with_partitions(vec![partition]);
    let list = ListOffsetsRequestData::default().with_replica_id(-1).with_topics(vec![topic]);
    stranger.gets(list, 5, &[TOPIC], |answer| vec![answer.topics[0].partitions[0].error_code]).await;
    let topic = OffsetForLeaderTopic::default()
        .with_topic(named("orders"))
        .with_partitions(vec![OffsetForLeaderPartition::default()]);
    let epoch = OffsetForLeaderEpochRequestData::default().with_topics(vec![topic]);
    stranger.gets(epoch, 4, &[TOPIC], |answer| vec![answer.topics[0].partitions[0].error_code]).await;
    let topic = DeleteRecordsTopic::default()
        .with_name(named("orders"))
        .with_partitions(vec![DeleteRecordsPartition::default().with_offset(-1)]);
    let delete = DeleteRecordsRequestData::default().with_topics(vec![topic]);
    stranger.gets(delete, 2, &[TOPIC], |answer| vec![answer.topics[0].partitions[0].error_code]).await;
}

async fn topics(stranger: &mut Stranger) {
    let codes = |answer: &MetadataResponseData| answer.topics.iter().map(|topic| topic.error_code).collect();
    stranger.gets(metadata(Some(&["orders", "nothing"])), 12, &[TOPIC, TOPIC], codes).await;
    stranger.gets(metadata(None), 12, &[], codes).await;
    let topic = |name: &'static str| TopicRequest::default().with_name(name.to_owned().into());
    let codes = |answer: &DescribeTopicPartitionsResponseData| {
        answer.topics.iter().map(|topic| topic.error_code).collect()
    };
    let describe = DescribeTopicPartitionsRequestData::default().with_response_partition_limit(10);
    stranger.gets(describe.clone(), 0, &[], codes).await;
    stranger.gets(describe.with_topics(vec![topic("orders")]), 0, &[TOPIC], codes).await;
    let cluster = DescribeClusterRequestData::default()
        .with_endpoint_type(1)
        .with_include_cluster_authorized_operations(true);
    stranger.gets(cluster, 1, &[0], |answer| vec![answer.cluster_authorized_operations as i16]).await;
    stranger
        .gets(DescribeLogDirsRequestData::default().with_topics(None), 3, &[CLUSTER], |answer| {
            assert!(answer.results.is_empty(), "{answer:?}");
            vec![answer.error_code]
        })
        .await;
    let new =
        CreatableTopic::default().with_name(named("new")).with_num_partitions(1).with_replication_factor(1);
    let create = CreateTopicsRequestData::default().with_topics(vec![new]);
    stranger.gets(create, 7, &[TOPIC], |answer| vec![answer.topics[0].error_code]).await;
    let more =
        CreatePartitionsTopic::default().with_name(named("orders")).with_count(7).with_assignments(None);
    let create = CreatePartitionsRequestData::default().with_topics(vec![more]);
    stranger.gets(create, 3, &[TOPIC], |answer| vec![answer.results[0].error_code]).await;
    let codes =
        |answer: &DeleteTopicsResponseData| answer.responses.iter().map(|one| one.error_code).collect();
    let delete = DeleteTopicsRequestData::default().with_topic_names(vec![named("orders"), named("nothing")]);
    stranger.gets(delete, 5, &[TOPIC, TOPIC], codes).await;
}

async fn configs(stranger: &mut Stranger) {
    let kinds = [(2, "orders"), (4, "1"), (32, "readers"), (8, "1"), (16, "subscription")];
    let resources = kinds.map(|(kind, name)| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(name.to_owned().into())
            .with_configuration_keys(None)
    });
    let describe = DescribeConfigsRequestData::default().with_resources(resources.to_vec());
    let refused = &[TOPIC, CLUSTER, GROUP, CLUSTER, CLUSTER];
    stranger.gets(describe, 4, refused, |a| a.results.iter().map(|one| one.error_code).collect()).await;
    let usage = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("orders".to_owned().into())
        .with_configuration_keys(Some(vec!["headwater.usage".to_owned().into()]));
    let describe = DescribeConfigsRequestData::default().with_resources(vec![usage]);
    stranger.gets(describe, 4, &[TOPIC], |a| a.results.iter().map(|one| one.error_code).collect()).await;
    use headwater_wire::messages::{alter_configs_request, incremental_alter_configs_request};
    let resources = kinds.map(|(kind, name)| {
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(name.to_owned().into())
    });
    let alter = AlterConfigsRequestData::default().with_resources(resources.to_vec());
    stranger.gets(alter, 2, refused, |a| a.responses.iter().map(|one| one.error_code).collect()).await;
    let resources = kinds.map(|(kind, name)| {
        incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(name.to_owned().into())
    });
    let alter = IncrementalAlterConfigsRequestData::default().with_resources(resources.to_vec());
    stranger.gets(alter, 1, refused, |a| a.responses.iter().map(|one| one.error_code).collect()).await;
}

async fn groups(stranger: &mut Stranger) {
    for (kind, code) in [(0, GROUP), (1, TRANSACTIONAL_ID)] {
        let find = FindCoordinatorRequestData::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![named("readers")]);
        stranger.gets(find, 4, &[code], |answer| vec![answer.coordinators[0].error_code]).await;
    }
    let of_shares = FindCoordinatorRequestData::default()
        .with_key_type(2)
        .with_coordinator_keys(vec![named("readers:AAAAAAAAAAAAAAAAAAAAAA:0")]);
    stranger.gets(of_shares, 6, &[CLUSTER], |answer| vec![answer.coordinators[0].error_code]).await;
    let join =
        JoinGroupRequestData::default().with_group_id(named("readers")).with_session_timeout_ms(10_000);
    stranger.gets(join.clone(), 6, &[GROUP], |answer| vec![answer.error_code]).await;
    stranger.gets(join, 9, &[GROUP], |answer| vec![answer.error_code]).await;
    let sync = SyncGroupRequestData::default().with_group_id(named("readers"));
    stranger.gets(sync, 5, &[GROUP], |answer| vec![answer.error_code]).await;
    let beat = HeartbeatRequestData::default().with_group_id(named("readers"));
    stranger.gets(beat, 4, &[GROUP], |answer| vec![answer.error_code]).await;
    let leave = LeaveGroupRequestData::default().with_group_id(named("readers"));
    stranger.gets(leave, 5, &[GROUP], |answer| vec![answer.error_code]).await;
    let beat = ConsumerGroupHeartbeatRequestData::default().with_group_id(named("readers"));
    stranger.gets(beat, 1, &[GROUP], |answer| vec![answer.error_code]).await;
    let describe = ConsumerGroupDescribeRequestData::default().with_group_ids(vec![named("readers")]);
    stranger.gets(describe, 1, &[GROUP], |answer| vec![answer.groups[0].error_code]).await;
    let beat = StreamsGroupHeartbeatRequestData::default().with_group_id(named("readers"));
    stranger.gets(beat, 0, &[GROUP], |answer| vec![answer.error_code]).await;
    let describe = StreamsGroupDescribeRequestData::default().with_group_ids(vec![named("readers")]);
    stranger.gets(describe, 0, &[GROUP], |answer| vec![answer.groups[0].error_code]).await;
    share_groups(stranger).await;
    let describe = DescribeGroupsRequestData::default().with_groups(vec![named("readers"), named("nobody")]);
    let codes =
        |answer: &DescribeGroupsResponseData| answer.groups.iter().map(|group| group.error_code).collect();
    stranger.gets(describe, 5, &[GROUP, GROUP], codes).await;
    let codes = |answer: &ListGroupsResponseData| answer.groups.iter().map(|_| 0).collect();
    stranger.gets(ListGroupsRequestData::default(), 4, &[], codes).await;
    let delete = DeleteGroupsRequestData::default().with_groups_names(vec![named("readers")]);
    stranger.gets(delete, 2, &[GROUP], |answer| vec![answer.results[0].error_code]).await;
}

async fn share_groups(stranger: &mut Stranger) {
    let (group, member) = (|| Some(named("readers")), || Some(named("me")));
    let beat = ShareGroupHeartbeatRequestData::default().with_group_id(named("readers"));
    stranger.gets(beat, 1, &[GROUP], |answer| vec![answer.error_code]).await;
    let describe = ShareGroupDescribeRequestData::default().with_group_ids(vec![named("readers")]);
    stranger.gets(describe, 1, &[GROUP], |answer| vec![answer.groups[0].error_code]).await;
    let fetch = ShareFetchRequestData::default().with_group_id(group()).with_member_id(member());
    stranger.gets(fetch, 1, &[GROUP], |answer| vec![answer.error_code]).await;
    let acknowledge = ShareAcknowledgeRequestData::default().with_group_id(group()).with_member_id(member());
    stranger.gets(acknowledge, 1, &[GROUP], |answer| vec![answer.error_code]).await;
    use headwater_wire::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
    let wanted = DescribeShareGroupOffsetsRequestGroup::default().with_group_id(named("readers"));
    let describe = DescribeShareGroupOffsetsRequestData::default().with_groups(vec![wanted]);
    stranger.gets(describe, 0, &[GROUP], |answer| vec![answer.groups[0].error_code]).await;
    let alter = AlterShareGroupOffsetsRequestData::default().with_group_id(named("readers"));
    stranger.gets(alter, 0, &[GROUP], |answer| vec![answer.error_code]).await;
    let delete = DeleteShareGroupOffsetsRequestData::default().with_group_id(named("readers"));
    stranger.gets(delete, 0, &[GROUP], |answer| vec![answer.error_code]).await;
}

async fn offsets(stranger: &mut Stranger) {
    stranger
        .gets(commit("readers", "orders"), 8, &[GROUP], |answer| {
            vec![answer.topics[0].partitions[0].error_code]
        })
        .await;
    use headwater_wire::messages::offset_commit_request::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    // By an id that no topic has.
    let topic =
        OffsetCommitRequestTopic::default().with_partitions(vec![OffsetCommitRequestPartition::default()]);
    let by_id = OffsetCommitRequestData::default().with_group_id(named("readers")).with_topics(vec![topic]);
    stranger.gets(by_id, 10, &[GROUP], |answer| vec![answer.topics[0].partitions[0].error_code]).await;
    stranger.gets(fetch_offsets(None), 8, &[GROUP], |answer| vec![answer.groups[0].error_code]).await;
    let old = OffsetFetchRequestData::default().with_group_id(named("readers")).with_topics(None);
    stranger.gets(old, 7, &[GROUP], |answer| vec![answer.error_code]).await;
    use headwater_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
    let topic = OffsetFetchRequestTopic::default().with_name(named("orders")).with_partition_indexes(vec![0]);
    let oldest =
        OffsetFetchRequestData::default().with_group_id(named("readers")).with_topics(Some(vec![topic]));
    stranger.gets(oldest, 1, &[GROUP], |answer| vec![answer.topics[0].partitions[0].error_code]).await;
    let delete = OffsetDeleteRequestData::default().with_group_id(named("readers"));
    stranger.gets(delete, 0, &[GROUP], |answer| vec![answer.error_code]).await;
}

/// What there is but one of here, and what is disabled for everybody.
async fn cluster(stranger: &mut Stranger) {
    const NOT_ALLOWED: i16 = 64;
    let elect = ElectLeadersRequestData::default().with_topic_partitions(None);
    stranger.gets(elect, 2, &[CLUSTER], |answer| vec![answer.error_code]).await;
    let reassign = AlterPartitionReassignmentsRequestData::default();
    stranger.gets(reassign, 0, &[CLUSTER], |answer| vec![answer.error_code]).await;
    let list = ListPartitionReassignmentsRequestData::default().with_topics(None);
    stranger.gets(list, 0, &[CLUSTER], |answer| vec![answer.error_code]).await;
    use headwater_wire::messages::alter_replica_log_dirs_request::{
        AlterReplicaLogDir, AlterReplicaLogDirTopic,
    };
    let topic = AlterReplicaLogDirTopic::default().with_name(named("orders")).with_partitions(vec![0]);
    let dir = AlterReplicaLogDir::default().with_path(named("/d")).with_topics(vec![topic]);
    let dirs = AlterReplicaLogDirsRequestData::default().with_dirs(vec![dir]);
    stranger.gets(dirs, 2, &[CLUSTER], |answer| vec![answer.results[0].partitions[0].error_code]).await;
    stranger.gets(DescribeQuorumRequestData::default(), 2, &[CLUSTER], |a| vec![a.error_code]).await;
    stranger.gets(UpdateFeaturesRequestData::default(), 2, &[CLUSTER], |a| vec![a.error_code]).await;
    let unregister = UnregisterBrokerRequestData::default().with_broker_id(7);
    stranger.gets(unregister, 0, &[CLUSTER], |a| vec![a.error_code]).await;
    stranger.gets(ListConfigResourcesRequestData::default(), 1, &[CLUSTER], |a| vec![a.error_code]).await;
    let describe = DescribeUserScramCredentialsRequestData::default().with_users(None);
    stranger.gets(describe, 0, &[CLUSTER], |a| vec![a.error_code]).await;
    use headwater_wire::messages::alter_user_scram_credentials_request::ScramCredentialDeletion;
    let deletion = ScramCredentialDeletion::default().with_name(named("root")).with_mechanism(1);
    let alter = AlterUserScramCredentialsRequestData::default().with_deletions(vec![deletion]);
    stranger.gets(alter, 0, &[CLUSTER], |a| vec![a.results[0].error_code]).await;
    stranger.gets(GetTelemetrySubscriptionsRequestData::default(), 0, &[0], |a| vec![a.error_code]).await;
    stranger.gets(PushTelemetryRequestData::default(), 0, &[], |_| Vec::new()).await;
    let disabled = &[NOT_ALLOWED];
    stranger.gets(CreateDelegationTokenRequestData::default(), 3, disabled, |a| vec![a.error_code]).await;
    stranger.gets(RenewDelegationTokenRequestData::default(), 2, disabled, |a| vec![a.error_code]).await;
    stranger.gets(ExpireDelegationTokenRequestData::default(), 2, disabled, |a| vec![a.error_code]).await;
    stranger.gets(DescribeDelegationTokenRequestData::default(), 3, disabled, |a| vec![a.error_code]).await;
    use headwater_wire::messages::describe_producers_request::TopicRequest as ProducersOf;
    let topic = ProducersOf::default().with_name(named("orders")).with_partition_indexes(vec![0]);
    let describe = DescribeProducersRequestData::default().with_topics(vec![topic]);
    stranger.gets(describe, 0, &[TOPIC], |a| vec![a.topics[0].partitions[0].error_code]).await;
    use headwater_wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let topic = WritableTxnMarkerTopic::default().with_name(named("orders")).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default().with_producer_id(1).with_topics(vec![topic]);
    let write = WriteTxnMarkersRequestData::default().with_markers(vec![marker]);
    let codes = |a: &WriteTxnMarkersResponseData| vec![a.markers[0].topics[0].partitions[0].error_code];
    stranger.gets(write, 1, &[CLUSTER], codes).await;
}

async fn transactions(stranger: &mut Stranger) {
    let init = InitProducerIdRequestData::default().with_producer_id(-1).with_producer_epoch(-1);
    stranger.gets(init.clone(), 4, &[CLUSTER], |answer| vec![answer.error_code]).await;
    let id = Some(named("payer"));
    stranger
        .gets(init.with_transactional_id(id), 4, &[TRANSACTIONAL_ID], |answer| vec![answer.error_code])
        .await;
    let topic = AddPartitionsToTxnTopic::default().with_name(named("orders")).with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequestData::default()
        .with_v3_and_below_transactional_id(named("payer"))
        .with_v3_and_below_topics(vec![topic]);
    let codes = |answer: &AddPartitionsToTxnResponseData| {
        vec![answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code]
    };
    stranger.gets(add, 3, &[TRANSACTIONAL_ID], codes).await;
    let many = AddPartitionsToTxnRequestData::default().with_transactions(vec![
        AddPartitionsToTxnTransaction::default().with_transactional_id(named("payer")),
    ]);
    stranger.gets(many, 4, &[CLUSTER], |answer| vec![answer.error_code]).await;
    let add = AddOffsetsToTxnRequestData::default()
        .with_transactional_id(named("payer"))
        .with_group_id(named("readers"));
    stranger.gets(add, 3, &[TRANSACTIONAL_ID], |answer| vec![answer.error_code]).await;
    let end = EndTxnRequestData::default().with_transactional_id(named("payer"));
    stranger.gets(end, 3, &[TRANSACTIONAL_ID], |answer| vec![answer.error_code]).await;
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(named("orders"))
        .with_partitions(vec![TxnOffsetCommitRequestPartition::default()]);
    let commit = TxnOffsetCommitRequestData::default()
        .with_transactional_id(named("payer"))
        .with_group_id(named("readers"))
        .with_topics(vec![topic]);
    stranger
        .gets(commit, 3, &[TRANSACTIONAL_ID], |answer| vec![answer.topics[0].partitions[0].error_code])
        .await;
    let describe = DescribeTransactionsRequestData::default().with_transactional_ids(vec![named("payer")]);
    stranger
        .gets(describe, 0, &[TRANSACTIONAL_ID], |answer| vec![answer.transaction_states[0].error_code])
        .await;
    let codes = |answer: &ListTransactionsResponseData| answer.transaction_states.iter().map(|_| 0).collect();
    stranger.gets(ListTransactionsRequestData::default(), 0, &[], codes).await;
}

async fn acls(stranger: &mut Stranger) {
    let describe =
        DescribeAclsRequestData::default().with_resource_type_filter(1).with_pattern_type_filter(1);
    stranger.gets(describe, 3, &[CLUSTER], |answer| vec![answer.error_code]).await;
    let create = CreateAclsRequestData::default().with_creations(vec![AclCreation::default()]);
    stranger.gets(create, 3, &[CLUSTER], |answer| vec![answer.results[0].error_code]).await;
    let codes = |answer: &DescribeClientQuotasResponseData| vec![answer.error_code];
    stranger.gets(DescribeClientQuotasRequestData::default(), 1, &[CLUSTER], codes).await;
    let alter = AlterClientQuotasRequestData::default()
        .with_entries(vec![alter_client_quotas_request::EntryData::default()]);
    stranger.gets(alter, 1, &[CLUSTER], |answer| vec![answer.entries[0].error_code]).await;
    let delete = DeleteAclsRequestData::default().with_filters(vec![DeleteAclsFilter::default()]);
    stranger.gets(delete, 3, &[CLUSTER], |answer| vec![answer.filter_results[0].error_code]).await;
}
