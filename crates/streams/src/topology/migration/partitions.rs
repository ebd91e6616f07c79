//! How many partitions the topics of the new version need, from its description and the topics that exist.

use std::collections::BTreeMap;

use crate::topology::describe::{SubtopologyDescription, TopologyDescription};

fn sources(part: &SubtopologyDescription) -> impl Iterator<Item = &String> {
    part.nodes.iter().filter(|node| node.kind == "source").flat_map(|node| &node.topics)
}

/// Changelogs and repartition topics by name, with the partitions that each needs. What depends on topics that do not
/// exist is left out: the application itself checks it when it starts.
pub fn partitions_needed(
    of: &TopologyDescription,
    existing: &dyn Fn(&str) -> Option<i32>,
) -> BTreeMap<String, i32> {
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    let internal = |topic: &str| of.repartitions.iter().find(|spec| spec.topic == topic);
    for topic in of.subtopologies.iter().flat_map(sources) {
        let count = match internal(topic) {
            Some(spec) => spec.partitions,
            None => existing(topic),
        };
        counts.extend(count.map(|count| (topic.clone(), count)));
    }
    // A repartition topic without a number of its own has that of the widest topic that its writers read.
    loop {
        let open = |topic: &str| !counts.contains_key(topic);
        let widest = of.repartitions.iter().filter(|spec| open(&spec.topic)).find_map(|spec| {
            let writes = |part: &&SubtopologyDescription| {
                part.nodes.iter().any(|node| node.kind == "sink" && node.topics.contains(&spec.topic))
            };
            let above = of
                .subtopologies
                .iter()
                .filter(writes)
                .flat_map(sources)
                .filter(|topic| **topic != spec.topic);
            let known: Option<Vec<i32>> = above.map(|topic| counts.get(topic).copied()).collect();
            let widest = known?.into_iter().max()?;
            // One that is joined with a topic has that one's number. Joins are not in a description; that the topic exists with
            // such a number is.
            let reads = |part: &&SubtopologyDescription| sources(part).any(|topic| *topic == spec.topic);
            let mut beside =
                of.subtopologies.iter().filter(reads).flat_map(sources).filter_map(|topic| counts.get(topic));
            let joined = existing(&spec.topic).filter(|count| beside.any(|other| other == count));
            Some((spec.topic.clone(), joined.unwrap_or(widest)))
        });
        let Some((topic, count)) = widest else { break };
        counts.insert(topic, count);
    }
    let mut needed: BTreeMap<String, i32> = counts
        .iter()
        .filter(|(topic, _)| internal(topic).is_some())
        .map(|(topic, n)| (topic.clone(), *n))
        .collect();
    for part in &of.subtopologies {
        let tasks: Option<Vec<i32>> = sources(part).map(|topic| counts.get(topic).copied()).collect();
        let Some(tasks) = tasks.and_then(|counts| counts.into_iter().max()) else { continue };
        let own = part.stores.iter().filter_map(|store| store.changelog.clone());
        needed.extend(
            own.filter(|topic| sources(part).all(|source| source != topic)).map(|topic| (topic, tasks)),
        );
    }
    needed
}
