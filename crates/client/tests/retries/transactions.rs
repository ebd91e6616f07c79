//! A commit whose answer is lost for good, and the abort after it.

use std::time::Duration;

use headwater_client::{Client, ClientConfig, ClientError, Producer, ProducerConfig};

use crate::coordinator::End;
use crate::fake::{Act, FakeBroker};
use crate::record;

async fn transactional(broker: &FakeBroker) -> Producer {
    let mut config = ClientConfig::new(broker.address(), "retries");
    config.api_timeout = Duration::from_millis(300);
    let client = Client::connect(config).await.unwrap();
    let config = ProducerConfig { transactional_id: Some("id".into()), ..ProducerConfig::default() };
    Producer::new(&client, config).await.unwrap()
}

async fn write(producer: &Producer, value: &str) {
    producer.begin_transaction().await.unwrap();
    producer.send(record(value)).await.unwrap().await.unwrap();
}

/// A transaction whose commit is given up on; afterwards the coordinator answers again.
async fn uncertain(broker: &FakeBroker, act: Act) -> Producer {
    let producer = transactional(broker).await;
    write(&producer, "one").await;
    broker.ends(vec![act; 1000]);
    let error = producer.commit_transaction().await.unwrap_err();
    assert!(matches!(error, ClientError::GaveUp { .. }), "{error}");
    broker.ends([]);
    producer
}

async fn goes_on(broker: &FakeBroker, producer: &Producer, before: End) {
    write(producer, "two").await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.transaction(), [before, End::Committed]);
    assert_eq!(broker.written(), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_after_a_commit_that_was_carried_out_says_so_and_the_producer_goes_on() {
    let broker = FakeBroker::start(Vec::new()).await;
    let producer = uncertain(&broker, Act::LoseAnswer).await;
    let error = producer.abort_transaction().await.unwrap_err();
    assert!(matches!(error, ClientError::Committed(_)), "{error}");
    goes_on(&broker, &producer, End::Committed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_after_a_commit_that_never_came_aborts() {
    let broker = FakeBroker::start(Vec::new()).await;
    let producer = uncertain(&broker, Act::LoseRequest).await;
    producer.abort_transaction().await.unwrap();
    goes_on(&broker, &producer, End::Aborted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn committing_again_ends_it_either_way() {
    for act in [Act::LoseAnswer, Act::LoseRequest] {
        let broker = FakeBroker::start(Vec::new()).await;
        let producer = uncertain(&broker, act).await;
        producer.commit_transaction().await.unwrap();
        goes_on(&broker, &producer, End::Committed).await;
    }
}
