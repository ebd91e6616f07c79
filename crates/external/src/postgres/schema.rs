//! The tables: made where they are missing, and checked where they are there.

use headwater_runtime::external::{Application, ExternalError, TableSize};
use headwater_streams::ExternalTable;

use super::link::Link;
use super::rows::sql_type;

/// One instance at a time, as `CREATE TABLE IF NOT EXISTS` may fail beside itself. The number means nothing.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4841273115)";

const OWN: [(&str, &str); 3] = [
    ("headwater_stores", "table_name text PRIMARY KEY, application_id text NOT NULL, store text NOT NULL"),
    (
        "headwater_tasks",
        "application_id text, task text, epoch bigint NOT NULL, owner text NOT NULL, \
         taken_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (application_id, task)",
    ),
    (
        "headwater_positions",
        "application_id text, topic text, partition int, next_offset bigint NOT NULL, leader_epoch int, \
         metadata text NOT NULL, PRIMARY KEY (application_id, topic, partition)",
    ),
];

pub(super) fn prepare(link: &mut Link, application: &Application) -> Result<(), ExternalError> {
    link.run("make its tables", "BEGIN")?;
    link.run("make its tables", LOCK)?;
    for (name, columns) in OWN {
        if columns_of(link, name)?.is_empty() {
            link.run(&format!("create table {name}"), &format!("CREATE TABLE {name} ({columns})"))?;
        }
    }
    for (store, table) in &application.stores {
        claim(link, &application.id, store, table)?;
        let found = columns_of(link, &table.name)?;
        if found.is_empty() {
            create(link, store, table)?;
        } else {
            check(link, store, table, &found)?;
        }
    }
    link.commit()
}

/// Name and type of each column; none if there is no such table.
fn columns_of(link: &mut Link, table: &str) -> Result<Vec<(String, String)>, ExternalError> {
    let sql = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let rows = link.ask(&format!("look at table {table}"), sql, &[&table])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A table is one store's.
fn claim(link: &mut Link, id: &str, store: &str, table: &ExternalTable) -> Result<(), ExternalError> {
    let what = format!("keep store {store:?} in table {}", table.name);
    let sql = "INSERT INTO headwater_stores (table_name, application_id, store) VALUES ($1, $2, $3) \
               ON CONFLICT (table_name) DO NOTHING";
    link.ask(&what, sql, &[&table.name, &id, &store])?;
    let sql = "SELECT application_id, store FROM headwater_stores WHERE table_name = $1";
    let rows = link.ask(&what, sql, &[&table.name])?;
    let Some((other, of)) = rows.first().map(|row| (row.get::<_, String>(0), row.get::<_, String>(1))) else {
        return Ok(());
    };
    if other == id && of == store {
        return Ok(());
    }
    Err(link.failures.refused(
        &what,
        &format!("it is store {of:?} of application {other:?}"),
        &format!(
            "name another table; or, if that one is gone for good, drop its table and DELETE FROM headwater_stores WHERE table_name = '{}'",
            table.name
        ),
    ))
}

fn create(link: &mut Link, store: &str, table: &ExternalTable) -> Result<(), ExternalError> {
    let ExternalTable { name, key, value } = table;
    let (key, value) = (sql_type(*key), sql_type(*value));
    link.run(
        &format!("create table {name} for store {store:?}"),
        &format!(
            "CREATE TABLE \"{name}\" (key {key} NOT NULL, partition int NOT NULL, value {value} NOT NULL, \
             timestamp_ms bigint NOT NULL, PRIMARY KEY (key, partition))"
        ),
    )
}

fn check(
    link: &mut Link,
    store: &str,
    table: &ExternalTable,
    found: &[(String, String)],
) -> Result<(), ExternalError> {
    let ExternalTable { name, key, value } = table;
    let what = format!("keep store {store:?} in table {name}");
    let advice = format!(
        "name another table, or drop this one (DROP TABLE {name}) and process the input again: headwater topology reprocess with --external"
    );
    let (key, value) = (sql_type(*key), sql_type(*value));
    for (column, wanted) in
        [("key", key), ("partition", "integer"), ("value", value), ("timestamp_ms", "bigint")]
    {
        let is = found.iter().find(|(name, _)| name == column).map(|(_, is)| is.as_str());
        let message = match is {
            Some(is) if is == wanted => continue,
            Some(is) => format!("its column {column} is of type {is}, and the store's are {wanted}"),
            None => format!("it has no column {column} of type {wanted}"),
        };
        return Err(link.failures.refused(&what, &message, &advice));
    }
    let sql = "SELECT array_agg(attname::text ORDER BY attname) FROM pg_index JOIN pg_attribute \
               ON attrelid = indrelid AND attnum = ANY(indkey) WHERE indrelid = to_regclass($1) AND indisprimary";
    let rows = link.ask(&what, sql, &[name])?;
    let primary: Option<Vec<String>> = rows.first().and_then(|row| row.get(0));
    match primary.unwrap_or_default().iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["key", "partition"] => Ok(()),
        ref other => {
            let message =
                format!("its primary key is ({}), and has to be (key, partition)", other.join(", "));
            Err(link.failures.refused(&what, &message, &advice))
        }
    }
}

pub(super) fn sizes(link: &mut Link, application_id: &str) -> Result<Vec<TableSize>, ExternalError> {
    // What is used is as the last ANALYZE has it: rows, with 28 bytes of the server's own for each.
    let sql = "SELECT store, table_name, coalesce(pg_total_relation_size(c.oid), 0), \
               CASE WHEN c.reltuples >= 0 THEN (c.reltuples * (SELECT 28 + coalesce(sum(avg_width), 0) FROM pg_stats \
               WHERE schemaname = c.relnamespace::regnamespace::text AND tablename = c.relname))::bigint END \
               FROM headwater_stores LEFT JOIN pg_class c ON c.oid = to_regclass(table_name) \
               WHERE application_id = $1 ORDER BY store";
    let rows = link.ask("see how large the stores are", sql, &[&application_id])?;
    let size = |row: &tokio_postgres::Row| TableSize {
        store: row.get(0),
        table: row.get(1),
        reserved_bytes: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
        used_bytes: row.get::<_, Option<i64>>(3).and_then(|bytes| u64::try_from(bytes).ok()),
    };
    Ok(rows.iter().map(size).collect())
}
