//! What the queries must answer: SQL, run by SQLite over tables that hold the same events.

use anyhow::{Context, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::events::{Auction, Bid, Happened, Person};
use crate::queries::{Query, Row};

const TABLES: &str = "
    CREATE TABLE person (id INTEGER, name TEXT, city TEXT, state TEXT, at INTEGER);
    CREATE TABLE auction (id INTEGER, item TEXT, seller INTEGER, category INTEGER, at INTEGER, expires INTEGER);
    CREATE TABLE bid (auction INTEGER, bidder INTEGER, price INTEGER, channel TEXT, at INTEGER, extra TEXT);
    CREATE INDEX person_id ON person (id);
    CREATE INDEX auction_id ON auction (id);
    CREATE INDEX bid_auction ON bid (auction);
";

/// A database with everything that happened.
pub struct Reference(Connection);

impl Reference {
    pub fn of(happened: &[Happened]) -> Result<Self> {
        let mut connection = Connection::open_in_memory().context("opening a database in memory")?;
        connection.execute_batch(TABLES).context("creating the tables")?;
        let transaction = connection.transaction()?;
        for happened in happened {
            insert(&transaction, happened).context("inserting an event")?;
        }
        transaction.commit()?;
        Ok(Self(connection))
    }

    /// The query's rows, sorted.
    pub fn answer(&self, query: &Query) -> Result<Vec<String>> {
        let mut statement =
            self.0.prepare(query.sql).with_context(|| format!("the SQL of {}", query.name))?;
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns).map(|column| row.get_ref(column).map(cell)).collect::<rusqlite::Result<Row>>()
        })?;
        let rows: Vec<Row> = rows.collect::<rusqlite::Result<_>>()?;
        Ok(sorted(rows.iter()))
    }
}

fn insert(connection: &Connection, happened: &Happened) -> rusqlite::Result<usize> {
    match happened {
        Happened::Person(Person { id, name, city, state, at, .. }) => connection
            .prepare_cached("INSERT INTO person VALUES (?, ?, ?, ?, ?)")?
            .execute(params![id, name, city, state, at]),
        Happened::Auction(Auction { id, item, seller, category, at, expires, .. }) => connection
            .prepare_cached("INSERT INTO auction VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![id, item, seller, category, at, expires]),
        Happened::Bid(Bid { auction, bidder, price, channel, at, extra }) => connection
            .prepare_cached("INSERT INTO bid VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![auction, bidder, price, channel, at, extra]),
    }
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned().into(),
    }
}

/// Rows as lines, in an order that is the same for the same rows.
pub fn sorted<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut lines: Vec<String> = rows.map(|row| Value::from(row.clone()).to_string()).collect();
    lines.sort();
    lines
}
