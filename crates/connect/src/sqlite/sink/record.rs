//! Reads a value's Avro bytes as cells of a row, by the schema it was written with; nothing is copied.
//!
//! Flat records only: primitives, enums, fixed, and unions of one of them with null. Every length is checked against
//! what is there, and bytes that are left over make a record corrupt.

use headwater_schema::AvroSchema;
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::instant;

/// A schema's fields as columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordPlan {
    pub fields: Vec<FieldPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPlan {
    pub name: String,
    kind: FieldKind,
    union: Union,
}

/// Whether a branch's number comes first, and which one is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Union {
    None,
    NullFirst,
    NullLast,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FieldKind {
    Integer,
    Instant,
    Float,
    Double,
    Boolean,
    Text,
    Bytes,
    Fixed(usize),
    Enum(Vec<String>),
}

/// A field that has no column type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    pub field: String,
    pub type_name: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    Value(ValueRef<'a>),
    Instant(instant::Text),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Corrupt {
    #[error("the value ends within a field")]
    Short,
    #[error("{0} bytes are left over after the last field")]
    Long(usize),
    #[error("a number has more than 64 bits")]
    Varint,
    #[error("a union or an enum has no branch {0}")]
    Branch(i64),
    #[error("a length is {0}")]
    Length(i64),
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("a boolean is {0}")]
    Boolean(u8),
    #[error("the year of instant {0} does not have four digits")]
    Instant(i64),
}

impl RecordPlan {
    pub fn new(schema: &AvroSchema) -> Result<Self, Unsupported> {
        let json: Value = serde_json::from_str(schema.text()).unwrap_or_default();
        let fields = match (json["type"].as_str(), json["fields"].as_array()) {
            (Some("record"), Some(fields)) => fields,
            _ => return Err(Unsupported { field: "(the value itself)".into(), type_name: json.to_string() }),
        };
        let fields = fields.iter().map(|field| {
            let name = field["name"].as_str().unwrap_or_default().to_owned();
            let planned = union(&field["type"]).filter(|_| !name.eq_ignore_ascii_case("_key"));
            match planned {
                Some((kind, union)) => Ok(FieldPlan { name, kind, union }),
                None => Err(Unsupported { field: name, type_name: field["type"].to_string() }),
            }
        });
        Ok(Self { fields: fields.collect::<Result<_, _>>()? })
    }

    /// Hands each field's cell over in order.
    pub fn read<'a>(&'a self, body: &'a [u8], mut cell: impl FnMut(usize, Cell<'a>)) -> Result<(), Corrupt> {
        let mut rest = Bytes(body);
        for (place, field) in self.fields.iter().enumerate() {
            cell(place, field.read(&mut rest)?);
        }
        match rest.0.len() {
            0 => Ok(()),
            left => Err(Corrupt::Long(left)),
        }
    }
}

fn union(of: &Value) -> Option<(FieldKind, Union)> {
    match of.as_array().map(Vec::as_slice) {
        None => Some((kind(of)?, Union::None)),
        Some([null, other]) if null == "null" => Some((kind(other)?, Union::NullFirst)),
        Some([other, null]) if null == "null" => Some((kind(other)?, Union::NullLast)),
        Some(_) => None,
    }
}

fn kind(of: &Value) -> Option<FieldKind> {
    let Some(name) = of.as_str() else {
        let logical = of["logicalType"].as_str();
        return match of["type"].as_str() {
            Some("long") if logical == Some("timestamp-millis") => Some(FieldKind::Instant),
            Some("fixed") => {
                of["size"].as_u64().and_then(|size| usize::try_from(size).ok()).map(FieldKind::Fixed)
            }
            Some("enum") => {
                let symbols =
                    of["symbols"].as_array()?.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                symbols.collect::<Option<_>>().map(FieldKind::Enum)
            }
            Some(_) => kind(&of["type"]),
            None if of["type"].is_object() => kind(&of["type"]),
            None => None,
        };
    };
    match name {
        "int" | "long" => Some(FieldKind::Integer),
        "float" => Some(FieldKind::Float),
        "double" => Some(FieldKind::Double),
        "boolean" => Some(FieldKind::Boolean),
        "string" => Some(FieldKind::Text),
        "bytes" => Some(FieldKind::Bytes),
        _ => None,
    }
}

impl FieldPlan {
    pub fn column_type(&self) -> &'static str {
        match self.kind {
            FieldKind::Integer | FieldKind::Boolean => "INTEGER",
            FieldKind::Float | FieldKind::Double => "REAL",
            FieldKind::Text | FieldKind::Instant | FieldKind::Enum(_) => "TEXT",
            FieldKind::Bytes | FieldKind::Fixed(_) => "BLOB",
        }
    }

    fn read<'a>(&'a self, from: &mut Bytes<'a>) -> Result<Cell<'a>, Corrupt> {
        let null = match (self.union, self.union == Union::None) {
            (_, true) => false,
            (union, false) => match (from.long()?, union) {
                (0, Union::NullFirst) | (1, Union::NullLast) => true,
                (0 | 1, _) => false,
                (branch, _) => return Err(Corrupt::Branch(branch)),
            },
        };
        match null {
            true => Ok(Cell::Value(ValueRef::Null)),
            false => self.kind.read(from),
        }
    }
}

