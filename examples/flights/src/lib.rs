//! The example service: flight operations from a legacy program's tables.
//!
//! ```text
//! flights ─┬─ join weather by airport and hour, airlines, aircraft, airports ──▶ flights.enriched
//!          ├─ departures, by airport, per hour ────────────────────────────────▶ departures.hourly  (late: departures.late)
//!          ├─ legs, by aircraft, per session ──────────────────────────────────▶ aircraft.rotations (late: rotations.late)
//!          └─ arrival delays of landed flights, by route ──────────────────────▶ routes.delays
//! ```
//!
//! Start with [`topology`]; each of its lines is a module. `headwater.toml` says who the service is.

mod enrich;
mod error;
pub mod events;
mod hourly;
mod inputs;
mod rotations;
mod routes;
mod time;

use headwater::streams::{DeserializationHandler, StreamsBuilder, Topology};
use headwater::{AppConfig, AvroSerdes, Manifest, RegistryClient};

pub use error::ServiceError;
pub use headwater::StreamsApp;

use events::Serdes;
use inputs::Inputs;

/// The manifest's name: the consumer group, and what internal topics begin with.
pub const APPLICATION_ID: &str = "flight-operations";

/// Who the service is and what it reads and writes.
pub fn manifest() -> Result<Manifest, ServiceError> {
    Ok(Manifest::parse(include_str!("../headwater.toml"), "headwater.toml")?)
}

/// What the service does. In tests `avro` is `AvroSerdes::in_memory()`.
pub fn topology(avro: &AvroSerdes) -> Result<Topology, ServiceError> {
    let serdes = Serdes::new(avro)?;
    let mut builder = StreamsBuilder::new(APPLICATION_ID);
    builder.deserialization_handler(DeserializationHandler::DeadLetter(
        "flight-operations.dead-letter".to_owned(),
    ));

    let inputs = Inputs::read(&builder, &serdes);
    let changes = inputs.flights.changes();
    enrich::enrich(&inputs, &serdes);
    hourly::departures_by_hour(&changes, &serdes);
    rotations::rotations(&changes, &serdes);
    routes::delays_by_route(&inputs.flights, &serdes);
    Ok(builder.build()?)
}

/// Starts the service. Settings are the manifest's, unless `environment` has them (`HEADWATER_BOOTSTRAP`, …).
pub async fn start(
    environment: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<StreamsApp, ServiceError> {
    let config = AppConfig::from_manifest_and(&manifest()?, &|name| environment(name))?;
    let avro = AvroSerdes::new(RegistryClient::secured(config.registry.as_str(), &config.security)?);
    Ok(StreamsApp::start(topology(&avro)?, config).await?)
}

/// Runs the service until it is told to stop.
pub async fn run() -> Result<(), ServiceError> {
    let app = start(&|name| std::env::var(name).ok()).await?;
    match app.http() {
        Some(http) => println!("{APPLICATION_ID} runs; ask it: curl http://{http}/stores"),
        None => println!("{APPLICATION_ID} runs; HEADWATER_HTTP=127.0.0.1:7070 would let it be asked"),
    }
    Ok(app.run_until_signal().await?)
}
