//! Subscriptions to client metrics: resource type 16 of the APIs of configuration (KIP-714).

use headwater_coordinator::{AlterConfig, Failure, Request, Response};
use headwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use headwater_wire::messages::describe_configs_response::DescribeConfigsResult;
use headwater_wire::{ErrorCode, KafkaString};

use super::config_resources::CLIENT_METRICS;
use super::{Call, CallError, group_configs, rights, text, texts};

const SET_ON_SUBSCRIPTION: i8 = 7;

pub async fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
    documented: bool,
) -> Result<DescribeConfigsResult, CallError> {
    let keys = resource.configuration_keys.as_deref().map(texts).filter(|keys| !keys.is_empty());
    let name = text(&resource.resource_name);
    let response = DescribeConfigsResult::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(resource.resource_name);
    if name.is_empty() {
        let why = KafkaString::from_static("name the subscription");
        return Ok(response.with_error_code(ErrorCode::InvalidRequest.code()).with_error_message(Some(why)));
    }
    let described = call.ask(Request::DescribeClientMetrics { name, keys }).await?;
    let Response::DescribeClientMetrics(entries) = described else { return Err(call.mismatch()) };
    let shown = entries
        .into_iter()
        .map(|entry| group_configs::shown(entry, SET_ON_SUBSCRIPTION, synonyms, documented, call.version));
    Ok(response.with_configs(shown.collect()))
}

pub async fn alter(
    call: &Call,
    change: AlterConfig,
    validate_only: bool,
) -> Result<Result<(), Failure>, CallError> {
    let (name, keys) = (change.topic.clone(), change.changes.iter().map(|(key, _)| key.as_str()));
    let detail = format!("{name}: {}", keys.collect::<Vec<_>>().join(", "));
    let altered = call.ask(Request::AlterClientMetrics { change, validate_only }).await?;
    let Response::AlterClientMetrics(result) = altered else { return Err(call.mismatch()) };
    if result.is_ok() && !validate_only {
        call.changed(rights::ALTER_CLUSTER_CONFIGS, &name, || Some(detail));
    }
    Ok(result)
}
