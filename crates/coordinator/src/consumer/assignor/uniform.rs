//! `uniform`: as even as the subscriptions allow, moving as little as that takes.
//!
//! Everybody keeps what it has and still reads; what nobody has goes to who has least; then partitions move from who has
//! more to who has less until no single move makes it more even. Each move lowers the sum of the squares of the loads,
//! so it ends.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignee, Bucket};
use crate::records::{TopicId, TopicPartitionId};

pub fn assign(assignees: &[Assignee<'_>], buckets: &[Bucket]) -> Vec<BTreeSet<TopicPartitionId>> {
    let mut shares = Shares::kept(assignees, buckets);
    // Who can be given little is served first.
    let mut order: Vec<usize> = (0..buckets.len()).collect();
    order.sort_by_key(|&bucket| buckets[bucket].members.len());
    for &bucket in &order {
        shares.hand_out(bucket, &buckets[bucket]);
    }
    // All buckets in each round: with many, to begin anew after each that changed would take much longer.
    let mut moved = true;
    while moved {
        moved = false;
        for &bucket in &order {
            moved |= shares.even_out(bucket, &buckets[bucket]);
        }
    }
    shares.targets()
}

/// What each member has of each bucket, and in all.
struct Shares {
    of_bucket: Vec<BTreeMap<usize, BTreeSet<TopicPartitionId>>>,
    loads: Vec<usize>,
}

impl Shares {
    fn kept(assignees: &[Assignee<'_>], buckets: &[Bucket]) -> Self {
        let mut bucket_of: BTreeMap<TopicId, (usize, i32)> = BTreeMap::new();
        for (bucket, topics) in buckets.iter().enumerate() {
            bucket_of.extend(topics.topics.iter().map(|(topic, partitions)| (*topic, (bucket, *partitions))));
        }
        let readers: Vec<BTreeSet<usize>> =
            buckets.iter().map(|bucket| bucket.members.iter().copied().collect()).collect();
        let mut of_bucket = vec![BTreeMap::<usize, BTreeSet<_>>::new(); buckets.len()];
        let mut loads = vec![0; assignees.len()];
        for (place, assignee) in assignees.iter().enumerate() {
            for partition in assignee.target {
                let Some((bucket, partitions)) = bucket_of.get(&partition.0) else { continue };
                if readers[*bucket].contains(&place) && (0..*partitions).contains(&partition.1) {
                    of_bucket[*bucket].entry(place).or_default().insert(*partition);
                    loads[place] += 1;
                }
            }
        }
        Self { of_bucket, loads }
    }

    fn queue(&self, bucket: &Bucket) -> BTreeSet<(usize, usize)> {
        bucket.members.iter().map(|&place| (self.loads[place], place)).collect()
    }

    /// Gives what nobody has to who has least.
    fn hand_out(&mut self, number: usize, bucket: &Bucket) {
        let held: BTreeSet<TopicPartitionId> = self.of_bucket[number].values().flatten().copied().collect();
        let all =
            bucket.topics.iter().flat_map(|&(topic, count)| (0..count).map(move |index| (topic, index)));
        let mut queue = self.queue(bucket);
        for partition in all.filter(|partition| !held.contains(partition)) {
            let Some((load, place)) = queue.pop_first() else { return };
            self.of_bucket[number].entry(place).or_default().insert(partition);
            self.loads[place] = load + 1;
            queue.insert((load + 1, place));
        }
    }

    /// Moves partitions of the bucket while that makes the loads more even; whether any moved.
    fn even_out(&mut self, number: usize, bucket: &Bucket) -> bool {
        let mut queue = self.queue(bucket);
        let mut moved = false;
        while let Some(&(least, poor)) = queue.first() {
            let shares = &self.of_bucket[number];
            let gives =
                |(_, place): &&(usize, usize)| shares.get(place).is_some_and(|share| !share.is_empty());
            let Some(&(most, rich)) = queue.iter().rev().find(gives) else { break };
            if most < least + 2 {
                break;
            }
            queue.remove(&(least, poor));
            queue.remove(&(most, rich));
            if let Some(partition) = self.of_bucket[number].entry(rich).or_default().pop_last() {
                self.of_bucket[number].entry(poor).or_default().insert(partition);
            }
            (self.loads[rich], self.loads[poor]) = (most - 1, least + 1);
            queue.extend([(most - 1, rich), (least + 1, poor)]);
            moved = true;
        }
        moved
    }

    fn targets(self) -> Vec<BTreeSet<TopicPartitionId>> {
        let mut targets = vec![BTreeSet::new(); self.loads.len()];
        for (place, share) in self.of_bucket.into_iter().flatten() {
            targets[place].extend(share);
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(number: usize) -> TopicId {
        let mut id = [0; 16];
        id[0] = number as u8;
        id
    }

    /// Buckets as the group makes them, from who reads which topic.
    fn buckets(reads: &[Vec<bool>], partitions: &[i32]) -> Vec<Bucket> {
        let mut made: BTreeMap<Vec<usize>, Vec<(TopicId, i32)>> = BTreeMap::new();
        for (number, count) in partitions.iter().enumerate() {
            let readers: Vec<usize> = (0..reads.len()).filter(|&place| reads[place][number]).collect();
            if !readers.is_empty() {
                made.entry(readers).or_default().push((topic(number), *count));
            }
        }
        made.into_iter().map(|(members, topics)| Bucket { members, topics }).collect()
    }

    fn run(targets: &[BTreeSet<TopicPartitionId>], buckets: &[Bucket]) -> Vec<BTreeSet<TopicPartitionId>> {
        let ids: Vec<String> = (0..targets.len()).map(|place| format!("m{place}")).collect();
        let assignees: Vec<_> = targets
            .iter()
            .zip(&ids)
            .map(|(target, member_id)| Assignee { member_id, instance_id: None, target })
            .collect();
        let uniform = assign(&assignees, buckets);
        for assigned in [&uniform, &super::super::range::assign(&assignees, buckets)] {
            let all: Vec<_> = assigned.iter().flatten().collect();
            let wanted: i32 = buckets.iter().flat_map(|bucket| &bucket.topics).map(|(_, count)| count).sum();
            assert_eq!(all.len(), wanted as usize, "each partition once");
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "no partition twice");
            for (place, (topic, _)) in
                assigned.iter().enumerate().flat_map(|(place, share)| share.iter().map(move |p| (place, p)))
            {
                let bucket = buckets.iter().find(|bucket| bucket.topics.iter().any(|(id, _)| id == topic));
                assert!(bucket.unwrap().members.contains(&place), "only who reads the topic gets it");
            }
        }
        uniform
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_single_move_makes_it_more_even(
            (reads, partitions) in (1..7usize, 1..5usize).prop_flat_map(|(members, topics)| (
                prop::collection::vec(prop::collection::vec(any::<bool>(), topics), members),
                prop::collection::vec(1..9i32, topics),
            )),
        ) {
            let buckets = buckets(&reads, &partitions);
            let none = vec![BTreeSet::new(); reads.len()];
            let first = run(&none, &buckets);
            prop_assert_eq!(run(&first, &buckets), first.clone(), "what is even stays");
            for (rich, share) in first.iter().enumerate() {
                for (topic, _) in share {
                    for poor in (0..reads.len()).filter(|&poor| reads[poor][topic[0] as usize]) {
                        prop_assert!(first[rich].len() <= first[poor].len() + 1);
                    }
                }
            }
        }

        #[test]
        fn a_new_member_takes_no_more_than_its_share(members in 1..20usize, partitions in 1..60i32) {
            let reads = vec![vec![true]; members + 1];
            let before = run(&vec![BTreeSet::new(); members], &buckets(&reads[..members], &[partitions]));
            let mut targets = before.clone();
            targets.push(BTreeSet::new());
            let after = run(&targets, &buckets(&reads, &[partitions]));
            let moved: usize = before.iter().zip(&after).map(|(a, b)| a.difference(b).count()).sum();
            prop_assert_eq!(moved, after[members].len());
        }
    }
}
