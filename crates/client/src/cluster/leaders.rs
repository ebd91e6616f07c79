//! Who leads a topic's partitions, as far as is known.

use headwater_wire::KafkaUuid;
use headwater_wire::messages::MetadataResponseTopic;

#[derive(Debug, Clone)]
pub(super) struct TopicState {
    pub(super) id: KafkaUuid,
    pub(super) leaders: Vec<Leader>,
    /// What was known has proved wrong: only the epochs still say which answers are older than that.
    pub(super) forgotten: bool,
}

/// -1 where nobody is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leader {
    pub(super) node: i32,
    pub(super) epoch: i32,
}

impl TopicState {
    /// What an answer says, less what is older than what is known (KIP-320): a broker that was away may not have heard
    /// yet that leaders have moved. A topic that was created again begins anew; so does one
    /// of brokers that give topics no ids.
    pub(super) fn update(before: Option<&Self>, topic: &MetadataResponseTopic) -> Self {
        let same = |before: &&Self| before.id == topic.topic_id && before.id != KafkaUuid::ZERO;
        let before = before.filter(same);
        let mut leaders = vec![Leader { node: -1, epoch: -1 }; topic.partitions.len()];
        for partition in &topic.partitions {
            let index = partition.partition_index as usize;
            let said = Leader { node: partition.leader_id, epoch: partition.leader_epoch };
            let known = before.and_then(|before| before.leaders.get(index));
            let newer = known.filter(|known| said.epoch >= 0 && known.epoch > said.epoch);
            if let Some(slot) = leaders.get_mut(index) {
                *slot = newer.copied().unwrap_or(said);
            }
        }
        Self { id: topic.topic_id, leaders, forgotten: false }
    }

    pub(super) fn forget(&mut self) {
        self.forgotten = true;
        self.leaders.iter_mut().for_each(|leader| leader.node = -1);
    }
}

#[cfg(test)]
mod tests {
    use headwater_wire::messages::MetadataResponsePartition;

    use super::*;

    fn answer(id: u8, leaders: &[(i32, i32)]) -> MetadataResponseTopic {
        let partition = |(index, (node, epoch)): (usize, &(i32, i32))| {
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(*node)
                .with_leader_epoch(*epoch)
        };
        MetadataResponseTopic::default()
            .with_topic_id(KafkaUuid::from_parts(0, u64::from(id)))
            .with_partitions(leaders.iter().enumerate().map(partition).collect())
    }

    fn nodes(topic: &TopicState) -> Vec<i32> {
        topic.leaders.iter().map(|leader| leader.node).collect()
    }

    #[test]
    fn an_answer_from_before_the_leader_moved_is_not_believed() {
        let known = TopicState::update(None, &answer(1, &[(2, 5), (3, 1)]));
        let late = TopicState::update(Some(&known), &answer(1, &[(1, 4), (1, 2)]));
        assert_eq!(nodes(&late), [2, 1]);
    }

    #[test]
    fn what_was_forgotten_comes_back_only_by_an_answer_that_is_as_new() {
        let mut known = TopicState::update(None, &answer(1, &[(2, 5)]));
        known.forget();
        assert_eq!(nodes(&TopicState::update(Some(&known), &answer(1, &[(1, 4)]))), [-1]);
        assert_eq!(nodes(&TopicState::update(Some(&known), &answer(1, &[(2, 5)]))), [2]);
    }

    #[test]
    fn a_topic_that_was_created_again_begins_anew() {
        let known = TopicState::update(None, &answer(1, &[(2, 5)]));
        assert_eq!(nodes(&TopicState::update(Some(&known), &answer(2, &[(1, 0)]))), [1]);
    }

    #[test]
    fn brokers_that_know_no_epochs_are_believed() {
        let known = TopicState::update(None, &answer(0, &[(2, -1)]));
        assert_eq!(nodes(&TopicState::update(Some(&known), &answer(0, &[(1, -1)]))), [1]);
    }
}
