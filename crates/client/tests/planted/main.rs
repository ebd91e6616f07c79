//! Mistakes planted in the producer show against the broker of `tests/retries`; apart from those tests, since they are
//! planted in the whole process.

#[allow(dead_code)]
#[path = "../retries/coordinator.rs"]
mod coordinator;
#[allow(dead_code)]
#[path = "../retries/fake.rs"]
mod fake;

use std::time::Duration;

use coordinator::End;
use fake::{Act, FakeBroker, TOPIC};
use headwater_client::planted::{Bug, plant};
use headwater_client::{
    Client, ClientConfig, ClientError, ErrorCode, ProduceRecord, Producer, ProducerConfig,
};

/// One mistake at a time.
static PLANTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn producer(broker: &FakeBroker, config: ProducerConfig) -> Producer {
    let mut client = ClientConfig::new(broker.address(), "planted");
    client.api_timeout = Duration::from_millis(300);
    Producer::new(&Client::connect(client).await.unwrap(), config).await.unwrap()
}

async fn send(producer: &Producer, value: &str) -> Result<(), ClientError> {
    let record = ProduceRecord {
        topic: TOPIC.into(),
        partition: Some(0),
        value: Some(value.to_owned().into()),
        ..ProduceRecord::default()
    };
    let delivery = producer.send(record).await?;
    tokio::time::timeout(Duration::from_secs(20), delivery).await.expect("an answer").map(drop)
}

/// What is written when the answer to the second batch is lost.
async fn written() -> Vec<String> {
    let broker = FakeBroker::start(vec![Act::Answer, Act::LoseAnswer]).await;
    let producer = producer(&broker, ProducerConfig::default()).await;
    for number in 0..3 {
        send(&producer, &number.to_string()).await.unwrap();
    }
    broker.written()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_is_reset_on_a_retry_writes_twice() {
    let _alone = PLANTING.lock().await;
    assert_eq!(written().await, ["0", "1", "2"]);
    plant(Some(Bug::ResetSequence));
    assert_eq!(written().await, ["0", "1", "1", "2"]);
    plant(None);
    assert_eq!(written().await, ["0", "1", "2"]);
}

async fn transactional(broker: &FakeBroker) -> Producer {
    let config = ProducerConfig { transactional_id: Some("id".into()), ..ProducerConfig::default() };
    producer(broker, config).await
}

/// What becomes of the second of two transactions of the second protocol.
async fn second() -> Result<(), ClientError> {
    let broker = FakeBroker::with_transactions(2).await;
    let producer = transactional(&broker).await;
    producer.begin_transaction().await.unwrap();
    send(&producer, "one").await.unwrap();
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().await.unwrap();
    send(&producer, "two").await?;
    producer.commit_transaction().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_that_go_on_in_another_epoch_are_refused() {
    let _alone = PLANTING.lock().await;
    second().await.unwrap();
    plant(Some(Bug::KeepSequences));
    let refused = second().await;
    plant(None);
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::OutOfOrderSequenceNumber));
    second().await.unwrap();
}

/// What an abort says of a commit that was carried out, and whose answer was lost.
async fn aborted(version: i16) -> Result<(), ClientError> {
    let broker = FakeBroker::with_transactions(version).await;
    let producer = transactional(&broker).await;
    producer.begin_transaction().await.unwrap();
    send(&producer, "one").await.unwrap();
    broker.ends(vec![Act::LoseAnswer; 1000]);
    producer.commit_transaction().await.unwrap_err();
    broker.ends([]);
    let said = producer.abort_transaction().await;
    assert_eq!(broker.transaction(), [End::Committed]);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_that_hides_a_commit_lies() {
    let _alone = PLANTING.lock().await;
    for version in [1, 2] {
        assert!(matches!(aborted(version).await, Err(ClientError::Committed(_))));
        plant(Some(Bug::AbortUnheardCommit));
        let said = aborted(version).await;
        plant(None);
        said.unwrap();
    }
}
