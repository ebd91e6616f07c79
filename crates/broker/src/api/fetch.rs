//! Fetch: a long poll that reads the log directly, without the engine.
//!
//! Sessions (KIP-227) are answered with session id 0, which tells a client to go on naming all partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_log::{Fetched, Isolation, LogError, PartitionId};
use headwater_model::Offset;
use headwater_wire::ErrorCode;
use headwater_wire::messages::FetchRequestData;
use headwater_wire::messages::fetch_request::FetchPartition;
use headwater_wire::messages::fetch_response::{
    AbortedTransaction, FetchResponseData, FetchableTopicResponse, PartitionData,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::{Call, Outgoing, Serving};
use crate::broker::Shared;

const TOPIC_IDS: i16 = 13;
/// No client waits longer for data than this in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const NO_SESSION: i32 = 0;

/// One partition of a request, resolved.
struct Wanted {
    index: i32,
    place: Result<PartitionId, ErrorCode>,
    offset: Offset,
    max_bytes: usize,
}

/// A topic as the client named it, with its partitions.
struct WantedTopic {
    named: FetchableTopicResponse,
    partitions: Vec<Wanted>,
}

struct Poll {
    topics: Vec<WantedTopic>,
    isolation: Isolation,
    min_bytes: usize,
    max_bytes: usize,
    deadline: Instant,
}

pub fn serve(call: Call, mut body: Bytes) -> Serving {
    Box::pin(async move {
        let request =
            FetchRequestData::read(&mut body, call.version).map_err(|error| call.malformed(error))?;
        drop(body);
        let (response, memory) = fetch(&call, request).await;
        let length = response.encoded_len(call.version);
        let frame = call.frame(length, |buffer| response.write(buffer, call.version))?;
        Ok(Some(Outgoing { frame, memory }))
    })
}

async fn fetch(call: &Call, request: FetchRequestData) -> (FetchResponseData, Option<OwnedSemaphorePermit>) {
    if request.session_id != NO_SESSION {
        let code = ErrorCode::FetchSessionIdNotFound.code();
        return (FetchResponseData::default().with_error_code(code), None);
    }
    let poll = resolve(call, request);
    let available = wait(&call.shared, &poll).await;
    if available == 0 {
        return (read(&call.shared, poll), None);
    }
    // The records are in memory twice: as read, and in the response.
    let wanted = (available.min(poll.max_bytes) >> 9).max(1);
    let most = call.shared.config.fetch_memory_bytes >> 10;
    let memory =
        Arc::clone(&call.shared.fetch_memory).acquire_many_owned(wanted.min(most).max(1) as u32).await;
    let shared = Arc::clone(&call.shared);
    let reading = tokio::task::spawn_blocking(move || read(&shared, poll)).await;
    let response = reading.unwrap_or_else(|error| {
        tracing::error!(%error, "a fetch could not be read");
        FetchResponseData::default().with_error_code(ErrorCode::UnknownServerError.code())
    });
    (response, memory.ok())
}

fn resolve(call: &Call, request: FetchRequestData) -> Poll {
    let catalog = &call.shared.catalog;
    let topics = request.topics.into_iter().map(|topic| {
        let (found, unknown) = match call.version >= TOPIC_IDS {
            true => (catalog.by_id(&topic.topic_id.to_bytes()), ErrorCode::UnknownTopicId),
            false => (catalog.by_name(topic.topic.as_str()), ErrorCode::UnknownTopicOrPartition),
        };
        let wanted = |partition: FetchPartition| {
            let place = match &found {
                None => Err(unknown),
                Some(_) if partition.current_leader_epoch > 0 => Err(ErrorCode::UnknownLeaderEpoch),
                Some(topic) => topic.partition(partition.partition).ok_or(ErrorCode::UnknownTopicOrPartition),
            };
            Wanted {
                index: partition.partition,
                place,
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            }
        };
        WantedTopic {
            partitions: topic.partitions.into_iter().map(wanted).collect(),
            named: FetchableTopicResponse::default().with_topic(topic.topic).with_topic_id(topic.topic_id),
        }
    });
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
    Poll {
        topics: topics.collect(),
        isolation: if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted },
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(call.shared.config.max_fetch_bytes),
        deadline: Instant::now() + wait,
    }
}

