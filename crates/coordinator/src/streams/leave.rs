//! Leaving, by the member's own will or because the coordinator says so.

use super::records::StreamsGroupChange;
use super::request::{StreamsGroupBeat, StreamsGroupHeartbeat};
use super::{LEAVE, StreamsGroup};
use crate::context::Context;
use crate::error::{Error, Failure};

impl StreamsGroup {
    /// A heartbeat with epoch −1; it may be the one that asks the others to end.
    pub(super) fn leave(
        &mut self,
        cx: &mut Context,
        beat: &StreamsGroupHeartbeat,
    ) -> Result<StreamsGroupBeat, Failure> {
        if !self.members.contains_key(&beat.member_id) {
            return Err(Error::UnknownMemberId.into());
        }
        if beat.shutdown_application {
            self.shutdown_by = Some(beat.member_id.clone());
        }
        self.fence(cx, std::slice::from_ref(&beat.member_id));
        let member_id = beat.member_id.clone();
        Ok(StreamsGroupBeat { member_id, member_epoch: LEAVE, ..StreamsGroupBeat::default() })
    }

    /// Removes members and calls for other targets.
    pub(super) fn fence(&mut self, cx: &mut Context, member_ids: &[String]) {
        if member_ids.is_empty() {
            return;
        }
        for member_id in member_ids {
            self.record(cx, StreamsGroupChange::MemberRemoved { member_id: member_id.clone() });
        }
        self.bump(cx);
    }
}
