//! A row becomes a record: Avro straight from SQLite's values, framed for the registry, and the record's key.
//!
//! The value's bytes: 0, the schema id (4, big-endian), then the fields in order; `long` as a zigzag varint,
//! `double` as 8 bytes little-endian, `string` and `bytes` with their length before them, and a nullable field with
//! its branch (0 null, 1 the value) before it.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::schema::{Field, Kind, RowSchema};
use super::table::{Table, TableStream};
use crate::DatabaseError;

/// Which columns a reader selects, and what they become.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub schema: RowSchema,
    /// The fields' columns in order, then the key's that are not among them.
    pub selected: Vec<String>,
    /// Places in `selected`.
    pub key: Vec<usize>,
    pub event_time: Option<String>,
}

impl Layout {
    pub fn new(table: &Table, stream: &TableStream) -> Result<Self, DatabaseError> {
        let schema = RowSchema::derive(table, stream)?;
        let mut selected: Vec<String> = schema.fields.iter().map(|field| field.column.clone()).collect();
        let key_columns = match stream.key.as_slice() {
            [] => table.primary_key(),
            names => names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?,
        };
        if key_columns.is_empty() {
            return Err(DatabaseError::NoKey { table: table.name.clone() });
        }
        let place = |column: &String| selected.iter().position(|name| name == column);
        let missing: Vec<String> = key_columns
            .iter()
            .map(|column| column.name.clone())
            .filter(|name| place(name).is_none())
            .collect();
        selected.extend(missing);
        let key =
            key_columns.iter().filter_map(|c| selected.iter().position(|name| *name == c.name)).collect();
        let event_time = stream.event_time.as_deref().map(|name| table.column(name)).transpose()?;
        Ok(Self { schema, selected, key, event_time: event_time.map(|column| column.name.clone()) })
    }

    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|place| self.selected[*place].as_str())
    }
}

/// A value that does not fit its column's declared type; SQLite lets any through.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?} holds {found}, {expected} is needed")]
pub(crate) struct Misfit {
    pub column: String,
    pub found: &'static str,
    pub expected: String,
}

impl Misfit {
    fn new(column: &str, found: ValueRef<'_>, expected: impl ToString) -> Self {
        let found = match found {
            ValueRef::Null => "NULL",
            ValueRef::Integer(_) => "an integer",
            ValueRef::Real(_) => "a real number",
            ValueRef::Text(_) => "text",
            ValueRef::Blob(_) => "bytes",
        };
        Self { column: column.to_owned(), found, expected: expected.to_string() }
    }
}

/// Encodes rows of one layout under one schema id, gathering a batch's bytes in one allocation.
pub(crate) struct RowEncoder {
    layout: Layout,
    schema_id: u32,
    buffer: BytesMut,
    key: String,
}

/// Grown by this much when full: a few thousand rows.
const CHUNK: usize = 512 * 1024;

impl RowEncoder {
    pub fn new(layout: Layout, schema_id: u32) -> Self {
        Self { layout, schema_id, buffer: BytesMut::new(), key: String::new() }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The record's key from a row whose selected columns begin at `first`.
    pub fn key(&mut self, row: &Row<'_>, first: usize) -> Result<Bytes, Misfit> {
        self.key.clear();
        let several = self.layout.key.len() > 1;
        for (n, place) in self.layout.key.iter().enumerate() {
            if n > 0 {
                self.key.push('|');
            }
            let column = &self.layout.selected[*place];
            let value = row.get_ref(first + place).unwrap_or(ValueRef::Null);
            // Writing to a String does not fail.
            let _ = match value {
                ValueRef::Integer(number) => write!(self.key, "{number}"),
                ValueRef::Real(number) => write!(self.key, "{number}"),
                ValueRef::Text(text) => match std::str::from_utf8(text) {
                    Ok(text) if several => put_part(&mut self.key, text),
                    Ok(text) => self.key.write_str(text),
                    Err(_) => return Err(Misfit::new(column, value, "UTF-8 text")),
                },
                ValueRef::Null | ValueRef::Blob(_) => {
                    return Err(Misfit::new(column, value, "a number or text for the key"));
                }
            };
        }
        self.reserve();
        self.buffer.put_slice(self.key.as_bytes());
        Ok(self.buffer.split().freeze())
    }

    /// The framed value of the same row.
    pub fn value(&mut self, row: &Row<'_>, first: usize) -> Result<Bytes, Misfit> {
        self.reserve();
        self.buffer.put_u8(0);
        self.buffer.put_u32(self.schema_id);
        for (place, field) in self.layout.schema.fields.iter().enumerate() {
            let value = row.get_ref(first + place).unwrap_or(ValueRef::Null);
            if let Err(misfit) = put_field(&mut self.buffer, field, value) {
                self.buffer.clear();
                return Err(misfit);
            }
        }
        Ok(self.buffer.split().freeze())
    }

    fn reserve(&mut self) {
        if self.buffer.capacity() < 4096 {
            self.buffer.reserve(CHUNK);
        }
    }
}

/// One of several parts of a key: what parts them is escaped within them, so that no two rows have the same key.
fn put_part(key: &mut String, part: &str) -> std::fmt::Result {
    // Backslashes that come right before.
    let mut slashes = 0;
    for character in part.chars() {
        if character == '|' {
            key.extend(std::iter::repeat_n('\\', slashes + 1));
        }
        slashes = if character == '\\' { slashes + 1 } else { 0 };
        key.push(character);
    }
    key.extend(std::iter::repeat_n('\\', slashes));
    Ok(())
}

fn put_field(out: &mut BytesMut, field: &Field, value: ValueRef<'_>) -> Result<(), Misfit> {
    if field.nullable {
        let null = matches!(value, ValueRef::Null);
        put_long(out, i64::from(!null));
        if null {
            return Ok(());
        }
    }
    match (field.kind, value) {
        (Kind::Long | Kind::TimestampMillis, ValueRef::Integer(number)) => put_long(out, number),
        (Kind::Double, ValueRef::Real(number)) => out.put_f64_le(number),
        (Kind::Double, ValueRef::Integer(number)) => out.put_f64_le(number as f64),
        (Kind::Boolean, ValueRef::Integer(number @ 0..=1)) => out.put_u8(number as u8),
        (Kind::String, ValueRef::Text(text)) if std::str::from_utf8(text).is_ok() => put_bytes(out, text),
        (Kind::Bytes, ValueRef::Blob(bytes)) => put_bytes(out, bytes),
        _ => return Err(Misfit::new(&field.column, value, field.kind)),
    }
    Ok(())
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.put_slice(bytes);
}

fn put_long(out: &mut BytesMut, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}
