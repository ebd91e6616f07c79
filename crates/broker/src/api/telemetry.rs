//! Metrics of clients (KIP-714): nobody takes them, whatever subscriptions there are, so clients are told to send none.

use headwater_wire::messages::get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponseData;
use headwater_wire::messages::push_telemetry_response::PushTelemetryResponseData;
use headwater_wire::messages::{GetTelemetrySubscriptionsRequestData, PushTelemetryRequestData};
use headwater_wire::{Compression, ErrorCode};

use super::{Call, CallError, uuid};

/// How soon a client asks again; Kafka's default.
const INTERVAL_MS: i32 = 300_000;
/// Kafka's `telemetry.max.bytes`.
const MOST_BYTES: i32 = 1 << 20;
/// The subscription to nothing.
const NOTHING: i32 = 0;
/// In the order in which the broker would like them, as Kafka has it.
const COMPRESSIONS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

pub async fn subscriptions(
    _: &Call,
    request: GetTelemetrySubscriptionsRequestData,
) -> Result<GetTelemetrySubscriptionsResponseData, CallError> {
    let id = match request.client_instance_id.is_nil() {
        true => uuid(*uuid::Uuid::new_v4().as_bytes()),
        false => request.client_instance_id,
    };
    Ok(GetTelemetrySubscriptionsResponseData::default()
        .with_client_instance_id(id)
        .with_subscription_id(NOTHING)
        .with_accepted_compression_types(COMPRESSIONS.map(|codec| codec as i8).to_vec())
        .with_push_interval_ms(INTERVAL_MS)
        .with_telemetry_max_bytes(MOST_BYTES)
        .with_delta_temporality(true))
}

pub async fn push(
    _: &Call,
    request: PushTelemetryRequestData,
) -> Result<PushTelemetryResponseData, CallError> {
    let code = match () {
        () if request.client_instance_id.is_nil() => ErrorCode::InvalidRequest,
        () if request.subscription_id != NOTHING => ErrorCode::UnknownSubscriptionId,
        () if request.metrics.len() > MOST_BYTES as usize => ErrorCode::TelemetryTooLarge,
        () => ErrorCode::None,
    };
    Ok(PushTelemetryResponseData::default().with_error_code(code.code()))
}
