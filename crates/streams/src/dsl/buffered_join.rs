//! Joins of a stream with a versioned table that wait for late updates of the table (KIP-923).
//!
//! Each record of the stream waits until the watermark of the stream is the grace past its timestamp; then it is joined with
//! the row as of its timestamp, and goes on with its own timestamp, headers and stream time. A record that comes later than
//! that is joined at once. Records go in the order of timestamp, key and arrival; one whose value is null is left out.
//!
//! ```text
//! buffer:  timestamp i64 | key | sequence u32  →  topic u32 | partition i32 | time i64 | headers | value
//! headers: count u32, each: length u32 | name | 00, or 01 | length u32 | value
//! ```

use std::any::Any;
use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, Header, TimestampMs};

use crate::error::{TaskError, TopologyError};
use crate::graph::MakeNode;
use crate::lanes::Stamp;
use crate::node::{Cx, Node, Payload, Rec, take};
use crate::serdes::{Serde, SerdeError, SerdeRef};

use super::join_entries::first_free;
use super::kstream::KStream;
use super::ktable::KTable;
use super::options::Materialized;
use super::parts::{copartition, key_value_store, require};

/// The row of a key for a record with this timestamp.
pub(crate) type RowAt<K, V> =
    Arc<dyn Fn(&mut Cx<'_>, &K, TimestampMs) -> Result<Option<(TimestampMs, V)>, TaskError> + Send + Sync>;

/// The result of a record and the row, if there is one.
type Join<V, VT, V2> = Arc<dyn Fn(V, Option<&VT>) -> Option<V2> + Send + Sync>;

/// Reads the version that held then if the table keeps versions, the latest row otherwise.
pub(crate) fn row_at<K: Payload, V: Payload>(table: &KTable<K, V>) -> RowAt<K, V> {
    match &table.history {
        Some(history) => history.as_of.clone(),
        None => {
            let latest = table.getter.clone();
            Arc::new(move |cx, key, _| latest(cx, key))
        }
    }
}

/// A record as it waits.
#[derive(Debug, Clone)]
struct Waiting<V> {
    stamp: Stamp,
    headers: Vec<Header>,
    value: V,
}

struct WaitingSerde<V>(SerdeRef<V>);

fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads a waiting record's bytes from the front.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes, SerdeError> {
        if count > self.0.len() {
            return Err(SerdeError::new("a waiting record shorter than it says"));
        }
        Ok(self.0.split_to(count))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], SerdeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| SerdeError::new("a waiting record of another length"))
    }

    fn sized(&mut self) -> Result<Bytes, SerdeError> {
        let length = u32::from_be_bytes(self.fixed()?);
        self.take(length as usize)
    }

    fn header(&mut self) -> Result<Header, SerdeError> {
        let key = self.sized()?;
        let key = String::from_utf8(key.to_vec()).map_err(|error| SerdeError::new(error.to_string()))?;
        let value = match self.fixed::<1>()? {
            [0] => None,
            _ => Some(self.sized()?),
        };
        Ok(Header { key, value })
    }
}

impl<V> Serde<Waiting<V>> for WaitingSerde<V> {
    fn serialize(&self, topic: &str, waiting: &Waiting<V>) -> Result<Bytes, SerdeError> {
        let mut out = waiting.stamp.topic.to_be_bytes().to_vec();
        out.extend_from_slice(&waiting.stamp.partition.to_be_bytes());
        out.extend_from_slice(&waiting.stamp.time.to_be_bytes());
        out.extend_from_slice(&(waiting.headers.len() as u32).to_be_bytes());
        for Header { key, value } in &waiting.headers {
            push_sized(&mut out, key.as_bytes());
            out.push(u8::from(value.is_some()));
            if let Some(value) = value {
                push_sized(&mut out, value);
            }
        }
        out.extend_from_slice(&self.0.serialize(topic, &waiting.value)?);
        Ok(Bytes::from(out))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Waiting<V>, SerdeError> {
        let mut reader = Reader(bytes.clone());
        let stamp = Stamp {
            topic: u32::from_be_bytes(reader.fixed()?),
            partition: i32::from_be_bytes(reader.fixed()?),
            time: i64::from_be_bytes(reader.fixed()?),
        };
        let count = u32::from_be_bytes(reader.fixed()?);
        let headers = (0..count).map(|_| reader.header()).collect::<Result<_, _>>()?;
        Ok(Waiting { stamp, headers, value: self.0.deserialize(topic, &reader.0)? })
    }
}

struct Later<K, V, VT, V2> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    topic: String,
    buffer: usize,
    clock: usize,
    grace: i64,
    row_at: RowAt<K, VT>,
    join: Join<V, VT, V2>,
}

