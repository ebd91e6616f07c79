//! The data set beside the legacy database: are they the same when the year is over?

use anyhow::{Context, Result};
use rusqlite::{Connection, params_from_iter};

use super::compare::{self, TableVerdict};
use crate::data::{AIRLINES, AIRPORTS, FLIGHTS, PLANES, Table, WEATHER};

/// What the legacy database says about a flight beyond the data set's columns, and what follows from those.
const DERIVED: [(&str, &str); 4] = [
    ("scheduled_at", "(unixepoch(time_hour) + minute * 60) * 1000"),
    ("departed_at", "(unixepoch(time_hour) + (minute + dep_delay) * 60) * 1000"),
    ("landed_at", "(unixepoch(time_hour) + (minute + dep_delay + air_time) * 60) * 1000"),
    (
        "status",
        "CASE WHEN dep_time IS NULL THEN 'cancelled' WHEN air_time IS NULL THEN 'diverted' ELSE 'landed' END",
    ),
];

/// Loads the rows that were scheduled (or observed) before `until`.
pub fn load(oracle: &Connection, until: i64) -> Result<()> {
    oracle.execute_batch("BEGIN")?;
    oracle.execute_batch(include_str!("sql/original.sql"))?;
    for table in [AIRLINES, AIRPORTS, PLANES, WEATHER, FLIGHTS] {
        load_table(oracle, table).with_context(|| format!("loading the original {}", table.name))?;
    }
    let until = until / 1000;
    oracle.execute("DELETE FROM flights WHERE unixepoch(time_hour) + minute * 60 >= ?", [until])?;
    oracle.execute("DELETE FROM weather WHERE unixepoch(time_hour) >= ?", [until])?;
    Ok(oracle.execute_batch("COMMIT")?)
}

fn load_table(oracle: &Connection, table: Table) -> Result<()> {
    let columns = table.columns()?;
    let places = vec!["?"; columns.len()].join(", ");
    let mut insert = oracle.prepare(&format!(
        "INSERT INTO main.{} ({}) VALUES ({places})",
        table.name,
        columns.join(", ")
    ))?;
    table.for_each_row(|row| {
        insert.execute(params_from_iter(row))?;
        Ok(())
    })
}

/// Every column of the data set, and the times and the status that follow from them.
pub fn compare_with_legacy(oracle: &Connection) -> Result<Vec<TableVerdict>> {
    let tables =
        [(AIRLINES, "carrier"), (AIRPORTS, "faa"), (PLANES, "tailnum"), (WEATHER, "id"), (FLIGHTS, "id")];
    tables.into_iter().map(|(table, key)| compare_table(oracle, table, key)).collect()
}

fn compare_table(oracle: &Connection, table: Table, key: &str) -> Result<TableVerdict> {
    let mut original = table.columns()?;
    original.retain(|column| column != key);
    let mut legacy = original.clone();
    if table.name == FLIGHTS.name {
        original.extend(DERIVED.map(|(name, follows)| format!("{follows} AS {name}")));
        legacy.extend(DERIVED.map(|(name, _)| name.to_owned()));
    }
    let select = |schema, columns: &[String]| {
        format!("SELECT {key}, {} FROM {schema}.{} ORDER BY {key}", columns.join(", "), table.name)
    };
    let name = format!("legacy {}", table.name);
    compare::compare(oracle, &name, &select("main", &original), &select("legacy", &legacy))
}
