//! How requests reach consumer groups: which of the two types a group is, and when it becomes the other.

use headwater_model::TimestampMs;

use super::{ConsumerGroup, ConsumerGroupChange, JOIN, validate};
use crate::error::{Error, Failure};
use crate::group::Group;
use crate::request::{Client, ConsumerGroupHeartbeat, Request};
use crate::response::{ConsumerGroupBeat, ConsumerGroupDescription, Response};
use crate::timers::Alarm;
use crate::{Coordinator, StateRecord};

impl Coordinator {
    pub(crate) fn consumer_heartbeat(
        &mut self,
        client: &Client,
        beat: ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupBeat, Failure> {
        validate::check(&beat)?;
        let id = beat.group_id.clone();
        self.open_consumer_group(&id, beat.member_epoch == JOIN)?;
        let timeouts = self.group_configs.timeouts(&self.cx.settings, &id);
        let group = self.consumer_groups.entry(id.clone()).or_insert_with(|| ConsumerGroup::new(&id));
        let (member_id, written) = (beat.member_id.clone(), self.cx.effects.len());
        let answer = group.heartbeat(&mut self.cx, &self.topics, timeouts, client, beat);
        if self.cx.effects.len() > written || answer.is_err() {
            self.settle_consumer_group(&id);
        } else if let Some(at) = group.member_deadline(&member_id) {
            // The deadlines of others have not changed.
            self.timers.no_later(&Alarm::Group(id), at);
        }
        answer
    }

    /// Makes sure that the group is one of the consumer protocol, or may become one.
    fn open_consumer_group(&mut self, id: &str, joins: bool) -> Result<(), Failure> {
        if self.consumer_groups.contains_key(id) {
            return Ok(());
        }
        if self.shares.has(id) || self.streams_groups.contains_key(id) {
            let message = format!("group {id} is not a consumer group: choose another name");
            return Err(Failure::new(Error::GroupIdNotFound, message));
        }
        let Some(classic) = self.groups.get(id) else {
            return if joins { Ok(()) } else { Err(Error::GroupIdNotFound.into()) };
        };
        let refused = |why: &str| {
            let message = format!("group {id} is not a consumer group{why}");
            Err(Failure::new(Error::GroupIdNotFound, message))
        };
        if !joins {
            return refused("");
        }
        if classic.is_empty() {
            self.groups.remove(id);
            return Ok(());
        }
        if !self.cx.settings.migration_policy.upgrades() {
            return refused(", and group.consumer.migration.policy keeps it from becoming one");
        }
        let record = classic.handed_over(self.cx.now);
        if record.members.len() >= self.cx.settings.consumer_max_group_size {
            return Err(Error::GroupMaxSizeReached.into());
        }
        let Some(group) = ConsumerGroup::from_classic(&mut self.cx, &self.topics, &record) else {
            return refused(": its members use another protocol type or an assignor with data of its own");
        };
        if let Some(mut classic) = self.groups.remove(id) {
            classic.interrupt(&mut self.cx);
        }
        self.consumer_groups.insert(id.to_owned(), group);
        Ok(())
    }

    /// After a change: a group without members of the consumer protocol goes back, one that is nothing goes.
    pub(crate) fn settle_consumer_group(&mut self, id: &str) {
        let Some(group) = self.consumer_groups.get(id) else { return };
        if group.is_nothing() {
            self.consumer_groups.remove(id);
        } else if group.is_all_classic() && self.cx.settings.migration_policy.downgrades() {
            self.become_classic(id);
        }
        self.watch_group(id);
    }

    fn become_classic(&mut self, id: &str) {
        let Some(group) = self.consumer_groups.remove(id) else { return };
        let record = group.to_classic(&self.topics, self.cx.now);
        self.groups.insert(id.to_owned(), Group::taken_over(&mut self.cx, &record));
    }

    /// Serves a request of the classic protocol when it is for a consumer group; gives it back when not.
    pub(crate) fn serve_classic_member(
        &mut self,
        ticket: u64,
        client: &Client,
        request: Request,
    ) -> Option<Request> {
        let id = match &request {
            Request::JoinGroup(join) => join.group_id.clone(),
            Request::SyncGroup(sync) => sync.group_id.clone(),
            Request::Heartbeat(beat) => beat.group_id.clone(),
            Request::LeaveGroup { group_id, .. } => group_id.clone(),
            _ => return Some(request),
        };
        let Some(group) = self.consumer_groups.get_mut(&id) else { return Some(request) };
        if group.is_empty() && matches!(request, Request::JoinGroup(_)) {
            self.become_classic(&id);
            return Some(request);
        }
        let timeouts = self.group_configs.timeouts(&self.cx.settings, &id);
        let cx = &mut self.cx;
        let response = match request {
            Request::JoinGroup(join) => {
                Response::JoinGroup(group.join_classic(cx, &self.topics, timeouts, client, join))
            }
            Request::SyncGroup(sync) => Response::SyncGroup(group.sync_classic(cx, &self.topics, &sync)),
            Request::Heartbeat(beat) => Response::Heartbeat(group.heartbeat_classic(cx, &beat).err()),
            Request::LeaveGroup { members, .. } => {
                Response::LeaveGroup { error: None, members: group.leave_classic(cx, members) }
            }
            other => return Some(other),
        };
        self.cx.reply(ticket, response);
        self.settle_consumer_group(&id);
        None
    }

    pub(crate) fn describe_consumer_group(&self, id: String) -> ConsumerGroupDescription {
        let group = self.consumer_groups.get(&id);
        group.map_or_else(|| ConsumerGroupDescription::unknown(id), |group| group.describe(&self.topics))
    }

    pub(crate) fn expire_consumer_group(&mut self, id: &str) {
        let Some(group) = self.consumer_groups.get_mut(id) else { return };
        if group.expire(&mut self.cx) {
            self.settle_consumer_group(id);
        }
    }

    /// Replays a change; whoever has this id as a classic group has become this one.
    pub(crate) fn apply_consumer_change(&mut self, id: &str, change: &ConsumerGroupChange, now: TimestampMs) {
        self.groups.remove(id);
        let timeouts = self.group_configs.timeouts(&self.cx.settings, id);
        let group = self.consumer_groups.entry(id.to_owned()).or_insert_with(|| ConsumerGroup::new(id));
        group.apply(change, now);
        let member_id = match change {
            ConsumerGroupChange::Member(member) => {
                group.begin_session(&member.member_id, now, timeouts);
                Some(&member.member_id)
            }
            ConsumerGroupChange::Current(current) => Some(&current.member_id),
            _ => None,
        };
        let alarm = Alarm::Group(id.to_owned());
        match member_id.and_then(|member_id| group.member_deadline(member_id)) {
            Some(at) => self.timers.no_later(&alarm, at),
            None if !self.timers.is_set(&alarm) => self.watch_group(id),
            None => {}
        }
    }

    pub(crate) fn consumer_snapshot(&self) -> impl Iterator<Item = StateRecord> + '_ {
        self.consumer_groups.values().flat_map(ConsumerGroup::snapshot)
    }
}
