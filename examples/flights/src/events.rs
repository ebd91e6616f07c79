//! What this service reads and writes.
//!
//! Every topic that someone else sees has a schema in `schemas/`, one file per record. The input schemas name only the
//! fields that are used; Avro leaves out the others. What nobody else sees (sums in stores) is JSON.

use std::sync::Arc;

use headwater::AvroSerdes;
use headwater::schema::SchemaError;
use headwater::streams::SerdeRef;
use headwater::streams::serdes::shared;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, UTC.
pub type Instant = i64;

/// A status of [`Flight`]: the one that makes it a leg.
pub const LANDED: &str = "landed";

/// A flight as the legacy program knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    pub id: i64,
    pub carrier: String,
    pub flight: i64,
    pub tailnum: Option<String>,
    pub origin: String,
    pub dest: String,
    /// The scheduled hour in UTC: `2013-01-01T10:00:00Z`.
    pub time_hour: String,
    pub scheduled_at: Instant,
    pub departed_at: Option<Instant>,
    pub landed_at: Option<Instant>,
    pub dep_delay: Option<i64>,
    pub arr_delay: Option<i64>,
    pub air_time: Option<i64>,
    pub distance: i64,
    pub status: String,
}

/// The weather of an hour; its key is `EWR|2013-01-01T10:00:00Z`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weather {
    pub temp: Option<f64>,
    pub wind_speed: Option<f64>,
    pub precip: Option<f64>,
    pub visib: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aircraft {
    pub manufacturer: String,
    pub model: String,
    pub year: Option<i64>,
    pub seats: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Airport {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Airline {
    pub name: String,
}

/// `flights.enriched`, keyed by the flight's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrichedFlight {
    pub id: i64,
    pub carrier: String,
    pub airline: Option<String>,
    pub flight: i64,
    pub tailnum: Option<String>,
    pub aircraft_manufacturer: Option<String>,
    pub aircraft_model: Option<String>,
    pub aircraft_year: Option<i64>,
    pub aircraft_seats: Option<i64>,
    pub origin: String,
    pub origin_name: Option<String>,
    pub dest: String,
    pub dest_name: Option<String>,
    pub scheduled_at: Instant,
    pub departed_at: Option<Instant>,
    pub landed_at: Option<Instant>,
    pub dep_delay_minutes: Option<i64>,
    pub arr_delay_minutes: Option<i64>,
    pub air_time_minutes: Option<i64>,
    pub distance_miles: i64,
    pub status: String,
    pub weather_temp: Option<f64>,
    pub weather_wind_speed: Option<f64>,
    pub weather_precip: Option<f64>,
    pub weather_visib: Option<f64>,
}

/// A flight has left. What is late of it goes to `departures.late`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    pub flight_id: i64,
    pub carrier: String,
    pub flight: i64,
    pub origin: String,
    pub dest: String,
    pub departed_at: Instant,
    pub dep_delay_minutes: i64,
}

/// `departures.hourly`, keyed by airport and hour: `EWR|2013-01-01T10:00:00Z`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HourlyDepartures {
    pub origin: String,
    pub window_start: Instant,
    pub departures: i64,
    pub sum_dep_delay_minutes: i64,
    pub mean_dep_delay_minutes: f64,
}

/// An aircraft has flown from one airport to another. What is late of it goes to `rotations.late`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    pub flight_id: i64,
    pub tailnum: String,
    pub origin: String,
    pub dest: String,
    pub departed_at: Instant,
    pub landed_at: Instant,
}

/// `aircraft.rotations`, keyed by aircraft and first departure: `N14228|2013-01-01T10:17:00Z`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub tailnum: String,
    pub first_departure: Instant,
    pub last_arrival: Instant,
    pub legs: i64,
}

/// `routes.delays`, keyed by route: `EWR|IAH`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteDelays {
    pub origin: String,
    pub dest: String,
    pub flights: i64,
    pub sum_arr_delay_minutes: i64,
    pub mean_arr_delay_minutes: f64,
}

/// How all of them are written.
pub struct Serdes {
    /// Several operators read one flight, so it is shared.
    pub flight: SerdeRef<Arc<Flight>>,
    pub weather: SerdeRef<Weather>,
    pub aircraft: SerdeRef<Aircraft>,
    pub airport: SerdeRef<Airport>,
    pub airline: SerdeRef<Airline>,
    pub enriched: SerdeRef<EnrichedFlight>,
    pub departure: SerdeRef<Departure>,
    pub hourly: SerdeRef<HourlyDepartures>,
    pub leg: SerdeRef<Leg>,
    pub rotation: SerdeRef<Rotation>,
    pub route: SerdeRef<RouteDelays>,
}

impl Serdes {
    pub fn new(avro: &AvroSerdes) -> Result<Self, SchemaError> {
        Ok(Self {
            flight: shared(avro.parse(include_str!("../schemas/flight.avsc"))?),
            weather: avro.parse(include_str!("../schemas/weather.avsc"))?,
            aircraft: avro.parse(include_str!("../schemas/aircraft.avsc"))?,
            airport: avro.parse(include_str!("../schemas/airport.avsc"))?,
            airline: avro.parse(include_str!("../schemas/airline.avsc"))?,
            enriched: avro.parse(include_str!("../schemas/enriched_flight.avsc"))?,
            departure: avro.parse(include_str!("../schemas/departure.avsc"))?,
            hourly: avro.parse(include_str!("../schemas/departures_hourly.avsc"))?,
            leg: avro.parse(include_str!("../schemas/leg.avsc"))?,
            rotation: avro.parse(include_str!("../schemas/rotation.avsc"))?,
            route: avro.parse(include_str!("../schemas/route_delays.avsc"))?,
        })
    }
}
