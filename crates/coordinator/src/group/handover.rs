//! A group changes its type (KIP-848): what it hands over to a consumer group, and how it takes members back.

use headwater_model::TimestampMs;

use crate::context::Context;
use crate::error::Error;
use crate::records::GroupRecord;

use super::join::reply_join;
use super::{Group, reply_sync};

impl Group {
    /// The group as it is, whether its generation is complete or not.
    pub fn handed_over(&self, now: TimestampMs) -> GroupRecord {
        self.record(now)
    }

    /// Tells everybody who waits to join again.
    pub fn interrupt(&mut self, cx: &mut Context) {
        for (id, member) in &mut self.members {
            reply_join(cx, member.join_ticket.take(), id, Error::RebalanceInProgress);
            reply_sync(cx, member.sync_ticket.take(), Error::RebalanceInProgress);
        }
    }

    /// The group that members of a consumer group go on in; they are called to a generation of their own.
    pub fn taken_over(cx: &mut Context, record: &GroupRecord) -> Self {
        let mut group = Self::restored(record, cx.now);
        group.persist(cx);
        if !group.is_empty() {
            group.prepare_rebalance(cx);
        }
        group
    }
}