impl Poll {
    fn partitions(&self) -> impl Iterator<Item = &Wanted> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// Bytes that could be returned now; `None` when there is an error to tell at once.
    fn available(&self, shared: &Shared) -> Option<usize> {
        let enough = self.min_bytes.max(self.max_bytes);
        let mut sum = 0;
        for wanted in self.partitions() {
            let place = wanted.place.ok()?;
            sum += shared.reader.available(place, wanted.offset, wanted.max_bytes, self.isolation).ok()?;
            if sum >= enough {
                break;
            }
        }
        Some(sum)
    }
}

/// Returns when there is enough to read, an error, or no more time; how much there is.
async fn wait(shared: &Shared, poll: &Poll) -> usize {
    let enough = |available: Option<usize>| match available {
        Some(bytes) if bytes < poll.min_bytes => None,
        Some(bytes) => Some(bytes),
        None => Some(poll.max_bytes),
    };
    if let Some(bytes) = enough(poll.available(shared)) {
        return bytes;
    }
    let waiting = shared.waiters.register(poll.partitions().filter_map(|wanted| wanted.place.ok()).collect());
    loop {
        let available = poll.available(shared);
        if let Some(bytes) = enough(available) {
            return bytes;
        }
        if timeout_at(poll.deadline, waiting.woken()).await.is_err() {
            return poll.available(shared).unwrap_or(poll.max_bytes);
        }
    }
}

fn read(shared: &Shared, poll: Poll) -> FetchResponseData {
    let mut left = poll.max_bytes;
    let mut first = true;
    let mut responses = Vec::with_capacity(poll.topics.len());
    for WantedTopic { named, partitions } in poll.topics {
        let mut data = Vec::with_capacity(partitions.len());
        for wanted in partitions {
            // The first batch of a response is returned whatever its size, so that nobody gets stuck.
            let most = if first { wanted.max_bytes.min(left) } else { wanted.max_bytes.min(left).max(1) };
            let read = match wanted.place {
                Err(code) => Err(code),
                Ok(place) if left == 0 && !first => peek(shared, place, wanted.offset),
                Ok(place) => shared
                    .reader
                    .read(place, wanted.offset, most, poll.isolation)
                    .map_err(|error| code(&error)),
            };
            let partition = PartitionData::default().with_partition_index(wanted.index);
            data.push(match read {
                Ok(fetched) => {
                    first &= fetched.records.is_empty();
                    left = left.saturating_sub(fetched.records.len());
                    fill(partition, fetched, poll.isolation)
                }
                Err(code) => refuse(partition, code),
            });
        }
        responses.push(named.with_partitions(data));
    }
    FetchResponseData::default().with_responses(responses)
}

/// Where the partition is, without records: the response is full.
fn peek(shared: &Shared, place: PartitionId, offset: Offset) -> Result<Fetched, ErrorCode> {
    let offsets = shared.reader.offsets(place).map_err(|error| code(&error))?;
    if !(offsets.log_start..=offsets.high_watermark).contains(&offset) {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    Ok(Fetched {
        high_watermark: offsets.high_watermark,
        last_stable_offset: offsets.last_stable,
        log_start_offset: offsets.log_start,
        records: Bytes::new(),
        aborted: Vec::new(),
    })
}

fn fill(partition: PartitionData, fetched: Fetched, isolation: Isolation) -> PartitionData {
    let aborted = fetched.aborted.into_iter().map(|aborted| {
        AbortedTransaction::default()
            .with_producer_id(aborted.producer_id)
            .with_first_offset(aborted.first_offset)
    });
    partition
        .with_high_watermark(fetched.high_watermark)
        .with_last_stable_offset(fetched.last_stable_offset)
        .with_log_start_offset(fetched.log_start_offset)
        .with_aborted_transactions((isolation == Isolation::Committed).then(|| aborted.collect()))
        .with_records(Some(fetched.records))
}

fn refuse(partition: PartitionData, code: ErrorCode) -> PartitionData {
    partition
        .with_error_code(code.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_records(Some(Bytes::new()))
}

fn code(error: &LogError) -> ErrorCode {
    match error {
        LogError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::Damaged { .. } => ErrorCode::CorruptMessage,
        error => {
            tracing::error!(%error, "the log cannot be read");
            ErrorCode::KafkaStorageError
        }
    }
}