/// The operator in its node.
struct LaterNode<K, V, VT, V2> {
    operator: Arc<Later<K, V, VT, V2>>,
    /// What is earlier than this does not wait any more.
    released: TimestampMs,
}

impl<K: Payload, V: Payload, VT: Payload, V2: Payload> Later<K, V, VT, V2> {
    fn join(&self, record: Rec<K, V>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value, timestamp } = record;
        let row = (self.row_at)(cx, &key, timestamp)?;
        match (self.join)(value, row.as_ref().map(|(_, row)| row)) {
            Some(value) => cx.forward(Rec { key, value, timestamp }),
            None => Ok(()),
        }
    }

    /// Returns the entry under which it waits.
    fn wait(&self, key: Bytes, record: Rec<K, V>, cx: &mut Cx<'_>) -> Result<Bytes, TaskError> {
        let headers = cx.core.context.headers.clone();
        let waiting = Waiting { stamp: cx.core.context.stamp, headers, value: record.value };
        let store = cx.store::<Waiting<V>>(self.buffer);
        let prefix = [&record.timestamp.to_be_bytes()[..], &key].concat();
        let entry = |sequence: i64| Bytes::from([&prefix[..], &(sequence as u32).to_be_bytes()].concat());
        // Those of one time go together, so that none lacks between others.
        let sequence = first_free(|sequence| Ok(store.get(&entry(sequence))?.is_some()))?;
        let entry = entry(sequence);
        store.put(entry.clone(), Some((record.timestamp, waiting)));
        Ok(entry)
    }
}

impl<K: Payload, V: Payload, VT: Payload, V2: Payload> LaterNode<K, V, VT, V2> {
    /// Joins what has waited for long enough, as if it came now. The bytes at hand are those of `own` only, if it need not wait.
    fn release(
        &mut self,
        watermark: TimestampMs,
        own: Option<&Bytes>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        let operator = self.operator.clone();
        let ripe = watermark.saturating_sub(operator.grace);
        if ripe < self.released {
            return Ok(());
        }
        let (low, high) = (self.released.to_be_bytes(), ripe.saturating_add(1).to_be_bytes());
        let waiting =
            cx.store::<Waiting<V>>(operator.buffer).range(Bound::Included(&low), Bound::Excluded(&high))?;
        self.released = ripe;
        for (entry, timestamp, Waiting { stamp, headers, value }) in waiting {
            cx.store::<Waiting<V>>(operator.buffer).put(entry.clone(), None);
            let wrong = |source| TaskError::StoredValue { store: operator.topic.clone(), source };
            let key = entry.slice(8..entry.len() - 4);
            let key = operator.key.deserialize(&operator.topic, &key).map_err(wrong)?;
            let context = &mut cx.core.context;
            let now = (context.stamp, std::mem::take(&mut context.headers), context.raw.clone());
            (context.stamp, context.headers) = (stamp, headers);
            if own != Some(&entry) {
                context.raw = (None, None);
            }
            let joined = operator.join(Rec { key, value, timestamp }, cx);
            let context = &mut cx.core.context;
            (context.stamp, context.headers, context.raw) = now;
            joined?;
        }
        Ok(())
    }
}

