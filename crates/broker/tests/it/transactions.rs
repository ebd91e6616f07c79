//! Transactions over partitions and offsets, also across restarts.

use std::time::Duration;

use headwater_broker::{Broker, Config, CoordinatorSettings};
use headwater_wire::messages::*;
use headwater_wire::{ErrorCode, KafkaString, Producer};

use crate::common::{self, Raw, batch_of, config, start};

const ID: &str = "writer-1";

fn id() -> KafkaString {
    KafkaString::from_static(ID)
}

async fn init(raw: &mut Raw, timeout_ms: i32) -> Producer {
    raw.init_producer(ID, timeout_ms).await
}

async fn add(raw: &mut Raw, producer: Producer, partitions: &[i32]) -> i16 {
    raw.add_to_transaction(ID, producer, "t", partitions).await
}

async fn write(raw: &mut Raw, producer: Producer, partition: i32, value: &str) -> i16 {
    raw.produce_as(Some(ID), "t", partition, batch_of(&[value], Some(producer), true)).await.error_code
}

async fn end(raw: &mut Raw, producer: Producer, commit: bool) -> i16 {
    raw.end_transaction(ID, producer, commit).await
}

#[tokio::test]
async fn a_transaction_is_seen_whole_when_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let producer = init(&mut raw, 60_000).await;
    assert_eq!(add(&mut raw, producer, &[0, 1]).await, 0);
    assert_eq!(write(&mut raw, producer, 0, "a").await, 0);
    assert_eq!(write(&mut raw, producer, 1, "b").await, 0);
    assert!(raw.values("t", 0, true).await.is_empty());
    assert_eq!(raw.fetch("t", 0, 0, true).await.last_stable_offset, 0);
    assert_eq!(raw.values("t", 0, false).await, ["a"]);
    assert_eq!(end(&mut raw, producer, true).await, 0);
    assert_eq!(raw.values("t", 0, true).await, ["a"]);
    assert_eq!(raw.values("t", 1, true).await, ["b"]);
}

#[tokio::test]
async fn an_aborted_transaction_is_listed_and_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 60_000).await;
    add(&mut raw, producer, &[0]).await;
    write(&mut raw, producer, 0, "dropped").await;
    assert_eq!(end(&mut raw, producer, false).await, 0);
    add(&mut raw, producer, &[0]).await;
    let next = Producer { base_sequence: 1, ..producer };
    assert_eq!(write(&mut raw, next, 0, "kept").await, 0);
    assert_eq!(end(&mut raw, producer, true).await, 0);
    assert_eq!(raw.values("t", 0, true).await, ["kept"]);
    let aborted = raw.fetch("t", 0, 0, true).await.aborted_transactions.unwrap();
    assert_eq!((aborted.len(), aborted[0].producer_id, aborted[0].first_offset), (1, producer.id, 0));
    assert_eq!(raw.values("t", 0, false).await, ["dropped", "kept"]);
}

#[tokio::test]
async fn a_partition_that_was_not_added_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let producer = init(&mut raw, 60_000).await;
    add(&mut raw, producer, &[0]).await;
    assert_eq!(write(&mut raw, producer, 1, "v").await, ErrorCode::InvalidTxnState.code());
}

/// As Apache Kafka's brokers ask each other.
#[tokio::test]
async fn a_partition_is_looked_for_in_a_transaction_without_being_added() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 2).await;
    let producer = init(&mut raw, 60_000).await;
    add(&mut raw, producer, &[0]).await;
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name("t".to_owned().into())
        .with_partitions(vec![0, 1]);
    let transaction = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
        .with_transactional_id(id())
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_verify_only(true)
        .with_topics(vec![topic]);
    let verify = AddPartitionsToTxnRequestData::default().with_transactions(vec![transaction]);
    for version in [4, 5] {
        let answer = raw.call(&verify, version).await;
        let found = &answer.results_by_transaction[0].topic_results[0].results_by_partition;
        let codes: Vec<_> = found.iter().map(|one| one.partition_error_code).collect();
        assert_eq!(codes, [0, ErrorCode::TransactionAbortable.code()]);
    }
}

#[tokio::test]
async fn a_successor_fences_and_aborts_what_was_open() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let zombie = init(&mut raw, 60_000).await;
    add(&mut raw, zombie, &[0]).await;
    write(&mut raw, zombie, 0, "zombie").await;
    let successor = init(&mut raw, 60_000).await;
    assert!((successor.id, successor.epoch) > (zombie.id, zombie.epoch));
    let late = Producer { base_sequence: 1, ..zombie };
    assert_eq!(write(&mut raw, late, 0, "late").await, ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(end(&mut raw, zombie, true).await, ErrorCode::ProducerFenced.code());
    assert!(raw.values("t", 0, true).await.is_empty());
    assert_eq!(raw.fetch("t", 0, 0, true).await.last_stable_offset, 2, "the record and its marker");
}

