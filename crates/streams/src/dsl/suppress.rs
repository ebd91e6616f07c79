//! Suppression: one final result per window, after it has closed.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};

use crate::error::{TaskError, TopologyError};
use crate::graph::MakeNode;
use crate::node::{Change, Cx, Node, Payload, Rec, take};
use crate::serdes::SerdeRef;
use crate::windows::Windowed;

use super::grouped::windowless_name;
use super::ktable::KTable;
use super::options::Materialized;
use super::parts::{NewStore, require};
use crate::store::keys::Layout;

impl<K: Payload, V: Payload> KTable<Windowed<K>, V> {
    /// Holds each window's result back until it takes no more records from any lane, then emits it once. The buffer's
    /// store holds `end i64 | windowed key`.
    pub fn suppress_until_window_closes(&self, name: Option<&str>) -> Self {
        let mut graph = self.graph.borrow_mut();
        let node_name = graph.name(name, "KTABLE-SUPPRESS");
        let store_name = windowless_name(name.map(|name| format!("{name}-buffer")).as_deref(), &node_name);
        if self.close_after_ms.is_none() {
            let reason = "only windowed tables close; call it after windowed_by".to_owned();
            graph.errors.push(TopologyError::InvalidWindow { node: node_name.clone(), reason });
        }
        if self.history.is_some() {
            let reason = "a versioned table is not suppressed".to_owned();
            graph.errors.push(TopologyError::InvalidWindow { node: node_name.clone(), reason });
        }
        let close_after = self.close_after_ms.unwrap_or(0);
        let key = require(&mut graph, self.key_serde.clone(), &node_name, "key", "Grouped::with");
        let value =
            require(&mut graph, self.value_serde.clone(), &node_name, "value", "Materialized::value_serde");
        let options = Materialized::new();
        let store = NewStore {
            name: &store_name,
            layout: Layout::key_value(),
            key: &key,
            value: &value,
            retention_ms: None,
            window_size_ms: None,
            source: None,
        };
        let store = store.add(&mut graph, &options);
        let clock = graph.add_clock(&store_name);
        let session = self.stores.iter().find_map(|store| graph.session_closes.get(store).copied());
        let parts = Arc::new(Buffer { key, topic: store_name, store, clock, close_after, session });
        let make: MakeNode = Arc::new(move || {
            Box::new(Suppress::<K, V> { buffer: parts.clone(), first_end: i64::MIN, values: PhantomData })
        });
        let node = graph.operator(node_name, "suppress", &[self.node], make);
        graph.connect(node, &[store]);
        graph.set_clock(node, clock);
        drop(graph);
        Self { node, ..self.clone() }
    }
}

/// Where results wait.
struct Buffer<K> {
    key: SerdeRef<Windowed<K>>,
    topic: String,
    store: usize,
    clock: usize,
    close_after: i64,
    /// Of sessions of a single lane. Such a session is closed by a record that may still extend it, and comes behind it.
    session: Option<i64>,
}

struct Suppress<K, V> {
    buffer: Arc<Buffer<K>>,
    /// No window that ends before this is buffered; unknown after a restart.
    first_end: TimestampMs,
    values: PhantomData<fn(V)>,
}

impl<K: Payload, V: Payload> Node for Suppress<K, V> {
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key: window, value: change, timestamp } = take::<Windowed<K>, Change<V>>(record, cx);
        let Some(key) = cx.key(&self.buffer.key, &self.buffer.topic, &window)? else { return Ok(()) };
        self.first_end = self.first_end.min(window.end);
        let buffer_key = Bytes::from([&window.end.to_be_bytes()[..], &key[..]].concat());
        cx.store::<V>(self.buffer.store).put(buffer_key, change.new.map(|value| (timestamp, value)));
        match self.buffer.session.filter(|_| cx.one_lane(self.buffer.clock)) {
            Some(closes) => {
                // A failure of what is told now is none of the record at hand.
                let raw = std::mem::take(&mut cx.core.context.raw);
                let released = self.release(cx.watermark(self.buffer.clock).saturating_sub(closes), cx);
                cx.core.context.raw = raw;
                released
            }
            None => Ok(()),
        }
    }

    fn advance(&mut self, watermark: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let closes = match self.buffer.session {
            Some(closes) if cx.one_lane(self.buffer.clock) => closes.saturating_add(1),
            _ => self.buffer.close_after,
        };
        self.release(watermark.saturating_sub(closes), cx)
    }
}

impl<K: Payload, V: Payload> Suppress<K, V> {
    /// Emits the results of windows that ended at or before `closed`.
    fn release(&mut self, closed: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Buffer { key, topic, store, .. } = &*self.buffer;
        if closed < self.first_end {
            return Ok(());
        }
        // What was emitted before lies before it, and would have to be stepped over.
        let from = self.first_end.max(0).to_be_bytes();
        self.first_end = closed.saturating_add(1);
        let end = self.first_end.max(0).to_be_bytes();
        for (buffer_key, timestamp, value) in
            cx.store::<V>(*store).range(Bound::Included(&from), Bound::Excluded(&end))?
        {
            cx.store::<V>(*store).put(buffer_key.clone(), None);
            let wrong = |source| TaskError::StoredValue { store: topic.clone(), source };
            let key = key.deserialize(topic, &buffer_key.slice(8..)).map_err(wrong)?;
            cx.forward(Rec { key, value: Change { new: Some(value), old: None }, timestamp })?;
        }
        Ok(())
    }
}
