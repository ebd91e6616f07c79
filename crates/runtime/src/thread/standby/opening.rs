//! Beginning to follow changelogs: of all tasks whose partitions have leaders, and of the others when they have one.

use std::collections::HashMap;
use std::time::Instant;

use headwater_client::{ClientError, Consumer, ConsumerConfig, Isolation};
use headwater_model::{Offset, TopicPartition};
use headwater_streams::{StoreBackend, Task, TaskId};

use super::super::led::{AWAY_PAUSE, led};
use super::super::open::{Facts, fit_store, store_failed};
use super::{Copy, Following, Freshness, Trouble, Updater, heals};
use crate::assignor::TaskInputs;
use crate::state::StoreId;

/// Whether there is anything to read. A table's topic may have fewer partitions than its task's other topics: whose it lacks has an empty
/// table, which is complete as it is.
fn is_read(copy: &Copy, tasks: &TaskInputs) -> bool {
    let inputs = tasks.get(&copy.task);
    !copy.info.source_topic || inputs.is_some_and(|inputs| inputs.contains(&copy.changelog))
}

/// Where the changelogs of `new` tasks are read: no further than any copy that is made of them is.
fn starts(copies: &[Copy], new: &[TaskId], tasks: &TaskInputs) -> HashMap<TopicPartition, Offset> {
    let of_new = copies.iter().filter(|copy| new.contains(&copy.task) && is_read(copy, tasks));
    let mut starts: HashMap<TopicPartition, Offset> =
        of_new.map(|copy| (copy.changelog.clone(), copy.next)).collect();
    for copy in copies {
        if let Some(next) = starts.get_mut(&copy.changelog) {
            *next = copy.next.min(*next);
        }
    }
    starts
}

impl Updater {
    pub(super) fn open(&self) -> Result<Option<Following>, Trouble> {
        let config = ConsumerConfig { isolation: Isolation::Committed, ..ConsumerConfig::default() };
        let now = Instant::now();
        let mut following = Following {
            tasks: HashMap::new(),
            copies: Vec::new(),
            consumer: Consumer::new(&self.client, config),
            waiting: Vec::new(),
            leaders_at: now,
            limits_at: now,
            ends_at: now,
        };
        let goes_on = self.open_led(&mut following, &self.tasks)?;
        Ok(goes_on.then_some(following))
    }

    /// Looks again for the leaders of what waits, if it is time; `false` if it is to stop.
    pub(super) fn open_waiting(&self, following: &mut Following) -> Result<bool, Trouble> {
        if following.waiting.is_empty() || following.leaders_at.elapsed() < AWAY_PAUSE {
            return Ok(true);
        }
        let waiting = following.waiting.clone();
        match self.open_led(following, &waiting) {
            // Nothing was opened, and what is followed goes on.
            Err(Trouble::Client { what, source }) if heals(&source) => {
                tracing::warn!(thread = self.index, error = %source, "{what}; trying again");
                following.leaders_at = Instant::now();
                Ok(true)
            }
            opened => opened,
        }
    }

    /// Begins to follow the changelogs of those of these tasks whose partitions have leaders; `false` if it is to stop.
    fn open_led(&self, following: &mut Following, tasks: &[TaskId]) -> Result<bool, Trouble> {
        let asked_at = Instant::now();
        let mut stopped = self.stopped.clone();
        let asking = async {
            let (opened, waiting) = led(&self.client, &self.shared, (self.index, true), tasks).await?;
            let facts = match opened.is_empty() {
                true => None,
                false => Some(Facts::of(&self.client, &self.shared, &opened).await?),
            };
            Ok::<_, ClientError>((opened, waiting, facts))
        };
        let told = self.runtime.block_on(async {
            tokio::select! {
                told = asking => Some(told),
                _ = stopped.wait_for(|stop| *stop) => None,
            }
        });
        let Some(told) = told else { return Ok(false) };
        let (opened, waiting, facts) =
            told.map_err(Trouble::client("look up changelogs of standby tasks"))?;
        if let Some(facts) = facts {
            for id in &opened {
                following.copies.extend(self.copies(*id, &facts, asked_at)?);
                following.tasks.insert(*id, self.task(*id)?);
            }
            let starts = starts(&following.copies, &opened, &self.shared.tasks);
            following.consumer.add(starts.into_iter().collect());
        }
        (following.waiting, following.leaders_at) = (waiting, Instant::now());
        Ok(true)
    }

