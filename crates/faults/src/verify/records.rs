//! Records: where they were acknowledged, as they were sent, once, in order, without gaps.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Check, Rule};
use crate::history::{Outcome, Place, ProducerKind};
use crate::readback::PartitionRead;
use crate::record::RecordId;

impl Check<'_> {
    pub(super) fn partitions(&mut self) {
        let read = self.read;
        let mut places: Vec<_> = read.partitions.iter().collect();
        places.sort_by_key(|(place, _)| **place);
        for (place, partition) in places {
            self.contents(*place, partition);
            self.contiguous(*place, partition);
            self.log_start(*place, partition);
            self.seen(*place, partition);
            self.once_and_in_order(*place, partition);
            self.no_holes(*place, partition);
            for detail in &partition.damaged {
                self.report(Rule::Damaged, detail.clone());
            }
            if let (false, Some((offset, reason))) = (self.allowed.refused, partition.refused.first()) {
                let detail = format!("{} at {offset}: {reason}", self.name(*place));
                self.report(Rule::Refused, detail);
            }
        }
    }

    fn contents(&mut self, place: Place, partition: &PartitionRead) {
        for (offset, content) in &partition.records {
            let at = format!("{} at {offset}", self.name(place));
            let id = match content {
                Ok(id) => *id,
                Err(wrong) => {
                    self.report(Rule::NeverSent, format!("{at}: {wrong}"));
                    continue;
                }
            };
            match self.history.sent(id) {
                None => self.report(Rule::NeverSent, format!("{at}: {id}")),
                Some(sent) if sent.place != place => {
                    let detail = format!("{at}: {id}, sent to {}", self.name(sent.place));
                    self.report(Rule::WrongPlace, detail);
                }
                Some(sent) => {
                    if let Some(acknowledged) = sent.acknowledged.filter(|place| place != offset) {
                        self.report(Rule::Changed, format!("{at}: {id}, acknowledged at {acknowledged}"));
                    }
                }
            }
        }
    }

    fn contiguous(&mut self, place: Place, partition: &PartitionRead) {
        if self.history.topics[place.0].compacted {
            return;
        }
        let mut ranges: Vec<(i64, i64)> = partition.controls.clone();
        ranges.extend(partition.records.iter().map(|(offset, _)| (*offset, *offset)));
        ranges.extend(partition.refused.iter().map(|(offset, _)| (*offset, *offset)));
        ranges.sort_unstable();
        let mut next = partition.log_start;
        for (first, last) in ranges {
            if first > next {
                let detail = format!("{}: {next} to {}", self.name(place), first - 1);
                self.report(Rule::Gap, detail);
            }
            next = next.max(last + 1);
        }
        if next < partition.high_watermark {
            let detail = format!("{}: {next} up to the end {}", self.name(place), partition.high_watermark);
            self.report(Rule::Gap, detail);
        }
    }

    fn log_start(&mut self, place: Place, partition: &PartitionRead) {
        let deleted = self.history.deleted_before.get(&place).copied().unwrap_or_default();
        if self.history.topics[place.0].retained {
            return;
        }
        let early = partition.log_start < deleted.acknowledged && !self.allowed.lost_tail;
        if early || partition.log_start > deleted.asked {
            let detail = format!("{} begins at {}, {deleted:?}", self.name(place), partition.log_start);
            self.report(Rule::LogStart, detail);
        }
    }

    fn seen(&mut self, place: Place, partition: &PartitionRead) {
        let Some(seen) = self.history.seen.get(&place) else { return };
        let found = by_offset(partition);
        let refused = refused(partition);
        for (offset, id) in seen.records.range(partition.log_start..) {
            let cut = self.allowed.lost_tail && *offset >= partition.high_watermark;
            let compacted = self.history.topics[place.0].compacted && !found.contains_key(offset);
            if found.get(offset) == Some(id) || cut || compacted || refused.contains(offset) {
                continue;
            }
            let detail = format!("{} at {offset}: {id} was seen", self.name(place));
            let now = found.get(offset).map_or_else(|| "nothing".to_owned(), ToString::to_string);
            self.report(Rule::Changed, format!("{detail}, {now} is there"));
        }
    }

    fn once_and_in_order(&mut self, place: Place, partition: &PartitionRead) {
        let mut last: HashMap<u32, (u32, i64)> = HashMap::new();
        let mut met = HashSet::new();
        for (offset, id) in partition.records.iter().filter_map(|(at, id)| Some((*at, id.clone().ok()?))) {
            if !met.insert(id) {
                let detail = format!("{}: {id}, again at {offset}", self.name(place));
                self.report(Rule::Duplicate, detail);
                continue;
            }
            if let Some((sequence, before)) = last.insert(id.producer, (id.sequence, offset))
                && sequence > id.sequence
            {
                let detail = format!("{}: {id} at {offset}, {sequence} at {before}", self.name(place));
                self.report(Rule::Order, detail);
            }
        }
    }

    /// What an idempotent producer has sent to a partition is there from its beginning on.
    fn no_holes(&mut self, place: Place, partition: &PartitionRead) {
        if self.history.topics[place.0].compacted || partition.log_start > 0 {
            return;
        }
        let there: HashSet<RecordId> =
            partition.records.iter().filter_map(|(_, id)| id.clone().ok()).collect();
        let refused = !partition.refused.is_empty();
        for (number, producer) in self.history.producers.iter().enumerate() {
            if producer.kind != ProducerKind::Idempotent || refused {
                continue;
            }
            let id = |sequence: usize| RecordId { producer: number as u32, sequence: sequence as u32 };
            let sent = producer.sent.iter().enumerate().filter(|(_, sent)| sent.place == place);
            let mut missing = None;
            for (sequence, _) in sent {
                match there.contains(&id(sequence)) {
                    false => missing = missing.or(Some(sequence)),
                    true if missing.is_some() => {
                        let detail = format!("{}: {} without {missing:?}", self.name(place), id(sequence));
                        self.report(Rule::Hole, detail);
                        break;
                    }
                    true => {}
                }
            }
        }
    }

    /// Every acknowledged record is where it was acknowledged.
    pub(super) fn acknowledged(&mut self) {
        let read = self.read;
        let found: HashMap<Place, BTreeMap<i64, RecordId>> =
            read.partitions.iter().map(|(place, partition)| (*place, by_offset(partition))).collect();
        let latest = self.latest_of_keys();
        for (number, producer) in self.history.producers.iter().enumerate() {
            for (sequence, sent) in producer.sent.iter().enumerate() {
                let Some(offset) = sent.acknowledged.filter(|offset| *offset >= 0) else { continue };
                let id = RecordId { producer: number as u32, sequence: sequence as u32 };
                if !self.history.is_alive(sent.place.0) {
                    continue;
                }
                let Some(partition) = read.partitions.get(&sent.place) else { continue };
                let here = found[&sent.place].get(&offset) == Some(&id);
                let compacted = self.history.topics[sent.place.0].compacted
                    && (latest.get(&(sent.place, sent.key)).is_some_and(|latest| *latest > offset)
                        || sent.transaction.is_some_and(|transaction| {
                            self.history.transactions[transaction] != Outcome::Committed
                        }));
                let cut = self.allowed.lost_tail && offset >= partition.high_watermark;
                let refused = partition.refused.iter().any(|(at, _)| *at == offset);
                if here || compacted || cut || refused || offset < partition.log_start {
                    continue;
                }
                let end = partition.high_watermark;
                let detail = format!("{} at {offset} (end {end}): {id}", self.name(sent.place));
                self.report(Rule::Lost, detail);
            }
        }
    }

    /// By what a read_committed reader sees: an aborted record replaces nothing.
    fn latest_of_keys(&self) -> HashMap<(Place, u32), i64> {
        let mut latest = HashMap::new();
        for (place, partition) in &self.read.partitions {
            for (offset, id) in
                partition.committed.iter().filter_map(|(at, id)| Some((*at, id.clone().ok()?)))
            {
                if let Some(sent) = self.history.sent(id) {
                    latest.insert((*place, sent.key), offset);
                }
            }
        }
        latest
    }
}

fn by_offset(partition: &PartitionRead) -> BTreeMap<i64, RecordId> {
    partition.records.iter().filter_map(|(offset, id)| Some((*offset, id.clone().ok()?))).collect()
}

fn refused(partition: &PartitionRead) -> HashSet<i64> {
    partition.refused.iter().map(|(offset, _)| *offset).collect()
}
