//! ShareGroupHeartbeat: joining, staying, leaving.

use super::configs::ShareSettings;
use super::group::{Member, ShareGroup};
use super::records::{ShareMemberRecord, ShareRecord};
use super::request::{ShareAssigned, ShareHeartbeat};
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;
use crate::request::Client;
use crate::topics::Topics;

const JOIN: i32 = 0;
const LEAVE: i32 = -1;

fn invalid(message: &str) -> Failure {
    Failure::new(Error::InvalidRequest, message)
}

/// What is wrong with a heartbeat by itself.
pub(super) fn check(beat: &ShareHeartbeat) -> Result<(), Failure> {
    let joins = beat.member_epoch == JOIN;
    match () {
        () if beat.group_id.trim().is_empty() => {
            Err(invalid("the group id must not be empty: name the share group"))
        }
        () if beat.member_id.is_empty() => {
            Err(invalid("the member id must not be empty: a member of a share group makes its own"))
        }
        () if beat.member_epoch < LEAVE => {
            Err(invalid("a member's epoch is 0 to join, -1 to leave, or what it was told"))
        }
        () if beat.rack.as_deref() == Some("") => Err(invalid("the rack id must not be empty: leave it out")),
        () if joins && beat.subscription.as_ref().is_none_or(Vec::is_empty) => {
            Err(invalid("a member that joins must name the topics it subscribes to"))
        }
        () => Ok(()),
    }
}

impl ShareGroup {
    pub fn heartbeat(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        client: &Client,
        beat: ShareHeartbeat,
        settings: &ShareSettings,
    ) -> Result<ShareAssigned, Failure> {
        let interval = settings.heartbeat_interval_ms;
        if beat.member_epoch == LEAVE {
            let gone = self.members.remove(&beat.member_id).ok_or(Error::UnknownMemberId)?;
            self.change(cx, topics);
            let member_id = gone.record.member_id;
            return Ok(ShareAssigned {
                member_id,
                member_epoch: LEAVE,
                heartbeat_interval_ms: interval,
                assignment: None,
            });
        }
        let joins = !self.members.contains_key(&beat.member_id);
        let changed = match joins {
            true => self.join(cx, client, &beat).map(|()| false)?,
            false => self.stay(client, &beat)?,
        };
        // Only who joins may have to wait; who leaves something or reads something else must not leave records lying.
        let next_ms = self.assigned_ms.map(|at| at.saturating_add(settings.assignment_interval_ms.into()));
        let soon = next_ms.is_some_and(|at| cx.now < at);
        if changed || self.is_outdated(topics) || (!soon && (joins || self.is_awaited(topics))) {
            self.change(cx, topics);
        } else if joins {
            cx.append(StateRecord::Share(ShareRecord::Group(self.record())));
        }
        let deadline = cx.now.saturating_add(settings.session_timeout_ms.into());
        let epoch = self.epoch;
        let member = self.members.get_mut(&beat.member_id).ok_or(Error::UnknownMemberId)?;
        member.session_deadline = deadline;
        // Who tells another epoch, or all of itself, has not got the last answer.
        let news = beat.member_epoch != epoch || beat.subscription.is_some();
        if member.epoch != Some(epoch) {
            member.previous_epoch = member.epoch.unwrap_or(JOIN);
            member.epoch = Some(epoch);
        }
        Ok(ShareAssigned {
            member_id: beat.member_id,
            member_epoch: epoch,
            heartbeat_interval_ms: interval,
            assignment: news.then(|| member.record.assignment.clone()),
        })
    }

    /// Ends the sessions that are over.
    pub fn expire_members(&mut self, cx: &mut Context, topics: &Topics) {
        let before = self.members.len();
        self.members.retain(|_, member| member.session_deadline > cx.now);
        if self.members.len() < before {
            self.change(cx, topics);
        }
    }

    fn change(&mut self, cx: &mut Context, topics: &Topics) {
        self.assign(topics, cx.now);
        cx.append(StateRecord::Share(ShareRecord::Group(self.record())));
    }

    fn join(&mut self, cx: &Context, client: &Client, beat: &ShareHeartbeat) -> Result<(), Error> {
        if beat.member_epoch != JOIN {
            return Err(Error::UnknownMemberId);
        }
        if self.members.len() >= cx.settings.share.max_group_size {
            return Err(Error::GroupMaxSizeReached);
        }
        let record = ShareMemberRecord {
            member_id: beat.member_id.clone(),
            client_id: client.id.clone(),
            client_host: client.host.clone(),
            rack: beat.rack.clone(),
            subscription: sorted(beat.subscription.clone().unwrap_or_default()),
            assignment: Vec::new(),
        };
        let member = Member { record, epoch: None, previous_epoch: -1, session_deadline: cx.now };
        self.members.insert(beat.member_id.clone(), member);
        Ok(())
    }

    /// Whether the member is another than before.
    fn stay(&mut self, client: &Client, beat: &ShareHeartbeat) -> Result<bool, Error> {
        let newest = self.epoch;
        let member = self.members.get_mut(&beat.member_id).ok_or(Error::UnknownMemberId)?;
        let told = beat.member_epoch;
        let known = match member.epoch {
            _ if told == JOIN => true,
            // The broker was restarted; the member knows better.
            None => told <= newest,
            Some(epoch) => told == epoch || told == member.previous_epoch,
        };
        if !known {
            return Err(Error::FencedMemberEpoch);
        }
        if member.epoch.is_none() && told != JOIN {
            member.epoch = Some(told);
        }
        let mut record = member.record.clone();
        record.client_id.clone_from(&client.id);
        record.client_host.clone_from(&client.host);
        if let Some(subscription) = &beat.subscription {
            record.subscription = sorted(subscription.clone());
        }
        if beat.rack.is_some() {
            record.rack.clone_from(&beat.rack);
        }
        let changed = record.subscription != member.record.subscription;
        member.record = record;
        Ok(changed)
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}
