//! What happens when a record cannot be written: its serde fails, it is too large, or the broker refuses it (Kafka Streams'
//! `ProductionExceptionHandler`).
//!
//! All three are decided at the sink, while the record that caused it is at hand, so that leaving it out or writing a dead letter
//! is in the same transaction as everything else. That a record is too large is known before it is sent, from the topic's
//! `max.message.bytes`. What a broker refuses is known too late, when its transaction can only be aborted: the shell then opens
//! the tasks again and tells them what was refused, and it is decided when the same record comes again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use headwater_model::{Bytes, Offset, TimestampMs};

use crate::error::TaskError;
use crate::failure::dead_letter;
use crate::node::{Core, Cx};
use crate::task::Output;

/// Why a record cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductionProblem {
    /// Its key or its value does not become bytes.
    Serialization { what: &'static str, message: String },
    /// Alone in a batch it has more bytes than its topic takes.
    TooLarge { bytes: usize, limit: usize },
    /// The broker does not take it: the name of Kafka's error, and what it said.
    Refused { error: String, message: String },
}

impl ProductionProblem {
    fn name(&self) -> &str {
        match self {
            Self::Serialization { .. } => "SerializationError",
            Self::TooLarge { .. } => "RecordTooLarge",
            Self::Refused { error, .. } => error,
        }
    }
}

impl fmt::Display for ProductionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serialization { what, message } => write!(f, "the {what} cannot be encoded: {message}"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "a batch of this record alone has {bytes} bytes, and max.message.bytes is {limit}")
            }
            Self::Refused { error, message } => write!(f, "the broker refuses it: {message} ({error})"),
        }
    }
}

/// A record that cannot be written, and the one that the task had read.
#[derive(Debug, Clone, Copy)]
pub struct ProductionFailure<'a> {
    /// The sink.
    pub node: &'a str,
    /// Where the record was to go.
    pub target: &'a str,
    pub problem: &'a ProductionProblem,
    /// Key and value as they were to be written, as far as there are any.
    pub key: Option<&'a Bytes>,
    pub value: Option<&'a Bytes>,
    /// Where the record came from that the task had read.
    pub topic: &'a str,
    pub partition: i32,
    pub offset: Offset,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductionResponse {
    /// The task stops; its uncommitted work is undone.
    Fail,
    /// The record is not written, and counted.
    Continue,
    /// As `Continue`; the record that the task had read goes to this topic. Name it with `StreamsBuilder::dead_letter_topic`, so
    /// that it exists.
    DeadLetter(String),
}

type Decide = Arc<dyn Fn(&ProductionFailure<'_>) -> ProductionResponse + Send + Sync>;

/// What happens to a record for a sink or a repartition topic that cannot be written. Changelogs are not asked about: a store
/// that differs from its changelog would be lost.
///
/// What may heal (a broker that is away, a leader that moves) is tried again for as long as it takes, and is no question.
#[derive(Clone, Default)]
pub enum ProductionHandler {
    /// The task stops.
    #[default]
    Fail,
    /// It is left out, and counted.
    Continue,
    /// As `Continue`; the bytes of the record that the task had read go to this topic, with headers `__streams.errors.*`.
    DeadLetter(String),
    /// As the function says.
    Choose(Decide),
}

impl ProductionHandler {
    /// Decides each time.
    pub fn choose(
        decide: impl Fn(&ProductionFailure<'_>) -> ProductionResponse + Send + Sync + 'static,
    ) -> Self {
        Self::Choose(Arc::new(decide))
    }

    pub(crate) fn asks(&self) -> bool {
        !matches!(self, Self::Fail)
    }
}

impl fmt::Debug for ProductionHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => write!(f, "Fail"),
            Self::Continue => write!(f, "Continue"),
            Self::DeadLetter(topic) => write!(f, "DeadLetter({topic:?})"),
            Self::Choose(_) => write!(f, "Choose"),
        }
    }
}

/// A record that a broker did not take. It is known again by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedOutput {
    pub topic: String,
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// The name of Kafka's error, and what the broker said.
    pub error: String,
    pub message: String,
}

impl RefusedOutput {
    fn is(&self, output: &Output) -> bool {
        self.topic == *output.topic
            && self.timestamp == output.timestamp
            && self.key == output.key
            && self.value == output.value
    }
}

