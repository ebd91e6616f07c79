//! How requests reach streams groups, and which names are theirs.

use headwater_model::TimestampMs;

use super::request::{StreamsGroupBeat, StreamsGroupDescription, StreamsGroupHeartbeat};
use super::{JOIN, StreamsGroup, StreamsGroupChange, StreamsSettings, validate};
use crate::error::{Error, Failure};
use crate::group::Group;
use crate::request::Client;
use crate::timers::Alarm;
use crate::{Coordinator, StateRecord};

impl Coordinator {
    fn streams_settings(&self, id: &str) -> StreamsSettings {
        StreamsSettings::of(self.group_configs.of(&self.cx.settings, id))
    }

    pub(crate) fn streams_heartbeat(
        &mut self,
        client: &Client,
        beat: &StreamsGroupHeartbeat,
    ) -> Result<StreamsGroupBeat, Failure> {
        validate::check(beat)?;
        let id = beat.group_id.as_str();
        self.open_streams_group(id, beat.member_epoch == JOIN)?;
        let settings = self.streams_settings(id);
        let written = self.cx.effects.len();
        let group = self.streams_groups.entry(id.to_owned()).or_insert_with(|| StreamsGroup::new(id));
        let answer = group.heartbeat(&mut self.cx, &self.topics, &settings, client, beat);
        if self.cx.effects.len() > written || answer.is_err() {
            self.settle_streams_group(id);
        } else if let Some(at) = group.member_deadline(&beat.member_id) {
            // The deadlines of others have not changed.
            self.timers.no_later(&Alarm::Group(id.to_owned()), at);
        }
        answer
    }

    /// Makes sure that the group is a streams group, or may become one: an empty classic group may.
    fn open_streams_group(&mut self, id: &str, joins: bool) -> Result<(), Failure> {
        if self.streams_groups.contains_key(id) {
            return Ok(());
        }
        let taken = self.shares.has(id)
            || self.consumer_groups.contains_key(id)
            || self.groups.get(id).is_some_and(|classic| !classic.is_empty());
        if taken {
            let message = format!("Group {id} is not a streams group: choose another name.");
            return Err(Failure::new(Error::GroupIdNotFound, message));
        }
        if !joins {
            let message = format!("Streams group {id} not found.");
            return Err(Failure::new(Error::GroupIdNotFound, message));
        }
        Ok(())
    }

    /// After a change: the group is the only one of its name, and one that is nothing goes.
    fn settle_streams_group(&mut self, id: &str) {
        match self.streams_groups.get(id) {
            Some(group) if group.is_nothing() => drop(self.streams_groups.remove(id)),
            // An empty classic group has become this one.
            Some(_) => drop(self.groups.remove(id)),
            None => {}
        }
        self.watch_group(id);
    }

    /// An empty streams group becomes what a classic member that joins asks for; whether the join goes on.
    pub(crate) fn yield_streams_group(&mut self, id: &str) -> bool {
        match self.streams_groups.get(id) {
            None => true,
            Some(group) if group.is_empty() => {
                let record = Group::new(id).handed_over(self.cx.now);
                self.streams_groups.remove(id);
                self.groups.insert(id.to_owned(), Group::taken_over(&mut self.cx, &record));
                true
            }
            Some(_) => false,
        }
    }

    pub(crate) fn describe_streams_group(&self, id: String) -> StreamsGroupDescription {
        let group = self.streams_groups.get(&id);
        group.map_or_else(|| StreamsGroupDescription::unknown(id), StreamsGroup::describe)
    }

    pub(crate) fn expire_streams_group(&mut self, id: &str) {
        if let Some(group) = self.streams_groups.get_mut(id) {
            group.expire(&mut self.cx);
        }
    }

    /// Replays a change; whoever has this id as a classic group has become this one.
    pub(crate) fn apply_streams_change(&mut self, id: &str, change: &StreamsGroupChange, now: TimestampMs) {
        self.groups.remove(id);
        let settings = self.streams_settings(id);
        let group = self.streams_groups.entry(id.to_owned()).or_insert_with(|| StreamsGroup::new(id));
        group.apply(change, now);
        let member_id = match change {
            StreamsGroupChange::Member(member) => {
                group.begin_session(&member.member_id, now, settings.session_timeout_ms);
                Some(&member.member_id)
            }
            StreamsGroupChange::Current(current) => Some(&current.member_id),
            _ => None,
        };
        let alarm = Alarm::Group(id.to_owned());
        match member_id.and_then(|member_id| group.member_deadline(member_id)) {
            Some(at) => self.timers.no_later(&alarm, at),
            None if !self.timers.is_set(&alarm) => self.watch_group(id),
            None => {}
        }
    }

    pub(crate) fn streams_snapshot(&self) -> impl Iterator<Item = StateRecord> + '_ {
        self.streams_groups.values().flat_map(StreamsGroup::snapshot)
    }
}
