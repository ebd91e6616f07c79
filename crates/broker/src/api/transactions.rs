//! Producer ids and transactions (KIP-98, KIP-360, KIP-890).

use headwater_coordinator::{
    AddPartitions, AddedPartitions, DescribedTransaction, EndTxn, Error, InitProducerId, ListTransactions,
    PartitionResult, ProducerIdentity, Request, Response, code,
};
use headwater_model::TopicPartition;
use headwater_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use headwater_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponseData, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
};
use headwater_wire::messages::describe_transactions_response::{
    DescribeTransactionsResponseData, TopicData, TransactionState as Described,
};
use headwater_wire::messages::list_transactions_response::{
    ListTransactionsResponseData, TransactionState as Listed,
};
use headwater_wire::messages::{
    AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData, AddPartitionsToTxnRequestData,
    DescribeTransactionsRequestData, EndTxnRequestData, EndTxnResponseData, InitProducerIdRequestData,
    InitProducerIdResponseData, ListTransactionsRequestData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::{Call, CallError, optional, text, texts};

/// From these versions on a fenced producer is told PRODUCER_FENCED (KIP-588).
const FENCED_INIT: i16 = 4;
const FENCED_OTHERS: i16 = 2;
/// KIP-890: many transactions in one AddPartitionsToTxn.
const MANY_TRANSACTIONS: i16 = 4;
/// KIP-890: every transaction has its own epoch.
const OWN_EPOCH: i16 = 5;
const STATES: [&str; 4] = ["Empty", "Ongoing", "CompleteCommit", "CompleteAbort"];

/// Older clients know a fenced producer by its epoch only.
fn fenced_code(error: Option<Error>, version: i16, since: i16) -> i16 {
    match error {
        Some(Error::ProducerFenced) if version < since => ErrorCode::InvalidProducerEpoch.code(),
        error => code(error),
    }
}

pub async fn init_producer_id(
    call: &Call,
    request: InitProducerIdRequestData,
) -> Result<InitProducerIdResponseData, CallError> {
    let init = InitProducerId {
        transactional_id: optional(&request.transactional_id),
        transaction_timeout_ms: request.transaction_timeout_ms,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let Response::InitProducerId(result) = call.ask(Request::InitProducerId(init)).await? else {
        return Err(call.mismatch());
    };
    let response = InitProducerIdResponseData::default();
    Ok(match result {
        Ok(ProducerIdentity { producer_id, producer_epoch }) => {
            response.with_producer_id(producer_id).with_producer_epoch(producer_epoch)
        }
        Err(error) => response
            .with_error_code(fenced_code(Some(error), call.version, FENCED_INIT))
            .with_producer_id(-1)
            .with_producer_epoch(-1),
    })
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> Vec<TopicPartition> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let place = |&index: &i32| TopicPartition::new(topic.name.as_str(), index);
        topic.partitions.iter().map(place).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

pub async fn add_partitions(
    call: &Call,
    request: AddPartitionsToTxnRequestData,
) -> Result<AddPartitionsToTxnResponseData, CallError> {
    let adds = match call.version >= MANY_TRANSACTIONS {
        true => request
            .transactions
            .iter()
            .map(|one| AddPartitions {
                transactional_id: text(&one.transactional_id),
                producer_id: one.producer_id,
                producer_epoch: one.producer_epoch,
                verify_only: one.verify_only,
                partitions: partitions(&one.topics),
            })
            .collect(),
        false => vec![AddPartitions {
            transactional_id: text(&request.v3_and_below_transactional_id),
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            partitions: partitions(&request.v3_and_below_topics),
        }],
    };
    let Response::AddPartitionsToTxn(added) = call.ask(Request::AddPartitionsToTxn(adds)).await? else {
        return Err(call.mismatch());
    };
    let response = AddPartitionsToTxnResponseData::default();
    Ok(match call.version >= MANY_TRANSACTIONS {
        true => {
            let result = |AddedPartitions { transactional_id, partitions }: AddedPartitions| {
                AddPartitionsToTxnResult::default()
                    .with_transactional_id(transactional_id.into())
                    .with_topic_results(added_topics(partitions, call.version))
            };
            response.with_results_by_transaction(added.into_iter().map(result).collect())
        }
        false => {
            let partitions = added.into_iter().flat_map(|added| added.partitions).collect();
            response.with_results_by_topic_v3_and_below(added_topics(partitions, call.version))
        }
    })
}

fn added_topics(results: Vec<PartitionResult>, version: i16) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut topics: Vec<AddPartitionsToTxnTopicResult> = Vec::new();
    for PartitionResult { partition: TopicPartition { topic, partition }, error } in results {
        let result = AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(partition)
            .with_partition_error_code(fenced_code(error, version, FENCED_OTHERS));
        match topics.last_mut().filter(|last| last.name.as_str() == topic) {
            Some(last) => last.results_by_partition.push(result),
            None => topics.push(
                AddPartitionsToTxnTopicResult::default()
                    .with_name(topic.into())
                    .with_results_by_partition(vec![result]),
            ),
        }
    }
    topics
}

pub async fn add_offsets(
    call: &Call,
    request: AddOffsetsToTxnRequestData,
) -> Result<AddOffsetsToTxnResponseData, CallError> {
    let add = Request::AddOffsetsToTxn {
        transactional_id: text(&request.transactional_id),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        group_id: text(&request.group_id),
    };
    let Response::AddOffsetsToTxn(error) = call.ask(add).await? else { return Err(call.mismatch()) };
    let code = fenced_code(error, call.version, FENCED_OTHERS);
    Ok(AddOffsetsToTxnResponseData::default().with_error_code(code))
}

pub async fn end(call: &Call, request: EndTxnRequestData) -> Result<EndTxnResponseData, CallError> {
    let end = EndTxn {
        transactional_id: text(&request.transactional_id),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        commit: request.committed,
        bump_epoch: call.version >= OWN_EPOCH,
    };
    let Response::EndTxn(result) = call.ask(Request::EndTxn(end)).await? else { return Err(call.mismatch()) };
    let response = EndTxnResponseData::default();
    Ok(match result {
        Ok(ProducerIdentity { producer_id, producer_epoch }) if call.version >= OWN_EPOCH => {
            response.with_producer_id(producer_id).with_producer_epoch(producer_epoch)
        }
        Ok(_) => response,
        Err(error) => response.with_error_code(fenced_code(Some(error), call.version, FENCED_OTHERS)),
    })
}

pub async fn describe(
    call: &Call,
    request: DescribeTransactionsRequestData,
) -> Result<DescribeTransactionsResponseData, CallError> {
    let ids = texts(&request.transactional_ids);
    let Response::DescribeTransactions(described) = call.ask(Request::DescribeTransactions(ids)).await?
    else {
        return Err(call.mismatch());
    };
    let states = described.into_iter().map(described_transaction).collect();
    Ok(DescribeTransactionsResponseData::default().with_transaction_states(states))
}

fn described_transaction(transaction: DescribedTransaction) -> Described {
    let mut topics: Vec<TopicData> = Vec::new();
    for TopicPartition { topic, partition } in transaction.partitions {
        match topics.last_mut().filter(|last| last.topic.as_str() == topic) {
            Some(last) => last.partitions.push(partition),
            None => {
                topics.push(TopicData::default().with_topic(topic.into()).with_partitions(vec![partition]))
            }
        }
    }
    Described::default()
        .with_error_code(code(transaction.error))
        .with_transactional_id(transaction.transactional_id.into())
        .with_transaction_state(KafkaString::from_static(transaction.state))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.started_ms)
        .with_producer_id(transaction.producer.producer_id)
        .with_producer_epoch(transaction.producer.producer_epoch)
        .with_topics(topics)
}

pub async fn list(
    call: &Call,
    request: ListTransactionsRequestData,
) -> Result<ListTransactionsResponseData, CallError> {
    let filter = ListTransactions {
        states: texts(&request.state_filters),
        producer_ids: request.producer_id_filters,
        longer_than_ms: request.duration_filter,
    };
    let unknown = request.state_filters.into_iter().filter(|state| !STATES.contains(&state.as_str()));
    let response = ListTransactionsResponseData::default().with_unknown_state_filters(unknown.collect());
    let Response::ListTransactions(transactions) = call.ask(Request::ListTransactions(filter)).await? else {
        return Err(call.mismatch());
    };
    let listed = transactions.into_iter().map(|one| {
        Listed::default()
            .with_transactional_id(one.transactional_id.into())
            .with_producer_id(one.producer_id)
            .with_transaction_state(KafkaString::from_static(one.state))
    });
    Ok(response.with_transaction_states(listed.collect()))
}
