//! From one version of an application to another: which state stays, which is copied under its new name, and what has to
//! be processed again.
//!
//! Pure: it sees two descriptions and nothing of a cluster. Serdes are not in a description: that a store which was renamed
//! still holds the same keys and values is its author's promise.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::describe::{StoreDescription, SubtopologyDescription, TopologyDescription};

mod again;
mod pairs;
mod partitions;
mod shape;

pub use again::Again;
pub use pairs::Renames;
pub use partitions::partitions_needed;

use pairs::{Pairs, Signature, pairs};
use shape::Shape;

/// What it takes to go from the old version to the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    pub application_id: String,
    /// Every store of either version.
    pub stores: Vec<StoreStep>,
    /// Topics whose records the new version looks for under another name.
    pub copies: Vec<Copied>,
    /// Clocks of operators that are committed under another name.
    pub clocks: Vec<(String, String)>,
    /// What is processed again.
    pub again: Option<Again>,
    /// Repartition topics that the new version does not read: nothing may be under way in them.
    pub left: Vec<String>,
}

/// A store, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStep {
    /// Its name in the new version; that in the old one if it is gone.
    pub store: String,
    pub changelog: Option<String>,
    pub fate: Fate,
}

/// What becomes of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Kept,
    /// Its changelog is copied from that of the store of this name.
    Renamed {
        from: String,
    },
    /// It is emptied and made of its input again.
    Rebuilt {
        why: String,
    },
    /// It begins empty.
    New,
    /// Nobody uses it; its changelog stays until someone deletes it.
    Gone,
}

/// A topic of the application under its old and its new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    pub from: String,
    pub to: String,
    /// A repartition topic: only what the group has not read yet is copied.
    pub repartition: bool,
}

/// What cannot be migrated in place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationRefused {
    #[error(
        "migrate application {old:?} to {new:?}: another application id is another group with state of its own, so there is nothing to move; start it beside the old one, and stop that when it has caught up"
    )]
    OtherApplication { old: String, new: String },
    #[error(
        "rename {name:?}: the old version has no store and no repartition of that name, nor one that begins with it"
    )]
    UnknownName { name: String },
    #[error("rename {from:?} to {to:?}: the new version has nothing of that name")]
    NoSuchName { from: String, to: String },
    #[error(
        "tell which of {new} is which of {old}: their names are generated, and come from their places in the program; say it with --rename OLD=NEW (also where both are the same), or name them in the new version as they were called"
    )]
    Ambiguous { old: String, new: String },
    #[error(
        "move {from:?} to {to:?}: the old version has a {to:?} of its own, and what is in it would have to go first; name both in the new version as they were called, or run it under another application id until it has caught up"
    )]
    NameTaken { from: String, to: String },
    #[error(
        "move store {from:?} to {to:?}: they are not of one kind ({what}); rebuild it with --rebuild {to}"
    )]
    OtherKind { from: String, to: String, what: String },
    #[error("rebuild store {name:?}: the new version has none of that name")]
    NoSuchStore { name: String },
    #[error(
        "keep repartition topic {topic:?}: it has {new} partitions and had {old}, so keys lie elsewhere; run the new version under another application id until it has caught up"
    )]
    Partitions { topic: String, old: String, new: String },
}

struct Used<'a> {
    store: &'a StoreDescription,
    part: &'a SubtopologyDescription,
    kinds: BTreeSet<&'a str>,
}

impl Used<'_> {
    /// Of the operator that it was made for, which is the first one that uses it: others may only read it.
    fn shape(&self) -> Shape {
        let user = self.part.nodes.iter().find(|node| node.stores.contains(&self.store.name));
        user.map_or_else(Shape::default, |node| Shape {
            before: shape::before(self.part, &node.name),
            behind: shape::behind(self.part, &node.name),
        })
    }

    /// It is restored from a topic that the application reads, and that nobody else owns.
    fn of_source_topic(&self) -> bool {
        let mut sources =
            self.part.nodes.iter().filter(|node| node.kind == "source").flat_map(|node| &node.topics);
        sources.any(|topic| Some(topic) == self.store.changelog.as_ref())
    }
}

fn used(of: &TopologyDescription) -> BTreeMap<&str, Used<'_>> {
    let mut all = BTreeMap::new();
    for part in &of.subtopologies {
        for store in &part.stores {
            let users = part.nodes.iter().filter(|node| node.stores.contains(&store.name));
            let kinds = users.map(|node| node.kind.as_str()).collect();
            all.insert(store.name.as_str(), Used { store, part, kinds });
        }
    }
    all
}

/// The topics of others that a sub-topology's records come from.
fn origins(of: &TopologyDescription, part: &SubtopologyDescription) -> BTreeSet<String> {
    let (mut origins, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![part.id]);
    while let Some(id) = next.pop() {
        let Some(part) = of.subtopologies.iter().find(|part| part.id == id && seen.insert(id)) else {
            continue;
        };
        for topic in part.nodes.iter().filter(|node| node.kind == "source").flat_map(|node| &node.topics) {
            if of.repartitions.iter().any(|known| known.topic == *topic) {
                next.extend(writers(of, topic).map(|part| part.id));
            } else {
                origins.insert(topic.clone());
            }
        }
    }
    origins
}

