//! Whether a member may commit or fetch offsets at its epoch, and of which partitions.

use headwater_model::TopicPartition;

use super::StreamsGroup;
use crate::consumer::Committer;
use crate::error::Error;

impl StreamsGroup {
    /// Whether anything may be committed in this name.
    ///
    /// # Errors
    /// `STALE_MEMBER_EPOCH` tells a member to learn its epoch first; transactions know only `ILLEGAL_GENERATION`.
    pub fn check_commit(&self, who: Committer<'_>) -> Result<(), Error> {
        let anonymous = who.member_id.is_empty() && who.instance_id.is_none();
        if who.epoch < 0 && (self.is_empty() || (who.transactional && anonymous)) {
            return Ok(());
        }
        let member = self.members.get(who.member_id).ok_or(Error::UnknownMemberId)?;
        match () {
            () if !who.transactional && !who.knows_epochs => Err(Error::UnsupportedVersion),
            () if who.epoch < 0 || who.epoch > member.current.epoch => Err(who.stale()),
            () => Ok(()),
        }
    }

    /// Whether the offset of this partition may be committed: with the member's epoch of any, with an older one only where
    /// the member has had the task that reads it since then.
    pub fn check_partition(&self, who: Committer<'_>, partition: &TopicPartition) -> Result<(), Error> {
        let Some(member) = self.members.get(who.member_id) else { return Ok(()) };
        if who.epoch == member.current.epoch {
            return Ok(());
        }
        let reader = self.topology.as_ref().and_then(|topology| topology.reader_of(&partition.topic));
        let task = reader.map(|id| (id.clone(), partition.partition));
        let since = task.and_then(|task| {
            let current = &member.current;
            current.assigned.active.get(&task).or_else(|| current.revoking.active.get(&task)).copied()
        });
        match since.is_some_and(|since| who.epoch >= since) {
            true => Ok(()),
            false => Err(who.stale()),
        }
    }

    /// Whether offsets may be fetched in this name; an absent name may.
    pub fn check_fetch(&self, member_id: &str, epoch: i32) -> Result<(), Error> {
        if member_id.is_empty() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(Error::UnknownMemberId)?;
        if epoch == member.current.epoch { Ok(()) } else { Err(Error::StaleMemberEpoch) }
    }

    pub fn subscribes_to(&self, topic: &str) -> bool {
        let reads = |topology: &super::StreamsTopology| topology.reader_of(topic).is_some();
        !self.is_empty() && self.topology.as_ref().is_some_and(reads)
    }
}
