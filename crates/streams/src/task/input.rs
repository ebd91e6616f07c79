//! One input partition of a task: its buffer, its decoded head and its position.
//!
//! Only the head is decoded ahead of its turn, because the timestamp extractor may look into it.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_model::{Bytes, Header, Offset, Record, TimestampMs, TopicPartition};

use crate::deserialization::DeserializationFailure;
use crate::error::TaskError;
use crate::failure::{ProcessingResponse, push_errors};
use crate::graph::DeserializationHandler;
use crate::lanes::{LaneClocks, Stamp, TIME_HEADER};
use crate::node::{Core, Cx, Payload, Rec};
use crate::quarantine::Failure;
use crate::quarantine::entry::Held;
use crate::quarantine::keeper::Keeper;
use crate::reprocessing;
use crate::serdes::{SerdeError, SerdeRef};
use crate::task::Output;
use crate::task::watermarks::is_watermark;

/// What became of a record when it was decoded.
pub(crate) enum Staged {
    Ready(TimestampMs),
    NullKey,
    NullValue,
    NegativeTimestamp,
    Malformed { what: &'static str, error: SerdeError },
}

/// Decodes records of one input and hands them to the source node's children.
pub(crate) trait Source: Send {
    fn stage(&mut self, topic: &str, record: &Record) -> Staged;
    fn emit(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError>;
}

/// Event time from key, value and record.
pub(crate) type Extractor<K, V> = Arc<dyn Fn(&K, &V, &Record) -> TimestampMs + Send + Sync>;

pub(crate) struct TypedSource<K, V> {
    pub key: SerdeRef<K>,
    pub value: SerdeRef<V>,
    pub extractor: Option<Extractor<K, V>>,
    staged: Option<Rec<K, V>>,
}

impl<K: Payload, V: Payload> TypedSource<K, V> {
    pub fn new(key: SerdeRef<K>, value: SerdeRef<V>, extractor: Option<Extractor<K, V>>) -> Self {
        Self { key, value, extractor, staged: None }
    }
}

fn decode<T>(serde: &SerdeRef<T>, topic: &str, bytes: Option<&Bytes>) -> Result<Option<T>, SerdeError> {
    match bytes {
        None => Ok(serde.null()),
        Some(bytes) => serde.deserialize(topic, bytes).map(Some),
    }
}

impl<K: Payload, V: Payload> Source for TypedSource<K, V> {
    fn stage(&mut self, topic: &str, record: &Record) -> Staged {
        let key = match decode(&self.key, topic, record.key.as_ref()) {
            Ok(Some(key)) => key,
            Ok(None) => return Staged::NullKey,
            Err(error) => return Staged::Malformed { what: "key", error },
        };
        let value = match decode(&self.value, topic, record.value.as_ref()) {
            Ok(Some(value)) => value,
            Ok(None) => return Staged::NullValue,
            Err(error) => return Staged::Malformed { what: "value", error },
        };
        let timestamp = match &self.extractor {
            Some(extract) => extract(&key, &value, record),
            None => record.timestamp,
        };
        if timestamp < 0 {
            return Staged::NegativeTimestamp;
        }
        self.staged = Some(Rec { key, value, timestamp });
        Staged::Ready(timestamp)
    }

    fn emit(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        match self.staged.take() {
            Some(record) => cx.forward(record),
            None => Ok(()),
        }
    }
}

pub(crate) struct Input {
    pub at: TopicPartition,
    pub topic: Arc<str>,
    /// How the topic is named within a lane.
    pub topic_id: u32,
    pub node: usize,
    pub source: Box<dyn Source>,
    pub handler: DeserializationHandler,
    pub buffer: VecDeque<Record>,
    /// The timestamp of the decoded record at the front of the buffer.
    pub head: Option<TimestampMs>,
    /// The head only says what time it is.
    pub says_time: bool,
    /// Highest timestamp processed; -1 before the first.
    pub partition_time: TimestampMs,
    /// For repartition topics: the clocks of the lanes that feed it.
    pub lanes: Option<LaneClocks>,
    pub position: Option<Offset>,
    pub fetched_to: Option<Offset>,
    pub end_offset: Option<Offset>,
    /// What lies before it is processed again.
    pub reprocess_until: Option<Offset>,
    /// It has had no records for so long that it is not waited for; of repartition topics their lanes know.
    pub idle: bool,
    /// When it last had records, or was looked at first, by the wall clock.
    pub heard_at: Option<TimestampMs>,
}

impl Input {
    /// The next offset to commit.
    pub fn next_offset(&self) -> Option<Offset> {
        if self.buffer.is_empty() { self.position.max(self.fetched_to) } else { self.position }
    }

    /// The time that no record still to come at this input carries less of.
    pub fn watermark(&self) -> TimestampMs {
        self.lanes.as_ref().map_or(self.partition_time, LaneClocks::minimum)
    }

    /// Advances the input's clocks by the record at hand and returns the stream time it carries from here on. A record
    /// of a repartition topic without a stamp (another program wrote it) is judged by the partition's own time.
    pub fn stamp(&mut self, timestamp: TimestampMs, headers: &mut Vec<Header>) -> Stamp {
        self.partition_time = self.partition_time.max(timestamp);
        let own = Stamp { topic: self.topic_id, partition: self.at.partition, time: self.partition_time };
        let Some(lanes) = &mut self.lanes else { return own };
        let Some(stamp) = Stamp::take(headers) else { return own };
        lanes.follow(stamp);
        stamp
    }

