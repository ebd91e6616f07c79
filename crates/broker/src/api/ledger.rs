//! What is deliberately not served: each API of the protocol's that is not in the table, with the reason.
//!
//! docs/protocol.md is written from this and the table (`tests/it/ledger.rs`), which also finds an API without either.

use headwater_wire::ApiKey;

use super::APIS;

const ONE_NODE: &str = "controllers of a quorum speak it to each other; here is one node";
const ONE_BROKER: &str = "brokers and controllers speak it to each other; here is one process";
const SHARE_STATE: &str =
    "brokers keep share groups' state with each other by it; here the coordinator has it";

/// APIs that are not in the table, and why.
pub static ABSENT: &[(ApiKey, &str)] = &[
    (ApiKey::Vote, ONE_NODE),
    (ApiKey::BeginQuorumEpoch, ONE_NODE),
    (ApiKey::EndQuorumEpoch, ONE_NODE),
    (ApiKey::AlterPartition, ONE_BROKER),
    (ApiKey::Envelope, ONE_BROKER),
    (ApiKey::FetchSnapshot, ONE_NODE),
    (ApiKey::BrokerRegistration, ONE_BROKER),
    (ApiKey::BrokerHeartbeat, ONE_BROKER),
    (ApiKey::AllocateProducerIds, ONE_BROKER),
    (ApiKey::ControllerRegistration, ONE_NODE),
    (ApiKey::AssignReplicasToDirs, ONE_BROKER),
    (ApiKey::AddRaftVoter, ONE_NODE),
    (ApiKey::RemoveRaftVoter, ONE_NODE),
    (ApiKey::UpdateRaftVoter, ONE_NODE),
    (ApiKey::InitializeShareGroupState, SHARE_STATE),
    (ApiKey::ReadShareGroupState, SHARE_STATE),
    (ApiKey::WriteShareGroupState, SHARE_STATE),
    (ApiKey::DeleteShareGroupState, SHARE_STATE),
    (ApiKey::ReadShareGroupStateSummary, SHARE_STATE),
];

/// Versions of Kafka's that are not served though the API is, and why.
pub static NARROWER: &[(ApiKey, &str)] = &[];

/// An API and the versions of it that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    pub key: ApiKey,
    pub oldest: i16,
    pub newest: i16,
}

/// The table, in the order of the keys.
pub fn served() -> Vec<ServedApi> {
    let served = APIS.iter().map(|api| ServedApi { key: api.key, oldest: api.oldest, newest: api.newest });
    let mut served: Vec<_> = served.collect();
    served.sort_unstable_by_key(|api| api.key as i16);
    served
}
