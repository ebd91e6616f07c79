//! What the producer does when answers are lost, refused or late, against a broker that fails on cue.

mod fake;

use std::time::{Duration, Instant};

use fake::{Act, FakeBroker, TOPIC};
use headwater_client::{
    Client, ClientConfig, ClientError, ErrorCode, ProduceRecord, Producer, ProducerConfig,
};

async fn producer(broker: &FakeBroker, config: ProducerConfig) -> Producer {
    let client = Client::connect(ClientConfig::new(broker.address(), "retries")).await.unwrap();
    Producer::new(&client, config).await.unwrap()
}

/// Batches of about ten records each.
fn small_batches() -> ProducerConfig {
    ProducerConfig { batch_bytes: 1000, linger: Duration::from_millis(1), ..ProducerConfig::default() }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:>50}")).collect()
}

async fn send(producer: &Producer, values: &[String]) {
    for value in values {
        let record = ProduceRecord {
            topic: TOPIC.into(),
            partition: Some(0),
            value: Some(value.clone().into()),
            ..ProduceRecord::default()
        };
        drop(producer.send(record).await.unwrap());
    }
}

/// Whatever the broker does, each record is written once and in order.
async fn survives(acts: Vec<Act>) {
    let broker = FakeBroker::start(acts).await;
    let producer = producer(&broker, small_batches()).await;
    send(&producer, &numbers(500)).await;
    producer.flush().await.unwrap();
    assert_eq!(broker.written(), numbers(500));
    assert!(broker.acts_left() == 0, "not everything that should fail has failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_repeat_nothing() {
    survives(vec![Act::LoseAnswer, Act::Answer, Act::LoseAnswer, Act::LoseAnswer]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_requests_leave_no_gap() {
    survives(vec![Act::Answer, Act::LoseRequest, Act::Answer, Act::LoseRequest, Act::LoseRequest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_for_now_goes_before_those_behind_it() {
    let not_leader = Act::Refuse(ErrorCode::NotLeaderOrFollower);
    survives(vec![Act::Answer, not_leader, Act::Answer, Act::Answer, not_leader, not_leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_that_the_broker_has_forgotten_begins_a_new_sequence() {
    let broker = FakeBroker::start(vec![Act::Answer, Act::Refuse(ErrorCode::UnknownProducerId)]).await;
    let producer = producer(&broker, small_batches()).await;
    send(&producer, &numbers(300)).await;
    producer.flush().await.unwrap();
    assert_eq!(broker.written(), numbers(300));
    assert_eq!(broker.producer_ids(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definite_refusal_is_an_error_of_that_batch_alone() {
    let broker = FakeBroker::start(vec![Act::Refuse(ErrorCode::InvalidTimestamp)]).await;
    let producer = producer(&broker, small_batches()).await;
    send(&producer, &numbers(1)).await;
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidTimestamp), "{error}");
    send(&producer, &numbers(100)).await;
    producer.flush().await.unwrap();
    assert_eq!(broker.written(), numbers(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_in_time_is_an_error() {
    let broker = FakeBroker::start(vec![Act::LoseRequest; 1000]).await;
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(300), ..small_batches() };
    let producer = producer(&broker, config).await;
    let begun = Instant::now();
    send(&producer, &numbers(100)).await;
    let error = producer.flush().await.unwrap_err();
    assert!(matches!(error, ClientError::GaveUp { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(broker.written().is_empty());
}
