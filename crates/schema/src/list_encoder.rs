//! Lists to arrays, and lists of `u8` to bytes and fixed. Maps to maps, and to records whose fields come
//! as a map's entries (as from `#[serde(flatten)]`).

use std::ops::Range;

use serde::ser::{self, Serialize};

use crate::SchemaError;
use crate::binary::{Cursor, put_long};
use crate::encode::{At, Encoder};
use crate::node::NodeId;
use crate::record_encoder::RecordEncoder;

/// Counts what is written between a length that was announced, or is put there afterwards, and the end.
pub struct Counted {
    begin: usize,
    announced: Option<usize>,
    count: usize,
}

impl Counted {
    fn begin(out: &mut Vec<u8>, announced: Option<usize>) -> Self {
        let begin = out.len();
        if let Some(length) = announced.filter(|length| *length > 0) {
            put_long(out, length as i64);
        }
        Self { begin, announced, count: 0 }
    }

    fn end(&self, out: &mut Vec<u8>) -> Result<(), SchemaError> {
        let count = self.count;
        match self.announced {
            Some(announced) if announced != count => {
                return Err(SchemaError::encode(format_args!(
                    "{count} items where there should be {announced}"
                )));
            }
            None if count > 0 => {
                let mut length = Vec::with_capacity(10);
                put_long(&mut length, count as i64);
                out.splice(self.begin..self.begin, length);
            }
            _ => {}
        }
        out.push(0);
        Ok(())
    }
}

pub enum SeqEncoder<'e, 's> {
    Array {
        encoder: &'e mut Encoder<'s>,
        items: NodeId,
        counted: Counted,
    },
    /// With a size it is a fixed.
    Bytes {
        encoder: &'e mut Encoder<'s>,
        bytes: Vec<u8>,
        size: Option<usize>,
    },
}

impl<'e, 's> SeqEncoder<'e, 's> {
    pub fn array(
        encoder: &'e mut Encoder<'s>,
        items: NodeId,
        length: Option<usize>,
    ) -> Result<Self, SchemaError> {
        encoder.enter()?;
        let counted = Counted::begin(&mut encoder.out, length);
        Ok(Self::Array { encoder, items, counted })
    }

    pub fn bytes(encoder: &'e mut Encoder<'s>, size: Option<usize>) -> Self {
        Self::Bytes { encoder, bytes: Vec::new(), size }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        match self {
            Self::Array { encoder, items, counted } => {
                counted.count += 1;
                value.serialize(At { encoder, node: *items }).map_err(|error| error.at(counted.count - 1))
            }
            Self::Bytes { encoder, bytes, .. } => {
                bytes.push(byte(encoder, value)?);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<(), SchemaError> {
        match self {
            Self::Array { encoder, counted, .. } => {
                encoder.leave();
                counted.end(&mut encoder.out)
            }
            Self::Bytes { bytes, size: Some(size), .. } if bytes.len() != size => {
                Err(SchemaError::encode(format_args!("{} bytes for a fixed of {size}", bytes.len())))
            }
            Self::Bytes { encoder, bytes, size } => {
                if size.is_none() {
                    put_long(&mut encoder.out, bytes.len() as i64);
                }
                encoder.out.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }
}

fn byte<T: Serialize + ?Sized>(encoder: &mut Encoder<'_>, value: &T) -> Result<u8, SchemaError> {
    let begin = encoder.out.len();
    let node = encoder.types.byte;
    let wrong =
        |_| SchemaError::encode("the schema says bytes, the value is a list of something else than u8");
    value.serialize(At { encoder, node }).map_err(wrong)?;
    let number = Cursor::new(&encoder.out[begin..]).int()?;
    encoder.out.truncate(begin);
    u8::try_from(number).map_err(|_| SchemaError::encode(format_args!("{number} is no byte")))
}

macro_rules! sequence {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for SeqEncoder<'_, '_> {
            type Ok = ();
            type Error = SchemaError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
                self.item(value)
            }

            fn end(self) -> Result<(), SchemaError> {
                self.finish()
            }
        })*
    };
}

sequence!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field);

pub enum MapEncoder<'e, 's> {
    /// The range is where the last key stands in the output.
    Map {
        encoder: &'e mut Encoder<'s>,
        values: NodeId,
        counted: Counted,
        key: Range<usize>,
    },
    Record {
        record: RecordEncoder<'e, 's>,
        key: String,
    },
}

impl<'e, 's> MapEncoder<'e, 's> {
    pub fn map(
        encoder: &'e mut Encoder<'s>,
        values: NodeId,
        length: Option<usize>,
    ) -> Result<Self, SchemaError> {
        encoder.enter()?;
        let counted = Counted::begin(&mut encoder.out, length);
        Ok(Self::Map { encoder, values, counted, key: 0..0 })
    }

    pub fn record(record: RecordEncoder<'e, 's>) -> Self {
        Self::Record { record, key: String::new() }
    }
}

/// Writes a key and says where.
fn write_key<T: Serialize + ?Sized>(
    encoder: &mut Encoder<'_>,
    value: &T,
) -> Result<Range<usize>, SchemaError> {
    let begin = encoder.out.len();
    let node = encoder.types.key;
    let wrong = |_| SchemaError::encode("the keys of an Avro map are strings");
    value.serialize(At { encoder, node }).map_err(wrong)?;
    Ok(begin..encoder.out.len())
}

fn key_at<'o>(encoder: &'o Encoder<'_>, place: &Range<usize>) -> Result<&'o str, SchemaError> {
    Cursor::new(&encoder.out[place.clone()]).string()
}

impl ser::SerializeMap for MapEncoder<'_, '_> {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        match self {
            Self::Map { encoder, key, .. } => *key = write_key(encoder, value)?,
            Self::Record { record, key } => {
                let place = write_key(record.encoder, value)?;
                *key = key_at(record.encoder, &place)?.to_owned();
                record.encoder.out.truncate(place.start);
            }
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        match self {
            Self::Map { encoder, values, counted, key } => {
                counted.count += 1;
                let written = value.serialize(At { encoder, node: *values });
                written.map_err(|error| error.at(key_at(encoder, key).unwrap_or_default()))
            }
            Self::Record { record, key } => record.field(&std::mem::take(key), value),
        }
    }

    fn end(self) -> Result<(), SchemaError> {
        match self {
            Self::Record { record, .. } => record.finish(),
            Self::Map { encoder, counted, .. } => {
                encoder.leave();
                counted.end(&mut encoder.out)
            }
        }
    }
}
