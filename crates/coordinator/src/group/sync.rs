//! SyncGroup, Heartbeat and LeaveGroup: what a member does between two joins.

use std::collections::BTreeMap;

use crate::context::Context;
use crate::error::Error;
use crate::request::{Heartbeat, LeavingMember, SyncGroup};
use crate::response::{LeftMember, Response, SyncedGroup};

use super::{Group, GroupState, reply_sync};

impl Group {
    /// Answers at once, or when the leader has sent the assignments.
    pub fn sync(&mut self, cx: &mut Context, ticket: u64, request: SyncGroup) {
        if let Err(error) = self.try_sync(cx, ticket, request) {
            reply_sync(cx, Some(ticket), error);
        }
    }

    fn try_sync(&mut self, cx: &mut Context, ticket: u64, request: SyncGroup) -> Result<(), Error> {
        self.check_generation(&request.member_id, request.instance_id.as_deref(), request.generation)?;
        let differs = |asked: &Option<String>, is: Option<&str>| asked.is_some() && asked.as_deref() != is;
        if differs(&request.protocol_type, Some(&self.protocol_type))
            || differs(&request.protocol, self.protocol.as_deref())
        {
            return Err(Error::InconsistentGroupProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(Error::RebalanceInProgress);
        }
        let member = self.members.get_mut(&request.member_id).ok_or(Error::UnknownMemberId)?;
        member.refresh(cx.now);
        member.synced = true;
        reply_sync(cx, member.sync_ticket.replace(ticket), Error::RebalanceInProgress);
        if self.state == GroupState::CompletingRebalance && self.leader.as_ref() == Some(&request.member_id) {
            let mut assignments: BTreeMap<_, _> = request.assignments.into_iter().collect();
            for (id, member) in &mut self.members {
                member.record.assignment = assignments.remove(id).unwrap_or_default();
            }
            self.state = GroupState::Stable;
            self.persist(cx);
        }
        if self.members.values().all(|member| member.synced) {
            self.sync_deadline = None;
        }
        if self.state == GroupState::Stable {
            self.answer_syncs(cx);
        }
        Ok(())
    }

    fn answer_syncs(&mut self, cx: &mut Context) {
        for member in self.members.values_mut() {
            let Some(ticket) = member.sync_ticket.take() else { continue };
            member.refresh(cx.now);
            let response = SyncedGroup {
                error: None,
                protocol_type: Some(self.protocol_type.clone()),
                protocol: self.protocol.clone(),
                assignment: member.record.assignment.clone(),
            };
            cx.reply(ticket, Response::SyncGroup(response));
        }
    }

    pub fn heartbeat(&mut self, cx: &Context, request: &Heartbeat) -> Result<(), Error> {
        self.check_generation(&request.member_id, request.instance_id.as_deref(), request.generation)?;
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.refresh(cx.now);
        }
        if self.state == GroupState::PreparingRebalance { Err(Error::RebalanceInProgress) } else { Ok(()) }
    }

    pub fn leave(&mut self, cx: &mut Context, leaving: LeavingMember) -> LeftMember {
        let LeavingMember { member_id, instance_id } = leaving;
        let error = self.try_leave(cx, &member_id, instance_id.as_deref()).err();
        LeftMember { member_id, instance_id, error }
    }

    fn try_leave(
        &mut self,
        cx: &mut Context,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), Error> {
        if self.pending.remove(member_id).is_some() {
            if self.state == GroupState::PreparingRebalance {
                self.prepare_rebalance(cx);
            }
            return Ok(());
        }
        let id = match instance_id.and_then(|instance| self.static_members.get(instance)) {
            Some(current) if member_id.is_empty() => current.clone(),
            _ => member_id.to_owned(),
        };
        self.check_member(&id, instance_id)?;
        self.remove_member(cx, &id);
        Ok(())
    }
}
