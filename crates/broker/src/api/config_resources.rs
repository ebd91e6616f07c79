//! Which resources have a configuration (KIP-1142, and KIP-714 in its first version).

use headwater_coordinator::{Request, Response};
use headwater_wire::messages::ListConfigResourcesRequestData;
use headwater_wire::messages::list_config_resources_response::{
    ConfigResource, ListConfigResourcesResponseData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::{Call, CallError, once_by, rights};
use crate::NODE_ID;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
/// Before, only subscriptions to client metrics could be listed.
const ANY_TYPE: i16 = 1;

pub async fn list(
    call: &Call,
    request: ListConfigResourcesRequestData,
) -> Result<ListConfigResourcesResponseData, CallError> {
    let response = ListConfigResourcesResponseData::default();
    if let Err(code) = call.check_cluster(rights::DESCRIBE_CLUSTER_CONFIGS) {
        return Ok(response.with_error_code(code.code()));
    }
    let mut wanted = match call.version >= ANY_TYPE {
        true if request.resource_types.is_empty() => ALL.to_vec(),
        true => request.resource_types,
        false => vec![CLIENT_METRICS],
    };
    if wanted.iter().any(|kind| !ALL.contains(kind)) {
        return Ok(response.with_error_code(ErrorCode::UnsupportedVersion.code()));
    }
    // A type takes one byte of the request and all topics of the answer.
    once_by(&mut wanted, |kind| *kind);
    let resource = |kind: i8| {
        move |name: KafkaString| {
            let resource = ConfigResource::default().with_resource_name(name);
            if call.version >= ANY_TYPE { resource.with_resource_type(kind) } else { resource }
        }
    };
    let mut resources = Vec::new();
    for kind in wanted {
        resources.extend(names(call, kind).await?.into_iter().map(resource(kind)));
    }
    Ok(response.with_config_resources(resources))
}

/// Topics and the broker all have one; of groups and subscriptions those are named of which something is set.
async fn names(call: &Call, kind: i8) -> Result<Vec<KafkaString>, CallError> {
    Ok(match kind {
        TOPIC => call.shared.catalog.all().iter().map(|topic| topic.name().to_owned().into()).collect(),
        BROKER | BROKER_LOGGER => vec![NODE_ID.to_string().into()],
        _ => {
            let configured = call.ask(Request::ListConfigured).await?;
            let Response::ListConfigured { groups, client_metrics } = configured else {
                return Err(call.mismatch());
            };
            let names = if kind == GROUP { groups } else { client_metrics };
            names.into_iter().map(Into::into).collect()
        }
    })
}
