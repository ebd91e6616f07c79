//! Producer ids and transactions (KIP-98, KIP-360, KIP-890).

use headwater_coordinator::{
    AddPartitions, AddedPartitions, DescribedTransaction, EndTxn, Error, InitProducerId, ListTransactions,
    PartitionResult, ProducerIdentity, Request, Response, code, whole_match,
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

use headwater_model::acl::CLUSTER_NAME;

use super::{Call, CallError, once_by, optional, rights, text, texts};

/// From these versions on a fenced producer is told PRODUCER_FENCED (KIP-588).
const FENCED_INIT: i16 = 4;
const FENCED_OTHERS: i16 = 2;
/// KIP-890: many transactions in one AddPartitionsToTxn.
const MANY_TRANSACTIONS: i16 = 4;
/// KIP-890: every transaction has its own epoch.
const OWN_EPOCH: i16 = 5;
const STATES: [&str; 4] = ["Empty", "Ongoing", "CompleteCommit", "CompleteAbort"];
/// Those of Apache Kafka that no transaction here is ever in, although clients may ask for them.
const NEVER: [&str; 4] = ["PrepareCommit", "PrepareAbort", "PrepareEpochFence", "Dead"];

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
    if let Err(refusal) = may_init(call, &request) {
        return Ok(InitProducerIdResponseData::default()
            .with_error_code(refusal.code())
            .with_producer_id(-1)
            .with_producer_epoch(-1));
    }
    // KIP-360: a producer that goes on tells both, and a new one neither.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Ok(InitProducerIdResponseData::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_producer_id(-1)
            .with_producer_epoch(-1));
    }
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

fn may_init(call: &Call, request: &InitProducerIdRequestData) -> Result<(), ErrorCode> {
    if let Some(id) = &request.transactional_id {
        return call.check(rights::WRITE_TRANSACTIONAL_ID, id.as_str());
    }
    match call.sees_cluster(rights::IDEMPOTENT_WRITE) || call.may_to_any(rights::WRITE_TOPIC) {
        true => Ok(()),
        false => {
            call.refused(rights::IDEMPOTENT_WRITE, CLUSTER_NAME);
            Err(rights::IDEMPOTENT_WRITE.refusal())
        }
    }
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
    let of_many = request.transactions.iter().flat_map(|one| &one.topics);
    let topics = request.v3_and_below_topics.iter().chain(of_many);
    call.bear(topics.map(|topic| (topic.name.as_str().len(), topic.partitions.len())))?;
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
    if let Some(refused) = may_add(call, &adds) {
        return Ok(refused);
    }
    let Response::AddPartitionsToTxn(added) = call.ask(Request::AddPartitionsToTxn(adds)).await? else {
        return Err(call.mismatch());
    };
    let response = AddPartitionsToTxnResponseData::default();
    Ok(match call.version >= MANY_TRANSACTIONS {
        true => {
            let result = |AddedPartitions { transactional_id, partitions }: AddedPartitions| {
                AddPartitionsToTxnResult::default()
                    .with_transactional_id(transactional_id.into())
                    .with_topic_results(added_topics(coded(partitions, call.version)))
            };
            response.with_results_by_transaction(added.into_iter().map(result).collect())
        }
        false => {
            let partitions = added.into_iter().flat_map(|added| added.partitions).collect();
            response.with_results_by_topic_v3_and_below(added_topics(coded(partitions, call.version)))
        }
    })
}

/// The answer to whoever may not add all of it: nothing is added then.
fn may_add(call: &Call, adds: &[AddPartitions]) -> Option<AddPartitionsToTxnResponseData> {
    let response = AddPartitionsToTxnResponseData::default();
    if call.version >= MANY_TRANSACTIONS {
        let refusal = call.check_cluster(rights::CLUSTER_ACTION).err()?;
        return Some(response.with_error_code(refusal.code()));
    }
    let add = adds.first()?;
    let all = |code: ErrorCode| add.partitions.iter().map(move |one| (one.clone(), code.code()));
    if let Err(refusal) = call.check(rights::WRITE_TRANSACTIONAL_ID, &add.transactional_id) {
        let topics = added_topics(all(refusal).collect());
        return Some(response.with_results_by_topic_v3_and_below(topics));
    }
    let (allowed, mut refused) =
        call.part(rights::WRITE_TOPIC, add.partitions.clone(), |one: &TopicPartition| &one.topic);
    let (allowed, foreign) = owned(call, allowed);
    refused.extend(foreign);
    if refused.is_empty() {
        return None;
    }
    let exists = |one: &TopicPartition| {
        let topic = call.shared.catalog.by_name(&one.topic);
        topic.is_some_and(|topic| topic.partition(one.partition).is_some())
    };
    let untried = allowed.into_iter().map(|one| match exists(&one) {
        true => (one, ErrorCode::OperationNotAttempted.code()),
        false => (one, ErrorCode::UnknownTopicOrPartition.code()),
    });
    let refusal = rights::WRITE_TOPIC.refusal().code();
    let refused = refused.into_iter().map(|one| (one, refusal));
    Some(response.with_results_by_topic_v3_and_below(added_topics(untried.chain(refused).collect())))
}

