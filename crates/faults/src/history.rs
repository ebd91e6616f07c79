//! What the harness did and what it was told: the only witness of a run.
//!
//! A request is noted before its first byte is sent, an answer after its last byte has arrived. So what
//! is noted as acknowledged was acknowledged, and what is not noted as sent was never sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kafka::{Connection, Failure, Isolation, Power};
use crate::record::RecordId;

/// A topic: an index into [`History::topics`], so a name that is used again is another topic.
pub type TopicIndex = usize;
/// A partition of one.
pub type Place = (TopicIndex, i32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerKind {
    Plain,
    Idempotent,
    Transactional,
}

/// How far an operation that changes something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    NotAsked,
    Asked,
    Acknowledged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody has asked for its end.
    Open,
    CommitAsked,
    Committed,
    Aborted,
}

#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
    /// Older records of a key may be gone.
    pub compacted: bool,
    /// Records may go from its beginning at any time.
    pub retained: bool,
    pub created: Progress,
    pub deleted: Progress,
    /// Values of `max.message.bytes` in the order they were asked for, and how many are acknowledged.
    pub configs: Vec<String>,
    pub configs_acknowledged: usize,
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub place: Place,
    pub key: u32,
    pub transaction: Option<usize>,
    pub acknowledged: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct ProducerRecords {
    pub kind: ProducerKind,
    pub sent: Vec<Sent>,
}

/// Asked-for and acknowledged value of something that only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growing {
    pub asked: i64,
    pub acknowledged: i64,
}

/// What a consumer was given of a partition, from `from` up to `next`, by offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    pub from: i64,
    pub next: i64,
    pub records: BTreeMap<i64, RecordId>,
}

#[derive(Debug, Clone, Default)]
pub struct History {
    pub seed: u64,
    pub topics: Vec<Topic>,
    pub producers: Vec<ProducerRecords>,
    pub transactions: Vec<Outcome>,
    /// `DeleteRecords` by partition.
    pub deleted_before: HashMap<Place, Growing>,
    /// Positions by group and partition.
    pub committed: HashMap<(String, Place), Growing>,
    /// What a read_uncommitted consumer was given.
    pub seen: HashMap<Place, Followed>,
    /// What a read_committed consumer was given.
    pub seen_committed: HashMap<Place, Followed>,
    /// Acknowledged batches in the order their answers came.
    pub order: Vec<RecordId>,
    /// Wrong things noticed while it ran.
    pub complaints: Vec<String>,
    /// The broker has refused a request.
    pub refused: bool,
    /// The first refusals, as they were said.
    pub refusals: Vec<String>,
    /// Batches that were sent after the first refusal, and acknowledged.
    pub acknowledged_after_refusal: usize,
    /// Batches that idempotent producers sent once more.
    pub repeated: usize,
}

const REFUSALS_KEPT: usize = 20;

impl History {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub fn add_topic(&mut self, name: &str, partitions: i32, compacted: bool) -> TopicIndex {
        self.topics.push(Topic {
            name: name.to_owned(),
            partitions,
            compacted,
            retained: false,
            created: Progress::Asked,
            deleted: Progress::NotAsked,
            configs: Vec::new(),
            configs_acknowledged: 0,
        });
        self.topics.len() - 1
    }

    pub fn add_producer(&mut self, kind: ProducerKind) -> u32 {
        self.producers.push(ProducerRecords { kind, sent: Vec::new() });
        (self.producers.len() - 1) as u32
    }

    pub fn next_sequence(&self, producer: u32) -> u32 {
        self.producers[producer as usize].sent.len() as u32
    }

    pub fn note_sent(&mut self, producer: u32, place: Place, keys: &[u32], transaction: Option<usize>) {
        let sent = &mut self.producers[producer as usize].sent;
        sent.extend(keys.iter().map(|key| Sent { place, key: *key, transaction, acknowledged: None }));
    }

    /// `base` is where the first of `count` records lies.
    pub fn note_acknowledged(&mut self, first: RecordId, count: u32, base: i64) {
        let sent = &mut self.producers[first.producer as usize].sent;
        for (offset, record) in (base..).zip(&mut sent[first.sequence as usize..][..count as usize]) {
            record.acknowledged = Some(offset);
        }
        self.order.push(RecordId { producer: first.producer, sequence: first.sequence + count - 1 });
    }

    pub fn followed(&self, isolation: Isolation) -> &HashMap<Place, Followed> {
        match isolation {
            Isolation::Uncommitted => &self.seen,
            Isolation::Committed => &self.seen_committed,
        }
    }

    pub fn followed_mut(&mut self, isolation: Isolation) -> &mut HashMap<Place, Followed> {
        match isolation {
            Isolation::Uncommitted => &mut self.seen,
            Isolation::Committed => &mut self.seen_committed,
        }
    }

    pub fn note_refusal(&mut self, failure: &Failure) {
        self.refused = true;
        if self.refusals.len() < REFUSALS_KEPT {
            self.refusals.push(failure.to_string());
        }
    }

    pub fn sent(&self, id: RecordId) -> Option<&Sent> {
        self.producers.get(id.producer as usize)?.sent.get(id.sequence as usize)
    }

    /// Topics that must be there: acknowledged, and nobody has asked for their end.
    pub fn is_alive(&self, topic: TopicIndex) -> bool {
        let topic = &self.topics[topic];
        topic.created == Progress::Acknowledged && topic.deleted == Progress::NotAsked
    }

    /// The latest topic of this name.
    pub fn topic_named(&self, name: &str) -> Option<TopicIndex> {
        self.topics.iter().rposition(|topic| topic.name == name)
    }

    pub fn place_name(&self, (topic, partition): Place) -> String {
        format!("{}/{partition}", self.topics[topic].name)
    }
}

/// The history that all threads of a run write to.
#[derive(Debug, Clone)]
pub struct Shared {
    history: Arc<Mutex<History>>,
    pub power: Power,
}

impl Shared {
    pub fn new(seed: u64) -> Self {
        Self { history: Arc::new(Mutex::new(History::new(seed))), power: Power::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn connect(&self, address: &str, answer_within: Duration) -> Result<Connection, Failure> {
        Connection::open(address, answer_within, &self.power)
    }

    pub fn complain(&self, what: String) {
        self.lock().complaints.push(what);
    }
}
