//! The offsets of share groups as administrators see and set them.

use headwater_model::Offset;

use super::Shares;
use super::group::ShareGroup;
use super::partition::SharePartition;
use super::records::ShareRecord;
use super::request::ShareOffset;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::{StateRecord, TopicId, TopicPartitionId};
use crate::topics::Topics;

impl Shares {
    pub(super) fn describe_offsets(
        &self,
        group_id: &str,
        partitions: Option<Vec<TopicPartitionId>>,
    ) -> Result<Vec<ShareOffset>, Error> {
        let group = self.groups.get(group_id).ok_or(Error::GroupIdNotFound)?;
        let places = partitions.unwrap_or_else(|| group.partitions.keys().copied().collect());
        let describe = |place: TopicPartitionId| match group.partitions.get(&place) {
            Some(known) => ShareOffset { partition: place, start: known.start(), finished: known.finished() },
            None => ShareOffset { partition: place, start: -1, finished: 0 },
        };
        Ok(places.into_iter().map(describe).collect())
    }

    /// A group whose offsets may change: it exists and has no members.
    fn idle(&mut self, group_id: &str) -> Result<&mut ShareGroup, Failure> {
        match self.groups.get_mut(group_id) {
            None => {
                Err(Failure::new(Error::GroupIdNotFound, format!("there is no share group '{group_id}'")))
            }
            Some(group) if !group.members.is_empty() => Err(Failure::new(
                Error::NonEmptyGroup,
                format!("share group '{group_id}' has {} members: stop them first", group.members.len()),
            )),
            Some(group) => Ok(group),
        }
    }

    /// A group that is not there yet is made, as Kafka makes it: so it can be told where to begin before it begins.
    pub(super) fn alter_offsets(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        group_id: &str,
        offsets: Vec<(TopicPartitionId, Offset)>,
    ) -> Result<Vec<(TopicPartitionId, Option<Error>)>, Failure> {
        let exists = offsets.iter().any(|(place, _)| topics.has(*place));
        if exists && !group_id.is_empty() {
            self.made(cx, group_id);
        }
        let group = self.idle(group_id)?;
        let mut results = Vec::with_capacity(offsets.len());
        for (place, offset) in offsets {
            let exists = topics.has(place);
            if exists {
                group.put(cx, place, SharePartition::new(offset));
            }
            results.push((place, (!exists).then_some(Error::UnknownTopicOrPartition)));
        }
        Ok(results)
    }

    pub(super) fn delete_offsets(
        &mut self,
        cx: &mut Context,
        group_id: &str,
        topics: Vec<TopicId>,
    ) -> Result<Vec<(TopicId, Option<Error>)>, Failure> {
        let group = self.idle(group_id)?;
        let mut results = Vec::with_capacity(topics.len());
        for topic_id in topics {
            let before = group.partitions.len();
            group.partitions.retain(|(topic, _), _| *topic != topic_id);
            let has_none = group.partitions.len() == before;
            if !has_none {
                let group_id = group_id.to_owned();
                cx.append(StateRecord::Share(ShareRecord::PartitionsDeleted { group_id, topic_id }));
            }
            results.push((topic_id, has_none.then_some(Error::UnknownTopicOrPartition)));
        }
        Ok(results)
    }
}
