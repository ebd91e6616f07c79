//! Which events the windows must drop, and whether that is certain.
//!
//! A window drops an event when its partition has already seen times past the window's end and grace. The
//! oracle does not know partitions and offsets. It knows when a departure was typed in, and that nothing is
//! typed in before it happens. So an event typed in before the window closes is kept, whatever the others do;
//! one typed in after it closes is dropped if its partition saw a later event in between, of which there must
//! be so many that one of them is in every partition. Everything else is not certain, and refused.

use anyhow::{Result, ensure};
use rusqlite::Connection;

/// Events between a window's closing and a late record, at least: with four partitions the chance that none
/// of 200 is in the record's own is 10⁻²⁵.
const WITNESSES: i64 = 200;

/// How many events the windows must have dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub departures: u64,
    pub legs: u64,
}

/// Rules that must have no exception, each with what an exception would mean.
const RULES: [(&str, &str); 5] = [
    (
        "a departure was typed in before it happened, so times alone do not say what the windows saw",
        "SELECT id FROM main.times WHERE recorded_at < departed_at",
    ),
    (
        "a departure is not in the legacy database with the time it was typed in",
        "SELECT id FROM main.times WHERE departed_at IS NOT NULL AND recorded_at IS NULL",
    ),
    (
        "a departure was typed in after its hour closed, but too few others happened in between to be sure \
         that its partition knew",
        "SELECT id FROM main.times AS late WHERE departure_dropped AND (
             SELECT count(*) FROM main.times AS other
             WHERE other.departed_at > late.hour_start + 13 * 3600 AND other.departed_at < late.recorded_at
               AND other.recorded_at = other.departed_at) < ?1",
    ),
    (
        "a leg was typed in one to two days after its departure, when its rotation may be closed or not",
        "SELECT id FROM main.times
         WHERE status = 'landed' AND leg_recorded_at >= departed_at + 24 * 3600 AND (NOT leg_dropped OR (
             SELECT count(*) FROM main.times AS other
             WHERE other.departed_at > times.departed_at + 36 * 3600 AND other.departed_at < times.recorded_at
               AND other.recorded_at = other.departed_at) < ?1)",
    ),
    (
        "a leg that is dropped has another of its aircraft within 24 hours, whose rotation could have let it in",
        "WITH neighbours AS (
             SELECT id, leg_dropped, departed_at,
                 lag(departed_at) OVER aircraft AS before, lead(departed_at) OVER aircraft AS after
             FROM main.flights JOIN main.times USING (id)
             WHERE tailnum IS NOT NULL AND departed_at IS NOT NULL
             WINDOW aircraft AS (PARTITION BY tailnum ORDER BY departed_at))
         SELECT id FROM neighbours
         WHERE leg_dropped AND (departed_at - before <= 24 * 3600 OR after - departed_at <= 24 * 3600)",
    ),
];

/// Counts what must be dropped, after making sure that it is certain.
pub fn judge(oracle: &Connection) -> Result<Dropped> {
    for (meaning, exceptions) in RULES {
        let mut query = oracle.prepare(exceptions)?;
        if query.parameter_count() == 1 {
            query.raw_bind_parameter(1, WITNESSES)?;
        }
        let flights = query.raw_query().mapped(|row| row.get(0)).collect::<rusqlite::Result<Vec<i64>>>()?;
        ensure!(
            flights.is_empty(),
            "the answer is not certain: {meaning}; flights {:?} ({} in all). Plan the legacy year differently",
            &flights[..flights.len().min(5)],
            flights.len(),
        );
    }
    let count = |condition: &str| {
        oracle.query_row(
            &format!("SELECT count(*) FROM main.flights JOIN main.times USING (id) WHERE {condition}"),
            [],
            |row| row.get::<_, u64>(0),
        )
    };
    Ok(Dropped {
        departures: count("departure_dropped")?,
        legs: count("tailnum IS NOT NULL AND status = 'landed' AND leg_dropped")?,
    })
}
