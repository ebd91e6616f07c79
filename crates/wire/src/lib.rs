//! Kafka's bytes: messages, frames and record batches.
//!
//! The only crate that names the protocol codec. Everything read here came from a network or a
//! disk, so every length is checked against the bytes that are present before it is believed.

pub mod batch;
pub mod compression;
pub mod filter;
pub mod scan;

pub use batch::{BatchBuilder, BatchError, BatchHeader, Producer};
pub use compression::{Compression, CompressionError};
pub use kacrab_protocol::generated::{ApiKey, ErrorCode};
pub use kacrab_protocol::version::{request_header_version, response_header_version};
pub use kacrab_protocol::{KafkaString, KafkaUuid, ProtocolError};

/// Requests and responses, one module a message, as Kafka's own schemas name them.
pub use kacrab_protocol::generated as messages;
