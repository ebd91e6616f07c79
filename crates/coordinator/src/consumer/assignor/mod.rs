//! The server-side assignors: who should have which partition.
//!
//! Pure functions of the members, what they have and what they read. Invariant: every partition of a bucket goes to
//! exactly one of the bucket's members.

mod range;
mod uniform;

use std::collections::BTreeSet;

use crate::records::{TopicId, TopicPartitionId};

/// The names that members may ask for.
pub const ASSIGNORS: [&str; 2] = ["uniform", "range"];
pub(super) const DEFAULT: &str = "uniform";

pub(super) struct Assignee<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    /// What it should have so far.
    pub target: &'a BTreeSet<TopicPartitionId>,
}

/// Topics that the same members read.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Places in the list of assignees.
    pub members: Vec<usize>,
    /// Each with the number of its partitions.
    pub topics: Vec<(TopicId, i32)>,
}

/// The target of each assignee, in their order.
pub(super) fn assign(
    name: &str,
    assignees: &[Assignee<'_>],
    buckets: &[Bucket],
) -> Vec<BTreeSet<TopicPartitionId>> {
    match name {
        "range" => range::assign(assignees, buckets),
        _ => uniform::assign(assignees, buckets),
    }
}
