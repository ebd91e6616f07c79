//! Foreign-key joins of two tables (KIP-213).
//!
//! ```text
//! left task                                    right task
//!   change ─── subscribe, ask, unsubscribe ───▶ subscriptions (store: foreign key, key → left partition)
//!   result ◀────────────── answer ──────────── the foreign key's row, now and whenever it changes
//! ```
//!
//! Answers may be overtaken by changes of the left table, so each carries a token that the left task compares with its
//! current row: the answer to a question carries the hash of the left value that asked, the answer to a change of the right
//! row the hash of the foreign key. The answers of one foreign key come in order, so the last one that fits is the current
//! one. Kafka Streams keeps the left value's hash with each subscription instead; then every change of a left row is a
//! write on the right side, here only a change of its foreign key is.
//!
//! Both topics end in `-repartition` (Kafka Streams: `-topic`), so that one rule tells which topics are internal.
//!
//! What a left join's left side can tell by itself (a deleted row, a row without foreign key) it tells at once; of an inner
//! join it is an answer, too, which has the time of the later row, as in Kafka Streams. The result has no
//! store and no old values; `KTable::settled` keeps it when someone needs them.

use std::cell::OnceCell;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use headwater_model::Bytes;

use crate::error::TaskError;
use crate::graph::{Graph, MakeNode};
use crate::node::{Change, Cx, Payload, Rec, node};
use crate::serdes::{self, SerdeRef};
use crate::task::Output;
use crate::task::input::TypedSource;

use super::foreign_messages::{
    Answer, AnswerSerde, Subscription, SubscriptionSerde, Token, Wish, answer_bytes, hash64,
};
use super::ktable::KTable;
use super::options::{Materialized, TableJoined};
use super::parts::{Getter, NullKeys, copartition, key_value_store, require, sink_node};

type ForeignKey<K, V, KO> = Arc<dyn Fn(&K, &V) -> Option<KO> + Send + Sync>;

/// The result's row, if the join kind wants one.
type Join<V, VO, R> = Arc<dyn Fn(&V, Option<&VO>) -> Option<R> + Send + Sync>;

/// The left side: it asks, and turns answers into results.
struct Left<K, V, KO, VO, R> {
    name: String,
    /// Whose values are hashed; a serde may have a schema for it already.
    store: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    foreign: SerdeRef<KO>,
    select: ForeignKey<K, V, KO>,
    join: Join<V, VO, R>,
    row: Getter<K, V>,
    /// Rows without a partner are results, too.
    outer: bool,
}

/// The children of the node that asks.
const TO_RIGHT: usize = 0;
const TO_RESULT: usize = 1;

impl<K: Payload, V: Payload, KO: Payload, VO: Payload, R: Payload> Left<K, V, KO, VO, R> {
    /// The foreign key of a row, and its bytes.
    fn refers_to(&self, key: &K, value: Option<&V>, cx: &Cx<'_>) -> Result<Option<(KO, Bytes)>, TaskError> {
        let Some(foreign) = value.and_then(|value| (self.select)(key, value)) else { return Ok(None) };
        let bytes = cx.encode(&self.foreign, "foreign key", &self.name, &foreign)?;
        Ok(bytes.map(|bytes| (foreign, bytes)))
    }

    fn hash(&self, value: &V, cx: &Cx<'_>) -> Result<u64, TaskError> {
        Ok(hash64(&cx.encode(&self.value, "value", &self.store, value)?.unwrap_or_default()))
    }

