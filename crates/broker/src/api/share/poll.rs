//! Looks for records that can be acquired, and waits for them.
//!
//! Invariant: what was acquired is in the answer, so a look that found nothing to acquire has changed nothing that a
//! consumer would miss.

use std::sync::Arc;

use headwater_coordinator::{
    Acquire, Acquired, ShareIsolation, ShareNext, SharePlan, ShareRequest, ShareReset, ShareResponse,
    TopicPartitionId, code,
};
use headwater_log::{LogError, PartitionId};
use headwater_model::Offset;
use headwater_wire::ErrorCode;
use tokio::time::{Instant, timeout_at};

use super::acknowledge::Claim;
use super::read::{self, Batches, Budget, Unread};
use super::respond::Answers;
use super::sessions::Key;
use crate::api::{Call, CallError};
use crate::broker::Shared;

/// How much is wanted.
pub struct Wish {
    pub deadline: Instant,
    /// So many bytes are waited for.
    pub min_bytes: usize,
    pub budget: Budget,
    pub strict: bool,
    pub batch_size: i64,
}

impl Wish {
    /// Whether there is so much that it need not wait: bytes, or as many records as it takes.
    fn is_met_by(&self, read: &[(TopicPartitionId, Batches)]) -> bool {
        let (bytes, records) = read.iter().fold((0, 0), |(bytes, records), (_, batches)| {
            (bytes + batches.length(), records + batches.records())
        });
        records > 0 && (bytes >= self.min_bytes || records >= self.budget.records)
    }
}

/// What the partitions had.
#[derive(Default)]
struct Read {
    found: Vec<(TopicPartitionId, Batches)>,
    /// A log begins behind what was to be read since it was looked up. The next request knows that; Java's client cannot bear
    /// to be told.
    moved: bool,
}

/// A fetch on its way.
pub struct Poll<'a> {
    pub call: &'a Call,
    pub key: Key,
    pub places: Vec<TopicPartitionId>,
    pub answers: Answers,
    pub lock_duration_ms: i32,
}

/// The partition in the log, if it exists.
fn locate(call: &Call, (topic_id, index): TopicPartitionId) -> Result<PartitionId, ErrorCode> {
    let topic = call.shared.catalog.by_id(&topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    call.may_read_by_id(&topic_id)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)
}

impl<'a> Poll<'a> {
    pub fn new(call: &'a Call, key: Key, places: Vec<TopicPartitionId>) -> Self {
        Self { call, key, places, answers: Answers::default(), lock_duration_ms: 0 }
    }

    /// Goes on until there is something to tell or no more time.
    pub async fn run(&mut self, claimed: Vec<Claim>, wish: Wish) -> Result<Result<(), ErrorCode>, CallError> {
        let shared = Arc::clone(&self.call.shared);
        let known = self.locate();
        let waiting = shared.waiters.register(known.iter().map(|(_, id)| *id).collect());
        let mut claimed = Some(claimed);
        // What is wrong with some partitions is said at once, with what there is of the others.
        let mut last = self.answers.has_refusals();
        loop {
            let plan = match self.plan(claimed.take().unwrap_or_default(), &known).await? {
                Ok(plan) => plan,
                Err(error) => return Ok(Err(error)),
            };
            if known.is_empty() {
                return Ok(Ok(()));
            }
            if self.initialize(&plan, &known).await? {
                continue;
            }
            let Read { found: read, moved } = self.read(&plan, &known, wish.budget).await;
            let found = !read.is_empty();
            let enough = last || moved || wish.is_met_by(&read) || self.answers.has_refusals();
            // What was read is not kept while more is waited for.
            let acquired = if enough { self.acquire(read, &wish).await? } else { false };
            if acquired || last || moved {
                return Ok(Ok(()));
            }
            if !(enough && found) && timeout_at(wish.deadline, waiting.woken()).await.is_err() {
                if !found {
                    return Ok(Ok(()));
                }
                // There is less than was waited for: it is taken now.
                last = true;
            }
        }
    }

