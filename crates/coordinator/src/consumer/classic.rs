//! Members of a consumer group that speak the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! Nobody leads: the coordinator assigns, a member joins to say what it gave up and syncs to learn what it has. A member's
//! epoch is its generation.

use std::collections::BTreeSet;

use super::embedded::{self, Subscription};
use super::records::{ClassicMember, ConsumerMemberRecord, MemberState};
use super::timeouts::Timeouts;
use super::{ConsumerGroup, Member, describe};
use crate::context::Context;
use crate::error::Error;
use crate::group::share_one;
use crate::records::TopicPartitionId;
use crate::request::{Client, Heartbeat, JoinGroup, LeavingMember, SyncGroup};
use crate::response::{JoinedGroup, LeftMember, SyncedGroup};
use crate::topics::Topics;

const PROTOCOL_TYPE: &str = "consumer";

impl ConsumerGroup {
    pub fn join_classic(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        timeouts: Timeouts,
        client: &Client,
        mut join: JoinGroup,
    ) -> JoinedGroup {
        match self.try_join(cx, topics, timeouts, client, &mut join) {
            Ok(()) => self.joined(&join),
            Err(error) => JoinedGroup::refused(join.member_id, error),
        }
    }

    fn try_join(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        timeouts: Timeouts,
        client: &Client,
        join: &mut JoinGroup,
    ) -> Result<(), Error> {
        let subscription = self.check_join(cx, join)?;
        let new = join.member_id.is_empty();
        let instance = join.instance_id.clone();
        match &instance {
            Some(instance) if !new => self.check_instance(instance, &join.member_id)?,
            _ => {}
        }
        if new {
            join.member_id =
                format!("{}-{}", instance.as_deref().unwrap_or(&client.id), cx.random.uuid_text());
            if join.require_known_member_id && instance.is_none() {
                return Err(Error::MemberIdRequired);
            }
        }
        if let Some(instance) = &instance {
            self.replace(cx, instance, &join.member_id);
        }
        let changed = self.subscribe(cx, record(client, join, &subscription));
        self.advance(cx, topics, client, changed, timeouts.assignment_interval_ms);
        let owned = owned(&subscription, topics);
        self.reconcile(cx, topics, &join.member_id, Some(&owned), changed);
        self.begin_session(&join.member_id, cx.now, timeouts);
        if let Some(member) = self.members.get_mut(&join.member_id) {
            member.rejoin_deadline = None;
            member.sync_deadline = Some(cx.now.saturating_add(member.record.rebalance_timeout_ms.into()));
        }
        Ok(())
    }

    fn check_join(&self, cx: &Context, join: &JoinGroup) -> Result<Subscription, Error> {
        let sessions = cx.settings.min_session_timeout_ms..=cx.settings.max_session_timeout_ms;
        if !sessions.contains(&join.session_timeout_ms) {
            return Err(Error::InvalidSessionTimeout);
        }
        let size: usize = join.protocols.iter().map(|(name, data)| name.len() + data.len()).sum();
        if size > cx.settings.max_member_metadata_bytes {
            return Err(Error::InvalidRequest);
        }
        self.check_room(cx, &join.member_id, join.instance_id.as_deref())?;
        let others = self.members.values().filter(|member| member.record.member_id != join.member_id);
        let others = others.filter_map(|member| member.record.classic.as_ref());
        let shares_one = share_one(&join.protocols, others.map(|classic| &classic.protocols[..]));
        if join.protocol_type != PROTOCOL_TYPE || !shares_one {
            return Err(Error::InconsistentGroupProtocol);
        }
        let first = join.protocols.first().map_or(&[][..], |(_, metadata)| metadata);
        embedded::read_subscription(first).ok_or(Error::InconsistentGroupProtocol)
    }

    fn joined(&self, join: &JoinGroup) -> JoinedGroup {
        JoinedGroup {
            error: None,
            generation: self.members.get(&join.member_id).map_or(-1, |member| member.current.epoch),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol: join.protocols.first().map(|(name, _)| name.clone()),
            leader: String::new(),
            skip_assignment: false,
            member_id: join.member_id.clone(),
            members: Vec::new(),
        }
    }