    fn copies(&self, id: TaskId, facts: &Facts, asked_at: Instant) -> Result<Vec<Copy>, Trouble> {
        let mut copies = Vec::new();
        for info in self.shared.topology.stores(id.subtopology) {
            let Some(topic) = &info.changelog else { continue };
            let changelog = TopicPartition::new(topic.as_str(), id.partition);
            let mut lacks = fit_store(&self.shared, id, &info, facts)?;
            if let Some(part) = &mut lacks {
                let loaded = part.load_snapshot(&self.shared, &self.runtime, &mut self.stopped.clone());
                loaded.map_err(store_failed(id))?;
            }
            let (_, end) = facts.log(&changelog, info.source_topic);
            let next = lacks.map_or(end, |part| part.next);
            let limit = if info.source_topic { end } else { Offset::MAX };
            let freshness = Freshness::new(end, asked_at);
            copies.push(Copy { task: id, info, changelog, next, limit, end, freshness });
        }
        Ok(copies)
    }

    /// A task that never processes: it knows how changelog records become entries.
    fn task(&self, id: TaskId) -> Result<Task, Trouble> {
        let mut backends: HashMap<String, Box<dyn StoreBackend>> = HashMap::new();
        for info in self.shared.topology.stores(id.subtopology) {
            let opened = self.shared.stores.open(&StoreId::new(id, info.name.as_str()));
            backends.insert(info.name, opened.map_err(store_failed(id))?);
        }
        let count = |topic: &str| self.shared.counts.get(topic).copied();
        let globals = self.shared.globals.clone();
        self.shared.topology.task(id, backends, globals, &count).map_err(Trouble::task(id))
    }
}

#[cfg(test)]
mod tests {
    use headwater_streams::StoreInfo;

    use super::*;

    fn task(subtopology: i32) -> TaskId {
        TaskId { subtopology, partition: 0 }
    }

    fn at(topic: &str) -> TopicPartition {
        TopicPartition::new(topic, 0)
    }

    /// Of a table whose topic is its changelog.
    fn copy(id: TaskId, topic: &str, next: Offset) -> Copy {
        let info = StoreInfo {
            name: topic.to_owned(),
            changelog: Some(topic.to_owned()),
            kind: headwater_streams::StoreKind::KeyValue,
            source_topic: true,
            external: None,
        };
        Copy {
            task: id,
            info,
            changelog: at(topic),
            next,
            limit: Offset::MAX,
            end: next,
            freshness: Freshness::new(next, Instant::now()),
        }
    }

    fn sorted(starts: HashMap<TopicPartition, Offset>) -> Vec<(TopicPartition, Offset)> {
        let mut starts: Vec<_> = starts.into_iter().collect();
        starts.sort();
        starts
    }

    #[test]
    fn a_changelog_that_another_copy_reads_already_is_read_again_from_where_that_is() {
        let copies = [
            copy(task(0), "t", 4),
            copy(task(0), "other", 2),
            copy(task(1), "t", 9),
            copy(task(1), "own", 5),
        ];
        let inputs =
            TaskInputs::from([(task(0), vec![at("t"), at("other")]), (task(1), vec![at("t"), at("own")])]);
        let of = |new: &[TaskId]| sorted(starts(&copies, new, &inputs));
        assert_eq!(of(&[task(1)]), [(at("own"), 5), (at("t"), 4)]);
        assert_eq!(of(&[task(0)]), [(at("other"), 2), (at("t"), 4)]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_partition_that_a_tables_topic_lacks_is_not_read() {
        let mut copies = [copy(task(0), "narrow", 0), copy(task(0), "app-counts-changelog", 3)];
        copies[1].info.source_topic = false;
        let inputs = TaskInputs::from([(task(0), vec![at("wide")])]);
        assert_eq!(sorted(starts(&copies, &[task(0)], &inputs)), [(at("app-counts-changelog"), 3)]);
    }
}
