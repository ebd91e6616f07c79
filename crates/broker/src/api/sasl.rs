//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152): the connection's own, since they decide who it belongs to.

use bytes::Bytes;
use headwater_wire::messages::{
    SaslAuthenticateRequestData, SaslAuthenticateResponseData, SaslHandshakeRequestData,
    SaslHandshakeResponseData,
};
use headwater_wire::{ApiKey, ErrorCode, KafkaString};

use super::{Call, CallError};
use crate::outgoing::Outgoing;
use crate::security::{Denied, Session};

/// An answer, and whether the connection ends with it.
pub struct Answered {
    pub outgoing: Outgoing,
    pub ends: bool,
}

/// Serves one of the two for a connection to a SASL listener.
pub async fn serve(call: &Call, body: Bytes, session: &mut Session) -> Result<Answered, CallError> {
    match call.key {
        key if key == ApiKey::SaslHandshake as i16 => handshake(call, body, session),
        _ => token(call, body, session).await,
    }
}

fn handshake(call: &Call, mut body: Bytes, session: &mut Session) -> Result<Answered, CallError> {
    let request = SaslHandshakeRequestData::read(&mut body, call.version);
    let request = request.map_err(|error| call.malformed(error))?;
    let agreed = session.agree(request.mechanism.as_str(), call.version == 0);
    let name = |mechanism: &headwater_security::Mechanism| KafkaString::from_static(mechanism.name());
    let response = SaslHandshakeResponseData::default()
        .with_error_code(agreed.as_ref().err().map_or(0, |denied| denied.code.code()))
        .with_mechanisms(session.mechanisms().iter().map(name).collect());
    let length = response.encoded_len(call.version);
    let outgoing = call.respond(length, |buffer| response.write(buffer, call.version))?;
    Ok(Answered { outgoing, ends: agreed.is_err() })
}

async fn token(call: &Call, mut body: Bytes, session: &mut Session) -> Result<Answered, CallError> {
    let request = SaslAuthenticateRequestData::read(&mut body, call.version);
    let request = request.map_err(|error| call.malformed(error))?;
    let outcome = session.authenticate(&request.auth_bytes).await;
    let ends = outcome.is_err();
    let response = match outcome {
        Ok(step) => SaslAuthenticateResponseData::default()
            .with_auth_bytes(step.message.into())
            .with_session_lifetime_ms(i64::try_from(step.lifetime.as_millis()).unwrap_or(i64::MAX)),
        Err(denied) => refused(denied),
    };
    let length = response.encoded_len(call.version);
    let outgoing = call.respond(length, |buffer| response.write(buffer, call.version))?;
    Ok(Answered { outgoing, ends })
}

fn refused(denied: Denied) -> SaslAuthenticateResponseData {
    SaslAuthenticateResponseData::default()
        .with_error_code(denied.code.code())
        .with_error_message(Some(denied.message.into()))
}

const NO_SASL: &str = "this listener does not authenticate by SASL";

/// On a listener without SASL.
pub async fn out_of_place_handshake(
    _: &Call,
    _: SaslHandshakeRequestData,
) -> Result<SaslHandshakeResponseData, CallError> {
    Ok(SaslHandshakeResponseData::default().with_error_code(ErrorCode::IllegalSaslState.code()))
}

pub async fn out_of_place(
    _: &Call,
    _: SaslAuthenticateRequestData,
) -> Result<SaslAuthenticateResponseData, CallError> {
    Ok(refused(Denied { code: ErrorCode::IllegalSaslState, message: NO_SASL.to_owned() }))
}
