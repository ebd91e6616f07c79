//! ShareFetch: acknowledges, then acquires records and waits for them.
//!
//! Invariant: what was acknowledged is on disk before the answer leaves, and nothing is acquired that is not in it.

use std::sync::Arc;
use std::time::Duration;

use headwater_coordinator::{
    Acquire, Acquired, ShareIsolation, ShareNext, SharePlan, ShareRequest, ShareReset, ShareResponse,
    TopicPartitionId, code,
};
use headwater_log::PartitionId;
use headwater_model::Offset;
use headwater_wire::ErrorCode;
use headwater_wire::messages::ShareFetchRequestData;
use headwater_wire::messages::share_fetch_request::{FetchTopic, ForgottenTopic};
use headwater_wire::messages::share_fetch_response::ShareFetchResponseData;
use tokio::time::{Instant, timeout_at};

use super::acknowledge::{Claim, claims, identify};
use super::read::{self, Batches, Budget};
use super::respond::Answers;
use super::sessions::{Key, Opened, Opening};
use crate::api::{Call, CallError};
use crate::broker::Shared;

/// No client waits longer for records than this in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// KIP-1206: exactly as many records as were asked for.
const RECORD_LIMIT: i8 = 1;

/// How much is wanted.
struct Wish {
    deadline: Instant,
    budget: Budget,
    strict: bool,
    batch_size: i64,
}

/// A fetch on its way.
struct Fetching<'a> {
    call: &'a Call,
    key: Key,
    places: Vec<TopicPartitionId>,
    answers: Answers,
    lock_duration_ms: i32,
}

fn refused(code: ErrorCode, message: &str) -> ShareFetchResponseData {
    ShareFetchResponseData::default()
        .with_error_code(code.code())
        .with_error_message(Some(message.to_owned().into()))
}

pub async fn fetch(call: &Call, request: ShareFetchRequestData) -> Result<ShareFetchResponseData, CallError> {
    let key = match identify(&request.group_id, &request.member_id) {
        Ok(key) => key,
        Err(message) => return Ok(refused(ErrorCode::InvalidRequest, message)),
    };
    if let Some(message) = contradiction(&request) {
        return Ok(refused(ErrorCode::InvalidRequest, message));
    }
    let (added, claimed) = topics(&request.topics, request.is_renew_ack);
    if request.share_session_epoch == 0 && !claimed.is_empty() {
        let message = "the first request of a share session cannot acknowledge anything";
        return Ok(refused(ErrorCode::InvalidRequest, message));
    }
    let opened = call.shared.share_sessions.open(Opening {
        key: key.clone(),
        epoch: request.share_session_epoch,
        added,
        forgotten: forgotten(&request.forgotten_topics_data),
        connection: call.connection(),
    });
    let (places, over) = match opened {
        Ok(Opened::On(places)) => (places, false),
        Ok(Opened::Anew(places)) => {
            release(call, &key).await?;
            (places, false)
        }
        Ok(Opened::Over) => (Vec::new(), true),
        Err(code) => return Ok(refused(code, "open a share session with epoch 0")),
    };
    let wish = Wish::of(&request, call.shared.config.max_fetch_bytes);
    let places = if wish.budget.records > 0 && !request.is_renew_ack { places } else { Vec::new() };
    let mut fetching = Fetching { call, key, places, answers: Answers::default(), lock_duration_ms: 0 };
    let outcome = fetching.run(claimed, wish).await?;
    if over {
        release(call, &fetching.key).await?;
    }
    Ok(match outcome {
        Ok(()) => fetching.answers.response(fetching.lock_duration_ms),
        Err(error) => refused(error, "there is no such share group: send a heartbeat first"),
    })
}

/// Gives back what the member holds.
pub(super) async fn release(call: &Call, (group_id, member_id): &Key) -> Result<(), CallError> {
    let (group_id, member_id) = (group_id.clone(), member_id.clone());
    call.share(ShareRequest::Release { group_id, member_id }).await.map(drop)
}

/// KIP-1222: a request that renews locks fetches nothing.
fn contradiction(request: &ShareFetchRequestData) -> Option<&'static str> {
    let wants = [request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms];
    (request.is_renew_ack && wants.iter().any(|wanted| *wanted != 0))
        .then_some("a request that renews locks must ask for no records: bytes, records and wait are 0")
}

