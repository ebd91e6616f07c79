//! The quarantine of one task: what its store holds, known by key.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use headwater_model::{Bytes, Offset, Record, TimestampMs};

use super::entry::{self, Entry, Held};
use super::{Condemned, Failure, HeldKey, Quarantine, WhenFull};
use crate::error::TaskError;
use crate::failure::push_errors;
use crate::node::Core;
use crate::reprocessing;
use crate::store::typed::TypedStore;
use crate::task::Output;

/// What is to be done with the record at hand.
pub(crate) enum Verdict {
    /// Nothing is in its way.
    Free,
    /// One of its key waits before it.
    Waits,
    /// It failed after it had had effects, which are undone.
    Condemned(Failure),
}

struct State {
    records: u64,
    bytes: u64,
    failure: Failure,
    since: TimestampMs,
}

pub(crate) struct Keeper {
    /// The index of its store.
    store: usize,
    options: Quarantine,
    keys: BTreeMap<Option<Bytes>, State>,
    bytes: u64,
    next: u64,
    condemned: Vec<Condemned>,
}

impl Keeper {
    pub fn new(store: usize, options: Quarantine) -> Self {
        Self { store, options, keys: BTreeMap::new(), bytes: 0, next: 0, condemned: Vec::new() }
    }

    fn entries<'a>(&self, core: &'a mut Core) -> &'a mut TypedStore<Entry> {
        let store = core.stores[self.store].as_mut().and_then(|store| store.as_any().downcast_mut());
        store.unwrap_or_else(|| panic!("store {} is no quarantine of this task", self.store))
    }

    /// Learns what the store holds.
    pub fn load(&mut self, core: &mut Core) -> Result<(), TaskError> {
        for (store_key, _, found) in self.entries(core).range(Bound::Unbounded, Bound::Unbounded)? {
            if let (Entry::Held(held), Some(sequence)) = (found, entry::sequence(&store_key)) {
                self.next = self.next.max(sequence + 1);
                self.count(&held);
            }
        }
        Ok(())
    }

    fn count(&mut self, held: &Held) {
        let bytes = held.bytes();
        self.bytes += bytes;
        let state = self.keys.entry(held.record.key.clone()).or_insert_with(|| State {
            records: 0,
            bytes: 0,
            failure: Failure::default(),
            since: held.record.timestamp,
        });
        state.records += 1;
        state.bytes += bytes;
        if let Some(failure) = &held.failure {
            state.failure = failure.clone();
        }
    }

    /// Whether another version was deployed last; from now on this one is.
    pub fn is_new_version(&mut self, core: &mut Core) -> Result<bool, TaskError> {
        let Some(version) = self.options.version.clone() else { return Ok(false) };
        let store = self.entries(core);
        let key = Bytes::from_static(entry::VERSION_KEY);
        let before = store.get(&key)?.map(|(_, entry)| entry);
        let now = Entry::Version(version);
        if before.as_ref() == Some(&now) {
            return Ok(false);
        }
        store.put(key, Some((0, now)));
        Ok(before.is_some() || !self.keys.is_empty())
    }

    pub fn condemn(&mut self, condemned: Condemned) {
        self.condemned.push(condemned);
    }

    /// Why the record is not to be processed, if it failed after it had had effects.
    pub fn condemned(&self, topic: &str, partition: i32, offset: Offset) -> Option<Failure> {
        let is = |c: &&Condemned| c.offset == offset && c.partition == partition && c.topic == topic;
        self.condemned.iter().find(is).map(|found| found.failure.clone())
    }

    /// Forgets what a commit has settled: `passed` says what lies before a committed position.
    pub fn settle(&mut self, passed: impl Fn(&Condemned) -> bool) {
        self.condemned.retain(|condemned| !passed(condemned));
    }

    /// About the record at hand.
    pub fn verdict(&self, core: &Core) -> Verdict {
        let context = &core.context;
        if !self.condemned.is_empty()
            && let Some(failure) = self.condemned(&context.topic, context.partition, context.offset)
        {
            return Verdict::Condemned(failure);
        }
        let waits =
            !self.keys.is_empty() && context.raw.0.is_some() && self.keys.contains_key(&context.raw.0);
        if waits { Verdict::Waits } else { Verdict::Free }
    }

    /// Holds a record, or does what is to be done where there is no room for it.
    pub fn admit(&mut self, held: Held, core: &mut Core) -> Result<(), TaskError> {
        match self.full(&held).cloned() {
            None => {
                core.metrics.quarantined += 1;
                self.hold(held, core);
            }
            Some(WhenFull::Fail) => {
                let (max_keys, max_bytes) = (self.options.max_keys, self.options.max_bytes);
                let (topic, partition, offset) = (held.topic, held.partition, held.record.offset);
                return Err(TaskError::QuarantineFull { topic, partition, offset, max_keys, max_bytes });
            }
            Some(WhenFull::DeadLetter(topic)) => {
                core.metrics.processing_errors += 1;
                core.metrics.records_out += 1;
                core.out.push(overflow(&topic, held));
            }
        }
        Ok(())
    }

    /// Whether there is room for it, and what happens if there is none.
    fn full(&self, held: &Held) -> Option<&WhenFull> {
        let more_keys = usize::from(!self.keys.contains_key(&held.record.key));
        let room = self.keys.len() + more_keys <= self.options.max_keys
            && self.bytes + held.bytes() <= self.options.max_bytes;
        (!room).then_some(&self.options.when_full)
    }

    fn hold(&mut self, held: Held, core: &mut Core) {
        let key = entry::store_key(held.record.key.as_ref(), self.next);
        self.next += 1;
        self.count(&held);
        let timestamp = held.record.timestamp;
        self.entries(core).put(key, Some((timestamp, Entry::Held(Box::new(held)))));
    }

    /// The keys that are held, or the one asked for.
    pub fn chosen(&self, key: Option<&Bytes>) -> Vec<Option<Bytes>> {
        let asked = |held: &&Option<Bytes>| key.is_none() || held.as_ref() == key;
        self.keys.keys().filter(asked).cloned().collect()
    }

    /// The records of a key in the order they came.
    pub fn records(&self, key: &Option<Bytes>, core: &mut Core) -> Result<Vec<(Bytes, Held)>, TaskError> {
        let (low, high) = (entry::store_key(key.as_ref(), 0), entry::store_key(key.as_ref(), u64::MAX));
        let found = self.entries(core).range(Bound::Included(&low), Bound::Included(&high))?;
        let held = |(store_key, _, entry)| match entry {
            Entry::Held(held) => Some((store_key, *held)),
            Entry::Version(_) => None,
        };
        Ok(found.into_iter().filter_map(held).collect())
    }

    /// The record was processed.
    pub fn released(&mut self, store_key: Bytes, held: &Held, core: &mut Core) {
        self.entries(core).put(store_key, None);
        self.bytes = self.bytes.saturating_sub(held.bytes());
        let Some(state) = self.keys.get_mut(&held.record.key) else { return };
        state.records -= 1;
        state.bytes = state.bytes.saturating_sub(held.bytes());
        if state.records == 0 {
            self.keys.remove(&held.record.key);
        }
    }

    /// The record failed again, and stays.
    pub fn stays(&mut self, store_key: Bytes, held: Held, failure: Failure, core: &mut Core) {
        if let Some(state) = self.keys.get_mut(&held.record.key) {
            state.failure = failure.clone();
            state.since = held.record.timestamp;
        }
        let timestamp = held.record.timestamp;
        let held = Held { failure: Some(failure), ..held };
        self.entries(core).put(store_key, Some((timestamp, Entry::Held(Box::new(held)))));
    }

    pub fn told(&self) -> Vec<HeldKey> {
        let told = |(key, state): (&Option<Bytes>, &State)| HeldKey {
            key: key.clone(),
            records: state.records,
            bytes: state.bytes,
            node: state.failure.node.clone(),
            message: state.failure.message.clone(),
            since: state.since,
        };
        self.keys.iter().map(told).collect()
    }
}

/// The dead letter of a record that there is no room for.
fn overflow(topic: &str, held: Held) -> Output {
    let Held { topic: origin, partition, record, failure } = held;
    let Failure { node, message } = failure.unwrap_or_else(|| Failure {
        node: "the quarantine".to_owned(),
        message: "it is full, and a record of this key waits in it".to_owned(),
    });
    let Record { offset, timestamp, key, value, mut headers } = record;
    reprocessing::take(&mut headers);
    let exception = format!("ProcessorError in {node}");
    push_errors(&mut headers, (exception, message), (&origin, partition, offset));
    Output { topic: Arc::from(topic), partition: None, timestamp, key, value, headers }
}
