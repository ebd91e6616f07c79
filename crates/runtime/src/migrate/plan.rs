//! What a migration takes on this cluster: which offsets are copied, deleted and read again. Nothing is changed here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use headwater_client::{Client, Committed, Consumer, ConsumerConfig, Isolation, OffsetSpec};
use headwater_model::{Offset, Record, TopicPartition};
use headwater_streams::{Copied, Fate, Migration, TopologyDescription, partitions_needed};
use serde::Serialize;

use super::{MigrateError, Options, copying, done, fingerprint, group, note, offsets, parts};

const POLL: Duration = Duration::from_millis(200);
const WATERMARK_HEADER: &str = "__headwater.watermark";

/// A partition that is copied under another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyPart {
    pub from: String,
    pub to: String,
    pub partition: i32,
    /// Where the copy goes on; a run before this one may have come so far.
    pub next: Offset,
    pub end: Offset,
}

/// A partition that the application reads again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResetPart {
    pub topic: String,
    pub partition: i32,
    pub committed: Option<Offset>,
    pub from: Offset,
    pub end: Offset,
    /// What is in it comes again by itself, so nothing of it is read.
    pub skipped: bool,
}

/// A migration on a cluster.
#[derive(Debug, Clone, Serialize)]
pub struct MigrationPlan {
    pub migration: Migration,
    /// Topics that are made, with the partitions of each.
    pub created: BTreeMap<String, i32>,
    /// Topics that are in the way and are deleted first: only with `Options::replace`.
    pub replaced: Vec<String>,
    pub copies: Vec<CopyPart>,
    /// Changelogs of stores that are rebuilt; the application makes them anew.
    pub deleted: Vec<String>,
    pub resets: Vec<ResetPart>,
    /// Input whose beginning is gone: what was in it is not in what is rebuilt.
    pub cut: Vec<String>,
    /// A run before this one did some of it.
    pub resumed: bool,
    /// A run before this one did all of it.
    pub done: bool,
    /// Members of the application's group: with any the plan is not carried out.
    pub members: usize,
    #[serde(skip)]
    pub(super) committed: HashMap<TopicPartition, Committed>,
    /// Where it is noted that all is done.
    #[serde(skip)]
    pub(super) noted_at: TopicPartition,
    #[serde(skip)]
    pub(super) fingerprint: String,
    /// What notes of progress are of.
    #[serde(skip)]
    pub(super) copying: String,
}

impl MigrationPlan {
    /// Offsets that are still to be copied, markers of transactions included.
    pub fn to_copy(&self) -> i64 {
        self.copies.iter().map(|part| (part.end - part.next).max(0)).sum()
    }

    /// Offsets that the application reads again.
    pub fn to_process(&self) -> i64 {
        let read = self.resets.iter().filter(|part| !part.skipped);
        read.map(|part| (part.end - part.from).max(0)).sum()
    }
}

/// Looks at the cluster. `new` is the description that the migration leads to.
pub async fn plan(
    client: &Client,
    migration: &Migration,
    new: &TopologyDescription,
    options: &Options,
) -> Result<MigrationPlan, MigrateError> {
    let topics = client.topics().await.map_err(MigrateError::client("list topics"))?;
    let counts: HashMap<String, i32> =
        topics.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    let application_id = &migration.application_id;
    let committed = client.committed(application_id, None).await;
    let committed = committed.map_err(MigrateError::client("look up the application's offsets"))?;
    let own = format!("{application_id}-");
    let outside = committed.keys().filter(|at| !at.topic.starts_with(&own));
    // Whatever is committed is of a topic that exists; one of the application's own may be deleted soon.
    let Some(noted_at) = outside.min().or_else(|| committed.keys().min()).cloned() else {
        return Err(MigrateError::NeverRan { application_id: application_id.clone() });
    };
    let fingerprint = fingerprint(migration);
    // A run that was killed may have left its transaction open: who executes ends it, and need not wait until it expires.
    let progress = client.committed_until_now(&group(application_id)).await;
    let progress = progress.map_err(MigrateError::client("look up how far a migration is"))?;
    let copying = copying(&fingerprint, migration, &committed);
    let look =
        Look { client, counts: &counts, committed: &committed, progress: &progress, copying: &copying };
    let noted_done = !options.again && progress.get(&noted_at).is_some_and(|at| *at == done(&fingerprint));
    let done = noted_done && !look.has_gone_on(migration, new, &fingerprint).await?;
    let mut plan = MigrationPlan {
        migration: migration.clone(),
        created: BTreeMap::new(),
        replaced: Vec::new(),
        copies: Vec::new(),
        deleted: Vec::new(),
        resets: Vec::new(),
        cut: Vec::new(),
        resumed: false,
        done,
        members: client
            .describe_group(application_id)
            .await
            .map_err(MigrateError::client("look up the members of the group"))?
            .members
            .len(),
        committed: committed.clone(),
        noted_at: noted_at.clone(),
        fingerprint: fingerprint.clone(),
        copying: copying.clone(),
    };
    if done {
        return Ok(plan);
    }
    look.check_partitions(migration, new)?;
    for copied in &migration.copies {
        look.copy(copied, options, &mut plan).await?;
    }
    for topic in &migration.left {
        look.check_left(topic).await?;
    }
    look.again(&mut plan).await?;
    Ok(plan)
}

