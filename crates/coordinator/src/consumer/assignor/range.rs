//! `range`: of each topic a run of partitions to each member, so that topics with equal partitions are co-partitioned.

use std::collections::BTreeSet;

use super::{Assignee, Bucket};
use crate::records::TopicPartitionId;

pub fn assign(assignees: &[Assignee<'_>], buckets: &[Bucket]) -> Vec<BTreeSet<TopicPartitionId>> {
    let mut targets = vec![BTreeSet::new(); assignees.len()];
    for bucket in buckets {
        let mut members = bucket.members.clone();
        // Static members first, by the id that outlives their process.
        members.sort_by_key(|&place| {
            let member = &assignees[place];
            (member.instance_id.is_none(), member.instance_id, member.member_id)
        });
        for &(topic, partitions) in &bucket.topics {
            for (partition, place) in (0..partitions).zip(runs(partitions, &members)) {
                targets[place].insert((topic, partition));
            }
        }
    }
    targets
}

/// For each partition in turn the member that gets it; the first members have one more when it does not come out even.
fn runs(partitions: i32, members: &[usize]) -> impl Iterator<Item = usize> + '_ {
    let partitions = usize::try_from(partitions).unwrap_or(0);
    let (each, more) = (partitions / members.len().max(1), partitions % members.len().max(1));
    members
        .iter()
        .enumerate()
        .flat_map(move |(rank, place)| std::iter::repeat_n(*place, each + usize::from(rank < more)))
}