    /// The partitions that exist; the others are refused.
    fn locate(&mut self) -> Vec<(TopicPartitionId, PartitionId)> {
        let mut known: Vec<(TopicPartitionId, PartitionId)> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            match locate(self.call, *place) {
                Ok(id) => {
                    if known.last().is_none_or(|((last, _), _)| *last != place.0) {
                        self.call.reads(&place.0, &self.key.0);
                    }
                    known.push((*place, id));
                }
                Err(code) => self.answers.refuse(*place, code),
            }
        }
        known
    }

    /// Acknowledges, and asks where records may be.
    async fn plan(
        &mut self,
        claimed: Vec<Claim>,
        known: &[(TopicPartitionId, PartitionId)],
    ) -> Result<Result<SharePlan, ErrorCode>, CallError> {
        let reader = &self.call.shared.reader;
        let log_start = |id: PartitionId| reader.offsets(id).map_or(0, |offsets| offsets.log_start);
        let (group_id, member_id) = self.key.clone();
        let mut acknowledgements = Vec::with_capacity(claimed.len());
        for (place, claim) in claimed {
            match claim {
                Ok(claim) => acknowledgements.push(claim),
                Err(code) => self.answers.acknowledged(place, code.code()),
            }
        }
        let places: Vec<_> = acknowledgements.iter().map(|one| one.partition).collect();
        let wanted = known.iter().map(|(place, id)| (*place, log_start(*id))).collect();
        let request = ShareRequest::Fetch { group_id, member_id, acknowledgements, wanted };
        let ShareResponse::Fetch(plan) = self.call.share(request).await? else {
            return Err(self.call.mismatch());
        };
        Ok(plan.map_err(|error| ErrorCode::from(error.code())).inspect(|plan| {
            self.lock_duration_ms = plan.lock_duration_ms;
            for (place, error) in places.into_iter().zip(&plan.acknowledged) {
                self.answers.acknowledged(place, code(*error));
            }
        }))
    }

    /// Gives partitions their first offset; whether there were any without.
    async fn initialize(
        &self,
        plan: &SharePlan,
        known: &[(TopicPartitionId, PartitionId)],
    ) -> Result<bool, CallError> {
        let mut any = false;
        for ((place, id), next) in known.iter().zip(&plan.next) {
            let ShareNext::Uninitialized(reset) = next else { continue };
            let Some(offset) = self.first(*id, *reset).await else { continue };
            let (group_id, partition) = (self.key.0.clone(), *place);
            self.call.share(ShareRequest::Initialize { group_id, partition, offset }).await?;
            any = true;
        }
        Ok(any)
    }

    /// Where the group begins; `None` when the partition has gone.
    async fn first(&self, id: PartitionId, reset: ShareReset) -> Option<Offset> {
        let shared = Arc::clone(&self.call.shared);
        let offsets = shared.reader.offsets(id).ok()?;
        match reset {
            ShareReset::Earliest => Some(offsets.log_start),
            ShareReset::Latest => Some(offsets.high_watermark),
            ShareReset::Before(millis) => {
                let since = shared.clock.now().saturating_sub(millis);
                let reader = shared.reader.clone();
                let search = shared.cold.reading(move || match reader.offset_for_time(id, since) {
                    Err(LogError::Far { id, .. }) => (None, vec![id]),
                    // Nobody can be given what cannot be read, nor knows which times are in it.
                    Err(LogError::Damaged { damage, .. }) => {
                        (Some(Some((damage.last + 1, since))), Vec::new())
                    }
                    found => (found.ok(), Vec::new()),
                });
                let found = search.await.ok()??;
                Some(found.map_or(offsets.high_watermark, |(offset, _)| offset))
            }
        }
    }

    /// What the partitions have of records that may be available.
    async fn read(
        &mut self,
        plan: &SharePlan,
        known: &[(TopicPartitionId, PartitionId)],
        whole: Budget,
    ) -> Read {
        let shared = Arc::clone(&self.call.shared);
        let isolation = read::isolation(plan.isolation);
        let wanted = readable(&shared, plan, known);
        let mut read = Read::default();
        if wanted.is_empty() {
            return read;
        }
        let reader = shared.reader.clone();
        let reading = shared.cold.reading(move || {
            let (mut read, mut far, mut budget) = (Vec::with_capacity(wanted.len()), Vec::new(), whole);
            for (place, id, from) in &wanted {
                if budget.records <= 0 || budget.bytes == 0 {
                    break;
                }
                let batches = read::read(&reader, *id, *from, isolation, &mut budget);
                let batches = batches.map_err(|unread| match unread {
                    Unread::Far(file) => {
                        far.push(file);
                        ErrorCode::KafkaStorageError
                    }
                    Unread::Refused(code) => code,
                });
                read.push((*place, batches));
            }
            (read, far)
        });
        for (place, outcome) in reading.await.unwrap_or_default() {
            match outcome {
                Ok(batches) => read.found.push((place, batches)),
                Err(ErrorCode::OffsetOutOfRange) => read.moved = true,
                Err(code) => self.answers.refuse(place, code),
            }
        }
        read
    }

    /// Takes what is still there of what was read; whether there is something to tell.
    async fn acquire(
        &mut self,
        read: Vec<(TopicPartitionId, Batches)>,
        wish: &Wish,
    ) -> Result<bool, CallError> {
        if read.is_empty() {
            return Ok(self.answers.has_refusals());
        }
        let (group_id, member_id) = self.key.clone();
        let request = ShareRequest::Acquire(Acquire {
            group_id,
            member_id,
            max_records: wish.budget.records,
            strict: wish.strict,
            batch_size: wish.batch_size,
            partitions: read.iter().map(|(place, batches)| (*place, batches.read.clone())).collect(),
        });
        let ShareResponse::Acquire(acquired) = self.call.share(request).await? else {
            return Err(self.call.mismatch());
        };
        let taken: Vec<(_, Vec<Acquired>)> =
            read.into_iter().zip(acquired).filter(|(_, acquired)| !acquired.is_empty()).collect();
        for ((place, batches), acquired) in &taken {
            self.answers.acquired(*place, batches, acquired);
        }
        Ok(!taken.is_empty() || self.answers.has_refusals())
    }
}

/// Partitions with records at or behind where the next may be, and that offset.
fn readable(
    shared: &Shared,
    plan: &SharePlan,
    known: &[(TopicPartitionId, PartitionId)],
) -> Vec<(TopicPartitionId, PartitionId, Offset)> {
    let end = |id| {
        let offsets = shared.reader.offsets(id).ok()?;
        let committed = plan.isolation == ShareIsolation::Committed;
        Some(if committed { offsets.last_stable } else { offsets.high_watermark })
    };
    let all = known.iter().zip(&plan.next);
    let readable = all.filter_map(|((place, id), next)| match next {
        ShareNext::At(from) if end(*id).is_some_and(|end| *from < end) => Some((*place, *id, *from)),
        _ => None,
    });
    readable.collect()
}
