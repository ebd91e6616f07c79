//! Headwater's own client against the broker, also while the broker is killed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headwater_broker::Broker;
use headwater_client::{
    Client, ClientConfig, Committed, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, GroupEvent,
    NewTopic, ProduceRecord, Producer, ProducerConfig,
};
use headwater_model::TopicPartition;
use headwater_wire::messages::DescribeTransactionsRequestData;

use crate::common::{Raw, start};
use crate::process::Process;

const DEADLINE: Duration = Duration::from_secs(60);

async fn client(address: &str) -> Client {
    Client::connect(ClientConfig::new(address, "test")).await.unwrap()
}

fn record(topic: &str, n: usize) -> ProduceRecord {
    ProduceRecord { topic: topic.into(), value: Some(n.to_string().into()), ..Default::default() }
}

fn numbers(fetched: &[headwater_client::Fetched]) -> Vec<usize> {
    let text = |record: &headwater_model::Record| {
        String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap().parse().unwrap()
    };
    fetched.iter().flat_map(|fetched| &fetched.records).map(text).collect()
}

async fn read(client: &Client, topic: &str, count: usize) -> Vec<usize> {
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign(vec![(TopicPartition::new(topic, 0), 0)]);
    let (begun, mut read) = (Instant::now(), Vec::new());
    while read.len() < count {
        assert!(begun.elapsed() < DEADLINE, "{} of {count} are there", read.len());
        read.extend(numbers(&consumer.poll(Duration::from_millis(500)).await.unwrap()));
    }
    read
}

/// Who looks for many topics, as dead letters do for theirs, is not stopped by one.
#[tokio::test]
async fn a_topic_that_cannot_be_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let client = client(&broker.bootstrap()).await;
    assert!(client.topic("not legal").await.unwrap().is_none());
}

#[tokio::test]
async fn every_record_is_there_once_and_in_order_although_the_broker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), None);
    let address = process.address.clone();
    let client = client(&address).await;
    client.create_topic(NewTopic::new("t", 1)).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).await.unwrap();
    let (rounds, each) = (3, 500);
    for round in 0..rounds {
        let mut deliveries = Vec::new();
        for n in 0..each {
            deliveries.push(producer.send(record("t", round * each + n)).await.unwrap());
        }
        drop(process);
        process = Process::start(dir.path(), Some(&address));
        for delivery in deliveries {
            delivery.await.unwrap();
        }
    }
    assert_eq!(read(&client, "t", rounds * each).await, (0..rounds * each).collect::<Vec<_>>());
}

/// What the coordinator has of a transactional id.
async fn epoch(broker: &Broker, transactional_id: &str) -> i16 {
    let ids = vec![transactional_id.to_owned().into()];
    let request = DescribeTransactionsRequestData::default().with_transactional_ids(ids);
    let described = Raw::connect(broker).await.call(&request, 0).await;
    described.transaction_states[0].producer_epoch
}

#[tokio::test]
async fn a_group_copies_in_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let client = client(&broker.bootstrap()).await;
    for topic in ["in", "out"] {
        client.create_topic(NewTopic::new(topic, 1)).await.unwrap();
    }
    let count = 300;
    let source = Producer::new(&client, ProducerConfig::default()).await.unwrap();
    for n in 0..count {
        drop(source.send(record("in", n)).await.unwrap());
    }
    source.flush().await.unwrap();
    let transactional = ProducerConfig { transactional_id: Some("copier".into()), ..Default::default() };
    let writer = Producer::new(&client, transactional).await.unwrap();
    let mut group =
        GroupConsumer::join(&client, GroupConfig::new("copiers", vec!["in".into()])).await.unwrap();
    let (begun, mut copied, mut transactions) = (Instant::now(), 0, 0);
    while copied < count {
        assert!(begun.elapsed() < DEADLINE, "{copied} of {count} are copied");
        let Some(GroupEvent::Records(fetched)) = group.poll(Duration::from_millis(500)).await.unwrap() else {
            continue;
        };
        writer.begin_transaction().await.unwrap();
        for n in numbers(&fetched) {
            drop(writer.send(record("out", n)).await.unwrap());
            copied += 1;
        }
        let offsets: HashMap<_, _> = fetched
            .iter()
            .map(|f| {
                let position = Committed::from(f);
                (f.topic_partition.clone(), position)
            })
            .collect();
        writer.send_offsets(&group.metadata(), &offsets).await.unwrap();
        writer.commit_transaction().await.unwrap();
        transactions += 1;
    }
    assert_eq!(epoch(&broker, "copier").await, transactions, "each transaction has an epoch (KIP-890)");
    assert_eq!(read(&client, "out", count).await, (0..count).collect::<Vec<_>>());
    let committed = client.committed("copiers", None).await.unwrap();
    assert_eq!(committed[&TopicPartition::new("in", 0)].offset, count as i64);
    group.leave().await.unwrap();
    broker.shutdown().await;
}
