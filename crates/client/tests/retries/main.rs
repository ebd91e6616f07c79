//! What the producer does when answers are lost, refused or late, against a broker that fails on cue.

mod classic;
mod coordinator;
mod cut_off;
mod epochs;
mod fake;
mod fenced;
mod grown;
mod heartbeats;
mod implicit;
mod leaderless;
mod scripted;
mod strayed;
mod transactions;

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

fn record(value: &str) -> ProduceRecord {
    ProduceRecord {
        topic: TOPIC.into(),
        partition: Some(0),
        value: Some(value.to_owned().into()),
        ..ProduceRecord::default()
    }
}

async fn send(producer: &Producer, values: &[String]) {
    for value in values {
        drop(producer.send(record(value)).await.unwrap());
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

/// A partition that has just been created: its leader does not know it yet, and takes any sequence afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_of_a_partition_is_first_also_when_it_is_refused() {
    for code in [ErrorCode::UnknownTopicOrPartition, ErrorCode::NotLeaderOrFollower] {
        survives(vec![Act::Refuse(code); 3]).await;
    }
    survives(vec![Act::LoseRequest, Act::Answer, Act::LoseAnswer]).await;
}

/// Such a refusal may come after the batch was appended: under a new identity it would be written twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_written_is_not_written_again_under_a_new_identity() {
    let late = Act::RefuseWritten(ErrorCode::NotEnoughReplicasAfterAppend);
    let forgotten = Act::Refuse(ErrorCode::UnknownProducerId);
    let broker = FakeBroker::start(vec![late, forgotten]).await;
    let producer = producer(&broker, small_batches()).await;
    send(&producer, &numbers(5)).await;
    let error = producer.flush().await.unwrap_err();
    assert!(matches!(error, ClientError::GaveUp { .. }), "{error}");
    assert_eq!(broker.written(), numbers(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_is_split_and_keeps_its_order_and_offsets() {
    let broker = FakeBroker::with_largest(400).await;
    let config = ProducerConfig { batch_bytes: 10_000, ..ProducerConfig::default() };
    let producer = producer(&broker, config).await;
    let mut deliveries = Vec::new();
    for value in numbers(500) {
        deliveries.push(producer.send(record(&value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(broker.written(), numbers(500));
    for (offset, delivery) in (0..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, offset);
    }
    assert_eq!(broker.producer_ids(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_fails_alone() {
    let broker = FakeBroker::with_largest(400).await;
    let producer = producer(&broker, ProducerConfig::default()).await;
    let mut values = numbers(40);
    values[20] = "x".repeat(1000);
    let mut deliveries = Vec::new();
    for value in &values {
        deliveries.push(producer.send(record(value)).await.unwrap());
    }
    for (value, delivery) in values.iter().zip(deliveries) {
        match (value.len(), delivery.await) {
            (1000, Err(error)) => {
                assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
                assert!(error.to_string().contains("max.message.bytes"), "{error}");
            }
            (_, outcome) => drop(outcome.unwrap()),
        }
    }
    values.remove(20);
    assert_eq!(broker.written(), values);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_up_a_producer_can_be_asked_for_and_ends_with_it() {
    let few = ErrorCode::NotEnoughReplicas;
    let broker = FakeBroker::start(vec![Act::Refuse(few); 4]).await;
    let client = Client::connect(ClientConfig::new(broker.address(), "retries")).await.unwrap();
    let producer = Producer::new(&client, small_batches()).await.unwrap();
    send(&producer, &numbers(1)).await;
    let until = async |is_there: bool| {
        loop {
            let refusal = client.waits_for().and_then(|wait| wait.last);
            if refusal.is_some() == is_there {
                return refusal;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let refusal = tokio::time::timeout(Duration::from_secs(20), until(true)).await.unwrap();
    assert_eq!(refusal.and_then(|refusal| refusal.code()), Some(few));
    producer.flush().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), until(false)).await.unwrap();
    assert_eq!(broker.written(), numbers(1));
}
