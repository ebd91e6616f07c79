//! `routes.delays`: how late the landed flights of each route were. A corrected delay replaces the first one, because an
//! aggregate over a table takes the old value back.

use std::sync::Arc;

use headwater::streams::serdes::{i64, json, nullable, string};
use headwater::streams::{Grouped, KTable, Materialized, Produced};
use serde::{Deserialize, Serialize};

use crate::events::{Flight, LANDED, RouteDelays, Serdes};

/// What the store `route-delays` keeps.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Sum {
    flights: i64,
    sum_arr_delay_minutes: i64,
}

pub fn delays_by_route(flights: &KTable<String, Arc<Flight>>, serdes: &Serdes) {
    flights
        .filter(|_, flight| flight.status == LANDED)
        .group_by(
            |_, flight| (format!("{}|{}", flight.origin, flight.dest), flight.arr_delay.unwrap_or(0)),
            Grouped::with(string(), i64()).named("delays-by-route"),
        )
        .aggregate(
            Sum::default,
            |_, delay, sum| Sum {
                flights: sum.flights + 1,
                sum_arr_delay_minutes: sum.sum_arr_delay_minutes + delay,
            },
            |_, delay, sum| Sum {
                flights: sum.flights - 1,
                sum_arr_delay_minutes: sum.sum_arr_delay_minutes - delay,
            },
            Materialized::named("route-delays").value_serde(json()).json(),
        )
        .to_stream()
        .map_values_with_key(|route, sum| delays(route, sum?))
        .to("routes.delays", Produced::with(string(), nullable(serdes.route.clone())));
}

/// `None`, a tombstone, when no flight is left.
fn delays(route: &str, sum: Sum) -> Option<RouteDelays> {
    let (origin, dest) = route.split_once('|')?;
    (sum.flights > 0).then(|| RouteDelays {
        origin: origin.to_owned(),
        dest: dest.to_owned(),
        flights: sum.flights,
        sum_arr_delay_minutes: sum.sum_arr_delay_minutes,
        mean_arr_delay_minutes: sum.sum_arr_delay_minutes as f64 / sum.flights as f64,
    })
}
