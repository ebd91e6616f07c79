//! What came out against what must: what is lost, what is there twice, what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::oracle::Expected;

/// A record of an output topic; no value is a tombstone.
pub type Found = (String, Option<String>);

const MOST: usize = 40;

#[derive(Debug, Default)]
pub struct Verdict {
    pub lost: i64,
    pub duplicated: i64,
    pub wrong: Vec<String>,
}

impl Verdict {
    pub fn say(&mut self, what: String) {
        if self.wrong.len() < MOST {
            self.wrong.push(what);
        }
    }

    pub fn passed(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.wrong.is_empty()
    }

    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        other.wrong.into_iter().for_each(|line| self.say(line));
    }

    /// One end's topic, in the order of each key.
    pub fn judge(&mut self, topic: &str, found: &[Found], expected: &Expected) {
        match expected {
            Expected::Records(wanted) => self.records(topic, &counted(found), wanted),
            Expected::Updates(wanted) => self.updates(topic, found, wanted),
            Expected::Last { rows, updates } => {
                if let Some(updates) = updates {
                    self.numbers(topic, found, updates);
                }
                self.rows(topic, found, rows);
            }
            Expected::Joined { events, rows } => {
                self.records(topic, &counted(&events_of(found)), events);
                self.versions(topic, found, rows);
            }
            Expected::Seen { events, rows } => {
                self.records(topic, &counted(&events_of(found)), events);
                self.seen(topic, found, rows);
            }
        }
    }

    /// Which values there are, and how often.
    pub fn records(
        &mut self,
        topic: &str,
        found: &BTreeMap<String, BTreeMap<String, usize>>,
        wanted: &BTreeMap<String, BTreeMap<String, usize>>,
    ) {
        let none = BTreeMap::new();
        let keys: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
        for key in keys {
            let (found, wanted) = (found.get(key).unwrap_or(&none), wanted.get(key).unwrap_or(&none));
            let values: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
            for value in values {
                let count = |of: &BTreeMap<String, usize>| of.get(value).copied().unwrap_or(0) as i64;
                let (there, due) = (count(found), count(wanted));
                if there != due {
                    self.lost += (due - there).max(0);
                    self.duplicated += (there - due).max(0);
                    self.say(format!("{topic}: {key} = {value} is there {there} times, not {due}"));
                }
            }
        }
    }

    /// Each key's updates are 1, 2, 3 … in this order.
    fn updates(&mut self, topic: &str, found: &[Found], wanted: &BTreeMap<String, (i64, String)>) {
        let mut last: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
        for (key, value) in found {
            let value = value.as_deref().unwrap_or_default();
            let number = value.split(',').next().and_then(|number| number.parse().ok()).unwrap_or(-1);
            let before = last.insert(key, (number, value)).map_or(0, |(number, _)| number);
            if number != before + 1 {
                self.lost += (number - before - 1).max(0);
                self.duplicated += (before + 1 - number).max(0);
                self.say(format!("{topic}: {key} goes from {before} to {number}"));
            }
        }
        let keys: BTreeSet<&str> = last.keys().copied().chain(wanted.keys().map(String::as_str)).collect();
        for key in keys {
            let (count, text) = last.get(key).copied().unwrap_or((0, "-"));
            let (due, wanted) = wanted.get(key).map_or((0, "-"), |(due, text)| (*due, text));
            if (count, text) != (due, wanted) {
                self.lost += (due - count).max(0);
                self.duplicated += (count - due).max(0);
                self.say(format!("{topic}: {key} ends with {text}, not {wanted}"));
            }
        }
    }

    /// How many values each key has that are no tombstones.
    fn numbers(&mut self, topic: &str, found: &[Found], wanted: &BTreeMap<String, usize>) {
        let mut numbers: BTreeMap<&str, i64> = BTreeMap::new();
        for (key, _) in found.iter().filter(|(_, value)| value.is_some()) {
            *numbers.entry(key).or_default() += 1;
        }
        let keys: BTreeSet<&str> = numbers.keys().copied().chain(wanted.keys().map(String::as_str)).collect();
        for key in keys {
            let there = numbers.get(key).copied().unwrap_or(0);
            let due = wanted.get(key).map_or(0, |due| *due as i64);
            if there != due {
                self.lost += (due - there).max(0);
                self.duplicated += (there - due).max(0);
                self.say(format!("{topic}: {key} was updated {there} times, not {due}"));
            }
        }
    }

    fn rows(&mut self, topic: &str, found: &[Found], wanted: &BTreeMap<String, String>) {
        let mut rows: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, value) in found {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(key.as_str()),
            };
        }
        let keys: BTreeSet<&str> = rows.keys().copied().chain(wanted.keys().map(String::as_str)).collect();
        for key in keys {
            let (there, due) = (rows.get(key).copied(), wanted.get(key).map(String::as_str));
            if there != due {
                self.say(format!("{topic}: {key} ends with {there:?}, not {due:?}"));
            }
        }
    }

    /// Each event was joined with a row that it may see.
    fn seen(&mut self, topic: &str, found: &[Found], rows: &BTreeMap<(String, String), BTreeSet<String>>) {
        for (key, value) in found {
            // What is no event of the key's has been told.
            let Some((event, row)) = value.as_deref().and_then(|value| value.split_once('/')) else {
                continue;
            };
            let Some(rows) = rows.get(&(key.clone(), event.to_owned())) else { continue };
            if !rows.contains(row) {
                self.say(format!(
                    "{topic}: {key} = {event} was joined with {row}, which it cannot have seen"
                ));
            }
        }
    }

    /// The rows that a key's events were joined with are the table's, and go forward only.
    fn versions(&mut self, topic: &str, found: &[Found], rows: &BTreeMap<String, Vec<Option<String>>>) {
        let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, value) in found {
            let joined = value.as_deref().and_then(|value| value.split_once('/')).map_or("?", |(_, row)| row);
            let joined = (joined != "-").then_some(joined);
            let from = reached.entry(key).or_insert(0);
            let Some(versions) = rows.get(key) else {
                if let Some(row) = joined {
                    self.say(format!("{topic}: {key} was joined with {row}, which the table never had"));
                }
                continue;
            };
            match versions.iter().skip(*from).position(|version| version.as_deref() == joined) {
                Some(further) => *from += further,
                None => self.say(format!(
                    "{topic}: {key} was joined with {joined:?} after {:?}",
                    versions.get(*from)
                )),
            }
        }
    }
}

/// Joined events without their rows.
fn events_of(found: &[Found]) -> Vec<Found> {
    let alone = |(key, value): &Found| {
        let event = value.as_deref().and_then(|value| value.split_once('/'));
        (key.clone(), event.map(|(event, _)| event.to_owned()))
    };
    found.iter().map(alone).collect()
}

fn counted(found: &[Found]) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (key, value) in found {
        let value = value.clone().unwrap_or_else(|| "nothing".to_owned());
        *counts.entry(key.clone()).or_default().entry(value).or_default() += 1;
    }
    counts
}
