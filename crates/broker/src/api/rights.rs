//! What each API asks of a client: one table, as readable as Kafka's documentation of it.
//!
//! A handler may only ask for a right that its line names, which debug builds check; that it asks at all is checked
//! by a test that calls every API as a stranger.

use headwater_model::acl::{Operation, ResourceType};
use headwater_wire::{ApiKey, ErrorCode};

/// An operation on a type of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    pub operation: Operation,
    pub on: ResourceType,
}

impl Right {
    /// What a client without it is told.
    pub fn refusal(self) -> ErrorCode {
        match self.on {
            ResourceType::Topic => ErrorCode::TopicAuthorizationFailed,
            ResourceType::Group => ErrorCode::GroupAuthorizationFailed,
            ResourceType::Cluster | ResourceType::User => ErrorCode::ClusterAuthorizationFailed,
            ResourceType::TransactionalId => ErrorCode::TransactionalIdAuthorizationFailed,
            ResourceType::DelegationToken => ErrorCode::DelegationTokenAuthorizationFailed,
        }
    }
}

macro_rules! rights {
    ($($name:ident = $operation:ident $on:ident;)*) => {
        $(pub const $name: Right = Right { operation: Operation::$operation, on: ResourceType::$on };)*
    };
}

rights! {
    READ_TOPIC = Read Topic;
    WRITE_TOPIC = Write Topic;
    CREATE_TOPIC = Create Topic;
    DELETE_TOPIC = Delete Topic;
    ALTER_TOPIC = Alter Topic;
    DESCRIBE_TOPIC = Describe Topic;
    DESCRIBE_TOPIC_CONFIGS = DescribeConfigs Topic;
    ALTER_TOPIC_CONFIGS = AlterConfigs Topic;
    READ_GROUP = Read Group;
    DESCRIBE_GROUP_CONFIGS = DescribeConfigs Group;
    ALTER_GROUP_CONFIGS = AlterConfigs Group;
    DELETE_GROUP = Delete Group;
    DESCRIBE_GROUP = Describe Group;
    WRITE_TRANSACTIONAL_ID = Write TransactionalId;
    DESCRIBE_TRANSACTIONAL_ID = Describe TransactionalId;
    CREATE_CLUSTER = Create Cluster;
    DELETE_CLUSTER = Delete Cluster;
    ALTER_CLUSTER = Alter Cluster;
    DESCRIBE_CLUSTER = Describe Cluster;
    CLUSTER_ACTION = ClusterAction Cluster;
    DESCRIBE_CLUSTER_CONFIGS = DescribeConfigs Cluster;
    ALTER_CLUSTER_CONFIGS = AlterConfigs Cluster;
    IDEMPOTENT_WRITE = IdempotentWrite Cluster;
}

