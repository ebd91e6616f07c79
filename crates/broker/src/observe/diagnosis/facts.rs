//! What all questions look at.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_coordinator::{
    DescribedTransaction, FetchedGroup, OffsetFetch, OffsetFetchGroup, Request, Response,
};
use headwater_log::{FileUse, PartitionId, PartitionUse};
use headwater_model::TimestampMs;

use super::Looked;
use crate::broker::Shared;
use crate::catalog::Topic;
use crate::observe::{PATIENCE, ask, transactions};

/// A group, whatever its protocol, and what it has committed.
pub struct Group {
    pub has_members: bool,
    pub committed: FetchedGroup,
}

/// What the coordinator says; `None` without an answer in time.
pub struct Answers {
    pub transactions: Option<Vec<DescribedTransaction>>,
    pub groups: Option<Vec<Group>>,
}

impl Answers {
    pub async fn ask(shared: &Shared) -> Self {
        let transactions = transactions::ongoing(shared, PATIENCE).await;
        // An engine that did not answer once need not be asked again.
        let groups = if transactions.is_some() { groups(shared).await } else { None };
        Self { transactions, groups }
    }

    pub fn is_incomplete(&self) -> bool {
        self.transactions.is_none() || self.groups.is_none()
    }
}

async fn groups(shared: &Shared) -> Option<Vec<Group>> {
    let list = Request::ListGroups { states: Vec::new(), types: Vec::new() };
    let Response::ListGroups(mut listed) = ask(shared, list, PATIENCE).await? else { return None };
    // They commit no offsets.
    listed.retain(|group| group.kind != "share");
    let all = |group_id: String| OffsetFetchGroup { group_id, member: None, partitions: None };
    let fetch = OffsetFetch {
        groups: listed.iter().map(|group| all(group.group_id.clone())).collect(),
        require_stable: false,
    };
    let Response::OffsetFetch(fetched) = ask(shared, Request::OffsetFetch(fetch), PATIENCE).await? else {
        return None;
    };
    let mut offsets: HashMap<String, FetchedGroup> =
        fetched.into_iter().map(|group| (group.group_id.clone(), group)).collect();
    let together = listed.into_iter().filter_map(|group| {
        let committed = offsets.remove(&group.group_id)?;
        Some(Group { has_members: group.state != "Empty", committed })
    });
    Some(together.collect())
}

/// A partition with what it is called.
pub struct Known {
    pub topic: Arc<Topic>,
    pub id: PartitionId,
    pub usage: PartitionUse,
}

impl Known {
    pub fn index(&self) -> i32 {
        self.id.partition
    }

    pub fn bytes(&self) -> u64 {
        self.usage.extents.iter().map(|extent| extent.bytes).sum()
    }

    /// `orders/0`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.topic.name(), self.index())
    }
}

pub struct Facts {
    pub shared: Arc<Shared>,
    pub answers: Answers,
    /// The broker's clock.
    pub now: TimestampMs,
    pub topics: usize,
    /// By topic name and index.
    pub partitions: Vec<Known>,
    pub files: Vec<FileUse>,
}

impl Facts {
    pub fn gather(shared: Arc<Shared>, answers: Answers) -> Self {
        let topics = shared.catalog.all();
        let mut partitions = Vec::new();
        for topic in &topics {
            for id in (0..topic.record.partitions).filter_map(|index| topic.partition(index)) {
                // Deleted in between.
                let Ok(usage) = shared.reader.usage(id) else { continue };
                partitions.push(Known { topic: Arc::clone(topic), id, usage });
            }
        }
        let files = shared.reader.files().unwrap_or_default();
        Self { now: shared.clock.now(), topics: topics.len(), partitions, files, answers, shared }
    }

    pub fn looked_at(&self) -> Looked {
        Looked {
            topics: self.topics,
            partitions: self.partitions.len(),
            files: self.files.len(),
            groups: self.answers.groups.as_ref().map_or(0, Vec::len),
            transactions: self.answers.transactions.as_ref().map_or(0, Vec::len),
        }
    }

    pub fn find(&self, topic: &str, partition: i32) -> Option<&Known> {
        let place = |known: &Known| (known.topic.name(), known.index()).cmp(&(topic, partition));
        self.partitions.binary_search_by(place).ok().and_then(|at| self.partitions.get(at))
    }
}
