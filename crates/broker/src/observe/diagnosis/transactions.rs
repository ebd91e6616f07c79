//! Open transactions, which hold back the last stable offset.

use std::collections::BTreeMap;

use headwater_coordinator::DescribedTransaction;
use headwater_model::Offset;

use super::facts::{Facts, Known};
use crate::observe::finding::{Finding, Place, Severity, duration};

/// A transaction that is open for longer is worth a look, whatever its timeout.
const LONG_MS: i64 = 60_000;
const NAMED: usize = 3;

/// A partition, and where the transaction begins in it.
type Held<'a> = (&'a Known, Offset);

pub fn look(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut open: BTreeMap<i64, Vec<Held<'_>>> = BTreeMap::new();
    for known in &facts.partitions {
        for (producer, first) in &known.usage.open {
            open.entry(*producer).or_default().push((known, *first));
        }
    }
    for (producer, held) in open {
        let known = facts.answers.transactions.as_ref();
        match known.and_then(|all| all.iter().find(|one| one.producer.producer_id == producer)) {
            Some(transaction) => findings.push(ongoing(facts, transaction, &held)),
            None => findings.push(unknown(producer, &held, known.is_some())),
        }
    }
}

fn names(held: &[Held<'_>]) -> String {
    let named: Vec<String> = held.iter().take(NAMED).map(|(known, _)| known.name()).collect();
    match held.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn behind(held: &[Held<'_>]) -> i64 {
    held.iter().map(|(known, _)| known.usage.offsets.high_watermark - known.usage.offsets.last_stable).sum()
}

fn why(held: &[Held<'_>]) -> String {
    format!(
        "read_committed consumers wait at it, {} records before the end; nothing behind it is deleted or compacted",
        behind(held)
    )
}

fn place(producer: i64, held: &[Held<'_>]) -> Place {
    let topic = held.first().map(|(known, _)| known.topic.name().to_owned());
    let in_topic = held.iter().filter(|(known, _)| Some(known.topic.name()) == topic.as_deref());
    Place {
        producer_id: Some(producer),
        partitions: in_topic.map(|(known, _)| known.index()).collect(),
        first_offset: held.first().map(|(_, first)| *first),
        topic,
        ..Place::default()
    }
}

fn ongoing(facts: &Facts, transaction: &DescribedTransaction, held: &[Held<'_>]) -> Finding {
    let id = &transaction.transactional_id;
    let producer = transaction.producer.producer_id;
    let age = (facts.now - transaction.started_ms).max(0);
    let left = (i64::from(transaction.timeout_ms) - age).max(0);
    let severity = if age > LONG_MS { Severity::Warning } else { Severity::Note };
    let what = format!(
        "the transaction of {id} (producer {producer}) is open for {} and holds back {}",
        duration(age),
        names(held)
    );
    Finding::new(severity, "open_transaction", what)
        .at(Place { transactional_id: Some(id.clone()), ..place(producer, held) })
        .since(transaction.started_ms)
        .why(why(held))
        .next(format!(
            "headwater transaction abort {id}; else its timeout of {} ends it in {}",
            duration(transaction.timeout_ms.into()),
            duration(left)
        ))
}

fn unknown(producer: i64, held: &[Held<'_>], asked: bool) -> Finding {
    let who = match asked {
        true => "the coordinator knows nothing of it",
        false => "the coordinator did not say whose it is",
    };
    let what = format!("a transaction of producer {producer} holds back {}; {who}", names(held));
    let next = match asked {
        true => {
            "consume with isolation.level=read_uncommitted to read on; restart the node, and report it if it stays"
        }
        false => "headwater doctor again, when the engine answers",
    };
    Finding::new(Severity::Warning, "open_transaction", what)
        .at(place(producer, held))
        .why(why(held))
        .next(next)
}
