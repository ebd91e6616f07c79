//! StreamsGroupHeartbeat: joining, saying what one has, learning what one gets.

use super::configure::Configured;
use super::records::{
    OwnedTasks, StreamsAssignment, StreamsEpochs, StreamsGroupChange, StreamsMemberRecord, StreamsTopology,
    Tasks,
};
use super::request::{StreamsGroupBeat, StreamsGroupHeartbeat, StreamsStatus, StreamsStatusKind};
use super::{JOIN, StreamsGroup, StreamsSettings};
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::request::Client;
use crate::topics::Topics;

/// What was found out before anything was changed.
struct Outlook {
    /// The topology is new to the group.
    topology: Option<StreamsTopology>,
    /// The topology has been looked at again.
    configured: Option<Configured>,
}

impl StreamsGroup {
    /// Decides a request that [`super::validate::check`] has let through.
    ///
    /// # Errors
    /// What the member must do about it is in the code: `FENCED_MEMBER_EPOCH` and `UNKNOWN_MEMBER_ID` join again,
    /// `GROUP_MAX_SIZE_REACHED`, `INVALID_REQUEST` and `STREAMS_INVALID_TOPOLOGY` are the end.
    pub fn heartbeat(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        settings: &StreamsSettings,
        client: &Client,
        beat: &StreamsGroupHeartbeat,
    ) -> Result<StreamsGroupBeat, Failure> {
        if beat.member_epoch < JOIN {
            return self.leave(cx, beat);
        }
        let owned = beat.owned();
        self.check_member(cx, beat, owned.as_ref())?;
        let outlook = self.look(topics, beat)?;
        self.check_tasks(outlook.configured.as_ref(), owned.as_ref())?;
        let was_empty = self.is_empty();
        let before = self.assigned(&beat.member_id);
        let changed = self.put_member(cx, client, beat);
        if let Some(topology) = outlook.topology {
            self.record(cx, StreamsGroupChange::Topology(topology));
        }
        if let Some(configured) = outlook.configured {
            self.topics_version = Some(topics.version());
            self.configured = Some(configured);
        }
        if was_empty && settings.initial_rebalance_delay_ms > 0 && self.delayed_until.is_none() {
            self.delayed_until = Some(cx.now.saturating_add(settings.initial_rebalance_delay_ms.into()));
        }
        let mut status = self.stale(&beat.member_id);
        let epochs = self.next_epochs(settings, changed);
        let goal = self.advance(cx, settings, &beat.member_id, epochs, &mut status);
        self.reconcile(cx, &beat.member_id, owned.as_ref(), &goal);
        self.begin_session(&beat.member_id, cx.now, settings.session_timeout_ms);
        if beat.shutdown_application {
            self.shutdown_by = Some(beat.member_id.clone());
        }
        Ok(self.answer(beat, topics, settings, before, status))
    }

    fn assigned(&self, member_id: &str) -> OwnedTasks {
        self.members.get(member_id).map_or_else(OwnedTasks::default, |member| member.current.assigned.clone())
    }

    /// Whether a heartbeat of a member may be believed; writes nothing.
    fn check_member(
        &self,
        cx: &Context,
        beat: &StreamsGroupHeartbeat,
        owned: Option<&Tasks>,
    ) -> Result<(), Failure> {
        match self.members.get(&beat.member_id) {
            None if beat.member_epoch != JOIN => Err(Error::UnknownMemberId.into()),
            None if self.members.len() >= cx.settings.streams.max_group_size => {
                Err(Error::GroupMaxSizeReached.into())
            }
            Some(member) if beat.member_epoch != JOIN => {
                check_epoch(&member.current, beat.member_epoch, owned)
            }
            _ => Ok(()),
        }
    }

    /// The topology as the group will have it, over the topics there are now.
    fn look(&self, topics: &Topics, beat: &StreamsGroupHeartbeat) -> Result<Outlook, Failure> {
        let new = match (&beat.topology, &self.topology) {
            (Some(given), None) => Some(given.clone()),
            (Some(given), Some(known)) if given.epoch >= known.epoch && given != known => {
                let message = format!(
                    "Topology updates are not supported yet. Group {} has another topology: use another application.id, or delete the group when its members have left",
                    self.id
                );
                return Err(Failure::new(Error::InvalidRequest, message));
            }
            _ => None,
        };
        let known = self.topics_version == Some(topics.version()) && self.configured.is_some();
        let configured = match new.as_ref().or(self.topology.as_ref()) {
            None => return Err(Error::UnknownMemberId.into()),
            Some(_) if new.is_none() && known => None,
            Some(topology) => Some(Configured::of(topology, topics)?),
        };
        Ok(Outlook { topology: new, configured })
    }

    /// A member can only have tasks that the topology has.
    fn check_tasks(&self, looked: Option<&Configured>, owned: Option<&Tasks>) -> Result<(), Failure> {
        let configured = looked.or(self.configured.as_ref()).filter(|configured| configured.is_ready());
        let (Some(configured), Some(owned)) = (configured, owned) else { return Ok(()) };
        for (id, partition) in owned.active.iter().chain(&owned.standby).chain(&owned.warmup) {
            let message = match configured.tasks.get(id) {
                None => format!("Subtopology {id} does not exist in the topology."),
                Some(tasks) if !(0..*tasks).contains(partition) => format!(
                    "Task {partition} for subtopology {id} is invalid. Number of tasks for this subtopology: {tasks}"
                ),
                Some(_) => continue,
            };
            return Err(Failure::new(Error::InvalidRequest, message));
        }
        Ok(())
    }