#[tokio::test]
async fn an_open_transaction_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 60_000).await;
    add(&mut raw, producer, &[0]).await;
    write(&mut raw, producer, 0, "before").await;
    drop(raw);
    broker.shutdown().await;
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    assert!(raw.values("t", 0, true).await.is_empty());
    let next = Producer { base_sequence: 1, ..producer };
    assert_eq!(write(&mut raw, next, 0, "after").await, 0);
    assert_eq!(end(&mut raw, producer, true).await, 0);
    assert_eq!(raw.values("t", 0, true).await, ["before", "after"]);
}

#[tokio::test]
async fn a_transaction_over_its_time_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let (mut raw, mut reader) = (Raw::connect(&broker).await, Raw::connect(&broker).await);
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 200).await;
    add(&mut raw, producer, &[0]).await;
    write(&mut raw, producer, 0, "forgotten").await;
    let request = common::fetch("t", 0, 0).with_isolation_level(1).with_max_wait_ms(30_000);
    let response = reader.call(&request, 11).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.last_stable_offset, 2);
    assert_eq!(data.aborted_transactions.as_ref().map(Vec::len), Some(1));
}

async fn committed(raw: &mut Raw) -> i64 {
    let topic =
        OffsetFetchRequestTopic::default().with_name("t".to_owned().into()).with_partition_indexes(vec![0]);
    let request =
        OffsetFetchRequestData::default().with_group_id("g".to_owned().into()).with_topics(Some(vec![topic]));
    raw.call(&request, 5).await.topics[0].partitions[0].committed_offset
}

#[tokio::test]
async fn offsets_become_visible_with_their_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 60_000).await;
    for (offset, commit, visible) in [(5, false, -1), (7, true, 7)] {
        let group = || KafkaString::from_static("g");
        let request = AddOffsetsToTxnRequestData::default()
            .with_transactional_id(id())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_group_id(group());
        assert_eq!(raw.call(&request, 3).await.error_code, 0);
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name("t".to_owned().into())
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequestData::default()
            .with_transactional_id(id())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_group_id(group())
            .with_topics(vec![topic]);
        assert_eq!(raw.call(&request, 3).await.topics[0].partitions[0].error_code, 0);
        assert_eq!(committed(&mut raw).await, -1);
        assert_eq!(end(&mut raw, producer, commit).await, 0);
        assert_eq!(committed(&mut raw).await, visible);
    }
}

#[tokio::test]
async fn offsets_of_a_group_that_was_not_added_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 60_000).await;
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(5);
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name("t".to_owned().into())
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequestData::default()
        .with_transactional_id(id())
        .with_producer_id(producer.id)
        .with_producer_epoch(producer.epoch)
        .with_group_id("g".to_owned().into())
        .with_topics(vec![topic]);
    for (version, code) in [(3, ErrorCode::InvalidTxnState), (4, ErrorCode::TransactionAbortable)] {
        let answer = raw.call(&request, version).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, code.code(), "v{version}");
    }
    assert_eq!(committed(&mut raw).await, -1);
    // Consumers without a group have once committed under an empty name; producers have not.
    let request = request.with_group_id(KafkaString::default());
    for version in [3, 4, 5] {
        let answer = raw.call(&request, version).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::InvalidGroupId.code(), "v{version}");
    }
}

#[tokio::test]
async fn what_belongs_to_a_transaction_is_not_written_without_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 60_000).await;
    assert_eq!(add(&mut raw, producer, &[0]).await, 0);
    let answer = raw.produce_as(None, "t", 0, batch_of(&["v"], Some(producer), true)).await;
    assert_eq!(answer.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
    assert_eq!(write(&mut raw, producer, 0, "v").await, 0);
}

#[tokio::test]
async fn writing_adds_the_partition_from_produce_v12_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let mut producer = init(&mut raw, 60_000).await;
    for value in ["one", "two"] {
        let batch = batch_of(&[value], Some(producer), true);
        let response = raw.call(&common::produce(Some(ID), "t", 0, batch), 12).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "{response:?}");
        let request = EndTxnRequestData::default()
            .with_transactional_id(id())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_committed(true);
        let ended = raw.call(&request, 5).await;
        assert_eq!(ended.error_code, 0);
        assert!(ended.producer_epoch > producer.epoch, "each transaction has its own epoch");
        producer = Producer { id: ended.producer_id, epoch: ended.producer_epoch, base_sequence: 0 };
    }
    assert_eq!(raw.values("t", 0, true).await, ["one", "two"]);
}

