//! Delegation tokens (KIP-48), answered as a Kafka does that has none enabled.

use headwater_model::Principal;
use headwater_wire::ErrorCode;
use headwater_wire::messages::{
    CreateDelegationTokenRequestData, CreateDelegationTokenResponseData, DescribeDelegationTokenRequestData,
    DescribeDelegationTokenResponseData, ExpireDelegationTokenRequestData, ExpireDelegationTokenResponseData,
    RenewDelegationTokenRequestData, RenewDelegationTokenResponseData,
};

use super::{Call, CallError};

/// Who has not said who they are may not even ask.
fn refusal(call: &Call) -> i16 {
    match *call.principal == Principal::anonymous() {
        true => ErrorCode::DelegationTokenRequestNotAllowed.code(),
        false => ErrorCode::DelegationTokenAuthDisabled.code(),
    }
}

pub async fn create(
    call: &Call,
    _: CreateDelegationTokenRequestData,
) -> Result<CreateDelegationTokenResponseData, CallError> {
    let principal = &call.principal;
    Ok(CreateDelegationTokenResponseData::default()
        .with_error_code(refusal(call))
        .with_principal_type(principal.kind.clone().into())
        .with_principal_name(principal.name.clone().into())
        .with_issue_timestamp_ms(-1)
        .with_expiry_timestamp_ms(-1)
        .with_max_timestamp_ms(-1))
}

pub async fn renew(
    call: &Call,
    _: RenewDelegationTokenRequestData,
) -> Result<RenewDelegationTokenResponseData, CallError> {
    Ok(RenewDelegationTokenResponseData::default()
        .with_error_code(refusal(call))
        .with_expiry_timestamp_ms(-1))
}

pub async fn expire(
    call: &Call,
    _: ExpireDelegationTokenRequestData,
) -> Result<ExpireDelegationTokenResponseData, CallError> {
    Ok(ExpireDelegationTokenResponseData::default()
        .with_error_code(refusal(call))
        .with_expiry_timestamp_ms(-1))
}

pub async fn describe(
    call: &Call,
    _: DescribeDelegationTokenRequestData,
) -> Result<DescribeDelegationTokenResponseData, CallError> {
    Ok(DescribeDelegationTokenResponseData::default().with_error_code(refusal(call)))
}