    /// A change of the left table.
    fn ask(&self, record: Rec<K, Change<V>>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value: Change { new, old }, timestamp } = record;
        let Some(own) = cx.key(&self.key, &self.name, &key)? else { return Ok(()) };
        let before = self.refers_to(&key, old.as_ref(), cx)?;
        let after = self.refers_to(&key, new.as_ref(), cx)?;
        let stays = before.as_ref().map(|(_, bytes)| bytes) == after.as_ref().map(|(_, bytes)| bytes);
        let partition = cx.core.partition;
        // An inner join's result is deleted by an answer of the row that it was of, and with its time.
        let deletes = !self.outer && before.is_some() && after.is_none();
        if let Some((foreign, _)) = before
            && !stays
        {
            let (wish, always_answer) = (Wish::Unsubscribe, deletes);
            let value = Subscription { wish, always_answer, partition, hash: 0, key: own.clone() };
            cx.forward_to(TO_RIGHT, Rec { key: foreign, value, timestamp })?;
        }
        match (&new, after) {
            (Some(value), Some((foreign, _))) => {
                let wish = if stays { Wish::Ask } else { Wish::Subscribe };
                // Also of an inner join whose row is not there: an answer to an equal row that was deleted meanwhile
                // may still be on its way, and this one, coming after it, takes it back.
                let always_answer = true;
                let value =
                    Subscription { wish, always_answer, partition, hash: self.hash(value, cx)?, key: own };
                cx.forward_to(TO_RIGHT, Rec { key: foreign, value, timestamp })
            }
            (value, _) => {
                if !self.outer || (value.is_none() && old.is_none()) {
                    return Ok(());
                }
                let row = value.as_ref().and_then(|value| (self.join)(value, None));
                cx.forward_to(TO_RESULT, Rec { key, value: Change { new: row, old: None }, timestamp })
            }
        }
    }

    /// An answer of the right side.
    fn settle(&self, record: Rec<K, Answer<VO>>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value: answer, timestamp } = record;
        let row = (self.row)(cx, &key)?;
        let refers = self.refers_to(&key, row.as_ref().map(|(_, value)| value), cx)?;
        if refers.is_none() && !self.outer {
            // There is no result. Whichever question this answers, later changes of the row asked nothing any more.
            return match answer.row {
                Some(_) => Ok(()),
                None => cx.forward(Rec { key, value: Change::<R> { new: None, old: None }, timestamp }),
            };
        }
        let Some((_, value)) = row else { return Ok(()) };
        let fits = match answer.token {
            Token::Value(hash) => hash == self.hash(&value, cx)?,
            Token::ForeignKey(hash) => refers.is_some_and(|(_, bytes)| hash == hash64(&bytes)),
        };
        if !fits {
            return Ok(());
        }
        let new = (self.join)(&value, answer.row.as_ref());
        // Of a question it is that of the later row, of a change that of the change, as in Kafka Streams.
        cx.forward(Rec { key, value: Change { new, old: None }, timestamp })
    }
}

/// The right side: it remembers who refers to which row.
struct Right<KO, VO> {
    name: String,
    foreign: SerdeRef<KO>,
    value: SerdeRef<VO>,
    row: Getter<KO, VO>,
    subscriptions: usize,
}

/// An answer with the left partition that it is for; its key is the left key's bytes.
type Routed = (i32, Bytes);

/// `length of the foreign key u32 | foreign key`: what all subscriptions to a row begin with.
fn prefix(foreign: &[u8]) -> Vec<u8> {
    [&(foreign.len() as u32).to_be_bytes()[..], foreign].concat()
}

/// The first key that does not begin with `prefix`.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

impl<KO: Payload, VO: Payload> Right<KO, VO> {
    fn subscription(&self, record: Rec<KO, Subscription>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value: asked, timestamp } = record;
        let Some(foreign) = cx.key(&self.foreign, &self.name, &key)? else { return Ok(()) };
        if asked.wish != Wish::Ask {
            let entry = Bytes::from([&prefix(&foreign)[..], &asked.key[..]].concat());
            let partition =
                (asked.wish == Wish::Subscribe).then_some((timestamp, i64::from(asked.partition)));
            cx.store::<i64>(self.subscriptions).put(entry, partition);
        }
        if asked.wish == Wish::Unsubscribe && !asked.always_answer {
            return Ok(());
        }
        let row = (self.row)(cx, &key)?;
        if row.is_none() && !asked.always_answer {
            return Ok(());
        }
        let timestamp = row.as_ref().map_or(timestamp, |(newest, _)| timestamp.max(*newest));
        let row = row.filter(|_| asked.wish != Wish::Unsubscribe);
        let row = self.encoded(row.as_ref().map(|(_, row)| row), cx)?;
        let answer = answer_bytes(Token::Value(asked.hash), row.as_ref());
        cx.forward::<Bytes, Routed>(Rec { key: asked.key, value: (asked.partition, answer), timestamp })
    }

    /// A change of the right table, told to everyone who refers to the row.
    fn change(&self, record: Rec<KO, Change<VO>>, cx: &mut Cx<'_>) -> Result<(), TaskError> {
        let Rec { key, value: change, timestamp } = record;
        let Some(foreign) = cx.key(&self.foreign, &self.name, &key)? else { return Ok(()) };
        let start = prefix(&foreign);
        let end = after(&start);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let subscribers = cx.store::<i64>(self.subscriptions).range(Bound::Included(&start), to)?;
        if subscribers.is_empty() {
            return Ok(());
        }
        let row = self.encoded(change.new.as_ref(), cx)?;
        let answer = answer_bytes(Token::ForeignKey(hash64(&foreign)), row.as_ref());
        for (entry, _, partition) in subscribers {
            let value = (partition as i32, answer.clone());
            cx.forward::<Bytes, Routed>(Rec { key: entry.slice(start.len()..), value, timestamp })?;
        }
        Ok(())
    }

    fn encoded(&self, row: Option<&VO>, cx: &Cx<'_>) -> Result<Option<Bytes>, TaskError> {
        row.map_or(Ok(None), |row| cx.encode(&self.value, "value", &self.name, row))
    }
}

