//! One producer: it knows what it sent, what was acknowledged, and what must be sent again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_wire::{BatchBuilder, Compression, ErrorCode, Producer};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::history::{Outcome, Place, ProducerKind, Shared};
use crate::kafka::{At, Connection, Failure, Identity, Outgoing};
use crate::record::{self, RecordId};

const BETWEEN_REFUSALS: Duration = Duration::from_millis(20);
/// How long an answer that asks for patience is met with patience.
const CONCURRENT_PATIENCE: Duration = Duration::from_secs(10);

/// A partition to write to.
#[derive(Debug, Clone)]
pub struct Target {
    pub place: Place,
    pub at: At,
    /// Records have one of so many keys.
    pub keys: u32,
}

/// How large batches are, and how many are on their way at a time.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub most_records: u32,
    pub most_padding: usize,
    pub pipeline: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { most_records: 8, most_padding: 400, pipeline: 4 }
    }
}

/// A batch that is not acknowledged.
#[derive(Debug, Clone)]
struct InFlight {
    outgoing: Outgoing,
    first: RecordId,
    count: u32,
    /// Sent when the harness had been refused before.
    after_refusal: bool,
}

pub struct Session {
    shared: Shared,
    producer: u32,
    kind: ProducerKind,
    targets: Vec<Target>,
    shape: Shape,
    rng: SmallRng,
    identity: Option<Identity>,
    sequences: HashMap<Place, i32>,
    unacknowledged: VecDeque<InFlight>,
    transaction: Option<usize>,
    /// How the last work ended, when it was not told to.
    pub ended_by: Option<Failure>,
}

impl Session {
    pub fn new(shared: Shared, kind: ProducerKind, targets: Vec<Target>, shape: Shape, seed: u64) -> Self {
        let producer = shared.lock().add_producer(kind);
        Self {
            shared,
            producer,
            kind,
            targets,
            shape,
            rng: SmallRng::seed_from_u64(seed),
            identity: None,
            sequences: HashMap::new(),
            unacknowledged: VecDeque::new(),
            transaction: None,
            ended_by: None,
        }
    }

    pub fn describe(&self) -> String {
        format!("producer {} ({:?})", self.producer, self.kind)
    }

    fn transactional_id(&self) -> Option<String> {
        (self.kind == ProducerKind::Transactional).then(|| format!("faults-{}", self.producer))
    }

    /// Works until told to stop, the connection is lost, or, unless `persistent`, a refusal.
    pub fn work(&mut self, address: &str, stop: &AtomicBool, persistent: bool, answer_within: Duration) {
        self.ended_by = None;
        while !stop.load(Ordering::Relaxed) {
            let failure = match self.shared.connect(address, answer_within) {
                Ok(mut connection) => self.work_on(&mut connection, stop, persistent),
                Err(failure) => Some(failure),
            };
            let Some(failure) = failure else { return };
            // Only who may repeat safely goes on after silence.
            let again = persistent && self.kind != ProducerKind::Plain;
            self.ended_by = Some(failure);
            if !again {
                return;
            }
            std::thread::sleep(BETWEEN_REFUSALS);
        }
    }

    fn work_on(
        &mut self,
        connection: &mut Connection,
        stop: &AtomicBool,
        persistent: bool,
    ) -> Option<Failure> {
        while !stop.load(Ordering::Relaxed) {
            match self.resume(connection).and_then(|()| self.step(connection)) {
                Ok(()) => {}
                Err(failure) if failure.is_lost() => return Some(failure),
                Err(failure) => {
                    self.shared.lock().note_refusal(&failure);
                    if !persistent {
                        return Some(failure);
                    }
                    std::thread::sleep(BETWEEN_REFUSALS);
                }
            }
        }
        None
    }

    /// Some batches, or one transaction.
    pub fn step(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        match self.kind {
            ProducerKind::Transactional => self.transact(connection),
            _ => {
                self.identify(connection)?;
                let batches = self.rng.random_range(1..=self.shape.pipeline);
                for _ in 0..batches {
                    let target = self.pick();
                    self.send(connection, &target, None)?;
                }
                self.receive(connection)
            }
        }
    }

    /// One record to the only partition; where it was put.
    pub fn probe(&mut self, connection: &mut Connection) -> Result<i64, Failure> {
        let target = self.pick();
        self.send(connection, &target, None)?;
        let count = self.unacknowledged.front().map_or(0, |batch| i64::from(batch.count));
        self.receive(connection)?;
        let history = self.shared.lock();
        let sent = &history.producers[self.producer as usize].sent;
        let last = sent.last().and_then(|sent| sent.acknowledged).unwrap_or(-1);
        Ok(last - count + 1)
    }

    fn pick(&mut self) -> Target {
        self.targets.choose(&mut self.rng).expect("a session has targets").clone()
    }

    fn identify(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        if self.kind == ProducerKind::Plain || self.identity.is_some() {
            return Ok(());
        }
        let id = self.transactional_id();
        let identity = patiently(|| connection.init_producer(id.as_deref()))?;
        self.identity = Some(identity);
        self.sequences.clear();
        self.settle_transaction();
        Ok(())
    }

