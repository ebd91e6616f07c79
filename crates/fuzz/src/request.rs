//! Requests: read by the codec, written again, and read once more.

use bytes::{Bytes, BytesMut};
use headwater_wire::messages::*;
use headwater_wire::{ApiKey, ProtocolError, request_header_version};

/// Reads a body and writes what it says.
type Again = fn(&mut Bytes, i16) -> Result<BytesMut, ProtocolError>;

macro_rules! requests {
    ($($key:ident $request:ident;)*) => {
        /// Every request that the broker reads.
        pub fn apis() -> Vec<ApiKey> {
            vec![$(ApiKey::$key),*]
        }

        fn again(key: i16) -> Option<Again> {
            match ApiKey::from_i16(key)? {
                $(ApiKey::$key => Some(|body, version| {
                    let message = $request::read(body, version)?;
                    let mut bytes = BytesMut::new();
                    message.write(&mut bytes, version)?;
                    Ok(bytes)
                }),)*
                _ => None,
            }
        }
    };
}

requests! {
    Produce ProduceRequestData;
    Fetch FetchRequestData;
    ListOffsets ListOffsetsRequestData;
    Metadata MetadataRequestData;
    OffsetCommit OffsetCommitRequestData;
    OffsetFetch OffsetFetchRequestData;
    FindCoordinator FindCoordinatorRequestData;
    JoinGroup JoinGroupRequestData;
    Heartbeat HeartbeatRequestData;
    LeaveGroup LeaveGroupRequestData;
    SyncGroup SyncGroupRequestData;
    DescribeGroups DescribeGroupsRequestData;
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequestData;
    ConsumerGroupDescribe ConsumerGroupDescribeRequestData;
    ListGroups ListGroupsRequestData;
    ApiVersions ApiVersionsRequestData;
    CreateTopics CreateTopicsRequestData;
    DeleteTopics DeleteTopicsRequestData;
    DeleteRecords DeleteRecordsRequestData;
    InitProducerId InitProducerIdRequestData;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequestData;
    AddPartitionsToTxn AddPartitionsToTxnRequestData;
    AddOffsetsToTxn AddOffsetsToTxnRequestData;
    EndTxn EndTxnRequestData;
    TxnOffsetCommit TxnOffsetCommitRequestData;
    DescribeConfigs DescribeConfigsRequestData;
    AlterConfigs AlterConfigsRequestData;
    DescribeLogDirs DescribeLogDirsRequestData;
    CreatePartitions CreatePartitionsRequestData;
    DeleteGroups DeleteGroupsRequestData;
    IncrementalAlterConfigs IncrementalAlterConfigsRequestData;
    OffsetDelete OffsetDeleteRequestData;
    DescribeCluster DescribeClusterRequestData;
    DescribeTransactions DescribeTransactionsRequestData;
    ListTransactions ListTransactionsRequestData;
    SaslHandshake SaslHandshakeRequestData;
    SaslAuthenticate SaslAuthenticateRequestData;
    DescribeUserScramCredentials DescribeUserScramCredentialsRequestData;
    AlterUserScramCredentials AlterUserScramCredentialsRequestData;
    DescribeTopicPartitions DescribeTopicPartitionsRequestData;
    DescribeAcls DescribeAclsRequestData;
    CreateAcls CreateAclsRequestData;
    DeleteAcls DeleteAclsRequestData;
    WriteTxnMarkers WriteTxnMarkersRequestData;
    AlterReplicaLogDirs AlterReplicaLogDirsRequestData;
    CreateDelegationToken CreateDelegationTokenRequestData;
    RenewDelegationToken RenewDelegationTokenRequestData;
    ExpireDelegationToken ExpireDelegationTokenRequestData;
    DescribeDelegationToken DescribeDelegationTokenRequestData;
    ElectLeaders ElectLeadersRequestData;
    AlterPartitionReassignments AlterPartitionReassignmentsRequestData;
    ListPartitionReassignments ListPartitionReassignmentsRequestData;
    DescribeQuorum DescribeQuorumRequestData;
    UpdateFeatures UpdateFeaturesRequestData;
    UnregisterBroker UnregisterBrokerRequestData;
    DescribeProducers DescribeProducersRequestData;
    StreamsGroupHeartbeat StreamsGroupHeartbeatRequestData;
    StreamsGroupDescribe StreamsGroupDescribeRequestData;
    GetTelemetrySubscriptions GetTelemetrySubscriptionsRequestData;
    PushTelemetry PushTelemetryRequestData;
    ListConfigResources ListConfigResourcesRequestData;
    DescribeClientQuotas DescribeClientQuotasRequestData;
    AlterClientQuotas AlterClientQuotasRequestData;
    ShareGroupHeartbeat ShareGroupHeartbeatRequestData;
    ShareGroupDescribe ShareGroupDescribeRequestData;
    ShareFetch ShareFetchRequestData;
    ShareAcknowledge ShareAcknowledgeRequestData;
    DescribeShareGroupOffsets DescribeShareGroupOffsetsRequestData;
    AlterShareGroupOffsets AlterShareGroupOffsetsRequestData;
    DeleteShareGroupOffsets DeleteShareGroupOffsetsRequestData;
}

/// A frame without its length. What was read and written is read as the same again.
pub fn request(frame: &[u8]) {
    let mut body = Bytes::copy_from_slice(frame);
    let [k0, k1, v0, v1, ..] = *frame else { return };
    let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
    let Some(again) = again(key) else { return };
    if RequestHeaderData::read(&mut body, request_header_version(key, version)).is_err() {
        return;
    }
    let Ok(written) = again(&mut body, version) else { return };
    let mut bytes = written.clone().freeze();
    let twice = again(&mut bytes, version);
    assert!(bytes.is_empty(), "{} bytes are left of what was written", bytes.len());
    assert_eq!(twice.ok(), Some(written), "API {key} v{version} reads its own bytes as something else");
}