/// The names of a join's parts, as Kafka Streams gives them.
struct Names {
    registration: String,
    response: String,
    store: String,
}

impl Names {
    fn new(graph: &mut Graph, given: Option<&str>) -> Self {
        let mut name = |suffix: &str, generated: &str| {
            let generated = graph.generate(&format!("KTABLE-FK-JOIN-SUBSCRIPTION-{generated}"));
            given.map_or(generated, |given| format!("{given}-subscription-{suffix}"))
        };
        Self {
            registration: name("registration", "REGISTRATION"),
            response: name("response", "RESPONSE"),
            store: name("store", "STATE-STORE"),
        }
    }
}

/// Adds a topic between the two sides: `sink` writes it, the node returned reads it.
fn between<K: Payload, T: Payload>(
    graph: &mut Graph,
    name: &str,
    (parents, sink): (&[usize], impl FnOnce(&str) -> MakeNode),
    (key, value): (SerdeRef<K>, SerdeRef<T>),
) -> usize {
    graph.check_name(name);
    let topic = graph.repartition_topic(name);
    graph.add_repartition(&topic, None, true);
    let sink = sink(&topic);
    graph.sink(format!("{name}-sink"), &topic, parents, sink);
    let make = move || Box::new(TypedSource::new(key.clone(), value.clone(), None)) as Box<_>;
    graph.source(format!("{name}-source"), &topic, Arc::new(make), None)
}

/// Writes answers to the partition that asked.
fn answer_sink(topic: &str) -> MakeNode {
    let topic: Arc<str> = Arc::from(topic);
    Arc::new(move || {
        let topic = topic.clone();
        node(move |record: Rec<Bytes, Routed>, cx| {
            let Rec { key, value: (partition, answer), timestamp } = record;
            let (key, value, headers) = (Some(key), Some(answer), cx.core.context.headers.clone());
            let topic = topic.clone();
            cx.emit(Output { topic, partition: Some(partition), timestamp, key, value, headers });
            Ok(())
        })
    })
}

impl<K: Payload, V: Payload> KTable<K, V> {
    /// Rows whose foreign key is in the other table. Changes of either table update the result.
    pub fn join_foreign<KO: Payload, VO: Payload, R: Payload>(
        &self,
        other: &KTable<KO, VO>,
        foreign_key: impl Fn(&K, &V) -> Option<KO> + Send + Sync + 'static,
        join: impl Fn(&V, &VO) -> R + Send + Sync + 'static,
        joined: TableJoined<K, V, KO, VO, R>,
    ) -> KTable<K, R> {
        let join = move |value: &V, row: Option<&VO>| Some(join(value, row?));
        self.join_by(&other.settled(), Arc::new(foreign_key), Arc::new(join), false, joined)
    }

    /// All rows of this table, with the other's row of their foreign key where there is one.
    pub fn left_join_foreign<KO: Payload, VO: Payload, R: Payload>(
        &self,
        other: &KTable<KO, VO>,
        foreign_key: impl Fn(&K, &V) -> Option<KO> + Send + Sync + 'static,
        join: impl Fn(&V, Option<&VO>) -> R + Send + Sync + 'static,
        joined: TableJoined<K, V, KO, VO, R>,
    ) -> KTable<K, R> {
        let join = move |value: &V, row: Option<&VO>| Some(join(value, row));
        self.join_by(&other.settled(), Arc::new(foreign_key), Arc::new(join), true, joined)
    }

