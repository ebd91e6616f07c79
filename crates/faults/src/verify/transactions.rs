//! Transactions: committed ones whole, aborted ones invisible, the others one or the other.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Check, Rule};
use crate::history::{Outcome, Place};
use crate::readback::PartitionRead;
use crate::record::RecordId;

/// Of one transaction: records that are there, and those of them that a read_committed reader got.
#[derive(Debug, Default)]
struct Tally {
    visible: Vec<RecordId>,
    hidden: Vec<RecordId>,
    /// Acknowledged, but nowhere.
    missing: Vec<RecordId>,
}

impl Check<'_> {
    pub(super) fn visibility(&mut self) {
        let read = self.read;
        let mut tallies: HashMap<usize, Tally> = HashMap::new();
        for (place, partition) in &read.partitions {
            self.tally(*place, partition, &mut tallies);
        }
        self.add_missing(&mut tallies);
        let mut tallies: Vec<_> = tallies.into_iter().collect();
        tallies.sort_by_key(|(transaction, _)| *transaction);
        for (transaction, tally) in tallies {
            self.judge(transaction, &tally);
        }
    }

    fn tally(&mut self, place: Place, partition: &PartitionRead, tallies: &mut HashMap<usize, Tally>) {
        let committed: HashSet<(i64, RecordId)> =
            partition.committed.iter().filter_map(|(at, id)| Some((*at, id.clone().ok()?))).collect();
        let all: Vec<_> =
            partition.records.iter().filter_map(|(at, id)| Some((*at, id.clone().ok()?))).collect();
        let compacted = self.history.topics[place.0].compacted;
        for one in &all {
            let visible = committed.contains(one);
            // The cleaner may have come between the two readings.
            if !visible && compacted {
                continue;
            }
            match self.history.sent(one.1).and_then(|sent| sent.transaction) {
                Some(transaction) => {
                    let tally = tallies.entry(transaction).or_default();
                    if visible { &mut tally.visible } else { &mut tally.hidden }.push(one.1);
                }
                None if !visible => {
                    let detail = format!("{} at {}: {}", self.name(place), one.0, one.1);
                    self.report(Rule::CommittedHidden, detail);
                }
                None => {}
            }
        }
        let all: HashSet<_> = all.into_iter().collect();
        for (offset, id) in committed.difference(&all) {
            let detail = format!("{} at {offset}: {id}, read_committed only", self.name(place));
            self.report(Rule::NeverSent, detail);
        }
    }

    /// Counts only what nobody may have deleted.
    fn add_missing(&self, tallies: &mut HashMap<usize, Tally>) {
        for (number, producer) in self.history.producers.iter().enumerate() {
            for (sequence, sent) in producer.sent.iter().enumerate() {
                let id = RecordId { producer: number as u32, sequence: sequence as u32 };
                let (Some(transaction), Some(partition)) =
                    (sent.transaction, self.read.partitions.get(&sent.place))
                else {
                    continue;
                };
                let kept = sent.acknowledged.is_some_and(|offset| offset >= partition.log_start);
                let whole = (partition.log_start == 0 || kept)
                    && !self.history.topics[sent.place.0].compacted
                    && partition.refused.is_empty();
                let tally = tallies.entry(transaction).or_default();
                if whole && !tally.visible.contains(&id) && !tally.hidden.contains(&id) {
                    tally.missing.push(id);
                }
            }
        }
    }

    /// A read_committed consumer was given nothing that is not committed, and passed nothing that is.
    pub(super) fn followed(&mut self) {
        let read = self.read;
        for (place, followed) in &self.history.seen_committed {
            let Some(partition) = read.partitions.get(place) else { continue };
            let end = if self.allowed.lost_tail { partition.high_watermark } else { i64::MAX };
            let compacted = self.history.topics[place.0].compacted;
            let committed: BTreeMap<i64, RecordId> =
                partition.committed.iter().filter_map(|(at, id)| Some((*at, id.clone().ok()?))).collect();
            let refused: HashSet<i64> = partition.refused.iter().map(|(offset, _)| *offset).collect();
            for (offset, id) in followed.records.range(partition.log_start..end.max(partition.log_start)) {
                if committed.get(offset) != Some(id) && !compacted && !refused.contains(offset) {
                    let detail = format!("{} at {offset}: {id}, given to a consumer", self.name(*place));
                    let aborted = self.history.sent(*id).is_some_and(|sent| sent.transaction.is_some());
                    self.report(if aborted { Rule::AbortedVisible } else { Rule::CommittedHidden }, detail);
                }
            }
            let from = followed.from.max(partition.log_start);
            for (offset, id) in committed.range(from..followed.next.max(from)) {
                if !followed.records.contains_key(offset) {
                    let detail = format!("{} at {offset}: {id}, passed by a consumer", self.name(*place));
                    self.report(Rule::CommittedHidden, detail);
                }
            }
        }
    }

    fn judge(&mut self, transaction: usize, tally: &Tally) {
        let outcome = self.history.transactions[transaction];
        let what = format!("transaction {transaction} ({outcome:?})");
        let torn = !tally.visible.is_empty() && (!tally.hidden.is_empty() || !tally.missing.is_empty());
        if torn && !self.allowed.lost_tail {
            let missing = tally.hidden.first().or(tally.missing.first());
            let detail = format!("{what}: {} but not {}", show(tally.visible.first()), show(missing));
            self.report(Rule::TornTransaction, detail);
        }
        match outcome {
            Outcome::Committed
                if tally.visible.is_empty() && !tally.hidden.is_empty() && !self.allowed.lost_tail =>
            {
                let detail = format!("{what}: {}", show(tally.hidden.first()));
                self.report(Rule::CommittedHidden, detail);
            }
            Outcome::Aborted | Outcome::Open if !tally.visible.is_empty() => {
                let detail = format!("{what}: {}", show(tally.visible.first()));
                self.report(Rule::AbortedVisible, detail);
            }
            _ => {}
        }
    }
}

fn show(id: Option<&RecordId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
