//! Producer ids and transactions (KIP-98, 360, 447, 890).
//!
//! Owns who may write under a transactional id and which partitions and groups its open transaction has. There is no
//! prepare phase: the record of the outcome, the offsets that become final and the [`Effect::Markers`] of all partitions
//! are effects of one call, hence one log commit, which is atomic over all partitions.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::{TimestampMs, TopicPartition};

use crate::Effect;
use crate::context::Context;
use crate::error::Error;
use crate::records::{StateRecord, TopicPartitionId, TransactionRecord, TransactionState};
use crate::request::{EndTxn, InitProducerId, ListTransactions};
use crate::response::{DescribedTransaction, ProducerIdentity, TransactionListing};
use crate::topics::Topics;

/// How many producer ids one log commit reserves.
const BLOCK: i64 = 1000;
/// The last epoch a producer works with; the one above only fences it.
const LAST_EPOCH: i16 = i16::MAX - 1;

#[derive(Debug, Default)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, TransactionRecord>,
    /// Transactional ids by their current producer id.
    by_producer: BTreeMap<i64, String>,
    /// The next producer id to give out, and the first that is not reserved.
    next_producer_id: i64,
    reserved: i64,
}

impl TransactionState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }
}

impl TransactionRecord {
    fn identity(&self) -> ProducerIdentity {
        ProducerIdentity { producer_id: self.producer_id, producer_epoch: self.producer_epoch }
    }

    fn last_identity(&self) -> ProducerIdentity {
        ProducerIdentity { producer_id: self.last_producer_id, producer_epoch: self.last_producer_epoch }
    }

    fn ongoing(&self) -> bool {
        self.state == TransactionState::Ongoing
    }

    /// Whether the producer is the current one.
    fn check(&self, producer: ProducerIdentity) -> Result<(), Error> {
        match () {
            () if producer.producer_id != self.producer_id => Err(Error::InvalidProducerIdMapping),
            () if producer.producer_epoch != self.producer_epoch => Err(Error::ProducerFenced),
            () => Ok(()),
        }
    }

    fn begin(&mut self, now: TimestampMs) {
        if !self.ongoing() {
            self.state = TransactionState::Ongoing;
            self.started_ms = now;
        }
        self.updated_ms = now;
    }
}

/// Produce and TxnOffsetCommit name a fenced epoch differently from the transaction APIs.
pub(crate) fn as_data_error(error: Error) -> Error {
    if error == Error::ProducerFenced { Error::InvalidProducerEpoch } else { error }
}

impl Transactions {
    /// Replays a record. What is to begin later by a clock that was set back has begun now: it would keep readers waiting for
    /// as long.
    pub fn put(&mut self, mut record: TransactionRecord, now: TimestampMs) {
        record.started_ms = record.started_ms.min(now);
        self.reserve(record.producer_id.saturating_add(1));
        self.insert(record);
    }

    fn insert(&mut self, record: TransactionRecord) {
        let id = record.transactional_id.clone();
        self.by_producer.insert(record.producer_id, id.clone());
        let producer_id = record.producer_id;
        if let Some(before) = self.by_id.insert(id, record)
            && before.producer_id != producer_id
        {
            self.by_producer.remove(&before.producer_id);
        }
    }

    /// Replays a reservation: none of these ids will be given out.
    pub fn reserve(&mut self, reserved: i64) {
        self.reserved = self.reserved.max(reserved);
        self.next_producer_id = self.next_producer_id.max(reserved);
    }

    pub fn remove(&mut self, transactional_id: &str) {
        if let Some(record) = self.by_id.remove(transactional_id) {
            self.by_producer.remove(&record.producer_id);
        }
    }

    pub fn forget_topic(&mut self, topic: &crate::TopicId) {
        for record in self.by_id.values_mut() {
            record.partitions.retain(|(id, _)| id != topic);
        }
    }

    pub fn get(&self, transactional_id: &str) -> Option<&TransactionRecord> {
        self.by_id.get(transactional_id)
    }

