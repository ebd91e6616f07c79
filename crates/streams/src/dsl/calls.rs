//! Calls of request–response services for each record: bounded, in the order of each key or as they come, with time-outs and
//! retries.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Bytes, Record, TimestampMs};

use crate::calls::pending::{self, Pending};
use crate::calls::schedule::Schedule;
use crate::calls::{Call, CallFuture, CallId, CallOutcome};
use crate::determinism::CALL;
use crate::error::TaskError;
use crate::graph::MakeNode;
use crate::node::{Cx, Node, Payload, Rec, RecordContext, take};
use crate::quarantine::entry::Held;
use crate::reprocessing;
use crate::serdes::{BytesSerde, SerdeRef};
use crate::windows::duration_ms;

use super::called::Called;
use super::kstream::KStream;
use super::options::Materialized;
use super::parts::{key_value_store, require};

type MakeCall<K, V> = Arc<dyn Fn(K, V) -> CallFuture + Send + Sync>;

/// What all tasks' nodes of one operator share.
struct Setup<K, V> {
    name: Arc<str>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    store: usize,
    ordered: bool,
    max_waiting: usize,
    max_in_flight: usize,
    timeout: Duration,
    attempts: u32,
    backoff: i64,
    max_backoff: i64,
    call: MakeCall<K, V>,
}

struct Item<K, V> {
    record: Rec<K, V>,
    context: RecordContext,
    /// The store has it.
    kept: bool,
}

struct CallNode<K, V, V2> {
    setup: Arc<Setup<K, V>>,
    items: BTreeMap<u64, Item<K, V>>,
    schedule: Schedule,
    next: u64,
    result: std::marker::PhantomData<fn(V2)>,
}

fn sequence_key(sequence: u64) -> Bytes {
    Bytes::copy_from_slice(&sequence.to_be_bytes())
}

impl<K: Payload, V: Payload, V2: Payload> CallNode<K, V, V2> {
    fn new(setup: Arc<Setup<K, V>>) -> Self {
        let schedule = Schedule::new(setup.max_in_flight);
        Self { setup, items: BTreeMap::new(), schedule, next: 0, result: std::marker::PhantomData }
    }

    fn add(&mut self, item: Item<K, V>, sequence: u64, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let key = match self.setup.ordered {
            true => cx.encode(&self.setup.key, "key", &self.setup.name, &item.record.key)?,
            false => None,
        };
        self.schedule.add(sequence, key);
        self.items.insert(sequence, item);
        self.next = self.next.max(sequence + 1);
        if self.schedule.len() == self.setup.max_waiting {
            cx.core.full_calls += 1;
        }
        Ok(())
    }

    fn remove(&mut self, sequence: u64, cx: &mut Cx<'_>) -> Option<Item<K, V>> {
        if self.schedule.len() == self.setup.max_waiting {
            cx.core.full_calls -= 1;
        }
        self.schedule.end(sequence);
        let item = self.items.remove(&sequence)?;
        if item.kept {
            cx.store::<Pending>(self.setup.store).put(sequence_key(sequence), None);
        }
        Some(item)
    }

    fn pause(&self, attempt: u32) -> i64 {
        let doubled = self.setup.backoff.saturating_mul(1_i64 << attempt.saturating_sub(1).min(30));
        doubled.min(self.setup.max_backoff)
    }

    fn kept(&self, item: &Item<K, V>, cx: &Cx<'_>) -> Result<Pending, TaskError> {
        let Item { record, context, .. } = item;
        let (key, value) = context.raw.clone();
        let mut headers = context.headers.clone();
        if context.reprocessing {
            reprocessing::mark(&mut headers);
        }
        let (offset, timestamp) = (context.offset, context.timestamp);
        let origin = Record { offset, timestamp, key, value, headers };
        Ok(Pending {
            key: cx.encode(&self.setup.key, "key", &self.setup.name, &record.key)?,
            value: cx.encode(&self.setup.value, "value", &self.setup.name, &record.value)?,
            timestamp: record.timestamp,
            origin: Held {
                topic: context.topic.to_string(),
                partition: context.partition,
                record: origin,
                failure: None,
            },
        })
    }

