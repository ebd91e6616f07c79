//! From a request about share groups to the machine that decides it.

use headwater_model::Offset;

use super::Shares;
use super::configs::ShareSettings;
use super::delivery::Taker;
use super::group::ShareGroup;
use super::heartbeat;
use super::partition::SharePartition;
use super::records::{ShareRange, ShareRecord};
use super::request::{
    Acknowledgement, Acquire, Acquired, ShareAssigned, ShareGroupDescription, ShareHeartbeat, ShareNext,
    SharePlan, ShareRequest, ShareResponse,
};
use crate::context::Context;
use crate::error::{Error, Failure};
use crate::group_configs::GroupConfigs;
use crate::records::{StateRecord, TopicPartitionId};
use crate::request::Client;
use crate::topics::Topics;

impl Shares {
    pub fn handle(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        configs: &GroupConfigs,
        client: &Client,
        request: ShareRequest,
    ) -> ShareResponse {
        let settings = configs.share(&cx.settings, request.group_id().unwrap_or_default());
        match request {
            ShareRequest::Heartbeat(beat) => {
                ShareResponse::Heartbeat(self.heartbeat(cx, topics, client, beat, &settings))
            }
            ShareRequest::Describe(ids) => {
                ShareResponse::Describe(ids.into_iter().map(|id| self.describe(topics, id)).collect())
            }
            ShareRequest::Fetch { group_id, member_id, acknowledgements, wanted } => ShareResponse::Fetch(
                self.fetch(cx, topics, (&group_id, &member_id), &acknowledgements, &wanted, &settings),
            ),
            ShareRequest::Initialize { group_id, partition, offset } => {
                if let Some(group) = self.groups.get_mut(&group_id)
                    && topics.has(partition)
                    && !group.partitions.contains_key(&partition)
                {
                    group.put(cx, partition, SharePartition::new(offset));
                }
                ShareResponse::Initialize
            }
            ShareRequest::Acquire(acquire) => ShareResponse::Acquire(self.acquire(cx, &acquire, &settings)),
            ShareRequest::Release { group_id, member_id } => {
                if let Some(group) = self.groups.get_mut(&group_id) {
                    group.release(cx, &member_id);
                }
                ShareResponse::Release
            }
            ShareRequest::DescribeOffsets { group_id, partitions } => {
                ShareResponse::DescribeOffsets(self.describe_offsets(&group_id, partitions))
            }
            ShareRequest::AlterOffsets { group_id, offsets } => {
                ShareResponse::AlterOffsets(self.alter_offsets(cx, topics, &group_id, offsets))
            }
            ShareRequest::DeleteOffsets { group_id, topics: ids } => {
                ShareResponse::DeleteOffsets(self.delete_offsets(cx, &group_id, ids))
            }
        }
    }

    fn heartbeat(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        client: &Client,
        beat: ShareHeartbeat,
        settings: &ShareSettings,
    ) -> Result<ShareAssigned, Failure> {
        heartbeat::check(&beat)?;
        if beat.member_epoch != 0 && !self.has(&beat.group_id) {
            return Err(Error::GroupIdNotFound.into());
        }
        let id = beat.group_id.clone();
        self.group_mut(&id).heartbeat(cx, topics, client, beat, settings)
    }

    fn describe(&self, topics: &Topics, id: String) -> ShareGroupDescription {
        match self.groups.get(&id) {
            Some(group) => group.describe(topics),
            None => ShareGroupDescription {
                error: Some(if id.is_empty() { Error::InvalidGroupId } else { Error::GroupIdNotFound }),
                state: "Dead",
                ..ShareGroup::new(&id).describe(topics)
            },
        }
    }

    fn fetch(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        (group_id, member_id): (&str, &str),
        acknowledgements: &[Acknowledgement],
        wanted: &[(TopicPartitionId, Offset)],
        settings: &ShareSettings,
    ) -> Result<SharePlan, Error> {
        // As in Kafka, who fetches is not asked whether it is a member.
        let group = match wanted.is_empty() {
            true => self.groups.get_mut(group_id).ok_or(Error::GroupIdNotFound)?,
            false => self.made(cx, group_id),
        };
        let acknowledged =
            acknowledgements.iter().map(|one| group.acknowledge(cx, topics, member_id, one, settings).err());
        let acknowledged = acknowledged.collect();
        let next = wanted.iter().map(|(place, log_start)| group.next(cx, *place, *log_start, settings));
        Ok(SharePlan {
            lock_duration_ms: settings.lock_duration_ms,
            isolation: settings.isolation,
            acknowledged,
            next: next.collect(),
        })
    }

