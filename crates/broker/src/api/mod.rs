//! The APIs that are served: one table, and what every handler is given.
//!
//! A handler gets a decoded request and returns a response; the table does the rest. What is not in the table
//! is not offered by ApiVersions, and asking for it ends the connection, as Apache Kafka does.

mod access;
mod acls;
mod broker_configs;
mod client_metrics;
mod config_resources;
mod configs;
mod consumer_groups;
mod coordinators;
mod delegation_tokens;
mod fetch;
mod group_configs;
mod groups;
mod ledger;
mod metadata;
mod offset_fetch;
mod offsets;
mod owners;
mod positions;
mod produce;
mod producers;
mod quorum;
mod quotas;
mod replicas;
mod rights;
mod sasl;
mod scram;
mod share;
mod skim;
mod spending;
mod streams;
mod telemetry;
mod topic_ids;
mod topics;
mod transactions;
mod versions;

use std::collections::HashSet;
use std::hash::Hash;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_coordinator::{Client, Request, Response};
use headwater_model::Principal;
use headwater_wire::messages::*;
use headwater_wire::{ApiKey, KafkaString, KafkaUuid, ProtocolError, response_header_version};
use thiserror::Error;

use crate::broker::Shared;
use crate::engine::Unavailable;
use crate::frame::SHORTEST;
use crate::outgoing::Outgoing;
use crate::quota::Mute;
use crate::security::Listener;
use crate::usage::Memo;

pub use fetch::Sessions;
pub use ledger::{ABSENT, NARROWER, ServedApi, served};
pub use sasl::serve as authenticate;
pub use share::{ShareSessions, hang_up};
pub use versions::amid_sasl;

/// Why a request gets no answer; its connection is closed.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("a request without a header")]
    NoHeader,
    #[error("a request of API {key} v{version}, which is not served")]
    Unsupported { key: i16, version: i16, correlation_id: i32 },
    #[error("a request of API {key} v{version} that cannot be read: {error}")]
    Decode { key: i16, version: i16, error: ProtocolError },
    #[error("a Produce request of {0} bytes with more entries than batches fit into it")]
    Implausible(usize),
    #[error("a Produce request with acks=0 for topic {topic}, partition {partition}, was refused: {message}")]
    Unanswered { topic: String, partition: i32, message: String },
    #[error(
        "a request of API {key} whose partitions take {bytes} bytes with the name that each has, where {MOST_NAMES} are allowed; ask for fewer at once"
    )]
    Sprawling { key: i16, bytes: usize },
    #[error("a response of API {key} v{version} cannot be written: {error}; this is an error in Headwater")]
    Encode { key: i16, version: i16, error: ProtocolError },
    #[error("a response of API {key} that is longer than a frame can be; ask for less at once")]
    TooLong { key: i16 },
    #[error("the coordinator answered API {key} with something else; this is an error in Headwater")]
    Mismatch { key: i16 },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

pub type Serving = Pin<Box<dyn Future<Output = Result<Option<Outgoing>, CallError>> + Send>>;

/// What the names of a request may take where each partition has its topic's: in the request a name stands once, before as
/// many partitions as there is room for.
const MOST_NAMES: usize = 64 << 20;

/// One line of the table.
pub struct Api {
    pub key: ApiKey,
    pub name: &'static str,
    pub oldest: i16,
    pub newest: i16,
    /// The oldest version that ApiVersions names; lower than `oldest` where a client insists.
    pub offered: i16,
    /// The request takes effect when it is handed over, so the next may be read before it is answered.
    pub pipelined: bool,
    pub serve: fn(Call, Bytes) -> Serving,
}

/// A request apart from its body.
#[derive(Clone)]
pub struct Call {
    pub shared: Arc<Shared>,
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<KafkaString>,
    /// By which listener the client came.
    pub listener: Arc<Listener>,
    /// Who the client has proved to be.
    pub principal: Arc<Principal>,
    /// Where the client came from.
    pub peer: SocketAddr,
    /// Where the client came to.
    pub local: SocketAddr,
    /// Of the client's channel.
    pub mute: Arc<Mute>,
    /// What the connection has shown of itself.
    pub memo: Arc<Memo>,
}

impl Call {
    pub async fn ask(&self, request: Request) -> Result<Response, CallError> {
        Ok(self.shared.engine.ask(self.client(), request).await?)
    }

