//! Which member of a share group reads which partitions: what Kafka calls the simple assignor.
//!
//! Every partition of a subscribed topic has a member, every member that could have a partition has one; members keep
//! what they have as far as that leaves the shares even. More members than partitions share partitions.

use std::collections::{BTreeMap, BTreeSet};

use crate::records::{TopicId, TopicPartitionId};

/// A member's subscribed topics and what it has.
pub(super) struct Candidate {
    pub topics: BTreeSet<TopicId>,
    pub assigned: BTreeSet<TopicPartitionId>,
}

/// Replaces what the candidates have; `topics` are all subscribed topics with their partition counts.
pub(super) fn assign(topics: &BTreeMap<TopicId, i32>, candidates: &mut [Candidate]) {
    let exists = |(topic, partition): &TopicPartitionId| topics.get(topic).is_some_and(|n| partition < n);
    let all = topics.iter().flat_map(|(topic, count)| (0..*count).map(|partition| (*topic, partition)));
    let all: Vec<TopicPartitionId> = all.collect();
    let quota = all.len().div_ceil(candidates.len().max(1)).max(1);
    // How many members each partition has.
    let mut members: BTreeMap<TopicPartitionId, usize> = all.iter().map(|place| (*place, 0)).collect();
    let most = candidates.len().div_ceil(all.len().max(1)).max(1);
    for candidate in candidates.iter_mut() {
        let kept = std::mem::take(&mut candidate.assigned);
        let kept = kept.into_iter().filter(|place| exists(place) && candidate.topics.contains(&place.0));
        for place in kept {
            let count = members.entry(place).or_default();
            if candidate.assigned.len() < quota && *count < most {
                *count += 1;
                candidate.assigned.insert(place);
            }
        }
    }
    let orphans: Vec<_> = all.iter().copied().filter(|place| members.get(place) == Some(&0)).collect();
    for place in orphans {
        let able = candidates.iter_mut().filter(|candidate| candidate.topics.contains(&place.0));
        if let Some(idlest) = able.min_by_key(|candidate| candidate.assigned.len()) {
            idlest.assigned.insert(place);
            *members.entry(place).or_default() += 1;
        }
    }
    for candidate in candidates.iter_mut().filter(|candidate| candidate.assigned.is_empty()) {
        let able = all.iter().filter(|place| candidate.topics.contains(&place.0));
        if let Some(place) = able.min_by_key(|place| members.get(place).copied()) {
            candidate.assigned.insert(*place);
            *members.entry(*place).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u8) -> TopicId {
        [number; 16]
    }

    fn candidates(count: usize, topics: &[u8]) -> Vec<Candidate> {
        let topics: BTreeSet<_> = topics.iter().map(|number| topic(*number)).collect();
        (0..count).map(|_| Candidate { topics: topics.clone(), assigned: BTreeSet::new() }).collect()
    }

    fn sizes(candidates: &[Candidate]) -> Vec<usize> {
        candidates.iter().map(|candidate| candidate.assigned.len()).collect()
    }

    #[test]
    fn shares_are_even_and_every_partition_has_a_member() {
        let topics = BTreeMap::from([(topic(1), 4), (topic(2), 3)]);
        let mut members = candidates(3, &[1, 2]);
        assign(&topics, &mut members);
        let all: BTreeSet<_> = members.iter().flat_map(|member| &member.assigned).collect();
        assert_eq!(all.len(), 7);
        let mut sizes = sizes(&members);
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 2, 3]);
    }

    #[test]
    fn more_members_than_partitions_share_them_evenly() {
        let mut members = candidates(5, &[1]);
        assign(&BTreeMap::from([(topic(1), 2)]), &mut members);
        assert_eq!(sizes(&members), [1; 5]);
        let of_first = members.iter().filter(|member| member.assigned.contains(&(topic(1), 0))).count();
        assert!((2..=3).contains(&of_first), "{of_first}");
    }

    #[test]
    fn a_member_that_joins_takes_no_more_than_its_share() {
        let topics = BTreeMap::from([(topic(1), 4)]);
        let mut members = candidates(1, &[1]);
        assign(&topics, &mut members);
        let before = members[0].assigned.clone();
        members.extend(candidates(1, &[1]));
        assign(&topics, &mut members);
        assert_eq!(sizes(&members), [2, 2]);
        assert!(members[0].assigned.is_subset(&before));
    }
}