    fn new_producer_id(&mut self, cx: &mut Context) -> i64 {
        let id = self.next_producer_id;
        if id >= self.reserved {
            self.reserved = id.saturating_add(BLOCK);
            cx.append(StateRecord::ProducerIds { reserved: self.reserved });
        }
        self.next_producer_id = id.saturating_add(1);
        id
    }

    fn store(&mut self, cx: &mut Context, mut record: TransactionRecord) {
        record.updated_ms = cx.now;
        self.insert(record.clone());
        cx.append(StateRecord::Transaction(record));
    }

    pub fn init(&mut self, cx: &mut Context, request: InitProducerId) -> Result<ProducerIdentity, Error> {
        let Some(id) = request.transactional_id else {
            return Ok(ProducerIdentity { producer_id: self.new_producer_id(cx), producer_epoch: 0 });
        };
        if id.is_empty() {
            return Err(Error::InvalidRequest);
        }
        if !(1..=cx.settings.max_transaction_timeout_ms).contains(&request.transaction_timeout_ms) {
            return Err(Error::InvalidTransactionTimeout);
        }
        let known =
            ProducerIdentity { producer_id: request.producer_id, producer_epoch: request.producer_epoch };
        let Some(current) = self.by_id.get(&id).cloned() else {
            let record = TransactionRecord {
                transactional_id: id,
                producer_id: self.new_producer_id(cx),
                producer_epoch: 0,
                last_producer_id: -1,
                last_producer_epoch: -1,
                timeout_ms: request.transaction_timeout_ms,
                state: TransactionState::Empty,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
                started_ms: -1,
                updated_ms: cx.now,
            };
            let identity = record.identity();
            self.store(cx, record);
            return Ok(identity);
        };
        let bumps_itself = known.producer_id >= 0;
        if bumps_itself && known != current.identity() {
            // The answer to an earlier bump got lost, unless the producer has moved on since.
            let retry = known == current.last_identity() && current.state == TransactionState::Empty;
            return if retry { Ok(current.identity()) } else { Err(Error::ProducerFenced) };
        }
        let ended = match current.ongoing() {
            true => self.abort_and_fence(cx, current.clone()),
            false => TransactionRecord {
                producer_epoch: current.producer_epoch.saturating_add(1),
                ..current.clone()
            },
        };
        let mut next = TransactionRecord { state: TransactionState::Empty, ..ended };
        if next.producer_epoch > LAST_EPOCH {
            next.producer_id = self.new_producer_id(cx);
            next.producer_epoch = 0;
        }
        let last =
            if bumps_itself { known } else { ProducerIdentity { producer_id: -1, producer_epoch: -1 } };
        (next.last_producer_id, next.last_producer_epoch) = (last.producer_id, last.producer_epoch);
        next.timeout_ms = request.transaction_timeout_ms;
        let identity = next.identity();
        self.store(cx, next);
        Ok(identity)
    }

    /// Aborts an open transaction under an epoch that its producer does not have.
    fn abort_and_fence(&mut self, cx: &mut Context, current: TransactionRecord) -> TransactionRecord {
        let fenced = TransactionRecord {
            producer_epoch: current.producer_epoch.saturating_add(1),
            last_producer_id: -1,
            last_producer_epoch: -1,
            ..current
        };
        let marker = fenced.identity();
        self.finish(cx, fenced, marker, false)
    }

