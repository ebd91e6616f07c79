//! What is the second protocol's own (KIP-890): nothing is added before it is written, every end brings an epoch, and
//! each transaction begins all sequences anew.

use headwater_client::{ErrorCode, GroupMetadata};
use headwater_wire::ApiKey;

use crate::coordinator::End;
use crate::fake::{Act, FakeBroker};
use crate::record;
use crate::transactions::{goes_on, position, transactional, uncertain, write};

const ADDITIONS: [ApiKey; 2] = [ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn];

/// Two transactions with records and offsets, the second of which is aborted.
async fn two(broker: &FakeBroker) {
    let producer = transactional(broker).await;
    let group = GroupMetadata::simple("group");
    write(&producer, "one").await;
    producer.send_offsets(&group, &position(5)).await.unwrap();
    producer.commit_transaction().await.unwrap();
    write(&producer, "two").await;
    producer.send_offsets(&group, &position(9)).await.unwrap();
    producer.abort_transaction().await.unwrap();
    assert_eq!(broker.transaction(), [End::Committed, End::Aborted]);
    assert_eq!(broker.offset(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_added_before_it_is_written_and_every_transaction_has_its_epoch() {
    let broker = FakeBroker::with_transactions(2).await;
    two(&broker).await;
    assert!(ADDITIONS.into_iter().all(|api| broker.asked(api).is_empty()));
    assert_eq!(broker.asked(ApiKey::Produce), [12, 12]);
    assert_eq!(broker.asked(ApiKey::TxnOffsetCommit), [5, 5]);
    assert_eq!(broker.asked(ApiKey::EndTxn), [5, 5]);
    assert_eq!(broker.asked(ApiKey::InitProducerId).len(), 1);
    assert_eq!(broker.stamps(), [((1000, 1), 0), ((1000, 2), 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_protocol_is_spoken_where_the_second_is_not_finalized() {
    let broker = FakeBroker::with_transactions(1).await;
    two(&broker).await;
    assert!(ADDITIONS.into_iter().all(|api| broker.asked(api).len() == 2));
    assert_eq!(broker.asked(ApiKey::Produce), [11, 11]);
    assert_eq!(broker.asked(ApiKey::TxnOffsetCommit), [4, 4]);
    assert_eq!(broker.asked(ApiKey::EndTxn), [4, 4]);
    assert_eq!(broker.stamps(), [((1000, 1), 0), ((1000, 1), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_late_does_not_hit_the_next_transaction() {
    let broker = FakeBroker::with_transactions(2).await;
    let producer = uncertain(&broker, Act::LoseRequest).await;
    producer.abort_transaction().await.unwrap();
    write(&producer, "two").await;
    let late = broker.come_late();
    assert!(!late.is_empty() && late.iter().all(|code| *code == ErrorCode::ProducerFenced), "{late:?}");
    assert_eq!(broker.transaction(), [End::Aborted]);
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.transaction(), [End::Aborted, End::Committed]);
    assert_eq!(broker.asked(ApiKey::InitProducerId).len(), 1, "the end brings the epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_found_brings_the_epoch_that_it_brought() {
    let broker = FakeBroker::with_transactions(2).await;
    let producer = uncertain(&broker, Act::LoseAnswer).await;
    producer.abort_transaction().await.unwrap_err();
    goes_on(&broker, &producer, End::Committed).await;
    assert_eq!(broker.stamps(), [((1000, 1), 0), ((1000, 2), 0)]);
    assert_eq!(broker.asked(ApiKey::InitProducerId).len(), 1);
}

/// The batch has a sequence that is never written: the abort's epoch begins another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_leaves_no_gap_behind_the_abort() {
    let broker = FakeBroker::with_transactions(2).await;
    let producer = transactional(&broker).await;
    write(&producer, "one").await;
    broker.produces([Act::Refuse(ErrorCode::InvalidTimestamp)]);
    drop(producer.send(record("never")).await.unwrap());
    let error = producer.commit_transaction().await.unwrap_err();
    assert!(error.is_abortable(), "{error}");
    producer.abort_transaction().await.unwrap();
    goes_on(&broker, &producer, End::Aborted).await;
    assert_eq!(broker.stamps(), [((1000, 1), 0), ((1000, 2), 0)]);
    assert_eq!(broker.asked(ApiKey::InitProducerId).len(), 1);
}

/// The broker had added nothing when it refused; the epoch must be another one nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_of_what_the_coordinator_never_heard_of_brings_an_epoch_too() {
    let broker = FakeBroker::with_transactions(2).await;
    let producer = transactional(&broker).await;
    broker.produces([Act::Refuse(ErrorCode::TopicAuthorizationFailed)]);
    producer.begin_transaction().await.unwrap();
    producer.send(record("never")).await.unwrap().await.unwrap_err();
    producer.abort_transaction().await.unwrap();
    assert!(broker.transaction().is_empty());
    write(&producer, "one").await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.stamps(), [((1000, 2), 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_end_before_still_holds_up_is_written_again() {
    let broker = FakeBroker::with_transactions(2).await;
    let producer = transactional(&broker).await;
    let concurrent = Act::Refuse(ErrorCode::ConcurrentTransactions);
    broker.produces([concurrent; 3]);
    broker.offsets([concurrent, Act::LoseAnswer]);
    broker.ends([concurrent, concurrent]);
    write(&producer, "one").await;
    producer.send_offsets(&GroupMetadata::simple("group"), &position(3)).await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!((broker.written(), broker.offset()), (vec!["one".to_owned()], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_epoch_comes_another_producer_id() {
    let broker = FakeBroker::with_transactions(2).await;
    broker.next_epoch(i16::MAX - 2);
    let producer = transactional(&broker).await;
    for value in ["one", "two", "three", "four"] {
        write(&producer, value).await;
        broker.ends([Act::LoseAnswer]);
        producer.commit_transaction().await.unwrap();
    }
    let producers: Vec<_> = broker.stamps();
    let last = i16::MAX - 1;
    let expected = [((1000, last - 1), 0), ((1000, last), 0), ((1001, 0), 0), ((1001, 1), 0)];
    assert_eq!(producers, expected);
    assert_eq!(broker.transaction(), [End::Committed; 4]);
}

/// Where records of the first protocol have been, the second asks for an epoch of its own; back, it needs none.
#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_may_change_between_transactions_and_not_within_one() {
    let broker = FakeBroker::with_transactions(1).await;
    let producer = transactional(&broker).await;
    write(&producer, "v1").await;
    broker.finalize(2);
    // A lost answer closes the connection; the next one tells what is finalized.
    broker.ends([Act::LoseAnswer]);
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.asked(ApiKey::EndTxn), [4, 4]);
    write(&producer, "v2").await;
    assert_eq!(broker.asked(ApiKey::InitProducerId).len(), 2);
    broker.finalize(1);
    broker.ends([Act::LoseAnswer]);
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.asked(ApiKey::EndTxn), [4, 4, 5, 5]);
    write(&producer, "v1 again").await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(broker.asked(ApiKey::EndTxn), [4, 4, 5, 5, 4]);
    assert_eq!(broker.asked(ApiKey::AddPartitionsToTxn).len(), 2);
    assert_eq!(broker.asked(ApiKey::InitProducerId).len(), 2);
    assert_eq!(broker.stamps(), [((1000, 1), 0), ((1000, 2), 0), ((1000, 3), 0)]);
    assert_eq!(broker.transaction(), [End::Committed; 3]);
}
