//! Avro as people read and write it: JSON.
//!
//! Bytes and fixed are strings of the characters U+0000 to U+00FF, as the Avro specification says. A
//! union's value stands bare; Avro's tagged form (`{"long": 1}`) is understood, too. Timestamps are
//! numbers. What JSON has no number for is `"NaN"`, `"Infinity"` or `"-Infinity"`.

use serde_json::{Map, Value};

use crate::binary::Cursor;
use crate::json_writer::Writer;
use crate::node::{Kind, NodeId, Types};
use crate::{AvroSchema, SchemaError};

/// Parts that a value may have for each of its bytes, and besides.
const PARTS_A_BYTE: usize = 6;
const FREE_PARTS: usize = 65_536;
/// A field's name is written with each of its values: so much of it counts as a part.
const PART_OF_NAME: usize = 32;

/// JSON to Avro's binary form and back.
pub struct AvroCodec;

impl AvroCodec {
    /// Reads a body written with exactly this schema.
    pub fn to_json(schema: &AvroSchema, body: impl AsRef<[u8]>) -> Result<Value, SchemaError> {
        let body = body.as_ref();
        let paid = body.len().saturating_mul(PARTS_A_BYTE);
        let mut cursor = Cursor::within(body, paid.saturating_add(FREE_PARTS));
        let value = read(schema.types(), schema.types().root, &mut cursor)?;
        cursor.finish()?;
        Ok(value)
    }

    /// Fields that are left out take their defaults; unknown fields are errors.
    pub fn from_json(schema: &AvroSchema, value: &Value) -> Result<Vec<u8>, SchemaError> {
        Writer::encode(schema.types(), schema.types().root, value)
    }
}

fn read(types: &Types, id: NodeId, cursor: &mut Cursor<'_>) -> Result<Value, SchemaError> {
    cursor.spend(1)?;
    Ok(match types.kind(id) {
        Kind::Null => Value::Null,
        Kind::Boolean => Value::Bool(cursor.boolean()?),
        Kind::Int => Value::from(cursor.int()?),
        Kind::Long => Value::from(cursor.long()?),
        // By its shortest decimal form: 0.1 as a float is 0.1 to people, not 0.10000000149011612.
        Kind::Float => {
            let value = cursor.float()?;
            number(value.to_string().parse().unwrap_or(f64::from(value)))
        }
        Kind::Double => number(cursor.double()?),
        Kind::Bytes => latin1(cursor.bytes()?),
        Kind::String => Value::from(cursor.string()?),
        Kind::Fixed(fixed) => latin1(cursor.take(fixed.size)?),
        Kind::Enum(symbols) => {
            let index = cursor.index("symbol", symbols.symbols.len())?;
            Value::from(symbols.symbols[index].as_str())
        }
        Kind::Union(branches) => {
            let index = cursor.index("branch", branches.len())?;
            return read(types, branches[index], cursor);
        }
        Kind::Array(_) | Kind::Map(_) | Kind::Record(_) => {
            cursor.enter()?;
            let value = read_nested(types, id, cursor)?;
            cursor.leave();
            value
        }
    })
}

fn read_nested(types: &Types, id: NodeId, cursor: &mut Cursor<'_>) -> Result<Value, SchemaError> {
    match types.kind(id) {
        Kind::Array(inner) => {
            let mut items = Vec::new();
            loop {
                let block = cursor.block()?.items;
                if block == 0 {
                    return Ok(Value::Array(items));
                }
                for _ in 0..block {
                    items.push(read(types, *inner, cursor).map_err(|error| error.at(items.len()))?);
                }
            }
        }
        Kind::Map(inner) => {
            let mut entries = Map::new();
            loop {
                let block = cursor.block()?.items;
                if block == 0 {
                    return Ok(Value::Object(entries));
                }
                for _ in 0..block {
                    let key = cursor.string()?;
                    let value = read(types, *inner, cursor).map_err(|error| error.at(key))?;
                    entries.insert(key.to_owned(), value);
                }
            }
        }
        Kind::Record(record) => {
            let mut fields = Map::new();
            for field in &record.fields {
                cursor.spend(1 + field.name.len() / PART_OF_NAME)?;
                let value = read(types, field.node, cursor).map_err(|error| error.at(&field.name))?;
                fields.insert(field.name.clone(), value);
            }
            Ok(Value::Object(fields))
        }
        _ => read(types, id, cursor),
    }
}

fn number(value: f64) -> Value {
    if let Some(number) = serde_json::Number::from_f64(value) {
        return Value::Number(number);
    }
    Value::from(match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    })
}

fn latin1(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().map(|byte| char::from(*byte)).collect())
}
