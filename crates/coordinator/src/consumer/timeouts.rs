//! What ends by itself: sessions, revocations that do not come, classic members that do not follow.

use headwater_model::TimestampMs;

use super::{ConsumerGroup, Member};
use crate::context::Context;

/// How long members may be silent, how often they should speak, and how long an assignment holds at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub session_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
}

impl Member {
    /// Begins the member's session anew; a classic member brought its own time-out.
    pub(super) fn refresh(&mut self, now: TimestampMs, timeouts: Timeouts) {
        let classic = self.record.classic.as_ref().map(|classic| classic.session_timeout_ms);
        self.session_deadline = now.saturating_add(classic.unwrap_or(timeouts.session_ms).into());
    }

    /// A classic member learns of a rebalance and has so long to join again.
    pub(super) fn expect_rejoin(&mut self, now: TimestampMs) {
        let deadline = now.saturating_add(self.record.rebalance_timeout_ms.into());
        self.rejoin_deadline.get_or_insert(deadline);
    }

    fn deadlines(&self) -> impl Iterator<Item = TimestampMs> {
        let others = [self.revocation_deadline, self.rejoin_deadline, self.sync_deadline];
        others.into_iter().flatten().chain([self.session_deadline])
    }
}

impl ConsumerGroup {
    /// After a replay: every session begins now.
    pub fn begin_session(&mut self, member_id: &str, now: TimestampMs, timeouts: Timeouts) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.refresh(now, timeouts);
        }
    }

    /// When something happens to this member by itself.
    pub fn member_deadline(&self, member_id: &str) -> Option<TimestampMs> {
        self.members.get(member_id)?.deadlines().min()
    }

    /// When something happens to the group by itself.
    pub fn deadline(&self) -> Option<TimestampMs> {
        self.members.values().flat_map(Member::deadlines).min().filter(|at| *at != TimestampMs::MAX)
    }

    /// Removes the members whose time is over; whether there were any.
    pub fn expire(&mut self, cx: &mut Context) -> bool {
        let over = |member: &&Member| member.deadlines().any(|at| at <= cx.now);
        let gone: Vec<String> =
            self.members.values().filter(over).map(|member| member.record.member_id.clone()).collect();
        self.fence(cx, &gone);
        !gone.is_empty()
    }
}
