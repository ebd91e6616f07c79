//! The Avro schema of a table's rows, derived from the table's definition.
//!
//! By SQLite's own rules of type affinity: INTEGER is `long`, REAL and NUMERIC are `double`, TEXT is `string`,
//! BLOB is `bytes`; BOOLEAN is `boolean`. A column that may be NULL is `["null", T]` with default null, so that adding one
//! is a compatible change. Types that say one thing and hold another (DATE, DATETIME) are refused.

use std::fmt;

use serde_json::{Value, json};

use super::table::{Column, Table, TableStream};
use crate::DatabaseError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Long,
    TimestampMillis,
    Double,
    Boolean,
    String,
    Bytes,
}

impl Kind {
    fn of(declared: &str) -> Option<Self> {
        let declared = declared.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        match () {
            () if has(&["BOOL"]) => Some(Self::Boolean),
            () if has(&["INT"]) => Some(Self::Long),
            () if has(&["CHAR", "CLOB", "TEXT"]) => Some(Self::String),
            () if has(&["BLOB"]) => Some(Self::Bytes),
            () if has(&["REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"]) => Some(Self::Double),
            () => None,
        }
    }

    fn avro(self) -> Value {
        match self {
            Self::TimestampMillis => json!({"type": "long", "logicalType": "timestamp-millis"}),
            other => json!(other.to_string()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Long => "long",
            Self::TimestampMillis => "timestamp-millis",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Bytes => "bytes",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub column: String,
    pub kind: Kind,
    pub nullable: bool,
}

/// A record of the chosen columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSchema {
    pub name: String,
    pub namespace: String,
    pub fields: Vec<Field>,
}

impl RowSchema {
    pub fn derive(table: &Table, stream: &TableStream) -> Result<Self, DatabaseError> {
        for name in &stream.timestamps {
            table.column(name)?;
        }
        let chosen: Vec<&Column> = match stream.columns.as_slice() {
            [] => table.columns.iter().collect(),
            names => names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?,
        };
        let instant =
            |column: &Column| stream.timestamps.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
        let fields = chosen.into_iter().map(|column| field(&table.name, column, instant(column)));
        let fields = fields.collect::<Result<_, _>>()?;
        avro_name(&stream.record_name)?;
        for part in stream.namespace.split('.') {
            avro_name(part)?;
        }
        Ok(Self { name: stream.record_name.clone(), namespace: stream.namespace.clone(), fields })
    }

    /// The schema as the registry gets it.
    pub fn avro(&self) -> String {
        let fields = self.fields.iter().map(|field| match field.nullable {
            true => json!({"name": field.column, "type": ["null", field.kind.avro()], "default": null}),
            false => json!({"name": field.column, "type": field.kind.avro()}),
        });
        let fields: Vec<Value> = fields.collect();
        json!({"type": "record", "name": self.name, "namespace": self.namespace, "fields": fields})
            .to_string()
    }
}

fn field(table: &str, column: &Column, instant: bool) -> Result<Field, DatabaseError> {
    avro_name(&column.name)?;
    let (table, name, declared) = (table.to_owned(), column.name.clone(), column.declared.clone());
    let kind = match (Kind::of(&declared), instant) {
        (Some(Kind::Long), true) => Kind::TimestampMillis,
        (_, true) => return Err(DatabaseError::NotAnInstant { table, column: name, declared }),
        (Some(kind), false) => kind,
        (None, false) => return Err(DatabaseError::UnknownType { table, column: name, declared }),
    };
    Ok(Field { column: name, kind, nullable: column.nullable })
}

fn avro_name(name: &str) -> Result<(), DatabaseError> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(DatabaseError::BadName { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::*;

    fn derive(
        definition: &str,
        stream: impl FnOnce(TableStream) -> TableStream,
    ) -> Result<RowSchema, DatabaseError> {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(definition).unwrap();
        let table = Table::describe(&connection, Path::new("memory"), "t")?;
        RowSchema::derive(&table, &stream(TableStream::new("test", "memory", "t", "topic")))
    }

    #[test]
    fn declared_types_become_avro_types() {
        for (declared, avro) in [
            ("INTEGER NOT NULL", r#""long""#),
            ("BIGINT NOT NULL", r#""long""#),
            ("REAL NOT NULL", r#""double""#),
            ("DOUBLE PRECISION NOT NULL", r#""double""#),
            ("DECIMAL(10,2) NOT NULL", r#""double""#),
            ("TEXT NOT NULL", r#""string""#),
            ("VARCHAR(3) NOT NULL", r#""string""#),
            ("BOOLEAN NOT NULL", r#""boolean""#),
            ("BLOB NOT NULL", r#""bytes""#),
            ("INTEGER", r#"["null","long"]"#),
            ("TEXT", r#"["null","string"]"#),
            ("TEXT PRIMARY KEY", r#""string""#),
            ("INTEGER PRIMARY KEY", r#""long""#),
        ] {
            let schema = derive(&format!("CREATE TABLE t (c {declared})"), |stream| stream).unwrap();
            let avro_schema: Value = serde_json::from_str(&schema.avro()).unwrap();
            assert_eq!(avro_schema["fields"][0]["type"].to_string(), avro, "{declared}");
        }
    }

    #[test]
    fn chosen_columns_keep_the_order_in_which_they_are_chosen() {
        let schema =
            derive("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, at INTEGER NOT NULL)", |stream| {
                stream.record("Row", "test").columns(&["AT", "a"]).timestamps(&["at"])
            });
        let expected = r#"{"fields":[{"name":"at","type":{"logicalType":"timestamp-millis","type":"long"}},{"name":"a","type":"long"}],"name":"Row","namespace":"test","type":"record"}"#;
        let derived: Value = serde_json::from_str(&schema.unwrap().avro()).unwrap();
        assert_eq!(derived, serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn a_nullable_column_defaults_to_null() {
        let schema = derive("CREATE TABLE t (a TEXT)", |stream| stream).unwrap();
        assert!(schema.avro().contains(r#""default":null"#), "{}", schema.avro());
    }

    #[test]
    fn what_cannot_be_told_is_refused_with_the_next_step() {
        for (definition, message) in [
            ("CREATE TABLE t (c DATETIME)", "casts it to INTEGER"),
            ("CREATE TABLE t (\"a b\" TEXT)", "\"a b\" is not an Avro name"),
            ("CREATE TABLE tt (c TEXT)", "is \"tt\" meant?"),
        ] {
            let error = derive(definition, |stream| stream).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let misspelt =
            derive("CREATE TABLE t (carrier TEXT, name TEXT)", |stream| stream.columns(&["carier"]));
        assert!(misspelt.unwrap_err().to_string().contains("is \"carrier\" meant?"));
        let text_instant = derive("CREATE TABLE t (at TEXT)", |stream| stream.timestamps(&["at"]));
        assert!(text_instant.unwrap_err().to_string().contains("has to be INTEGER"));
    }
}
