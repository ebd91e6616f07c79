//! Duplicates left out: of records with one key and one id, the first within an interval goes on (KIP-655).
//!
//! Ids are kept in a window store at the time of the record that went on, with its topic, partition and offset: where commits are
//! not atomic, that record may be read again and goes on again. A record whose id is kept, no more than the interval older
//! than the stream time it carries and no more than the interval later than itself, is a duplicate. A record that is
//! itself older than the interval goes on and is not remembered; one without a key or id goes on.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, TimestampMs};

use crate::error::TaskError;
use crate::graph::MakeNode;
use crate::lanes::topic_id;
use crate::node::{Cx, Payload, Rec, node};
use crate::serdes::{Serde, SerdeError, SerdeRef};
use crate::store::StoreKind;
use crate::windows::duration_ms;

use super::kstream::KStream;
use super::options::{Deduplicated, Materialized};
use super::parts::{require, timed_store};

/// Where a record was read: its topic's hash, its partition and its offset.
type Origin = (u32, i32, i64);

/// `topic u32 | partition i32 | offset i64`.
struct OriginSerde;

impl Serde<Origin> for OriginSerde {
    fn serialize(&self, _topic: &str, (topic, partition, offset): &Origin) -> Result<Bytes, SerdeError> {
        Ok(Bytes::from([&topic.to_be_bytes()[..], &partition.to_be_bytes(), &offset.to_be_bytes()].concat()))
    }

    fn deserialize(&self, _topic: &str, bytes: &Bytes) -> Result<Origin, SerdeError> {
        let wrong = || SerdeError::new("an origin has 16 bytes");
        let (topic, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (partition, offset) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
        let offset = <[u8; 8]>::try_from(offset).map_err(|_| wrong())?;
        Ok((u32::from_be_bytes(*topic), i32::from_be_bytes(*partition), i64::from_be_bytes(offset)))
    }
}

/// The bytes by which a record is known; `None` if it cannot be a duplicate.
type Identify<K, V> =
    Arc<dyn Fn(&Rec<K, V>, &Bytes, &Cx<'_>) -> Result<Option<Bytes>, TaskError> + Send + Sync>;

struct Filter<K, V> {
    key: SerdeRef<K>,
    topic: String,
    store: usize,
    clock: usize,
    interval: i64,
    identify: Identify<K, V>,
}

impl<K: Payload, V: Payload> Filter<K, V> {
    fn process(&self, record: Rec<K, V>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let oldest = cx.watermark(self.clock).saturating_sub(self.interval);
        cx.store::<Origin>(self.store).expire_before(oldest)?;
        let Some(key) = cx.encode(&self.key, "key", &self.topic, &record.key)? else {
            return cx.forward(record);
        };
        let Some(id) = (self.identify)(&record, &key, cx)? else { return cx.forward(record) };
        let context = &cx.core.context;
        let origin = (topic_id(&context.topic), context.partition, context.offset);
        let since = cx.stream_time().saturating_sub(self.interval);
        let until = record.timestamp.saturating_add(self.interval);
        if self.is_duplicate(&id, (since, until), origin, cx)? {
            cx.core.metrics.dropped_duplicates += 1;
            return Ok(());
        }
        if record.timestamp >= since {
            let store = cx.store::<Origin>(self.store);
            let entry = store.layout().store_key(&id, record.timestamp, 0);
            store.put(entry, Some((record.timestamp, origin)));
        }
        cx.forward(record)
    }

    fn is_duplicate(
        &self,
        id: &Bytes,
        (since, until): (TimestampMs, TimestampMs),
        origin: Origin,
        cx: &mut Cx<'_>,
    ) -> Result<bool, TaskError> {
        let kept = cx.store::<Origin>(self.store).fetch(id, since.max(0), until)?;
        Ok(kept.iter().any(|(_, _, first)| *first != origin))
    }
}

impl<K: Payload, V: Payload> KStream<K, V> {
    /// Of records with the same key within the interval, the first.
    pub fn deduplicate_by_key(&self, interval: Duration, options: Deduplicated<K, V>) -> Self {
        self.deduplicated(interval, options, Arc::new(|_, key, _| Ok(Some(key.clone()))))
    }

    /// Of records with the same key and id within the interval, the first. Those without an id all go on. One that is read
    /// again after a crash and was not committed is no duplicate of itself.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Consumed, Deduplicated, Produced, StreamsBuilder, TopologyTestDriver};
    /// let builder = StreamsBuilder::new("payments");
    /// builder
    ///     .stream("payments", Consumed::with(string(), i64())) // account → number of the payment
    ///     .deduplicate_by_id(|_, number| Some(*number), i64(), Duration::from_secs(60), Deduplicated::new())
    ///     .to("once", Produced::with(string(), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (number, second) in [(7, 0), (8, 1), (7, 59), (7, 62)] {
    ///     driver.pipe("payments", (&string(), &i64()), (&"a".to_owned(), &number), second * 1000)?;
    /// }
    /// let numbers: Vec<_> = driver.read("once", (&string(), &i64())).into_iter().map(|(_, n, _)| n).collect();
    /// assert_eq!(numbers, [Some(7), Some(8), Some(7)]); // the last one came more than a minute after the first
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deduplicate_by_id<Id: Payload>(
        &self,
        id: impl Fn(&K, &V) -> Option<Id> + Send + Sync + 'static,
        id_serde: SerdeRef<Id>,
        interval: Duration,
        options: Deduplicated<K, V>,
    ) -> Self {
        let identify: Identify<K, V> = Arc::new(move |record, key, cx| {
            let Some(id) = id(&record.key, &record.value) else { return Ok(None) };
            let Some(id) = cx.encode(&id_serde, "id", "a deduplication", &id)? else { return Ok(None) };
            let length = (key.len() as u32).to_be_bytes();
            Ok(Some(Bytes::from([&length[..], key, &id].concat())))
        });
        self.deduplicated(interval, options, identify)
    }

    fn deduplicated(
        &self,
        interval: Duration,
        options: Deduplicated<K, V>,
        identify: Identify<K, V>,
    ) -> Self {
        let interval = duration_ms(interval);
        let name = self.graph.borrow_mut().name(options.name.as_deref(), "KSTREAM-DEDUPLICATE");
        let stream = self.by_key(&name, options.key, options.value);
        let mut graph = self.graph.borrow_mut();
        let key = require(&mut graph, stream.key_serde.clone(), &name, "key", "Deduplicated::with");
        let origins: SerdeRef<Origin> = Arc::new(OriginSerde);
        let topic = format!("{name}-store");
        let sizes = (interval, None);
        let (store, _) =
            timed_store(&mut graph, &topic, (&key, &origins), StoreKind::Window, sizes, &Materialized::new());
        let clock = graph.add_clock(&topic);
        let filter = Arc::new(Filter { key, topic, store, clock, interval, identify });
        let make: MakeNode = Arc::new(move || {
            let filter = filter.clone();
            node(move |record: Rec<K, V>, cx| filter.process(record, cx))
        });
        let node = graph.operator(name, "deduplicate", &[stream.node], make);
        graph.connect(node, &[store]);
        graph.set_clock(node, clock);
        drop(graph);
        Self { node, ..stream }
    }
}