    fn decode<T>(&self, serde: &SerdeRef<T>, bytes: Option<&Bytes>) -> Result<T, TaskError> {
        let wrong = |source| TaskError::StoredValue { store: self.setup.name.to_string(), source };
        match bytes {
            Some(bytes) => serde.deserialize(&self.setup.name, bytes).map_err(wrong),
            None => serde
                .null()
                .ok_or_else(|| wrong(crate::SerdeError::new("null, which its serde does not know"))),
        }
    }

    fn restored(&self, pending: Pending) -> Result<Item<K, V>, TaskError> {
        let key = self.decode(&self.setup.key, pending.key.as_ref())?;
        let value = self.decode(&self.setup.value, pending.value.as_ref())?;
        let Held { topic, partition, mut record, .. } = pending.origin;
        let reprocessing = reprocessing::take(&mut record.headers);
        let context = RecordContext {
            topic: Arc::from(topic),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            raw: (record.key, record.value),
            headers: record.headers,
            stamp: Default::default(),
            reprocessing,
        };
        Ok(Item { record: Rec { key, value, timestamp: pending.timestamp }, context, kept: true })
    }
}

impl<K: Payload, V: Payload, V2: Payload> Node for CallNode<K, V, V2> {
    fn process(&mut self, record: &mut dyn Any, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let record = take::<K, V>(record, cx);
        let context = cx.core.context.clone();
        cx.core.effects += 1;
        self.add(Item { record, context, kept: false }, self.next, cx)
    }

    fn init(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        cx.core.callers.push(cx.node);
        let kept = cx.store::<Pending>(self.setup.store).range(Bound::Unbounded, Bound::Unbounded)?;
        for (key, _, pending) in kept {
            let Some(sequence) = key.first_chunk::<8>() else { continue };
            let item = self.restored(pending)?;
            self.add(item, u64::from_be_bytes(*sequence), cx)?;
        }
        Ok(())
    }

    fn calls(&mut self, now: TimestampMs, cx: &mut Cx<'_>) -> Vec<Call> {
        let mut calls = Vec::new();
        while let Some((sequence, attempt)) = self.schedule.start(now) {
            let Some(item) = self.items.get(&sequence) else { continue };
            let future = (self.setup.call)(item.record.key.clone(), item.record.value.clone());
            let id = CallId { node: cx.node, sequence, attempt };
            cx.core.metrics.calls += 1;
            calls.push(Call { id, timeout: self.setup.timeout, future });
        }
        calls
    }

    fn next_call(&self) -> Option<TimestampMs> {
        self.schedule.next_due()
    }

    fn under_way(&self) -> usize {
        self.schedule.len()
    }

    fn complete(&mut self, id: CallId, outcome: CallOutcome, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        if !self.schedule.runs(id.sequence, id.attempt) {
            return Ok(());
        }
        let message = match outcome {
            CallOutcome::Answered(answer) => {
                let Some(item) = self.remove(id.sequence, cx) else { return Ok(()) };
                let value = answer.downcast::<V2>();
                let value = value.unwrap_or_else(|_| panic!("a call of {} answers another type", cx.name()));
                cx.resume(item.context);
                let Rec { key, timestamp, .. } = item.record;
                return cx.forward(Rec { key, value: *value, timestamp });
            }
            CallOutcome::Failed(message) => message,
            CallOutcome::TimedOut => format!("no answer within {:?}", self.setup.timeout),
        };
        if id.attempt < self.setup.attempts {
            let due = cx.core.now.saturating_add(self.pause(id.attempt));
            self.schedule.again(id.sequence, due);
            return Ok(());
        }
        let Some(item) = self.remove(id.sequence, cx) else { return Ok(()) };
        cx.resume(item.context);
        let message = format!("called {} times: {message}", id.attempt);
        Err(TaskError::Processor { node: cx.name().to_string(), message })
    }

