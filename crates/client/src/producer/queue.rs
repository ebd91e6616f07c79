//! One partition's batches on their way, and where a topic's records go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_model::{Record, StreamKind, partition};
use headwater_wire::batch;
use headwater_wire::{BatchBuilder, BatchHeader, ErrorCode, Producer as Stamp};
use tokio::time::Instant;

use super::delivery::Outcome;
use super::{ProducerConfig, RecordRef};
use crate::ClientError;
use crate::planted::{self, Bug};

/// Upper bound of what a record adds beyond its key, value and headers.
const RECORD_OVERHEAD: usize = 40;
const HEADER_OVERHEAD: usize = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The order of a partition's batches: the batch's own number, and, where it was split, the index of the first
/// record it has of the batch it was.
pub(super) type Number = (u64, i32);

/// Id and epoch, given by `InitProducerId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Queue>,
    /// Where records without a key go until the batch there is closed.
    pub(super) sticky: usize,
    /// What its records are held to.
    pub(super) kind: StreamKind,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) open: Option<Open>,
    pub(super) full: VecDeque<Open>,
    /// To be sent again, by number.
    pub(super) again: VecDeque<Batch>,
    /// Numbers of the batches that are with a broker.
    pub(super) flying: Vec<Number>,
    next_sequence: i32,
    /// Why the leader has not taken a batch lately.
    pub(super) refused: Option<ClientError>,
    /// Until when nothing is sent, and how long that was.
    pub(super) pause: Option<(Instant, Duration)>,
    pub(super) membership: Membership,
    /// The leader has acknowledged a batch of this producer id: it knows the sequence, and refuses what comes too early.
    /// Kafka takes any sequence of a producer it does not know, so that a second batch would be written although
    /// the first was refused.
    pub(super) known: bool,
    /// A batch was given up whose fate is unknown: none that was sent may be stamped anew.
    pub(super) gap: bool,
}

/// Whether the partition belongs to the open transaction.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Membership {
    #[default]
    Outside,
    Asked,
    Inside,
}

/// A batch that is being filled, or is full.
pub(super) struct Open {
    pub(super) builder: BatchBuilder,
    pub(super) number: Number,
    pub(super) outcome: Arc<Outcome>,
    pub(super) created: Instant,
}

/// A batch as it is sent.
pub(super) struct Batch {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) bytes: Bytes,
    pub(super) stamp: Option<Stamp>,
    pub(super) number: Number,
    pub(super) count: i32,
    pub(super) charged: usize,
    pub(super) outcome: Arc<Outcome>,
    pub(super) created: Instant,
    /// An answer to it was lost: it may have been written.
    pub(super) doubtful: bool,
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
        let batch = Batch {
            topic,
            partition,
            bytes,
            stamp,
            number,
            count,
            charged,
            outcome: ends,
            created,
            doubtful: false,
        };
        (batch, Some(builder), outcome)
    }
}

impl Batch {
    /// The broker's refusal, with the records that it is about. It need not say which where there is but one.
    pub(super) fn refused(&self, code: ErrorCode, error: ClientError, wrong: Vec<i32>) -> ClientError {
        let ClientError::Kafka { message, .. } = error else { return error };
        let read = BatchHeader::read(&self.bytes).and_then(|header| batch::decode(&header, &self.bytes));
        let is_wrong = |place: usize| self.count == 1 || wrong.contains(&(place as i32));
        // What was built here can be read here.
        let records = read.unwrap_or_default().into_iter().enumerate();
        ClientError::RecordsRefused {
            topic: self.topic.to_string(),
            partition: self.partition,
            code,
            message,
            records: records.filter(|(place, _)| is_wrong(*place)).map(|(_, record)| record).collect(),
        }
    }

    /// Two batches of half the records each, with the same sequences; `None` when there is but one record.
    pub(super) fn split(
        &self,
        compression: headwater_wire::Compression,
    ) -> Option<Result<[Self; 2], ClientError>> {
        (self.count > 1).then(|| self.halves(compression))
    }