impl FieldKind {
    fn read<'a>(&'a self, from: &mut Bytes<'a>) -> Result<Cell<'a>, Corrupt> {
        Ok(Cell::Value(match self {
            Self::Integer => ValueRef::Integer(from.long()?),
            Self::Instant => {
                let millis = from.long()?;
                return instant::format(millis).map(Cell::Instant).ok_or(Corrupt::Instant(millis));
            }
            Self::Float => ValueRef::Real(f64::from(f32::from_le_bytes(from.array()?))),
            Self::Double => ValueRef::Real(f64::from_le_bytes(from.array()?)),
            Self::Boolean => match from.array::<1>()? {
                [bit @ 0..=1] => ValueRef::Integer(i64::from(bit)),
                [other] => return Err(Corrupt::Boolean(other)),
            },
            Self::Text => {
                let text = from.sized()?;
                std::str::from_utf8(text).map_err(|_| Corrupt::Utf8)?;
                ValueRef::Text(text)
            }
            Self::Bytes => ValueRef::Blob(from.sized()?),
            Self::Fixed(size) => ValueRef::Blob(from.take(*size)?),
            Self::Enum(symbols) => {
                let branch = from.long()?;
                let symbol = usize::try_from(branch).ok().and_then(|branch| symbols.get(branch));
                ValueRef::Text(symbol.ok_or(Corrupt::Branch(branch))?.as_bytes())
            }
        }))
    }
}

/// What is left of a value.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Corrupt::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Corrupt::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn sized(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| Corrupt::Length(length))?)
    }

    fn long(&mut self) -> Result<i64, Corrupt> {
        let mut zigzag = 0_u64;
        for (place, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return Err(Corrupt::Varint);
            }
            zigzag |= bits << (7 * place);
            if byte & 0x80 == 0 {
                self.0 = &self.0[place + 1..];
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(if self.0.len() < 10 { Corrupt::Short } else { Corrupt::Varint })
    }
}

#[cfg(test)]
mod tests {
    use headwater_schema::AvroCodec;
    use serde_json::json;

    use super::*;

    fn schema() -> AvroSchema {
        let fields = json!([
            {"name": "id", "type": "long"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "share", "type": ["null", "double"]},
            {"name": "name", "type": ["string", "null"]},
            {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["LEFT", "RIGHT"]}},
            {"name": "good", "type": "boolean"},
        ]);
        AvroSchema::parse(&json!({"type": "record", "name": "R", "fields": fields}).to_string()).unwrap()
    }

    fn body() -> Vec<u8> {
        // id -3, at 1357034400000, share 0.5, name "é", side RIGHT, good true
        let mut body = vec![5];
        body.extend([0x80, 0xa4, 0xed, 0xd8, 0xfe, 0x4e]);
        body.push(2);
        body.extend(0.5_f64.to_le_bytes());
        body.extend([0, 4]);
        body.extend("é".as_bytes());
        body.extend([2, 1]);
        body
    }

    fn read(body: &[u8]) -> Result<Vec<String>, Corrupt> {
        let plan = RecordPlan::new(&schema()).unwrap();
        let mut cells = Vec::new();
        plan.read(body, |_, cell| {
            cells.push(match cell {
                Cell::Value(ValueRef::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
                Cell::Value(value) => format!("{value:?}"),
                Cell::Instant(text) => String::from_utf8(text.to_vec()).unwrap(),
            });
        })?;
        Ok(cells)
    }

    #[test]
    fn fields_become_cells() {
        let cells = read(&body()).unwrap();
        assert_eq!(cells, ["Integer(-3)", "2013-01-01T10:00:00Z", "Real(0.5)", "é", "RIGHT", "Integer(1)"]);
    }

    #[test]
    fn the_codec_for_people_reads_the_same_bytes() {
        assert_eq!(AvroCodec::to_json(&schema(), body()).unwrap()["id"], json!(-3));
    }

    #[test]
    fn every_shorter_value_is_corrupt_and_so_is_a_longer_one() {
        let whole = body();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(read(&longer), Err(Corrupt::Long(1)));
    }

    #[test]
    fn lengths_and_branches_are_not_believed() {
        let mut bytes = Bytes(&[0x01, 0xff]);
        assert_eq!(bytes.sized(), Err(Corrupt::Length(-1)));
        assert_eq!(Bytes(&[0xff; 11]).long(), Err(Corrupt::Varint));
        assert_eq!(Bytes(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).long(), Ok(i64::MAX));
        let mut wrong_branch = body();
        wrong_branch[7] = 4;
        assert_eq!(read(&wrong_branch), Err(Corrupt::Branch(2)));
    }

    #[test]
    fn nested_fields_are_refused_by_name() {
        let nested = json!({"type": "record", "name": "R", "fields": [{"name": "tags", "type": {"type": "array", "items": "string"}}]});
        let refused = RecordPlan::new(&AvroSchema::parse(&nested.to_string()).unwrap()).unwrap_err();
        assert_eq!(refused.field, "tags");
    }
}
