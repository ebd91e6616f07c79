//! Records on their way: open batches, full ones, and those to be sent again, by partition.
//!
//! Pure bookkeeping under the producer's one lock. Invariants: a partition's batches are sent in the
//! order of their numbers; a batch that must be repeated holds back every later one of its partition;
//! sequences are given when a batch is first taken, and never given twice under one identity.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_model::{TimestampMs, partition};
use headwater_wire::batch::{self, HEADER_LEN};
use headwater_wire::{BatchBuilder, Producer as Stamp};
use tokio::time::Instant;

use super::delivery::{Delivery, Outcome};
use super::{ProduceRecord, ProducerConfig};
use crate::ClientError;
use crate::transaction::Transaction;

/// Kafka remembers the last five batches of a producer in each partition.
const IN_FLIGHT: usize = 5;
/// Upper bound of what a record adds beyond its key, value and headers.
const RECORD_OVERHEAD: usize = 40;
const HEADER_OVERHEAD: usize = 10;
const SPARE_BUILDERS: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Id and epoch, given by `InitProducerId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

pub(crate) struct Accumulator {
    config: ProducerConfig,
    topics: HashMap<String, Topic>,
    /// Bytes of all records that are not acknowledged.
    buffered: usize,
    /// Callers that wait in `flush`.
    pub(crate) flushing: usize,
    pub(crate) identity: Option<Identity>,
    /// Sequences have a gap: a new identity is needed before anything is sent.
    pub(crate) renew: bool,
    outstanding: BTreeMap<u64, Arc<Outcome>>,
    next_number: u64,
    in_flight: usize,
    pub(crate) first_failure: Option<ClientError>,
    pub(crate) transaction: Transaction,
    /// All handles are gone.
    pub(crate) closed: bool,
    spare: Vec<BatchBuilder>,
}

struct Topic {
    name: Arc<str>,
    partitions: Vec<Queue>,
    /// Where records without a key go until the batch there is closed.
    sticky: usize,
}

#[derive(Default)]
struct Queue {
    open: Option<Open>,
    full: VecDeque<Open>,
    again: VecDeque<Batch>,
    /// Numbers of the batches that are with a broker.
    flying: Vec<u64>,
    next_sequence: i32,
    pause: Option<(Instant, Duration)>,
    membership: Membership,
}

/// Whether the partition belongs to the open transaction.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Membership {
    #[default]
    Outside,
    Asked,
    Inside,
}

/// A batch that is being filled, or is full.
pub(super) struct Open {
    pub(super) builder: BatchBuilder,
    number: u64,
    outcome: Arc<Outcome>,
    created: Instant,
}

/// A batch as it is sent.
pub(super) struct Batch {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) bytes: Bytes,
    pub(super) stamp: Option<Stamp>,
    number: u64,
    count: i32,
    charged: usize,
    outcome: Arc<Outcome>,
    created: Instant,
}

/// A batch taken to be sent.
pub(super) enum Taken {
    /// To be encoded, outside of the lock.
    Fresh {
        topic: Arc<str>,
        partition: i32,
        open: Open,
        stamp: Option<Stamp>,
    },
    Again(Batch),
}

impl Taken {
    /// Encodes with `compression`; the builder comes back for reuse.
    pub(super) fn encode(
        self,
        compression: headwater_wire::Compression,
        transactional: bool,
    ) -> (Batch, Option<BatchBuilder>, Result<(), ClientError>) {
        let (topic, partition, mut open, stamp) = match self {
            Self::Again(batch) => return (batch, None, Ok(())),
            Self::Fresh { topic, partition, open, stamp } => (topic, partition, open, stamp),
        };
        let (count, charged) = (open.builder.count(), open.builder.size());
        let built = open.builder.build(compression, stamp, transactional);
        let (bytes, outcome) = match built {
            Ok(bytes) => (bytes, Ok(())),
            Err(error) => (Bytes::new(), Err(ClientError::Compression(Arc::new(error)))),
        };
        let Open { builder, number, outcome: ends, created } = open;
        let batch = Batch { topic, partition, bytes, stamp, number, count, charged, outcome: ends, created };
        (batch, Some(builder), outcome)
    }
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
    /// When something becomes ready by itself.
    pub(super) next: Option<Instant>,
}

impl Accumulator {
    pub(super) fn new(config: ProducerConfig, identity: Option<Identity>) -> Self {
        let transaction = Transaction::new(config.transactional_id.is_some());
        Self {
            config,
            topics: HashMap::new(),
            buffered: 0,
            flushing: 0,
            identity,
            renew: false,
            outstanding: BTreeMap::new(),
            next_number: 0,
            in_flight: 0,
            first_failure: None,
            transaction,
            closed: false,
            spare: Vec::new(),
        }
    }

    pub(super) fn set_partitions(&mut self, topic: &str, count: i32) {
        let known = self.topics.entry(topic.to_owned()).or_insert_with(|| Topic {
            name: Arc::from(topic),
            partitions: Vec::new(),
            sticky: 0,
        });
        let count = usize::try_from(count).unwrap_or(0).max(known.partitions.len());
        known.partitions.resize_with(count, Queue::default);
    }

    pub(super) fn push(&mut self, record: &ProduceRecord, now: TimestampMs) -> Result<Pushed, ClientError> {
        self.transaction.check_send()?;
        let size = size_of(record);
        if HEADER_LEN + size > self.config.buffer_bytes {
            let (topic, limit) = (record.topic.clone(), self.config.buffer_bytes);
            return Err(ClientError::RecordTooLarge { topic, size, limit });
        }
        if self.buffered + size > self.config.buffer_bytes {
            return Ok(Pushed::NoSpace);
        }
        let Some(topic) = self.topics.get_mut(record.topic.as_str()) else { return Ok(Pushed::UnknownTopic) };
        let Some(index) = topic.choose(record) else { return Ok(Pushed::UnknownTopic) };
        let name = &topic.name;
        let queue = &mut topic.partitions[index];
        let mut wake = false;
        if queue.open.as_ref().is_some_and(|open| open.builder.size() + size > self.config.batch_bytes) {
            queue.full.extend(queue.open.take());
            wake = true;
        }
        if self.transaction.is_open() && queue.membership == Membership::Outside {
            queue.membership = Membership::Asked;
            self.transaction.joining.push((Arc::clone(name), index as i32));
            wake = true;
        }
        let open = queue.open.get_or_insert_with(|| {
            wake = true;
            let outcome = Outcome::new(Arc::clone(name), index as i32);
            let number = self.next_number;
            self.next_number += 1;
            self.outstanding.insert(number, Arc::clone(&outcome));
            Open { builder: self.spare.pop().unwrap_or_default(), number, outcome, created: Instant::now() }
        });
        let before = if open.builder.is_empty() { 0 } else { open.builder.size() };
        let delivery = Delivery::new(Arc::clone(&open.outcome), open.builder.count());
        let timestamp = record.timestamp.unwrap_or(now);
        open.builder.push(timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
        self.buffered += open.builder.size() - before;
        if open.builder.size() >= self.config.batch_bytes {
            queue.full.extend(queue.open.take());
            wake = true;
        }
        if record.partition.is_none() && record.key.is_none() && queue.open.is_none() {
            topic.sticky = (index + 1) % topic.partitions.len();
        }
        Ok(Pushed::Done { delivery, wake })
    }

    /// Takes at most one batch a partition; `admits` says whether a broker can take a request now.
    pub(super) fn take(
        &mut self,
        now: Instant,
        leader: impl Fn(&str, i32) -> Option<String>,
        mut admits: impl FnMut(&str) -> bool,
    ) -> Round {
        let mut round = Round::default();
        if self.renew || self.transaction.is_failed() {
            return round;
        }
        // Memory is tight: waiting longer would hold up `send` for nothing.
        let hurry = self.flushing > 0 || self.closed || self.buffered * 4 >= self.config.buffer_bytes * 3;
        let ordered = if self.identity.is_some() { IN_FLIGHT } else { 1 };
        for Topic { name, partitions, sticky } in self.topics.values_mut() {
            let count = partitions.len();
            for (index, queue) in partitions.iter_mut().enumerate() {
                let ready_at = queue.ready_at(hurry, now, self.config.linger);
                let Some(ready_at) = ready_at else { continue };
                if ready_at > now {
                    round.next = Some(round.next.map_or(ready_at, |next| next.min(ready_at)));
                    continue;
                }
                let held_back = !queue.again.is_empty() && !queue.flying.is_empty();
                let outside = self.transaction.is_transactional() && queue.membership != Membership::Inside;
                if held_back || outside || queue.flying.len() >= ordered {
                    continue;
                }
                let Some(address) = leader(name, index as i32) else {
                    round.leaderless.push(name.to_string());
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
        round
    }
}

impl Accumulator {
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

    /// The batch is no longer with a broker. Whether one before it of its partition is unresolved.
    pub(super) fn landed(&mut self, batch: &Batch) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(queue) = self.queue(&batch.topic, batch.partition) else { return false };
        queue.flying.retain(|number| *number != batch.number);
        queue.flying.iter().any(|number| *number < batch.number)
            || queue.again.front().is_some_and(|first| first.number < batch.number)
    }

    pub(super) fn acknowledge(&mut self, batch: Batch, offset: i64) {
        if let Some(queue) = self.queue(&batch.topic, batch.partition) {
            queue.pause = None;
        }
        self.end(batch.number, batch.charged, &batch.outcome, Ok(offset));
    }

    /// Sends the batch again after a pause, or fails it when its time is up.
    pub(super) fn repeat(&mut self, batch: Batch, error: ClientError) {
        let now = Instant::now();
        if self.transaction.is_failed() || now >= batch.created + self.config.delivery_timeout {
            return self.fail(batch, error);
        }
        let Some(queue) = self.queue(&batch.topic, batch.partition) else { return };
        let pause = queue.pause.map_or(FIRST_PAUSE, |(until, pause)| match until > now {
            true => pause,
            false => (pause * 2).min(LONGEST_PAUSE),
        });
        queue.pause = Some((now + pause, pause));
        let place = queue.again.partition_point(|other| other.number < batch.number);
        queue.again.insert(place, batch);
    }

    /// Fails the batch for good; later ones of its partition would leave a gap in the sequences.
    pub(super) fn fail(&mut self, batch: Batch, error: ClientError) {
        let late = Instant::now() >= batch.created + self.config.delivery_timeout && error.is_retriable();
        let error = match late {
            true => ClientError::GaveUp {
                what: format!("produce to {}/{}", batch.topic, batch.partition),
                after: batch.created.elapsed(),
                last: Arc::new(error),
            },
            false => error,
        };
        if batch.stamp.is_some() && self.transaction.is_transactional() {
            self.transaction.fail(error.clone(), true);
        } else if batch.stamp.is_some() {
            self.renew = true;
        }
        let error = self.transaction.failure().unwrap_or(error);
        self.end(batch.number, batch.charged, &batch.outcome, Err(error));
        self.drop_waiting();
    }

    fn end(&mut self, number: u64, charged: usize, outcome: &Outcome, with: Result<i64, ClientError>) {
        self.buffered = self.buffered.saturating_sub(charged);
        self.outstanding.remove(&number);
        if let Err(error) = &with {
            self.first_failure.get_or_insert_with(|| error.clone());
        }
        outcome.end(with);
    }

    /// Fails what is not with a broker, once the transaction has failed.
    pub(crate) fn drop_waiting(&mut self) {
        let Some(error) = self.transaction.failure() else { return };
        let mut ended = Vec::new();
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            let waiting = queue.full.drain(..).chain(queue.open.take());
            ended.extend(waiting.map(|open| (open.number, open.builder.size(), open.outcome)));
            // Given a sequence, and perhaps written: only a new epoch makes this certain.
            self.transaction.renew |= !queue.again.is_empty();
            ended.extend(queue.again.drain(..).map(|batch| (batch.number, batch.charged, batch.outcome)));
        }
        for (number, charged, outcome) in ended {
            self.end(number, charged, &outcome, Err(error.clone()));
        }
    }

    /// Fails batches that have waited longer than the delivery timeout without reaching a broker.
    pub(super) fn expire(&mut self, now: Instant) {
        let timeout = self.config.delivery_timeout;
        let mut late = Vec::new();
        for (name, topic) in &mut self.topics {
            for (index, queue) in topic.partitions.iter_mut().enumerate() {
                while queue.again.front().is_some_and(|batch| now >= batch.created + timeout) {
                    late.extend(
                        queue.again.pop_front().map(|b| (b.number, b.charged, b.outcome, name, index, true)),
                    );
                }
                while queue.full.front().is_some_and(|open| now >= open.created + timeout) {
                    late.extend(
                        queue
                            .full
                            .pop_front()
                            .map(|o| (o.number, o.builder.size(), o.outcome, name, index, false)),
                    );
                }
                if queue.open.as_ref().is_some_and(|open| now >= open.created + timeout) {
                    late.extend(
                        queue
                            .open
                            .take()
                            .map(|o| (o.number, o.builder.size(), o.outcome, name, index, false)),
                    );
                }
            }
        }
        let late: Vec<_> = late
            .into_iter()
            .map(|(n, c, o, name, index, sent)| (n, c, o, format!("{name}/{index}"), sent))
            .collect();
        for (number, charged, outcome, at, sent) in late {
            let code = headwater_wire::ErrorCode::RequestTimedOut.code();
            let last = Arc::new(ClientError::kafka(format!("reach the leader of {at}"), code, None));
            let error = ClientError::GaveUp { what: format!("produce to {at}"), after: timeout, last };
            if self.transaction.is_transactional() {
                self.transaction.fail(error.clone(), sent);
            } else {
                self.renew |= sent && self.identity.is_some();
            }
            let error = self.transaction.failure().unwrap_or(error);
            self.end(number, charged, &outcome, Err(error));
        }
        self.drop_waiting();
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

    /// Begins all sequences anew; batches that wait for repetition are stamped again.
    pub(crate) fn renewed(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.renew = false;
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            queue.next_sequence = 0;
            for batch in &mut queue.again {
                let stamp = queue_stamp(identity, &mut queue.next_sequence, batch.count);
                let mut bytes = BytesMut::from(&batch.bytes[..]);
                batch::assign_producer(&mut bytes, stamp);
                (batch.bytes, batch.stamp) = (bytes.freeze(), Some(stamp));
            }
        }
    }
}

impl Topic {
    fn choose(&self, record: &ProduceRecord) -> Option<usize> {
        let count = self.partitions.len();
        let index = match (record.partition, &record.key) {
            (Some(partition), _) => usize::try_from(partition).ok()?,
            (None, Some(key)) => usize::try_from(partition::for_key(key, count as i32)).ok()?,
            (None, None) => self.sticky,
        };
        (index < count).then_some(index)
    }
}

impl Queue {
    /// When the first batch may be sent, if there is one.
    fn ready_at(&self, hurry: bool, now: Instant, linger: Duration) -> Option<Instant> {
        let at = if !self.again.is_empty() || !self.full.is_empty() {
            now
        } else {
            let open = self.open.as_ref()?;
            if hurry { now } else { open.created + linger }
        };
        Some(self.pause.map_or(at, |(until, _)| at.max(until)))
    }

    fn take(&mut self, topic: &Arc<str>, partition: i32, identity: Option<Identity>) -> Option<Taken> {
        if let Some(batch) = self.again.pop_front() {
            self.flying.push(batch.number);
            return Some(Taken::Again(batch));
        }
        let open = self.full.pop_front().or_else(|| self.open.take())?;
        self.flying.push(open.number);
        let stamp =
            identity.map(|identity| queue_stamp(identity, &mut self.next_sequence, open.builder.count()));
        Some(Taken::Fresh { topic: Arc::clone(topic), partition, open, stamp })
    }
}

/// The next stamp of a partition; sequences wrap to 0 after `i32::MAX`.
fn queue_stamp(identity: Identity, next: &mut i32, count: i32) -> Stamp {
    let base_sequence = *next;
    *next = next.wrapping_add(count) & i32::MAX;
    Stamp { id: identity.id, epoch: identity.epoch, base_sequence }
}

fn size_of(record: &ProduceRecord) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers.map(|h| h.key.len() + length(&h.value) + HEADER_OVERHEAD).sum();
    RECORD_OVERHEAD + length(&record.key) + length(&record.value) + headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero_after_the_greatest() {
        let identity = Identity { id: 1, epoch: 0 };
        let mut next = i32::MAX - 1;
        assert_eq!(queue_stamp(identity, &mut next, 2).base_sequence, i32::MAX - 1);
        assert_eq!(next, 0);
        next = i32::MAX;
        assert_eq!(queue_stamp(identity, &mut next, 3).base_sequence, i32::MAX);
        assert_eq!(next, 2);
    }
}
