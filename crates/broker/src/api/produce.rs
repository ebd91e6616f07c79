//! Produce: every batch is checked here, on the connection's task, and then handed to the engine.

mod claims;
mod compression;
mod records;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use headwater_coordinator::{Error, PublishedTopic, QuotaKey, UsageKind};
use headwater_log::{Appended, Durability, LogError};
use headwater_model::{CATALOG, TimestampMs};
use headwater_schema::topic_of_subject;
use headwater_wire::batch::NO_TIMESTAMP;
use headwater_wire::filter::{RecordView, Times};
use headwater_wire::messages::ProduceRequestData;
use headwater_wire::messages::produce_request::PartitionProduceData;
use headwater_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponseData, TopicProduceResponse,
};
use headwater_wire::{BatchError, BatchHeader, Compression, CompressionError, ErrorCode, batch};

use super::{Call, CallError, Outgoing, Serving, optional, rights, skim, text};
use crate::audit;
use crate::catalog::Topic;
use crate::clock;
use crate::engine::{Answer, Batch, Produce, Produced, Refusal};
use crate::schemas;

/// From here on a topic is named by its id, and zstd may be used, and so on.
const TOPIC_IDS: i16 = 13;
const IMPLICIT_PARTITIONS: i16 = 12;
const ABORTABLE: i16 = 11;
const ZSTD: i16 = 7;

const NOT_ALLOWED: &str = "the client may not write here: see headwater acl list";

const ONLY_OURS: &str = "only the broker writes to its own topics";

/// A code, what it means for this very batch, and which records are to blame when it is single ones.
struct Refused {
    code: ErrorCode,
    message: String,
    records: Vec<records::Wrong>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }
}

/// A partition of the request: refused at once, or at this place of what the engine was given.
enum Outcome {
    Refused(Refused),
    Sent { place: usize, append_time: TimestampMs },
}

struct Checked {
    topics: Vec<(TopicProduceResponse, Vec<(i32, Outcome)>)>,
    produce: Produce,
}

/// Hands over before the first poll, so that requests take effect in their order.
pub fn serve(call: Call, mut body: Bytes) -> Serving {
    let size = body.len();
    if !skim::is_plausible(&body, call.version) {
        return Box::pin(async move { Err(CallError::Implausible(size)) });
    }
    let request = match ProduceRequestData::read(&mut body, call.version) {
        Ok(request) => request,
        Err(error) => return Box::pin(async move { Err(call.malformed(error)) }),
    };
    let wants_answer = request.acks != 0;
    let begun = Instant::now();
    let Checked { topics, produce } = check(&call, request);
    let spent = if call.is_timed() { begun.elapsed() } else { Duration::ZERO };
    let produced = (!produce.batches.is_empty()).then(|| call.shared.engine.produce(produce));
    Box::pin(async move {
        let produced = match produced {
            Some(produced) => produced.await,
            None => Ok(Vec::new()),
        };
        call.spend(QuotaKey::ProducerByteRate, size as f64);
        let throttle = call.settle(spent);
        let response = respond(&call, topics, produced).with_throttle_time_ms(throttle);
        if !wants_answer {
            return unanswered(&call, response);
        }
        let length = response.encoded_len(call.version);
        call.respond(length, |buffer| response.write(buffer, call.version)).map(Some)
    })
}

/// Nothing tells a client that waits for no answer of a refusal but the end of its connection: it looks for the topic anew.
fn unanswered(call: &Call, response: ProduceResponseData) -> Result<Option<Outgoing>, CallError> {
    for topic in response.responses {
        let refused = topic.partition_responses.into_iter().find(|partition| partition.error_code != 0);
        if let Some(PartitionProduceResponse { index: partition, error_message, .. }) = refused {
            let known = call.shared.catalog.by_id(&topic.topic_id.to_bytes());
            let topic = known.map_or_else(|| text(&topic.name), |topic| topic.name().to_owned());
            let message = error_message.as_ref().map(text).unwrap_or_default();
            return Err(CallError::Unanswered { topic, partition, message });
        }
    }
    Ok(None)
}

/// Acknowledged by all replicas in sync.
const ALL: i16 = -1;