    fn halves(&self, compression: headwater_wire::Compression) -> Result<[Self; 2], ClientError> {
        let unreadable = |error| ClientError::Batch(Arc::new(error));
        let header = BatchHeader::read(&self.bytes).map_err(unreadable)?;
        let records = batch::decode(&header, &self.bytes).map_err(unreadable)?;
        let middle = records.len() / 2;
        let encode = |records: &[Record], first: usize| {
            let mut builder = BatchBuilder::new();
            for record in records {
                builder.push(
                    record.timestamp,
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &record.headers,
                );
            }
            let stamp = self.stamp.map(|stamp| Stamp {
                base_sequence: stamp.base_sequence.wrapping_add(first as i32) & i32::MAX,
                ..stamp
            });
            let bytes = builder.build(compression, stamp, header.is_transactional());
            bytes.map(|bytes| (bytes, stamp)).map_err(|error| ClientError::Compression(Arc::new(error)))
        };
        let encoded = [encode(&records[..middle], 0)?, encode(&records[middle..], middle)?];
        let [(one, first), (other, second)] = encoded;
        let ends = self.outcome.split(middle as i32);
        let part = |(bytes, stamp), outcome: &Arc<Outcome>, from: usize, to: usize, charged| Self {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            bytes,
            stamp,
            number: (self.number.0, self.number.1 + from as i32),
            count: (to - from) as i32,
            charged,
            outcome: Arc::clone(outcome),
            created: self.created,
            doubtful: self.doubtful,
        };
        let charged = self.charged / 2;
        Ok([
            part((one, first), &ends[0], 0, middle, charged),
            part((other, second), &ends[1], middle, records.len(), self.charged - charged),
        ])
    }
}

/// A batch as far as its end is concerned.
pub(super) struct Waiting {
    pub(super) number: Number,
    pub(super) charged: usize,
    pub(super) outcome: Arc<Outcome>,
    /// It was given a sequence.
    pub(super) stamped: bool,
}

impl From<Open> for Waiting {
    fn from(open: Open) -> Self {
        let charged = open.builder.size();
        Self { number: open.number, charged, outcome: open.outcome, stamped: false }
    }
}

impl From<Batch> for Waiting {
    fn from(batch: Batch) -> Self {
        let Batch { number, charged, outcome, .. } = batch;
        Self { number, charged, outcome, stamped: batch.stamp.is_some() }
    }
}

impl Topic {
    pub(super) fn new(name: &str) -> Self {
        Self { name: Arc::from(name), partitions: Vec::new(), sticky: 0, kind: StreamKind::Unspecified }
    }

    /// It has so many partitions, or none fewer than were known: what waits in them would be lost.
    pub(super) fn grow(&mut self, count: i32) {
        let count = usize::try_from(count).unwrap_or(0).max(self.partitions.len());
        self.partitions.resize_with(count, Queue::default);
    }

    /// The partition of a record, with a batch that has room for it; and whether one was closed for that.
    pub(super) fn choose(
        &mut self,
        record: RecordRef<'_>,
        size: usize,
        batch_bytes: usize,
    ) -> Option<(usize, bool)> {
        let count = self.partitions.len();
        let index = match (record.partition, record.key) {
            (Some(partition), _) => usize::try_from(partition).ok()?,
            (None, Some(key)) => usize::try_from(partition::for_key(key, count as i32)).ok()?,
            (None, None) => {
                let closed = self.partitions.get_mut(self.sticky)?.close_if_full(size, batch_bytes);
                if closed {
                    self.sticky = (self.sticky + 1) % count;
                }
                let again = self.partitions.get_mut(self.sticky)?.close_if_full(size, batch_bytes);
                return Some((self.sticky, closed || again));
            }
        };
        let closed = self.partitions.get_mut(index)?.close_if_full(size, batch_bytes);
        Some((index, closed))
    }
}

impl Queue {
    /// Closes the open batch when it has no room for `size` more bytes.
    fn close_if_full(&mut self, size: usize, batch_bytes: usize) -> bool {
        let full = self.open.as_ref().is_some_and(|open| open.builder.size() + size > batch_bytes);
        if full {
            self.full.extend(self.open.take());
        }
        full
    }

    /// When the first batch may be sent, if there is one.
    pub(super) fn ready_at(&self, hurry: bool, now: Instant, config: &ProducerConfig) -> Option<Instant> {
        let at = if !self.again.is_empty() || !self.full.is_empty() {
            now
        } else {
            let open = self.open.as_ref()?;
            let full = open.builder.size() >= config.batch_bytes;
            if hurry || full { now } else { open.created + config.linger }
        };
        Some(self.pause.map_or(at, |(until, _)| at.max(until)))
    }

