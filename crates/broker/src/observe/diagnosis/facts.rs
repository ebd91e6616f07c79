//! What all questions look at.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_coordinator::{
    DescribedTransaction, FetchedGroup, GroupDescription, OffsetFetch, OffsetFetchGroup, Request, Response,
};
use headwater_log::{FileUse, PartitionId, PartitionUse};
use headwater_model::TimestampMs;

use super::Looked;
use crate::broker::Shared;
use crate::catalog::Topic;
use crate::observe::{PATIENCE, ask, transactions};

/// What the coordinator says; `None` without an answer in time.
pub struct Answers {
    pub transactions: Option<Vec<DescribedTransaction>>,
    pub groups: Option<Vec<(GroupDescription, FetchedGroup)>>,
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

async fn groups(shared: &Shared) -> Option<Vec<(GroupDescription, FetchedGroup)>> {
    let list = Request::ListGroups { states: Vec::new(), types: Vec::new() };
    let Response::ListGroups(listed) = ask(shared, list, PATIENCE).await? else { return None };
    // Of a consumer group with members there is nothing to say; one without is described as any other.
    let listed = listed.into_iter().filter(|group| group.kind == "classic" || group.state == "Empty");
    let ids: Vec<String> = listed.map(|group| group.group_id).collect();
    let fetched = OffsetFetch {
        groups: ids
            .iter()
            .map(|id| OffsetFetchGroup { group_id: id.clone(), member: None, partitions: None })
            .collect(),
        require_stable: false,
    };
    let described = ask(shared, Request::DescribeGroups(ids), PATIENCE).await?;
    let Response::DescribeGroups(described) = described else { return None };
    let Response::OffsetFetch(fetched) = ask(shared, Request::OffsetFetch(fetched), PATIENCE).await? else {
        return None;
    };
    let mut offsets: HashMap<String, FetchedGroup> =
        fetched.into_iter().map(|group| (group.group_id.clone(), group)).collect();
    let together = described.into_iter().filter_map(|group| {
        let offsets = offsets.remove(&group.group_id)?;
        Some((group, offsets))
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
        self.partitions.iter().find(|known| known.index() == partition && known.topic.name() == topic)
    }
}
