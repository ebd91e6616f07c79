//! Everything a broker has, read through the protocol from the beginning of every partition.

mod aborted;
mod pass;

use std::collections::HashMap;

use anyhow::{Context, Result};

use crate::history::{Growing, History, Place};
use crate::kafka::{Connection, Isolation};
use crate::record::RecordId;
pub use aborted::Aborted;
use pass::Pass;

/// The topic configuration that the workload changes.
pub const CONFIG: &str = "max.message.bytes";

/// One partition as a reader sees it.
#[derive(Debug, Clone, Default)]
pub struct PartitionRead {
    pub log_start: i64,
    pub high_watermark: i64,
    /// What lies at which offset; `Err` tells what is wrong with the bytes.
    pub records: Vec<(i64, Result<RecordId, String>)>,
    /// First and last offset of control batches.
    pub controls: Vec<(i64, i64)>,
    /// The same, read_committed.
    pub committed: Vec<(i64, Result<RecordId, String>)>,
    /// Offsets whose reading the broker refused, with its reason.
    pub refused: Vec<(i64, String)>,
    /// Batches that came with a wrong checksum or that cannot be decoded.
    pub damaged: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct ReadBack {
    /// Topics that exist, with their partitions; internal ones are left out.
    pub topics: HashMap<String, i32>,
    pub partitions: HashMap<Place, PartitionRead>,
    pub configs: HashMap<usize, Option<String>>,
    pub committed: HashMap<(String, Place), i64>,
}

/// Reads whatever the history knows of.
pub fn read_all(connection: &mut Connection, history: &History) -> Result<ReadBack> {
    let mut all = read_records(connection, history, |_| true)?;
    for (topic, known) in history.topics.iter().enumerate() {
        if !known.configs.is_empty() && all.partitions.contains_key(&(topic, 0)) {
            let value = connection.config(&known.name, CONFIG).context("read a configuration")?;
            all.configs.insert(topic, value);
        }
    }
    read_positions(connection, history, &mut all).context("read committed positions")?;
    Ok(all)
}

/// Topics and their records, of those with a name that is wanted.
pub fn read_records(
    connection: &mut Connection,
    history: &History,
    wanted: impl Fn(&str) -> bool,
) -> Result<ReadBack> {
    let mut all = ReadBack::default();
    for topic in connection.topics().context("list topics")? {
        if !topic.internal && !topic.name.starts_with('_') && wanted(&topic.name) {
            all.topics.insert(topic.name, topic.partitions);
        }
    }
    let mut names: Vec<_> = all.topics.iter().map(|(name, count)| (name.clone(), *count)).collect();
    names.sort();
    for (name, partitions) in names {
        let Some(topic) = history.topic_named(&name) else { continue };
        for partition in 0..partitions {
            let read = read_partition(connection, history.seed, &name, partition)
                .with_context(|| format!("read {name}/{partition}"))?;
            all.partitions.insert((topic, partition), read);
        }
    }
    Ok(all)
}

fn read_positions(connection: &mut Connection, history: &History, all: &mut ReadBack) -> Result<()> {
    for ((group, place), Growing { .. }) in &history.committed {
        let topic = &history.topics[place.0];
        if all.partitions.contains_key(place) {
            let at = (topic.name.clone(), place.1);
            let offset = connection.committed_offset(group, &at)?;
            all.committed.insert((group.clone(), *place), offset);
        }
    }
    Ok(())
}

fn read_partition(
    connection: &mut Connection,
    seed: u64,
    topic: &str,
    partition: i32,
) -> Result<PartitionRead> {
    let mut read = PartitionRead::default();
    for isolation in [Isolation::Uncommitted, Isolation::Committed] {
        Pass::new(connection, seed, (topic.to_owned(), partition), isolation, &mut read)?.run()?;
    }
    // Retention may have come between the two readings.
    let log_start = read.log_start;
    read.records.retain(|(offset, _)| *offset >= log_start);
    read.committed.retain(|(offset, _)| *offset >= log_start);
    Ok(read)
}
