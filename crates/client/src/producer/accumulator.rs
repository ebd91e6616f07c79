//! Records on their way: open batches, full ones, and those to be sent again, by partition.
//!
//! Pure bookkeeping under the producer's one lock. Invariants: a partition's batches are sent in the
//! order of their numbers; a batch that must be repeated holds back every later one of its partition;
//! sequences are given when a batch is first taken, and never given twice under one identity.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use headwater_model::{StreamKind, TimestampMs};
use headwater_wire::batch::HEADER_LEN;
use headwater_wire::{BatchBuilder, ErrorCode};
use tokio::time::Instant;

use super::delivery::{Delivery, Outcome};
use super::queue::{Batch, Identity, Membership, Number, Open, Queue, Taken, Topic, Waiting, size_of};
use super::{ProducerConfig, RecordRef};
use crate::ClientError;
use crate::transaction::{Protocol, Transaction};

/// Kafka remembers the last five batches of a producer in each partition.
const IN_FLIGHT: usize = 5;
const SPARE_BUILDERS: usize = 16;

pub(crate) struct Accumulator {
    config: ProducerConfig,
    topics: HashMap<String, Topic, RandomState>,
    /// Bytes of all records that are not acknowledged.
    buffered: usize,
    /// Callers that wait in `flush`.
    pub(crate) flushing: usize,
    pub(crate) identity: Option<Identity>,
    /// Sequences have a gap: a new identity is needed before anything is sent.
    pub(crate) renew: bool,
    outstanding: BTreeMap<Number, Arc<Outcome>>,
    next_number: u64,
    in_flight: usize,
    pub(crate) first_failure: Option<ClientError>,
    /// What is in the way of anything that is to be sent, until something is acknowledged.
    pub(super) obstacle: Option<ClientError>,
    pub(crate) transaction: Transaction,
    /// All handles are gone.
    pub(crate) closed: bool,
    spare: Vec<BatchBuilder>,
}

/// What `push` did.
pub(super) enum Pushed {
    /// `wake`: the sender must look.
    Done {
        delivery: Delivery,
        wake: bool,
    },
    UnknownTopic,
    NoSpace,
}

/// What the sender takes in one round.
#[derive(Default)]
pub(super) struct Round {
    pub(super) taken: HashMap<String, Vec<Taken>>,
    pub(super) leaderless: Vec<String>,
    /// Of the transaction that they belong to, if they belong to one.
    pub(super) protocol: Protocol,
    /// When something becomes ready by itself.
    pub(super) next: Option<Instant>,
}

/// A record that the stream's kind does not take.
fn refused(record: RecordRef<'_>, now: TimestampMs, reason: &str) -> ClientError {
    let bytes = |part: Option<&[u8]>| part.map(bytes::Bytes::copy_from_slice);
    let refused = headwater_model::Record {
        timestamp: record.timestamp.unwrap_or(now),
        key: bytes(record.key),
        value: bytes(record.value),
        headers: record.headers.to_vec(),
        ..headwater_model::Record::default()
    };
    ClientError::RecordsRefused {
        topic: record.topic.to_owned(),
        partition: record.partition.unwrap_or(-1),
        code: ErrorCode::InvalidRecord,
        message: reason.to_owned(),
        records: std::iter::once(refused).collect(),
    }
}

impl Accumulator {
    pub(super) fn new(config: ProducerConfig, identity: Option<Identity>) -> Self {
        let transaction = Transaction::new(config.transactional_id.is_some());
        Self {
            config,
            topics: HashMap::default(),
            buffered: 0,
            flushing: 0,
            identity,
            renew: false,
            outstanding: BTreeMap::new(),
            next_number: 0,
            in_flight: 0,
            first_failure: None,
            obstacle: None,
            transaction,
            closed: false,
            spare: Vec::new(),
        }
    }

    pub(super) fn set_topic(&mut self, topic: &str, count: i32, kind: StreamKind) {
        let known = self.topics.entry(topic.to_owned()).or_insert_with(|| Topic::new(topic));
        known.kind = kind;
        known.grow(count);
    }