#[tokio::test]
async fn a_topic_can_be_deleted_within_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let settings = CoordinatorSettings { max_transaction_timeout_ms: 60_000, ..Default::default() };
    let config = Config { coordinator: settings, ..config(dir.path()) };
    let broker = Broker::start(config).await.unwrap();
    let mut raw = Raw::connect(&broker).await;
    raw.create_topic("t", 1).await;
    let producer = init(&mut raw, 60_000).await;
    add(&mut raw, producer, &[0]).await;
    write(&mut raw, producer, 0, "gone").await;
    let delete = DeleteTopicsRequestData::default().with_topic_names(vec!["t".to_owned().into()]);
    assert_eq!(raw.call(&delete, 5).await.responses[0].error_code, 0);
    assert_eq!(end(&mut raw, producer, true).await, 0);
    raw.create_topic("t", 1).await;
    assert!(raw.values("t", 0, false).await.is_empty());
    tokio::time::timeout(Duration::from_secs(30), broker.shutdown()).await.unwrap();
}

/// KIP-360: who goes on from an id and an epoch tells both.
#[tokio::test]
async fn a_producer_that_tells_half_of_what_it_was_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for transactional_id in [None, Some(KafkaString::from_static("tx"))] {
        for (producer_id, producer_epoch) in [(7, -1), (-1, 0)] {
            let request = InitProducerIdRequestData::default()
                .with_transactional_id(transactional_id.clone())
                .with_transaction_timeout_ms(60_000)
                .with_producer_id(producer_id)
                .with_producer_epoch(producer_epoch);
            let answer = raw.call(&request, 4).await;
            let told = (answer.error_code, answer.producer_id, answer.producer_epoch);
            assert_eq!(told, (ErrorCode::InvalidRequest.code(), -1, -1));
        }
    }
}

/// KIP-1152: the expression must match the whole id; none, or an empty one, matches all.
#[tokio::test]
async fn transactions_are_listed_by_a_pattern_of_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path()).await;
    let mut raw = Raw::connect(&broker).await;
    for id in ["orders-1", "orders-2", "payments-1"] {
        let request = InitProducerIdRequestData::default()
            .with_transactional_id(Some(id.to_owned().into()))
            .with_transaction_timeout_ms(60_000);
        assert_eq!(raw.call(&request, 5).await.error_code, 0);
    }
    for (pattern, expected) in [
        (None, vec!["orders-1", "orders-2", "payments-1"]),
        (Some(""), vec!["orders-1", "orders-2", "payments-1"]),
        (Some("orders-.*"), vec!["orders-1", "orders-2"]),
        (Some("orders"), vec![]),
        (Some("orders-1|payments-1"), vec!["orders-1", "payments-1"]),
    ] {
        let request = ListTransactionsRequestData::default()
            .with_transactional_id_pattern(pattern.map(|pattern| pattern.to_owned().into()));
        let answer = raw.call(&request, 2).await;
        let mut ids: Vec<_> =
            answer.transaction_states.iter().map(|one| one.transactional_id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!((answer.error_code, ids), (0, expected), "{pattern:?}");
    }
    let states = ["PrepareCommit", "Dead", "Asleep", "Empty"].map(KafkaString::from_static).to_vec();
    let answer = raw.call(&ListTransactionsRequestData::default().with_state_filters(states), 0).await;
    assert_eq!(answer.transaction_states.len(), 3);
    let unknown: Vec<_> = answer.unknown_state_filters.iter().map(KafkaString::as_str).collect();
    assert_eq!(unknown, ["Asleep"], "a state that a transaction can be in is known, whether or not one is");
    let states = vec![KafkaString::from_static("PrepareAbort")];
    let answer = raw.call(&ListTransactionsRequestData::default().with_state_filters(states), 0).await;
    assert_eq!((answer.transaction_states.len(), answer.unknown_state_filters.len()), (0, 0));
    for broken in ["(", "a)(b"] {
        let request = ListTransactionsRequestData::default()
            .with_transactional_id_pattern(Some(broken.to_owned().into()));
        let answer = raw.call(&request, 2).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidRegularExpression.code());
        assert!(answer.transaction_states.is_empty());
    }
}
