//! What the service reads: two tables that change all the time, and three that everyone needs whole.

use std::sync::Arc;

use headwater::streams::serdes::{json, string};
use headwater::streams::{
    Consumed, DeserializationHandler, GlobalKTable, KTable, Materialized, StreamsBuilder,
};

use crate::events::{Aircraft, Airline, Airport, Flight, Serdes, Weather};

pub struct Inputs {
    /// By the flight's id.
    pub flights: KTable<String, Arc<Flight>>,
    /// By airport and hour: `EWR|2013-01-01T10:00:00Z`.
    pub weather: KTable<String, Weather>,
    /// By tail number.
    pub aircraft: GlobalKTable<String, Aircraft>,
    /// By FAA code.
    pub airports: GlobalKTable<String, Airport>,
    /// By carrier code.
    pub airlines: GlobalKTable<String, Airline>,
}

impl Inputs {
    pub fn read(builder: &StreamsBuilder, serdes: &Serdes) -> Self {
        let flights = Consumed::with(string(), serdes.flight.clone());
        let weather = Consumed::with(string(), serdes.weather.clone());
        // No global table has dead letters; without a plane's row a flight has no plane.
        let skip = || DeserializationHandler::Continue;
        let aircraft = Consumed::with(string(), serdes.aircraft.clone()).deserialization_handler(skip());
        let airports = Consumed::with(string(), serdes.airport.clone()).deserialization_handler(skip());
        let airlines = Consumed::with(string(), serdes.airline.clone()).deserialization_handler(skip());
        Self {
            flights: builder.table("flights", flights, Materialized::named("flights-by-id")),
            weather: builder.table(
                "weather",
                weather,
                Materialized::named("weather-by-hour").value_serde(json()),
            ),
            aircraft: builder.global_table("aircraft", aircraft, Materialized::named("aircraft-by-tailnum")),
            airports: builder.global_table("airports", airports, Materialized::named("airports-by-faa")),
            airlines: builder.global_table("airlines", airlines, Materialized::named("airlines-by-carrier")),
        }
    }
}
