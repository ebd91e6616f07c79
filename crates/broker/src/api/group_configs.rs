//! Configuration of groups: resource type 32 of DescribeConfigs and IncrementalAlterConfigs (KIP-848).

use headwater_coordinator::{
    AlterConfig, AlterGroupConfig, DescribeGroupConfig, DescribedGroupConfigs, Failure, Request, Response,
};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::DescribeConfigsResult;

use super::config_resources::GROUP;
use super::configs::described_entry;
use super::{Call, CallError, share, text, texts};

/// The configuration of share groups is kept with them.
const SHARE_PREFIX: &str = "share.";
const SET_ON_GROUP: i8 = 8;

pub async fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
    documented: bool,
) -> Result<DescribeConfigsResult, CallError> {
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let shared = share::describe_configs(call, text(&resource.resource_name), keys.clone()).await?;
    let describe = DescribeGroupConfig { group_id: text(&resource.resource_name), keys };
    let described = call.ask(Request::DescribeGroupConfigs(vec![describe])).await?;
    let Response::DescribeGroupConfigs(mut described) = described else { return Err(call.mismatch()) };
    let Some(DescribedGroupConfigs { group_id, result }) = described.pop() else {
        return Err(call.mismatch());
    };
    let response =
        DescribeConfigsResult::default().with_resource_type(GROUP).with_resource_name(group_id.into());
    Ok(match result {
        Ok(entries) => {
            let shown = entries
                .iter()
                .chain(&shared)
                .map(|entry| described_entry(entry, SET_ON_GROUP, synonyms, documented, call.version));
            response.with_configs(shown.collect())
        }
        Err(failure) => {
            response.with_error_code(failure.error.code()).with_error_message(Some(failure.message.into()))
        }
    })
}

pub async fn alter(
    call: &Call,
    change: AlterConfig,
    validate_only: bool,
) -> Result<Result<(), Failure>, CallError> {
    let AlterConfig { topic: group_id, replace, changes } = change;
    let (of_share, changes): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|(name, _)| name.starts_with(SHARE_PREFIX));
    let shared = AlterConfig { topic: group_id.clone(), replace, changes: of_share };
    // Both parts are looked at before either is changed.
    if let Err(failure) = share::alter_configs(call, shared.clone(), true).await? {
        return Ok(Err(failure));
    }
    let groups = vec![AlterGroupConfig { group_id, replace, changes }];
    let altered = call.ask(Request::AlterGroupConfigs { groups, validate_only }).await?;
    let Response::AlterGroupConfigs(mut altered) = altered else { return Err(call.mismatch()) };
    match altered.pop() {
        Some((_, Ok(()))) if !validate_only => share::alter_configs(call, shared, false).await,
        Some((_, result)) => Ok(result),
        None => Err(call.mismatch()),
    }
}
