//! Joins of two streams within a window.
//!
//! Each side keeps its records in a window store; a record joins all of the other side within reach. What a left or outer
//! join has not matched waits in a third store, ordered by time, until its window has closed, as in Kafka Streams ≥ 3.1
//! (KAFKA-10847): there are no early results that a later match would contradict.
//!
//! Two records join if each came before the other's window had closed, by the stream time it carried; that is kept with
//! them. So it does not matter which of the two is processed first. What waits, and what may be forgotten, goes by the
//! watermark of both sides: a side that has no records holds unmatched results back.
//!
//! A null value (its serde says what that is) joins with nothing and is left out: a missing partner and one without a value
//! would be the same to who joins.

use std::any::Any;
use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, TimestampMs};

use crate::error::TaskError;
use crate::graph::MakeNode;
use crate::node::{Cx, Node, Payload, Rec, node, take};
use crate::serdes::SerdeRef;
use crate::store::StoreKind;
use crate::windows::JoinWindows;

use super::join_entries::{
    Either, EitherSerde, Seen, SeenSerde, first_free, waiting_entries, waiting_key, waiting_prefix,
};
use super::kstream::KStream;
use super::options::{Materialized, StreamJoined};
use super::parts::{copartition, key_value_store, timed_store};

type Join<V1, V2, R> = Arc<dyn Fn(Option<&V1>, Option<&V2>) -> R + Send + Sync>;

/// One direction of the join: `V` arrives, `O` is looked up.
struct Side<K, V, O, L, R, Out> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    topic: String,
    own: usize,
    other: usize,
    waiting: Option<usize>,
    clock: usize,
    /// Reach of this side's records.
    windows: JoinWindows,
    /// 0 left, 1 right.
    side: u8,
    /// Unmatched records of this side are results.
    outer: bool,
    /// Those of both sides are.
    both_wait: bool,
    left_windows: JoinWindows,
    join: Join<V, O, Out>,
    join_left: Join<L, R, Out>,
    wrap: fn(V) -> Either<L, R>,
}

