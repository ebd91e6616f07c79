//! A sink's table: made from the fields of the first schema, widened by later ones, written by prepared statements.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::super::table::Table;
use super::super::{failed, quote};
use super::record::RecordPlan;
use crate::DatabaseError;

pub(super) struct SinkTable {
    name: String,
    /// Without `_key`; empty until the table is made.
    columns: Vec<String>,
    made: bool,
}

impl SinkTable {
    pub fn open(connection: &Connection, path: &Path, name: &str) -> Result<Self, DatabaseError> {
        let found = match Table::describe(connection, path, name) {
            Ok(found) => found,
            Err(DatabaseError::NoTable { .. }) => {
                return Ok(Self { name: name.to_owned(), columns: Vec::new(), made: false });
            }
            Err(error) => return Err(error),
        };
        if !found.columns.iter().any(|column| column.name == "_key" && column.primary_key == 1) {
            return Err(DatabaseError::ForeignTable { path: path.to_owned(), table: name.to_owned() });
        }
        let columns = found.columns.into_iter().map(|column| column.name).filter(|column| column != "_key");
        Ok(Self { name: found.name, columns: columns.collect(), made: true })
    }

    /// Makes sure that each field has its column.
    pub fn fit(
        &mut self,
        transaction: &Transaction<'_>,
        path: &Path,
        plan: &RecordPlan,
    ) -> Result<(), DatabaseError> {
        let run = |sql: String| transaction.execute_batch(&sql).map_err(|e| failed(path, "make a table", e));
        if !self.made {
            let columns =
                plan.fields.iter().map(|field| format!(", {} {}", quote(&field.name), field.column_type()));
            run(format!(
                "CREATE TABLE {} (_key TEXT PRIMARY KEY NOT NULL{})",
                quote(&self.name),
                columns.collect::<String>()
            ))?;
            self.columns = plan.fields.iter().map(|field| field.name.clone()).collect();
            self.made = true;
        }
        for field in &plan.fields {
            if self.columns.iter().any(|column| column.eq_ignore_ascii_case(&field.name)) {
                continue;
            }
            let (column, column_type) = (quote(&field.name), field.column_type());
            run(format!("ALTER TABLE {} ADD COLUMN {column} {column_type}", quote(&self.name)))?;
            tracing::info!(table = self.name, column = field.name, "column added");
            self.columns.push(field.name.clone());
        }
        Ok(())
    }

    /// Parameter 1 is the key, the plan's fields follow. Columns that the writer did not know become NULL.
    pub fn upsert(&self, plan: &RecordPlan) -> String {
        let place =
            |column: &String| plan.fields.iter().position(|field| field.name.eq_ignore_ascii_case(column));
        let values =
            self.columns.iter().map(|c| place(c).map_or(", NULL".to_owned(), |n| format!(", ?{}", n + 2)));
        let names = self.columns.iter().map(|column| quote(column)).collect::<Vec<_>>();
        let sets = names.iter().map(|column| format!("{column} = excluded.{column}")).collect::<Vec<_>>();
        format!(
            "INSERT INTO {} (_key{}) VALUES (?1{}) ON CONFLICT (_key) DO {}",
            quote(&self.name),
            names.iter().map(|column| format!(", {column}")).collect::<String>(),
            values.collect::<String>(),
            if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) },
        )
    }

    /// `None` when there is no table to delete from.
    pub fn delete(&self) -> Option<String> {
        self.made.then(|| format!("DELETE FROM {} WHERE _key = ?1", quote(&self.name)))
    }
}
