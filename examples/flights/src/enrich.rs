//! `flights.enriched`: every flight with what is known about it. A withdrawn flight is a tombstone.
//!
//! The weather may come before or after the flight and may be corrected: a foreign-key join follows both. Airlines,
//! aircraft and airports change rarely: each flight takes the row of its time of processing.

use std::sync::Arc;

use headwater::streams::serdes::{json, nullable, string};
use headwater::streams::{KTable, Produced, TableJoined};

use crate::events::{EnrichedFlight, Flight, Serdes, Weather};
use crate::inputs::Inputs;

type Joined = TableJoined<String, Arc<Flight>, String, Weather, EnrichedFlight>;

pub fn enrich(inputs: &Inputs, serdes: &Serdes) {
    with_weather(inputs)
        .to_stream()
        .left_join_global(
            &inputs.airlines,
            |_, row| row.as_ref().map(|flight| flight.carrier.clone()),
            |row, airline| {
                row.map(|flight| EnrichedFlight {
                    airline: airline.map(|airline| airline.name.clone()),
                    ..flight
                })
            },
        )
        .left_join_global(
            &inputs.aircraft,
            |_, row| row.as_ref().and_then(|flight| flight.tailnum.clone()),
            |row, aircraft| {
                row.map(|flight| EnrichedFlight {
                    aircraft_manufacturer: aircraft.map(|aircraft| aircraft.manufacturer.clone()),
                    aircraft_model: aircraft.map(|aircraft| aircraft.model.clone()),
                    aircraft_year: aircraft.and_then(|aircraft| aircraft.year),
                    aircraft_seats: aircraft.map(|aircraft| aircraft.seats),
                    ..flight
                })
            },
        )
        .left_join_global(
            &inputs.airports,
            |_, row| row.as_ref().map(|flight| flight.origin.clone()),
            |row, origin| {
                row.map(|flight| EnrichedFlight {
                    origin_name: origin.map(|origin| origin.name.clone()),
                    ..flight
                })
            },
        )
        .left_join_global(
            &inputs.airports,
            |_, row| row.as_ref().map(|flight| flight.dest.clone()),
            |row, dest| {
                row.map(|flight| EnrichedFlight { dest_name: dest.map(|dest| dest.name.clone()), ..flight })
            },
        )
        .to("flights.enriched", Produced::with(string(), nullable(serdes.enriched.clone())));
}

fn with_weather(inputs: &Inputs) -> KTable<String, EnrichedFlight> {
    inputs.flights.left_join_foreign(
        &inputs.weather,
        |_, flight| Some(format!("{}|{}", flight.origin, flight.time_hour)),
        |flight, weather| enriched(flight, weather),
        Joined::new().named("weather").other_value_serde(json()),
    )
}

fn enriched(flight: &Flight, weather: Option<&Weather>) -> EnrichedFlight {
    EnrichedFlight {
        id: flight.id,
        carrier: flight.carrier.clone(),
        airline: None,
        flight: flight.flight,
        tailnum: flight.tailnum.clone(),
        aircraft_manufacturer: None,
        aircraft_model: None,
        aircraft_year: None,
        aircraft_seats: None,
        origin: flight.origin.clone(),
        origin_name: None,
        dest: flight.dest.clone(),
        dest_name: None,
        scheduled_at: flight.scheduled_at,
        departed_at: flight.departed_at,
        landed_at: flight.landed_at,
        dep_delay_minutes: flight.dep_delay,
        arr_delay_minutes: flight.arr_delay,
        air_time_minutes: flight.air_time,
        distance_miles: flight.distance,
        status: flight.status.clone(),
        weather_temp: weather.and_then(|weather| weather.temp),
        weather_wind_speed: weather.and_then(|weather| weather.wind_speed),
        weather_precip: weather.and_then(|weather| weather.precip),
        weather_visib: weather.and_then(|weather| weather.visib),
    }
}
