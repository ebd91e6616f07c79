//! A commit whose answer is lost for good, and the abort after it, under both protocols: with an old broker, with one
//! that has finalized `transaction.version` 1, and with one that has finalized 2 (in `implicit.rs` is what is the last
//! one's own).

use std::collections::HashMap;
use std::time::Duration;

use headwater_client::{
    Client, ClientConfig, ClientError, Committed, ErrorCode, GroupMetadata, Producer, ProducerConfig,
};
use headwater_model::TopicPartition;
use headwater_wire::ApiKey;

use crate::coordinator::End;
use crate::fake::{Act, FakeBroker, TOPIC};
use crate::record;

pub async fn transactional(broker: &FakeBroker) -> Producer {
    let mut config = ClientConfig::new(broker.address(), "retries");
    config.api_timeout = Duration::from_millis(300);
    let client = Client::connect(config).await.unwrap();
    let config = ProducerConfig { transactional_id: Some("id".into()), ..ProducerConfig::default() };
    Producer::new(&client, config).await.unwrap()
}

pub async fn write(producer: &Producer, value: &str) {
    producer.begin_transaction().await.unwrap();
    producer.send(record(value)).await.unwrap().await.unwrap();
}

pub fn position(offset: i64) -> HashMap<TopicPartition, Committed> {
    [(TopicPartition::new(TOPIC, 0), Committed { offset, leader_epoch: None, metadata: String::new() })]
        .into()
}

/// A transaction whose commit is given up on; afterwards the coordinator answers again.
pub async fn uncertain(broker: &FakeBroker, act: Act) -> Producer {
    let producer = transactional(broker).await;
    write(&producer, "one").await;
    broker.ends(vec![act; 1000]);
    let error = producer.commit_transaction().await.unwrap_err();
    assert!(matches!(error, ClientError::GaveUp { .. }), "{error}");
    broker.ends([]);
    producer
}

pub async fn goes_on(broker: &FakeBroker, producer: &Producer, before: End) {
    write(producer, "two").await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.transaction(), [before, End::Committed]);
    assert_eq!(broker.written(), ["one", "two"]);
}

