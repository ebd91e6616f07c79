//! Classic consumer groups: members, generations, assignments.
//!
//! Owns one group's state machine (`Empty → PreparingRebalance → CompletingRebalance → Stable`); refuses to know what
//! assignments mean. Durable is the last generation that became stable or empty ([`Group::persisted`]), so members go on
//! with heartbeats after a restart; who is about to join is not durable.

mod handover;
mod join;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_model::TimestampMs;

use crate::context::Context;
use crate::error::Error;
use crate::records::{GroupRecord, MemberRecord, StateRecord};
use crate::response::{GroupDescription, GroupListing, MemberDescription, Response, SyncedGroup};

/// Names of assignors and what a member says to each, as they are joined with.
type Protocols = [(String, Bytes)];

/// The names of these protocols that all others offer, too. Each list is read once: a client may send a very long one.
pub(crate) fn common<'a>(
    offered: &'a Protocols,
    others: impl Iterator<Item = &'a Protocols>,
) -> BTreeSet<&'a str> {
    let names =
        |offered: &'a Protocols| offered.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>();
    let mut common = names(offered);
    for other in others {
        let offered = names(other);
        common.retain(|name| offered.contains(name));
    }
    common
}

/// Whether one of these protocols is offered by all others, too.
pub(crate) fn share_one<'a>(offered: &'a Protocols, others: impl Iterator<Item = &'a Protocols>) -> bool {
    !common(offered, others).is_empty()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum GroupState {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

#[derive(Debug)]
struct Member {
    record: MemberRecord,
    session_deadline: TimestampMs,
    /// Has joined the generation that is being prepared.
    joined: bool,
    /// Has asked for its assignment of the current generation.
    synced: bool,
    join_ticket: Option<u64>,
    sync_ticket: Option<u64>,
}

impl Member {
    fn refresh(&mut self, now: TimestampMs) {
        self.session_deadline = now.saturating_add(self.record.session_timeout_ms.into());
    }

    fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let mut protocols = self.record.protocols.iter();
        protocols
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map(|(_, data)| data.clone())
            .unwrap_or_default()
    }

    fn waits(&self) -> bool {
        self.join_ticket.is_some() || self.sync_ticket.is_some()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    id: String,
    persisted: Option<GroupRecord>,
    state: GroupState,
    generation: i32,
    protocol_type: String,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids by instance id.
    static_members: BTreeMap<String, String>,
    /// Member ids that were given out but have not joined, and until when they may.
    pending: BTreeMap<String, TimestampMs>,
    /// While preparing: not before this time (the initial delay) …
    not_before: TimestampMs,
    /// … and at this time without those who are missing.
    rebalance_deadline: TimestampMs,
    /// Until when members must have asked for their assignments; `None` when all have.
    sync_deadline: Option<TimestampMs>,
}

impl Group {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// The group as it was persisted; every member has a fresh session.
    pub fn restored(record: &GroupRecord, now: TimestampMs) -> Self {
        let mut group = Self::new(&record.group_id);
        for member in &record.members {
            if let Some(instance) = &member.instance_id {
                group.static_members.insert(instance.clone(), member.member_id.clone());
            }
            let mut restored = Member {
                record: member.clone(),
                session_deadline: 0,
                joined: false,
                synced: true,
                join_ticket: None,
                sync_ticket: None,
            };
            restored.refresh(now);
            group.members.insert(member.member_id.clone(), restored);
        }
        group.state = if record.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        group.generation = record.generation;
        group.protocol_type = record.protocol_type.clone();
        group.protocol = record.protocol.clone();
        group.leader = record.leader.clone();
        group.persisted = Some(record.clone());
        group
    }

    fn persist(&mut self, cx: &mut Context) {
        let record = self.record(cx.now);
        self.persisted = Some(record.clone());
        cx.append(StateRecord::Group(record));
    }

    fn record(&self, timestamp: TimestampMs) -> GroupRecord {
        GroupRecord {
            group_id: self.id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.values().map(|member| member.record.clone()).collect(),
            timestamp,
        }
    }

    pub fn persisted(&self) -> Option<&GroupRecord> {
        self.persisted.as_ref()
    }

    pub fn is_empty(&self) -> bool {
        self.state == GroupState::Empty
    }

    /// Whether its members have what they joined for.
    pub fn is_stable(&self) -> bool {
        self.state == GroupState::Stable
    }

    /// Whether nothing would be lost with it.
    pub fn is_nothing(&self) -> bool {
        self.is_empty() && self.persisted.is_none() && self.pending.is_empty()
    }

    /// Whether this id, with this instance id, is a member.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(Error::UnknownMemberId),
                Some(current) if current != member_id => return Err(Error::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(Error::UnknownMemberId) }
    }

    fn check_generation(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), Error> {
        self.check_member(member_id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(Error::IllegalGeneration) }
    }

    /// Whether offsets may be committed in this name; counts as a heartbeat.
    pub fn check_commit(
        &mut self,
        now: TimestampMs,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), Error> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_generation(member_id, instance_id, generation)?;
        } else if !transactional {
            return Err(Error::UnknownMemberId);
        }
        if !transactional && self.state == GroupState::CompletingRebalance {
            return Err(Error::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.refresh(now);
        }
        Ok(())
    }

    /// The topics that members of a consumer group read; `None` when subscriptions cannot be read.
    pub fn subscribed(&self) -> Option<BTreeSet<&str>> {
        if self.protocol_type != "consumer" {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            for (_, metadata) in &member.record.protocols {
                topics.extend(subscription(metadata)?);
            }
        }
        Some(topics)
    }

    /// The connection that waits for this ticket is gone; the member stays until its session ends.
    pub fn cancel(&mut self, ticket: u64, now: TimestampMs) -> bool {
        let waiting =
            |member: &&mut Member| member.join_ticket == Some(ticket) || member.sync_ticket == Some(ticket);
        let Some(member) = self.members.values_mut().find(waiting) else { return false };
        if member.join_ticket == Some(ticket) {
            member.join_ticket = None;
        } else {
            member.sync_ticket = None;
        }
        member.refresh(now);
        true
    }

    pub fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            protocol_type: self.protocol_type.clone(),
            state: self.state.name(),
            kind: "classic",
        }
    }

    pub fn describe(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable);
        let describe = |member: &Member| MemberDescription {
            member_id: member.record.member_id.clone(),
            instance_id: member.record.instance_id.clone(),
            client_id: member.record.client_id.clone(),
            client_host: member.record.client_host.clone(),
            metadata: member.metadata(protocol),
            assignment: if stable { member.record.assignment.clone() } else { Bytes::new() },
        };
        GroupDescription {
            group_id: self.id.clone(),
            state: self.state.name(),
            protocol_type: self.protocol_type.clone(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: self.members.values().map(describe).collect(),
            error: None,
        }
    }
}

fn reply_sync(cx: &mut Context, ticket: Option<u64>, error: Error) {
    if let Some(ticket) = ticket {
        cx.reply(ticket, Response::SyncGroup(SyncedGroup { error: Some(error), ..SyncedGroup::default() }));
    }
}

/// The topics of a `ConsumerProtocolSubscription`: version, then an array of strings; `None` if it is something else.
fn subscription(metadata: &[u8]) -> Option<Vec<&str>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (topic, after) = after.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = after;
    }
    Some(topics)
}