    /// Topics that are produced to.
    pub(super) fn topics(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    /// Topics may have more partitions by now.
    pub(super) fn grow(&mut self, count: impl Fn(&str) -> Option<i32>) {
        for topic in self.topics.values_mut() {
            let count = count(&topic.name);
            count.into_iter().for_each(|count| topic.grow(count));
        }
    }

    pub(super) fn push(&mut self, record: RecordRef<'_>, now: TimestampMs) -> Result<Pushed, ClientError> {
        self.transaction.check_send()?;
        let size = size_of(record);
        if HEADER_LEN + size > self.config.buffer_bytes {
            let (topic, limit) = (record.topic.to_owned(), self.config.buffer_bytes);
            return Err(ClientError::RecordTooLarge { topic, size, limit });
        }
        if self.buffered + size > self.config.buffer_bytes {
            return Ok(Pushed::NoSpace);
        }
        let Some(topic) = self.topics.get_mut(record.topic) else { return Ok(Pushed::UnknownTopic) };
        if let Some(reason) = topic.kind.refuses(record.key.is_some(), record.value.is_some()) {
            return Err(refused(record, now, reason));
        }
        let Some((index, mut wake)) = topic.choose(record, size, self.config.batch_bytes) else {
            return Ok(Pushed::UnknownTopic);
        };
        let (name, queue) = (&topic.name, &mut topic.partitions[index]);
        if self.transaction.is_open() && queue.membership == Membership::Outside {
            let asks = self.transaction.join(name, index as i32);
            queue.membership = if asks { Membership::Asked } else { Membership::Inside };
            wake |= asks;
        }
        let open = queue.open.get_or_insert_with(|| {
            wake = true;
            let open = Open {
                builder: self.spare.pop().unwrap_or_default(),
                number: (self.next_number, 0),
                outcome: Outcome::new(Arc::clone(name), index as i32),
                created: Instant::now(),
            };
            self.next_number += 1;
            self.outstanding.insert(open.number, Arc::clone(&open.outcome));
            open
        });
        let before = if open.builder.is_empty() { 0 } else { open.builder.size() };
        let delivery = Delivery::new(Arc::clone(&open.outcome), open.builder.count());
        let timestamp = record.timestamp.unwrap_or(now);
        open.builder.push(timestamp, record.key, record.value, record.headers);
        self.buffered += open.builder.size() - before;
        wake |= open.builder.size() >= self.config.batch_bytes;
        Ok(Pushed::Done { delivery, wake })
    }

    /// Takes at most one batch a partition; `admits` says whether a broker can take a request now.
    pub(super) fn take(
        &mut self,
        now: Instant,
        leader: impl Fn(&str, i32) -> Option<String>,
        mut admits: impl FnMut(&str) -> bool,
    ) -> Round {
        let mut round = Round { protocol: self.transaction.protocol, ..Round::default() };
        if self.renew || self.transaction.is_failed() {
            return round;
        }
        // Memory is tight: waiting longer would hold up `send` for nothing.
        let hurry = self.flushing > 0 || self.closed || self.buffered * 4 >= self.config.buffer_bytes * 3;
        let idempotent = self.identity.is_some();
        for Topic { name, partitions, sticky, .. } in self.topics.values_mut() {
            let count = partitions.len();
            for (index, queue) in partitions.iter_mut().enumerate() {
                let ready_at = queue.ready_at(hurry, now, &self.config);
                let Some(ready_at) = ready_at else { continue };
                if ready_at > now {
                    round.next = Some(round.next.map_or(ready_at, |next| next.min(ready_at)));
                    continue;
                }
                let ordered = if idempotent && queue.known { IN_FLIGHT } else { 1 };
                let held_back = !queue.again.is_empty() && !queue.flying.is_empty();
                let outside = self.transaction.is_transactional() && queue.membership != Membership::Inside;
                if held_back || outside || queue.flying.len() >= ordered {
                    continue;
                }
                let Some(address) = leader(name, index as i32) else {
                    round.leaderless.push(name.to_string());
                    // Records that may go anywhere need not wait for it.
                    if *sticky == index {
                        *sticky = (index + 1) % count;
                    }
                    continue;
                };
                if !admits(&address) {
                    continue;
                }
                if *sticky == index && queue.full.is_empty() && queue.again.is_empty() {
                    *sticky = (index + 1) % count;
                }
                if let Some(taken) = queue.take(name, index as i32, self.identity) {
                    self.in_flight += 1;
                    round.taken.entry(address).or_default().push(taken);
                }
            }
        }
        if self.transaction.is_transactional() && !round.taken.is_empty() {
            self.transaction.begins();
        }
        round
    }

    /// Why what is to be sent is not; `None` when nothing is.
    pub(super) fn in_the_way(&self) -> Option<&ClientError> {
        self.obstacle.as_ref().filter(|_| !self.outstanding.is_empty())
    }

    pub(super) fn recycle(&mut self, builder: BatchBuilder) {
        if self.spare.len() < SPARE_BUILDERS {
            self.spare.push(builder);
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn outstanding(&self) -> Vec<Arc<Outcome>> {
        self.outstanding.values().cloned().collect()
    }

    fn queue(&mut self, topic: &str, partition: i32) -> Option<&mut Queue> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    fn queue_of(&mut self, one: &Waiting) -> Option<&mut Queue> {
        let at = one.outcome.topic_partition();
        self.queue(&at.topic, at.partition)
    }

    /// The batch is no longer with a broker. Whether one before it of its partition is unresolved.
    pub(super) fn landed(&mut self, batch: &Batch) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(queue) = self.queue(&batch.topic, batch.partition) else { return false };
        queue.landed(batch.number)
    }

    pub(super) fn acknowledge(&mut self, batch: Batch, offset: i64) {
        if let Some(queue) = self.queue(&batch.topic, batch.partition) {
            queue.pause = None;
            queue.known = true;
            queue.refused = None;
        }
        self.obstacle = None;
        self.end(Waiting::from(batch), Ok(offset));
    }

    /// The broker takes no batch of this size: halves go in its place. A single record that is too large fails.
    pub(super) fn split(&mut self, batch: Batch, error: ClientError) {
        let parts = match batch.split(self.config.compression) {
            _ if self.transaction.is_failed() => return self.fail(batch, error),
            None => return self.fail(batch, error),
            Some(Err(error)) => return self.fail(batch, error),
            Some(Ok(parts)) => parts,
        };
        self.outstanding.remove(&batch.number);
        for part in parts {
            self.outstanding.insert(part.number, Arc::clone(&part.outcome));
            if let Some(queue) = self.queue(&part.topic, part.partition) {
                queue.put_back(part);
            }
        }
    }

    /// Sends the batch again after a pause, or fails it when its time is up.
    pub(super) fn repeat(&mut self, batch: Batch, error: ClientError) {
        let now = Instant::now();
        if self.transaction.is_failed() || now >= batch.created + self.config.delivery_timeout {
            return self.fail(batch, error);
        }
        let gap = self.queue(&batch.topic, batch.partition).is_some_and(|queue| queue.gap);
        if gap && error.is_retriable() {
            return self.fail(batch, error);
        }
        // What does not heal is about the producer's identity, and is on the way to being mended.
        if error.is_retriable() {
            self.obstacle = Some(error.clone());
        }
        if let Some(queue) = self.queue(&batch.topic, batch.partition) {
            if error.is_retriable() {
                queue.refused = Some(error);
            }
            queue.repeat(batch, now);
        }
    }

    /// Fails the batch for good; later ones of its partition would leave a gap in the sequences.
    pub(super) fn fail(&mut self, batch: Batch, error: ClientError) {
        let (unknown, stamped) = (error.is_retriable(), batch.stamp.is_some());
        let error = match unknown && batch.created.elapsed() >= self.config.delivery_timeout {
            true => ClientError::GaveUp {
                what: format!("produce to {}/{}", batch.topic, batch.partition),
                after: batch.created.elapsed(),
                last: Arc::new(error),
            },
            false => error,
        };
        let mut failed = vec![Waiting::from(batch)];
        if let Some(queue) = self.queue_of(&failed[0]).filter(|_| unknown && stamped) {
            // It may have been written, and those after it too: under a new identity they would be
            // written twice.
            queue.gap = true;
            failed.extend(queue.again.drain(..).map(Waiting::from));
        }
        failed.into_iter().for_each(|one| self.refuse(one, error.clone()));
        self.drop_waiting();
    }

    fn end(&mut self, one: Waiting, with: Result<i64, ClientError>) {
        self.buffered = self.buffered.saturating_sub(one.charged);
        self.outstanding.remove(&one.number);
        if let Err(error) = &with {
            self.first_failure.get_or_insert_with(|| error.clone());
        }
        one.outcome.end(with);
    }

    /// Fails what is not with a broker, once the transaction has failed.
    pub(crate) fn drop_waiting(&mut self) {
        let Some(error) = self.transaction.failure() else { return };
        self.transaction.joining.clear();
        let mut waiting = Vec::new();
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            queue.drain(&mut waiting);
        }
        for one in waiting {
            // Given a sequence, and perhaps written: only a new epoch makes this certain.
            self.transaction.renew |= one.stamped;
            self.end(one, Err(error.clone()));
        }
    }

    /// Fails batches that have waited longer than the delivery timeout without reaching a broker; whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let timeout = self.config.delivery_timeout;
        let Some(limit) = now.checked_sub(timeout) else { return false };
        let mut late = Vec::new();
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            queue.expire(limit, &mut late);
        }
        let any = !late.is_empty();
        for one in late {
            let at = one.outcome.topic_partition();
            let refused = self.queue_of(&one).and_then(|queue| queue.refused.clone());
            let last = refused.or_else(|| self.obstacle.clone()).unwrap_or_else(|| {
                let code = ErrorCode::RequestTimedOut.code();
                ClientError::kafka(format!("reach the leader of {at}"), code, None)
            });
            let (what, last) = (format!("produce to {at}"), Arc::new(last));
            self.refuse(one, ClientError::GaveUp { what, after: timeout, last });
        }
        self.drop_waiting();
        any
    }

    /// Fails one batch, and whatever its failure implies.
    fn refuse(&mut self, one: Waiting, error: ClientError) {
        if self.transaction.is_transactional() {
            self.transaction.fail(error.clone(), one.stamped);
        } else {
            self.renew |= one.stamped;
        }
        let error = self.transaction.failure().unwrap_or(error);
        self.end(one, Err(error));
    }

    /// Partitions are part of the open transaction.
    pub(super) fn joined(&mut self, partitions: &[(Arc<str>, i32)]) {
        for (topic, partition) in partitions {
            if let Some(queue) = self.queue(topic, *partition) {
                queue.membership = Membership::Inside;
            }
        }
    }

    /// No partition belongs to a transaction.
    pub(crate) fn leave_transaction(&mut self) {
        self.transaction.joining.clear();
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            queue.membership = Membership::Outside;
        }
    }

    /// Begins all sequences anew; batches that wait for repetition are stamped again, unless they may have been
    /// written: those have failed.
    pub(crate) fn renewed(&mut self, identity: Identity) {
        let before = self.identity.replace(identity);
        let same_id = before.is_some_and(|before| before.id == identity.id);
        self.renew = false;
        self.transaction.renewed();
        let queues = self.topics.values_mut().flat_map(|topic| &mut topic.partitions);
        let doubtful: Vec<Batch> = queues.flat_map(|queue| queue.renew(identity, same_id)).collect();
        for batch in doubtful {
            let (at, after) = (batch.outcome.topic_partition(), batch.created.elapsed());
            let code = headwater_wire::ErrorCode::UnknownProducerId.code();
            let last =
                Arc::new(ClientError::kafka(format!("learn what became of a batch for {at}"), code, None));
            let error = ClientError::GaveUp { what: format!("produce to {at}"), after, last };
            self.end(Waiting::from(batch), Err(error));
        }
    }
}
