//! What runs inside a task: nodes, and the context through which they forward, read stores and emit.
//!
//! Records travel on the stack: a node hands its child a `&mut dyn Any` that holds an `Option<Rec<K, V>>`, and the child
//! takes it. No allocation, no lookup by name, no conversion between nodes. Nodes form a directed acyclic graph, so a node
//! is never entered twice at once; it leaves its slot while it runs.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_model::{Bytes, Header, Offset, TimestampMs, partition};

use crate::calls::{Call, CallId, CallOutcome};
use crate::error::TaskError;
use crate::failure::{self, ProcessingHandler};
use crate::global::GlobalStores;
use crate::lanes::Stamp;
use crate::processor::PunctuationType;
use crate::production::Production;
use crate::quarantine::Failure;
use crate::reprocessing;
use crate::serdes::{SerdeRef, to_wire};
use crate::store::typed::{AnyStore, TypedStore};
use crate::store::versioned::VersionedStore;
use crate::task::{Output, TaskMetrics};

/// What keys and values must be. Wrap large ones in an `Arc` if several operators read one stream.
pub trait Payload: Clone + Send + 'static {}
impl<T: Clone + Send + 'static> Payload for T {}

/// A record between two nodes.
#[derive(Debug, Clone)]
pub(crate) struct Rec<K, V> {
    pub key: K,
    pub value: V,
    pub timestamp: TimestampMs,
}

/// A table's update: what a key's value is and was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<V> {
    pub new: Option<V>,
    pub old: Option<V>,
}

/// One operator in one task.
pub(crate) trait Node: Send {
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError>;

