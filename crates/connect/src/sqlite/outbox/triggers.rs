//! The SQL of a table's three triggers.

use super::super::row::Layout;
use super::super::table::Table;
use super::super::{quote, quote_all};
use super::outbox_table;
use crate::DatabaseError;

pub(super) fn name(table: &str, event: &str) -> String {
    format!("_headwater_outbox_{table}_{event}")
}

/// Drops and creates the triggers; equal definitions give equal text.
pub(super) fn generate(table: &Table, layout: &Layout) -> Result<String, DatabaseError> {
    let on = quote(&table.name);
    let watched = layout.selected.iter().chain(&layout.event_time).map(String::as_str);
    let changed = any_differs(watched.clone());
    let key_changed = any_differs(layout.key_columns());
    let upsert = upsert(table, layout)?;
    // A row whose key changes leaves its old key, at the time of the change.
    let leave = delete(table, layout, "NEW", &format!(" WHERE {key_changed}"));
    let delete = delete(table, layout, "OLD", "");
    let [inserted, updated, deleted] =
        ["insert", "update", "delete"].map(|event| quote(&name(&table.name, event)));
    let columns = quote_all(watched);
    Ok(format!(
        "DROP TRIGGER IF EXISTS {inserted};
DROP TRIGGER IF EXISTS {updated};
DROP TRIGGER IF EXISTS {deleted};
CREATE TRIGGER {inserted} AFTER INSERT ON {on} BEGIN
  {upsert};
END;
CREATE TRIGGER {updated} AFTER UPDATE OF {columns} ON {on} WHEN {changed} BEGIN
  {leave};
  {upsert};
END;
CREATE TRIGGER {deleted} AFTER DELETE ON {on} BEGIN
  {delete};
END;"
    ))
}

/// By their bytes, whatever the columns' collation: `bob` and `Bob` are the same to NOCASE, and not to readers.
fn any_differs<'a>(columns: impl Iterator<Item = &'a str>) -> String {
    let differs = columns.map(quote).map(|column| format!("OLD.{column} IS NOT NEW.{column} COLLATE BINARY"));
    format!("({})", differs.collect::<Vec<_>>().join(" OR "))
}

/// Copies the row as it is in the table by now.
fn upsert(table: &Table, layout: &Layout) -> Result<String, DatabaseError> {
    let columns = quote_all(layout.selected.iter().map(String::as_str));
    let time = layout.event_time.as_deref().map_or("NULL".to_owned(), quote);
    let same_row = match table.has_rowid {
        true => {
            let alias = rowid_alias(table)?;
            format!("{alias} = NEW.{alias}")
        }
        false => {
            let key = table.primary_key().into_iter().map(|column| quote(&column.name));
            key.map(|column| format!("{column} = NEW.{column}")).collect::<Vec<_>>().join(" AND ")
        }
    };
    Ok(format!(
        "INSERT INTO {} (_deleted, _time, {columns}) SELECT 0, {time}, {columns} FROM {} WHERE {same_row}",
        outbox_table(&table.name),
        quote(&table.name),
    ))
}

/// The name of the rowid that no column hides.
fn rowid_alias(table: &Table) -> Result<&'static str, DatabaseError> {
    let free = |alias: &&str| !table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(alias));
    let alias = ["rowid", "_rowid_", "oid"].into_iter().find(free);
    alias.ok_or_else(|| DatabaseError::NoTriggers {
        table: table.name.clone(),
        kind: "table that hides its rowid".into(),
    })
}

/// Writes the old key as deleted.
fn delete(table: &Table, layout: &Layout, time_of: &str, condition: &str) -> String {
    let key: Vec<&str> = layout.key_columns().collect();
    let old = key.iter().map(|column| format!("OLD.{}", quote(column))).collect::<Vec<_>>().join(", ");
    let time = layout.event_time.as_deref().map_or("NULL".to_owned(), |c| format!("{time_of}.{}", quote(c)));
    format!(
        "INSERT INTO {} (_deleted, _time, {}) SELECT 1, {time}, {old}{condition}",
        outbox_table(&table.name),
        quote_all(key),
    )
}
