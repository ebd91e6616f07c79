//! The console: what flows where, what is late, what an event looks like, on one live page.
//!
//! Owns pages, their script and style, and the observer that looks at the broker while somebody
//! watches. Reads everything through the Kafka client, the schema registry and the services' own HTTP
//! addresses, so it shows the same on the embedded broker and on Apache Kafka. Changes nothing.

mod catalog;
mod events;
mod graph;
mod observer;
mod pages;
mod services;
mod view;

use std::sync::{Arc, LazyLock};

use axum::Router;
use headwater_client::{Client, HttpSecurity};
use headwater_registry::Registry;

pub use observer::{GroupRow, Overview, ServiceRow, StreamRow};

/// What the console shows and where it asks.
#[derive(Clone)]
pub struct Console {
    inner: Arc<Inner>,
}

type MakeClient = Box<dyn FnOnce() -> Result<reqwest::Client, reqwest::Error> + Send>;

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) schemas: Registry,
    pub(crate) observer: observer::Observer,
    /// For what services answer; why there is none is told to whoever asks. Made when the first one is asked: reading
    /// the system's certificates takes longer than everything else at a start.
    pub(crate) http: LazyLock<Result<reqwest::Client, reqwest::Error>, MakeClient>,
}

impl Console {
    /// A console over one cluster. Nothing is asked of the broker until somebody looks. Services are asked with the authorities
    /// and the certificate of `services`.
    pub fn new(client: Client, schemas: Registry, services: HttpSecurity) -> Self {
        let observer = observer::Observer::new(client.clone());
        let make: MakeClient = Box::new(move || services::client(&services));
        Self { inner: Arc::new(Inner { client, schemas, observer, http: LazyLock::new(make) }) }
    }

    /// `/` and everything below `/console` and `/api/v1`.
    pub fn router(&self) -> Router {
        pages::router(Arc::clone(&self.inner))
    }
}
