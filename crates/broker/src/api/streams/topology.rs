//! A topology from the wire: names where the request has places in lists.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::{InternalTopic, StreamsTopology, Subtopology, is_internal};
use headwater_wire::messages::streams_group_heartbeat_request as wire;

use crate::api::{text, texts};

/// # Errors
/// What is wrong with it, in words.
pub fn topology(given: &wire::Topology) -> Result<StreamsTopology, String> {
    let mut subtopologies = BTreeMap::new();
    for one in &given.subtopologies {
        let id = text(&one.subtopology_id);
        let subtopology = subtopology(one).ok_or_else(|| {
            format!("a copartition group of subtopology {id} names topics that it does not read")
        })?;
        if subtopologies.insert(id.clone(), subtopology).is_some() {
            return Err(format!("subtopology {id} is there twice"));
        }
    }
    let topology = StreamsTopology { epoch: given.epoch, subtopologies };
    check_names(&topology)?;
    Ok(topology)
}

/// Of each subtopology the length of the longest name that its copartition groups refer to, and how often they do.
pub fn referred(given: &wire::Topology) -> impl Iterator<Item = (usize, usize)> {
    given.subtopologies.iter().map(|one| {
        let sources = one.source_topics.iter().map(|name| name.as_str().len());
        let repartitioned = one.repartition_source_topics.iter().map(|topic| topic.name.as_str().len());
        let groups = one.copartition_groups.iter();
        let places = groups.map(|group| group.source_topics.len() + group.repartition_source_topics.len());
        (sources.chain(repartitioned).max().unwrap_or(0), places.sum::<usize>())
    })
}

pub fn has_patterns(given: &wire::Topology) -> bool {
    given.subtopologies.iter().any(|one| !one.source_topic_regex.is_empty())
}

fn subtopology(one: &wire::Subtopology) -> Option<Subtopology> {
    let groups: Option<BTreeSet<_>> =
        one.copartition_groups.iter().map(|group| copartitioned(one, group)).collect();
    Some(Subtopology {
        source_topics: texts(&one.source_topics).into_iter().collect(),
        repartition_sink_topics: texts(&one.repartition_sink_topics).into_iter().collect(),
        repartition_source_topics: one.repartition_source_topics.iter().map(internal).collect(),
        state_changelog_topics: one.state_changelog_topics.iter().map(internal).collect(),
        copartition_groups: groups?,
    })
}

/// The topics of a group by name; `None` when a place is outside its list.
fn copartitioned(one: &wire::Subtopology, group: &wire::CopartitionGroup) -> Option<BTreeSet<String>> {
    let at = |place: &i16| usize::try_from(*place).ok();
    let sources = group.source_topics.iter().map(|place| one.source_topics.get(at(place)?).map(text));
    let repartitioned = group.repartition_source_topics.iter();
    let repartitioned =
        repartitioned.map(|place| Some(text(&one.repartition_source_topics.get(at(place)?)?.name)));
    sources.chain(repartitioned).collect()
}

fn internal(topic: &wire::TopicInfo) -> (String, InternalTopic) {
    let configs = topic.topic_configs.iter().map(|config| (text(&config.key), text(&config.value)));
    let (partitions, replication_factor) = (topic.partitions, topic.replication_factor);
    (text(&topic.name), InternalTopic { partitions, replication_factor, configs: configs.collect() })
}

fn check_names(topology: &StreamsTopology) -> Result<(), String> {
    let listed = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let named = topology.required_topics();
    let kafkas: Vec<&String> = named.iter().copied().filter(|name| is_internal(name)).collect();
    if !kafkas.is_empty() {
        let kafkas = listed(kafkas);
        return Err(format!(
            "Use of Kafka internal topics {kafkas} in a Kafka Streams topology is prohibited."
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = |name: &str| {
        name.is_empty() || name.len() > 249 || matches!(name, "." | "..") || !name.chars().all(legal)
    };
    let wrong: Vec<&String> = named.into_iter().filter(|name| wrong(name)).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("Topic names {} are not valid topic names.", listed(wrong))),
    }
}
