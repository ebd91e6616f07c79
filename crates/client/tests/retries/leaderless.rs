//! Partitions whose brokers are away.

use headwater_client::{Client, ClientConfig};
use headwater_model::TopicPartition;

use crate::scripted::{self, Asked, TOPIC};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_is_told_from_others_and_from_none() {
    let script = |asked: Asked<'_>| panic!("{:?} was asked", asked.key);
    let address = scripted::start(&[], || vec![0, -1, 3], script).await;
    let client = Client::connect(ClientConfig::new(address, "leaderless")).await.unwrap();
    let at = |partition| TopicPartition::new(TOPIC, partition);
    let asked = [at(0), at(1), at(2), at(3), TopicPartition::new("another", 0)];
    assert_eq!(client.without_leader(&asked).await.unwrap(), [at(1)]);
    assert!(client.without_leader(&[at(0), at(2)]).await.unwrap().is_empty());
}