impl<K: Payload, V: Payload, VT: Payload, V2: Payload> Node for LaterNode<K, V, VT, V2> {
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let record = take::<K, V>(record, cx);
        let operator = self.operator.clone();
        if cx.skips_null(&operator.value, &record.value) {
            return self.release(cx.watermark(operator.clock), None, cx);
        }
        let key = cx.encode(&operator.key, "key", &operator.topic, &record.key)?;
        let late = record.timestamp < cx.stream_time().saturating_sub(operator.grace);
        let own = match key {
            Some(key) if !late => Some(operator.wait(key, record, cx)?),
            _ => {
                operator.join(record, cx)?;
                None
            }
        };
        self.release(cx.watermark(operator.clock), own.as_ref(), cx)
    }

    fn advance(&mut self, watermark: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        self.release(watermark, None, cx)
    }
}

impl<K: Payload, V: Payload> KStream<K, V> {
    /// The join whose records wait for `grace` milliseconds; this stream is partitioned by its key.
    pub(crate) fn join_later<VT: Payload, V2: Payload>(
        &self,
        table: &KTable<K, VT>,
        name: &str,
        grace: i64,
        (row_at, join): (RowAt<K, VT>, Join<V, VT, V2>),
    ) -> KStream<K, V2> {
        let mut graph = self.graph.borrow_mut();
        let history = table.history.as_ref().map(|history| history.retention_ms);
        let reason = match history {
            None => Some("a join with grace needs a versioned table; see Materialized::versioned".to_owned()),
            Some(kept) if kept < grace => Some(format!(
                "the table keeps {kept} ms of history, which is shorter than the grace, {grace} ms"
            )),
            Some(_) => None,
        };
        let refused = reason.map(|reason| TopologyError::InvalidWindow { node: name.to_owned(), reason });
        graph.errors.extend(refused);
        let key = require(&mut graph, self.key_serde.clone(), name, "key", "Joined::with");
        let value = require(&mut graph, self.value_serde.clone(), name, "value", "Joined::with");
        let waiting: SerdeRef<Waiting<V>> = Arc::new(WaitingSerde(value.clone()));
        let topic = format!("{name}-Buffer");
        let buffer = key_value_store(&mut graph, &topic, &key, &waiting, None, &Materialized::new());
        let clock = graph.add_clock(&topic);
        let operator = Arc::new(Later { key, value, topic, buffer, clock, grace, row_at, join });
        let make: MakeNode =
            Arc::new(move || Box::new(LaterNode { operator: operator.clone(), released: 0 }));
        let node = graph.operator(name.to_owned(), "join", &[self.node], make);
        graph.connect(node, &[buffer]);
        graph.connect(node, &table.stores);
        graph.set_clock(node, clock);
        graph.nodes[node].holds_back = grace;
        let sources = copartition(&mut graph, node, &self.sources, &table.sources);
        drop(graph);
        KStream { sources, ..self.with_values(node) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_records_read_back_and_what_is_cut_short_is_refused() {
        let serde = WaitingSerde(crate::serdes::string());
        let header = |key: &str, value: Option<&str>| Header {
            key: key.to_owned(),
            value: value.map(|value| Bytes::from(value.to_owned())),
        };
        let waiting = Waiting {
            stamp: Stamp { topic: 7, partition: 3, time: 99 },
            headers: vec![header("a", Some("x")), header("", None), header("b", Some(""))],
            value: "value".to_owned(),
        };
        let bytes = serde.serialize("t", &waiting).unwrap();
        let read = serde.deserialize("t", &bytes).unwrap();
        assert_eq!(
            (read.stamp, &read.headers, &read.value),
            (waiting.stamp, &waiting.headers, &waiting.value)
        );
        let headers_end = bytes.len() - waiting.value.len();
        for length in 0..headers_end {
            assert!(serde.deserialize("t", &bytes.slice(..length)).is_err(), "{length} bytes");
        }
    }
}
