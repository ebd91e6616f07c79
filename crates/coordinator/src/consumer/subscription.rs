//! What members ask for, as topics that exist: names, and regular expressions over names (RE2 syntax).
//!
//! An expression is matched against whole names, and again whenever topics come or go or access rules change. It matches
//! what the member may describe whose heartbeat has it looked up, as in Apache Kafka; the group shares what was found.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::ConsumerGroup;
use super::records::ConsumerMemberRecord;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::TopicId;
use crate::request::Client;
use crate::topics::Topics;
use crate::{Compiled, whole_match};

/// Different expressions in one group: its members mostly share one, and each may take more than a mebibyte.
const MOST: usize = 256;
/// Of an expression that is refused, in bytes.
const LONGEST_TOLD: usize = 512;

/// A regular expression and the topics it matches.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    topics: BTreeSet<String>,
    /// What it matches has not been looked up.
    is_new: bool,
    /// It is resolved not now but the next time.
    put_off: bool,
}

impl Pattern {
    /// # Errors
    /// `INVALID_REGULAR_EXPRESSION`, with the reason.
    pub fn new(pattern: &str) -> Result<Self, Failure> {
        Self::of(pattern, None)
    }

    /// As [`Self::new`], where it may be compiled already.
    pub fn of(pattern: &str, compiled: Option<&Compiled>) -> Result<Self, Failure> {
        let regex = compiled.map_or_else(|| whole_match(pattern), Compiled::outcome);
        let regex = regex.map_err(|reason| {
            let told = &pattern[..pattern.floor_char_boundary(LONGEST_TOLD)];
            let message =
                format!("SubscribedTopicRegex '{told}' is not a valid regular expression: {reason}");
            Failure::new(Error::InvalidRegularExpression, message)
        })?;
        Ok(Self { regex, topics: BTreeSet::new(), is_new: true, put_off: false })
    }

    fn resolve(&mut self, cx: &Context, topics: &Topics, client: &Client) {
        let names = topics.iter().map(|topic| topic.name.as_str());
        let matched = names.filter(|name| self.regex.is_match(name) && cx.sights.sees(client, name));
        self.topics = matched.map(str::to_owned).collect();
        self.is_new = false;
    }
}

/// FNV-1a: a digest that is the same in every build.
struct Digest(u64);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl ConsumerGroup {
    /// # Errors
    /// `INVALID_REGULAR_EXPRESSION` for one more than a group may have.
    pub(super) fn check_expression(&self, regex: Option<&str>) -> Result<(), Failure> {
        let another = regex.filter(|regex| !regex.is_empty() && !self.patterns.contains_key(*regex));
        if another.is_none() || self.patterns.len() < MOST {
            return Ok(());
        }
        let message = format!(
            "the members of the group ask for topics by {MOST} regular expressions already: ask by one of these, or by names"
        );
        Err(Failure::new(Error::InvalidRegularExpression, message))
    }

    /// Resolves the expressions of all members, again if topics have come or gone since; whether one was put off.
    fn resolve(&mut self, cx: &Context, topics: &Topics, client: &Client) -> bool {
        let used: BTreeSet<&String> =
            self.members.values().filter_map(|member| member.record.regex.as_ref()).collect();
        self.patterns.retain(|pattern, _| used.contains(pattern));
        let changed = self.looks_at_old_topics(cx, topics);
        let mut waits = false;
        for text in used {
            if let Some(pattern) = self.patterns.get_mut(text) {
                if std::mem::take(&mut pattern.put_off) {
                    waits = true;
                } else if changed || pattern.is_new {
                    pattern.resolve(cx, topics, client);
                }
            } else if let Ok(mut pattern) = Pattern::new(text) {
                pattern.resolve(cx, topics, client);
                self.patterns.insert(text.clone(), pattern);
            }
        }
        waits
    }

    /// Looks at the topics as the client may see them now; returns the digest of what is read.
    pub(super) fn look(&mut self, cx: &Context, topics: &Topics, client: &Client) -> u64 {
        // What is seen may change meanwhile, and then it is looked at again.
        let sights = cx.sights.version();
        let waits = self.resolve(cx, topics, client);
        self.seen = (!waits).then_some((topics.version(), sights));
        self.metadata_hash(topics)
    }

