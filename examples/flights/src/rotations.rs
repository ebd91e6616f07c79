//! `aircraft.rotations`: the legs of an aircraft that belong together, because no two neighbours depart more than twelve
//! hours apart.
//!
//! A leg counts once, when its flight first lands, at the time it departed. A leg that joins two rotations makes one of
//! them; the other's key gets a tombstone. Legs told when their rotation has closed go to `rotations.late`.

use std::sync::Arc;
use std::time::Duration;

use headwater::streams::serdes::{json, nullable, string};
use headwater::streams::{Change, Grouped, KStream, Materialized, Produced, SessionWindows};
use serde::{Deserialize, Serialize};

use crate::events::{Flight, Instant, LANDED, Leg, Rotation, Serdes};
use crate::time::iso8601;

const GAP: Duration = Duration::from_secs(12 * 3600);
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long the store can be asked about a rotation.
const RETENTION: Duration = Duration::from_secs(400 * 24 * 3600);

/// What the store `rotations` keeps.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Legs {
    legs: i64,
    last_arrival: Instant,
}

impl Legs {
    fn and(self, other: Self) -> Self {
        Self { legs: self.legs + other.legs, last_arrival: self.last_arrival.max(other.last_arrival) }
    }
}

pub fn rotations(changes: &KStream<String, Change<Arc<Flight>>>, serdes: &Serdes) {
    changes
        .flat_map(|_, change| leg(&change).map(|leg| (leg.tailnum.clone(), leg)))
        .with_timestamp(|_, leg| leg.departed_at)
        .group_by_key(Grouped::with(string(), serdes.leg.clone()).named("legs-by-aircraft"))
        .windowed_by_session(SessionWindows::with_gap(GAP).grace(GRACE))
        .late_to("rotations.late", Produced::with(string(), serdes.leg.clone()))
        .aggregate(
            Legs::default,
            |_, leg, legs| legs.and(Legs { legs: 1, last_arrival: leg.landed_at }),
            |_, earlier, later| earlier.and(later),
            // Events may be years old, so the changelog is not deleted by their age.
            Materialized::named("rotations")
                .value_serde(json())
                .retention(RETENTION)
                .config("cleanup.policy", "compact")
                .json(),
        )
        .to_stream()
        .map(|session, legs| {
            let key = format!("{}|{}", session.key, iso8601(session.start));
            let rotation = legs.map(|Legs { legs, last_arrival }| Rotation {
                tailnum: session.key,
                first_departure: session.start,
                last_arrival,
                legs,
            });
            (key, rotation)
        })
        .to("aircraft.rotations", Produced::with(string(), nullable(serdes.rotation.clone())));
}

fn leg(change: &Change<Arc<Flight>>) -> Option<Leg> {
    let flight = change.new.as_ref().filter(|flight| flight.status == LANDED)?;
    if change.old.as_ref().is_some_and(|flight| flight.status == LANDED) {
        return None;
    }
    Some(Leg {
        flight_id: flight.id,
        tailnum: flight.tailnum.clone()?,
        origin: flight.origin.clone(),
        dest: flight.dest.clone(),
        departed_at: flight.departed_at?,
        landed_at: flight.landed_at?,
    })
}
