//! What happens when a function or a processor of the application fails on a record (KIP-1033), and where the record goes then
//! (KIP-1034).

use std::fmt;
use std::sync::Arc;

use headwater_model::{Bytes, Header, Offset};

use crate::error::TaskError;
use crate::lanes::TIME_HEADER;
use crate::node::Core;
use crate::quarantine::Failure;
use crate::task::Output;

/// A failure, and the record that the task had read when it happened.
#[derive(Debug, Clone, Copy)]
pub struct ProcessingFailure<'a> {
    /// The operator that failed.
    pub node: &'a str,
    /// What it failed with.
    pub message: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: Offset,
    /// That record's, as `value`; neither where what failed is the result of no single record (a window that closed).
    pub key: Option<&'a Bytes>,
    pub value: Option<&'a Bytes>,
    pub headers: &'a [Header],
}

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessingResponse {
    /// The task stops; its uncommitted work is undone.
    Fail,
    /// The record goes no further from the operator that failed.
    Continue,
    /// As `Continue`; the record that the task had read goes to this topic. Name it with
    /// `StreamsBuilder::dead_letter_topic`, so that it exists.
    DeadLetter(String),
    /// The record that the task had read is held, and so are all later ones of its key, until they are released: see
    /// `StreamsBuilder::quarantine`. It has had no effect: what it had caused before is undone.
    Quarantine,
}

/// Decides about a failure.
type Decide = Arc<dyn Fn(&ProcessingFailure<'_>) -> ProcessingResponse + Send + Sync>;

/// What happens when a function of a `try_` operator, or a processor, returns an error.
///
/// What the record had caused before stays: state that other operators wrote, and what went out by other ways. So it is in
/// Kafka Streams (`ProcessingExceptionHandler`).
#[derive(Clone, Default)]
pub enum ProcessingHandler {
    /// The task stops with an error that names the operator.
    #[default]
    Fail,
    /// The record is left out from there on, and counted.
    Continue,
    /// As `Continue`; the bytes of the record that the task had read go to this topic, with headers `__streams.errors.*`.
    DeadLetter(String),
    /// The record and all later ones of its key are held, and the others flow: see `StreamsBuilder::quarantine`.
    Quarantine,
    /// As the function says.
    Choose(Decide),
}

impl ProcessingHandler {
    /// Decides each time.
    pub fn choose(
        decide: impl Fn(&ProcessingFailure<'_>) -> ProcessingResponse + Send + Sync + 'static,
    ) -> Self {
        Self::Choose(Arc::new(decide))
    }
}

impl fmt::Debug for ProcessingHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => write!(f, "Fail"),
            Self::Continue => write!(f, "Continue"),
            Self::DeadLetter(topic) => write!(f, "DeadLetter({topic:?})"),
            Self::Quarantine => write!(f, "Quarantine"),
            Self::Choose(_) => write!(f, "Choose"),
        }
    }
}

/// Asks the handler about the error of the operator that has just run; `Ok` if the task goes on.
pub(crate) fn handle(core: &mut Core, ran: usize, error: TaskError) -> Result<(), TaskError> {
    let TaskError::Processor { node, message } = &error else { return Err(error) };
    // What an operator further down failed with has been decided about there.
    if **node != *core.slots[ran].name {
        return Err(error);
    }
    let response = match &core.handler {
        ProcessingHandler::Fail => ProcessingResponse::Fail,
        ProcessingHandler::Continue => ProcessingResponse::Continue,
        ProcessingHandler::DeadLetter(topic) => ProcessingResponse::DeadLetter(topic.clone()),
        ProcessingHandler::Quarantine => ProcessingResponse::Quarantine,
        ProcessingHandler::Choose(decide) => {
            let context = &core.context;
            decide(&ProcessingFailure {
                node,
                message,
                topic: &context.topic,
                partition: context.partition,
                offset: context.offset,
                key: context.raw.0.as_ref(),
                value: context.raw.1.as_ref(),
                headers: &context.headers,
            })
        }
    };
    if response == ProcessingResponse::Fail {
        return Err(error);
    }
    if response == ProcessingResponse::Quarantine {
        // What is no record's fault (a punctuation, a window that closes) stops the task.
        if core.may_hold && core.to_hold.is_none() {
            core.to_hold = Some(Failure { node: node.clone(), message: message.clone() });
        }
        return Err(error);
    }
    core.metrics.processing_errors += 1;
    if let ProcessingResponse::DeadLetter(topic) = response {
        core.metrics.records_out += 1;
        let letter = dead_letter(core, &topic, format!("ProcessorError in {node}"), message.clone());
        core.out.push(letter);
    }
    Ok(())
}

/// The record that the task had read: its own bytes, headers and time, and where and why it failed.
pub(crate) fn dead_letter(core: &Core, topic: &str, exception: String, message: String) -> Output {
    let context = &core.context;
    let origin = (&*context.topic, context.partition, context.offset);
    let mut headers = context.headers.clone();
    push_errors(&mut headers, (exception, message), origin);
    let (topic, (key, value)) = (Arc::from(topic), context.raw.clone());
    Output { topic, partition: None, timestamp: context.timestamp, key, value, headers }
}

/// What a dead letter says about its failure: Kafka Streams' headers (KIP-1034), after the record's own.
pub(crate) fn push_errors(
    headers: &mut Vec<Header>,
    (exception, message): (String, String),
    (topic, partition, offset): (&str, i32, Offset),
) {
    headers.retain(|header| header.key != TIME_HEADER);
    for (name, text) in [
        ("exception", exception),
        ("message", message),
        ("topic", topic.to_owned()),
        ("partition", partition.to_string()),
        ("offset", offset.to_string()),
    ] {
        headers.push(Header { key: format!("__streams.errors.{name}"), value: Some(Bytes::from(text)) });
    }
}
