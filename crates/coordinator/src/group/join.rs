//! JoinGroup: becoming a member, coming back as one, replacing a static one (KIP-345, 394, 814).

use crate::context::Context;
use crate::error::Error;
use crate::records::MemberRecord;
use crate::request::{Client, JoinGroup};
use crate::response::{JoinedGroup, JoinedMember, Response};

use super::{Group, GroupState, Member, reply_sync};

/// How much of a client's name for itself its member id begins with, in bytes.
const LONGEST_PREFIX: usize = 255;

pub(super) fn reply_join(cx: &mut Context, ticket: Option<u64>, member_id: &str, error: Error) {
    let Some(ticket) = ticket else { return };
    let response = JoinedGroup::refused(member_id.to_owned(), error);
    cx.reply(ticket, Response::JoinGroup(response));
}

impl Group {
    /// Answers at once or when the generation is complete.
    pub fn join(&mut self, cx: &mut Context, ticket: u64, client: &Client, request: JoinGroup) {
        let member_id = request.member_id.clone();
        if let Err(error) = self.try_join(cx, ticket, client, request) {
            reply_join(cx, Some(ticket), &member_id, error);
        }
    }

    fn try_join(
        &mut self,
        cx: &mut Context,
        ticket: u64,
        client: &Client,
        request: JoinGroup,
    ) -> Result<(), Error> {
        self.check_join(cx, &request)?;
        if !request.member_id.is_empty() {
            if self.pending.remove(&request.member_id).is_some() {
                let id = request.member_id.clone();
                self.add_member(cx, ticket, client, request, id);
                return Ok(());
            }
            self.check_member(&request.member_id, request.instance_id.as_deref())?;
            self.rejoin(cx, ticket, client, request);
            return Ok(());
        }
        let known = request.instance_id.as_ref().and_then(|instance| self.static_members.get(instance));
        if let Some(old) = known.and_then(|id| self.members.remove(id)) {
            self.replace_static(cx, ticket, client, request, old);
            return Ok(());
        }
        if self.members.len() + self.pending.len() >= cx.settings.max_group_size {
            return Err(Error::GroupMaxSizeReached);
        }
        let prefix = request.instance_id.as_deref().unwrap_or(&client.id);
        let prefix = &prefix[..prefix.floor_char_boundary(LONGEST_PREFIX)];
        let id = format!("{prefix}-{}", cx.random.uuid_text());
        if request.instance_id.is_none() && request.require_known_member_id {
            self.pending.insert(id.clone(), cx.now.saturating_add(request.session_timeout_ms.into()));
            reply_join(cx, Some(ticket), &id, Error::MemberIdRequired);
        } else {
            self.add_member(cx, ticket, client, request, id);
        }
        Ok(())
    }