impl<K, V, O, L, R, Out> Side<K, V, O, L, R, Out>
where
    K: Payload,
    V: Payload,
    O: Payload,
    L: Payload,
    R: Payload,
    Out: Payload,
{
    fn process(&self, record: Rec<K, V>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value, timestamp } = record;
        let (stream_time, watermark) = (cx.stream_time(), cx.watermark(self.clock));
        if cx.skips_null(&self.value, &value) {
            return Ok(());
        }
        let Some(bytes) = cx.encode(&self.key, "key", &self.topic, &key)? else {
            if self.outer {
                return cx.forward(Rec { key, value: (self.join)(Some(&value), None), timestamp });
            }
            cx.core.metrics.skipped_null_key += 1;
            return Ok(());
        };
        let late = !self.remember(&bytes, &value, timestamp, cx)?;
        let mut matched = false;
        let others = if late { Vec::new() } else { self.partners(&bytes, timestamp, stream_time, cx)? };
        let mut forgotten = None;
        for (other_timestamp, other) in others {
            matched = true;
            // Once for all of one time, which come together.
            if forgotten.replace(other_timestamp) != Some(other_timestamp) {
                self.forget_waiting(other_timestamp, &bytes, cx)?;
            }
            let value = (self.join)(Some(&value), Some(&other));
            cx.forward(Rec { key: key.clone(), value, timestamp: timestamp.max(other_timestamp) })?;
        }
        match self.waiting {
            Some(waiting) if self.outer && !matched => {
                if late || self.closes(timestamp) < watermark {
                    return cx.forward(Rec { key, value: (self.join)(Some(&value), None), timestamp });
                }
                let prefix = waiting_prefix(timestamp, self.side, &bytes);
                self.append(waiting, prefix, timestamp, (self.wrap)(value), cx)
            }
            _ => Ok(()),
        }
    }

    /// How long records are kept to be joined.
    fn retention(&self) -> i64 {
        let JoinWindows { before, after, grace } = self.windows;
        before.saturating_add(after).saturating_add(grace)
    }

    /// The last stream time at which a partner of this side's record may come.
    fn closes(&self, timestamp: TimestampMs) -> TimestampMs {
        timestamp.saturating_add(self.windows.after).saturating_add(self.windows.grace)
    }

    /// The other side's records within reach that were in time for this one, and this one for them.
    fn partners(
        &self,
        key: &[u8],
        timestamp: TimestampMs,
        stream_time: TimestampMs,
        cx: &mut Cx<'_>,
    ) -> Result<Vec<(TimestampMs, O)>, TaskError> {
        let from = timestamp.saturating_sub(self.windows.before).max(0);
        let to = timestamp.saturating_add(self.windows.after).max(0);
        let JoinWindows { before, grace, .. } = self.windows;
        let found = cx.store::<Seen<O>>(self.other).fetch(key, from, to)?;
        let in_time = |(_, at, other): (Bytes, TimestampMs, Seen<O>)| {
            let other_closes = at.saturating_add(before).saturating_add(grace);
            let both = other.stream_time <= self.closes(timestamp) && stream_time <= other_closes;
            both.then_some((at, other.value))
        };
        Ok(found.into_iter().filter_map(in_time).collect())
    }

    /// Keeps the record to be joined; false if it is too late for any partner.
    fn remember(
        &self,
        key: &[u8],
        value: &V,
        timestamp: TimestampMs,
        cx: &mut Cx<'_>,
    ) -> Result<bool, TaskError> {
        let (stream_time, watermark) = (cx.stream_time(), cx.watermark(self.clock));
        let store = cx.store::<Seen<V>>(self.own);
        store.expire_before(watermark.saturating_sub(self.retention()))?;
        if timestamp < stream_time.saturating_sub(self.retention()) {
            cx.core.metrics.dropped_late += 1;
            return Ok(false);
        }
        let layout = store.layout();
        let entry = |sequence: i64| layout.store_key(key, timestamp, sequence);
        let sequence = first_free(|sequence| Ok(store.get(&entry(sequence))?.is_some()))?;
        let seen = Seen { stream_time, value: value.clone() };
        store.put(entry(sequence), Some((timestamp, seen)));
        Ok(true)
    }

    fn append(
        &self,
        waiting: usize,
        prefix: Vec<u8>,
        timestamp: TimestampMs,
        value: Either<L, R>,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        let store = cx.store::<Either<L, R>>(waiting);
        let length = ((prefix.len() - 9) as u32).to_be_bytes();
        let entry =
            |sequence: i64| Bytes::from([&prefix[..], &(sequence as u32).to_be_bytes(), &length].concat());
        // Those of one time, side and key go together, so that none lacks between others.
        let sequence = first_free(|sequence| Ok(store.get(&entry(sequence))?.is_some()))?;
        store.put(entry(sequence), Some((timestamp, value)));
        Ok(())
    }

    /// The other side's records of this key and time are matched.
    fn forget_waiting(&self, timestamp: TimestampMs, key: &[u8], cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Some(waiting) = self.waiting else { return Ok(()) };
        let store = cx.store::<Either<L, R>>(waiting);
        let prefix = waiting_prefix(timestamp, 1 - self.side, key);
        for key in waiting_entries(store, &prefix)? {
            store.put(key, None);
        }
        Ok(())
    }

    /// Emits what waited in vain: its window and grace have passed.
    ///
    /// What was looked at before is not looked at again: what has gone from there would have to be stepped over, and where one side waits
    /// longer than the other, what is left of it would be read each time. Nothing is added there, as what comes so late does
    /// not wait.
    fn emit_unmatched(
        &self,
        watermark: TimestampMs,
        seen: &mut Looked,
        cx: &mut Cx<'_>,
    ) -> Result<(), TaskError> {
        let Some(waiting) = self.waiting else { return Ok(()) };
        let JoinWindows { before, after, grace } = self.left_windows;
        let end = |reach: i64| watermark.saturating_sub(reach).saturating_sub(grace).max(0);
        // Of a left join only the left side waits.
        let (longer, shorter) =
            if self.both_wait { (before.max(after), before.min(after)) } else { (after, after) };
        let now = Looked { both: end(longer).max(seen.both), one: end(shorter).max(seen.one) };
        let of_both = (seen.both.to_be_bytes(), now.both.to_be_bytes());
        let of_one = (seen.one.max(now.both).to_be_bytes(), now.one.to_be_bytes());
        *seen = now;
        let store = cx.store::<Either<L, R>>(waiting);
        let mut candidates = Vec::new();
        for (from, to) in [of_both, of_one] {
            candidates.extend(store.range(Bound::Included(&from), Bound::Excluded(&to))?);
        }
        for (entry, timestamp, value) in candidates {
            let reach = if matches!(value, Either::Left(_)) { after } else { before };
            if timestamp.saturating_add(reach).saturating_add(grace) >= watermark {
                continue;
            }
            let Some(key) = waiting_key(&entry) else { continue };
            cx.store::<Either<L, R>>(waiting).put(entry, None);
            let wrong = |source| TaskError::StoredValue { store: self.topic.clone(), source };
            let key = self.key.deserialize(&self.topic, &key).map_err(wrong)?;
            let value = match &value {
                Either::Left(value) => (self.join_left)(Some(value), None),
                Either::Right(value) => (self.join_left)(None, Some(value)),
            };
            cx.forward(Rec { key, value, timestamp })?;
        }
        Ok(())
    }
}

