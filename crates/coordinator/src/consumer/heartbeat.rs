//! ConsumerGroupHeartbeat: joining, saying what one has and wants, learning what one gets.

use std::collections::BTreeSet;

use super::records::ConsumerMemberRecord;
use super::timeouts::Timeouts;
use super::{ConsumerGroup, JOIN};
use crate::context::Context;
use crate::error::Failure;
use crate::records::TopicPartitionId;
use crate::request::{Client, ConsumerGroupHeartbeat};
use crate::response::ConsumerGroupBeat;
use crate::topics::Topics;

impl ConsumerGroup {
    /// Decides a request that [`super::validate::check`] has let through.
    ///
    /// # Errors
    /// What the member must do about it is in the code: `FENCED_MEMBER_EPOCH` and `UNKNOWN_MEMBER_ID` join again,
    /// `UNRELEASED_INSTANCE_ID`, `FENCED_INSTANCE_ID` and `GROUP_MAX_SIZE_REACHED` are the end.
    pub fn heartbeat(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        timeouts: Timeouts,
        client: &Client,
        mut beat: ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupBeat, Failure> {
        if beat.member_epoch < JOIN {
            return self.leave(cx, &beat);
        }
        let instance = beat.instance_id.clone();
        self.check_room(cx, &beat.member_id, instance.as_deref())?;
        self.check_heartbeat(&beat.member_id, instance.as_deref(), beat.member_epoch, beat.owned.as_ref())?;
        self.check_expression(beat.regex.as_deref())?;
        if beat.member_id.is_empty() {
            beat.member_id = cx.random.uuid_text();
        }
        let before = self.assigned(&beat.member_id);
        if let Some(instance) = &instance {
            self.replace(cx, instance, &beat.member_id);
        }
        if let (Some(regex), Some(compiled)) = (&beat.regex, &beat.compiled) {
            self.bring(regex, compiled);
        }
        let record = self.updated(client, &beat);
        let beside_names = record.regex.clone().filter(|_| !record.topics.is_empty());
        let changed = self.subscribe(cx, record);
        if let Some(regex) = beside_names.filter(|_| changed) {
            self.put_off(&regex);
        }
        self.advance(cx, topics, client, changed, timeouts.assignment_interval_ms);
        self.reconcile(cx, topics, &beat.member_id, beat.owned.as_ref(), changed);
        self.begin_session(&beat.member_id, cx.now, timeouts);
        Ok(self.answer(&beat, before, timeouts))
    }

    fn assigned(&self, member_id: &str) -> BTreeSet<TopicPartitionId> {
        let member = self.members.get(member_id);
        member.into_iter().flat_map(|member| member.current.assigned.keys().copied()).collect()
    }

    /// What the member asks for, where it says so, and what it asked for before.
    fn updated(&self, client: &Client, beat: &ConsumerGroupHeartbeat) -> ConsumerMemberRecord {
        let known = self.members.get(&beat.member_id).map(|member| member.record.clone());
        let mut record = ConsumerMemberRecord {
            member_id: beat.member_id.clone(),
            client_id: client.id.clone(),
            client_host: client.host.clone(),
            classic: None,
            ..known.unwrap_or_default()
        };
        let instance = beat.instance_id.clone();
        record.instance_id = instance.or(record.instance_id);
        record.rack_id = beat.rack_id.clone().or(record.rack_id);
        record.assignor = beat.assignor.clone().or(record.assignor);
        record.rebalance_timeout_ms = beat.rebalance_timeout_ms.unwrap_or(record.rebalance_timeout_ms);
        if let Some(topics) = &beat.topics {
            record.topics = topics.iter().cloned().collect();
        }
        if let Some(regex) = &beat.regex {
            record.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        record
    }

    /// The assignment is told to who joins, says everything, or gets another one.
    fn answer(
        &self,
        beat: &ConsumerGroupHeartbeat,
        before: BTreeSet<TopicPartitionId>,
        timeouts: Timeouts,
    ) -> ConsumerGroupBeat {
        let assigned = self.assigned(&beat.member_id);
        let full = beat.rebalance_timeout_ms.is_some()
            && (beat.topics.is_some() || beat.regex.is_some())
            && beat.owned.is_some();
        let told = beat.member_epoch == JOIN || full || assigned != before;
        ConsumerGroupBeat {
            member_id: beat.member_id.clone(),
            member_epoch: self.members.get(&beat.member_id).map_or(JOIN, |member| member.current.epoch),
            heartbeat_interval_ms: timeouts.heartbeat_interval_ms,
            assignment: told.then_some(assigned),
        }
    }
}