    fn client(&self) -> Client {
        Client {
            id: optional(&self.client_id).unwrap_or_default(),
            host: format!("/{}", self.peer.ip().to_canonical()),
            principal: Arc::clone(&self.principal),
        }
    }

    /// Refuses what would take memory out of all proportion to the request: lengths of names, and how many have each.
    fn bear(&self, named: impl Iterator<Item = (usize, usize)>) -> Result<(), CallError> {
        let take = |sum: usize, (name, times): (usize, usize)| sum.saturating_add(name.saturating_mul(times));
        match named.fold(0, take) {
            bytes if bytes > MOST_NAMES => Err(CallError::Sprawling { key: self.key, bytes }),
            _ => Ok(()),
        }
    }

    fn mismatch(&self) -> CallError {
        CallError::Mismatch { key: self.key }
    }

    fn malformed(&self, error: ProtocolError) -> CallError {
        CallError::Decode { key: self.key, version: self.version, error }
    }

    /// Host and port of the only node, as this client should know it.
    fn node(&self) -> (KafkaString, i32) {
        let (host, port) = self.listener.advertised.to(self.local);
        (host.into(), port)
    }

    fn unwritable(&self, error: ProtocolError) -> CallError {
        CallError::Encode { key: self.key, version: self.version, error }
    }

    /// A response to this request with room for its body.
    fn begin(&self, body: usize) -> Outgoing {
        let tagged = response_header_version(self.key, self.version) == 1;
        Outgoing::begin(self.correlation_id, tagged, body)
    }

    /// A response of what `write` writes.
    fn respond(
        &self,
        length: Result<usize, ProtocolError>,
        write: impl FnOnce(&mut BytesMut) -> Result<(), ProtocolError>,
    ) -> Result<Outgoing, CallError> {
        let mut outgoing = self.begin(length.map_err(|error| self.unwritable(error))?);
        write(outgoing.bytes_mut()).map_err(|error| self.unwritable(error))?;
        outgoing.seal().ok_or(CallError::TooLong { key: self.key })
    }
}

/// Responses that cannot tell how long to wait; the channel is mute all the same.
trait Untold: Sized {
    fn with_throttle_time_ms(self, _: i32) -> Self {
        self
    }
}

impl Untold for WriteTxnMarkersResponseData {}
impl Untold for DescribeQuorumResponseData {}
impl Untold for SaslHandshakeResponseData {}
impl Untold for SaslAuthenticateResponseData {}

macro_rules! served {
    ($request:ident, $handler:path) => {
        |call, mut body| {
            Box::pin(async move {
                let request =
                    $request::read(&mut body, call.version).map_err(|error| call.malformed(error))?;
                drop(body);
                let (response, spent) = spending::timed(call.is_timed(), $handler(&call, request)).await;
                let response = response?.with_throttle_time_ms(call.settle(spent));
                let length = response.encoded_len(call.version);
                call.respond(length, |buffer| response.write(buffer, call.version)).map(Some)
            })
        }
    };
}

macro_rules! table {
    ($($key:ident $oldest:literal..=$newest:literal $request:ident => $handler:path;)*) => {
        &[
            Api { key: ApiKey::Produce, name: "Produce", oldest: 3, newest: 13, offered: 0, pipelined: true, serve: produce::serve },
            Api { key: ApiKey::Fetch, name: "Fetch", oldest: 4, newest: 18, offered: 4, pipelined: false, serve: fetch::serve },
            $(Api {
                key: ApiKey::$key,
                name: stringify!($key),
                oldest: $oldest,
                newest: $newest,
                offered: $oldest,
                pipelined: false,
                serve: served!($request, $handler),
            },)*
        ]
    };
}