/// What a task knows about what can be written.
#[derive(Default)]
pub(crate) struct Production {
    pub handler: ProductionHandler,
    /// `max.message.bytes` by topic.
    pub limits: Arc<HashMap<String, usize>>,
    pub refused: Vec<RefusedOutput>,
}

impl Production {
    fn problem(&self, output: &Output) -> Option<ProductionProblem> {
        if !self.handler.asks() {
            return None;
        }
        if let Some(limit) = self.limits.get(&*output.topic).copied() {
            let bytes = batch_bytes(output);
            if bytes > limit {
                return Some(ProductionProblem::TooLarge { bytes, limit });
            }
        }
        let refused = self.refused.iter().find(|refused| refused.is(output))?;
        let (error, message) = (refused.error.clone(), refused.message.clone());
        Some(ProductionProblem::Refused { error, message })
    }
}

impl Cx<'_> {
    /// Writes a record of a sink, unless it cannot be written and the handler says to go on without it.
    pub fn produce(&mut self, output: Output) -> Result<(), TaskError> {
        let output = self.stamped(output);
        match self.core.production.problem(&output) {
            None => {
                self.emit_stamped(output);
                Ok(())
            }
            Some(problem) => {
                let error = TaskError::Unwritable {
                    node: self.name().to_string(),
                    target: output.topic.to_string(),
                    reason: problem.to_string(),
                };
                let (key, value) = (output.key.as_ref(), output.value.as_ref());
                self.undeliverable(&output.topic, &problem, (key, value), error)
            }
        }
    }

    /// A key or value of a sink's record does not become bytes.
    pub fn unserializable(&mut self, topic: &str, error: TaskError) -> Result<(), TaskError> {
        let TaskError::Serialize { what, source, .. } = &error else { return Err(error) };
        let problem = ProductionProblem::Serialization { what, message: source.to_string() };
        self.undeliverable(topic, &problem, (None, None), error)
    }

    fn undeliverable(
        &mut self,
        target: &str,
        problem: &ProductionProblem,
        (key, value): (Option<&Bytes>, Option<&Bytes>),
        error: TaskError,
    ) -> Result<(), TaskError> {
        let name = self.name();
        let context = &self.core.context;
        let response = match &self.core.production.handler {
            ProductionHandler::Fail => ProductionResponse::Fail,
            ProductionHandler::Continue => ProductionResponse::Continue,
            ProductionHandler::DeadLetter(topic) => ProductionResponse::DeadLetter(topic.clone()),
            ProductionHandler::Choose(decide) => decide(&ProductionFailure {
                node: &name,
                target,
                problem,
                key,
                value,
                topic: &context.topic,
                partition: context.partition,
                offset: context.offset,
            }),
        };
        match response {
            ProductionResponse::Fail => return Err(error),
            ProductionResponse::Continue => {}
            ProductionResponse::DeadLetter(topic) => {
                let exception = format!("{} in {name}", problem.name());
                let letter = dead_letter(self.core, &topic, exception, format!("{target}: {problem}"));
                push(self.core, letter);
            }
        }
        self.core.metrics.production_errors += 1;
        Ok(())
    }
}

fn push(core: &mut Core, letter: Output) {
    core.metrics.records_out += 1;
    core.out.push(letter);
}

/// Of the header of a batch of records.
const BATCH_HEADER: usize = 61;

/// What a batch has that holds this record alone, without compression: Kafka's record format, version 2.
fn batch_bytes(output: &Output) -> usize {
    let sized = |bytes: Option<usize>| match bytes {
        Some(len) => varint(len as i64) + len,
        None => varint(-1),
    };
    let header = |header: &headwater_model::Header| {
        sized(Some(header.key.len())) + sized(header.value.as_ref().map(Bytes::len))
    };
    // Attributes, and the differences of timestamp and offset to the batch's: none.
    let body = 3
        + sized(output.key.as_ref().map(Bytes::len))
        + sized(output.value.as_ref().map(Bytes::len))
        + varint(output.headers.len() as i64)
        + output.headers.iter().map(header).sum::<usize>();
    BATCH_HEADER + varint(body as i64) + body
}

/// The length of a number in the zigzag encoding.
fn varint(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = (u64::BITS - zigzag.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_kafka_gives_them() {
        for (value, bytes) in [(0, 1), (-1, 1), (63, 1), (64, 2), (-64, 1), (-65, 2), (8191, 2), (8192, 3)] {
            assert_eq!(varint(value), bytes, "{value}");
        }
    }
}
