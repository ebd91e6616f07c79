//! `authorized_operations` (KIP-430): what the client may do, told when it asks.

use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};
use headwater_wire::messages::*;

use super::support::*;
use crate::common::Raw;

fn bits(operations: &[Operation]) -> i32 {
    operations.iter().fold(0, |bits, operation| bits | 1 << operation.code())
}

#[tokio::test]
async fn authorized_operations_are_told_to_who_asks() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = [
        allow(Operation::Read, ResourceType::Topic, "orders"),
        allow(Operation::Describe, ResourceType::Cluster, CLUSTER_NAME),
        allow(Operation::Delete, ResourceType::Group, "readers"),
    ];
    let broker = filled(directory.path(), &rules).await;
    let mut raw = Raw::connect(&broker).await;
    let read = bits(&[Operation::Read, Operation::Describe]);
    for version in 8..=10 {
        let asked = metadata(Some(&["orders"]))
            .with_include_cluster_authorized_operations(true)
            .with_include_topic_authorized_operations(true);
        let told = raw.call(&asked, version).await;
        assert_eq!(told.topics[0].topic_authorized_operations, read, "v{version}");
        assert_eq!(told.cluster_authorized_operations, bits(&[Operation::Describe]), "v{version}");
    }
    assert_eq!(
        raw.call(&metadata(Some(&["orders"])), 9).await.topics[0].topic_authorized_operations,
        i32::MIN
    );
    let asked = DescribeClusterRequestData::default()
        .with_include_cluster_authorized_operations(true)
        .with_endpoint_type(1);
    let told = raw.call(&asked, 1).await;
    assert_eq!(told.cluster_authorized_operations, bits(&[Operation::Describe]));
    let asked = DescribeGroupsRequestData::default()
        .with_groups(vec![named("readers")])
        .with_include_authorized_operations(true);
    let told = raw.call(&asked, 5).await;
    assert_eq!(told.groups[0].authorized_operations, bits(&[Operation::Delete, Operation::Describe]));
    let asked = DescribeTopicPartitionsRequestData::default().with_response_partition_limit(10);
    let told = raw.call(&asked, 0).await;
    assert_eq!(told.topics.len(), 1, "{told:?}");
    assert_eq!(told.topics[0].topic_authorized_operations, read);
    broker.shutdown().await;
}
