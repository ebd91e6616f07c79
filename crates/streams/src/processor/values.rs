//! Processors that keep keys: what comes behind one needs no new partitioning (Kafka Streams' `processValues`).

use std::any::Any;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use headwater_model::TimestampMs;

use super::{ProcessorContext, ProcessorError, ScheduleId, failed};
use crate::error::TaskError;
use crate::node::{Cx, Node, Payload, Rec, take};

/// An operator written by hand that forwards values under the key of the record at hand. One instance per task; its state belongs
/// in stores.
pub trait FixedKeyProcessor<K, VIn, VOut>: Send + 'static {
    /// Runs once before the first record, with restored stores: schedule punctuations here.
    fn init(&mut self, _cx: &mut FixedKeyProcessorContext<'_, '_, K, VOut>) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn process(
        &mut self,
        key: &K,
        value: VIn,
        cx: &mut FixedKeyProcessorContext<'_, '_, K, VOut>,
    ) -> Result<(), ProcessorError>;

    /// A punctuation is due; `time` is its clock's. There is no key to forward under.
    fn punctuate(
        &mut self,
        _schedule: ScheduleId,
        _time: TimestampMs,
        _cx: &mut FixedKeyProcessorContext<'_, '_, K, VOut>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// What such a processor may do: all that a [`ProcessorContext`] offers, but forward under another key.
pub struct FixedKeyProcessorContext<'a, 'b, K, VOut> {
    cx: ProcessorContext<'a, 'b, K, VOut>,
    /// Of the record at hand.
    key: Option<&'a K>,
}

impl<'a, 'b, K, VOut> Deref for FixedKeyProcessorContext<'a, 'b, K, VOut> {
    type Target = ProcessorContext<'a, 'b, K, VOut>;

    fn deref(&self) -> &Self::Target {
        &self.cx
    }
}

impl<K, VOut> DerefMut for FixedKeyProcessorContext<'_, '_, K, VOut> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cx
    }
}

impl<K: Payload, VOut: Payload> FixedKeyProcessorContext<'_, '_, K, VOut> {
    /// Hands a value on with the key and the timestamp of the current record.
    pub fn forward(&mut self, value: VOut) -> Result<(), TaskError> {
        let timestamp = self.cx.timestamp;
        self.forward_at(value, timestamp)
    }

    /// Hands a value on with the key of the current record and a timestamp of its own; a negative one is an error.
    pub fn forward_at(&mut self, value: VOut, timestamp: TimestampMs) -> Result<(), TaskError> {
        let Some(key) = self.key.cloned() else {
            let reason =
                "forward a value where no record is at hand: there is no key to keep; use KStream::process";
            return Err(self.cx.mistake(reason.to_owned()));
        };
        self.cx.forward_at(key, value, timestamp)
    }
}

/// Such a processor in its node.
pub(crate) struct FixedKeyNode<P, K, VIn, VOut> {
    pub processor: P,
    pub types: PhantomData<fn(K, VIn, VOut)>,
}

impl<P, K, VIn, VOut> FixedKeyNode<P, K, VIn, VOut>
where
    P: FixedKeyProcessor<K, VIn, VOut>,
{
    fn with(
        &mut self,
        cx: &mut Cx<'_>,
        (key, timestamp): (Option<&K>, TimestampMs),
        call: impl FnOnce(&mut P, &mut FixedKeyProcessorContext<'_, '_, K, VOut>) -> Result<(), ProcessorError>,
    ) -> Result<(), TaskError> {
        let context = ProcessorContext { cx, timestamp, forwards: PhantomData };
        let result = call(&mut self.processor, &mut FixedKeyProcessorContext { cx: context, key });
        result.map_err(|error| failed(error, cx))
    }
}

impl<P, K, VIn, VOut> Node for FixedKeyNode<P, K, VIn, VOut>
where
    P: FixedKeyProcessor<K, VIn, VOut>,
    K: Payload,
    VIn: Payload,
    VOut: Payload,
{
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value, timestamp } = take::<K, VIn>(record, cx);
        self.with(cx, (Some(&key), timestamp), |processor, cx| processor.process(&key, value, cx))
    }

    fn init(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let time = cx.core.stream_time;
        self.with(cx, (None, time), |processor, cx| processor.init(cx))
    }

    fn punctuate(&mut self, id: usize, time: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        self.with(cx, (None, time), |processor, cx| processor.punctuate(ScheduleId(id), time, cx))
    }
}