/// Before which times nothing waits: of both sides, and of the one that waits less long. Unknown after a restart.
#[derive(Default)]
struct Looked {
    both: TimestampMs,
    one: TimestampMs,
}

/// One direction in its node. Both share what waits, so the left one gives it out.
struct SideNode<K, V, O, L, R, Out> {
    side: Arc<Side<K, V, O, L, R, Out>>,
    seen: Looked,
}

impl<K, V, O, L, R, Out> Node for SideNode<K, V, O, L, R, Out>
where
    K: Payload,
    V: Payload,
    O: Payload,
    L: Payload,
    R: Payload,
    Out: Payload,
{
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let record = take::<K, V>(record, cx);
        self.side.process(record, cx)
    }

    fn advance(&mut self, watermark: TimestampMs, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Self { side, seen } = self;
        if side.side == 0 { side.emit_unmatched(watermark, seen, cx) } else { Ok(()) }
    }
}

impl<K: Payload, V: Payload> KStream<K, V> {
    /// Pairs of records of one key within the window.
    pub fn join_stream<V2: Payload, Out: Payload>(
        &self,
        other: &KStream<K, V2>,
        join: impl Fn(&V, &V2) -> Out + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, Out> {
        // An inner join never asks for a pair with a side missing.
        let pair = move |left: Option<&V>, right: Option<&V2>| Some(join(left?, right?));
        self.join_windowed(other, Arc::new(pair), windows, joined, (false, false))
            .flat_map_values(|pair| pair)
    }

    /// As [`KStream::join_stream`]; records of this stream without a partner come alone once their window has closed.
    pub fn left_join_stream<V2: Payload, Out: Payload>(
        &self,
        other: &KStream<K, V2>,
        join: impl Fn(&V, Option<&V2>) -> Out + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, Out> {
        let pair = move |left: Option<&V>, right: Option<&V2>| Some(join(left?, right));
        self.join_windowed(other, Arc::new(pair), windows, joined, (true, false)).flat_map_values(|pair| pair)
    }

    /// As [`KStream::join_stream`]; records of either stream without a partner come alone once their window has closed.
    pub fn outer_join_stream<V2: Payload, Out: Payload>(
        &self,
        other: &KStream<K, V2>,
        join: impl Fn(Option<&V>, Option<&V2>) -> Out + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
    ) -> KStream<K, Out> {
        self.join_windowed(other, Arc::new(join), windows, joined, (true, true))
    }

    fn join_windowed<V2: Payload, Out: Payload>(
        &self,
        other: &KStream<K, V2>,
        join: Join<V, V2, Out>,
        windows: JoinWindows,
        joined: StreamJoined<K, V, V2>,
        (left_outer, right_outer): (bool, bool),
    ) -> KStream<K, Out> {
        let StreamJoined { name, key, value, other: other_value } = joined;
        let base = self.graph.borrow_mut().name(name.as_deref(), "KSTREAM-JOIN");
        let left = self.by_key(&format!("{base}-left"), Some(key.clone()), Some(value.clone()));
        let right = other.by_key(&format!("{base}-right"), Some(key.clone()), Some(other_value.clone()));
        let mut graph = self.graph.borrow_mut();
        let needed = windows.before.saturating_add(windows.after).saturating_add(windows.grace);
        let sizes = (needed, Some(windows.before.saturating_add(windows.after)));
        let left_seen: SerdeRef<Seen<V>> = Arc::new(SeenSerde(value.clone()));
        let right_seen: SerdeRef<Seen<V2>> = Arc::new(SeenSerde(other_value.clone()));
        let own = format!("{base}-this-join-store");
        let (own, _) =
            timed_store(&mut graph, &own, (&key, &left_seen), StoreKind::Window, sizes, &Materialized::new());
        let that = format!("{base}-other-join-store");
        let (that, _) = timed_store(
            &mut graph,
            &that,
            (&key, &right_seen),
            StoreKind::Window,
            sizes,
            &Materialized::new(),
        );
        let waiting = left_outer.then(|| {
            let either: SerdeRef<Either<V, V2>> = Arc::new(EitherSerde(value.clone(), other_value.clone()));
            let name = format!("{base}-unmatched-store");
            key_value_store(&mut graph, &name, &key, &either, None, &Materialized::new())
        });
        let clock = graph.add_clock(&format!("{base}/join"));
        let flipped: Join<V2, V, Out> = {
            let join = join.clone();
            Arc::new(move |right, left| join(left, right))
        };
        let left_side = Arc::new(Side::<K, V, V2, V, V2, Out> {
            key: key.clone(),
            value,
            topic: base.clone(),
            own,
            other: that,
            waiting,
            clock,
            windows,
            side: 0,
            outer: left_outer,
            both_wait: left_outer && right_outer,
            left_windows: windows,
            join: join.clone(),
            join_left: join.clone(),
            wrap: Either::Left,
        });
        let right_side = Arc::new(Side::<K, V2, V, V, V2, Out> {
            key,
            value: other_value,
            topic: base.clone(),
            own: that,
            other: own,
            waiting,
            clock,
            windows: windows.reversed(),
            side: 1,
            outer: right_outer,
            both_wait: left_outer && right_outer,
            left_windows: windows,
            join: flipped,
            join_left: join,
            wrap: Either::Right,
        });
        let stores: Vec<usize> = [Some(own), Some(that), waiting].into_iter().flatten().collect();
        let from_left: MakeNode =
            Arc::new(move || Box::new(SideNode { side: left_side.clone(), seen: Looked::default() }));
        let from_right: MakeNode =
            Arc::new(move || Box::new(SideNode { side: right_side.clone(), seen: Looked::default() }));
        let name = graph.generate("KSTREAM-JOINTHIS");
        let this = graph.operator(name, "join streams", &[left.node], from_left);
        let name = graph.generate("KSTREAM-JOINOTHER");
        let that = graph.operator(name, "join streams", &[right.node], from_right);
        graph.connect(this, &stores);
        graph.connect(that, &stores);
        graph.set_clock(this, clock);
        graph.set_clock(that, clock);
        let pass: MakeNode = Arc::new(|| node(|record: Rec<K, Out>, cx| cx.forward(record)));
        let name = graph.generate("KSTREAM-MERGE");
        let merged = graph.operator(name, "merge", &[this, that], pass);
        let sources = copartition(&mut graph, merged, &left.sources, &right.sources);
        if left_outer {
            graph.relax_null_keys(merged);
        }
        drop(graph);
        KStream { sources, ..left.with_values(merged) }
    }
}
