//! The metadata quorum, which is one node.

use headwater_wire::messages::DescribeQuorumRequestData;
use headwater_wire::messages::describe_quorum_request::{PartitionData, TopicData};
use headwater_wire::{ErrorCode, KafkaString};

use crate::common::{Raw, start};

#[tokio::test]
async fn the_quorum_is_the_only_node() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let partition = PartitionData::default();
    let topic = TopicData::default()
        .with_topic_name(KafkaString::from_static("__cluster_metadata"))
        .with_partitions(vec![partition]);
    let response = raw.call(&DescribeQuorumRequestData::default().with_topics(vec![topic]), 2).await;
    let quorum = &response.topics[0].partitions[0];
    assert_eq!((quorum.error_code, quorum.leader_id), (0, 1));
    assert_eq!(quorum.current_voters.iter().map(|voter| voter.replica_id).collect::<Vec<_>>(), [1]);
    assert_eq!(response.nodes[0].node_id, 1);
}

#[tokio::test]
async fn the_quorum_is_told_once_and_only_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    let topic = |name: &'static str, partitions: &[i32]| {
        let partition = |index: &i32| PartitionData::default().with_partition_index(*index);
        TopicData::default()
            .with_topic_name(KafkaString::from_static(name))
            .with_partitions(partitions.iter().map(partition).collect())
    };
    let metadata = "__cluster_metadata";
    for topics in [
        vec![topic(metadata, &[0; 1000])],
        vec![topic(metadata, &[0]), topic(metadata, &[0])],
        vec![topic("t", &[0, 0])],
    ] {
        let response = raw.call(&DescribeQuorumRequestData::default().with_topics(topics), 2).await;
        let told: Vec<_> = response.topics.iter().flat_map(|topic| &topic.partitions).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    }
}
