//! What can go wrong, for the registry itself and for those who call it.

use std::time::Duration;

use headwater_client::{ClientError, TokenError};
use headwater_schema::SchemaError;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(
        "no schema registry answers at {url}: {reason}; is it running, and is this its address? (--registry, HEADWATER_REGISTRY)"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "the schema registry at {url} does not accept who this client says it is: look at basic.auth.user.info, or sasl.username and sasl.password over https, in the file of --command-config or HEADWATER_COMMAND_CONFIG"
    )]
    Unauthenticated { url: String },
    #[error("no token for the schema registry at {url}: {source}")]
    Token { url: String, source: TokenError },
    #[error("{message}")]
    Refused { status: u16, error_code: i32, message: String },
    #[error("{url} did not answer as a schema registry does: {reason}")]
    Malformed { url: String, reason: String },
    #[error("{url} is no address of a schema registry: {reason}")]
    Address { url: String, reason: String },
    #[error("{what} took longer than {after:?}; whether it was done is not known, and trying again is safe")]
    TimedOut { what: &'static str, after: Duration },
    #[error("topic {topic} has {partitions} partitions; the registry needs exactly one")]
    Topic { topic: &'static str, partitions: i32 },
    #[error(
        "topic {topic} has cleanup.policy={policy}, by which schemas are deleted when they are old, and it cannot be changed: {source}; set it (kafka-configs --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=compact)"
    )]
    Policy { topic: &'static str, policy: String, source: ClientError },
    #[error(transparent)]
    Kafka(#[from] ClientError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl RegistryError {
    /// Trying the same again may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Kafka(error) => error.is_retriable(),
            _ => false,
        }
    }
}
