//! JSON to Avro's binary form: what people write, and the defaults that stand in schemas.

use serde_json::{Map, Value};

use crate::SchemaError;
use crate::binary::{MAX_DEPTH, put_bytes, put_long};
use crate::node::{Kind, NodeId, Record, Types};

/// How many values one JSON text may be tried as; unions try their branches one after another.
const MAX_STEPS: usize = 10_000_000;

/// What encoding may cost: so many values that are tried, so many bytes.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub values: usize,
    pub bytes: usize,
}

/// Encodes one value by its schema.
pub struct Writer<'t> {
    types: &'t Types,
    out: Vec<u8>,
    depth: u32,
    left: Allowance,
}

impl<'t> Writer<'t> {
    pub fn encode(types: &'t Types, id: NodeId, value: &Value) -> Result<Vec<u8>, SchemaError> {
        Self::encode_within(types, id, value, &mut Allowance { values: MAX_STEPS, bytes: usize::MAX })
    }

    /// Uses up what it costs.
    pub fn encode_within(
        types: &'t Types,
        id: NodeId,
        value: &Value,
        left: &mut Allowance,
    ) -> Result<Vec<u8>, SchemaError> {
        let mut writer = Self { types, out: Vec::new(), depth: 0, left: *left };
        let written = writer.write(id, value);
        let bytes = left.bytes.saturating_sub(writer.out.len());
        *left = Allowance { values: writer.left.values, bytes };
        written.map(|()| writer.out)
    }

