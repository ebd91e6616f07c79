//! Leaving: for good, to come back (KIP-345), or because the coordinator says so.

use super::records::{ConsumerGroupChange, CurrentAssignment};
use super::{ConsumerGroup, LEAVE, LEAVE_STATIC};
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::request::ConsumerGroupHeartbeat;
use crate::response::ConsumerGroupBeat;

impl ConsumerGroup {
    /// A heartbeat with epoch −1 or −2.
    pub(super) fn leave(
        &mut self,
        cx: &mut Context,
        beat: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupBeat, Failure> {
        let id = beat.member_id.clone();
        match &beat.instance_id {
            Some(instance) => self.check_instance(instance, &id)?,
            None if !self.members.contains_key(&id) => return Err(Error::UnknownMemberId.into()),
            None => {}
        }
        if beat.member_epoch == LEAVE_STATIC {
            self.leave_to_come_back(cx, &id);
        } else {
            self.fence(cx, std::slice::from_ref(&id));
        }
        let member_epoch = if beat.member_epoch == LEAVE_STATIC { LEAVE_STATIC } else { LEAVE };
        Ok(ConsumerGroupBeat { member_id: id, member_epoch, heartbeat_interval_ms: 0, assignment: None })
    }

    /// The member keeps its partitions for whoever comes with its instance id before the session ends.
    fn leave_to_come_back(&mut self, cx: &mut Context, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        let current = CurrentAssignment {
            epoch: LEAVE_STATIC,
            state: super::MemberState::Stable,
            revoking: Default::default(),
            ..member.current.clone()
        };
        self.record(cx, ConsumerGroupChange::Current(current));
    }

    /// Removes members and calls for other targets.
    pub(super) fn fence(&mut self, cx: &mut Context, member_ids: &[String]) {
        if member_ids.is_empty() {
            return;
        }
        for member_id in member_ids {
            self.record(cx, ConsumerGroupChange::MemberRemoved { member_id: member_id.clone() });
        }
        self.bump(cx);
    }
}
