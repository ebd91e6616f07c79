//! Windows that are emitted once, when they close.
//!
//! A window closes when the watermark is past its end and grace: from then on no lane has a record for it. Its result is read
//! from the operator's own store by the store's index by time, so nothing is kept twice; windows that close together come
//! in the order of their start (sessions: end, then start) and key, with their own timestamps. What has been emitted is
//! committed with the input's offsets: after a restart no window is emitted again or left out, also where the watermark
//! begins anew because the source topic has got another partition.

use std::any::Any;
use std::marker::PhantomData;

use headwater_model::TimestampMs;

use crate::error::TaskError;
use crate::node::{Change, Cx, Node, Payload, Rec, take};
use crate::serdes::SerdeRef;
use crate::windows::Windowed;

/// When a windowed aggregation tells its results (KIP-825).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum EmitStrategy {
    #[default]
    OnWindowUpdate,
    OnWindowClose,
}

impl EmitStrategy {
    pub fn on_close(self) -> bool {
        self == Self::OnWindowClose
    }
}

/// How a window's bounds follow from its entry in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bounds {
    /// It starts at the entry's time and is this long.
    Sized(i64),
    /// It ends at the entry's time.
    Session,
}

/// What is emitted, and when.
pub(crate) struct Closing<K> {
    pub key: SerdeRef<K>,
    pub topic: String,
    pub store: usize,
    pub clock: usize,
    /// A clock of its own that stands at the time up to which entries have been emitted.
    pub told: usize,
    pub window: Bounds,
    /// How far the watermark has to be past an entry's time.
    pub after: i64,
}

impl<K> Clone for Closing<K> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), topic: self.topic.clone(), ..*self }
    }
}

impl<K: Payload> Closing<K> {
    /// Emits the windows whose entries have times in `from..=to`.
    fn emit<A: Payload>(&self, from: TimestampMs, to: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let layout = cx.store::<A>(self.store).layout();
        for store_key in cx.store::<A>(self.store).by_time(from, to)? {
            let Some(entry) = layout.parse(&store_key) else { continue };
            // Sessions that grew together are in the index until the next commit.
            let Some((timestamp, value)) = cx.store::<A>(self.store).get(&store_key)? else {
                continue;
            };
            let wrong = |source| TaskError::StoredValue { store: self.topic.clone(), source };
            let key = self.key.deserialize(&self.topic, &entry.key).map_err(wrong)?;
            let (start, end) = match self.window {
                Bounds::Sized(size) => (entry.time, entry.time.saturating_add(size)),
                Bounds::Session => (entry.second, entry.time),
            };
            let value = Change { new: Some(value), old: None };
            cx.forward(Rec { key: Windowed { key, start, end }, value, timestamp })?;
        }
        Ok(())
    }
}

struct WindowedNode<F, K, V, A> {
    run: F,
    closing: Option<Closing<K>>,
    /// Entries up to this time have been emitted.
    emitted: TimestampMs,
    types: PhantomData<fn(V, A)>,
}

/// The node of a windowed aggregation: `run` takes each record, `closing` says what is emitted when windows close.
pub(crate) fn windowed_node<K: Payload, V: Payload, A: Payload>(
    run: impl FnMut(Rec<K, V>, &mut Cx<'_>) -> Result<(), TaskError> + Send + 'static,
    closing: Option<Closing<K>>,
) -> Box<dyn Node> {
    Box::new(WindowedNode { run, closing, emitted: -1, types: PhantomData::<fn(V, A)> })
}

impl<F, K, V, A> Node for WindowedNode<F, K, V, A>
where
    F: FnMut(Rec<K, V>, &mut Cx<'_>) -> Result<(), TaskError> + Send,
    K: Payload,
    V: Payload,
    A: Payload,
{
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let record = take::<K, V>(record, cx);
        (self.run)(record, cx)
    }

    fn init(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        if let Some(closing) = &self.closing {
            let closed = cx.watermark(closing.clock).saturating_sub(closing.after);
            self.emitted = closed.max(cx.core.clocks[closing.told]).max(-1);
        }
        Ok(())
    }

    fn advance(&mut self, watermark: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Some(closing) = &self.closing else { return Ok(()) };
        let closed = watermark.saturating_sub(closing.after);
        if closed <= self.emitted {
            return Ok(());
        }
        closing.emit::<A>(self.emitted + 1, closed, cx)?;
        self.emitted = cx.observe(closing.told, closed);
        Ok(())
    }
}