pub enum Needs {
    Rights(&'static [Right]),
    /// Everybody may call it, because …
    Nothing(&'static str),
}

macro_rules! needs {
    ($($key:ident: $($right:ident),+;)* - $($free:ident $because:literal;)*) => {
        &[
            $((ApiKey::$key, Needs::Rights(&[$($right,)+])),)*
            $((ApiKey::$free, Needs::Nothing($because)),)*
        ]
    };
}

/// In families; of several rights a line means each where its resource is named, or where it is an alternative.
#[rustfmt::skip]
pub static NEEDS: &[(ApiKey, Needs)] = needs! {
    // Records. A refusal by schema names the subjects whose topic the client may DESCRIBE, or all if it may READ `_schemas`;
    // an entry of the catalog that says where a service answers needs its group.
    Produce: WRITE_TOPIC, WRITE_TRANSACTIONAL_ID, DESCRIBE_TOPIC, READ_TOPIC, READ_GROUP;
    Fetch: READ_TOPIC;
    ListOffsets: DESCRIBE_TOPIC;
    // CLUSTER_ACTION is enough there, for any topic: only brokers asked before clients did.
    OffsetForLeaderEpoch: DESCRIBE_TOPIC, CLUSTER_ACTION;
    DeleteRecords: DELETE_TOPIC;
    // What there is. Creating on use: CREATE of the topic, or of any topic, which CREATE of the cluster is.
    Metadata: DESCRIBE_TOPIC, CREATE_TOPIC, CREATE_CLUSTER, DESCRIBE_CLUSTER;
    DescribeTopicPartitions: DESCRIBE_TOPIC;
    DescribeCluster: DESCRIBE_CLUSTER;
    DescribeLogDirs: DESCRIBE_CLUSTER;
    // Topics. The configuration of a new topic is shown to whoever may DESCRIBE_CONFIGS; who uses a topic, to whoever
    // may DESCRIBE it, with the groups and transactional ids that may be DESCRIBEd. DELETE of the cluster is that of any topic.
    CreateTopics: CREATE_TOPIC, CREATE_CLUSTER, DESCRIBE_TOPIC_CONFIGS;
    CreatePartitions: ALTER_TOPIC;
    DeleteTopics: DESCRIBE_TOPIC, DELETE_TOPIC, DELETE_CLUSTER;
    DescribeConfigs: DESCRIBE_TOPIC, DESCRIBE_TOPIC_CONFIGS, DESCRIBE_CLUSTER_CONFIGS, DESCRIBE_GROUP_CONFIGS, DESCRIBE_GROUP,
        DESCRIBE_TRANSACTIONAL_ID, DESCRIBE_CLUSTER;
    AlterConfigs: ALTER_TOPIC_CONFIGS, ALTER_CLUSTER_CONFIGS, ALTER_GROUP_CONFIGS;
    IncrementalAlterConfigs: ALTER_TOPIC_CONFIGS, ALTER_CLUSTER_CONFIGS, ALTER_GROUP_CONFIGS;
    // Groups. Who may DESCRIBE the cluster sees all groups. The coordinator of share groups' state is looked for by brokers.
    FindCoordinator: DESCRIBE_GROUP, DESCRIBE_TRANSACTIONAL_ID, CLUSTER_ACTION;
    JoinGroup: READ_GROUP;
    SyncGroup: READ_GROUP;
    Heartbeat: READ_GROUP;
    LeaveGroup: READ_GROUP;
    ConsumerGroupHeartbeat: READ_GROUP, DESCRIBE_TOPIC;
    ConsumerGroupDescribe: DESCRIBE_GROUP, DESCRIBE_TOPIC;
    ShareGroupHeartbeat: READ_GROUP, DESCRIBE_TOPIC;
    ShareGroupDescribe: DESCRIBE_GROUP, DESCRIBE_TOPIC;
    ShareFetch: READ_GROUP, READ_TOPIC;
    ShareAcknowledge: READ_GROUP, READ_TOPIC;
    DescribeShareGroupOffsets: DESCRIBE_GROUP, DESCRIBE_TOPIC;
    AlterShareGroupOffsets: READ_GROUP, READ_TOPIC;
    DeleteShareGroupOffsets: DELETE_GROUP, READ_TOPIC;
    StreamsGroupHeartbeat: READ_GROUP, DESCRIBE_TOPIC, CREATE_TOPIC, CREATE_CLUSTER;
    StreamsGroupDescribe: DESCRIBE_GROUP, DESCRIBE_TOPIC;
    DescribeGroups: DESCRIBE_GROUP;
    ListGroups: DESCRIBE_CLUSTER, DESCRIBE_GROUP;
    DeleteGroups: DELETE_GROUP;
    OffsetCommit: READ_GROUP, READ_TOPIC;
    OffsetFetch: DESCRIBE_GROUP, DESCRIBE_TOPIC;
    OffsetDelete: DELETE_GROUP, READ_TOPIC;
    // Transactions. An idempotent producer needs IDEMPOTENT_WRITE, or WRITE of any topic (KIP-679). Many transactions in
    // one AddPartitionsToTxn (v4 and above) are sent by brokers.
    InitProducerId: WRITE_TRANSACTIONAL_ID, IDEMPOTENT_WRITE, WRITE_TOPIC;
    AddPartitionsToTxn: WRITE_TRANSACTIONAL_ID, WRITE_TOPIC, CLUSTER_ACTION;
    AddOffsetsToTxn: WRITE_TRANSACTIONAL_ID, READ_GROUP;
    TxnOffsetCommit: WRITE_TRANSACTIONAL_ID, READ_GROUP, READ_TOPIC;
    EndTxn: WRITE_TRANSACTIONAL_ID;
    DescribeProducers: READ_TOPIC;
    WriteTxnMarkers: ALTER_CLUSTER, CLUSTER_ACTION;
    DescribeTransactions: DESCRIBE_TRANSACTIONAL_ID, DESCRIBE_TOPIC;
    ListTransactions: DESCRIBE_TRANSACTIONAL_ID;
    // The cluster itself.
    ElectLeaders: ALTER_CLUSTER;
    AlterPartitionReassignments: ALTER_CLUSTER;
    ListPartitionReassignments: DESCRIBE_CLUSTER;
    AlterReplicaLogDirs: ALTER_CLUSTER;
    DescribeQuorum: DESCRIBE_CLUSTER;
    UpdateFeatures: ALTER_CLUSTER;
    UnregisterBroker: ALTER_CLUSTER;
    ListConfigResources: DESCRIBE_CLUSTER_CONFIGS;
    // Credentials.
    DescribeUserScramCredentials: DESCRIBE_CLUSTER;
    AlterUserScramCredentials: ALTER_CLUSTER;
    // Access rules.
    DescribeAcls: DESCRIBE_CLUSTER;
    CreateAcls: ALTER_CLUSTER;
    DeleteAcls: ALTER_CLUSTER;
    // Quotas.
    DescribeClientQuotas: DESCRIBE_CLUSTER_CONFIGS;
    AlterClientQuotas: ALTER_CLUSTER_CONFIGS;

    // Nothing, and why.
    -
    ApiVersions "it is asked before anybody has said who they are";
    SaslHandshake "it is how a client says who it is";
    SaslAuthenticate "it is how a client says who it is";
    GetTelemetrySubscriptions "a client asks what it should send of itself";
    PushTelemetry "a client tells of itself, and nothing is kept";
    CreateDelegationToken "tokens are disabled for everybody";
    RenewDelegationToken "tokens are disabled for everybody";
    ExpireDelegationToken "tokens are disabled for everybody";
    DescribeDelegationToken "tokens are disabled for everybody";
};

/// Whether the line of an API names the right.
pub fn names(key: i16, right: Right) -> bool {
    NEEDS.iter().any(|(api, needs)| match needs {
        Needs::Rights(rights) => *api as i16 == key && rights.contains(&right),
        Needs::Nothing(because) => {
            debug_assert!(
                *api as i16 != key,
                "{api:?} needs nothing, because {because}, and asks for {right:?}"
            );
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::APIS;
    use super::*;

    #[test]
    fn every_api_of_the_dispatch_table_says_once_what_it_needs() {
        for api in APIS {
            let lines: Vec<_> = NEEDS.iter().filter(|(key, _)| *key == api.key).collect();
            assert_eq!(lines.len(), 1, "{:?} needs one line in api/rights.rs", api.key);
            if let Needs::Nothing(because) = lines[0].1 {
                assert!(!because.is_empty(), "{:?} says why", api.key);
            }
        }
        assert_eq!(NEEDS.len(), APIS.len(), "every line belongs to an API that is served");
    }
}
