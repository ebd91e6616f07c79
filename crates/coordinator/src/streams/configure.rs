//! A topology over the topics there are: how many tasks and internal partitions follow, and what is in the way.
//!
//! Pure. Partitions of a repartition topic are those it was declared with, those of what it must be co-partitioned with, or
//! the most that any subtopology that writes to it reads; a changelog has as many as its subtopology has tasks.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{InternalTopic, StreamsTopology, Subtopology};
use super::request::{StreamsStatus, StreamsStatusKind};
use crate::error::{Error, Failure};
use crate::request::NewTopic;
use crate::topics::Topics;

/// So many topics are named in a message.
const NAMED: usize = 5;

#[derive(Debug)]
pub(super) struct Configured {
    /// How many tasks each subtopology has; empty while topics of users are in the way.
    pub tasks: BTreeMap<String, i32>,
    /// The partitions of internal topics.
    pub partitions: BTreeMap<String, i32>,
    /// What keeps tasks from being assigned.
    pub problem: Option<StreamsStatus>,
    /// Internal topics that are not there.
    pub missing: Vec<NewTopic>,
    /// Of the topics that this follows from.
    pub digest: u64,
}

impl Configured {
    /// # Errors
    /// `STREAMS_INVALID_TOPOLOGY` when the topology cannot be right over any topics.
    pub fn of(topology: &StreamsTopology, topics: &Topics) -> Result<Self, Failure> {
        let digest = topology.digest(topics);
        let planner = Planner { topology, topics, decided: BTreeMap::new() };
        match planner.plan() {
            Ok(plan) => Ok(Self { digest, ..plan }),
            Err(Obstacle::Status(problem)) => Ok(Self {
                tasks: BTreeMap::new(),
                partitions: BTreeMap::new(),
                problem: Some(problem),
                missing: Vec::new(),
                digest,
            }),
            Err(Obstacle::Invalid(message)) => Err(Failure::new(Error::StreamsInvalidTopology, message)),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.problem.is_none()
    }
}

enum Obstacle {
    Status(StreamsStatus),
    Invalid(String),
}

fn incorrectly_partitioned(detail: String) -> Obstacle {
    Obstacle::Status(StreamsStatus { kind: StreamsStatusKind::IncorrectlyPartitionedTopics, detail })
}

fn listed<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} additional topics"));
    }
    text
}

struct Planner<'a> {
    topology: &'a StreamsTopology,
    topics: &'a Topics,
    /// Partitions of internal topics.
    decided: BTreeMap<String, i32>,
}

