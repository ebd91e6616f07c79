//! Where a member begins to read what it was given.

use std::collections::HashMap;

use headwater_model::TopicPartition;

use super::GroupConfig;
use crate::admin::OffsetSpec;
use crate::consumer::AutoOffsetReset;
use crate::{Client, ClientError, Position};

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