fn check(call: &Call, request: ProduceRequestData) -> Checked {
    let mut produce = Produce {
        transactional_id: optional(&request.transactional_id),
        implicit: call.version >= IMPLICIT_PARTITIONS,
        batches: Vec::new(),
    };
    let legal_acks = matches!(request.acks, -1..=1);
    let transactional = match &request.transactional_id {
        Some(id) => call.check(rights::WRITE_TRANSACTIONAL_ID, id.as_str()),
        None => Ok(()),
    };
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let (topic, unknown) = match call.version >= TOPIC_IDS {
            true => (call.shared.catalog.by_id(&data.topic_id.to_bytes()), ErrorCode::UnknownTopicId),
            false => (call.shared.catalog.by_name(data.name.as_str()), ErrorCode::UnknownTopicOrPartition),
        };
        let name = topic.as_ref().map_or(data.name.as_str(), |topic| topic.name());
        let unnamed = call.version >= TOPIC_IDS && topic.is_none();
        let allowed = transactional.and_then(|()| match unnamed {
            true => Ok(()),
            false => call.check(rights::WRITE_TOPIC, name),
        });
        let owns = topic.as_ref().filter(|_| allowed.is_ok()).map_or(Ok(()), |topic| call.owns(topic));
        let mut outcomes = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let checked = match &topic {
                _ if !legal_acks => {
                    Err(Refused::new(ErrorCode::InvalidRequiredAcks, "acks must be -1, 0 or 1"))
                }
                Some(topic) if topic.name() == audit::TOPIC => {
                    Err(Refused::new(ErrorCode::TopicAuthorizationFailed, ONLY_OURS))
                }
                _ if let Err(code) = allowed => Err(Refused::new(code, NOT_ALLOWED)),
                _ if let Err(message) = &owns => {
                    Err(Refused::new(ErrorCode::TopicAuthorizationFailed, message.as_str()))
                }
                None => Err(Refused::new(unknown, "there is no such topic")),
                Some(topic) if PublishedTopic::named(topic.name()).is_some() => {
                    Err(Refused::new(ErrorCode::InvalidTopicException, ONLY_OURS))
                }
                Some(topic) if request.acks == ALL && topic.settings.min_insync_replicas > 1 => {
                    let message = format!(
                        "min.insync.replicas is {} and there is 1 replica: set it to 1, or write with acks=1",
                        topic.settings.min_insync_replicas
                    );
                    Err(Refused { code: ErrorCode::NotEnoughReplicas, message, records: Vec::new() })
                }
                Some(topic) => check_batch(call, topic, partition, produce.transactional_id.is_some()),
            };
            outcomes.push((
                index,
                match checked {
                    Err(refused) => Outcome::Refused(refused),
                    Ok((batch, append_time)) => {
                        produce.batches.push(batch);
                        Outcome::Sent { place: produce.batches.len() - 1, append_time }
                    }
                },
            ));
        }
        let named = TopicProduceResponse::default().with_name(data.name).with_topic_id(data.topic_id);
        if let Some(topic) =
            topic.filter(|_| outcomes.iter().any(|(_, one)| matches!(one, Outcome::Sent { .. })))
        {
            call.uses(UsageKind::Writer, &topic, produce.transactional_id.as_deref());
        }
        topics.push((named, outcomes));
    }
    Checked { topics, produce }
}

fn check_batch(
    call: &Call,
    topic: &Topic,
    data: PartitionProduceData,
    in_transaction: bool,
) -> Result<(Batch, TimestampMs), Refused> {
    let refuse = |code, message: &str| Err(Refused::new(code, message));
    let Some(partition) = topic.partition(data.index) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, "the topic has no such partition");
    };
    let bytes = data.records.unwrap_or_default();
    let header = BatchHeader::read(&bytes).map_err(refused)?;
    if header.size != bytes.len() {
        return refuse(ErrorCode::InvalidRecord, "a partition takes one batch a request");
    }
    check_size(topic, &bytes)?;
    header.verify(&bytes).map_err(refused)?;
    header.check_from_client().map_err(refused)?;
    if header.is_transactional() && !in_transaction {
        return refuse(
            ErrorCode::TransactionalIdAuthorizationFailed,
            "the transaction is told without its id",
        );
    }
    if call.version < ZSTD && matches!(header.compression(), Ok(Compression::Zstd)) {
        return refuse(ErrorCode::UnsupportedCompressionType, "zstd needs Produce v7");
    }
    check_stamped(topic, &header)?;
    let times = check_records(call, topic, &header, &bytes)?;
    let bytes = compression::repack(&topic.settings, &header, bytes).map_err(refused)?;
    check_size(topic, &bytes)?;
    let (bytes, append_time) = stamp(topic, &header, times, bytes)?;
    let batch = Batch {
        partition,
        bytes,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        transactional: header.is_transactional(),
        durability: if topic.settings.unsynced { Durability::Unsynced } else { Durability::Synced },
    };
    Ok((batch, append_time))
}