fn writers<'a>(
    of: &'a TopologyDescription,
    topic: &'a str,
) -> impl Iterator<Item = &'a SubtopologyDescription> {
    of.subtopologies.iter().filter(move |part| {
        part.nodes.iter().any(|node| node.kind == "sink" && node.topics.iter().any(|to| to == topic))
    })
}

impl Migration {
    /// What becomes of the state that `old` left behind when `new` follows. `rebuilt` names stores of the new version that are
    /// to be made of their input again, whatever they hold.
    pub fn between(
        old: &TopologyDescription,
        new: &TopologyDescription,
        renames: &Renames,
        rebuilt: &[String],
    ) -> Result<Self, MigrationRefused> {
        if old.application_id != new.application_id {
            let (old, new) = (old.application_id.clone(), new.application_id.clone());
            return Err(MigrationRefused::OtherApplication { old, new });
        }
        let (olds, news) = (used(old), used(new));
        let names = repartition_names(old);
        renames.check(olds.keys().copied().chain(names.iter().map(String::as_str)))?;
        if let Some(name) = rebuilt.iter().find(|name| !news.contains_key(name.as_str())) {
            return Err(MigrationRefused::NoSuchStore { name: name.clone() });
        }
        let stores = pairs(&signatures(old, &olds), &signatures(new, &news), renames)?;
        let mut steps = Vec::new();
        for (from, to) in &stores.both {
            steps.push(step((from, &olds[from.as_str()]), (to, &news[to.as_str()]), rebuilt)?);
        }
        let plain = |used: &Used<'_>, store: &str, fate| StoreStep {
            store: store.to_owned(),
            changelog: used.store.changelog.clone(),
            fate,
        };
        steps.extend(stores.come.iter().map(|name| {
            let asked = rebuilt.contains(name).then(|| Fate::Rebuilt { why: "as asked".to_owned() });
            plain(&news[name.as_str()], name, asked.unwrap_or(Fate::New))
        }));
        steps.extend(stores.gone.iter().map(|name| plain(&olds[name.as_str()], name, Fate::Gone)));
        let again = again::again(new, parts_to_rebuild(&steps, &news));
        mark_rebuilt(&mut steps, again.as_ref());
        let changelog = |of: &BTreeMap<&str, Used<'_>>, name: &str| of[name].store.changelog.clone();
        let mut copies = Vec::new();
        for step in &steps {
            let Fate::Renamed { from } = &step.fate else { continue };
            if let (Some(from), Some(to)) = (changelog(&olds, from), changelog(&news, &step.store)) {
                copies.push(Copied { from, to, repartition: false });
            }
        }
        let repartitions = repartition_pairs(old, new, renames)?;
        let topic = |name: &str| format!("{}-{name}-repartition", old.application_id);
        let comes_again =
            |to: &str| again.as_ref().is_some_and(|again| again.skipped.iter().any(|topic| topic == to));
        for (from, to) in repartitions.both.iter().filter(|(from, to)| from != to) {
            let (from, to) = (topic(from), topic(to));
            if !comes_again(&to) {
                copies.push(Copied { from, to, repartition: true });
            }
        }
        let covered = |name: &&String| {
            let topic = topic(name);
            let origins: BTreeSet<String> =
                writers(old, &topic).flat_map(|part| origins(old, part)).collect();
            again.as_ref().is_some_and(|again| origins.iter().all(|topic| again.sources.contains(topic)))
        };
        let left = repartitions.gone.iter().filter(|name| !covered(name)).map(|name| topic(name)).collect();
        let numbered = stores.both.iter().map(|(from, to)| (from.as_str(), to.as_str()));
        let renames = renames.and_numbers(numbered);
        let clock = |name: &String| renames.of(name).filter(|to| to != name).map(|to| (name.clone(), to));
        Ok(Self {
            application_id: old.application_id.clone(),
            stores: steps,
            copies,
            clocks: old.clocks.iter().filter_map(clock).collect(),
            left,
            again,
        })
    }

    /// Whether the new version finds everything where it looks for it.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.clocks.is_empty() && self.again.is_none() && self.left.is_empty()
    }
}

fn signatures<'a>(
    of: &TopologyDescription,
    used: &BTreeMap<&'a str, Used<'_>>,
) -> BTreeMap<&'a str, Signature> {
    let signature = |used: &Used<'_>| Signature {
        of: format!("{:?} {:?} {:?}", used.store.kind, used.kinds, origins(of, used.part)),
        shape: used.shape(),
    };
    used.iter().map(|(name, used)| (*name, signature(used))).collect()
}

