//! Rules for records that do not decode, where a function decides (Kafka Streams' `DeserializationExceptionHandler`).

use std::fmt;
use std::sync::Arc;

use headwater_model::Record;

use crate::failure::ProcessingResponse;
use crate::graph::DeserializationHandler;

/// A record that does not decode.
#[derive(Debug, Clone, Copy)]
pub struct DeserializationFailure<'a> {
    /// The source.
    pub node: &'a str,
    /// `key` or `value`: the part that does not decode.
    pub what: &'a str,
    /// Why it does not.
    pub message: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    /// As it was read.
    pub record: &'a Record,
}

type Decide = Arc<dyn Fn(&DeserializationFailure<'_>) -> ProcessingResponse + Send + Sync>;

/// What [`DeserializationHandler::choose`] was given; equal to its clones only.
#[derive(Clone)]
pub struct DeserializationChoice(Decide);

impl PartialEq for DeserializationChoice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DeserializationChoice {}

impl fmt::Debug for DeserializationChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as a function says")
    }
}

impl DeserializationHandler {
    /// Decides each time. Name the topics of dead letters with `StreamsBuilder::dead_letter_topic`, so that they exist; what is to be
    /// held needs `StreamsBuilder::quarantine`. Not for global tables.
    ///
    /// ```
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{
    /// #     Consumed, DeserializationHandler, Produced, ProcessingResponse, StreamsBuilder, TopologyTestDriver,
    /// # };
    /// let mut builder = StreamsBuilder::new("readings");
    /// builder.deserialization_handler(DeserializationHandler::choose(|failure| match failure.record.value.as_deref() {
    ///     Some(b"-") => ProcessingResponse::Continue,
    ///     _ => ProcessingResponse::Fail,
    /// }));
    /// builder.stream("in", Consumed::with(string(), i64())).to("out", Produced::with(string(), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe_input("in", Some("k".into()), Some("-".into()), 0)?;
    /// assert!(driver.pipe_input("in", Some("k".into()), Some("?".into()), 0).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn choose(
        decide: impl Fn(&DeserializationFailure<'_>) -> ProcessingResponse + Send + Sync + 'static,
    ) -> Self {
        Self::Choose(DeserializationChoice(Arc::new(decide)))
    }

    /// What is to be done about a failure.
    pub(crate) fn response(&self, failure: &DeserializationFailure<'_>) -> ProcessingResponse {
        match self {
            Self::Fail => ProcessingResponse::Fail,
            Self::Continue => ProcessingResponse::Continue,
            Self::DeadLetter(topic) => ProcessingResponse::DeadLetter(topic.clone()),
            Self::Quarantine => ProcessingResponse::Quarantine,
            Self::Choose(DeserializationChoice(decide)) => decide(failure),
        }
    }
}
