//! ApiVersions: the table, and the features that clients decide by.

use headwater_coordinator::FEATURES;
use headwater_wire::messages::ApiVersionsRequestData;
use headwater_wire::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponseData, FinalizedFeatureKey, SupportedFeatureKey,
};
use headwater_wire::{ApiKey, ErrorCode, KafkaString};

use super::{APIS, Call, CallError};
use crate::outgoing::Outgoing;

/// From here on a client says what it is.
const NAMED: i16 = 3;
/// From here on a client can read of a feature that it may be at level 0.
const BEGINS_AT_0: i16 = 4;

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

/// KIP-511: letters and digits, with dots and hyphens between them.
fn is_word(text: &KafkaString) -> bool {
    let text = text.as_str().as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    ends(text.first()) && ends(text.last()) && text.iter().all(within)
}

pub async fn versions(
    call: &Call,
    request: ApiVersionsRequestData,
) -> Result<ApiVersionsResponseData, CallError> {
    let is_named = is_word(&request.client_software_name) && is_word(&request.client_software_version);
    if call.version >= NAMED && !is_named {
        let code = ErrorCode::InvalidRequest.code();
        return Ok(ApiVersionsResponseData::default().with_error_code(code));
    }
    let features = call.shared.rules.features();
    let levels = FEATURES.iter().map(|feature| (feature.name, features.level(feature)));
    // Level 0 is that of a feature which is not finalized.
    let finalized = levels.filter(|(_, level)| *level > 0).map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(KafkaString::from_static(name))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    // Clients of v3 cannot read a feature that begins at 0 (KAFKA-17011).
    let readable = FEATURES.iter().filter(|feature| call.version >= BEGINS_AT_0 || feature.oldest > 0);
    let supported = readable.map(|feature| {
        SupportedFeatureKey::default()
            .with_name(KafkaString::from_static(feature.name))
            .with_min_version(feature.oldest)
            .with_max_version(feature.newest)
    });
    Ok(ApiVersionsResponseData::default()
        .with_api_keys(keys())
        .with_supported_features(supported.collect())
        .with_finalized_features_epoch(features.epoch())
        .with_finalized_features(finalized.collect()))
}

/// The answer to a client that has agreed on a mechanism and goes on with something else, as by Apache Kafka.
pub fn amid_sasl(call: &Call) -> Result<Outgoing, CallError> {
    let response = ApiVersionsResponseData::default().with_error_code(ErrorCode::IllegalSaslState.code());
    call.respond(response.encoded_len(call.version), |buffer| response.write(buffer, call.version))
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
