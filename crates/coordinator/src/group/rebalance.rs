//! From one generation to the next: waiting for members, voting for a protocol, dropping who does not come.

use headwater_model::TimestampMs;

use crate::context::Context;
use crate::error::Error;
use crate::response::Response;

use super::join::reply_join;
use super::{Group, GroupState, reply_sync};

impl Group {
    fn longest_rebalance(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.record.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// An empty group waits a little for more first members, each of whom prolongs the wait.
    pub(super) fn extend_initial_delay(&mut self, cx: &Context) {
        let until = cx.now.saturating_add(cx.settings.initial_rebalance_delay_ms);
        match self.state {
            GroupState::Empty => self.not_before = until.min(cx.now.saturating_add(self.longest_rebalance())),
            GroupState::PreparingRebalance if cx.now < self.not_before => {
                self.not_before = until.min(self.rebalance_deadline);
            }
            _ => {}
        }
    }

    /// Calls every member to join again, and completes at once if all have.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context) {
        if self.state != GroupState::PreparingRebalance {
            for member in self.members.values_mut() {
                reply_sync(cx, member.sync_ticket.take(), Error::RebalanceInProgress);
            }
            self.state = GroupState::PreparingRebalance;
            self.sync_deadline = None;
            self.rebalance_deadline = cx.now.saturating_add(self.longest_rebalance());
        }
        self.try_complete(cx);
    }

    fn try_complete(&mut self, cx: &mut Context) {
        let all = self.pending.is_empty() && self.members.values().all(|member| member.joined);
        if self.state == GroupState::PreparingRebalance && all && cx.now >= self.not_before {
            self.complete(cx);
        }
    }

    /// Ends the wait: dynamic members that did not join are out, static ones stay until their session ends.
    fn complete(&mut self, cx: &mut Context) {
        self.members.retain(|_, member| member.joined || member.record.instance_id.is_some());
        let leads = |id: &String| self.members.get(id).is_some_and(|member| member.joined);
        if !self.leader.as_ref().is_some_and(leads) {
            self.leader = self.members.iter().find(|(_, member)| member.joined).map(|(id, _)| id.clone());
        }
        if self.leader.is_none() && !self.members.is_empty() {
            self.rebalance_deadline = cx.now.saturating_add(self.longest_rebalance().max(1));
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.not_before = 0;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            self.sync_deadline = None;
            return self.persist(cx);
        }
        self.state = GroupState::CompletingRebalance;
        self.protocol = self.vote();
        self.sync_deadline = Some(cx.now.saturating_add(self.longest_rebalance()));
        for member in self.members.values_mut() {
            (member.joined, member.synced) = (false, false);
            if member.join_ticket.is_some() {
                member.refresh(cx.now);
            }
        }
        let waiting: Vec<_> =
            self.members.iter_mut().filter_map(|(id, m)| Some((id.clone(), m.join_ticket.take()?))).collect();
        for (id, ticket) in waiting {
            let response = self.joined(&id, false);
            cx.reply(ticket, Response::JoinGroup(response));
        }
    }

    /// The protocol that most members prefer among those all support; the first by name when even.
    pub(super) fn vote(&self) -> Option<String> {
        let mut offers = self.members.values().map(|member| &member.record.protocols[..]);
        let common = super::common(offers.next()?, offers);
        let mut votes = std::collections::BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let mut names = member.record.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(name) = names.find(|name| common.contains(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = *votes.values().max()?;
        votes.iter().find(|(_, count)| **count == most).map(|(name, _)| (*name).to_owned())
    }

    /// Removes a member and calls for a new generation.
    pub(super) fn remove_member(&mut self, cx: &mut Context, member_id: &str) {
        self.drop_member(cx, member_id);
        self.prepare_rebalance(cx);
    }

    fn drop_member(&mut self, cx: &mut Context, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        reply_join(cx, member.join_ticket, member_id, Error::UnknownMemberId);
        reply_sync(cx, member.sync_ticket, Error::UnknownMemberId);
        if let Some(instance) = &member.record.instance_id
            && self.static_members.get(instance).is_some_and(|current| current == member_id)
        {
            self.static_members.remove(instance);
        }
        if self.leader.as_deref() == Some(member_id) {
            let joined = |(_, member): &(&String, &super::Member)| member.joined;
            let heir = self.members.iter().find(joined).or_else(|| self.members.iter().next());
            self.leader = heir.map(|(id, _)| id.clone());
        }
    }

    /// When something happens to the group by itself.
    pub fn deadline(&self) -> Option<TimestampMs> {
        let sessions = self.members.values().filter(|member| !member.waits()).map(|m| m.session_deadline);
        let pending = self.pending.values().copied();
        let rebalance = (self.state == GroupState::PreparingRebalance).then(|| match self.not_before {
            wait if wait > 0 => wait.min(self.rebalance_deadline),
            _ => self.rebalance_deadline,
        });
        sessions.chain(pending).chain(rebalance).chain(self.sync_deadline).min()
    }

    /// Ends sessions and waits that are over.
    pub fn expire(&mut self, cx: &mut Context) {
        let now = cx.now;
        self.pending.retain(|_, deadline| *deadline > now);
        let mut gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.waits() && member.session_deadline <= now)
            .map(|(id, _)| id.clone())
            .collect();
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_deadline = None;
            gone.extend(self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone()));
        }
        for id in &gone {
            self.drop_member(cx, id);
        }
        if !gone.is_empty() {
            self.prepare_rebalance(cx);
        }
        self.try_complete(cx);
        if self.state == GroupState::PreparingRebalance {
            if now >= self.rebalance_deadline {
                self.complete(cx);
            } else if now >= self.not_before {
                self.not_before = 0;
            }
        }
    }
}