    pub(super) fn take(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        identity: Option<Identity>,
    ) -> Option<Taken> {
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

    /// Whether a batch before this one is unresolved.
    pub(super) fn landed(&mut self, number: Number) -> bool {
        self.flying.retain(|other| *other != number);
        self.flying.iter().any(|other| *other < number)
            || self.again.front().is_some_and(|first| first.number < number)
    }

    /// Puts the batch in its place among those to be sent again, after a pause that grows.
    pub(super) fn repeat(&mut self, mut batch: Batch, now: Instant) {
        if let Some(stamp) = batch.stamp.filter(|_| planted::is(Bug::ResetSequence)) {
            let identity = Identity { id: stamp.id, epoch: stamp.epoch };
            self.stamp_again(&mut batch, identity);
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |(until, pause)| match until > now {
            true => pause,
            false => (pause * 2).min(LONGEST_PAUSE),
        });
        self.pause = Some((now + pause, pause));
        self.put_back(batch);
    }

    /// Puts the batch in its place among those to be sent again.
    pub(super) fn put_back(&mut self, batch: Batch) {
        let place = self.again.partition_point(|other| other.number < batch.number);
        self.again.insert(place, batch);
    }

    /// Takes out whatever is not with a broker.
    pub(super) fn drain(&mut self, into: &mut Vec<Waiting>) {
        into.extend(self.again.drain(..).map(Waiting::from));
        into.extend(self.full.drain(..).chain(self.open.take()).map(Waiting::from));
    }

    /// Takes out what was created before `limit`; with a batch that was sent go all that were sent after
    /// it, since they may have been written.
    pub(super) fn expire(&mut self, limit: Instant, into: &mut Vec<Waiting>) {
        if self.again.front().is_some_and(|batch| batch.created <= limit) {
            self.gap = self.again.iter().any(|batch| batch.stamp.is_some());
            into.extend(self.again.drain(..).map(Waiting::from));
        }
        while let Some(open) = self.full.pop_front_if(|open| open.created <= limit) {
            into.push(Waiting::from(open));
        }
        if self.full.is_empty() && self.open.as_ref().is_some_and(|open| open.created <= limit) {
            into.extend(self.open.take().map(Waiting::from));
        }
    }

    /// Begins the sequence anew; batches that were refused are stamped again. Those that may have been written are
    /// returned: under a new identity they would be written twice.
    pub(super) fn renew(&mut self, identity: Identity, same_id: bool) -> Vec<Batch> {
        if !planted::is(Bug::KeepSequences) {
            self.next_sequence = 0;
        }
        self.gap = false;
        // A leader that knows the id takes nothing but the first sequence of another epoch.
        self.known &= same_id;
        let (doubtful, refused): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.again).into_iter().partition(|batch| batch.doubtful);
        self.again = refused;
        let mut again = std::mem::take(&mut self.again);
        again.iter_mut().for_each(|batch| self.stamp_again(batch, identity));
        self.again = again;
        doubtful.into()
    }

    fn stamp_again(&mut self, batch: &mut Batch, identity: Identity) {
        let stamp = queue_stamp(identity, &mut self.next_sequence, batch.count);
        let mut bytes = BytesMut::from(&batch.bytes[..]);
        batch::assign_producer(&mut bytes, stamp);
        (batch.bytes, batch.stamp) = (bytes.freeze(), Some(stamp));
    }
}

/// The next stamp of a partition; sequences wrap to 0 after `i32::MAX`.
fn queue_stamp(identity: Identity, next: &mut i32, count: i32) -> Stamp {
    let base_sequence = *next;
    *next = next.wrapping_add(count) & i32::MAX;
    Stamp { id: identity.id, epoch: identity.epoch, base_sequence }
}

pub(super) fn size_of(record: RecordRef<'_>) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.iter();
    let headers: usize = headers.map(|h| h.key.len() + length(h.value.as_deref()) + HEADER_OVERHEAD).sum();
    RECORD_OVERHEAD + length(record.key) + length(record.value) + headers
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