    /// A new epoch has ended what the one before left open; a commit asked for may have come first.
    fn settle_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            let outcome = &mut self.shared.lock().transactions[transaction];
            if *outcome == Outcome::Open {
                *outcome = Outcome::Aborted;
            }
        }
    }

    /// Sends again, in order, what an idempotent producer has no answer to; a transaction is given up.
    pub fn resume(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        match self.kind {
            ProducerKind::Plain => self.unacknowledged.clear(),
            ProducerKind::Transactional => {
                self.unacknowledged.clear();
                if self.transaction.is_some() {
                    self.identity = None;
                }
                if self.identity.is_none() {
                    self.identify(connection)?;
                }
            }
            ProducerKind::Idempotent => {
                self.identify(connection)?;
                while let Some(batch) = self.unacknowledged.front().cloned() {
                    self.shared.lock().repeated += 1;
                    let stored = match connection.produce(&batch.outgoing) {
                        Ok(stored) => stored.base_offset,
                        Err(failure) if failure.code() == Some(ErrorCode::DuplicateSequenceNumber) => -1,
                        Err(failure) => return Err(failure),
                    };
                    self.acknowledged(&batch, stored);
                    self.unacknowledged.pop_front();
                }
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        transaction: Option<usize>,
    ) -> Result<(), Failure> {
        let count = self.rng.random_range(1..=self.shape.most_records);
        let keys: Vec<u32> = (0..count).map(|_| self.rng.random_range(0..target.keys)).collect();
        let (seed, first, after_refusal) = {
            let mut history = self.shared.lock();
            let sequence = history.next_sequence(self.producer);
            history.note_sent(self.producer, target.place, &keys, transaction);
            (history.seed, RecordId { producer: self.producer, sequence }, history.refused)
        };
        let batch = self.build(seed, first, &keys, target.place, transaction.is_some());
        let outgoing = Outgoing { at: target.at.clone(), batch, transactional_id: self.transactional_id() };
        self.unacknowledged.push_back(InFlight { outgoing, first, count, after_refusal });
        let outgoing = &self.unacknowledged[self.unacknowledged.len() - 1].outgoing;
        connection.send_batch(outgoing)
    }

    fn build(
        &mut self,
        seed: u64,
        first: RecordId,
        keys: &[u32],
        place: Place,
        transactional: bool,
    ) -> bytes::Bytes {
        let mut builder = BatchBuilder::new();
        for (id, key) in (first.sequence..).zip(keys) {
            let padding = self.rng.random_range(0..=self.shape.most_padding);
            let id = RecordId { producer: first.producer, sequence: id };
            let value = record::encode(seed, id, *key, padding);
            builder.push(now(), Some(&record::key(*key)), Some(&value), &[]);
        }
        let producer = self.identity.filter(|_| self.kind != ProducerKind::Plain).map(|identity| {
            let next = self.sequences.entry(place).or_default();
            let base_sequence = *next;
            *next += keys.len() as i32;
            Producer { id: identity.id, epoch: identity.epoch, base_sequence }
        });
        let codec = *[Compression::None, Compression::None, Compression::Lz4, Compression::Zstd]
            .choose(&mut self.rng)
            .expect("a codec");
        builder.build(codec, producer, transactional).expect("a small batch compresses")
    }

    /// Takes the answers of all that was sent; after a refusal the rest is taken too.
    fn receive(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let (mut kept, mut refusal) = (VecDeque::new(), None);
        while let Some(batch) = self.unacknowledged.pop_front() {
            match connection.receive_stored() {
                Ok(stored) => self.acknowledged(&batch, stored.base_offset),
                Err(failure) if failure.is_lost() => {
                    kept.push_back(batch);
                    kept.append(&mut self.unacknowledged);
                    self.unacknowledged = kept;
                    return Err(failure);
                }
                Err(failure) => {
                    kept.push_back(batch);
                    refusal.get_or_insert(failure);
                }
            }
        }
        self.unacknowledged = kept;
        refusal.map_or(Ok(()), Err)
    }

    fn acknowledged(&self, batch: &InFlight, base: i64) {
        let mut history = self.shared.lock();
        if batch.after_refusal {
            history.acknowledged_after_refusal += 1;
        }
        match base {
            // A duplicate whose place is no longer known is there, wherever.
            -1 => {}
            base => history.note_acknowledged(batch.first, batch.count, base),
        }
    }

    fn transact(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        self.identify(connection)?;
        let (Some(who), Some(id)) = (self.identity, self.transactional_id()) else { return Ok(()) };
        let transaction = {
            let mut history = self.shared.lock();
            history.transactions.push(Outcome::Open);
            history.transactions.len() - 1
        };
        self.transaction = Some(transaction);
        let wanted = self.rng.random_range(1..=3);
        let targets: Vec<Target> = self.targets.choose_multiple(&mut self.rng, wanted).cloned().collect();
        let parts: Vec<At> = targets.iter().map(|target| target.at.clone()).collect();
        patiently(|| connection.add_partitions(&id, who, &parts))?;
        for target in &targets {
            for _ in 0..self.rng.random_range(1..=2) {
                self.send(connection, target, Some(transaction))?;
            }
        }
        self.receive(connection)?;
        let commit = self.rng.random_range(0..5) > 0;
        if commit {
            self.shared.lock().transactions[transaction] = Outcome::CommitAsked;
        }
        patiently(|| connection.end_transaction(&id, who, commit))?;
        let outcome = if commit { Outcome::Committed } else { Outcome::Aborted };
        self.shared.lock().transactions[transaction] = outcome;
        self.transaction = None;
        Ok(())
    }
}

fn patiently<T>(mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(failure)
                if begun.elapsed() < CONCURRENT_PATIENCE
                    && matches!(
                        failure.code(),
                        Some(
                            ErrorCode::ConcurrentTransactions
                                | ErrorCode::CoordinatorLoadInProgress
                                | ErrorCode::CoordinatorNotAvailable
                        )
                    ) =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