    fn acquire(
        &mut self,
        cx: &mut Context,
        acquire: &Acquire,
        settings: &ShareSettings,
    ) -> Vec<Vec<Acquired>> {
        let Some(group) = self.groups.get_mut(&acquire.group_id) else {
            return vec![Vec::new(); acquire.partitions.len()];
        };
        let mut taker = Taker {
            member: acquire.member_id.as_str().into(),
            deadline: cx.now.saturating_add(settings.lock_duration_ms.into()),
            left: acquire.max_records,
            strict: acquire.strict,
            batch_size: acquire.batch_size,
        };
        let mut all = Vec::with_capacity(acquire.partitions.len());
        for (place, read) in &acquire.partitions {
            let Some(partition) = group.partitions.get_mut(place) else {
                all.push(Vec::new());
                continue;
            };
            let taken = partition.acquire(&mut taker, read, settings);
            group.delivered(cx, *place, taken.changes);
            all.push(taken.acquired);
        }
        all
    }
}

impl ShareGroup {
    fn acknowledge(
        &mut self,
        cx: &mut Context,
        topics: &Topics,
        member_id: &str,
        acknowledgement: &Acknowledgement,
        settings: &ShareSettings,
    ) -> Result<(), Error> {
        let place = acknowledgement.partition;
        if !topics.has(place) {
            return Err(Error::UnknownTopicOrPartition);
        }
        let partition = self.partitions.get_mut(&place).ok_or(Error::InvalidRecordState)?;
        let changes = partition.acknowledge(member_id, &acknowledgement.batches, settings, cx.now)?;
        partition.apply(&changes);
        self.delivered(cx, place, changes);
        Ok(())
    }

    /// Writes down what has become of records, and wakes those who may get some.
    fn delivered(&self, cx: &mut Context, place: TopicPartitionId, ranges: Vec<ShareRange>) {
        if !ranges.is_empty() {
            cx.append(StateRecord::Share(ShareRecord::Delivered { key: self.key(place), ranges }));
            cx.wake(place);
        }
    }

    /// Writes a partition down as it is.
    pub(super) fn put(&mut self, cx: &mut Context, place: TopicPartitionId, partition: SharePartition) {
        let (start, ranges) = (partition.start(), partition.ranges());
        self.partitions.insert(place, partition);
        cx.append(StateRecord::Share(ShareRecord::Partition { key: self.key(place), start, ranges }));
        cx.wake(place);
    }

    fn next(
        &mut self,
        cx: &mut Context,
        place: TopicPartitionId,
        log_start: Offset,
        settings: &ShareSettings,
    ) -> ShareNext {
        let Some(partition) = self.partitions.get_mut(&place) else {
            return ShareNext::Uninitialized(settings.reset);
        };
        if log_start > partition.start() {
            partition.begin_at(log_start);
            let (start, ranges) = (partition.start(), partition.ranges());
            let next = partition.next(settings.max_record_locks);
            cx.append(StateRecord::Share(ShareRecord::Partition { key: self.key(place), start, ranges }));
            return next;
        }
        partition.next(settings.max_record_locks)
    }

    fn release(&mut self, cx: &mut Context, member_id: &str) {
        for (place, partition) in &mut self.partitions {
            if partition.release(member_id) {
                cx.wake(*place);
            }
        }
    }

    pub(super) fn expire_locks(&mut self, cx: &mut Context, settings: &ShareSettings) {
        let due = self.partitions.iter().filter(|(_, one)| one.next_deadline.is_some_and(|at| at <= cx.now));
        let due: Vec<TopicPartitionId> = due.map(|(place, _)| *place).collect();
        for place in due {
            let Some(partition) = self.partitions.get_mut(&place) else { continue };
            let changes = partition.expired(settings.delivery_count_limit, cx.now);
            partition.apply(&changes);
            self.delivered(cx, place, changes);
        }
    }
}
