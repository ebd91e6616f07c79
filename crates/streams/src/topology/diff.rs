//! What it takes to replace one version of a service by another.
//!
//! Whatever lives longer than a process is compared: stores and their changelogs, repartition topics, source topics, and
//! which sub-topology has which number (tasks are named by it). Functions are not seen: a `map` that does something else
//! is no difference here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::describe::{
    NodeDescription, RepartitionDescription, StoreDescription, SubtopologyDescription, TopologyDescription,
};
use super::determinism::determinism;

/// What a change asks of whoever rolls it out, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeSafety {
    /// Instances of both versions may run at once.
    Safe,
    /// All instances of the old version stop before the first of the new one starts; nothing is lost.
    Restart,
    /// Records are under way in a repartition topic that the new version does not read.
    Repartition,
    /// State that the old version has made is of no use to the new one, which has to make it again from its sources.
    Rebuild,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyChange {
    pub safety: ChangeSafety,
    /// What differs.
    pub change: String,
    /// What follows from it, and what to do.
    pub advice: String,
}

/// All that differs, what asks for most first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyDiff {
    pub changes: Vec<TopologyChange>,
}

impl TopologyDescription {
    /// What differs in `new`, and what that means for what this version has left behind.
    pub fn diff(&self, new: &Self) -> TopologyDiff {
        let mut changes = Vec::new();
        if self.application_id == new.application_id {
            changes.extend(repartitions(&self.repartitions, &new.repartitions));
            changes.extend(stores(self, new));
            changes.extend(numbers(self, new));
            changes.extend(sources(self, new));
            changes.extend(outside(self, new));
            changes.extend(determinism(self, new));
        } else {
            let (old, new) = (&self.application_id, &new.application_id);
            changes.push(change(
                ChangeSafety::Rebuild,
                format!("application {old} becomes {new}"),
                format!("{new} is another group with other internal topics: it begins with nothing, where Consumed::offset_reset says"),
            ));
        }
        changes.sort_by_key(|change| std::cmp::Reverse(change.safety));
        TopologyDiff { changes }
    }
}

impl TopologyDiff {
    /// What all changes together ask for.
    pub fn safety(&self) -> ChangeSafety {
        self.changes.iter().map(|change| change.safety).max().unwrap_or(ChangeSafety::Safe)
    }
}

pub(super) fn change(
    safety: ChangeSafety,
    change: impl Into<String>,
    advice: impl Into<String>,
) -> TopologyChange {
    TopologyChange { safety, change: change.into(), advice: advice.into() }
}

/// A generated name without its number: the same call has another number when calls before it came or went.
pub(super) fn unnumbered(name: &str) -> Option<(&str, &str)> {
    const DIGITS: usize = 10;
    let at = name.as_bytes().windows(DIGITS).position(|part| part.iter().all(u8::is_ascii_digit))?;
    Some((&name[..at], &name[at + DIGITS..]))
}

/// What is only in the old version and what is only in the new one; generated names that differ by their number are pairs.
struct Renamed<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    gone: Vec<&'a str>,
    come: Vec<&'a str>,
}

fn renamed<'a>(old: &BTreeSet<&'a str>, new: &BTreeSet<&'a str>) -> Renamed<'a> {
    let (mut pairs, mut gone) = (Vec::new(), Vec::new());
    let mut come: Vec<&str> = new.difference(old).copied().collect();
    for name in old.difference(new) {
        let same = |other: &&str| unnumbered(name).is_some_and(|parts| unnumbered(other) == Some(parts));
        match come.iter().position(same) {
            Some(at) => pairs.push((*name, come.remove(at))),
            None => gone.push(*name),
        }
    }
    Renamed { pairs, gone, come }
}

fn repartitions(old: &[RepartitionDescription], new: &[RepartitionDescription]) -> Vec<TopologyChange> {
    let of = |all: &[RepartitionDescription]| -> BTreeMap<String, Option<i32>> {
        all.iter().map(|topic| (topic.topic.clone(), topic.partitions)).collect()
    };
    let (old, new) = (of(old), of(new));
    let names = |of: &BTreeMap<String, Option<i32>>| -> Vec<String> { of.keys().cloned().collect() };
    let (olds, news) = (names(&old), names(&new));
    let renamed =
        renamed(&olds.iter().map(String::as_str).collect(), &news.iter().map(String::as_str).collect());
    let mut changes = Vec::new();
    for (from, to) in renamed.pairs {
        changes.push(change(
            ChangeSafety::Repartition,
            format!("repartition topic {from} becomes {to}, since operators before it came or went"),
            "what is in the old one and not processed yet stays there unread: give the operator a name (Grouped or Repartitioned::named), now the old generated one; or stop what writes to the sources, wait until the group has no lag, then replace",
        ));
    }
    for gone in renamed.gone {
        changes.push(change(
            ChangeSafety::Repartition,
            format!("repartition topic {gone} is gone"),
            "what is in it and not processed yet stays there unread: stop what writes to the sources, wait until the group has no lag, then replace; the topic can be deleted afterwards",
        ));
    }
    for come in renamed.come {
        changes.push(change(
            ChangeSafety::Restart,
            format!("repartition topic {come} is new"),
            "it is created at the start; stop all instances of the old version first, as they share the group",
        ));
    }
    for (topic, partitions) in &old {
        if let Some(now) = new.get(topic).filter(|now| *now != partitions) {
            let count =
                |count: &Option<i32>| count.map_or("as many as its sources".to_owned(), |n| n.to_string());
            changes.push(change(
                ChangeSafety::Rebuild,
                format!("repartition topic {topic} has partitions: {}, before {}", count(now), count(partitions)),
                "keys lie in other partitions, and so would the state of the operators behind it: reset the application (its stores and internal topics) and process the sources again",
            ));
        }
    }
    changes
}