fn step(
    (from, old): (&str, &Used<'_>),
    (to, new): (&str, &Used<'_>),
    rebuilt: &[String],
) -> Result<StoreStep, MigrationRefused> {
    let differs = if old.store.kind != new.store.kind {
        Some(format!("{:?}, before {:?}", new.store.kind, old.store.kind))
    } else if old.store.external != new.store.external {
        Some("kept in another place".to_owned())
    } else if old.kinds.is_disjoint(&new.kinds) {
        let list = |kinds: &BTreeSet<&str>| kinds.iter().copied().collect::<Vec<_>>().join(", ");
        Some(format!("used by {}, before by {}", list(&new.kinds), list(&old.kinds)))
    } else {
        None
    };
    let why = match differs {
        _ if rebuilt.iter().any(|name| name == to) => Some("as asked".to_owned()),
        Some(what) if from != to => {
            return Err(MigrationRefused::OtherKind { from: from.to_owned(), to: to.to_owned(), what });
        }
        Some(what) => Some(what),
        None if old.store.changelog.is_none() && new.store.changelog.is_some() => {
            Some("it had no changelog".to_owned())
        }
        None if new.of_source_topic() != old.of_source_topic() => Some("it has another changelog".to_owned()),
        None => None,
    };
    let fate = match why {
        Some(why) => Fate::Rebuilt { why },
        // There is nothing to copy from, or nothing to copy to.
        None if from != to && (old.store.changelog.is_none() || new.store.changelog.is_none()) => Fate::New,
        None if from != to && !new.of_source_topic() => Fate::Renamed { from: from.to_owned() },
        None => Fate::Kept,
    };
    Ok(StoreStep { store: to.to_owned(), changelog: new.store.changelog.clone(), fate })
}

fn parts_to_rebuild(steps: &[StoreStep], news: &BTreeMap<&str, Used<'_>>) -> BTreeSet<i32> {
    let rebuilt = steps.iter().filter(|step| matches!(step.fate, Fate::Rebuilt { .. }));
    rebuilt.filter_map(|step| Some(news.get(step.store.as_str())?.part.id)).collect()
}

/// What shares its input with a store that is rebuilt would count that input twice.
fn mark_rebuilt(steps: &mut [StoreStep], again: Option<&Again>) {
    let Some(again) = again else { return };
    for step in steps.iter_mut().filter(|step| !matches!(step.fate, Fate::Gone | Fate::Rebuilt { .. })) {
        if again.stores.contains(&step.store) {
            step.fate = Fate::Rebuilt { why: "its input is processed again for others".to_owned() };
        }
    }
}

/// `name` of `<application>-name-repartition`.
fn repartition_names(of: &TopologyDescription) -> Vec<String> {
    let own = format!("{}-", of.application_id);
    let name = |topic: &str| topic.strip_prefix(&own)?.strip_suffix("-repartition").map(str::to_owned);
    of.repartitions.iter().filter_map(|spec| name(&spec.topic)).collect()
}

fn repartition_pairs(
    old: &TopologyDescription,
    new: &TopologyDescription,
    renames: &Renames,
) -> Result<Pairs, MigrationRefused> {
    let topic = |name: &str| format!("{}-{name}-repartition", old.application_id);
    let (olds, news) = (repartition_names(old), repartition_names(new));
    let signed = |of: &TopologyDescription, name: &str| {
        let topic = topic(name);
        let origins: Vec<_> = writers(of, &topic).map(|part| origins(of, part)).collect();
        let around = |kind: &str, shape: fn(&SubtopologyDescription, &str) -> String| -> String {
            let parts =
                of.subtopologies.iter().flat_map(|part| part.nodes.iter().map(move |node| (part, node)));
            let own = parts.filter(|(_, node)| node.kind == kind && node.topics.contains(&topic));
            own.map(|(part, node)| shape(part, &node.name)).collect::<Vec<_>>().join("; ")
        };
        let shape = Shape { before: around("sink", shape::before), behind: around("source", shape::behind) };
        Signature { of: format!("{origins:?}"), shape }
    };
    let sign = |of: &TopologyDescription, names: &'_ [String]| -> Vec<Signature> {
        names.iter().map(|name| signed(of, name)).collect()
    };
    let (old_signs, new_signs) = (sign(old, &olds), sign(new, &news));
    let olds_by = olds.iter().map(String::as_str).zip(old_signs).collect();
    let news_by = news.iter().map(String::as_str).zip(new_signs).collect();
    let pairs = pairs(&olds_by, &news_by, renames)?;
    let declared = |of: &TopologyDescription, name: &str| {
        let topic = topic(name);
        of.repartitions.iter().find(|spec| spec.topic == topic).and_then(|spec| spec.partitions)
    };
    for (from, to) in &pairs.both {
        let (was, is) = (declared(old, from), declared(new, to));
        if let (Some(old), Some(new)) = (was, is)
            && old != new
        {
            let (old, new) = (old.to_string(), new.to_string());
            return Err(MigrationRefused::Partitions { topic: topic(to), old, new });
        }
    }
    Ok(pairs)
}
