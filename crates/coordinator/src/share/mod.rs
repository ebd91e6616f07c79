//! Share groups (KIP-932): consumers that take records from one another's partitions, each record on its own.
//!
//! Owns the groups' members, what became of each record, and their configuration; refuses to read logs: whoever
//! asks has read the records it acquires. Durable is what records have become; acquisitions end with a restart.

mod assign;
mod configs;
mod delivery;
mod dispatch;
mod group;
mod heartbeat;
mod offsets;
mod partition;
mod records;
mod request;

use std::collections::BTreeMap;

use headwater_model::TimestampMs;

pub use configs::{ShareDefaults, ShareIsolation, ShareReset, ShareSettings};
pub use records::{ShareGroupRecord, ShareKey, ShareMemberRecord, ShareRange, ShareRecord, ShareState};
pub use request::*;

use crate::Coordinator;
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::{StateRecord, TopicId};
use crate::request::Client;
use crate::response::{GroupListing, Response};
use crate::timers::Alarm;
use crate::topics::Topics;
use group::ShareGroup;
use partition::SharePartition;

/// All share groups.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    groups: BTreeMap<String, ShareGroup>,
}

impl Shares {
    pub fn has(&self, group_id: &str) -> bool {
        self.groups.contains_key(group_id)
    }

    /// Replays a record.
    pub fn apply(&mut self, record: ShareRecord, settings: &ShareSettings, now: TimestampMs) {
        match record {
            ShareRecord::Group(record) => {
                let deadline = now.saturating_add(settings.session_timeout_ms.into());
                self.group_mut(&record.group_id).restore(record, deadline);
            }
            ShareRecord::GroupDeleted { group_id } => drop(self.groups.remove(&group_id)),
            ShareRecord::Partition { key, start, ranges } => {
                let partition = SharePartition::restored(start, &ranges);
                let place = (key.topic_id, key.partition);
                self.group_mut(&key.group_id).partitions.insert(place, partition);
            }
            ShareRecord::Delivered { key, ranges } => {
                let group = self.group_mut(&key.group_id);
                if let Some(partition) = group.partitions.get_mut(&(key.topic_id, key.partition)) {
                    partition.apply(&ranges);
                }
            }
            ShareRecord::PartitionsDeleted { group_id, topic_id } => {
                self.group_mut(&group_id).partitions.retain(|(topic, _), _| *topic != topic_id);
            }
        }
    }

    fn group_mut(&mut self, group_id: &str) -> &mut ShareGroup {
        self.groups.entry(group_id.to_owned()).or_insert_with(|| ShareGroup::new(group_id))
    }

    /// The group, which is made where it is not there yet.
    fn made(&mut self, cx: &mut Context, group_id: &str) -> &mut ShareGroup {
        if !self.has(group_id) {
            let made = self.group_mut(group_id).record();
            cx.append(StateRecord::Share(ShareRecord::Group(made)));
        }
        self.group_mut(group_id)
    }

    pub fn snapshot(&self) -> impl Iterator<Item = StateRecord> {
        self.groups.values().flat_map(ShareGroup::snapshot).map(StateRecord::Share)
    }

    /// The topic is gone: what it was to the groups is, too, without a record of its own.
    pub fn forget_topic(&mut self, id: &TopicId) {
        for group in self.groups.values_mut() {
            group.partitions.retain(|(topic, _), _| topic != id);
        }
    }

    pub fn list(&self) -> impl Iterator<Item = GroupListing> {
        self.groups.values().map(ShareGroup::listing)
    }

    pub fn delete(&mut self, cx: &mut Context, group_id: &str) -> Result<(), Error> {
        match self.groups.get(group_id) {
            None => return Err(Error::GroupIdNotFound),
            Some(group) if !group.members.is_empty() => return Err(Error::NonEmptyGroup),
            Some(_) => drop(self.groups.remove(group_id)),
        }
        cx.append(StateRecord::Share(ShareRecord::GroupDeleted { group_id: group_id.to_owned() }));
        Ok(())
    }

    /// When [`Self::expire`] has something to do for this group.
    pub fn deadline(&self, group_id: &str) -> Option<TimestampMs> {
        self.groups.get(group_id).and_then(ShareGroup::deadline)
    }

    /// Ends sessions and locks.
    pub fn expire(&mut self, cx: &mut Context, topics: &Topics, group_id: &str, settings: &ShareSettings) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        group.expire_members(cx, topics);
        group.expire_locks(cx, settings);
    }
}

impl ShareRequest {
    /// The group whose deadlines may have changed.
    fn group_id(&self) -> Option<&str> {
        match self {
            Self::Heartbeat(beat) => Some(&beat.group_id),
            Self::Acquire(acquire) => Some(&acquire.group_id),
            Self::Fetch { group_id, .. } => Some(group_id),
            _ => None,
        }
    }
}

impl Coordinator {
    pub(crate) fn share(&mut self, client: &Client, request: ShareRequest) -> Response {
        // What makes a group must not take the name of another kind.
        let foreign = |id: &str| !self.shares.has(id) && (self.has_group(id) || self.offsets.knows(id));
        let refused = |id: &str| {
            let message = format!("group '{id}' is not a share group: choose another name");
            Failure::new(Error::GroupIdNotFound, message)
        };
        match &request {
            ShareRequest::Heartbeat(beat) if foreign(&beat.group_id) => {
                return Response::Share(ShareResponse::Heartbeat(Err(refused(&beat.group_id))));
            }
            ShareRequest::Fetch { group_id, .. } if foreign(group_id) => {
                return Response::Share(ShareResponse::Fetch(Err(Error::GroupIdNotFound)));
            }
            ShareRequest::AlterOffsets { group_id, .. } if group_id.is_empty() => {
                let unnamed = Failure::new(Error::InvalidGroupId, "name the share group");
                return Response::Share(ShareResponse::AlterOffsets(Err(unnamed)));
            }
            ShareRequest::AlterOffsets { group_id, .. } if foreign(group_id) => {
                return Response::Share(ShareResponse::AlterOffsets(Err(refused(group_id))));
            }
            _ => {}
        }
        let group_id = request.group_id().map(str::to_owned);
        let response = self.shares.handle(&mut self.cx, &self.topics, &self.group_configs, client, request);
        if let Some(group_id) = group_id {
            self.watch_share_group(&group_id);
        }
        Response::Share(response)
    }

    pub(crate) fn expire_share_group(&mut self, group_id: &str) {
        let settings = self.group_configs.share(&self.cx.settings, group_id);
        self.shares.expire(&mut self.cx, &self.topics, group_id, &settings);
        self.watch_share_group(group_id);
    }

    pub(crate) fn watch_share_group(&mut self, group_id: &str) {
        let deadline = self.shares.deadline(group_id);
        let later = deadline.map(|deadline| deadline.max(self.cx.now.saturating_add(1)));
        self.timers.set(Alarm::ShareGroup(group_id.to_owned()), later);
    }
}
