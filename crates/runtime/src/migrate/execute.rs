//! Carrying a plan out: topics are made, records copied, changelogs deleted, and at last the application's offsets moved.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use headwater_client::{
    Client, ClientError, Committed, Consumer, ConsumerConfig, Fetched, GroupMetadata, Isolation, NewTopic,
    OffsetSpec, Producer, ProducerConfig, RecordRef,
};
use headwater_model::{Offset, Record, TopicPartition};
use headwater_streams::{Migration, TopologyDescription, rename_clocks, reprocess_until};
use serde::Serialize;

use super::plan::{CopyPart, MigrationPlan, ResetPart, plan};
use super::{MigrateError, Options, done, group, note, offsets};

const POLL: Duration = Duration::from_millis(200);
/// How long the transaction of an instance that was killed, and the deletion of a topic, are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// How far the copying is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// Offsets copied by this run, and those that it has to copy.
    pub offsets: i64,
    pub of: i64,
    pub records: u64,
}

/// Plans and carries it out, telling `progress` before each commit; what that breaks off is gone on with by the next run.
pub async fn execute(
    client: &Client,
    migration: &Migration,
    new: &TopologyDescription,
    options: &Options,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<MigrationPlan, MigrateError> {
    let first = plan(client, migration, new, options).await?;
    if first.done {
        return Ok(first);
    }
    stopped(&first)?;
    // It fences a run that still goes on, and aborts what one that was killed left open.
    let config = ProducerConfig {
        transactional_id: Some(group(&migration.application_id)),
        keeps_kinds: false,
        ..ProducerConfig::default()
    };
    let producer =
        Producer::new(client, config).await.map_err(MigrateError::client("become the one who migrates"))?;
    for copied in &migration.copies {
        settled(client, &first, &copied.from).await?;
    }
    let planned = plan(client, migration, new, options).await?;
    // The run before was killed within its very last transaction, which has been carried out.
    if planned.done {
        return Ok(planned);
    }
    stopped(&planned)?;
    for topic in &planned.replaced {
        delete(client, topic).await?;
    }
    for (topic, partitions) in &planned.created {
        create(client, &planned, topic, *partitions, options).await?;
    }
    begin(client, &planned).await?;
    Copying { client, producer: &producer, plan: &planned, options }.run(&mut progress).await?;
    for topic in &planned.deleted {
        delete(client, topic).await?;
    }
    finish(&producer, &planned).await?;
    Ok(planned)
}

fn stopped(plan: &MigrationPlan) -> Result<(), MigrateError> {
    match plan.members {
        0 => Ok(()),
        members => {
            Err(MigrateError::Running { application_id: plan.migration.application_id.clone(), members })
        }
    }
}

/// Waits until no transaction is open in a topic that is copied: what comes after its first record is not read before.
async fn settled(client: &Client, plan: &MigrationPlan, topic: &str) -> Result<(), MigrateError> {
    let of = plan.copies.iter().filter(|part| part.from == topic);
    let parts: Vec<TopicPartition> = of.map(|part| TopicPartition::new(topic, part.partition)).collect();
    let begun = Instant::now();
    loop {
        let stable = offsets(client, &parts, OffsetSpec::Latest, Isolation::Committed).await?;
        let ends = offsets(client, &parts, OffsetSpec::Latest, Isolation::Uncommitted).await?;
        if stable == ends {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(MigrateError::OpenTransaction { topic: topic.to_owned() });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes a topic, if it is there, and waits until the broker knows nothing of it: what is written to one of the same name
/// must not end in the old one.
async fn delete(client: &Client, topic: &str) -> Result<(), MigrateError> {
    let failed = MigrateError::client("delete a topic");
    match client.delete_topic(topic).await {
        Ok(()) | Err(ClientError::UnknownTopic(_)) => {}
        Err(error) => return Err(failed(error)),
    }
    let begun = Instant::now();
    while client.topic(topic).await.map_err(&failed)?.is_some() {
        if begun.elapsed() >= PATIENCE {
            return Err(failed(ClientError::TopicExists(topic.to_owned())));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Makes a topic like the one that is copied to it.
async fn create(
    client: &Client,
    plan: &MigrationPlan,
    topic: &str,
    partitions: i32,
    options: &Options,
) -> Result<(), MigrateError> {
    let failed = MigrateError::client("make a topic");
    let mut new = NewTopic::new(topic, partitions).replication(options.replication);
    if let Some(copied) = plan.migration.copies.iter().find(|copied| copied.to == topic) {
        for entry in client.topic_configs(&copied.from).await.map_err(&failed)? {
            let set = !entry.is_default && !entry.read_only && !entry.sensitive;
            if let Some(value) = entry.value.filter(|_| set) {
                new = new.config(entry.name, value);
            }
        }
    }
    client.ensure_topic(new).await.map_err(failed)
}

/// Notes where copying begins, so that what a killed run leaves in a topic is known as this migration's, and that it is not done
/// (any more, if the old version came back).
async fn begin(client: &Client, plan: &MigrationPlan) -> Result<(), MigrateError> {
    let noted = plan.copies.iter().map(|part| {
        let at = TopicPartition::new(part.from.as_str(), part.partition);
        (at, note(part.next, &plan.copying))
    });
    if plan.copies.is_empty() {
        return Ok(());
    }
    let mut all = HashMap::from([(plan.noted_at.clone(), note(0, &plan.copying))]);
    all.extend(noted);
    let begun = client.commit_offsets(&group(&plan.migration.application_id), &all).await;
    begun.map_err(MigrateError::client("note where copying begins"))
}

struct Copying<'a> {
    client: &'a Client,
    producer: &'a Producer,
    plan: &'a MigrationPlan,
    options: &'a Options,
}

impl Copying<'_> {
    async fn run(&self, progress: &mut impl FnMut(Progress) -> ControlFlow<()>) -> Result<(), MigrateError> {
        let read = MigrateError::client("read what is copied");
        let mut left: BTreeMap<TopicPartition, &CopyPart> = BTreeMap::new();
        for part in self.plan.copies.iter().filter(|part| part.next < part.end) {
            left.insert(TopicPartition::new(part.from.as_str(), part.partition), part);
        }
        let mut consumer = Consumer::new(self.client, ConsumerConfig::default());
        consumer.assign(left.iter().map(|(at, part)| (at.clone(), part.next)).collect());
        let mut told = Progress { of: self.plan.to_copy(), ..Progress::default() };
        let mut at_once = Batch::default();
        while !left.is_empty() {
            for fetched in consumer.poll(POLL).await.map_err(&read)? {
                let Some(part) = left.get(&fetched.topic_partition) else { continue };
                for piece in pieces(&fetched, part.end, self.options.batch) {
                    self.take(part, &fetched.topic_partition, piece, &mut at_once, &mut told).await?;
                    if at_once.records >= self.options.batch {
                        self.commit(&mut at_once, &mut told, progress).await?;
                    }
                }
            }
            // Markers and what was aborted move a position without a record.
            let ended = |(at, part): &(TopicPartition, &CopyPart)| {
                consumer.position(at).is_some_and(|next| next >= part.end)
            };
            let over: Vec<_> = left.iter().map(|(at, part)| (at.clone(), *part)).filter(ended).collect();
            for (at, part) in over {
                at_once.positions.insert(at.clone(), part.end);
                left.remove(&at);
                consumer.remove(&[at]);
            }
        }
        self.commit(&mut at_once, &mut told, progress).await
    }

    async fn take(
        &self,
        part: &CopyPart,
        at: &TopicPartition,
        (piece, next): (&[Record], Offset),
        at_once: &mut Batch,
        told: &mut Progress,
    ) -> Result<(), MigrateError> {
        let write = MigrateError::client("write what is copied");
        if !at_once.open {
            self.producer.begin_transaction().await.map_err(&write)?;
            at_once.open = true;
        }
        let records = piece.iter().map(|record| RecordRef {
            topic: &part.to,
            partition: Some(part.partition),
            timestamp: Some(record.timestamp),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        });
        self.producer.send_all(records, |_, delivery| drop(delivery)).await.map_err(&write)?;
        let before = at_once.reached.insert(at.clone(), next);
        told.offsets += next - before.unwrap_or(part.next);
        told.records += piece.len() as u64;
        at_once.records += piece.len();
        at_once.positions.insert(at.clone(), next);
        Ok(())
    }

    /// What was written, and how far that is, in one transaction.
    async fn commit(
        &self,
        at_once: &mut Batch,
        told: &mut Progress,
        progress: &mut impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), MigrateError> {
        let positions = std::mem::take(&mut at_once.positions);
        if positions.is_empty() {
            return Ok(());
        }
        at_once.records = 0;
        let failed = MigrateError::client("commit what is copied");
        let noted = positions.into_iter().map(|(at, next)| (at, note(next, &self.plan.copying)));
        let noted: HashMap<TopicPartition, Committed> = noted.collect();
        let member = GroupMetadata::simple(group(&self.plan.migration.application_id));
        let open = std::mem::take(&mut at_once.open);
        if open {
            self.producer.send_offsets(&member, &noted).await.map_err(&failed)?;
        }
        if progress(*told).is_break() {
            // As a kill would: the transaction is left open.
            return Err(MigrateError::Interrupted);
        }
        match open {
            true => self.producer.commit_transaction().await.map_err(failed),
            false => self.client.commit_offsets(&member.group_id, &noted).await.map_err(failed),
        }
    }
}

/// What of a fetch lies before `end`, at most `batch` records at once, and the position that each piece leads to.
fn pieces(fetched: &Fetched, end: Offset, batch: usize) -> Vec<(&[Record], Offset)> {
    let wanted = fetched.records.partition_point(|record| record.offset < end);
    let mut pieces: Vec<_> = fetched.records[..wanted]
        .chunks(batch.max(1))
        .map(|piece| (piece, piece.last().map_or(0, |last| last.offset + 1)))
        .collect();
    if let Some((_, next)) = pieces.last_mut() {
        *next = fetched.next_offset.min(end);
    }
    pieces
}

#[derive(Default)]
struct Batch {
    records: usize,
    /// A transaction has begun.
    open: bool,
    /// Of this transaction.
    positions: HashMap<TopicPartition, Offset>,
    /// Of this run.
    reached: HashMap<TopicPartition, Offset>,
}

/// The application's offsets and the note that all is done, in one transaction. A broker refuses it if the group has members.
async fn finish(producer: &Producer, plan: &MigrationPlan) -> Result<(), MigrateError> {
    let failed = MigrateError::client("move the application's offsets");
    let application = GroupMetadata::simple(&plan.migration.application_id);
    let notes = GroupMetadata::simple(group(&plan.migration.application_id));
    let all_done = HashMap::from([(plan.noted_at.clone(), done(&plan.fingerprint))]);
    producer.begin_transaction().await.map_err(&failed)?;
    producer.send_offsets(&application, &positions(plan)).await.map_err(&failed)?;
    producer.send_offsets(&notes, &all_done).await.map_err(&failed)?;
    producer.commit_transaction().await.map_err(failed)
}

/// Where the new version begins, where that is not where the old one ended.
fn positions(plan: &MigrationPlan) -> HashMap<TopicPartition, Committed> {
    let renamed = &plan.migration.clocks;
    let mut all = HashMap::new();
    if !renamed.is_empty() {
        for (at, committed) in &plan.committed {
            let metadata = rename_clocks(&committed.metadata, renamed);
            all.insert(at.clone(), Committed { metadata, ..committed.clone() });
        }
    }
    // A repartition topic under its new name begins with what was not read yet, and with the clocks of what was.
    for copied in plan.migration.copies.iter().filter(|copied| copied.repartition) {
        for (at, committed) in plan.committed.iter().filter(|(at, _)| at.topic == copied.from.as_str()) {
            let metadata = rename_clocks(&committed.metadata, renamed);
            let begun = Committed { offset: 0, metadata, leader_epoch: None };
            all.insert(TopicPartition::new(copied.to.as_str(), at.partition), begun);
        }
    }
    for ResetPart { topic, partition, from, end, skipped, .. } in &plan.resets {
        let metadata = if *skipped || from >= end { String::new() } else { reprocess_until(*end) };
        let begun = Committed { offset: *from, metadata, leader_epoch: None };
        all.insert(TopicPartition::new(topic.as_str(), *partition), begun);
    }
    all
}
