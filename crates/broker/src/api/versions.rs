//! ApiVersions: the table, and the features that clients decide by.

use headwater_wire::messages::ApiVersionsRequestData;
use headwater_wire::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponseData, FinalizedFeatureKey, SupportedFeatureKey,
};
use headwater_wire::{ApiKey, ErrorCode, KafkaString};

use super::{APIS, Call, CallError};
use crate::outgoing::Outgoing;

/// The features that clients decide by, with their levels, in the order of their names.
const FEATURES: [(&str, i16); 4] = [
    // KIP-848: the consumer group protocol.
    ("group.version", 1),
    // KIP-932: there are share groups.
    ("share.version", 1),
    // KIP-1071: there are streams groups.
    ("streams.version", 1),
    // KIP-890: every transaction has its own epoch, and writing to a partition adds it.
    ("transaction.version", 2),
];

pub fn feature_level(name: &str) -> Option<i16> {
    FEATURES.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}

fn keys() -> Vec<ApiVersion> {
    let key = |api: &super::Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.offered)
            .with_max_version(api.newest)
    };
    let mut keys: Vec<_> = APIS.iter().map(key).collect();
    keys.sort_unstable_by_key(|key| key.api_key);
    keys
}

pub async fn versions(call: &Call, _: ApiVersionsRequestData) -> Result<ApiVersionsResponseData, CallError> {
    let finalized = FEATURES.map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(KafkaString::from_static(name))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    let supported = FEATURES.map(|(name, level)| {
        SupportedFeatureKey::default().with_name(KafkaString::from_static(name)).with_max_version(level)
    });
    // Clients of v3 cannot read a feature that begins at 0 (KAFKA-17011).
    let supported = if call.version >= 4 { supported.to_vec() } else { Vec::new() };
    Ok(ApiVersionsResponseData::default()
        .with_api_keys(keys())
        .with_supported_features(supported)
        .with_finalized_features_epoch(0)
        .with_finalized_features(finalized.to_vec()))
}

/// The answer to a version that we do not know, in v0.
pub fn unsupported(correlation_id: i32) -> Result<Outgoing, CallError> {
    let key = ApiKey::ApiVersions as i16;
    let response = ApiVersionsResponseData::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(keys());
    let mut outgoing = Outgoing::begin(correlation_id, false, 0);
    let written = response.write(outgoing.bytes_mut(), 0);
    written.map_err(|error| CallError::Encode { key, version: 0, error })?;
    outgoing.seal().ok_or(CallError::TooLong { key })
}