    /// Takes in an expression that came compiled, unless it is known.
    pub(super) fn bring(&mut self, regex: &str, compiled: &Compiled) {
        if !self.patterns.contains_key(regex)
            && let Ok(pattern) = Pattern::of(regex, Some(compiled))
        {
            self.patterns.insert(regex.to_owned(), pattern);
        }
    }

    /// Takes in an expression without what it matches, which the next heartbeat finds out. Apache Kafka does so with every
    /// new one; here it is only so where names come with it, because clients expect those first.
    pub(super) fn put_off(&mut self, regex: &str) {
        if let Some(pattern) = self.patterns.get_mut(regex) {
            pattern.put_off |= pattern.is_new;
        } else if let Ok(pattern) = Pattern::new(regex) {
            self.patterns.insert(regex.to_owned(), Pattern { put_off: true, ..pattern });
        }
    }

    /// The names that a member reads, whether they exist or not.
    fn names<'a>(&'a self, member: &'a ConsumerMemberRecord) -> impl Iterator<Item = &'a String> {
        let pattern = member.regex.as_ref().and_then(|regex| self.patterns.get(regex));
        member.topics.iter().chain(pattern.into_iter().flat_map(|pattern| &pattern.topics))
    }

    /// The topics that a member reads and that exist.
    pub(super) fn subscribed(&self, member: &ConsumerMemberRecord, topics: &Topics) -> BTreeSet<TopicId> {
        self.names(member).filter_map(|name| Some(topics.get(name)?.id)).collect()
    }

    pub fn subscribes_to(&self, topic: &str) -> bool {
        let matches = |regex: &String| match self.patterns.get(regex) {
            Some(pattern) => pattern.regex.is_match(topic),
            None => Pattern::new(regex).is_ok_and(|pattern| pattern.regex.is_match(topic)),
        };
        let mut records = self.members.values().map(|member| &member.record);
        records.any(|record| record.topics.contains(topic) || record.regex.as_ref().is_some_and(matches))
    }

    /// Whether topics have come or gone since the group looked, or who may see them, or an expression waits.
    pub(super) fn looks_at_old_topics(&self, cx: &Context, topics: &Topics) -> bool {
        self.seen != Some((topics.version(), cx.sights.version()))
    }

    /// A digest of the topics that anybody reads and of their partitions.
    fn metadata_hash(&self, topics: &Topics) -> u64 {
        let mut names = BTreeSet::new();
        for (record, _) in self.subscriptions() {
            names.extend(self.names(record));
        }
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        for topic in names.into_iter().filter_map(|name| topics.get(name)) {
            digest.add(&topic.id);
            digest.add(&topic.partitions.to_be_bytes());
        }
        digest.0
    }

    /// The members by what they ask for; a group has few different subscriptions.
    pub(super) fn subscriptions(&self) -> Vec<(&ConsumerMemberRecord, Vec<&str>)> {
        type Members<'a> = (&'a ConsumerMemberRecord, Vec<&'a str>);
        let mut kinds: BTreeMap<(&BTreeSet<String>, &Option<String>), Members<'_>> = BTreeMap::new();
        for (id, member) in &self.members {
            let record = &member.record;
            let kind = kinds.entry((&record.topics, &record.regex)).or_insert_with(|| (record, Vec::new()));
            kind.1.push(id);
        }
        kinds.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().regex.is_match(name)
    }

    #[test]
    fn an_expression_matches_whole_names() {
        assert!(matches("ord.*", "orders"));
        assert!(!matches("ord", "orders"));
        assert!(matches("a|ab", "ab"));
        assert!(matches("^orders$", "orders"));
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused_with_the_reason() {
        for pattern in ["[", "a)(b", "(?=x)", "(a{1000}){1000}"] {
            let failure = Pattern::new(pattern).unwrap_err();
            assert_eq!(failure.error, Error::InvalidRegularExpression, "{pattern}");
            assert!(failure.message.contains(pattern), "{failure}");
        }
    }

    /// A class like this one takes a thousand times its length, so that a request of it would take all memory.
    #[test]
    fn what_is_too_long_is_neither_read_nor_told_again() {
        let failure = Pattern::new(&r"\pL".repeat(1 << 20)).unwrap_err();
        assert_eq!(failure.error, Error::InvalidRegularExpression);
        assert!(failure.message.contains("longer than") && failure.message.len() < 1_000, "{failure}");
    }
}
