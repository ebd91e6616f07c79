//! How many records one producer and one consumer move: `client-throughput BOOTSTRAP [RECORDS] [BYTES]`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_client::{
    Client, ClientConfig, ClientError, Consumer, ConsumerConfig, NewTopic, ProduceRecord, Producer,
    ProducerConfig,
};
use headwater_model::TopicPartition;

const PARTITIONS: i32 = 6;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), ClientError> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".into());
    let records = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000_u32);
    let bytes = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(100_usize);
    let client = Client::connect(ClientConfig::new(bootstrap, "throughput")).await?;
    let topic = format!("throughput-{}", uuid::Uuid::new_v4().simple());
    client.ensure_topic(NewTopic::new(&topic, PARTITIONS)).await?;
    produce(&client, &topic, records, bytes).await?;
    consume(&client, &topic, records).await?;
    client.delete_topic(&topic).await
}

async fn produce(client: &Client, topic: &str, records: u32, bytes: usize) -> Result<(), ClientError> {
    let producer = Producer::new(client, ProducerConfig::default()).await?;
    let value = Bytes::from(vec![b'v'; bytes]);
    let begun = Instant::now();
    for number in 0..records {
        let record = ProduceRecord {
            topic: topic.to_owned(),
            key: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
            value: Some(value.clone()),
            ..ProduceRecord::default()
        };
        drop(producer.send(record).await?);
    }
    producer.flush().await?;
    report("produced", records, begun.elapsed());
    Ok(())
}

async fn consume(client: &Client, topic: &str, records: u32) -> Result<(), ClientError> {
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign((0..PARTITIONS).map(|index| (TopicPartition::new(topic, index), 0)).collect());
    let begun = Instant::now();
    let mut seen = 0;
    while seen < records as usize {
        for fetched in consumer.poll(Duration::from_secs(1)).await? {
            seen += fetched.records.len();
        }
    }
    report("consumed", records, begun.elapsed());
    Ok(())
}

fn report(what: &str, records: u32, took: Duration) {
    println!(
        "{what} {records} records in {took:.2?}: {:.0} a second",
        f64::from(records) / took.as_secs_f64()
    );
}