/// Produce is offered from v0 because librdkafka compresses only when it is (KAFKA-18659).
#[rustfmt::skip]
pub static APIS: &[Api] = table! {
    ListOffsets 1..=11 ListOffsetsRequestData => positions::list;
    Metadata 0..=13 MetadataRequestData => metadata::metadata;
    OffsetCommit 2..=10 OffsetCommitRequestData => offsets::commit;
    OffsetFetch 1..=10 OffsetFetchRequestData => offset_fetch::fetch;
    FindCoordinator 0..=6 FindCoordinatorRequestData => coordinators::find;
    JoinGroup 0..=9 JoinGroupRequestData => groups::join;
    Heartbeat 0..=4 HeartbeatRequestData => groups::heartbeat;
    LeaveGroup 0..=5 LeaveGroupRequestData => groups::leave;
    SyncGroup 0..=5 SyncGroupRequestData => groups::sync;
    DescribeGroups 0..=6 DescribeGroupsRequestData => groups::describe;
    ListGroups 0..=5 ListGroupsRequestData => groups::list;
    ApiVersions 0..=4 ApiVersionsRequestData => versions::versions;
    CreateTopics 2..=7 CreateTopicsRequestData => topics::create;
    DeleteTopics 1..=6 DeleteTopicsRequestData => topics::delete;
    DeleteRecords 0..=2 DeleteRecordsRequestData => positions::delete_records;
    InitProducerId 0..=5 InitProducerIdRequestData => transactions::init_producer_id;
    OffsetForLeaderEpoch 2..=4 OffsetForLeaderEpochRequestData => positions::for_leader_epoch;
    AddPartitionsToTxn 0..=5 AddPartitionsToTxnRequestData => transactions::add_partitions;
    AddOffsetsToTxn 0..=4 AddOffsetsToTxnRequestData => transactions::add_offsets;
    EndTxn 0..=5 EndTxnRequestData => transactions::end;
    WriteTxnMarkers 1..=2 WriteTxnMarkersRequestData => producers::write_markers;
    TxnOffsetCommit 0..=5 TxnOffsetCommitRequestData => offsets::commit_in_transaction;
    DescribeConfigs 1..=4 DescribeConfigsRequestData => configs::describe;
    AlterConfigs 0..=2 AlterConfigsRequestData => configs::alter;
    AlterReplicaLogDirs 1..=2 AlterReplicaLogDirsRequestData => replicas::log_dirs;
    DescribeLogDirs 1..=5 DescribeLogDirsRequestData => metadata::log_dirs;
    CreatePartitions 0..=3 CreatePartitionsRequestData => topics::create_partitions;
    CreateDelegationToken 1..=3 CreateDelegationTokenRequestData => delegation_tokens::create;
    RenewDelegationToken 1..=2 RenewDelegationTokenRequestData => delegation_tokens::renew;
    ExpireDelegationToken 1..=2 ExpireDelegationTokenRequestData => delegation_tokens::expire;
    DescribeDelegationToken 1..=3 DescribeDelegationTokenRequestData => delegation_tokens::describe;
    DeleteGroups 0..=2 DeleteGroupsRequestData => groups::delete;
    ElectLeaders 0..=2 ElectLeadersRequestData => replicas::elect_leaders;
    IncrementalAlterConfigs 0..=1 IncrementalAlterConfigsRequestData => configs::alter_incrementally;
    AlterPartitionReassignments 0..=1 AlterPartitionReassignmentsRequestData => replicas::reassign;
    ListPartitionReassignments 0..=0 ListPartitionReassignmentsRequestData => replicas::reassignments;
    OffsetDelete 0..=0 OffsetDeleteRequestData => offsets::delete;
    DescribeQuorum 0..=2 DescribeQuorumRequestData => quorum::describe;
    UpdateFeatures 0..=2 UpdateFeaturesRequestData => quorum::update_features;
    UnregisterBroker 0..=0 UnregisterBrokerRequestData => quorum::unregister;
    DescribeCluster 0..=2 DescribeClusterRequestData => metadata::cluster;
    ConsumerGroupHeartbeat 0..=1 ConsumerGroupHeartbeatRequestData => consumer_groups::heartbeat;
    ConsumerGroupDescribe 0..=1 ConsumerGroupDescribeRequestData => consumer_groups::describe;
    DescribeProducers 0..=0 DescribeProducersRequestData => producers::describe;
    DescribeTransactions 0..=0 DescribeTransactionsRequestData => transactions::describe;
    ListTransactions 0..=2 ListTransactionsRequestData => transactions::list;
    GetTelemetrySubscriptions 0..=0 GetTelemetrySubscriptionsRequestData => telemetry::subscriptions;
    PushTelemetry 0..=0 PushTelemetryRequestData => telemetry::push;
    ListConfigResources 0..=1 ListConfigResourcesRequestData => config_resources::list;
    SaslHandshake 0..=1 SaslHandshakeRequestData => sasl::out_of_place_handshake;
    SaslAuthenticate 0..=2 SaslAuthenticateRequestData => sasl::out_of_place;
    DescribeUserScramCredentials 0..=0 DescribeUserScramCredentialsRequestData => scram::describe;
    AlterUserScramCredentials 0..=0 AlterUserScramCredentialsRequestData => scram::alter;
    DescribeTopicPartitions 0..=0 DescribeTopicPartitionsRequestData => metadata::topic_partitions;
    DescribeAcls 1..=3 DescribeAclsRequestData => acls::describe;
    CreateAcls 1..=3 CreateAclsRequestData => acls::create;
    DeleteAcls 1..=3 DeleteAclsRequestData => acls::delete;
    DescribeClientQuotas 0..=1 DescribeClientQuotasRequestData => quotas::describe;
    AlterClientQuotas 0..=1 AlterClientQuotasRequestData => quotas::alter;
    ShareGroupHeartbeat 1..=1 ShareGroupHeartbeatRequestData => share::heartbeat;
    ShareGroupDescribe 1..=1 ShareGroupDescribeRequestData => share::describe;
    ShareFetch 1..=2 ShareFetchRequestData => share::fetch;
    ShareAcknowledge 1..=2 ShareAcknowledgeRequestData => share::acknowledge;
    DescribeShareGroupOffsets 0..=1 DescribeShareGroupOffsetsRequestData => share::describe_offsets;
    AlterShareGroupOffsets 0..=0 AlterShareGroupOffsetsRequestData => share::alter_offsets;
    DeleteShareGroupOffsets 0..=0 DeleteShareGroupOffsetsRequestData => share::delete_offsets;
    StreamsGroupHeartbeat 0..=0 StreamsGroupHeartbeatRequestData => streams::heartbeat;
    StreamsGroupDescribe 0..=0 StreamsGroupDescribeRequestData => streams::describe;
};

