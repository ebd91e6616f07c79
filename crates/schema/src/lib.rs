//! Avro: schemas, their compatibility, and their bytes.
//!
//! Owns parsing, schema resolution and the seven compatibility levels of Confluent's registry. Refuses
//! I/O of any kind. Its invariant: whatever bytes or schemas it is given, it answers with a value or a
//! typed error within bounded memory and depth, and never panics.
//!
//! [`encode`] and [`Resolver`] go straight between `serde` and Avro's binary form, without a tree of
//! values between; [`AvroCodec`] is for people, who read and write JSON.

mod access;
mod binary;
mod canonical;
mod compatibility;
pub mod confluent;
mod decode;
mod encode;
mod error;
mod json;
mod json_writer;
mod list_encoder;
mod node;
mod parse;
mod plan;
mod record_encoder;
mod rules;
mod schema;
mod skip;
mod subject;
mod verify;

pub use compatibility::{CompatibilityLevel, check};
pub use decode::Resolver;
pub use encode::encode;
pub use error::SchemaError;
pub use json::AvroCodec;
pub use rules::{Incompatibility, can_read};
pub use schema::AvroSchema;
pub use subject::topic_of_subject;