    /// The times of the lanes that it reads, as far as they have been heard of, and which of them are idle.
    pub fn stamps(&self) -> impl Iterator<Item = (Stamp, bool)> + '_ {
        let own = Stamp { topic: self.topic_id, partition: self.at.partition, time: self.partition_time };
        let own = (self.lanes.is_none() && (own.time >= 0 || self.idle)).then_some((own, self.idle));
        own.into_iter().chain(self.lanes.iter().flat_map(LaneClocks::stamps))
    }

    /// Whether what is final does not wait for it.
    pub fn is_idle(&self) -> bool {
        self.lanes.as_ref().map_or(self.idle, LaneClocks::is_idle)
    }

    /// None of its lanes is behind this time: what is final has not waited for it.
    pub fn lift(&mut self, time: TimestampMs) {
        match &mut self.lanes {
            Some(lanes) => lanes.lift(time),
            None => self.partition_time = self.partition_time.max(time),
        }
    }

    /// The stamp with the time up to which its lane is taken to be, which is later than its own after the lane was idle.
    pub fn lifted(&self, stamp: Stamp) -> Stamp {
        let lane = self.lanes.as_ref().and_then(|lanes| lanes.time(stamp));
        Stamp { time: lane.map_or(stamp.time, |time| time.max(stamp.time)), ..stamp }
    }

    /// Whether the record at `offset` is processed again. What comes through a repartition topic says so itself.
    pub fn reprocesses(&self, offset: Offset, headers: &mut Vec<Header>) -> bool {
        let again = self.reprocess_until.is_some_and(|end| offset < end);
        if self.lanes.is_some() { reprocessing::take(headers) || again } else { again }
    }

    /// Whether the broker is known to hold more than was handed over.
    pub fn lags(&self) -> bool {
        match (self.end_offset, self.position.max(self.fetched_to)) {
            (Some(end), Some(position)) => position < end,
            _ => false,
        }
    }

    /// Decodes the head; records that cannot be processed are consumed and counted. Returns how many were.
    pub fn stage(&mut self, core: &mut Core, mut keeper: Option<&mut Keeper>) -> Result<usize, TaskError> {
        let mut consumed = 0;
        while self.head.is_none() {
            let Some(record) = self.buffer.front() else { break };
            if self.lanes.is_some() && is_watermark(record) {
                (self.head, self.says_time) = (Some(record.timestamp), true);
                break;
            }
            let metrics = &mut core.metrics;
            match self.source.stage(&self.topic, record) {
                Staged::Ready(timestamp) => {
                    self.head = Some(timestamp);
                    break;
                }
                Staged::NullKey => metrics.skipped_null_key += 1,
                Staged::NullValue => metrics.skipped_null_value += 1,
                Staged::NegativeTimestamp => metrics.skipped_invalid_timestamp += 1,
                Staged::Malformed { what, error } => {
                    metrics.deserialization_errors += 1;
                    let node = core.slots[self.node].name.to_string();
                    match (self.decide(&node, record, (what, &error)), &mut keeper) {
                        (ProcessingResponse::Quarantine, Some(keeper)) => {
                            let message = format!("the {what} does not decode: {error}");
                            let failure = Some(Failure { node, message });
                            keeper.admit(self.held(record, failure), core)?;
                        }
                        (ProcessingResponse::Fail | ProcessingResponse::Quarantine, _) => {
                            return Err(TaskError::Deserialize {
                                node,
                                what,
                                topic: self.at.topic.clone(),
                                partition: self.at.partition,
                                offset: record.offset,
                                source: error,
                            });
                        }
                        (ProcessingResponse::Continue, _) => {}
                        (ProcessingResponse::DeadLetter(topic), _) => {
                            core.metrics.records_out += 1;
                            core.out.push(dead_letter(&topic, &self.at, record, what, &error));
                        }
                    }
                }
            }
            core.metrics.records_in += 1;
            self.pop();
            consumed += 1;
        }
        Ok(consumed)
    }

    /// Asks the handler about a record that does not decode.
    fn decide(&self, node: &str, record: &Record, (what, error): (&str, &SerdeError)) -> ProcessingResponse {
        self.handler.response(&DeserializationFailure {
            node,
            what,
            message: &error.message,
            topic: &self.topic,
            partition: self.at.partition,
            record,
        })
    }

    fn held(&self, record: &Record, failure: Option<Failure>) -> Held {
        let (topic, partition) = (self.at.topic.clone(), self.at.partition);
        let mut record = record.clone();
        record.headers.retain(|header| header.key != TIME_HEADER);
        if self.reprocess_until.is_some_and(|end| record.offset < end) {
            reprocessing::mark(&mut record.headers);
        }
        Held { topic, partition, record, failure }
    }

    /// Takes the head off the buffer and advances the position.
    pub fn pop(&mut self) -> Option<Record> {
        self.head = None;
        let record = self.buffer.pop_front()?;
        self.position = Some(record.offset + 1);
        Some(record)
    }
}

/// The record that did not decode: its own bytes, headers and time, and where and why it failed.
fn dead_letter(topic: &str, at: &TopicPartition, record: &Record, what: &str, error: &SerdeError) -> Output {
    let mut headers = record.headers.clone();
    let exception = format!("SerdeError in the {what}");
    push_errors(&mut headers, (exception, error.to_string()), (&at.topic, at.partition, record.offset));
    Output {
        topic: Arc::from(topic),
        partition: None,
        timestamp: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    }
}
