//! What an operator looks like from outside: by this, those of one kind and one stream are told apart where their names do not.

use std::collections::BTreeSet;

use crate::topology::describe::{NodeDescription, SubtopologyDescription};
use crate::topology::diff::unnumbered;

/// What records have come through before, and what they go through from there on, in their sub-topologies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub before: String,
    pub behind: String,
}

/// Generated names without their numbers, which are others with each operator that comes or goes.
fn plain(name: &str) -> String {
    unnumbered(name).map_or_else(|| name.to_owned(), |(kind, rest)| format!("{kind}{rest}"))
}

fn told(node: &NodeDescription) -> String {
    let topics: Vec<String> = node.topics.iter().map(|topic| plain(topic)).collect();
    format!("{} {} {topics:?}", node.kind, plain(&node.name))
}

/// `first` and all that `next` leads to from there.
fn reached<'a>(
    part: &'a SubtopologyDescription,
    first: &'a str,
    next: impl Fn(&str) -> Vec<&'a str>,
) -> String {
    let (mut all, mut open) = (BTreeSet::new(), vec![first]);
    while let Some(name) = open.pop() {
        if all.insert(name) {
            open.extend(next(name));
        }
    }
    let nodes = part.nodes.iter().filter(|node| all.contains(node.name.as_str()));
    let mut told: Vec<String> = nodes.map(told).collect();
    told.sort();
    told.join("; ")
}

/// The operator `node` of a sub-topology, and what comes before it.
pub(super) fn before(part: &SubtopologyDescription, node: &str) -> String {
    reached(part, node, |name| {
        let leads = |from: &&NodeDescription| from.successors.iter().any(|to| to == name);
        part.nodes.iter().filter(leads).map(|from| from.name.as_str()).collect()
    })
}

/// The operator `node` of a sub-topology, and what comes behind it.
pub(super) fn behind(part: &SubtopologyDescription, node: &str) -> String {
    reached(part, node, |name| {
        let from = part.nodes.iter().filter(|from| from.name == name);
        from.flat_map(|from| &from.successors).map(String::as_str).collect()
    })
}

/// Whether it cannot be told by their order which of `news` is which of `olds`: two changed places, or one came or went that looks like
/// another, or another changed at once. What stands behind an operator may grow without it becoming another.
pub(super) fn is_untold(olds: &[&Shape], news: &[&Shape]) -> bool {
    if olds.len() == news.len() {
        let differs = |place: usize| olds[place] != news[place];
        let is_at = |from: usize| (0..news.len()).any(|to| differs(to) && olds[from] == news[to]);
        return (0..olds.len()).any(|from| differs(from) && is_at(from));
    }
    let (short, long) = if olds.len() < news.len() { (olds, news) } else { (news, olds) };
    let (same, more) = long.split_at(short.len());
    let changed = short.iter().zip(same).any(|(one, other)| one.before != other.before);
    changed || more.iter().any(|more| same.iter().any(|one| one.before == more.before))
}