    /// The classic member of this id, if it may speak with this generation.
    fn classic_member(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<&mut Member, Error> {
        if let Some(instance) = instance {
            self.check_instance(instance, member_id)?;
        }
        let member = self.members.get_mut(member_id).filter(|member| member.is_classic());
        let member = member.ok_or(Error::UnknownMemberId)?;
        if member.current.epoch == generation { Ok(member) } else { Err(Error::IllegalGeneration) }
    }

    pub fn sync_classic(&mut self, cx: &Context, topics: &Topics, sync: &SyncGroup) -> SyncedGroup {
        self.try_sync(cx, topics, sync)
            .unwrap_or_else(|error| SyncedGroup { error: Some(error), ..SyncedGroup::default() })
    }

    fn try_sync(&mut self, cx: &Context, topics: &Topics, sync: &SyncGroup) -> Result<SyncedGroup, Error> {
        let epoch = self.epochs.epoch;
        let member = self.classic_member(&sync.member_id, sync.instance_id.as_deref(), sync.generation)?;
        let Some(classic) = member.record.classic.clone() else { return Err(Error::UnknownMemberId) };
        let (name, metadata) = classic.protocols.first().ok_or(Error::InconsistentGroupProtocol)?;
        if sync.protocol_type.as_deref().is_some_and(|asked| asked != PROTOCOL_TYPE)
            || sync.protocol.as_ref().is_some_and(|asked| asked != name)
        {
            return Err(Error::InconsistentGroupProtocol);
        }
        if epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            member.expect_rejoin(cx.now);
            return Err(Error::RebalanceInProgress);
        }
        member.sync_deadline = None;
        member.session_deadline = cx.now.saturating_add(classic.session_timeout_ms.into());
        let version = embedded::read_subscription(metadata).map_or(0, |subscription| subscription.version);
        let assigned = describe::by_topic(member.current.assigned.keys(), topics);
        let assigned = assigned.iter().map(|topic| (topic.name.as_str(), topic.partitions.as_slice()));
        Ok(SyncedGroup {
            error: None,
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol: Some(name.clone()),
            assignment: embedded::write_assignment(version, assigned),
        })
    }

    /// # Errors
    /// `REBALANCE_IN_PROGRESS` when joining again would get the member further.
    pub fn heartbeat_classic(&mut self, cx: &Context, beat: &Heartbeat) -> Result<(), Error> {
        let epoch = self.epochs.epoch;
        let waits = self.waits_for_others(&beat.member_id);
        let member = self.classic_member(&beat.member_id, beat.instance_id.as_deref(), beat.generation)?;
        let session = member.record.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
        member.session_deadline = cx.now.saturating_add(session.into());
        let further = match member.current.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !waits,
            MemberState::Stable => false,
        };
        if member.current.epoch < epoch || further {
            member.expect_rejoin(cx.now);
            return Err(Error::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether others have all that the member's target has beyond what it got.
    fn waits_for_others(&self, member_id: &str) -> bool {
        let Some(member) = self.members.get(member_id) else { return false };
        let mut missing =
            member.target.iter().filter(|partition| !member.current.assigned.contains_key(*partition));
        missing.all(|partition| self.owners.get(partition).is_some_and(|owner| owner != member_id))
    }

    /// LeaveGroup: classic members by their id, any static member by its instance id.
    pub fn leave_classic(&mut self, cx: &mut Context, leaving: Vec<LeavingMember>) -> Vec<LeftMember> {
        let found: Vec<Result<String, Error>> =
            leaving.iter().map(|one| self.leaver(&one.member_id, one.instance_id.as_deref())).collect();
        let mut ids: Vec<String> = found.iter().flatten().cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        self.fence(cx, &ids);
        let left = |(LeavingMember { member_id, instance_id }, found): (_, Result<_, Error>)| LeftMember {
            member_id,
            instance_id,
            error: found.err(),
        };
        leaving.into_iter().zip(found).map(left).collect()
    }

    fn leaver(&self, member_id: &str, instance: Option<&str>) -> Result<String, Error> {
        match instance {
            Some(instance) if member_id.is_empty() => {
                self.instances.get(instance).cloned().ok_or(Error::UnknownMemberId)
            }
            Some(instance) => self.check_instance(instance, member_id).map(|()| member_id.to_owned()),
            None => match self.members.get(member_id) {
                Some(member) if member.is_classic() => Ok(member_id.to_owned()),
                _ => Err(Error::UnknownMemberId),
            },
        }
    }
}

fn record(client: &Client, join: &JoinGroup, subscription: &Subscription) -> ConsumerMemberRecord {
    let rebalance_timeout_ms = match join.rebalance_timeout_ms {
        unset if unset < 0 => join.session_timeout_ms,
        timeout => timeout,
    };
    ConsumerMemberRecord {
        member_id: join.member_id.clone(),
        instance_id: join.instance_id.clone(),
        rack_id: subscription.rack.clone(),
        client_id: client.id.clone(),
        client_host: client.host.clone(),
        rebalance_timeout_ms,
        assignor: None,
        topics: subscription.topics.iter().cloned().collect(),
        regex: None,
        classic: Some(ClassicMember {
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
        }),
    }
}

fn owned(subscription: &Subscription, topics: &Topics) -> BTreeSet<TopicPartitionId> {
    let known =
        subscription.owned.iter().filter_map(|(name, partitions)| Some((topics.get(name)?.id, partitions)));
    known.flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, *partition))).collect()
}