/// A store, where it is, and the operators that use it.
struct Used<'a> {
    store: &'a StoreDescription,
    subtopology: i32,
    kinds: BTreeSet<&'a str>,
}

fn used(of: &TopologyDescription) -> BTreeMap<&str, Used<'_>> {
    let mut all = BTreeMap::new();
    for part in &of.subtopologies {
        for store in &part.stores {
            let users = part.nodes.iter().filter(|node| node.stores.contains(&store.name));
            let kinds = users.map(|node| node.kind.as_str()).collect();
            all.insert(store.name.as_str(), Used { store, subtopology: part.id, kinds });
        }
    }
    all
}

fn stores(old: &TopologyDescription, new: &TopologyDescription) -> Vec<TopologyChange> {
    let (old, new) = (used(old), used(new));
    let renamed = renamed(&old.keys().copied().collect(), &new.keys().copied().collect());
    let mut changes = Vec::new();
    for (from, to) in renamed.pairs {
        changes.push(change(
            ChangeSafety::Rebuild,
            format!("store {from} becomes {to}, since operators before it came or went"),
            format!("the new version does not find what is in it: name the store (Materialized::named(\"{from}\") keeps it), take it along with headwater topology migrate, or process the sources again"),
        ));
    }
    for gone in renamed.gone {
        changes.push(change(
            ChangeSafety::Safe,
            format!("store {gone} is gone"),
            match &old[gone].store.changelog {
                Some(topic) => format!(
                    "{topic} stays, so that the old version can come back; delete it when it need not"
                ),
                None => "it has no changelog".to_owned(),
            },
        ));
    }
    for come in renamed.come {
        changes.push(change(
            ChangeSafety::Safe,
            format!("store {come} is new"),
            "it begins empty, and knows what comes from the start of the new version on; for what was before, process the sources again",
        ));
    }
    for (name, before) in &old {
        if let Some(now) = new.get(name) {
            changes.extend(same_store(name, before, now));
        }
    }
    changes
}

fn same_store(name: &str, old: &Used<'_>, new: &Used<'_>) -> Vec<TopologyChange> {
    let mut changes = Vec::new();
    let again = "what is in it cannot be read so: give the store a new name, or reset the application, and process the sources again";
    if old.store.kind != new.store.kind {
        let what = format!("store {name} is of kind {:?}, before {:?}", new.store.kind, old.store.kind);
        return vec![change(ChangeSafety::Rebuild, what, again)];
    }
    if old.kinds.is_disjoint(&new.kinds) {
        let list = |kinds: &BTreeSet<&str>| kinds.iter().copied().collect::<Vec<_>>().join(", ");
        let what = format!("store {name} is used by {}, before by {}", list(&new.kinds), list(&old.kinds));
        changes.push(change(ChangeSafety::Rebuild, what, "unless both write the same values: give the store a new name, or reset the application, and process the sources again"));
    }
    if old.store.external != new.store.external {
        let place = |of: &StoreDescription| match &of.external {
            Some(table) => format!("in table {} (key {:?}, value {:?})", table.name, table.key, table.value),
            None => "inside".to_owned(),
        };
        changes.push(change(
            ChangeSafety::Rebuild,
            format!("store {name} is kept {}, before {}", place(new.store), place(old.store)),
            "what is in it is not taken along: it begins empty; a table without positions is filled from the beginning of the input, and for a store inside process the sources again",
        ));
    } else if old.store.changelog != new.store.changelog {
        changes.push(changelog(name, old.store.changelog.as_deref(), new.store.changelog.as_deref()));
    }
    if old.store.retention_ms != new.store.retention_ms {
        let ms = |ms: Option<i64>| ms.map_or("no limit".to_owned(), |ms| format!("{ms} ms"));
        changes.push(change(
            ChangeSafety::Safe,
            format!(
                "store {name} keeps {}, before {}",
                ms(new.store.retention_ms),
                ms(old.store.retention_ms)
            ),
            "what has gone does not come back; a store of windows or sessions is restored from its changelog once, as it is laid out by its retention; a changelog that exists keeps its retention.ms: alter it, too",
        ));
    }
    if old.subtopology != new.subtopology {
        changes.push(change(
            ChangeSafety::Restart,
            format!("store {name} is of sub-topology {}, before of {}", new.subtopology, old.subtopology),
            match new.store.changelog {
                Some(_) => {
                    "directories have the number in their name, so it is restored from its changelog once"
                }
                None => {
                    "directories have the number in their name and it has no changelog, so it begins empty"
                }
            },
        ));
    }
    changes
}

