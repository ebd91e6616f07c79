//! ShareFetch: acknowledges, then acquires records and waits for them.
//!
//! Invariant: what was acknowledged is on disk before the answer leaves, and nothing is acquired that is not in it.

use std::sync::Arc;
use std::time::Duration;

use headwater_coordinator::{QuotaKey, ShareRequest, TopicPartitionId};
use headwater_wire::ErrorCode;
use headwater_wire::messages::ShareFetchRequestData;
use headwater_wire::messages::share_fetch_request::{FetchTopic, ForgottenTopic};
use headwater_wire::messages::share_fetch_response::ShareFetchResponseData;
use tokio::time::Instant;

use super::acknowledge::{Claim, claims, identify};
use super::poll::{Poll, Wish};
use super::read::Budget;
use super::sessions::{Key, Opened, Opening};
use crate::api::{Call, CallError, rights};

/// No client waits longer for records than this in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// KIP-1206: exactly as many records as were asked for.
const RECORD_LIMIT: i8 = 1;

fn refused(code: ErrorCode, message: &str) -> ShareFetchResponseData {
    ShareFetchResponseData::default()
        .with_error_code(code.code())
        .with_error_message(Some(message.to_owned().into()))
}

pub async fn fetch(call: &Call, request: ShareFetchRequestData) -> Result<ShareFetchResponseData, CallError> {
    let Asked { key, added, claimed } = match understand(&request) {
        Ok(asked) => asked,
        Err(message) => return Ok(refused(ErrorCode::InvalidRequest, message)),
    };
    if let Err(code) = call.check(rights::READ_GROUP, &key.0) {
        return Ok(refused(code, "the client may not read with this group"));
    }
    let claimed = super::acknowledge::allowed(call, claimed);
    let opening = Opening {
        owner: Arc::clone(&call.principal),
        key: key.clone(),
        epoch: request.share_session_epoch,
        added,
        forgotten: forgotten(&request.forgotten_topics_data),
        connection: call.connection(),
    };
    let (places, over) = match call.shared.share_sessions.open(opening) {
        Ok(Opened::On(places)) => (places, false),
        Ok(Opened::Anew(places)) => {
            release(call, &key).await?;
            (places, false)
        }
        Ok(Opened::Over) => (Vec::new(), true),
        Err(code) => return Ok(refused(code, "open a share session with epoch 0")),
    };
    let wish = wish(&request, call.shared.config.max_fetch_bytes);
    let fetches = wish.budget.records > 0 && !request.is_renew_ack;
    let mut poll = Poll::new(call, key, if fetches { places } else { Vec::new() });
    let outcome = poll.run(claimed, wish).await?;
    if over {
        release(call, &poll.key).await?;
    }
    let response = match outcome {
        Ok(()) => {
            // As in Kafka, a new session hears of each of its partitions, of those without records, too.
            if request.share_session_epoch == 0 {
                poll.places.iter().for_each(|place| poll.answers.mention(*place));
            }
            poll.answers.response(poll.lock_duration_ms)
        }
        Err(error) => refused(error, "there is no share group of this name: choose another"),
    };
    // Its records are locked for this member: they come, and the channel is mute after them.
    call.spend(QuotaKey::ConsumerByteRate, response.encoded_len(call.version).unwrap_or(0) as f64);
    Ok(response)
}

/// What a request says, session and limits apart.
struct Asked {
    key: Key,
    added: Vec<TopicPartitionId>,
    claimed: Vec<Claim>,
}

fn understand(request: &ShareFetchRequestData) -> Result<Asked, &'static str> {
    let key = identify(&request.group_id, &request.member_id)?;
    if let Some(message) = contradiction(request) {
        return Err(message);
    }
    let (added, claimed) = topics(&request.topics, request.is_renew_ack);
    match request.share_session_epoch == 0 && !claimed.is_empty() {
        true => Err("the first request of a share session cannot acknowledge anything"),
        false => Ok(Asked { key, added, claimed }),
    }
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

fn wish(request: &ShareFetchRequestData, max_bytes: usize) -> Wish {
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    // Who wants no bytes waits for none.
    let wait = if request.min_bytes > 0 { count(request.max_wait_ms) as u64 } else { 0 };
    let wait = Duration::from_millis(wait).min(LONGEST_WAIT);
    let bytes = count(request.max_bytes).clamp(1, max_bytes);
    Wish {
        deadline: Instant::now() + wait,
        min_bytes: count(request.min_bytes).min(bytes),
        budget: Budget { bytes, records: request.max_records.into() },
        strict: request.share_acquire_mode == RECORD_LIMIT,
        batch_size: request.batch_size.max(1).into(),
    }
}