const VERSIONS: [i16; 3] = [0, 1, 2];

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_after_a_commit_that_was_carried_out_says_so_and_the_producer_goes_on() {
    for version in VERSIONS {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = uncertain(&broker, Act::LoseAnswer).await;
        let error = producer.abort_transaction().await.unwrap_err();
        assert!(matches!(error, ClientError::Committed(_)), "{error}");
        goes_on(&broker, &producer, End::Committed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_after_a_commit_that_never_came_aborts() {
    for version in VERSIONS {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = uncertain(&broker, Act::LoseRequest).await;
        producer.abort_transaction().await.unwrap();
        goes_on(&broker, &producer, End::Aborted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committing_again_ends_it_either_way() {
    for (version, act) in VERSIONS.into_iter().flat_map(|v| [(v, Act::LoseAnswer), (v, Act::LoseRequest)]) {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = uncertain(&broker, act).await;
        producer.commit_transaction().await.unwrap();
        goes_on(&broker, &producer, End::Committed).await;
    }
}

/// The caller has a deadline of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_no_longer_waited_for_is_as_uncertain_as_one_that_gave_up() {
    for version in VERSIONS {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = transactional(&broker).await;
        write(&producer, "one").await;
        broker.ends(vec![Act::LoseAnswer; 1000]);
        let carried_out = async {
            while broker.transaction().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            outcome = producer.commit_transaction() => panic!("{outcome:?}"),
            () = carried_out => {}
        }
        broker.ends([]);
        let error = producer.abort_transaction().await.unwrap_err();
        assert!(matches!(error, ClientError::Committed(_)), "{error}");
        goes_on(&broker, &producer, End::Committed).await;
    }
}

/// Then the refusal says nothing of the attempts before it, but the coordinator still knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_carried_out_is_found_also_when_a_repetition_was_refused() {
    for version in VERSIONS {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = transactional(&broker).await;
        write(&producer, "one").await;
        broker.ends([Act::LoseAnswer, Act::Refuse(ErrorCode::TransactionalIdAuthorizationFailed)]);
        assert!(producer.commit_transaction().await.unwrap_err().is_abortable());
        let error = producer.abort_transaction().await.unwrap_err();
        assert!(matches!(error, ClientError::Committed(_)), "{error}");
        goes_on(&broker, &producer, End::Committed).await;
    }
}

/// Nobody knows whether the offsets belong to it: only an abort is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_offsets_are_no_longer_waited_for_cannot_be_committed() {
    for (version, act) in VERSIONS.into_iter().flat_map(|v| [(v, Act::LoseAnswer), (v, Act::LoseRequest)]) {
        let broker = FakeBroker::with_transactions(version).await;
        let (producer, group) = (transactional(&broker).await, GroupMetadata::simple("group"));
        write(&producer, "one").await;
        let offsets = position(7);
        broker.offsets(vec![act; 1000]);
        tokio::select! {
            outcome = producer.send_offsets(&group, &offsets) => panic!("{outcome:?}"),
            () = broker.was_asked(ApiKey::TxnOffsetCommit, 1) => {}
        }
        broker.offsets([]);
        let error = producer.commit_transaction().await.unwrap_err();
        assert!(error.is_abortable() && error.to_string().contains("cancelled"), "{error}");
        producer.abort_transaction().await.unwrap();
        goes_on(&broker, &producer, End::Aborted).await;
        assert_eq!(broker.offset(), -1);
        let epochs: Vec<_> = broker.stamps().into_iter().map(|(producer, _)| producer).collect();
        assert!(epochs[0] != epochs[1], "offsets that are late must not join the next one: {epochs:?}");
    }
}

/// The coordinator has ended the transaction and given the next epoch; the producer has heard of the first only.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_that_is_no_longer_waited_for_while_it_gets_an_epoch_can_be_called_again() {
    for (version, act) in [0, 1].into_iter().flat_map(|v| [(v, Act::LoseAnswer), (v, Act::LoseRequest)]) {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = uncertain(&broker, act).await;
        broker.identities(vec![Act::LoseAnswer; 1000]);
        tokio::select! {
            outcome = producer.abort_transaction() => panic!("{outcome:?}"),
            () = broker.was_asked(ApiKey::InitProducerId, 2) => {}
        }
        broker.identities([]);
        let again = producer.abort_transaction().await;
        let was_committed = matches!(again, Err(ClientError::Committed(_)));
        assert!(was_committed || again.is_ok(), "{again:?}");
        assert_eq!(was_committed, matches!(act, Act::LoseAnswer));
        goes_on(&broker, &producer, if was_committed { End::Committed } else { End::Aborted }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_on_the_way_of_an_end_changes_nothing() {
    for (version, act) in VERSIONS.into_iter().flat_map(|v| [(v, Act::LoseAnswer), (v, Act::LoseRequest)]) {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = transactional(&broker).await;
        write(&producer, "one").await;
        broker.ends([act]);
        producer.abort_transaction().await.unwrap();
        broker.ends([act]);
        goes_on(&broker, &producer, End::Aborted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_which_nothing_was_written_asks_for_nothing() {
    for version in VERSIONS {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = transactional(&broker).await;
        producer.begin_transaction().await.unwrap();
        producer.commit_transaction().await.unwrap();
        producer.begin_transaction().await.unwrap();
        producer.abort_transaction().await.unwrap();
        assert!(broker.asked(ApiKey::EndTxn).is_empty());
    }
}

/// Only some versions of requests know this code; it always means the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_asks_for_an_abort_gets_one() {
    let refuse = || [Act::Refuse(ErrorCode::TransactionAbortable)];
    let group = GroupMetadata::simple("group");
    for (version, place) in VERSIONS.into_iter().flat_map(|v| [(v, 0), (v, 1), (v, 2)]) {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = transactional(&broker).await;
        producer.begin_transaction().await.unwrap();
        match place {
            0 => broker.produces(refuse()),
            1 => broker.offsets(refuse()),
            _ => broker.ends(refuse()),
        }
        drop(producer.send(record("one")).await.unwrap());
        let offset = producer.flush().await.and(producer.send_offsets(&group, &position(7)).await);
        let error = offset.and(producer.commit_transaction().await).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TransactionAbortable), "{error}");
        assert!(producer.commit_transaction().await.unwrap_err().is_abortable());
        producer.abort_transaction().await.unwrap();
        write(&producer, "two").await;
        producer.commit_transaction().await.unwrap();
        assert_eq!((broker.transaction().last(), broker.offset()), (Some(&End::Committed), -1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_place_was_taken_is_fenced_for_good() {
    for (version, code) in [
        (0, ErrorCode::InvalidProducerEpoch),
        (1, ErrorCode::ProducerFenced),
        (2, ErrorCode::ProducerFenced),
        (2, ErrorCode::InvalidProducerIdMapping),
    ] {
        let broker = FakeBroker::with_transactions(version).await;
        let producer = transactional(&broker).await;
        write(&producer, "one").await;
        broker.ends([Act::Refuse(code)]);
        let error = producer.commit_transaction().await.unwrap_err();
        assert!(error.is_fenced() && !error.is_abortable(), "{error}");
        assert!(producer.abort_transaction().await.unwrap_err().is_fenced());
        assert!(producer.begin_transaction().await.unwrap_err().is_fenced());
    }
}

/// Nothing is on its way whose answer would tell.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_space_hears_that_the_transaction_is_aborted() {
    let broker = FakeBroker::with_transactions(2).await;
    let client = Client::connect(ClientConfig::new(broker.address(), "retries")).await.unwrap();
    let config = ProducerConfig {
        transactional_id: Some("id".into()),
        linger: Duration::from_secs(3600),
        buffer_bytes: 1000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(&client, config).await.unwrap();
    producer.begin_transaction().await.unwrap();
    let half = "x".repeat(500);
    drop(producer.send(record(&half)).await.unwrap());
    let mut second = Box::pin(producer.send(record(&half)));
    tokio::select! {
        biased;
        _ = &mut second => panic!("there is no space for it"),
        () = std::future::ready(()) => {}
    }
    producer.abort_transaction().await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), second).await.expect("it is told");
    assert!(told.is_err());
    assert!(broker.written().is_empty());
}
