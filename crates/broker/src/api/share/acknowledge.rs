//! ShareAcknowledge, and how acknowledgements are read from either request that has them.

use std::sync::Arc;

use headwater_coordinator::{
    AcknowledgeType, Acknowledgement, AcknowledgementBatch, ShareRequest, ShareResponse, TopicPartitionId,
    code,
};
use headwater_model::Offset;
use headwater_wire::messages::ShareAcknowledgeRequestData;
use headwater_wire::messages::share_acknowledge_response::{
    PartitionData, ShareAcknowledgeResponseData, ShareAcknowledgeTopicResponse,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::fetch::release;
use super::sessions::{Key, Opened, Opening};
use crate::api::{Call, CallError, optional, rights, uuid};

/// What a request says of the records of one partition, or what is wrong with that.
pub type Claim = (TopicPartitionId, Result<Acknowledgement, ErrorCode>);

/// As long as a UUID can be written.
const LONGEST_MEMBER_ID: usize = 36;

/// Who asks; a message when that is not said properly.
pub fn identify(group: &Option<KafkaString>, member: &Option<KafkaString>) -> Result<Key, &'static str> {
    match (optional(group), optional(member)) {
        (Some(group), Some(member)) if !group.is_empty() => match member.len() {
            1..=LONGEST_MEMBER_ID => Ok((group, member)),
            _ => Err("the member id must have 1 to 36 characters"),
        },
        _ => Err("name the share group and the member"),
    }
}

/// What concerns topics that the client may not read is refused.
pub fn allowed(call: &Call, claimed: Vec<Claim>) -> Vec<Claim> {
    let judge = |(place, claim): Claim| (place, call.may_read_by_id(&place.0).and(claim));
    claimed.into_iter().map(judge).collect()
}

/// The acknowledgements of one partition, if there are any.
pub fn claims<'a>(
    place: TopicPartitionId,
    batches: impl ExactSizeIterator<Item = (Offset, Offset, &'a [i8])>,
    renew: bool,
) -> Option<Claim> {
    if batches.len() == 0 {
        return None;
    }
    let mut read: Vec<AcknowledgementBatch> = Vec::with_capacity(batches.len());
    for (first, last, types) in batches {
        let after = read.last().map_or(-1, |before| before.last);
        match batch(first, last, types, renew).filter(|batch| batch.first > after) {
            Some(batch) => read.push(batch),
            None => return Some((place, Err(ErrorCode::InvalidRequest))),
        }
    }
    Some((place, Ok(Acknowledgement { partition: place, batches: read })))
}

fn batch(first: Offset, last: Offset, types: &[i8], renew: bool) -> Option<AcknowledgementBatch> {
    let length = last.checked_sub(first)?.checked_add(1)?;
    let fits = types.len() == 1 || i64::try_from(types.len()) == Ok(length);
    if first < 0 || length < 1 || !fits {
        return None;
    }
    let kind =
        |number: &i8| AcknowledgeType::of(*number).filter(|kind| renew || *kind != AcknowledgeType::Renew);
    Some(AcknowledgementBatch { first, last, types: types.iter().map(kind).collect::<Option<_>>()? })
}

fn refused(code: ErrorCode, message: &str) -> ShareAcknowledgeResponseData {
    ShareAcknowledgeResponseData::default()
        .with_error_code(code.code())
        .with_error_message(Some(message.to_owned().into()))
}

pub async fn acknowledge(
    call: &Call,
    request: ShareAcknowledgeRequestData,
) -> Result<ShareAcknowledgeResponseData, CallError> {
    let key = match identify(&request.group_id, &request.member_id) {
        Ok(key) => key,
        Err(message) => return Ok(refused(ErrorCode::InvalidRequest, message)),
    };
    if let Err(code) = call.check(rights::READ_GROUP, &key.0) {
        return Ok(refused(code, "the client may not read with this group"));
    }
    if request.share_session_epoch == 0 {
        let message = "a share session is opened by ShareFetch: there is nothing to acknowledge before";
        return Ok(refused(ErrorCode::InvalidShareSessionEpoch, message));
    }
    let opening = Opening {
        owner: Arc::clone(&call.principal),
        key: key.clone(),
        epoch: request.share_session_epoch,
        added: Vec::new(),
        forgotten: Vec::new(),
        connection: call.connection(),
    };
    let over = match call.shared.share_sessions.open(opening) {
        Ok(opened) => opened == Opened::Over,
        Err(code) => return Ok(refused(code, "open a share session with epoch 0")),
    };
    let claimed = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().filter_map(|partition| {
            let place = (topic.topic_id.to_bytes(), partition.partition_index);
            let batches = partition.acknowledgement_batches.iter();
            let batches = batches.map(|one| (one.first_offset, one.last_offset, &one.acknowledge_types[..]));
            claims(place, batches, request.is_renew_ack)
        })
    });
    let response = settle(call, &key, allowed(call, claimed.collect())).await?;
    if over {
        release(call, &key).await?;
    }
    Ok(response)
}

async fn settle(
    call: &Call,
    (group_id, member_id): &Key,
    claimed: Vec<Claim>,
) -> Result<ShareAcknowledgeResponseData, CallError> {
    let request = ShareRequest::Fetch {
        group_id: group_id.clone(),
        member_id: member_id.clone(),
        acknowledgements: claimed.iter().filter_map(|(_, claim)| claim.clone().ok()).collect(),
        wanted: Vec::new(),
    };
    let ShareResponse::Fetch(plan) = call.share(request).await? else { return Err(call.mismatch()) };
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return Ok(refused(ErrorCode::from(error.code()), &error.to_string())),
    };
    let mut outcomes = plan.acknowledged.into_iter();
    let mut topics: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    for ((topic_id, index), claim) in claimed {
        let error = match claim {
            Ok(_) => code(outcomes.next().flatten()),
            Err(code) => code.code(),
        };
        let partition = PartitionData::default().with_partition_index(index).with_error_code(error);
        match topics.last_mut().filter(|topic| topic.topic_id == uuid(topic_id)) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                ShareAcknowledgeTopicResponse::default()
                    .with_topic_id(uuid(topic_id))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    Ok(ShareAcknowledgeResponseData::default()
        .with_acquisition_lock_timeout_ms(plan.lock_duration_ms)
        .with_responses(topics))
}