    fn origin(&self, id: CallId) -> Option<&RecordContext> {
        self.items.get(&id.sequence).map(|item| &item.context)
    }

    fn before_commit(&mut self, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let new: Vec<u64> =
            self.items.iter().filter(|(_, item)| !item.kept).map(|(place, _)| *place).collect();
        for sequence in new {
            let Some(item) = self.items.get(&sequence) else { continue };
            let (pending, timestamp) = (self.kept(item, cx)?, item.record.timestamp);
            cx.store::<Pending>(self.setup.store).put(sequence_key(sequence), Some((timestamp, pending)));
            if let Some(item) = self.items.get_mut(&sequence) {
                item.kept = true;
            }
        }
        Ok(())
    }
}

impl<K: Payload, V: Payload> KStream<K, V> {
    /// New values under the same keys, each from a call of a service outside. What such a call answers depends on when it is made, so
    /// that a replay may differ.
    ///
    /// So many calls run at once, in each task; those of a key one after the other, and their results in that order, unless
    /// [`Called::unordered`] says otherwise. A call that fails or takes too long is made again, later each time; one that failed for
    /// the last time is the processing handler's affair. A call may be made more than once (a retry, a crash); its result goes on
    /// exactly once under exactly-once.
    ///
    /// ```
    /// # use headwater_streams::serdes::{i64, string};
    /// # use headwater_streams::{Called, Consumed, Produced, StreamsBuilder, TopologyTestDriver};
    /// async fn price(article: String) -> Result<i64, std::io::Error> {
    ///     Ok(article.len() as i64) // a request to another service
    /// }
    /// let builder = StreamsBuilder::new("prices");
    /// builder
    ///     .stream("orders", Consumed::with(string(), string()))
    ///     .call(|_, article| price(article), Called::named("price").max_in_flight(8))
    ///     .to("priced", Produced::with(string(), i64()));
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe("orders", (&string(), &string()), (&"ann".to_owned(), &"tea".to_owned()), 0)?;
    /// assert_eq!(driver.read("priced", (&string(), &i64())), [("ann".to_owned(), Some(3), 0)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call<V2, E, F>(
        &self,
        call: impl Fn(K, V) -> F + Send + Sync + 'static,
        called: Called<K, V>,
    ) -> KStream<K, V2>
    where
        V2: Payload,
        E: Display,
        F: Future<Output = Result<V2, E>> + Send + 'static,
    {
        let mut graph = self.graph.borrow_mut();
        let name = graph.name(called.name.as_deref(), "KSTREAM-CALL");
        let (key, value) = (called.key.or(self.key_serde.clone()), called.value.or(self.value_serde.clone()));
        let key = require(&mut graph, key, &name, "key", "Called::with");
        let value = require(&mut graph, value, &name, "value", "Called::with");
        let store_name = format!("{name}-calls");
        let sequences: SerdeRef<Bytes> = Arc::new(BytesSerde);
        let options = Materialized::new();
        let store = key_value_store(&mut graph, &store_name, &sequences, &pending::serde(), None, &options);
        let call: MakeCall<K, V> = Arc::new(move |key, value| {
            let answer = call(key, value);
            Box::pin(async move {
                let answered = answer.await.map_err(|error| error.to_string())?;
                Ok(Box::new(answered) as Box<dyn Any + Send>)
            })
        });
        let setup = Arc::new(Setup {
            name: Arc::from(store_name),
            key,
            value,
            store,
            ordered: called.ordered,
            max_waiting: called.max_waiting.max(1),
            max_in_flight: called.max_in_flight,
            timeout: called.timeout,
            attempts: called.retries.saturating_add(1),
            backoff: duration_ms(called.backoff),
            max_backoff: duration_ms(called.max_backoff),
            call,
        });
        let make: MakeNode = Arc::new(move || Box::new(CallNode::<K, V, V2>::new(setup.clone())));
        let node = graph.operator(name, CALL, &[self.node], make);
        graph.connect(node, &[store]);
        drop(graph);
        self.with_values(node)
    }
}