    fn write(&mut self, id: NodeId, value: &Value) -> Result<(), SchemaError> {
        self.depth += 1;
        self.left.values = self.left.values.saturating_sub(1);
        if self.depth > MAX_DEPTH {
            return Err(SchemaError::encode(format_args!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        if self.left.values == 0 || self.out.len() > self.left.bytes {
            return Err(SchemaError::encode(
                "the value stands for too many values, or fits its unions in too many ways; write it in Avro's tagged form",
            ));
        }
        let written = self.write_kind(id, value);
        self.depth -= 1;
        written
    }

    fn write_kind(&mut self, id: NodeId, value: &Value) -> Result<(), SchemaError> {
        let kind = self.types.kind(id);
        match (kind, value) {
            (Kind::Null, Value::Null) => {}
            (Kind::Boolean, Value::Bool(yes)) => self.out.push(u8::from(*yes)),
            (Kind::Int, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                put_long(&mut self.out, n.as_i64().unwrap_or_default());
            }
            (Kind::Long, Value::Number(n)) if n.is_i64() => {
                put_long(&mut self.out, n.as_i64().unwrap_or_default())
            }
            (Kind::Float, _) if real(value).is_some() => {
                self.out.extend_from_slice(&(real(value).unwrap_or_default() as f32).to_le_bytes());
            }
            (Kind::Double, _) if real(value).is_some() => {
                self.out.extend_from_slice(&real(value).unwrap_or_default().to_le_bytes());
            }
            (Kind::String, Value::String(text)) => put_bytes(&mut self.out, text.as_bytes()),
            (Kind::Bytes, Value::String(text)) => put_bytes(&mut self.out, &from_latin1(text)?),
            (Kind::Fixed(fixed), Value::String(text)) => self.fixed(fixed.size, text)?,
            (Kind::Enum(symbols), Value::String(symbol)) => match symbols.by_symbol.get(symbol) {
                Some(index) => put_long(&mut self.out, *index as i64),
                None => {
                    return Err(SchemaError::encode(format_args!(
                        "{symbol} is no symbol of enum {}",
                        symbols.name.full
                    )));
                }
            },
            (Kind::Array(inner), Value::Array(items)) => self.array(*inner, items)?,
            (Kind::Map(inner), Value::Object(entries)) => self.map(*inner, entries)?,
            (Kind::Record(record), Value::Object(fields)) => self.record(record, fields)?,
            (Kind::Union(branches), _) => self.union(branches, value)?,
            _ => return Err(mismatch(kind, value)),
        }
        Ok(())
    }

    fn fixed(&mut self, size: usize, text: &str) -> Result<(), SchemaError> {
        let bytes = from_latin1(text)?;
        if bytes.len() != size {
            return Err(SchemaError::encode(format_args!("{} bytes for a fixed of {size}", bytes.len())));
        }
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    fn array(&mut self, inner: NodeId, items: &[Value]) -> Result<(), SchemaError> {
        if !items.is_empty() {
            put_long(&mut self.out, items.len() as i64);
        }
        for (index, item) in items.iter().enumerate() {
            self.write(inner, item).map_err(|error| error.at(index))?;
        }
        self.out.push(0);
        Ok(())
    }

    fn map(&mut self, inner: NodeId, entries: &Map<String, Value>) -> Result<(), SchemaError> {
        if !entries.is_empty() {
            put_long(&mut self.out, entries.len() as i64);
        }
        for (key, value) in entries {
            put_bytes(&mut self.out, key.as_bytes());
            self.write(inner, value).map_err(|error| error.at(key))?;
        }
        self.out.push(0);
        Ok(())
    }

    fn record(&mut self, record: &'t Record, fields: &Map<String, Value>) -> Result<(), SchemaError> {
        if let Some(unknown) = fields.keys().find(|key| !record.by_name.contains_key(*key)) {
            return Err(SchemaError::encode(format_args!(
                "record {} has no field {unknown}",
                record.name.full
            )));
        }
        for field in &record.fields {
            let Some(value) = fields.get(&field.name).or(field.default.as_ref()) else {
                let record = &record.name.full;
                return Err(SchemaError::encode(format_args!(
                    "field {} of {record} is missing and has no default",
                    field.name
                )));
            };
            self.write(field.node, value).map_err(|error| error.at(&field.name))?;
        }
        Ok(())
    }

    /// The tagged form first: a bare map or record with one such key is rare, and tried after it.
    fn union(&mut self, branches: &[NodeId], value: &Value) -> Result<(), SchemaError> {
        let mark = (self.out.len(), self.depth);
        let tagged = match value {
            Value::Object(object) if object.len() == 1 => object.iter().next(),
            _ => None,
        };
        if let Some((tag, inner)) = tagged
            && let Some(index) = branches.iter().position(|branch| self.is_tag(*branch, tag))
            && self.branch(mark, index, branches[index], inner).is_ok()
        {
            return Ok(());
        }
        let mut deepest = None;
        for (index, branch) in branches.iter().enumerate() {
            match self.branch(mark, index, *branch, value) {
                Ok(()) => return Ok(()),
                // What is wrong inside of a record says more than that the record is not null.
                Err(error) if matches!(&error, SchemaError::Encode { path, .. } if !path.is_empty()) => {
                    deepest = Some(error)
                }
                Err(_) => {}
            }
        }
        Err(deepest.unwrap_or_else(|| {
            let names: Vec<&str> =
                branches.iter().map(|branch| self.types.kind(*branch).branch_name()).collect();
            SchemaError::encode(format_args!(
                "{} is none of the union's types {}",
                short(value),
                names.join(", ")
            ))
        }))
    }

    fn branch(
        &mut self,
        mark: (usize, u32),
        index: usize,
        branch: NodeId,
        value: &Value,
    ) -> Result<(), SchemaError> {
        self.out.truncate(mark.0);
        self.depth = mark.1;
        put_long(&mut self.out, index as i64);
        self.write(branch, value)
    }

    fn is_tag(&self, branch: NodeId, tag: &str) -> bool {
        let kind = self.types.kind(branch);
        kind.branch_name() == tag || kind.name().is_some_and(|name| name.simple() == tag)
    }
}

fn mismatch(kind: &Kind, value: &Value) -> SchemaError {
    SchemaError::encode(format_args!("{} is not {}", short(value), kind.describe()))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn from_latin1(text: &str) -> Result<Vec<u8>, SchemaError> {
    let byte = |character: char| {
        u8::try_from(character).map_err(|_| {
            SchemaError::encode(format_args!(
                "{character:?} is no byte; bytes are the characters U+0000 to U+00FF"
            ))
        })
    };
    text.chars().map(byte).collect()
}
