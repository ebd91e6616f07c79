//! What a position means to a store: how far the inputs of its task have to be read.
//!
//! A record of a topic that the task reads is seen when the task has committed what comes after it. One of a topic further
//! up, with repartition topics between, is seen in steps: when the task that reads it has committed it, all that came of it
//! is in the topics that this one writes, before their ends of that moment; and so on down to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_client::{Client, ClientError, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{TaskId, TopologyDescription};
use tokio::time::Instant;

use super::ask::Part;
use super::position::Position;
use super::serving::Seen;
use crate::app::Shared;

/// Between two looks at committed offsets.
const LOOK: Duration = Duration::from_millis(50);

/// Which topics each sub-topology reads and writes.
pub(crate) struct Flows {
    reads: BTreeMap<i32, BTreeSet<String>>,
    writes: BTreeMap<i32, BTreeSet<String>>,
}

impl Flows {
    pub fn new(topology: &TopologyDescription) -> Self {
        let (mut reads, mut writes) = (BTreeMap::new(), BTreeMap::new());
        for part in &topology.subtopologies {
            let of = |kind: &str| -> BTreeSet<String> {
                let nodes = part.nodes.iter().filter(|node| node.kind == kind);
                nodes.flat_map(|node| node.topics.iter().cloned()).collect()
            };
            reads.insert(part.id, of("source"));
            writes.insert(part.id, of("sink"));
        }
        Self { reads, writes }
    }

    pub fn reads(&self, subtopology: i32) -> BTreeSet<String> {
        self.reads.get(&subtopology).cloned().unwrap_or_default()
    }

    /// All topics whose records can come to a sub-topology.
    pub fn leading_to(&self, subtopology: i32) -> BTreeSet<String> {
        let mut leading = self.reads(subtopology);
        loop {
            let before = leading.len();
            for (upstream, written) in &self.writes {
                if !written.is_disjoint(&leading) {
                    leading.extend(self.reads(*upstream));
                }
            }
            if leading.len() == before {
                return leading;
            }
        }
    }

    /// Where what is read of a topic goes on its way to a sub-topology, one step further.
    fn next(&self, topic: &str, to: i32, leading: &BTreeSet<String>) -> BTreeSet<String> {
        let through = self.reads.iter().filter(|(id, read)| **id != to && read.contains(topic));
        let written = through.flat_map(|(id, _)| self.writes.get(id).into_iter().flatten());
        written.filter(|written| leading.contains(*written)).cloned().collect()
    }
}

/// How far the task of a store must have read, or why that is not known.
pub(crate) async fn needs(
    shared: &Shared,
    (store, task): (&str, TaskId),
    position: &Position,
    deadline: Instant,
) -> Result<Seen, Part> {
    let flows = &shared.flows;
    let (own, leading) = (flows.reads(task.subtopology), flows.leading_to(task.subtopology));
    let mut needs = Seen::new();
    let mut steps: Vec<(TopicPartition, Offset)> =
        position.components().map(|(at, offset)| (at.clone(), offset)).collect();
    let mut followed = BTreeSet::new();
    while let Some((at, offset)) = steps.pop() {
        check(shared, store, &leading, &at)?;
        if own.contains(&at.topic) && at.partition == task.partition {
            let next = needs.entry(at.clone()).or_insert(0);
            *next = (*next).max(offset + 1);
        }
        let written = flows.next(&at.topic, task.subtopology, &leading);
        if written.is_empty() || !followed.insert(at.clone()) {
            continue;
        }
        wait_committed(shared, &Seen::from([(at, offset + 1)]), deadline).await?;
        let ends = ends(&shared.client, shared, &written).await.map_err(|error| unknown(&error))?;
        steps.extend(ends.into_iter().filter(|(_, end)| *end > 0).map(|(at, end)| (at, end - 1)));
    }
    Ok(needs)
}

