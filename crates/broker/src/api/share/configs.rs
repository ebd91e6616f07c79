//! The configuration of share groups, as a resource of DescribeConfigs and its siblings.

use headwater_coordinator::{AlterConfig, ConfigEntry, Failure, ShareRequest, ShareResponse};

use crate::api::{Call, CallError};

pub async fn describe(
    call: &Call,
    group_id: String,
    keys: Option<Vec<String>>,
) -> Result<Vec<ConfigEntry>, CallError> {
    match call.share(ShareRequest::DescribeConfigs { group_id, keys }).await? {
        ShareResponse::DescribeConfigs(entries) => Ok(entries),
        _ => Err(call.mismatch()),
    }
}

/// `change` names the group where it would name a topic.
pub async fn alter(
    call: &Call,
    change: AlterConfig,
    validate_only: bool,
) -> Result<Result<(), Failure>, CallError> {
    let AlterConfig { topic: group_id, replace, changes } = change;
    match call.share(ShareRequest::AlterConfigs { group_id, replace, changes, validate_only }).await? {
        ShareResponse::AlterConfigs(outcome) => Ok(outcome),
        _ => Err(call.mismatch()),
    }
}