    fn check_join(&self, cx: &Context, request: &JoinGroup) -> Result<(), Error> {
        let sessions = cx.settings.min_session_timeout_ms..=cx.settings.max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return Err(Error::InvalidSessionTimeout);
        }
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return Err(Error::InconsistentGroupProtocol);
        }
        let size: usize = request.protocols.iter().map(|(name, data)| name.len() + data.len()).sum();
        if size > cx.settings.max_member_metadata_bytes {
            return Err(Error::InvalidRequest);
        }
        // A member that comes back may change its protocols as long as the others can follow.
        let replaced = request.instance_id.as_ref().and_then(|instance| self.static_members.get(instance));
        let others: Vec<_> = self
            .members
            .iter()
            .filter(|(id, _)| **id != request.member_id && Some(*id) != replaced)
            .map(|(_, member)| &member.record.protocols[..])
            .collect();
        let same_type = others.is_empty() || self.protocol_type == request.protocol_type;
        match same_type && super::share_one(&request.protocols, others.into_iter()) {
            true => Ok(()),
            false => Err(Error::InconsistentGroupProtocol),
        }
    }

    fn member(&self, cx: &Context, ticket: u64, client: &Client, request: JoinGroup, id: String) -> Member {
        let rebalance_timeout_ms = match request.rebalance_timeout_ms {
            unset if unset < 0 => request.session_timeout_ms,
            timeout => timeout,
        };
        let mut member = Member {
            record: MemberRecord {
                member_id: id,
                instance_id: request.instance_id,
                client_id: client.id.clone(),
                client_host: client.host.clone(),
                session_timeout_ms: request.session_timeout_ms,
                rebalance_timeout_ms,
                protocols: request.protocols,
                assignment: Default::default(),
            },
            session_deadline: 0,
            joined: true,
            synced: false,
            join_ticket: Some(ticket),
            sync_ticket: None,
        };
        member.refresh(cx.now);
        member
    }

    fn add_member(&mut self, cx: &mut Context, ticket: u64, client: &Client, request: JoinGroup, id: String) {
        if self.members.is_empty() {
            self.protocol_type = request.protocol_type.clone();
        }
        let member = self.member(cx, ticket, client, request, id.clone());
        if let Some(instance) = &member.record.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        self.extend_initial_delay(cx);
        self.prepare_rebalance(cx);
    }

    fn rejoin(&mut self, cx: &mut Context, ticket: u64, client: &Client, request: JoinGroup) {
        let id = request.member_id.clone();
        let Some(old) = self.members.get(&id) else { return };
        let changed = old.record.protocols != request.protocols;
        let leads = self.leader.as_deref() == Some(id.as_str());
        let again = match self.state {
            GroupState::CompletingRebalance => !changed,
            GroupState::Stable => !changed && !leads,
            GroupState::Empty | GroupState::PreparingRebalance => false,
        };
        if again {
            if let Some(member) = self.members.get_mut(&id) {
                member.refresh(cx.now);
            }
            let response = self.joined(&id, false);
            cx.reply(ticket, Response::JoinGroup(response));
            return;
        }
        let mut member = self.member(cx, ticket, client, request, id.clone());
        member.record.assignment = old.record.assignment.clone();
        member.record.instance_id = old.record.instance_id.clone();
        if let Some(old) = self.members.insert(id.clone(), member) {
            reply_join(cx, old.join_ticket, &id, Error::RebalanceInProgress);
            reply_sync(cx, old.sync_ticket, Error::RebalanceInProgress);
        }
        self.prepare_rebalance(cx);
    }

    /// A process came back with its instance id: it takes the place of its former self, whom it fences.
    fn replace_static(
        &mut self,
        cx: &mut Context,
        ticket: u64,
        client: &Client,
        request: JoinGroup,
        old: Member,
    ) {
        let old_id = old.record.member_id.as_str();
        reply_join(cx, old.join_ticket, old_id, Error::FencedInstanceId);
        reply_sync(cx, old.sync_ticket, Error::FencedInstanceId);
        let skipping = request.supports_skipping_assignment;
        let instance = request.instance_id.clone().unwrap_or_default();
        let id = format!("{instance}-{}", cx.random.uuid_text());
        let led = self.leader.as_deref() == Some(old_id);
        let mut member = self.member(cx, ticket, client, request, id.clone());
        member.record.assignment = old.record.assignment;
        if led {
            self.leader = Some(id.clone());
        }
        self.static_members.insert(instance, id.clone());
        self.members.insert(id.clone(), member);
        if self.state != GroupState::Stable || self.vote() != self.protocol {
            return self.prepare_rebalance(cx);
        }
        if let Some(member) = self.members.get_mut(&id) {
            (member.join_ticket, member.joined, member.synced) = (None, false, true);
        }
        self.persist(cx);
        let mut response = self.joined(&id, led && skipping);
        if led && !skipping {
            // Below v9 only a leader that is someone else keeps the member from assigning.
            response.leader = old_id.to_owned();
            response.members.clear();
        }
        cx.reply(ticket, Response::JoinGroup(response));
    }

    /// What a member of the current generation is told.
    pub(super) fn joined(&self, member_id: &str, skip_assignment: bool) -> JoinedGroup {
        let protocol = self.protocol.as_deref();
        let leads = self.leader.as_deref() == Some(member_id);
        let describe = |member: &Member| JoinedMember {
            member_id: member.record.member_id.clone(),
            instance_id: member.record.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        JoinedGroup {
            error: None,
            generation: self.generation,
            protocol_type: Some(self.protocol_type.clone()),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment,
            member_id: member_id.to_owned(),
            members: if leads { self.members.values().map(describe).collect() } else { Vec::new() },
        }
    }
}
