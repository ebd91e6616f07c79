//! What a whole history tells of each key: who wrote which value, and where it lies.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{Counted, Key, Offset, Operation, Outcome, Step, Value};

/// Where a value was sent.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// Place in the list of operations.
    pub operation: usize,
    pub key: &'a Key,
}

#[derive(Debug, Default)]
pub struct OfKey {
    /// Every value that was acknowledged at, or read from, an offset.
    pub at: BTreeMap<Offset, BTreeSet<Value>>,
    /// Those that are certainly committed: acknowledged, or given to a committed reader.
    pub committed: BTreeMap<Offset, Value>,
    /// The furthest that anybody has read.
    pub read_to: Option<Offset>,
    /// Read at the end of the run, when all work was over.
    pub read_last: BTreeSet<Value>,
    pub has_last: bool,
    pub writers: BTreeSet<String>,
}

impl OfKey {
    /// Only one process writes it, so what it sent is there in its order, and nothing else.
    pub fn has_one_writer(&self) -> bool {
        self.writers.len() == 1
    }
}

#[derive(Debug, Default)]
pub struct Known<'a> {
    pub writers: HashMap<Value, Writer<'a>>,
    pub keys: BTreeMap<&'a Key, OfKey>,
    /// Values that somebody was given.
    pub polled: BTreeSet<(&'a Key, Value)>,
}

impl<'a> Known<'a> {
    pub fn of(operations: &'a [Operation]) -> Self {
        let mut known = Self::default();
        for (place, operation) in operations.iter().enumerate() {
            for step in &operation.steps {
                known.note(place, operation, step);
            }
        }
        known
    }

    fn note(&mut self, place: usize, operation: &'a Operation, step: &'a Step) {
        match step {
            Step::Send { key, value, offset } => {
                self.writers.insert(*value, Writer { operation: place, key });
                let of_key = self.keys.entry(key).or_default();
                of_key.writers.insert(operation.process.clone());
                if let Some(offset) = offset {
                    of_key.at.entry(*offset).or_default().insert(*value);
                    if operation.outcome == Outcome::Ok {
                        of_key.committed.insert(*offset, *value);
                    }
                }
            }
            Step::Poll { key, records, uncommitted, last } => {
                let of_key = self.keys.entry(key).or_default();
                of_key.has_last |= *last;
                for (offset, value) in records {
                    of_key.at.entry(*offset).or_default().insert(*value);
                    of_key.read_to = of_key.read_to.max(Some(*offset));
                    if !uncommitted {
                        of_key.committed.insert(*offset, *value);
                    }
                    if *last {
                        of_key.read_last.insert(*value);
                    }
                    self.polled.insert((key, *value));
                }
            }
            Step::Position { .. } | Step::Found { .. } | Step::Assign {} => {}
        }
    }

    pub fn counted(&self, operations: &[Operation]) -> Counted {
        let with = |outcome| {
            let of_outcome = operations.iter().filter(move |operation| operation.outcome == outcome);
            of_outcome.map(|operation| operation.sends().count()).sum()
        };
        Counted {
            operations: operations.len(),
            acknowledged: with(Outcome::Ok),
            unknown: with(Outcome::Info),
            aborted: with(Outcome::Fail),
            polled: self.polled.len(),
            interleaved: 0,
        }
    }

    /// A value for messages: what it is and who sent it.
    pub fn describe(&self, operations: &[Operation], value: Value) -> String {
        match self.writers.get(&value) {
            Some(writer) => format!("value {value} ({})", operations[writer.operation].name()),
            None => format!("value {value}, which nobody sent"),
        }
    }
}