    /// Runs once, after the stores are restored and before the first record.
    fn init(&mut self, _cx: &mut Cx<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    /// The watermark of this node's clock has advanced; the record that did it is processed next.
    fn advance(&mut self, _watermark: TimestampMs, _cx: &mut Cx<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn punctuate(&mut self, _id: usize, _time: TimestampMs, _cx: &mut Cx<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    /// Calls of services that are to be made now.
    fn calls(&mut self, _now: TimestampMs, _cx: &mut Cx<'_>) -> Vec<Call> {
        Vec::new()
    }

    fn next_call(&self) -> Option<TimestampMs> {
        None
    }

    /// Calls that are not over.
    fn under_way(&self) -> usize {
        0
    }

    /// The record that a call is made for.
    fn origin(&self, _id: CallId) -> Option<&RecordContext> {
        None
    }

    fn complete(&mut self, _id: CallId, _outcome: CallOutcome, _cx: &mut Cx<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    /// Writes to its store what is to survive.
    fn before_commit(&mut self, _cx: &mut Cx<'_>) -> Result<(), TaskError> {
        Ok(())
    }
}

struct Closure<F, R> {
    run: F,
    record: std::marker::PhantomData<fn(R)>,
}

impl<K, V, F> Node for Closure<F, Rec<K, V>>
where
    K: Payload,
    V: Payload,
    F: FnMut(Rec<K, V>, &mut Cx<'_>) -> Result<(), TaskError> + Send,
{
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let record = take::<K, V>(record, cx);
        (self.run)(record, cx)
    }
}

/// A node made of a closure over typed records.
pub(crate) fn node<K, V, F>(run: F) -> Box<dyn Node>
where
    K: Payload,
    V: Payload,
    F: FnMut(Rec<K, V>, &mut Cx<'_>) -> Result<(), TaskError> + Send + 'static,
{
    Box::new(Closure { run, record: std::marker::PhantomData::<fn(Rec<K, V>)> })
}

/// Takes the typed record out of its envelope. The typed DSL connects nodes of equal types only.
pub(crate) fn take<K: Payload, V: Payload>(record: &mut dyn Any, cx: &Cx<'_>) -> Rec<K, V> {
    record
        .downcast_mut::<Option<Rec<K, V>>>()
        .and_then(Option::take)
        .unwrap_or_else(|| panic!("node {} was handed a record of another type", cx.name()))
}

/// Where the record being processed came from.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordContext {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: Offset,
    pub timestamp: TimestampMs,
    /// Key and value as they were read.
    pub raw: (Option<Bytes>, Option<Bytes>),
    pub headers: Vec<Header>,
    /// The record's lane and its stream time there.
    pub stamp: Stamp,
    /// It is processed again.
    pub reprocessing: bool,
}

pub(crate) struct Slot {
    pub name: Arc<str>,
    pub node: Option<Box<dyn Node>>,
    pub children: Box<[usize]>,
    /// Takes what a windowed operator drops as late.
    pub late: Option<usize>,
    /// What this node writes to a repartition topic carries its stream time.
    pub timed: bool,
    /// It writes to a repartition topic.
    pub internal: bool,
    /// Of the topic that it writes to, as far as that is known.
    pub partitions: Option<i32>,
    pub records: u64,
    /// Shared by all tasks: an operator that asked for the wall clock.
    pub wall_clock: Arc<AtomicBool>,
}

pub(crate) struct Punctuation {
    pub node: usize,
    pub id: usize,
    pub kind: PunctuationType,
    pub interval: i64,
    /// `None` once it would be past the end of time.
    pub next: Option<TimestampMs>,
}

/// All a task's nodes share.
pub(crate) struct Core {
    /// By graph index; nodes of other sub-topologies have no node.
    pub slots: Vec<Slot>,
    /// By graph index.
    pub stores: Vec<Option<Box<dyn AnyStore>>>,
    pub globals: GlobalStores,
    pub out: Vec<Output>,
    /// The highest timestamp each session operator saw; -1 before its first record.
    pub clocks: Vec<TimestampMs>,
    /// The time that no lane above a windowed operator is behind; -1 while one has not been heard of.
    pub watermarks: Vec<TimestampMs>,
    /// Whether a single lane feeds the operator.
    pub one_lane: Vec<bool>,
    pub stream_time: TimestampMs,
    pub now: TimestampMs,
    pub partition: i32,
    pub context: RecordContext,
    /// The change on its way is a version that a later one had replaced before it came.
    pub out_of_order: bool,
    pub handler: ProcessingHandler,
    pub production: Production,
    /// The record at hand may be held if it fails.
    pub may_hold: bool,
    /// It failed, and is to be held.
    pub to_hold: Option<Failure>,
    /// Nodes that call services, and how many of them have as many calls waiting as may.
    pub callers: Vec<usize>,
    pub full_calls: usize,
    /// What a record that goes on after a call carries.
    pub resumed: Stamp,
    /// What records have caused that is in no store yet.
    pub effects: u64,
    pub metrics: TaskMetrics,
    pub punctuations: Vec<Punctuation>,
    /// One of them is at work: what is forwarded comes of no record.
    pub punctuating: bool,
}

impl Core {
    pub fn run<R>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut dyn Node, &mut Cx<'_>) -> Result<R, TaskError>,
    ) -> Result<R, TaskError> {
        let mut node = self.slots[index].node.take().unwrap_or_else(|| {
            panic!("node {} is not of this task, or was entered twice", self.slots[index].name)
        });
        let result = call(node.as_mut(), &mut Cx { core: self, node: index });
        self.slots[index].node = Some(node);
        result
    }
}

/// A node's view of its task.
pub(crate) struct Cx<'a> {
    pub core: &'a mut Core,
    pub node: usize,
}

impl Cx<'_> {
    pub fn name(&self) -> Arc<str> {
        self.core.slots[self.node].name.clone()
    }

    /// Hands the record to every child; the last one gets it without a copy.
    #[inline]
    pub fn forward<K: Payload, V: Payload>(&mut self, record: Rec<K, V>) -> Result<(), TaskError> {
        let count = self.core.slots[self.node].children.len();
        let mut record = Some(record);
        for place in 0..count {
            if place + 1 == count {
                return self.hand(place, &mut record);
            }
            self.hand(place, &mut record.clone())?;
        }
        Ok(())
    }

    /// Hands the record to the child at `place` only (branches).
    #[inline]
    pub fn forward_to<K: Payload, V: Payload>(
        &mut self,
        place: usize,
        record: Rec<K, V>,
    ) -> Result<(), TaskError> {
        self.hand(place, &mut Some(record))
    }

    #[inline]
    fn hand<K: Payload, V: Payload>(
        &mut self,
        place: usize,
        record: &mut Option<Rec<K, V>>,
    ) -> Result<(), TaskError> {
        let child = self.core.slots[self.node].children[place];
        self.core.slots[child].records += 1;
        match self.core.run(child, |node, cx| node.process(record, cx)) {
            Err(error) => failure::handle(self.core, child, error),
            done => done,
        }
    }

    /// Goes on with a record that waited for a call.
    pub fn resume(&mut self, context: RecordContext) {
        self.core.context = RecordContext { stamp: self.core.resumed, ..context };
    }

    pub fn store<V: Payload>(&mut self, index: usize) -> &mut TypedStore<V> {
        self.core.stores[index]
            .as_mut()
            .and_then(|store| store.as_any().downcast_mut::<TypedStore<V>>())
            .unwrap_or_else(|| panic!("store {index} is not connected to this task with this type"))
    }

    /// As [`Cx::store`], for one that keeps versions.
    pub fn versions<V: Payload>(&mut self, index: usize) -> &mut VersionedStore<V> {
        self.core.stores[index]
            .as_mut()
            .and_then(|store| store.as_any().downcast_mut::<VersionedStore<V>>())
            .unwrap_or_else(|| {
                panic!("store {index} is not connected to this task with versions of this type")
            })
    }

    /// As [`Cx::forward`], saying whether the change is one that came out of order: what keeps or combines latest rows
    /// leaves such out (KIP-914).
    pub fn forward_version<K: Payload, V: Payload>(
        &mut self,
        record: Rec<K, V>,
        out_of_order: bool,
    ) -> Result<(), TaskError> {
        let before = std::mem::replace(&mut self.core.out_of_order, out_of_order);
        let result = self.forward(record);
        self.core.out_of_order = before;
        result
    }

    /// The shell's clock; that it was asked is told by `describe`.
    pub fn wall_clock(&self) -> TimestampMs {
        self.core.slots[self.node].wall_clock.store(true, Ordering::Relaxed);
        self.core.now
    }

    /// Whether the change at hand came out of order.
    pub fn out_of_order(&self) -> bool {
        self.core.out_of_order
    }

    /// Hands a record that came too late to the node that takes such.
    pub fn forward_late<K: Payload, V: Payload>(&mut self, record: Rec<K, V>) -> Result<(), TaskError> {
        let Some(child) = self.core.slots[self.node].late else { return Ok(()) };
        self.core.slots[child].records += 1;
        self.core.run(child, |node, cx| node.process(&mut Some(record), cx))
    }

    /// The stream time that the current record carries: by it, and it alone, the record may be late.
    pub fn stream_time(&self) -> TimestampMs {
        self.core.context.stamp.time
    }

    /// The time that no record still to come carries less of: what ends before it is final.
    pub fn watermark(&self, clock: usize) -> TimestampMs {
        self.core.watermarks[clock]
    }

    /// Whether a single lane feeds the operator: its order is then the same on every run.
    pub fn one_lane(&self, clock: usize) -> bool {
        self.core.one_lane[clock]
    }

    /// Takes note of a timestamp and returns the highest that the operator saw.
    pub fn observe(&mut self, clock: usize, timestamp: TimestampMs) -> TimestampMs {
        let clock = &mut self.core.clocks[clock];
        *clock = (*clock).max(timestamp);
        *clock
    }

    pub fn encode<T>(
        &self,
        serde: &SerdeRef<T>,
        what: &'static str,
        target: &str,
        value: &T,
    ) -> Result<Option<Bytes>, TaskError> {
        to_wire(serde, target, value).map_err(|source| TaskError::Serialize {
            node: self.name().to_string(),
            what,
            target: target.to_owned(),
            source,
        })
    }

    /// The partition that a record of this sink goes to, where that is not its key's: Kafka Streams' `WindowedStreamPartitioner`, which
    /// repartition topics do not have.
    pub fn partition<K>(&self, serde: &SerdeRef<K>, topic: &str, key: &K) -> Result<Option<i32>, TaskError> {
        let slot = &self.core.slots[self.node];
        let Some(count) = slot.partitions.filter(|_| !slot.internal) else { return Ok(None) };
        let chosen = serde.partition_key(topic, key).map_err(|source| TaskError::Serialize {
            node: slot.name.to_string(),
            what: "key",
            target: topic.to_owned(),
            source,
        })?;
        Ok(chosen.map(|bytes| partition::for_key(&bytes, count)))
    }

    /// The partition that a sink's own partitioner chooses; none where it is not known how many there are.
    pub fn chosen_partition(
        &self,
        topic: &str,
        choose: impl FnOnce(i32) -> i32,
    ) -> Result<Option<i32>, TaskError> {
        let slot = &self.core.slots[self.node];
        let Some(count) = slot.partitions else { return Ok(None) };
        let chosen = choose(count);
        if (0..count).contains(&chosen) {
            return Ok(Some(chosen));
        }
        let message = format!(
            "its partitioner chose partition {chosen} of topic {topic:?}, which has {count}; choose one from 0 on, below the number that it is given"
        );
        Err(TaskError::Processor { node: slot.name.to_string(), message })
    }

    /// The serialized key; `None` is counted as a skipped null key.
    pub fn key<K>(&mut self, serde: &SerdeRef<K>, target: &str, key: &K) -> Result<Option<Bytes>, TaskError> {
        let key = self.encode(serde, "key", target, key)?;
        if key.is_none() {
            self.core.metrics.skipped_null_key += 1;
        }
        Ok(key)
    }

    /// Whether the value is null, as its serde says. It is counted then: joins leave such records out.
    pub fn skips_null<V>(&mut self, serde: &SerdeRef<V>, value: &V) -> bool {
        let null = serde.is_null(value);
        self.core.metrics.skipped_null_value += u64::from(null);
        null
    }

    /// Writes a record; one for a repartition topic carries its time if someone needs it.
    pub fn emit(&mut self, output: Output) {
        let output = self.stamped(output);
        self.emit_stamped(output);
    }

    pub fn stamped(&self, mut output: Output) -> Output {
        if self.core.slots[self.node].timed {
            output.headers.push(self.core.context.stamp.header());
        }
        if self.core.context.reprocessing && self.core.slots[self.node].internal {
            reprocessing::mark(&mut output.headers);
        }
        output
    }

    pub fn emit_stamped(&mut self, output: Output) {
        self.core.metrics.records_out += 1;
        self.core.out.push(output);
    }
}
