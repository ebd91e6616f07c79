//! Heartbeats as the wire has them.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use headwater_wire::messages::{ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData};
use headwater_wire::{ErrorCode, KafkaUuid};

use super::Remote;
use super::member::{Answer, Beat, Places, TopicId};
use crate::ClientError;
use crate::admin::text;
use crate::group::GroupConfig;
use crate::group::membership::millis;

/// Whatever a broker says, heartbeats are not sent more often.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn request(
    config: &GroupConfig,
    remote: &Remote,
    member_id: &str,
    beat: &Beat,
) -> ConsumerGroupHeartbeatRequestData {
    let request = ConsumerGroupHeartbeatRequestData::default()
        .with_group_id(text(&config.group_id))
        .with_member_id(text(member_id))
        .with_member_epoch(beat.epoch)
        .with_instance_id(config.instance_id.as_deref().map(text))
        .with_topic_partitions(beat.owned.as_ref().map(by_topic));
    if !beat.full {
        return request;
    }
    request
        .with_rebalance_timeout_ms(millis(config.rebalance_timeout))
        .with_subscribed_topic_names(Some(config.topics.iter().map(|name| text(name)).collect()))
        .with_subscribed_topic_regex(remote.pattern.as_deref().map(text))
        .with_server_assignor(remote.assignor.as_deref().map(text))
}

fn by_topic(places: &Places) -> Vec<TopicPartitions> {
    let mut topics = BTreeMap::<TopicId, Vec<i32>>::new();
    places.iter().for_each(|(id, partition)| topics.entry(*id).or_default().push(*partition));
    let topic = |(id, partitions): (TopicId, Vec<i32>)| {
        TopicPartitions::default().with_topic_id(uuid(id)).with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}

pub(super) fn uuid(id: TopicId) -> KafkaUuid {
    let number = u128::from_be_bytes(id);
    KafkaUuid::from_parts((number >> 64) as u64, number as u64)
}

/// # Errors
/// The refusal, in the broker's own words where it has some.
pub(super) fn answer(
    group: &str,
    response: ConsumerGroupHeartbeatResponseData,
) -> Result<Answer, ClientError> {
    let what = || format!("heartbeat in group {group}");
    ClientError::check(response.error_code, response.error_message.as_ref(), what)?;
    let interval = Duration::from_millis(u64::try_from(response.heartbeat_interval_ms).unwrap_or(0));
    let assignment = response.assignment.map(|assignment| {
        let topics = assignment.topic_partitions.into_iter();
        topics
            .flat_map(|topic| {
                let id = topic.topic_id.to_bytes();
                topic.partitions.into_iter().map(move |partition| (id, partition))
            })
            .collect()
    });
    Ok(Answer { epoch: response.member_epoch, interval: interval.max(SHORTEST_INTERVAL), assignment })
}

/// A broker that does not speak the protocol, or not with expressions, says so less clearly.
pub(super) fn explained(error: ClientError, remote: &Remote) -> ClientError {
    let unsupported = |message: String| ClientError::Kafka {
        what: "join by the consumer protocol".to_owned(),
        code: ErrorCode::UnsupportedVersion,
        message,
    };
    match error {
        ClientError::TooOld { address, api } => unsupported(format!(
            "the broker at {address} does not offer {api}; use group.protocol=classic, or Apache Kafka 4.0 or later"
        )),
        ClientError::Malformed { address, reason } if remote.pattern.is_some() => unsupported(format!(
            "{address} did not take the regular expression ({reason}); it needs Apache Kafka 4.0 or later"
        )),
        error => error,
    }
}