fn changelog(name: &str, old: Option<&str>, new: Option<&str>) -> TopologyChange {
    let (safety, advice) = match (old, new) {
        (Some(_), None) => (ChangeSafety::Safe, "a store that is lost begins empty from now on"),
        (None, Some(_)) => (
            ChangeSafety::Rebuild,
            "what is in it now is not in the changelog, so another instance would not get it: process the sources again",
        ),
        _ => (
            ChangeSafety::Rebuild,
            "the new changelog has nothing of what is in it: process the sources again",
        ),
    };
    let topic = |topic: Option<&str>| topic.unwrap_or("none").to_owned();
    change(safety, format!("store {name} has changelog {}, before {}", topic(new), topic(old)), advice)
}

/// What a sub-topology is told by: topics and stores, which have names that last.
fn anchors(part: &SubtopologyDescription) -> BTreeSet<&str> {
    let topics = |kind: &str| {
        let kind = kind.to_owned();
        part.nodes.iter().filter(move |node| node.kind == kind).flat_map(|node| &node.topics)
    };
    let stores = part.stores.iter().map(|store| &store.name);
    topics("source").chain(stores).map(String::as_str).collect()
}

fn numbers(old: &TopologyDescription, new: &TopologyDescription) -> Vec<TopologyChange> {
    let mut changes = Vec::new();
    for part in &old.subtopologies {
        let anchors_of_part = anchors(part);
        let shared = |other: &&SubtopologyDescription| anchors(other).intersection(&anchors_of_part).count();
        let likest = new.subtopologies.iter().filter(|other| shared(other) > 0).max_by_key(shared);
        if let Some(now) = likest.filter(|now| now.id != part.id) {
            changes.push(change(
                ChangeSafety::Restart,
                format!("sub-topology {} becomes {}", part.id, now.id),
                format!(
                    "tasks {}_… are {}_… now: instances of both versions in one group would run each other's",
                    part.id, now.id
                ),
            ));
        }
    }
    changes
}

fn topics<'a>(of: &'a TopologyDescription, kind: &str) -> BTreeSet<&'a str> {
    let internal: BTreeSet<&str> = of.repartitions.iter().map(|topic| topic.topic.as_str()).collect();
    let nodes = of.subtopologies.iter().flat_map(|part| &part.nodes);
    let topics = nodes.filter(|node| node.kind == kind).flat_map(|node: &NodeDescription| &node.topics);
    topics.map(String::as_str).filter(|topic| !internal.contains(topic)).collect()
}

fn sources(old: &TopologyDescription, new: &TopologyDescription) -> Vec<TopologyChange> {
    let (old, new) = (topics(old, "source"), topics(new, "source"));
    let gone = old.difference(&new).map(|topic| {
        let advice = "the group keeps its offsets there until they expire: a version that reads it again goes on from them";
        change(ChangeSafety::Restart, format!("topic {topic} is not read any more"), advice)
    });
    let come = new.difference(&old).map(|topic| {
        let advice = "the topic must exist; it is read from where Consumed::offset_reset says. Instances of the old version cannot be given its partitions";
        change(ChangeSafety::Restart, format!("topic {topic} is read, too"), advice)
    });
    gone.chain(come).collect()
}

/// Sinks and global tables, which keep nothing between versions.
fn outside(old: &TopologyDescription, new: &TopologyDescription) -> Vec<TopologyChange> {
    let (sinks, now) = (topics(old, "sink"), topics(new, "sink"));
    let mut changes: Vec<TopologyChange> = sinks
        .difference(&now)
        .map(|topic| {
            change(
                ChangeSafety::Safe,
                format!("topic {topic} is not written any more"),
                "who reads it should know",
            )
        })
        .collect();
    changes.extend(now.difference(&sinks).map(|topic| {
        change(ChangeSafety::Safe, format!("topic {topic} is written, too"), "the topic must exist")
    }));
    let globals = |of: &TopologyDescription| -> BTreeSet<(String, String)> {
        of.globals.iter().map(|global| (global.store.clone(), global.topic.clone())).collect()
    };
    if globals(old) != globals(new) {
        changes.push(change(
            ChangeSafety::Safe,
            "global tables differ",
            "each instance reads them from their topics at its start",
        ));
    }
    changes
}

impl fmt::Display for TopologyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{}: {}", change.safety, change.change)?;
            writeln!(f, "    {}", change.advice)?;
        }
        match self.changes.is_empty() {
            true => writeln!(f, "no difference in stores, topics or tasks"),
            false => Ok(()),
        }
    }
}

impl fmt::Display for ChangeSafety {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safe => "safe",
            Self::Restart => "restart",
            Self::Repartition => "repartition",
            Self::Rebuild => "rebuild",
        })
    }
}
