//! Events put together: what each operation was, when, and how it ended.

use std::collections::{BTreeMap, HashMap};

use crate::{Event, EventKind, Key, Malformed, Offset, Process, Step, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Fail,
    Info,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub process: Process,
    pub op: u64,
    pub begun: i64,
    /// When its commit or abort was asked for: a transaction that has come so far.
    pub ending: Option<i64>,
    /// When its end was told; `None` when that never was.
    pub ended: Option<i64>,
    pub outcome: Outcome,
    pub steps: Vec<Step>,
}

impl Operation {
    pub fn sends(&self) -> impl Iterator<Item = (&Key, Value, Option<Offset>)> {
        self.steps.iter().filter_map(|step| match step {
            Step::Send { key, value, offset } => Some((key, *value, *offset)),
            _ => None,
        })
    }

    pub fn name(&self) -> String {
        format!("operation {} of {}", self.op, self.process)
    }
}

/// In the order in which they began to be noted; one without an end has the outcome `Info`.
pub fn operations(events: &[Event]) -> Result<Vec<Operation>, Malformed> {
    let mut all: Vec<Operation> = Vec::new();
    let mut known: BTreeMap<(&str, u64), usize> = BTreeMap::new();
    for event in events {
        let wrong = |reason| Malformed::Operation { process: event.process.clone(), op: event.op, reason };
        let place = known.get(&(event.process.as_str(), event.op)).copied();
        match (event.kind, place) {
            (EventKind::Invoke, Some(_)) => return Err(wrong("it begins twice")),
            (EventKind::Invoke, None) => {
                known.insert((&event.process, event.op), all.len());
                all.push(Operation {
                    process: event.process.clone(),
                    op: event.op,
                    begun: event.time,
                    ending: None,
                    ended: None,
                    outcome: Outcome::Info,
                    steps: event.steps.clone(),
                });
            }
            (_, None) => return Err(wrong("it goes on without a beginning")),
            (kind, Some(place)) => {
                let operation = &mut all[place];
                if operation.ended.is_some() {
                    return Err(wrong("it goes on after its end"));
                }
                go_on(operation, kind, event);
            }
        }
    }
    unique(&all)?;
    Ok(all)
}

fn go_on(operation: &mut Operation, kind: EventKind, event: &Event) {
    if !event.steps.is_empty() {
        operation.steps.clone_from(&event.steps);
    }
    operation.outcome = match kind {
        EventKind::Ending => {
            operation.ending = Some(event.time);
            return;
        }
        EventKind::Ok => Outcome::Ok,
        EventKind::Fail => Outcome::Fail,
        EventKind::Info | EventKind::Invoke => Outcome::Info,
    };
    operation.ended = Some(event.time);
}

fn unique(operations: &[Operation]) -> Result<(), Malformed> {
    let mut writers: HashMap<Value, &Operation> = HashMap::new();
    for operation in operations {
        for (_, value, _) in operation.sends() {
            if let Some(first) = writers.insert(value, operation) {
                return Err(Malformed::Repeated { value, first: first.name(), second: operation.name() });
            }
        }
    }
    Ok(())
}
