//! Whether a member may commit or fetch offsets at its epoch (KIP-848), and of which partitions (KIP-1251).

use super::ConsumerGroup;
use crate::error::Error;
use crate::records::TopicPartitionId;

/// Who commits, by its own words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committer<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    /// The generation of a classic member.
    pub epoch: i32,
    pub transactional: bool,
    /// The version of the request knows member epochs.
    pub knows_epochs: bool,
}

impl Committer<'_> {
    /// The member's epoch is not its group's.
    pub fn stale(&self) -> Error {
        if self.transactional { Error::IllegalGeneration } else { Error::StaleMemberEpoch }
    }
}

impl ConsumerGroup {
    /// Whether anything may be committed in this name.
    ///
    /// # Errors
    /// `STALE_MEMBER_EPOCH` tells a member to learn its epoch first; transactions know only `ILLEGAL_GENERATION`.
    pub fn check_commit(&self, who: Committer<'_>) -> Result<(), Error> {
        let anonymous = who.member_id.is_empty() && who.instance_id.is_none();
        if who.epoch < 0 && (self.is_empty() || (who.transactional && anonymous)) {
            return Ok(());
        }
        if let Some(instance) = who.instance_id {
            self.check_instance(instance, who.member_id)?;
        }
        let member = self.members.get(who.member_id).ok_or(Error::UnknownMemberId)?;
        if member.is_classic() {
            return if who.epoch == member.current.epoch { Ok(()) } else { Err(Error::IllegalGeneration) };
        }
        match () {
            () if !who.transactional && !who.knows_epochs => Err(Error::UnsupportedVersion),
            () if who.epoch < 0 || who.epoch > member.current.epoch => Err(who.stale()),
            () => Ok(()),
        }
    }

    /// Whether the offset of this partition may be committed: with the member's epoch of any, with an older one only of
    /// what the member has had since then.
    pub fn check_partition(
        &self,
        who: Committer<'_>,
        partition: Option<TopicPartitionId>,
    ) -> Result<(), Error> {
        let Some(member) = self.members.get(who.member_id).filter(|member| !member.is_classic()) else {
            return Ok(());
        };
        let since = partition.and_then(|partition| member.current.assigned.get(&partition));
        match who.epoch == member.current.epoch || since.is_some_and(|since| who.epoch >= *since) {
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
        match member.is_classic() || epoch == member.current.epoch {
            true => Ok(()),
            false => Err(Error::StaleMemberEpoch),
        }
    }
}