impl Planner<'_> {
    fn plan(mut self) -> Result<Configured, Obstacle> {
        self.check_sources()?;
        self.decide_repartition_topics()?;
        for subtopology in self.topology.subtopologies.values() {
            for group in &subtopology.copartition_groups {
                self.copartition(group)?;
            }
        }
        let mut tasks = BTreeMap::new();
        for (id, subtopology) in &self.topology.subtopologies {
            let most = self.most(subtopology).ok_or_else(|| {
                Obstacle::Invalid(format!("subtopology {id} does not read any topic: it can have no tasks"))
            })?;
            tasks.insert(id.clone(), most);
            self.decided.extend(subtopology.state_changelog_topics.keys().map(|name| (name.clone(), most)));
        }
        let missing = self.missing()?;
        let names: Vec<&String> = missing.iter().map(|topic| &topic.name).collect();
        let problem = (!missing.is_empty()).then(|| StreamsStatus {
            kind: StreamsStatusKind::MissingInternalTopics,
            detail: format!("Internal topics are missing: {}", listed(names.iter().copied())),
        });
        Ok(Configured { tasks, partitions: self.decided, problem, missing, digest: 0 })
    }

    /// The partitions of a topic that is there, or was decided.
    fn partitions(&self, name: &str) -> Option<i32> {
        let existing = self.topics.get(name).map(|topic| topic.partitions);
        existing.or_else(|| self.decided.get(name).copied())
    }

    /// The most partitions that the tasks of a subtopology read from one topic.
    fn most(&self, subtopology: &Subtopology) -> Option<i32> {
        subtopology.inputs().filter_map(|name| self.partitions(name)).max()
    }

    fn check_sources(&self) -> Result<(), Obstacle> {
        let sources = self.topology.subtopologies.values().flat_map(|one| &one.source_topics);
        let missing: BTreeSet<&String> = sources.filter(|name| self.topics.get(name).is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let kind = StreamsStatusKind::MissingSourceTopics;
        let detail = format!("Source topics {} are missing.", listed(missing.iter().copied()));
        Err(Obstacle::Status(StreamsStatus { kind, detail }))
    }

    fn repartition_topics(&self) -> impl Iterator<Item = (&String, &InternalTopic)> {
        self.topology.subtopologies.values().flat_map(|one| &one.repartition_source_topics)
    }

    fn decide_repartition_topics(&mut self) -> Result<(), Obstacle> {
        let (fixed, open): (Vec<_>, Vec<_>) =
            self.repartition_topics().partition(|(_, topic)| topic.partitions > 0);
        let fixed: Vec<_> = fixed.into_iter().map(|(name, topic)| (name.clone(), topic.partitions)).collect();
        let mut open: BTreeSet<String> = open.into_iter().map(|(name, _)| name.clone()).collect();
        self.decided.extend(fixed);
        while !open.is_empty() {
            let known: Vec<(String, i32)> =
                open.iter().filter_map(|name| Some((name.clone(), self.upstream(name, &open)?))).collect();
            if known.is_empty() {
                return Err(Obstacle::Invalid(format!(
                    "the partitions of the repartition topics {} follow from no other topic: they are read, and nothing writes to them, or they depend on each other",
                    listed(open.iter())
                )));
            }
            open.retain(|name| !known.iter().any(|(other, _)| other == name));
            self.decided.extend(known);
        }
        Ok(())
    }

    /// The most partitions of what is read by those who write to this topic; `None` when not known yet.
    fn upstream(&self, name: &str, open: &BTreeSet<String>) -> Option<i32> {
        let writers = self.topology.subtopologies.values();
        let writers = writers.filter(|one| one.repartition_sink_topics.contains(name));
        let inputs = writers.flat_map(Subtopology::inputs).filter(|input| !open.contains(*input));
        inputs.filter_map(|input| self.partitions(input)).max()
    }

    /// Makes the topics of a group equal, or says why they cannot be.
    fn copartition(&mut self, group: &BTreeSet<String>) -> Result<(), Obstacle> {
        let declared: BTreeMap<String, i32> =
            self.repartition_topics().map(|(name, topic)| (name.clone(), topic.partitions)).collect();
        let counted = |names: Vec<&String>| -> BTreeMap<String, i32> {
            names.into_iter().filter_map(|name| Some((name.clone(), self.partitions(name)?))).collect()
        };
        let (internal, external): (Vec<&String>, Vec<&String>) =
            group.iter().partition(|name| declared.contains_key(*name));
        let fixed: BTreeMap<String, i32> = internal
            .iter()
            .filter_map(|name| Some(((*name).clone(), *declared.get(*name)?)))
            .filter(|(_, partitions)| *partitions > 0)
            .collect();
        let deciding = match (external.is_empty(), fixed.is_empty()) {
            (false, _) => counted(external),
            (true, false) => fixed.clone(),
            (true, true) => BTreeMap::new(),
        };
        let open = internal.iter().copied().filter(|name| !fixed.contains_key(*name));
        let wanted = match deciding.values().next() {
            Some(first) if deciding.values().all(|count| count == first) => *first,
            Some(_) => {
                return Err(incorrectly_partitioned(format!(
                    "Following topics do not have the same number of partitions: {deciding:?}"
                )));
            }
            None => open.clone().filter_map(|name| self.decided.get(name)).max().copied().unwrap_or(0),
        };
        if let Some((name, count)) = fixed.iter().find(|(_, count)| **count != wanted) {
            return Err(incorrectly_partitioned(format!(
                "Number of partitions [{count}] of repartition topic [{name}] doesn't match number of partitions [{wanted}] of the source topic."
            )));
        }
        let open: Vec<String> = open.cloned().collect();
        self.decided.extend(open.into_iter().map(|name| (name, wanted)));
        Ok(())
    }

    /// The internal topics that are not there; those that are must have the partitions that follow.
    fn missing(&self) -> Result<Vec<NewTopic>, Obstacle> {
        let mut missing = BTreeMap::new();
        for subtopology in self.topology.subtopologies.values() {
            let internal =
                subtopology.repartition_source_topics.iter().chain(&subtopology.state_changelog_topics);
            for (name, topic) in internal {
                let wanted = self.decided.get(name).copied().unwrap_or(topic.partitions);
                match self.topics.get(name) {
                    None => drop(missing.insert(name, new_topic(name, wanted, topic))),
                    Some(there) if there.partitions != wanted => {
                        return Err(incorrectly_partitioned(format!(
                            "Existing topic {name} has different number of partitions: expected {wanted}, found {}",
                            there.partitions
                        )));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(missing.into_values().collect())
    }
}

fn new_topic(name: &str, partitions: i32, topic: &InternalTopic) -> NewTopic {
    let configs = topic.configs.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: if topic.replication_factor > 0 { topic.replication_factor } else { -1 },
        configs: configs.collect(),
    }
}
