//! Which store or repartition topic of the new version is which of the old one.
//!
//! A name that an author gave is the same thing in both versions, unless he says that he changed it. A generated name is no
//! more than a place in the program: those of one kind, in one stream, are paired in their order, and only if there are as
//! many of them as before, or if what came or went stands behind the others and looks like none of them. What cannot be told is refused,
//! since state under a wrong name is worse than none.

use std::collections::{BTreeMap, BTreeSet};

use super::MigrationRefused;
use super::shape::{Shape, is_untold};
use crate::topology::diff::unnumbered;

/// What an author calls otherwise than before: an operator, a store, or a repartition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames(Vec<(String, String)>);

impl Renames {
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        // The longer one says more.
        pairs.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        Self(pairs)
    }

    /// What something of the old version is called in the new one, if its name, or what its name begins with, was changed.
    pub(super) fn of(&self, name: &str) -> Option<String> {
        self.rule(name).map(|(_, new)| new)
    }

    fn rule(&self, name: &str) -> Option<(usize, String)> {
        self.0.iter().enumerate().find_map(|(place, (old, new))| {
            let rest = name.strip_prefix(old.as_str())?;
            (rest.is_empty() || rest.starts_with(['-', '/'])).then(|| (place, format!("{new}{rest}")))
        })
    }

    /// With what follows for the names of operators: a generated store name begins with its operator's.
    pub(super) fn and_numbers<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let numbered =
            |name: &str| unnumbered(name).map(|(_, rest)| name[..name.len() - rest.len()].to_owned());
        let more = pairs.filter_map(|(old, new)| Some((numbered(old)?, numbered(new)?)));
        Self::new(self.0.iter().cloned().chain(more))
    }

    /// Refuses those that change no name of `old`.
    pub(super) fn check<'a>(&self, old: impl Iterator<Item = &'a str>) -> Result<(), MigrationRefused> {
        let used: BTreeSet<usize> = old.filter_map(|name| self.rule(name)).map(|(place, _)| place).collect();
        match self.0.iter().enumerate().find(|(place, _)| !used.contains(place)) {
            Some((_, (old, _))) => Err(MigrationRefused::UnknownName { name: old.clone() }),
            None => Ok(()),
        }
    }
}

/// By what a generated name is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// What uses it, and the topics that it comes from.
    pub of: String,
    pub shape: Shape,
}

/// Old name and new name of what is in both; what is in one only.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub both: Vec<(String, String)>,
    pub gone: Vec<String>,
    pub come: Vec<String>,
}

type Names<'a> = BTreeMap<&'a str, Signature>;

pub(super) fn pairs(old: &Names<'_>, new: &Names<'_>, renames: &Renames) -> Result<Pairs, MigrationRefused> {
    let mut pairs = Pairs::default();
    let (mut old_left, mut new_left) = (old.clone(), new.clone());
    for name in old.keys() {
        let Some(to) = renames.of(name) else { continue };
        if new_left.remove(to.as_str()).is_none() {
            return Err(MigrationRefused::NoSuchName { from: (*name).to_owned(), to });
        }
        old_left.remove(name);
        pairs.both.push(((*name).to_owned(), to));
    }
    for (olds, news) in generated(&old_left, &new_left) {
        if is_untold(&shapes(&olds, old), &shapes(&news, new)) {
            return Err(ambiguous(&olds, &news));
        }
        // What came or went stands behind the others in the program.
        if olds.starts_with(&news) || news.starts_with(&olds) {
            continue;
        }
        if olds.len() != news.len() {
            return Err(ambiguous(&olds, &news));
        }
        for (from, to) in olds.iter().zip(&news) {
            pairs.both.push(((*from).to_owned(), (*to).to_owned()));
            old_left.remove(from);
            new_left.remove(to);
        }
    }
    for name in old_left.keys() {
        match new_left.remove(name) {
            Some(now) if unnumbered(name).is_some() && now.of != old_left[name].of => {
                return Err(ambiguous(&[name], &[name]));
            }
            Some(_) => pairs.both.push(((*name).to_owned(), (*name).to_owned())),
            None => pairs.gone.push((*name).to_owned()),
        }
    }
    pairs.come.extend(new_left.into_keys().map(str::to_owned));
    // A name that goes from one to another would need what lies there to be moved away first.
    let moved = pairs.both.iter().find(|(from, to)| from != to && old.contains_key(to.as_str()));
    match moved {
        Some((from, to)) => Err(MigrationRefused::NameTaken { from: from.clone(), to: to.clone() }),
        None => Ok(pairs),
    }
}

fn shapes<'a>(names: &[&str], of: &'a Names<'_>) -> Vec<&'a Shape> {
    names.iter().filter_map(|name| of.get(*name)).map(|signature| &signature.shape).collect()
}

fn ambiguous(old: &[&str], new: &[&str]) -> MigrationRefused {
    MigrationRefused::Ambiguous { old: old.join(", "), new: new.join(", ") }
}

/// Names of the old version and of the new one, each in the order of the program.
type OldAndNew<'a> = (Vec<&'a str>, Vec<&'a str>);

/// Generated names by what they are.
fn generated<'a>(old: &Names<'a>, new: &Names<'a>) -> Vec<OldAndNew<'a>> {
    let mut groups: BTreeMap<(&str, &str, &str), OldAndNew<'a>> = BTreeMap::new();
    for (name, signature) in old {
        let Some((kind, rest)) = unnumbered(name) else { continue };
        groups.entry((kind, rest, &signature.of)).or_default().0.push(name);
    }
    for (name, signature) in new {
        let Some((kind, rest)) = unnumbered(name) else { continue };
        groups.entry((kind, rest, &signature.of)).or_default().1.push(name);
    }
    groups.into_values().filter(|(olds, news)| !olds.is_empty() && !news.is_empty()).collect()
}
