//! A group changes its type (KIP-848): what it hands over to a consumer group, and how it takes members back.

use headwater_model::TimestampMs;

use crate::context::Context;
use crate::error::Error;
use crate::records::{GroupRecord, StateRecord};

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
        if group.is_empty() {
            group.persist(cx);
            return group;
        }
        // A restart does not know that members were called. It knows another generation than this one and the next, so they
        // come all the same, and what left with the others is given to somebody.
        let generation = record.generation.saturating_add(2);
        let called = GroupRecord { generation, timestamp: cx.now, ..record.clone() };
        cx.append(StateRecord::Group(called.clone()));
        group.persisted = Some(called);
        group.prepare_rebalance(cx);
        group
    }
}
