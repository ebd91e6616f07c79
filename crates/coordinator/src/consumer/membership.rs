//! Who may speak in a group: dynamic members by their id, static ones by the instance id that outlives it (KIP-345).

use std::collections::BTreeSet;

use super::records::{ConsumerGroupChange, ConsumerMemberRecord, CurrentAssignment};
use super::{ConsumerGroup, JOIN, LEAVE_STATIC, Member};
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::TopicPartitionId;

impl ConsumerGroup {
    /// # Errors
    /// `GROUP_MAX_SIZE_REACHED` for who would be one too many.
    pub(super) fn check_room(
        &self,
        cx: &Context,
        member_id: &str,
        instance: Option<&str>,
    ) -> Result<(), Error> {
        let known = self.members.contains_key(member_id)
            || instance.is_some_and(|instance| self.instances.contains_key(instance));
        match !known && self.members.len() >= cx.settings.consumer_max_group_size {
            true => Err(Error::GroupMaxSizeReached),
            false => Ok(()),
        }
    }

    /// Whether the instance id is this member's.
    pub(super) fn check_instance(&self, instance: &str, member_id: &str) -> Result<(), Error> {
        match self.instances.get(instance) {
            None => Err(Error::UnknownMemberId),
            Some(current) if current != member_id => Err(Error::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    /// Whether a heartbeat of a member may be believed; writes nothing.
    pub(super) fn check_heartbeat(
        &self,
        member_id: &str,
        instance: Option<&str>,
        epoch: i32,
        owned: Option<&BTreeSet<TopicPartitionId>>,
    ) -> Result<(), Failure> {
        if epoch == JOIN {
            return instance.map_or(Ok(()), |instance| self.check_released(instance, member_id));
        }
        if let Some(instance) = instance {
            self.check_instance(instance, member_id)?;
        }
        let member = self.members.get(member_id).ok_or(Error::UnknownMemberId)?;
        check_epoch(&member.current, epoch, owned)
    }

    /// An instance id is free when its member has said that it will come back.
    fn check_released(&self, instance: &str, member_id: &str) -> Result<(), Failure> {
        let holder = self.instances.get(instance).and_then(|id| self.members.get(id));
        match holder {
            Some(holder)
                if holder.record.member_id != member_id
                    && holder.current.epoch != LEAVE_STATIC
                    && !holder.is_classic() =>
            {
                let message = format!(
                    "the instance id '{instance}' belongs to member {}, which has not left: stop that process or wait for the end of its session",
                    holder.record.member_id
                );
                Err(Failure::new(Error::UnreleasedInstanceId, message))
            }
            _ => Ok(()),
        }
    }

    /// A member with another id takes over what the holder of its instance id had.
    pub(super) fn replace(&mut self, cx: &mut Context, instance: &str, member_id: &str) {
        let holder = self.instances.get(instance).and_then(|id| self.members.get(id));
        let Some(Member { record, target, current, .. }) = holder else { return };
        if record.member_id == member_id {
            return;
        }
        let removed = ConsumerGroupChange::MemberRemoved { member_id: record.member_id.clone() };
        let member_id = member_id.to_owned();
        let taken = [
            ConsumerGroupChange::Member(ConsumerMemberRecord {
                member_id: member_id.clone(),
                ..record.clone()
            }),
            ConsumerGroupChange::Target { member_id: member_id.clone(), partitions: target.clone() },
            ConsumerGroupChange::Current(CurrentAssignment {
                member_id,
                epoch: JOIN,
                previous_epoch: JOIN,
                ..current.clone()
            }),
        ];
        for change in std::iter::once(removed).chain(taken) {
            self.record(cx, change);
        }
    }

    /// Puts down what a member asks for; whether its subscription has changed.
    pub(super) fn subscribe(&mut self, cx: &mut Context, record: ConsumerMemberRecord) -> bool {
        let before = self.members.get(&record.member_id).map(|member| &member.record);
        if before == Some(&record) {
            return false;
        }
        let changed = match before {
            Some(before) => before.topics != record.topics || before.regex != record.regex,
            None => !record.topics.is_empty() || record.regex.is_some(),
        };
        self.record(cx, ConsumerGroupChange::Member(record));
        changed
    }
}

/// A member may be one epoch behind when it did not get the answer that told it of the next.
fn check_epoch(
    current: &CurrentAssignment,
    epoch: i32,
    owned: Option<&BTreeSet<TopicPartitionId>>,
) -> Result<(), Failure> {
    let subset =
        || owned.is_some_and(|owned| owned.iter().all(|partition| current.assigned.contains_key(partition)));
    if epoch == current.epoch || (epoch < current.epoch && epoch == current.previous_epoch && subset()) {
        return Ok(());
    }
    let message = format!(
        "the member's epoch is {}, not {epoch}: it must give up its partitions and join again",
        current.epoch
    );
    Err(Failure::new(Error::FencedMemberEpoch, message))
}