fn check_size(topic: &Topic, batch: &[u8]) -> Result<(), Refused> {
    let most = usize::try_from(topic.settings.max_message_bytes).unwrap_or(usize::MAX);
    if batch.len() <= most {
        return Ok(());
    }
    let message = format!("the batch has {} bytes; max.message.bytes is {most}", batch.len());
    Err(Refused::new(ErrorCode::MessageTooLarge, message))
}

/// The broker alone stamps what it appends. As in Kafka, who only says that it was stamped is believed where producers'
/// times count and the header has one.
fn check_stamped(topic: &Topic, header: &BatchHeader) -> Result<(), Refused> {
    let believed = !topic.settings.log_append_time && header.max_timestamp != NO_TIMESTAMP;
    if believed || !header.is_log_append_time() {
        return Ok(());
    }
    let message = "a producer may not set the timestamp type LogAppendTime (attribute bit 3)";
    Err(Refused::new(ErrorCode::InvalidTimestamp, message))
}

/// The producer's timestamps, checked, or the broker's own; −1 for the producer's. Retention and searches by time go by
/// the header, so it tells the time of the latest record, whatever the producer wrote there.
fn stamp(
    topic: &Topic,
    header: &BatchHeader,
    Times { earliest, latest }: Times,
    bytes: Bytes,
) -> Result<(Bytes, TimestampMs), Refused> {
    let now = clock::wall();
    if topic.settings.log_append_time {
        let mut stamped = BytesMut::from(&bytes[..]);
        batch::assign_append_time(&mut stamped, now);
        return Ok((stamped.freeze(), now));
    }
    let (before, after) = (topic.settings.timestamp_before_max_ms, topic.settings.timestamp_after_max_ms);
    let allowed = now.saturating_sub(before)..=now.saturating_add(after);
    if earliest.is_some_and(|earliest| earliest < *allowed.start()) || latest > *allowed.end() {
        let message = format!(
            "timestamps from {} to {latest} are further from the broker's {now} than message.timestamp.before.max.ms and message.timestamp.after.max.ms allow",
            earliest.unwrap_or(latest)
        );
        let records = records::out_of_time(&bytes, &allowed);
        return Err(Refused { code: ErrorCode::InvalidTimestamp, message, records });
    }
    if latest == header.max_timestamp && !header.is_log_append_time() {
        return Ok((bytes, -1));
    }
    let mut stamped = BytesMut::from(&bytes[..]);
    batch::assign_create_time(&mut stamped, latest);
    Ok((stamped.freeze(), -1))
}