    /// Puts down what a member is; whether that calls for other targets.
    fn put_member(&mut self, cx: &mut Context, client: &Client, beat: &StreamsGroupHeartbeat) -> bool {
        let known = self.members.get(&beat.member_id).map(|member| member.record.clone());
        let mut record = StreamsMemberRecord {
            member_id: beat.member_id.clone(),
            client_id: client.id.clone(),
            client_host: client.host.clone(),
            ..known.clone().unwrap_or_default()
        };
        record.rack_id = beat.rack_id.clone().or(record.rack_id);
        record.rebalance_timeout_ms = beat.rebalance_timeout_ms.unwrap_or(record.rebalance_timeout_ms);
        record.topology_epoch = beat.topology.as_ref().map_or(record.topology_epoch, |given| given.epoch);
        record.process_id = beat.process_id.clone().unwrap_or(record.process_id);
        record.user_endpoint = beat.user_endpoint.clone().or(record.user_endpoint);
        record.client_tags = beat.client_tags.clone().unwrap_or(record.client_tags);
        if known.as_ref() == Some(&record) {
            return false;
        }
        let changed = known.is_none_or(|known| {
            known.topology_epoch != record.topology_epoch
                || known.rack_id != record.rack_id
                || known.process_id != record.process_id
                || known.user_endpoint != record.user_endpoint
                || known.client_tags != record.client_tags
        });
        self.record(cx, StreamsGroupChange::Member(record));
        changed
    }

    /// The epochs as this heartbeat makes them: another one when members, topics or settings are others.
    fn next_epochs(&self, settings: &StreamsSettings, member_changed: bool) -> StreamsEpochs {
        let mut epochs = self.epochs.clone();
        if let Some(configured) = &self.configured {
            epochs.metadata_hash = configured.digest;
            let validated = self.topology.as_ref().filter(|_| configured.is_ready());
            epochs.validated_topology_epoch = validated.map_or(-1, |topology| topology.epoch);
        }
        epochs.num_standby_replicas = settings.num_standby_replicas;
        if member_changed || epochs != self.epochs {
            epochs.epoch = if epochs.epoch == 0 { 2 } else { epochs.epoch.saturating_add(1) };
        }
        epochs
    }

    fn stale(&self, member_id: &str) -> Vec<StreamsStatus> {
        let (Some(topology), Some(member)) = (&self.topology, self.members.get(member_id)) else {
            return Vec::new();
        };
        let has = member.record.topology_epoch;
        if has >= topology.epoch {
            return Vec::new();
        }
        let detail = format!(
            "The member's topology epoch {has} is behind the group's topology epoch {}.",
            topology.epoch
        );
        vec![StreamsStatus { kind: StreamsStatusKind::StaleTopology, detail }]
    }

    /// The tasks are told to who joins, gets others, or says that it has others: that one has not got the last answer, and
    /// nobody else would work on them.
    fn answer(
        &mut self,
        beat: &StreamsGroupHeartbeat,
        topics: &Topics,
        settings: &StreamsSettings,
        before: OwnedTasks,
        mut status: Vec<StreamsStatus>,
    ) -> StreamsGroupBeat {
        let Some(member) = self.members.get(&beat.member_id) else { return StreamsGroupBeat::default() };
        let assigned = member.current.assigned.tasks();
        let news = beat.member_epoch == JOIN || assigned != before.tasks();
        let told = news || beat.owned().is_some_and(|owned| owned != assigned);
        if news && member.record.user_endpoint.is_some() {
            self.endpoint_epoch = self.endpoint_epoch.saturating_add(1);
        }
        let knows_endpoints = beat.endpoint_epoch == self.endpoint_epoch;
        let mut missing = Vec::new();
        if let Some(Configured { problem: Some(problem), missing: topics, .. }) = &self.configured {
            status.push(problem.clone());
            missing.clone_from(topics);
        }
        if let Some(who) = &self.shutdown_by {
            let detail = format!(
                "Streams group member {who} encountered a fatal error and requested a shutdown for the entire application."
            );
            status.push(StreamsStatus { kind: StreamsStatusKind::ShutdownApplication, detail });
        }
        StreamsGroupBeat {
            member_id: beat.member_id.clone(),
            member_epoch: member.current.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            status,
            tasks: told.then_some(assigned),
            endpoint_epoch: self.endpoint_epoch,
            endpoints: (!knows_endpoints).then(|| self.endpoints(topics)),
            missing,
        }
    }
}

/// A member may be one epoch behind when it did not get the answer that told it of the next.
fn check_epoch(current: &StreamsAssignment, epoch: i32, owned: Option<&Tasks>) -> Result<(), Failure> {
    let subset = || owned.is_some_and(|owned| current.assigned.covers(owned));
    if epoch == current.epoch || (epoch < current.epoch && epoch == current.previous_epoch && subset()) {
        return Ok(());
    }
    let message = format!(
        "the member's epoch is {}, not {epoch}: it must give up its tasks and join again",
        current.epoch
    );
    Err(Failure::new(Error::FencedMemberEpoch, message))
}
