//! A mistake planted in the producer shows against the broker of `tests/retries`; apart from those tests, since it is
//! planted in the whole process.

#[allow(dead_code)]
#[path = "../retries/coordinator.rs"]
mod coordinator;
#[allow(dead_code)]
#[path = "../retries/fake.rs"]
mod fake;

use std::time::Duration;

use fake::{Act, FakeBroker, TOPIC};
use headwater_client::planted::{Bug, plant};
use headwater_client::{Client, ClientConfig, ProduceRecord, Producer, ProducerConfig};

/// What is written when the answer to the second batch is lost.
async fn written() -> Vec<String> {
    let broker = FakeBroker::start(vec![Act::Answer, Act::LoseAnswer]).await;
    let client = Client::connect(ClientConfig::new(broker.address(), "planted")).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).await.unwrap();
    for number in 0..3 {
        let record = ProduceRecord {
            topic: TOPIC.into(),
            partition: Some(0),
            value: Some(number.to_string().into()),
            ..ProduceRecord::default()
        };
        let delivery = producer.send(record).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), delivery).await.unwrap().unwrap();
    }
    broker.written()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_is_reset_on_a_retry_writes_twice() {
    assert_eq!(written().await, ["0", "1", "2"]);
    plant(Some(Bug::ResetSequence));
    assert_eq!(written().await, ["0", "1", "1", "2"]);
    plant(None);
    assert_eq!(written().await, ["0", "1", "2"]);
}