fn topics(topics: &[FetchTopic], renew: bool) -> (Vec<TopicPartitionId>, Vec<Claim>) {
    let mut added = Vec::new();
    let mut claimed = Vec::new();
    for topic in topics {
        for partition in &topic.partitions {
            let place = (topic.topic_id.to_bytes(), partition.partition_index);
            added.push(place);
            let batches = partition.acknowledgement_batches.iter();
            let batches = batches.map(|one| (one.first_offset, one.last_offset, &one.acknowledge_types[..]));
            claimed.extend(claims(place, batches, renew));
        }
    }
    (added, claimed)
}

fn forgotten(topics: &[ForgottenTopic]) -> Vec<TopicPartitionId> {
    let places = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id.to_bytes(), *index)));
    places.collect()
}

impl Wish {
    fn of(request: &ShareFetchRequestData, max_bytes: usize) -> Self {
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let wait = Duration::from_millis(count(request.max_wait_ms) as u64).min(LONGEST_WAIT);
        let bytes = count(request.max_bytes).clamp(1, max_bytes);
        Self {
            deadline: Instant::now() + wait,
            budget: Budget { bytes, records: request.max_records.into() },
            strict: request.share_acquire_mode == RECORD_LIMIT,
            batch_size: request.batch_size.max(1).into(),
        }
    }
}

/// The partition in the log, if it exists.
fn locate(shared: &Shared, (topic_id, index): TopicPartitionId) -> Result<PartitionId, ErrorCode> {
    let topic = shared.catalog.by_id(&topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)
}

impl Fetching<'_> {
    /// Goes on until there is something to tell or no more time.
    async fn run(&mut self, claimed: Vec<Claim>, wish: Wish) -> Result<Result<(), ErrorCode>, CallError> {
        let shared = Arc::clone(&self.call.shared);
        let mut is_refused = false;
        let mut known = Vec::with_capacity(self.places.len());
        for place in &self.places {
            match locate(&shared, *place) {
                Ok(id) => known.push((*place, id)),
                Err(code) => {
                    is_refused = true;
                    self.answers.refuse(*place, code);
                }
            }
        }
        let waiting = shared.waiters.register(known.iter().map(|(_, id)| *id).collect());
        let mut claimed = Some(claimed);
        loop {
            let plan = match self.plan(claimed.take().unwrap_or_default(), &known).await? {
                Ok(plan) => plan,
                Err(error) => return Ok(Err(error)),
            };
            if known.is_empty() || is_refused {
                return Ok(Ok(()));
            }
            if self.initialize(&plan, &known).await? {
                continue;
            }
            let read = self.read(&plan, &known, wish.budget).await;
            let found = read.len();
            if self.acquire(read, &wish).await? {
                return Ok(Ok(()));
            }
            if found == 0 && timeout_at(wish.deadline, waiting.woken()).await.is_err() {
                return Ok(Ok(()));
            }
        }
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
                let search = tokio::task::spawn_blocking(move || shared.reader.offset_for_time(id, since));
                let found = search.await.ok()?.ok()?;
                Some(found.map_or(offsets.high_watermark, |(offset, _)| offset))
            }
        }
    }

    /// What the partitions have of records that may be available.
    async fn read(
        &mut self,
        plan: &SharePlan,
        known: &[(TopicPartitionId, PartitionId)],
        mut budget: Budget,
    ) -> Vec<(TopicPartitionId, Batches)> {
        let shared = Arc::clone(&self.call.shared);
        let isolation = read::isolation(plan.isolation);
        let end = |id| {
            let offsets = shared.reader.offsets(id).ok()?;
            let committed = plan.isolation == ShareIsolation::Committed;
            Some(if committed { offsets.last_stable } else { offsets.high_watermark })
        };
        let wanted: Vec<_> = known
            .iter()
            .zip(&plan.next)
            .filter_map(|((place, id), next)| match next {
                ShareNext::At(from) if end(*id).is_some_and(|end| *from < end) => Some((*place, *id, *from)),
                _ => None,
            })
            .collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let reading = tokio::task::spawn_blocking(move || {
            let mut read = Vec::with_capacity(wanted.len());
            for (place, id, from) in wanted {
                if budget.records > 0 && budget.bytes > 0 {
                    read.push((place, read::read(&shared.reader, id, from, isolation, &mut budget)));
                }
            }
            read
        });
        let mut found = Vec::new();
        for (place, read) in reading.await.unwrap_or_default() {
            match read {
                Ok(batches) => found.push((place, batches)),
                Err(code) => self.answers.refuse(place, code),
            }
        }
        found
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
