//! Where a member begins to read what it was given.

use std::collections::HashMap;
use std::time::Duration;

use headwater_model::TopicPartition;
use tokio::time::Instant;

use super::GroupConfig;
use crate::admin::OffsetSpec;
use crate::consumer::AutoOffsetReset;
use crate::{Client, ClientError, Position};

/// Before it is asked again where partitions begin that nobody could say that of.
pub(super) const UNKNOWN_PAUSE: Duration = Duration::from_millis(500);

/// Whether where a partition begins may be known later: its topic has just come and not every broker has heard of it,
/// or has gone, which the coordinator will say; or it has no leader at this moment.
pub(super) fn may_heal(error: &ClientError) -> bool {
    matches!(error, ClientError::UnknownTopic(_) | ClientError::GaveUp { .. }) || error.is_retriable()
}

/// How long a topic that nobody knows may have just come. Nothing tells a member of the classic protocol that one is gone.
const NEW_TOPIC: Duration = Duration::from_secs(30);

/// As [`positions`], and asks again for as long as the answer may come: one partition without a leader does not end a
/// membership. A topic that stays unknown does.
pub(super) async fn positions_in_the_end(
    client: &Client,
    config: &GroupConfig,
    assigned: &[TopicPartition],
) -> Result<Vec<(TopicPartition, Position)>, ClientError> {
    let begun = Instant::now();
    loop {
        match positions(client, config, assigned).await {
            Err(error @ ClientError::UnknownTopic(_)) if begun.elapsed() >= NEW_TOPIC => return Err(error),
            Err(error) if may_heal(&error) => note(config, &error),
            outcome => return outcome,
        }
        tokio::time::sleep(UNKNOWN_PAUSE).await;
    }
}

/// Says that the answer is still waited for.
pub(super) fn note(config: &GroupConfig, error: &ClientError) {
    let group = &config.group_id;
    tracing::warn!(group, %error, "where assigned partitions begin is not known; asking again");
}

/// What is committed, else as `auto_offset_reset` says.
pub(super) async fn positions(
    client: &Client,
    config: &GroupConfig,
    assigned: &[TopicPartition],
) -> Result<Vec<(TopicPartition, Position)>, ClientError> {
    if assigned.is_empty() {
        return Ok(Vec::new());
    }
    let committed = client.committed(&config.group_id, Some(assigned)).await?;
    let mut positions: HashMap<TopicPartition, Position> =
        committed.into_iter().map(|(at, committed)| (at, committed.position())).collect();
    let missing: Vec<&TopicPartition> = assigned.iter().filter(|at| !positions.contains_key(at)).collect();
    let spec = match (config.consumer.auto_offset_reset, missing.first()) {
        (_, None) => return Ok(positions.into_iter().collect()),
        (AutoOffsetReset::Earliest, _) => OffsetSpec::Earliest,
        (AutoOffsetReset::Latest, _) => OffsetSpec::Latest,
        (AutoOffsetReset::Fail, Some(at)) => {
            return Err(ClientError::OffsetOutOfRange { at: (*at).clone(), offset: -1 });
        }
    };
    let ask: Vec<_> = missing.into_iter().map(|at| (at.clone(), spec)).collect();
    let found = client.list_offsets(&ask, config.consumer.isolation).await?;
    positions.extend(found.into_iter().map(|(at, offset)| (at, Position::from(offset))));
    Ok(positions.into_iter().collect())
}