/// Key, version and correlation id, which every request begins with.
pub fn peek(frame: &Bytes) -> Result<(i16, i16, i32), CallError> {
    let head = frame.first_chunk::<SHORTEST>().ok_or(CallError::NoHeader)?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    Ok((key, version, i32::from_be_bytes([head[4], head[5], head[6], head[7]])))
}

pub fn find(key: i16, version: i16, correlation_id: i32) -> Result<&'static Api, CallError> {
    let api = APIS.iter().find(|api| api.key as i16 == key);
    api.filter(|api| (api.oldest..=api.newest).contains(&version)).ok_or(CallError::Unsupported {
        key,
        version,
        correlation_id,
    })
}

/// Whether the answer may describe every partition there is, however short the request.
pub fn describes_partitions(key: i16) -> bool {
    let describing = [
        ApiKey::Metadata,
        ApiKey::OffsetFetch,
        ApiKey::DescribeConfigs,
        ApiKey::DescribeLogDirs,
        ApiKey::DescribeTopicPartitions,
    ];
    describing.iter().any(|describing| *describing as i16 == key)
}

/// KIP-511: a client that asks with a newer ApiVersions learns in v0 what there is; all else is an error.
pub fn answer_unknown_version(error: CallError) -> Result<Outgoing, CallError> {
    match error {
        CallError::Unsupported { key, correlation_id, .. } if key == ApiKey::ApiVersions as i16 => {
            versions::unsupported(correlation_id)
        }
        error => Err(error),
    }
}

fn text(string: &KafkaString) -> String {
    string.as_str().to_owned()
}

/// Leaves each once, where it comes first: what is asked for again and again would make a long answer of a short request.
fn once_by<T, K: Eq + Hash>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut seen = HashSet::new();
    items.retain(|item| seen.insert(key(item)));
}

fn texts(strings: &[KafkaString]) -> Vec<String> {
    strings.iter().map(text).collect()
}

fn optional(string: &Option<KafkaString>) -> Option<String> {
    string.as_ref().map(text)
}

fn uuid(bytes: [u8; 16]) -> KafkaUuid {
    KafkaUuid::from_uuid(uuid::Uuid::from_bytes(bytes))
}