    /// Records the outcome and asks for the markers; `record` carries the identity to go on with.
    fn finish(
        &mut self,
        cx: &mut Context,
        mut record: TransactionRecord,
        marker: ProducerIdentity,
        commit: bool,
    ) -> TransactionRecord {
        let partitions: Vec<_> = std::mem::take(&mut record.partitions).into_iter().collect();
        record.groups.clear();
        record.started_ms = -1;
        record.state =
            if commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort };
        self.store(cx, record.clone());
        if !partitions.is_empty() {
            let ProducerIdentity { producer_id, producer_epoch } = marker;
            cx.effects.push(Effect::Markers { partitions, producer_id, producer_epoch, commit });
        }
        record
    }

    fn current(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
    ) -> Result<&TransactionRecord, Error> {
        if transactional_id.is_empty() {
            return Err(Error::InvalidRequest);
        }
        let record = self.by_id.get(transactional_id).ok_or(Error::InvalidProducerIdMapping)?;
        record.check(producer)?;
        Ok(record)
    }

    /// Whether the partition is in the producer's open transaction.
    pub fn verify(
        &self,
        id: &str,
        producer: ProducerIdentity,
        partition: TopicPartitionId,
    ) -> Result<(), Error> {
        let record = self.current(id, producer)?;
        let inside = record.ongoing() && record.partitions.contains(&partition);
        if inside { Ok(()) } else { Err(Error::InvalidTxnState) }
    }

    /// Whether the group's offsets are in the producer's open transaction.
    pub fn verify_group(&self, id: &str, producer: ProducerIdentity, group: &str) -> Result<(), Error> {
        let record = self.current(id, producer)?;
        let inside = record.ongoing() && record.groups.contains(group);
        if inside { Ok(()) } else { Err(Error::InvalidTxnState) }
    }

    /// Adds to the transaction, beginning it when none is open; appends nothing when all is there.
    pub fn add(
        &mut self,
        cx: &mut Context,
        id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartitionId],
        group: Option<&str>,
    ) -> Result<(), Error> {
        let record = self.current(id, producer)?;
        let known = partitions.iter().all(|partition| record.partitions.contains(partition))
            && group.is_none_or(|group| record.groups.contains(group));
        if record.ongoing() && known {
            return Ok(());
        }
        let mut record = record.clone();
        record.begin(cx.now);
        record.partitions.extend(partitions);
        record.groups.extend(group.map(str::to_owned));
        self.store(cx, record);
        Ok(())
    }

    pub fn end(&mut self, cx: &mut Context, request: &EndTxn) -> Result<ProducerIdentity, Error> {
        let producer =
            ProducerIdentity { producer_id: request.producer_id, producer_epoch: request.producer_epoch };
        if request.transactional_id.is_empty() {
            return Err(Error::InvalidRequest);
        }
        let current =
            self.by_id.get(&request.transactional_id).ok_or(Error::InvalidProducerIdMapping)?.clone();
        let outcome = match request.commit {
            true => TransactionState::CompleteCommit,
            false => TransactionState::CompleteAbort,
        };
        if request.bump_epoch && producer.producer_id >= 0 && producer == current.last_identity() {
            return match current.state {
                state if state == outcome => Ok(current.identity()),
                TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
                    Err(Error::InvalidTxnState)
                }
                _ => Err(Error::ProducerFenced),
            };
        }
        current.check(producer)?;
        match (current.state, request.bump_epoch) {
            (TransactionState::Ongoing, false) => {
                Ok(self.finish(cx, current, producer, request.commit).identity())
            }
            (state, false) if state == outcome => Ok(current.identity()),
            (TransactionState::Ongoing, true) => Ok(self.end_and_bump(cx, current, request.commit)),
            // A producer that wrote nothing may abort, to be sure that none of its delayed requests counts.
            (_, true) if !request.commit => Ok(self.end_and_bump(cx, current, false)),
            _ => Err(Error::InvalidTxnState),
        }
    }

    fn end_and_bump(
        &mut self,
        cx: &mut Context,
        current: TransactionRecord,
        commit: bool,
    ) -> ProducerIdentity {
        let marker_epoch = current.producer_epoch.saturating_add(1);
        let (producer_id, producer_epoch) = match marker_epoch > LAST_EPOCH {
            true => (self.new_producer_id(cx), 0),
            false => (current.producer_id, marker_epoch),
        };
        let next = TransactionRecord {
            producer_id,
            producer_epoch,
            last_producer_id: current.producer_id,
            last_producer_epoch: current.producer_epoch,
            ..current
        };
        let marker = ProducerIdentity { producer_id: next.last_producer_id, producer_epoch: marker_epoch };
        self.finish(cx, next, marker, commit).identity()
    }

    /// When the transaction times out, or its id is forgotten.
    pub fn deadline(&self, cx: &Context, id: &str) -> Option<TimestampMs> {
        let record = self.by_id.get(id)?;
        match record.ongoing() {
            true => Some(record.started_ms.saturating_add(record.timeout_ms.into())),
            false => Some(record.updated_ms.saturating_add(cx.settings.transactional_id_expiration_ms?)),
        }
    }

    /// Aborts a transaction that is over its time; forgets an id that was idle for too long.
    pub fn expire(&mut self, cx: &mut Context, id: &str) {
        if self.deadline(cx, id).is_none_or(|deadline| deadline > cx.now) {
            return;
        }
        match self.by_id.get(id).cloned() {
            Some(record) if record.ongoing() => drop(self.abort_and_fence(cx, record)),
            _ => {
                self.remove(id);
                cx.append(StateRecord::TransactionDeleted { transactional_id: id.to_owned() });
            }
        }
    }

    /// An idempotent producer must not use the id of a transactional one.
    pub fn check_idempotent(&self, producer_id: i64) -> Result<(), Error> {
        let owner = self.by_producer.get(&producer_id).and_then(|id| self.by_id.get(id));
        let taken = owner.is_some_and(TransactionRecord::ongoing);
        if taken { Err(Error::InvalidTxnState) } else { Ok(()) }
    }

    pub fn describe(&self, topics: &Topics, ids: Vec<String>) -> Vec<DescribedTransaction> {
        let names = |record: &TransactionRecord| {
            let name = |&(id, partition): &TopicPartitionId| {
                topics.by_id(&id).map(|topic| TopicPartition::new(topic.name.clone(), partition))
            };
            record.partitions.iter().filter_map(name).collect()
        };
        ids.into_iter()
            .map(|transactional_id| match self.by_id.get(&transactional_id) {
                Some(record) => DescribedTransaction {
                    error: None,
                    state: record.state.name(),
                    timeout_ms: record.timeout_ms,
                    started_ms: record.started_ms,
                    producer: record.identity(),
                    partitions: names(record),
                    transactional_id,
                },
                None => DescribedTransaction {
                    error: Some(Error::TransactionalIdNotFound),
                    state: TransactionState::Empty.name(),
                    timeout_ms: 0,
                    started_ms: -1,
                    producer: ProducerIdentity { producer_id: -1, producer_epoch: -1 },
                    partitions: Vec::new(),
                    transactional_id,
                },
            })
            .collect()
    }

    pub fn list(&self, now: TimestampMs, filter: &ListTransactions) -> Vec<TransactionListing> {
        // There may be as many as a request has room for.
        let producers: BTreeSet<i64> = filter.producer_ids.iter().copied().collect();
        let shown = |record: &&TransactionRecord| {
            let age = if record.ongoing() { now.saturating_sub(record.started_ms) } else { -1 };
            (filter.states.is_empty() || filter.states.iter().any(|state| state == record.state.name()))
                && (producers.is_empty() || producers.contains(&record.producer_id))
                && (filter.longer_than_ms < 0 || age > filter.longer_than_ms)
        };
        let listing = |record: &TransactionRecord| TransactionListing {
            transactional_id: record.transactional_id.clone(),
            producer_id: record.producer_id,
            state: record.state.name(),
        };
        self.by_id.values().filter(shown).map(listing).collect()
    }

    pub fn snapshot(&self) -> impl Iterator<Item = StateRecord> {
        let reserved = StateRecord::ProducerIds { reserved: self.reserved };
        std::iter::once(reserved).chain(self.by_id.values().cloned().map(StateRecord::Transaction))
    }
}
