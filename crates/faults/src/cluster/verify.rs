//! What must be true of the topics once everything has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Acknowledged;

#[derive(Debug, Default)]
pub struct Verdict {
    pub lost: usize,
    pub duplicated: usize,
    pub out_of_order: usize,
    /// What is wrong, in words; not all of it when there is much.
    pub wrong: Vec<String>,
}

impl Verdict {
    fn report(&mut self, what: String) {
        if self.wrong.len() < 50 {
            self.wrong.push(what);
        }
    }

    /// One topic's partitions against what was acknowledged: each of that once, and each writer's in order.
    pub fn written(&mut self, topic: &str, partitions: &[Vec<String>], acknowledged: &Acknowledged) {
        for (index, values) in partitions.iter().enumerate() {
            let mut found = HashSet::new();
            let mut last: HashMap<&str, u64> = HashMap::new();
            for (offset, value) in values.iter().enumerate() {
                let place = || format!("{topic}/{index}, record {offset}: {value}");
                if !found.insert(value.as_str()) {
                    self.duplicated += 1;
                    self.report(format!("{} is there again", place()));
                    continue;
                }
                let Some((writer, number)) = value.rsplit_once('-') else {
                    self.report(format!("{} was not written by us", place()));
                    continue;
                };
                let number = number.parse().unwrap_or(0);
                if let Some(before) = last.insert(writer, number).filter(|before| *before > number) {
                    self.out_of_order += 1;
                    self.report(format!("{} comes after {writer}-{before}", place()));
                }
            }
            let due = acknowledged.records.get(&(topic.to_owned(), index as i32));
            for value in due.into_iter().flatten().filter(|value| !found.contains(value.as_str())) {
                self.lost += 1;
                self.report(format!("{topic}/{index}: {value} was acknowledged and is not there"));
            }
        }
    }

    /// A copy must have the same records in the same order.
    pub fn copied(&mut self, source: &[Vec<String>], copy: &[Vec<String>]) {
        for (index, (from, to)) in source.iter().zip(copy).enumerate() {
            let (wanted, found) = (counted(from), counted(to));
            let missing: Vec<_> = wanted.keys().filter(|value| !found.contains_key(*value)).collect();
            let twice: Vec<_> =
                found.iter().filter(|(_, count)| **count > 1).map(|(value, _)| value).collect();
            self.lost += missing.len();
            self.duplicated += twice.len();
            if !missing.is_empty() || !twice.is_empty() {
                let first = (missing.first(), twice.first());
                self.report(format!(
                    "the copy of partition {index} lacks {} and has {} twice: {first:?}",
                    missing.len(),
                    twice.len()
                ));
            } else if from != to {
                self.out_of_order += 1;
                self.report(format!("the copy of partition {index} has another order"));
            }
        }
    }

    /// A group that commits after it has read sees everything.
    pub fn followed(&mut self, source: &[Vec<String>], seen: &HashSet<String>) {
        let unseen: BTreeSet<_> = source.iter().flatten().filter(|value| !seen.contains(*value)).collect();
        self.lost += unseen.len();
        if let Some(first) = unseen.first() {
            self.report(format!("the group has not seen {} records, {first} among them", unseen.len()));
        }
    }
}

fn counted(values: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(value.as_str()).or_default() += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    fn acknowledged(values: &[&str]) -> Acknowledged {
        let mut acknowledged = Acknowledged::default();
        acknowledged.records.insert(("t".into(), 0), values.iter().map(ToString::to_string).collect());
        acknowledged
    }

    #[test]
    fn loss_repetition_and_order_are_each_found() {
        let mut verdict = Verdict::default();
        verdict.written("t", &[texts(&["a-0", "a-2", "a-1", "b-0", "b-0"])], &acknowledged(&["a-0", "a-3"]));
        assert_eq!((verdict.lost, verdict.duplicated, verdict.out_of_order), (1, 1, 1));
        assert_eq!(verdict.wrong.len(), 3);
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there() {
        let mut verdict = Verdict::default();
        verdict.written("t", &[texts(&["a-0", "a-1"])], &acknowledged(&["a-0"]));
        assert!(verdict.wrong.is_empty());
    }

    #[test]
    fn a_copy_that_lacks_repeats_or_reorders_is_found() {
        for copy in [["a", "b", "b"], ["b", "a", "c"], ["a", "b", "d"]] {
            let mut verdict = Verdict::default();
            verdict.copied(&[texts(&["a", "b", "c"])], &[texts(&copy)]);
            assert_eq!(verdict.wrong.len(), 1, "{copy:?}");
        }
    }
}
