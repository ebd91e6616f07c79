//! What ends by itself: sessions, tasks that are not given up, the wait for more members.

use headwater_model::TimestampMs;

use super::{Member, StreamsGroup};
use crate::context::Context;

impl Member {
    fn deadlines(&self) -> impl Iterator<Item = TimestampMs> {
        self.revocation_deadline.into_iter().chain([self.session_deadline])
    }
}

impl StreamsGroup {
    pub fn begin_session(&mut self, member_id: &str, now: TimestampMs, session_timeout_ms: i32) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_deadline = now.saturating_add(session_timeout_ms.into());
        }
    }

    /// When something happens to this member by itself.
    pub fn member_deadline(&self, member_id: &str) -> Option<TimestampMs> {
        self.members.get(member_id)?.deadlines().min()
    }

    /// When something happens to the group by itself.
    pub fn deadline(&self) -> Option<TimestampMs> {
        let members = self.members.values().flat_map(Member::deadlines);
        members.chain(self.delayed_until).min().filter(|at| *at != TimestampMs::MAX)
    }

    /// Removes the members whose time is over, and assigns when the wait for more members is.
    pub fn expire(&mut self, cx: &mut Context) {
        let over = |member: &&Member| member.deadlines().any(|at| at <= cx.now);
        let gone: Vec<String> =
            self.members.values().filter(over).map(|member| member.record.member_id.clone()).collect();
        self.fence(cx, &gone);
        if self.delayed_until.is_some_and(|until| until <= cx.now) {
            self.end_delay(cx);
        }
    }
}