/// A record of `StreamsBuilder::watermark_interval`, which is of no use to another version.
fn only_says_time(record: &Record) -> bool {
    let bare = record.key.is_none() && record.value.is_none();
    bare && record.headers.iter().any(|header| header.key == WATERMARK_HEADER)
}

struct Look<'a> {
    client: &'a Client,
    counts: &'a HashMap<String, i32>,
    committed: &'a HashMap<TopicPartition, Committed>,
    progress: &'a HashMap<TopicPartition, Committed>,
    copying: &'a str,
}

impl Look<'_> {
    /// Whether more lies in the topics that were copied than when all was done: the old version came back, and what is under the
    /// new names is its state no more.
    async fn has_gone_on(
        &self,
        migration: &Migration,
        new: &TopologyDescription,
        fingerprint: &str,
    ) -> Result<bool, MigrateError> {
        let (ours, last) = (format!("{};", note(0, fingerprint).metadata), done(fingerprint).metadata);
        let is_of_both = |topic: &String| {
            new.subtopologies.iter().any(|part| {
                part.stores.iter().any(|store| store.changelog.as_ref() == Some(topic))
                    || part.nodes.iter().any(|node| node.topics.contains(topic))
            })
        };
        for Copied { from, .. } in migration.copies.iter().filter(|copied| !is_of_both(&copied.from)) {
            // Whoever is done with the old version deletes its topics.
            let Some(count) = self.counts.get(from) else { continue };
            let all = parts(from, *count);
            let ends = offsets(self.client, &all, OffsetSpec::Latest, Isolation::Uncommitted).await?;
            let copied_to = |at: &TopicPartition| {
                let noted = self.progress.get(at)?;
                (noted.metadata.starts_with(&ours) && noted.metadata != last).then_some(noted.offset)
            };
            let grown = |at: &TopicPartition| {
                copied_to(at).zip(ends.get(at)).is_some_and(|(copied_to, end)| copied_to < *end)
            };
            if all.iter().any(grown) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What stays and what is copied must have the partitions that the new version gives it.
    fn check_partitions(&self, migration: &Migration, new: &TopologyDescription) -> Result<(), MigrateError> {
        let copied = |topic: &str| {
            migration.copies.iter().find(|copied| copied.to == topic).map(|copied| &copied.from)
        };
        let count = |topic: &str| self.counts.get(copied(topic).map_or(topic, String::as_str)).copied();
        let rebuilt = |topic: &str| {
            let mut steps = migration.stores.iter().filter(|step| step.changelog.as_deref() == Some(topic));
            steps.any(|step| matches!(step.fate, Fate::Rebuilt { .. }))
        };
        for (topic, needed) in partitions_needed(new, &count) {
            if let Some(found) = count(&topic).filter(|found| *found != needed && !rebuilt(&topic)) {
                let topic = copied(&topic).cloned().unwrap_or(topic);
                return Err(MigrateError::Partitions { topic, found, needed });
            }
        }
        Ok(())
    }

    async fn copy(
        &self,
        copied: &Copied,
        options: &Options,
        plan: &mut MigrationPlan,
    ) -> Result<(), MigrateError> {
        let Copied { from, to, repartition } = copied;
        let count = *self.counts.get(from).ok_or_else(|| MigrateError::NoTopic { topic: from.clone() })?;
        let all = parts(from, count);
        let starts = offsets(self.client, &all, OffsetSpec::Earliest, Isolation::Uncommitted).await?;
        let ends = offsets(self.client, &all, OffsetSpec::Latest, Isolation::Uncommitted).await?;
        // Notes of a version before this one do not say where the application was.
        let before = self.copying.split_once(';').map_or("", |(fingerprint, _)| fingerprint);
        let mine = |at: &TopicPartition| {
            let noted = self.progress.get(at);
            noted.filter(|noted| [self.copying, before].iter().any(|of| **noted == note(noted.offset, of)))
        };
        let resumed = all.iter().any(|at| mine(at).is_some());
        plan.resumed |= resumed;
        if self.counts.contains_key(to) && !resumed && self.holds_records(to).await? {
            if !options.replace {
                return Err(MigrateError::Occupied { topic: to.clone() });
            }
            plan.replaced.push(to.clone());
        } else if let Some(found) = self.counts.get(to).copied().filter(|found| *found != count) {
            return Err(MigrateError::Partitions { topic: to.clone(), found, needed: count });
        }
        plan.created.insert(to.clone(), count);
        for at in all {
            let start = starts.get(&at).copied().unwrap_or(0);
            let read = self.committed.get(&at).map(|committed| committed.offset).filter(|_| *repartition);
            let next = mine(&at).map(|noted| noted.offset).or(read).unwrap_or(start).max(start);
            let end = ends.get(&at).copied().unwrap_or(next);
            plan.copies.push(CopyPart {
                from: from.clone(),
                to: to.clone(),
                partition: at.partition,
                next,
                end,
            });
        }
        Ok(())
    }

    async fn holds_records(&self, topic: &str) -> Result<bool, MigrateError> {
        let all = parts(topic, self.counts.get(topic).copied().unwrap_or(0));
        let ends = offsets(self.client, &all, OffsetSpec::Latest, Isolation::Uncommitted).await?;
        Ok(ends.values().any(|end| *end > 0))
    }

    /// Nothing may be under way in what nobody reads any more. The group's position alone does not say so: it stays before the
    /// markers of the transactions that came last.
    async fn check_left(&self, topic: &str) -> Result<(), MigrateError> {
        let all = parts(topic, self.counts.get(topic).copied().unwrap_or(0));
        let starts = offsets(self.client, &all, OffsetSpec::Earliest, Isolation::Committed).await?;
        let ends = offsets(self.client, &all, OffsetSpec::Latest, Isolation::Committed).await?;
        let read = |at: &TopicPartition| {
            let start = starts.get(at).copied().unwrap_or(0);
            self.committed.get(at).map_or(start, |committed| committed.offset.max(start))
        };
        let behind = all.iter().filter(|at| ends.get(*at).is_some_and(|end| read(at) < *end));
        let mut consumer = Consumer::new(self.client, ConsumerConfig::default());
        consumer.assign(behind.map(|at| (at.clone(), read(at))).collect());
        let left = |consumer: &Consumer| {
            let mut parts = consumer.assignment().into_iter();
            parts.any(|at| consumer.position(&at).is_some_and(|next| next < ends[&at]))
        };
        while left(&consumer) {
            let fetched = consumer.poll(POLL).await.map_err(MigrateError::client("read what is left"))?;
            let records = fetched
                .iter()
                .flat_map(|part| &part.records)
                .filter(|record| !only_says_time(record))
                .count();
            if records > 0 {
                return Err(MigrateError::UnderWay { topic: topic.to_owned(), records });
            }
        }
        Ok(())
    }

    async fn again(&self, plan: &mut MigrationPlan) -> Result<(), MigrateError> {
        let Some(again) = plan.migration.again.clone() else { return Ok(()) };
        let sources = again.sources.iter().map(|topic| (topic, false));
        for (topic, skipped) in sources.chain(again.skipped.iter().map(|topic| (topic, true))) {
            let all = parts(topic, self.counts.get(topic).copied().unwrap_or(0));
            let starts = offsets(self.client, &all, OffsetSpec::Earliest, Isolation::Committed).await?;
            let ends = offsets(self.client, &all, OffsetSpec::Latest, Isolation::Committed).await?;
            for at in all {
                let end = ends.get(&at).copied().unwrap_or(0);
                let start = starts.get(&at).copied().unwrap_or(0);
                if start > 0 && !skipped {
                    plan.cut.push(format!("{at} begins at offset {start}"));
                }
                plan.resets.push(ResetPart {
                    topic: topic.clone(),
                    partition: at.partition,
                    committed: self.committed.get(&at).map(|committed| committed.offset),
                    from: if skipped { end } else { start },
                    end,
                    skipped,
                });
            }
        }
        for step in plan.migration.stores.iter().filter(|step| matches!(step.fate, Fate::Rebuilt { .. })) {
            let Some(changelog) = &step.changelog else { continue };
            let read = again.sources.contains(changelog) || again.skipped.contains(changelog);
            if !read && self.counts.contains_key(changelog) {
                plan.deleted.push(changelog.clone());
            }
        }
        Ok(())
    }
}
