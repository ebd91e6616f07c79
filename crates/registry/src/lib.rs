//! The schema registry: Confluent's REST interface and record format, on a Kafka topic of its own.
//!
//! Owns the topic `_schemas` and what it means. Keeps Avro only; other types and record kinds that a
//! Confluent registry wrote there are kept and passed over. Its invariants: an id is given once and
//! never to another schema; an answer to a write is sent after the write was read back from the log, so
//! that what was answered is what every node on the same Kafka sees.
//!
//! A topic that is deleted while it runs takes all answers with it: a restart would not know them, either.
//!
//! Of Confluent's interface these are left out on purpose: schema references, contexts, modes other than
//! `READWRITE`, and normalisation beyond the canonical text.

mod client;
mod decide;
mod error;
mod follower;
mod http;
mod record;
mod refusal;
mod state;
mod store;

pub use client::{RegisteredSchema, RegistryClient};
pub use error::RegistryError;

use std::sync::Arc;

use headwater_client::Client;
use headwater_schema::AvroSchema;

use crate::store::Store;

/// A running registry; clones are the same. It follows its topic for as long as it or one of its routers lives.
#[derive(Clone)]
pub struct Registry {
    store: Arc<Store>,
}

impl Registry {
    /// Creates the topic if need be, and returns when everything in it has been read.
    pub async fn start(client: Client) -> Result<Self, RegistryError> {
        Store::start(client).await.map(|store| Self { store })
    }

    /// The Avro schema with an id, for readers in the same process.
    pub fn schema(&self, id: u32) -> Option<AvroSchema> {
        self.store.state().schema(id)?.avro.clone()
    }

    /// Whether its topic was deleted while it ran: it then refuses to answer from memory.
    pub fn has_lost_its_topic(&self) -> bool {
        self.store.is_lost()
    }

    /// The REST interface, to be merged with others or served by itself.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.store))
    }
}