fn refused(error: BatchError) -> Refused {
    let code = match &error {
        // What the way may have damaged is sent again; what was sent so is not better the next time.
        BatchError::Checksum { .. } | BatchError::Magic(3.. | ..0) => ErrorCode::CorruptMessage,
        BatchError::Truncated { .. } | BatchError::Magic(_) => ErrorCode::InvalidRecord,
        // Of this a producer makes smaller batches; another code ends its records.
        BatchError::Compression(CompressionError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
        BatchError::Compression(CompressionError::UnknownCodec(_)) => ErrorCode::UnsupportedCompressionType,
        // Not CORRUPT_MESSAGE, after which producers send the same again.
        BatchError::Compression(_) | BatchError::Invalid(_) => ErrorCode::InvalidRecord,
    };
    Refused::new(code, error.to_string())
}

/// What is wrong within the records came so from the producer: the batch has the checksum that it left with.
fn malformed(error: BatchError) -> Refused {
    match error {
        BatchError::Truncated { .. } => Refused::new(ErrorCode::InvalidRecord, error.to_string()),
        error => refused(error),
    }
}

/// When the records were written, if nothing is wrong with any.
fn check_records(call: &Call, topic: &Topic, header: &BatchHeader, bytes: &[u8]) -> Result<Times, Refused> {
    // As the registry itself has it: a subject is as its topic, and who may read `_schemas` may see all.
    let sees = |subject: &str| {
        call.sees(rights::DESCRIBE_TOPIC, topic_of_subject(subject))
            || call.sees(rights::READ_TOPIC, schemas::TOPIC)
    };
    let claims = |record: &RecordView<'_>| claims::refused(call, record);
    let guards = topic.name() == CATALOG && call.shared.authorizer.is_on();
    let asker = records::Asker { sees: &sees, refuses: guards.then_some(&claims) };
    let judged = records::judge(&call.shared, topic, (header, bytes), &asker).map_err(malformed)?;
    if let Some(error) = judged.unreadable {
        return Err(Refused::new(ErrorCode::KafkaStorageError, error.to_string()));
    }
    let Some(first) = judged.wrong.first() else { return Ok(judged.times) };
    let message = match judged.count {
        1 => first.message(),
        count => format!("{count} records are refused; {}", first.message()),
    };
    Err(Refused { code: ErrorCode::InvalidRecord, message, records: judged.wrong })
}

fn respond(
    call: &Call,
    topics: Vec<(TopicProduceResponse, Vec<(i32, Outcome)>)>,
    produced: Answer<Produced>,
) -> ProduceResponseData {
    let partition = |(index, outcome): (i32, Outcome)| {
        let mut response = PartitionProduceResponse::default().with_index(index);
        let (code, message) = match (outcome, &produced) {
            (Outcome::Sent { place, append_time }, Ok(produced)) => match produced.get(place) {
                Some(Ok(appended)) => return accepted(response, *appended, append_time),
                Some(Err(refusal)) => (code(refusal, call.version), refusal.to_string()),
                None => (ErrorCode::UnknownServerError.code(), "the engine lost the batch".to_owned()),
            },
            (Outcome::Sent { .. }, Err(error)) => (ErrorCode::KafkaStorageError.code(), error.to_string()),
            (Outcome::Refused(refused), _) => {
                response = response.with_record_errors(refused.records.iter().map(record_error).collect());
                (refused.code.code(), refused.message)
            }
        };
        response
            .with_error_code(code)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(Some(message.into()))
    };
    let topic = |(named, outcomes): (TopicProduceResponse, Vec<_>)| {
        named.with_partition_responses(outcomes.into_iter().map(partition).collect())
    };
    ProduceResponseData::default().with_responses(topics.into_iter().map(topic).collect())
}

fn record_error(wrong: &records::Wrong) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default()
        .with_batch_index(wrong.index)
        .with_batch_index_error_message(Some(wrong.message().into()))
}

fn accepted(
    response: PartitionProduceResponse,
    appended: Appended,
    append_time: TimestampMs,
) -> PartitionProduceResponse {
    response
        .with_base_offset(appended.base_offset)
        .with_log_append_time_ms(append_time)
        .with_log_start_offset(appended.log_start_offset)
}

fn code(refusal: &Refusal, version: i16) -> i16 {
    match refusal {
        Refusal::Coordinator(Error::InvalidTxnState) if version >= ABORTABLE => {
            ErrorCode::TransactionAbortable.code()
        }
        Refusal::Coordinator(error) => error.code(),
        Refusal::Log(error) => match error {
            LogError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition.code(),
            LogError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber.code(),
            LogError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch.code(),
            LogError::Batch(_) => ErrorCode::InvalidRecord.code(),
            _ => ErrorCode::KafkaStorageError.code(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_once_unpacked_is_told_from_what_cannot_be_unpacked() {
        let code = |error: CompressionError| refused(error.into()).code;
        assert_eq!(code(CompressionError::TooLarge { cap: 1 }), ErrorCode::MessageTooLarge);
        assert_eq!(code(CompressionError::UnknownCodec(7)), ErrorCode::UnsupportedCompressionType);
        assert_eq!(code(CompressionError::Snappy), ErrorCode::InvalidRecord);
    }
}
