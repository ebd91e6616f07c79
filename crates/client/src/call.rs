//! Requests this client sends, with the response each is answered by and the newest version it speaks.
//!
//! Versions stop where a message changes to topic ids, so that every broker is addressed in the same way, and where
//! the version says that it is part of a transaction of the second protocol (KIP-890): those go as [`TransactionV2`].

use bytes::{Bytes, BytesMut};
use headwater_wire::messages::*;
use headwater_wire::{ApiKey, ProtocolError};

pub trait Call {
    type Response;
    const KEY: ApiKey;
    const NAME: &'static str;
    const OLDEST: i16;
    const NEWEST: i16;
    fn encode(&self, into: &mut BytesMut, version: i16) -> Result<(), ProtocolError>;
    fn decode(from: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError>;
}

macro_rules! calls {
    ($($key:ident $request:ident => $response:ident, $oldest:literal..=$newest:literal;)*) => {$(
        impl Call for $request {
            type Response = $response;
            const KEY: ApiKey = ApiKey::$key;
            const NAME: &'static str = stringify!($key);
            const OLDEST: i16 = $oldest;
            const NEWEST: i16 = $newest;
            fn encode(&self, into: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                self.write(into, version)
            }
            fn decode(from: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError> {
                $response::read(from, version)
            }
        }
    )*};
}

calls! {
    ApiVersions ApiVersionsRequestData => ApiVersionsResponseData, 0..=3;
    SaslHandshake SaslHandshakeRequestData => SaslHandshakeResponseData, 1..=1;
    SaslAuthenticate SaslAuthenticateRequestData => SaslAuthenticateResponseData, 0..=2;
    DescribeUserScramCredentials DescribeUserScramCredentialsRequestData => DescribeUserScramCredentialsResponseData, 0..=0;
    AlterUserScramCredentials AlterUserScramCredentialsRequestData => AlterUserScramCredentialsResponseData, 0..=0;
    Metadata MetadataRequestData => MetadataResponseData, 4..=12;
    Produce ProduceRequestData => ProduceResponseData, 3..=11;
    Fetch FetchRequestData => FetchResponseData, 4..=12;
    ListOffsets ListOffsetsRequestData => ListOffsetsResponseData, 2..=7;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequestData => OffsetForLeaderEpochResponseData, 3..=4;
    FindCoordinator FindCoordinatorRequestData => FindCoordinatorResponseData, 1..=3;
    JoinGroup JoinGroupRequestData => JoinGroupResponseData, 2..=7;
    SyncGroup SyncGroupRequestData => SyncGroupResponseData, 1..=5;
    Heartbeat HeartbeatRequestData => HeartbeatResponseData, 1..=4;
    LeaveGroup LeaveGroupRequestData => LeaveGroupResponseData, 3..=4;
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequestData => ConsumerGroupHeartbeatResponseData, 0..=1;
    StreamsGroupHeartbeat StreamsGroupHeartbeatRequestData => StreamsGroupHeartbeatResponseData, 0..=0;
    OffsetCommit OffsetCommitRequestData => OffsetCommitResponseData, 2..=9;
    OffsetFetch OffsetFetchRequestData => OffsetFetchResponseData, 2..=7;
    ListGroups ListGroupsRequestData => ListGroupsResponseData, 0..=4;
    DescribeGroups DescribeGroupsRequestData => DescribeGroupsResponseData, 0..=5;
    ConsumerGroupDescribe ConsumerGroupDescribeRequestData => ConsumerGroupDescribeResponseData, 0..=1;
    StreamsGroupDescribe StreamsGroupDescribeRequestData => StreamsGroupDescribeResponseData, 0..=0;
    DeleteGroups DeleteGroupsRequestData => DeleteGroupsResponseData, 0..=2;
    ShareGroupDescribe ShareGroupDescribeRequestData => ShareGroupDescribeResponseData, 1..=1;
    DescribeShareGroupOffsets DescribeShareGroupOffsetsRequestData => DescribeShareGroupOffsetsResponseData, 0..=1;
    CreateTopics CreateTopicsRequestData => CreateTopicsResponseData, 2..=6;
    DeleteTopics DeleteTopicsRequestData => DeleteTopicsResponseData, 1..=5;
    CreatePartitions CreatePartitionsRequestData => CreatePartitionsResponseData, 0..=3;
    DescribeConfigs DescribeConfigsRequestData => DescribeConfigsResponseData, 1..=4;
    IncrementalAlterConfigs IncrementalAlterConfigsRequestData => IncrementalAlterConfigsResponseData, 0..=1;
    DeleteRecords DeleteRecordsRequestData => DeleteRecordsResponseData, 0..=2;
    InitProducerId InitProducerIdRequestData => InitProducerIdResponseData, 0..=5;
    AddPartitionsToTxn AddPartitionsToTxnRequestData => AddPartitionsToTxnResponseData, 0..=3;
    AddOffsetsToTxn AddOffsetsToTxnRequestData => AddOffsetsToTxnResponseData, 0..=4;
    TxnOffsetCommit TxnOffsetCommitRequestData => TxnOffsetCommitResponseData, 0..=4;
    EndTxn EndTxnRequestData => EndTxnResponseData, 0..=4;
    DescribeTransactions DescribeTransactionsRequestData => DescribeTransactionsResponseData, 0..=0;
    DescribeAcls DescribeAclsRequestData => DescribeAclsResponseData, 1..=3;
    CreateAcls CreateAclsRequestData => CreateAclsResponseData, 1..=3;
    DeleteAcls DeleteAclsRequestData => DeleteAclsResponseData, 1..=3;
}

/// A request by whose version a broker knows the second protocol of transactions (KIP-890): what is written belongs to
/// the transaction without having been added to it, and the end brings the next epoch.
pub trait InTransactionV2: Call {
    const VERSION: i16;
}

impl InTransactionV2 for ProduceRequestData {
    const VERSION: i16 = 12;
}

impl InTransactionV2 for TxnOffsetCommitRequestData {
    const VERSION: i16 = 5;
}

impl InTransactionV2 for EndTxnRequestData {
    const VERSION: i16 = 5;
}

/// A request in that version, and in no other.
pub struct TransactionV2<R>(pub R);

impl<R: InTransactionV2> Call for TransactionV2<R> {
    type Response = R::Response;
    const KEY: ApiKey = R::KEY;
    const NAME: &'static str = R::NAME;
    const OLDEST: i16 = R::VERSION;
    const NEWEST: i16 = R::VERSION;

    fn encode(&self, into: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
        self.0.encode(into, version)
    }

    fn decode(from: &mut Bytes, version: i16) -> Result<R::Response, ProtocolError> {
        R::decode(from, version)
    }
}