    fn join_by<KO: Payload, VO: Payload, R: Payload>(
        &self,
        other: &KTable<KO, VO>,
        select: ForeignKey<K, V, KO>,
        join: Join<V, VO, R>,
        outer: bool,
        joined: TableJoined<K, V, KO, VO, R>,
    ) -> KTable<K, R> {
        let this = self.settled();
        let mut guard = this.graph.borrow_mut();
        let graph: &mut Graph = &mut guard;
        let names = Names::new(graph, joined.name.as_deref());
        let name = names.registration.clone();
        let key = joined.key.or(this.key_serde.clone());
        let key = require(graph, key, &name, "key", "TableJoined::key_serde");
        let value = joined.value.or(this.value_serde.clone());
        let value = require(graph, value, &name, "value", "TableJoined::value_serde");
        let foreign = joined.foreign_key.or(other.key_serde.clone());
        let foreign = require(graph, foreign, &name, "foreign key", "TableJoined::foreign_key_serde");
        let other_value = joined.other_value.or(other.value_serde.clone());
        let other_value = require(graph, other_value, &name, "other value", "TableJoined::other_value_serde");

        let row = this.getter.clone();
        let store =
            this.stores.first().map_or_else(|| name.clone(), |&store| graph.stores[store].name.to_string());
        let left =
            Left { name, store, key: key.clone(), value, foreign: foreign.clone(), select, join, row, outer };
        let left = Arc::new(left);
        let asking = left.clone();
        let make: MakeNode = Arc::new(move || {
            let left = asking.clone();
            node(
                move |record: Rec<K, Change<V>>, cx| {
                    if cx.out_of_order() { Ok(()) } else { left.ask(record, cx) }
                },
            )
        });
        let ask_name = graph.generate("KTABLE-FK-JOIN-ASK");
        let ask = graph.operator(ask_name, "foreign-key join", &[this.node], make);
        let messages: SerdeRef<Subscription> = Arc::new(SubscriptionSerde);
        let sink = |topic: &str| sink_node(topic, foreign.clone(), messages.clone(), NullKeys::Skipped);
        let serdes = (foreign.clone(), messages.clone());
        let subscriptions = between(graph, &names.registration, (&[ask], sink), serdes);

        let answers = right_side(graph, &names, other, (foreign, other_value.clone()), subscriptions);
        let serdes: (_, SerdeRef<Answer<VO>>) = (key.clone(), Arc::new(AnswerSerde(other_value)));
        let responses = between(graph, &names.response, (&answers, answer_sink), serdes);
        let make: MakeNode = Arc::new(move || {
            let left = left.clone();
            node(move |record: Rec<K, Answer<VO>>, cx| left.settle(record, cx))
        });
        let settle_name = graph.generate("KTABLE-FK-JOIN-SETTLE");
        let settle = graph.operator(settle_name, "foreign-key join", &[responses], make);
        graph.connect(settle, &this.stores);
        let pass: MakeNode = Arc::new(|| node(|record: Rec<K, Change<R>>, cx| cx.forward(record)));
        let output_name = graph.generate("KTABLE-FK-JOIN-OUTPUT");
        let output = graph.operator(output_name, "merge", &[ask, settle], pass);
        copartition(graph, ask, &other.sources, &[subscriptions].into());
        let sources = copartition(graph, output, &this.sources, &[responses].into());
        drop(guard);
        KTable {
            graph: this.graph.clone(),
            node: output,
            sources,
            key_serde: Some(key),
            value_serde: joined.result,
            stores: Vec::new(),
            getter: Arc::new(|cx, _| panic!("node {} reads a join that is not kept", cx.name())),
            close_after_ms: None,
            history: None,
            unsettled: Some(Rc::new(OnceCell::new())),
        }
    }
}

/// The nodes that answer: to subscriptions, and to changes of the right table.
fn right_side<KO: Payload, VO: Payload>(
    graph: &mut Graph,
    names: &Names,
    other: &KTable<KO, VO>,
    (foreign, value): (SerdeRef<KO>, SerdeRef<VO>),
    subscriptions: usize,
) -> [usize; 2] {
    let options = Materialized::new();
    let store = key_value_store(graph, &names.store, &serdes::bytes(), &serdes::i64(), None, &options);
    let name = names.store.clone();
    let right = Arc::new(Right { name, foreign, value, row: other.getter.clone(), subscriptions: store });
    let changing = right.clone();
    let make: MakeNode = Arc::new(move || {
        let right = right.clone();
        node(move |record: Rec<KO, Subscription>, cx| right.subscription(record, cx))
    });
    let name = graph.generate("KTABLE-FK-JOIN-SUBSCRIPTION-PROCESSOR");
    let subscribe = graph.operator(name, "foreign-key join", &[subscriptions], make);
    graph.connect(subscribe, &[store]);
    graph.connect(subscribe, &other.stores);
    let make: MakeNode = Arc::new(move || {
        let right = changing.clone();
        node(
            move |record: Rec<KO, Change<VO>>, cx| {
                if cx.out_of_order() { Ok(()) } else { right.change(record, cx) }
            },
        )
    });
    let name = graph.generate("KTABLE-FK-JOIN-CHANGE");
    let change = graph.operator(name, "foreign-key join", &[other.node], make);
    graph.connect(change, &[store]);
    [subscribe, change]
}
