//! `departures.hourly`: how many flights left an airport in each hour, and how late they were.
//!
//! A departure counts once, when the flight's row first says when it left, in the hour in which it left. Those told more
//! than twelve hours after that hour go to `departures.late` instead.

use std::sync::Arc;
use std::time::Duration;

use headwater::streams::serdes::{json, string};
use headwater::streams::{Change, Grouped, KStream, Materialized, Produced, TimeWindows, Windowed};
use serde::{Deserialize, Serialize};

use crate::events::{Departure, Flight, HourlyDepartures, Serdes};
use crate::time::iso8601;

const HOUR: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(12 * 3600);
/// How long the store can be asked about an hour.
const RETENTION: Duration = Duration::from_secs(400 * 24 * 3600);

/// What the store `departures-by-hour` keeps.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Sum {
    departures: i64,
    sum_dep_delay_minutes: i64,
}

pub fn departures_by_hour(changes: &KStream<String, Change<Arc<Flight>>>, serdes: &Serdes) {
    let departures = Grouped::with(string(), serdes.departure.clone()).named("departures-by-origin");
    changes
        .flat_map(|_, change| departure(&change).map(|departure| (departure.origin.clone(), departure)))
        .with_timestamp(|_, departure| departure.departed_at)
        .group_by_key(departures)
        .windowed_by(TimeWindows::of(HOUR).grace(GRACE))
        .late_to("departures.late", Produced::with(string(), serdes.departure.clone()))
        .aggregate(
            Sum::default,
            |_, departure, sum| Sum {
                departures: sum.departures + 1,
                sum_dep_delay_minutes: sum.sum_dep_delay_minutes + departure.dep_delay_minutes,
            },
            // Events may be years old, so the changelog is not deleted by their age.
            Materialized::named("departures-by-hour")
                .value_serde(json())
                .retention(RETENTION)
                .config("cleanup.policy", "compact")
                .json(),
        )
        .to_stream()
        .without_tombstones()
        .map(|window, sum| (key(&window), hourly(window, sum)))
        .to("departures.hourly", Produced::with(string(), serdes.hourly.clone()));
}

fn departure(change: &Change<Arc<Flight>>) -> Option<Departure> {
    let flight = change.new.as_ref()?;
    let had_left = change.old.as_ref().is_some_and(|flight| flight.departed_at.is_some());
    let departed_at = flight.departed_at.filter(|_| !had_left)?;
    Some(Departure {
        flight_id: flight.id,
        carrier: flight.carrier.clone(),
        flight: flight.flight,
        origin: flight.origin.clone(),
        dest: flight.dest.clone(),
        departed_at,
        dep_delay_minutes: flight.dep_delay.unwrap_or(0),
    })
}

fn key(window: &Windowed<String>) -> String {
    format!("{}|{}", window.key, iso8601(window.start))
}

fn hourly(window: Windowed<String>, sum: Sum) -> HourlyDepartures {
    HourlyDepartures {
        origin: window.key,
        window_start: window.start,
        departures: sum.departures,
        sum_dep_delay_minutes: sum.sum_dep_delay_minutes,
        mean_dep_delay_minutes: sum.sum_dep_delay_minutes as f64 / sum.departures as f64,
    }
}
