//! Two ordered queries, side by side: every row, every column.

use std::cmp::Ordering;
use std::fmt;

use anyhow::{Context, Result};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

/// How many differences of a table are kept in words; all are counted.
const FIRST: usize = 5;

/// One table, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct TableVerdict {
    pub table: String,
    /// Rows that exist on either side.
    pub rows_compared: u64,
    /// Rows that are not the same on both.
    pub differences: u64,
    /// The first of them.
    pub first: Vec<Difference>,
}

/// One row that is not what it must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    Missing { row: String },
    Extra { row: String },
    Changed { key: String, columns: Vec<ChangedColumn> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChangedColumn {
    pub name: String,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { row } => write!(f, "missing: {row}"),
            Self::Extra { row } => write!(f, "not expected: {row}"),
            Self::Changed { key, columns } => {
                write!(f, "{key}:")?;
                columns.iter().try_for_each(|ChangedColumn { name, expected, found }| {
                    write!(f, " {name} is {found}, expected {expected};")
                })
            }
        }
    }
}

/// The names of a query's columns.
pub fn columns_of(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let statement = connection.prepare(sql)?;
    Ok(statement.column_names().into_iter().map(str::to_owned).collect())
}

/// Merges two queries with the same columns, each ordered by its first column, which is unique on both sides.
///
/// Values are the same when they have the same type and the same bits: 1 is not 1.0 and not "1".
pub fn compare(connection: &Connection, table: &str, expected: &str, found: &str) -> Result<TableVerdict> {
    let names = columns_of(connection, expected)?;
    let mut verdict =
        TableVerdict { table: table.to_owned(), rows_compared: 0, differences: 0, first: Vec::new() };
    let mut expected = connection.prepare(expected).with_context(|| format!("{table}, as expected"))?;
    let mut found = connection.prepare(found).with_context(|| format!("{table}, as found"))?;
    let (mut left, mut right) = (expected.query([])?, found.query([])?);
    left.advance().with_context(|| format!("{table}, as expected"))?;
    right.advance().with_context(|| format!("{table}, as found"))?;
    loop {
        let (difference, step) = match (left.get(), right.get()) {
            (None, None) => return Ok(verdict),
            (Some(row), None) => (Some(Difference::Missing { row: in_words(row, &names)? }), Step::Left),
            (None, Some(row)) => (Some(Difference::Extra { row: in_words(row, &names)? }), Step::Right),
            (Some(one), Some(other)) => match order(one.get_ref(0)?, other.get_ref(0)?) {
                Ordering::Less => (Some(Difference::Missing { row: in_words(one, &names)? }), Step::Left),
                Ordering::Greater => (Some(Difference::Extra { row: in_words(other, &names)? }), Step::Right),
                Ordering::Equal => (changed(one, other, &names)?, Step::Both),
            },
        };
        verdict.add(difference);
        if step != Step::Right {
            left.advance().with_context(|| format!("{table}, as expected"))?;
        }
        if step != Step::Left {
            right.advance().with_context(|| format!("{table}, as found"))?;
        }
    }
}

impl TableVerdict {
    fn add(&mut self, difference: Option<Difference>) {
        self.rows_compared += 1;
        if let Some(difference) = difference {
            self.differences += 1;
            if self.first.len() < FIRST {
                self.first.push(difference);
            }
        }
    }
}

#[derive(PartialEq)]
enum Step {
    Left,
    Right,
    Both,
}

/// The row, and in which columns it is not what it must be.
fn changed(expected: &Row, found: &Row, names: &[String]) -> Result<Option<Difference>> {
    let mut columns = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let (expected, found) = (expected.get_ref(place)?, found.get_ref(place)?);
        if !same(expected, found) {
            columns.push(ChangedColumn { name: name.clone(), expected: word(expected), found: word(found) });
        }
    }
    let key = word(expected.get_ref(0)?);
    Ok((!columns.is_empty()).then_some(Difference::Changed { key, columns }))
}

fn same(one: ValueRef, other: ValueRef) -> bool {
    match (one, other) {
        (ValueRef::Real(one), ValueRef::Real(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

/// SQLite's own order of keys: numbers by value, then texts by bytes.
fn order(one: ValueRef, other: ValueRef) -> Ordering {
    match (one, other) {
        (ValueRef::Integer(one), ValueRef::Integer(other)) => one.cmp(&other),
        (ValueRef::Text(one), ValueRef::Text(other)) => one.cmp(other),
        _ => rank(one).cmp(&rank(other)),
    }
}

fn rank(value: ValueRef) -> u8 {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 1,
        ValueRef::Text(_) => 2,
        ValueRef::Blob(_) => 3,
    }
}

fn in_words(row: &Row, names: &[String]) -> Result<String> {
    let mut words = Vec::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        words.push(format!("{name}={}", word(row.get_ref(place)?)));
    }
    Ok(words.join(" "))
}

fn word(value: ValueRef) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(expected: &str, found: &str) -> TableVerdict {
        let connection = Connection::open_in_memory().unwrap();
        let rows = |values: &str| match values {
            "" => "SELECT 1 AS _key, 2 AS n WHERE 0".to_owned(),
            _ => format!("SELECT column1 AS _key, column2 AS n FROM (VALUES {values}) ORDER BY 1"),
        };
        compare(&connection, "t", &rows(expected), &rows(found)).unwrap()
    }

    fn differences(expected: &str, found: &str) -> Vec<String> {
        compared(expected, found).first.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_tables_have_no_differences() {
        let verdict = compared("('a', 1), ('b', NULL)", "('b', NULL), ('a', 1)");
        assert_eq!((verdict.rows_compared, verdict.differences), (2, 0));
        assert_eq!(compared("", "").rows_compared, 0);
    }

    #[test]
    fn a_changed_value_a_missing_row_and_an_extra_row_are_each_found() {
        assert_eq!(differences("('a', 1)", "('a', 2)"), ["a: n is 2, expected 1;"]);
        assert_eq!(differences("('a', 1), ('b', 2)", "('b', 2)"), ["missing: _key=a n=1"]);
        assert_eq!(differences("('a', 1)", "('a', 1), ('b', 2)"), ["not expected: _key=b n=2"]);
        assert_eq!(differences("", "('b', 2)"), ["not expected: _key=b n=2"]);
        assert_eq!(differences("('b', 2)", ""), ["missing: _key=b n=2"]);
    }

    #[test]
    fn types_and_last_bits_count() {
        assert_eq!(differences("('a', 1)", "('a', 1.0)"), ["a: n is 1.0, expected 1;"]);
        assert_eq!(differences("('a', 1)", "('a', '1')"), ["a: n is 1, expected 1;"]);
        assert_eq!(compared("('a', 0.1 + 0.2)", "('a', 0.3)").differences, 1);
        assert_eq!(compared("('a', NULL)", "('a', 0)").differences, 1);
    }

    #[test]
    fn all_differences_are_counted_and_the_first_are_kept() {
        let many = (0..50).map(|n| format!("({n}, 0)")).collect::<Vec<_>>().join(", ");
        let verdict = compared(&many, "");
        assert_eq!((verdict.rows_compared, verdict.differences, verdict.first.len()), (50, 50, FIRST));
    }
}