/// Parts what the client may write from what belongs to others.
fn owned(call: &Call, partitions: Vec<TopicPartition>) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
    let owns = |one: &TopicPartition| {
        call.shared.catalog.by_name(&one.topic).is_none_or(|topic| call.owns(&topic).is_ok())
    };
    partitions.into_iter().partition(owns)
}

fn coded(results: Vec<PartitionResult>, version: i16) -> Vec<(TopicPartition, i16)> {
    let code = |error: Option<Error>| match error {
        // Only who verifies is told so, and whoever can verify knows this code (KIP-890).
        Some(Error::InvalidTxnState) => ErrorCode::TransactionAbortable.code(),
        error => fenced_code(error, version, FENCED_OTHERS),
    };
    results.into_iter().map(|result| (result.partition, code(result.error))).collect()
}

fn added_topics(results: Vec<(TopicPartition, i16)>) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut topics: Vec<AddPartitionsToTxnTopicResult> = Vec::new();
    for (TopicPartition { topic, partition }, code) in results {
        let result = AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(partition)
            .with_partition_error_code(code);
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
    let allowed = call.check(rights::WRITE_TRANSACTIONAL_ID, request.transactional_id.as_str());
    if let Err(refusal) = allowed.and_then(|()| call.check(rights::READ_GROUP, request.group_id.as_str())) {
        return Ok(AddOffsetsToTxnResponseData::default().with_error_code(refusal.code()));
    }
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
    if let Err(refusal) = call.check(rights::WRITE_TRANSACTIONAL_ID, request.transactional_id.as_str()) {
        return Ok(EndTxnResponseData::default().with_error_code(refusal.code()));
    }
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
    mut request: DescribeTransactionsRequestData,
) -> Result<DescribeTransactionsResponseData, CallError> {
    once_by(&mut request.transactional_ids, Clone::clone);
    let ids = texts(&request.transactional_ids);
    let (ids, refused) = call.part(rights::DESCRIBE_TRANSACTIONAL_ID, ids, String::as_str);
    let Response::DescribeTransactions(mut described) = call.ask(Request::DescribeTransactions(ids)).await?
    else {
        return Err(call.mismatch());
    };
    for transaction in &mut described {
        transaction.partitions.retain(|partition| call.sees(rights::DESCRIBE_TOPIC, &partition.topic));
    }
    let refusal = |id: String| {
        let code = rights::DESCRIBE_TRANSACTIONAL_ID.refusal().code();
        Described::default().with_transactional_id(id.into()).with_error_code(code)
    };
    let described = described.into_iter().map(described_transaction);
    let states = described.chain(refused.into_iter().map(refusal)).collect();
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

/// The states that are meant, each once, as the engine compares each with that of every transaction; nothing where none of
/// them is known, so that no transaction is meant.
fn known_states(filter: &[KafkaString]) -> Option<Vec<String>> {
    let is_named = |known: &&str| filter.iter().any(|state| state.as_str() == *known);
    let states: Vec<String> = STATES.into_iter().filter(is_named).map(str::to_owned).collect();
    (filter.is_empty() || !states.is_empty()).then_some(states)
}

pub async fn list(
    call: &Call,
    request: ListTransactionsRequestData,
) -> Result<ListTransactionsResponseData, CallError> {
    let pattern = optional(&request.transactional_id_pattern).filter(|pattern| !pattern.is_empty());
    let Ok(pattern) = pattern.as_deref().map(whole_match).transpose() else {
        let code = ErrorCode::InvalidRegularExpression.code();
        return Ok(ListTransactionsResponseData::default().with_error_code(code));
    };
    let states = known_states(&request.state_filters);
    let is_known = |state: &KafkaString| STATES.iter().chain(&NEVER).any(|known| *known == state.as_str());
    let unknown = request.state_filters.into_iter().filter(|state| !is_known(state));
    let response = ListTransactionsResponseData::default().with_unknown_state_filters(unknown.collect());
    let may_see = call.may_see_some(rights::DESCRIBE_TRANSACTIONAL_ID);
    let Some(states) = states.filter(|_| may_see) else { return Ok(response) };
    let filter = ListTransactions {
        states,
        producer_ids: request.producer_id_filters,
        longer_than_ms: request.duration_filter,
    };
    let Response::ListTransactions(mut transactions) = call.ask(Request::ListTransactions(filter)).await?
    else {
        return Err(call.mismatch());
    };
    transactions.retain(|one| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&one.transactional_id)));
    transactions.retain(|one| call.sees(rights::DESCRIBE_TRANSACTIONAL_ID, &one.transactional_id));
    let listed = transactions.into_iter().map(|one| {
        Listed::default()
            .with_transactional_id(one.transactional_id.into())
            .with_producer_id(one.producer_id)
            .with_transaction_state(KafkaString::from_static(one.state))
    });
    Ok(response.with_transaction_states(listed.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_states_that_are_asked_for_the_known_ones_count_each_once() {
        let of = |filter: &[&'static str]| {
            known_states(&filter.iter().copied().map(KafkaString::from_static).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), Some(Vec::new()), "all");
        assert_eq!(
            of(&["Ongoing", "Dead", "Ongoing", "Empty"]),
            Some(vec!["Empty".into(), "Ongoing".into()])
        );
        assert_eq!(of(&["Dead"]), None);
    }
}
