//! Where the broker is, and the steps that several tests share.

use std::time::{Duration, Instant};

use headwater_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, Isolation, NewTopic, OffsetSpec,
    ProduceRecord, Producer, ProducerConfig, Security,
};
use headwater_model::{Record, TopicPartition};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// The broker under test; `None` skips, which CI does not allow.
pub fn bootstrap() -> Option<String> {
    let address = std::env::var("HEADWATER_TEST_BOOTSTRAP").ok().filter(|address| !address.is_empty());
    if address.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must set HEADWATER_TEST_BOOTSTRAP");
        eprintln!("skipped: HEADWATER_TEST_BOOTSTRAP names no broker");
    }
    address
}

/// TLS and SASL of the broker under test, by the file that HEADWATER_TEST_COMMAND_CONFIG names.
pub fn security() -> Security {
    let file = std::env::var_os("HEADWATER_TEST_COMMAND_CONFIG");
    file.map(|file| Security::load(file.as_ref()).expect("settings")).unwrap_or_default()
}

pub async fn client() -> Option<Client> {
    named("headwater-client-tests").await
}

/// A client of this id.
pub async fn named(client_id: &str) -> Option<Client> {
    let config = ClientConfig::new(bootstrap()?, client_id).security(security());
    Some(Client::connect(config).await.expect("the broker under test answers"))
}

pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

pub async fn topic(client: &Client, partitions: i32) -> String {
    let name = unique("client");
    client.ensure_topic(NewTopic::new(&name, partitions)).await.unwrap();
    name
}

pub fn record(topic: &str, partition: i32, value: impl Into<String>) -> ProduceRecord {
    ProduceRecord {
        topic: topic.into(),
        partition: Some(partition),
        value: Some(value.into().into()),
        ..ProduceRecord::default()
    }
}

pub async fn producer(client: &Client) -> Producer {
    Producer::new(client, ProducerConfig::default()).await.unwrap()
}

pub async fn transactional(client: &Client, id: &str) -> Producer {
    let config = ProducerConfig { transactional_id: Some(id.into()), ..ProducerConfig::default() };
    Producer::new(client, config).await.unwrap()
}

/// Sends and forgets the delivery: flush or commit will tell.
pub async fn send(producer: &Producer, record: ProduceRecord) {
    drop(producer.send(record).await.unwrap());
}

pub fn consumer(client: &Client, isolation: Isolation) -> Consumer {
    let config =
        ConsumerConfig { isolation, auto_offset_reset: AutoOffsetReset::Fail, ..ConsumerConfig::default() };
    Consumer::new(client, config)
}

/// All of a topic from the beginning to its present end, as one who reads at this isolation sees it.
pub async fn read_all(client: &Client, topic: &str, isolation: Isolation) -> Vec<Record> {
    let info = client.topic(topic).await.unwrap().expect("the topic exists");
    let partitions: Vec<_> = (0..info.partitions).map(|index| TopicPartition::new(topic, index)).collect();
    let ask = |spec| partitions.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
    let begins = client.list_offsets(&ask(OffsetSpec::Earliest), isolation).await.unwrap();
    // The end of all records: the last stable offset follows a commit only after a moment.
    let ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Uncommitted).await.unwrap();
    let mut consumer = consumer(client, isolation);
    consumer.assign(begins.into_iter().collect());
    let mut records = Vec::new();
    let begun = Instant::now();
    while ends.iter().any(|(at, end)| consumer.position(at).unwrap() < *end) {
        assert!(begun.elapsed() < PATIENCE, "{topic} was not read to its end");
        for fetched in consumer.poll(Duration::from_millis(500)).await.unwrap() {
            records.extend(fetched.records);
        }
    }
    records
}

pub fn values(records: &[Record]) -> Vec<String> {
    let text =
        |record: &Record| String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap();
    records.iter().map(text).collect()
}
