//! The oracle: says what the answers must be, and finds every place where they are not.
//!
//! Owns the expected answers, as plain SQL (`sql/`) over the original rows. From the legacy database it takes
//! one thing that the data set does not have, the time at which a departure was typed in; everything else
//! in there must equal the data set, which is checked first. It shares no code with the service that
//! computes the answers, and it refuses to judge when an answer could be one thing or another
//! ([`lateness`]).
//!
//! Its working tables stay in `oracle.sqlite`, so that anybody can ask the next question.

mod compare;
mod lateness;
mod original;

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::Connection;

pub use compare::{Difference, TableVerdict};
pub use lateness::Dropped;

/// The four answers: a table of the sink and the query that says what must be in it.
const ANSWERS: [(&str, &str); 4] = [
    ("enriched_flights", include_str!("sql/enriched_flights.sql")),
    ("departures_by_hour", include_str!("sql/departures_by_hour.sql")),
    ("rotations", include_str!("sql/rotations.sql")),
    ("worst_routes", include_str!("sql/worst_routes.sql")),
];

/// What the oracle found.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The legacy database against the data set.
    pub legacy: Vec<TableVerdict>,
    /// The sink against the expected answers.
    pub answers: Vec<TableVerdict>,
    /// How many events the windows must have dropped.
    pub dropped: Dropped,
}

impl Verdict {
    pub fn tables(&self) -> impl Iterator<Item = &TableVerdict> {
        self.legacy.iter().chain(&self.answers)
    }

    pub fn rows_compared(&self) -> u64 {
        self.tables().map(|table| table.rows_compared).sum()
    }

    pub fn differences(&self) -> u64 {
        self.tables().map(|table| table.differences).sum()
    }
}

/// Compares every row and every documented column of the databases in `dir` (`legacy.sqlite`, `sink.sqlite`) with
/// what they must be when everything scheduled before `until` (UTC, milliseconds) has been lived.
pub fn check(dir: &Path, until: i64) -> Result<Verdict> {
    let oracle = open(dir)?;
    original::load(&oracle, until)?;
    let legacy = original::compare_with_legacy(&oracle)?;
    oracle.execute_batch(include_str!("sql/times.sql")).context("working out when things happened")?;
    let dropped = lateness::judge(&oracle)?;
    let answers =
        ANSWERS.iter().map(|(table, expected)| answer(&oracle, table, expected)).collect::<Result<_>>()?;
    Ok(Verdict { legacy, answers, dropped })
}

/// A fresh `oracle.sqlite` with the two other databases attached. It can be made again, so it is not synced.
fn open(dir: &Path) -> Result<Connection> {
    let path = dir.join("oracle.sqlite");
    if path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("removing the former {}", path.display()))?;
    }
    let oracle = Connection::open(&path).with_context(|| format!("creating {}", path.display()))?;
    oracle.pragma_update(None, "journal_mode", "OFF")?;
    oracle.pragma_update(None, "synchronous", "OFF")?;
    for name in ["legacy", "sink"] {
        let file = dir.join(format!("{name}.sqlite"));
        anyhow::ensure!(file.exists(), "{} is not there; nothing was written to it", file.display());
        oracle
            .execute(&format!("ATTACH ? AS {name}"), [file.to_string_lossy()])
            .with_context(|| format!("opening {}", file.display()))?;
    }
    Ok(oracle)
}

fn answer(oracle: &Connection, table: &str, expected: &str) -> Result<TableVerdict> {
    let columns = compare::columns_of(oracle, expected)?.join(", ");
    let there: bool =
        oracle.query_row("SELECT count(*) > 0 FROM sink.sqlite_schema WHERE name = ?", [table], |row| {
            row.get(0)
        })?;
    let found = match there {
        true => format!("SELECT {columns} FROM sink.{table} ORDER BY _key"),
        // A table that nothing has been written to: every expected row is missing.
        false => format!("SELECT * FROM ({expected}) WHERE 0"),
    };
    compare::compare(oracle, table, expected, &found)
}