fn check(shared: &Shared, store: &str, leading: &BTreeSet<String>, at: &TopicPartition) -> Result<(), Part> {
    if !leading.contains(&at.topic) {
        let topics = leading.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let detail =
            format!("store {store:?} is not made of {:?}: use positions of records in {topics}", at.topic);
        return Err(Part::Refused { detail });
    }
    let count = shared.counts.get(&at.topic).copied().unwrap_or(i32::MAX);
    if at.partition >= count {
        let detail =
            format!("{:?} has {count} partitions, and the position names {}", at.topic, at.partition);
        return Err(Part::Refused { detail });
    }
    Ok(())
}

/// What is in these topics at this moment, of transactions that are still open, too.
async fn ends(
    client: &Client,
    shared: &Shared,
    topics: &BTreeSet<String>,
) -> Result<Vec<(TopicPartition, Offset)>, ClientError> {
    let mut asked = Vec::new();
    for topic in topics {
        let count = match shared.counts.get(topic) {
            Some(count) => *count,
            None => client.topic(topic).await?.map_or(0, |topic| topic.partitions),
        };
        asked.extend(
            (0..count).map(|partition| (TopicPartition::new(topic.as_str(), partition), OffsetSpec::Latest)),
        );
    }
    Ok(client.list_offsets(&asked, Isolation::Uncommitted).await?.into_iter().collect())
}

/// Waits until the group has committed so much. What is committed is in the changelogs, too.
pub(crate) async fn wait_committed(shared: &Shared, needs: &Seen, deadline: Instant) -> Result<(), Part> {
    let asked: Vec<TopicPartition> = needs.keys().cloned().collect();
    loop {
        let found = shared.client.committed(&shared.config.application_id, Some(&asked));
        let found = found.await.map_err(|error| unknown(&error))?;
        let seen: Seen = found.into_iter().map(|(at, committed)| (at, committed.offset)).collect();
        if covers(&seen, needs) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(not_yet(&seen, needs));
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
    }
}

pub(crate) fn covers(seen: &Seen, needs: &Seen) -> bool {
    needs.iter().all(|(at, next)| seen.get(at).is_some_and(|seen| seen >= next))
}

pub(crate) fn not_yet(seen: &Seen, needs: &Seen) -> Part {
    let lacking = needs.iter().filter(|(at, next)| seen.get(*at).is_none_or(|seen| seen < *next));
    let lacking: Vec<String> = lacking
        .map(|(at, next)| {
            let seen = seen.get(at).copied().unwrap_or(0);
            format!("{at} up to offset {} (it is before {seen})", next - 1)
        })
        .collect();
    Part::NotYet {
        detail: format!("the store has not seen {}; ask again, or with a longer timeout", lacking.join(", ")),
        seen: Position::before(seen),
    }
}

fn unknown(error: &ClientError) -> Part {
    Part::Unavailable { detail: format!("how far the inputs are is not known: {error}; ask again") }
}

#[cfg(test)]
mod tests {
    use headwater_streams::serdes::string;
    use headwater_streams::{Consumed, Grouped, Materialized, StreamsBuilder};

    use super::*;

    #[test]
    fn a_topic_leads_to_a_store_through_repartition_topics() {
        let builder = StreamsBuilder::new("app");
        let lines = builder.stream("lines", Consumed::with(string(), string()));
        let words = lines.group_by(|_, line| line.clone(), Grouped::with(string(), string()).named("words"));
        words.count(Materialized::named("counts").json());
        builder
            .stream("others", Consumed::with(string(), string()))
            .group_by_key(Grouped::with(string(), string()))
            .count(Materialized::named("others").json());
        let topology = builder.build().unwrap();
        let flows = Flows::new(&topology.describe());
        let counts = topology.subtopology_of("counts").unwrap();
        let leading = flows.leading_to(counts);
        let own = flows.reads(counts);
        assert_eq!(own.len(), 1);
        assert!(leading.contains("lines") && !leading.contains("others") && leading.is_superset(&own));
        assert_eq!(flows.next("lines", counts, &leading), own);
        assert!(own.iter().all(|topic| flows.next(topic, counts, &leading).is_empty()));
        let others = topology.subtopology_of("others").unwrap();
        assert_eq!(flows.leading_to(others), BTreeSet::from(["others".to_owned()]));
        assert!(flows.next("others", others, &flows.leading_to(others)).is_empty());
    }
}
