//! What the demo liberates from the legacy database, and what it sinks: data, not code.

use std::path::Path;

use headwater_client::Client;
use headwater_connect::sqlite::{
    BulkSource, Cursor, OutboxSource, QuerySource, SinkConfig, SinkStream, TableStream,
};
use headwater_registry::RegistryClient;

/// The topics that the sources write.
pub const SOURCE_TOPICS: [&str; 5] = ["flights", "weather", "aircraft", "airports", "airlines"];
/// The service's answers and the tables they are sunk into.
pub const ANSWERS: [(&str, &str); 4] = [
    ("flights.enriched", "enriched_flights"),
    ("departures.hourly", "departures_by_hour"),
    ("aircraft.rotations", "rotations"),
    ("routes.delays", "worst_routes"),
];
/// What the windows dropped: departures, then legs.
pub const LATE_TOPICS: [&str; 2] = ["departures.late", "rotations.late"];

const NAMESPACE: &str = "headwater.legacy";

/// Makes sources and the sink's settings for one legacy database on one cluster.
#[derive(Clone)]
pub struct Connectors {
    pub client: Client,
    pub registry: RegistryClient,
    /// Told apart from other runs on the same cluster by this; their positions are kept by name.
    pub suffix: String,
}

impl Connectors {
    /// The flights, as the outbox's triggers see them change.
    pub fn flights_stream(&self, legacy: &Path) -> TableStream {
        TableStream::new(self.name("flights"), legacy, "flights", "flights")
            .partitions(4)
            .record("Flight", NAMESPACE)
            .columns(&[
                "id",
                "carrier",
                "flight",
                "tailnum",
                "origin",
                "dest",
                "time_hour",
                "scheduled_at",
                "departed_at",
                "landed_at",
                "dep_delay",
                "arr_delay",
                "air_time",
                "distance",
                "status",
                "happened_at",
            ])
            .event_time("happened_at")
            .timestamps(&["scheduled_at", "departed_at", "landed_at", "happened_at"])
    }

    pub fn flights(&self, legacy: &Path) -> OutboxSource {
        OutboxSource::new(self.flights_stream(legacy), self.client.clone(), self.registry.clone())
    }

    /// The weather, by when its rows were typed in.
    pub fn weather(&self, legacy: &Path) -> QuerySource {
        let stream = TableStream::new(self.name("weather"), legacy, "weather", "weather")
            .partitions(2)
            .record("Weather", NAMESPACE)
            .columns(&[
                "origin",
                "year",
                "month",
                "day",
                "hour",
                "temp",
                "dewp",
                "humid",
                "wind_dir",
                "wind_speed",
                "wind_gust",
                "precip",
                "pressure",
                "visib",
                "time_hour",
                "updated_at",
            ])
            .key(&["origin", "time_hour"])
            .event_time("updated_at")
            .timestamps(&["updated_at"]);
        let cursor = Cursor {
            updated_at: "updated_at".into(),
            id: "id".into(),
            // One writer whose clock never goes back: no row appears below one that was seen.
            settle: std::time::Duration::ZERO,
        };
        QuerySource::new(stream, cursor, self.client.clone(), self.registry.clone())
    }

    /// The tables that do not change, as they are.
    pub fn bulk(&self, legacy: &Path) -> [BulkSource; 3] {
        [
            ("airlines", "airlines", "Airline"),
            ("airports", "airports", "Airport"),
            ("planes", "aircraft", "Aircraft"),
        ]
        .map(|(table, topic, record)| {
            let stream = TableStream::new(self.name(topic), legacy, table, topic).record(record, NAMESPACE);
            BulkSource::new(stream, self.client.clone(), self.registry.clone())
        })
    }

    pub fn sink(&self, database: &Path) -> SinkConfig {
        let streams = ANSWERS.iter().map(|(topic, table)| SinkStream::new(*topic, *table)).collect();
        SinkConfig { name: self.name("answers"), database: database.to_owned(), streams }
    }

    fn name(&self, of: &str) -> String {
        format!("demo-{of}{}", self.suffix)
    }
}
