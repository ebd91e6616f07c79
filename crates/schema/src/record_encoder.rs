//! The compound half of the serializer: records, maps, lists.
//!
//! Fields are written in the schema's order. A value whose fields come in that order goes straight to
//! the output; a field that comes early waits in a buffer of its own.

use serde::ser::{self, Serialize};

use crate::SchemaError;
use crate::binary::{put_bytes, put_long};
use crate::encode::{At, Encoder};
use crate::node::{Field, NodeId, Record};

pub struct RecordEncoder<'e, 's> {
    encoder: &'e mut Encoder<'s>,
    record: &'s Record,
    /// The schema's field that is written next.
    next: usize,
    early: Vec<(usize, Vec<u8>)>,
}

impl<'e, 's> RecordEncoder<'e, 's> {
    #[inline]
    pub fn new(encoder: &'e mut Encoder<'s>, record: &'s Record) -> Result<Self, SchemaError> {
        encoder.enter()?;
        Ok(Self { encoder, record, next: 0, early: Vec::new() })
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), SchemaError> {
        if let Some(field) = self.record.fields.get(self.next)
            && field.name == name
        {
            self.write(field, value)?;
            self.next += 1;
            if !self.early.is_empty() {
                self.release();
            }
            return Ok(());
        }
        self.out_of_order(name, value)
    }

    #[inline]
    fn write<T: Serialize + ?Sized>(&mut self, field: &Field, value: &T) -> Result<(), SchemaError> {
        value.serialize(At { encoder: self.encoder, node: field.node }).map_err(|error| error.at(&field.name))
    }

    fn out_of_order<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), SchemaError> {
        let record = &self.record.name.full;
        let Some(index) = self.record.by_name.get(name).copied() else {
            return Err(SchemaError::encode(format_args!("record {record} has no field {name}; add it to the schema or skip it")));
        };
        if index < self.next || self.early.iter().any(|(early, _)| *early == index) {
            return Err(SchemaError::encode(format_args!("field {name} of {record} comes twice")));
        }
        let begin = self.encoder.out.len();
        self.write(&self.record.fields[index], value)?;
        let bytes = self.encoder.out.split_off(begin);
        self.early.push((index, bytes));
        Ok(())
    }

    /// Writes what waited for the field that has just been written.
    fn release(&mut self) {
        while let Some(place) = self.early.iter().position(|(index, _)| *index == self.next) {
            let (_, bytes) = self.early.swap_remove(place);
            self.encoder.out.extend_from_slice(&bytes);
            self.next += 1;
        }
    }

    fn finish(mut self) -> Result<(), SchemaError> {
        while let Some(field) = self.record.fields.get(self.next) {
            let waiting = self.early.len();
            self.release();
            if self.early.len() < waiting {
                continue;
            }
            let Some(default) = &field.default_bytes else {
                let record = &self.record.name.full;
                return Err(SchemaError::encode(format_args!("field {} of {record} is missing and has no default", field.name)));
            };
            self.encoder.out.extend_from_slice(default);
            self.next += 1;
        }
        self.encoder.leave();
        Ok(())
    }
}

impl ser::SerializeStruct for RecordEncoder<'_, '_> {
    type Ok = ();
    type Error = SchemaError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), SchemaError> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), SchemaError> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for RecordEncoder<'_, '_> {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), SchemaError> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), SchemaError> {
        self.finish()
    }
}

/// A list to an array, or a list of `u8` to bytes or fixed.
pub struct SeqEncoder<'e, 's> {
    encoder: &'e mut Encoder<'s>,
    items: Items,
    /// Where the items begin; their count goes before it when it was not known.
    begin: usize,
    announced: Option<usize>,
    count: usize,
}

enum Items {
    Array(NodeId),
    Bytes,
}

impl<'e, 's> SeqEncoder<'e, 's> {
    pub fn array(encoder: &'e mut Encoder<'s>, items: NodeId, length: Option<usize>) -> Result<Self, SchemaError> {
        encoder.enter()?;
        let begin = encoder.out.len();
        if let Some(length) = length.filter(|length| *length > 0) {
            put_long(&mut encoder.out, length as i64);
        }
        Ok(Self { encoder, items: Items::Array(items), begin, announced: length, count: 0 })
    }

    /// With a length it is a fixed, without one bytes.
    pub fn bytes(encoder: &'e mut Encoder<'s>, fixed: Option<usize>) -> Self {
        let begin = encoder.out.len();
        Self { encoder, items: Items::Bytes, begin, announced: fixed, count: 0 }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        let index = self.count;
        self.count += 1;
        match self.items {
            Items::Array(node) => value.serialize(At { encoder: self.encoder, node }).map_err(|error| error.at(index)),
            Items::Bytes => {
                self.encoder.out.push(value.serialize(Byte).map_err(|error| error.at(index))?);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<(), SchemaError> {
        if self.announced.is_some_and(|announced| announced != self.count) {
            let announced = self.announced.unwrap_or_default();
            return Err(SchemaError::encode(format_args!("{} items where there should be {announced}", self.count)));
        }
        let out = &mut self.encoder.out;
        match self.items {
            Items::Bytes if self.announced.is_none() => insert_count(out, self.begin, self.count),
            Items::Bytes => {}
            Items::Array(_) => {
                if self.announced.is_none() && self.count > 0 {
                    insert_count(out, self.begin, self.count);
                }
                out.push(0);
                self.encoder.leave();
            }
        }
        Ok(())
    }
}

fn insert_count(out: &mut Vec<u8>, at: usize, count: usize) {
    let mut prefix = Vec::with_capacity(10);
    put_long(&mut prefix, count as i64);
    out.splice(at..at, prefix);
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

/// A map, or a record whose fields come as a map's entries (as from `#[serde(flatten)]`).
pub enum MapEncoder<'e, 's> {
    Map { encoder: &'e mut Encoder<'s>, values: NodeId, begin: usize, announced: Option<usize>, count: usize, key: String },
    Record { record: RecordEncoder<'e, 's>, key: String },
}

impl<'e, 's> MapEncoder<'e, 's> {
    pub fn map(encoder: &'e mut Encoder<'s>, values: NodeId, length: Option<usize>) -> Result<Self, SchemaError> {
        encoder.enter()?;
        let begin = encoder.out.len();
        if let Some(length) = length.filter(|length| *length > 0) {
            put_long(&mut encoder.out, length as i64);
        }
        Ok(Self::Map { encoder, values, begin, announced: length, count: 0, key: String::new() })
    }

    pub fn record(record: RecordEncoder<'e, 's>) -> Self {
        Self::Record { record, key: String::new() }
    }
}

impl ser::SerializeMap for MapEncoder<'_, '_> {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        let text = value.serialize(Key)?;
        match self {
            Self::Map { encoder, key, .. } => {
                put_bytes(&mut encoder.out, text.as_bytes());
                *key = text;
            }
            Self::Record { key, .. } => *key = text,
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SchemaError> {
        match self {
            Self::Map { encoder, values, count, key, .. } => {
                *count += 1;
                value.serialize(At { encoder, node: *values }).map_err(|error| error.at(key))
            }
            Self::Record { record, key } => {
                let key = std::mem::take(key);
                record.field(&key, value)
            }
        }
    }

    fn end(self) -> Result<(), SchemaError> {
        match self {
            Self::Record { record, .. } => record.finish(),
            Self::Map { encoder, begin, announced, count, .. } => {
                match announced {
                    Some(announced) if announced != count => {
                        return Err(SchemaError::encode(format_args!("{count} entries where there should be {announced}")));
                    }
                    None if count > 0 => insert_count(&mut encoder.out, begin, count),
                    _ => {}
                }
                encoder.out.push(0);
                encoder.leave();
                Ok(())
            }
        }
    }
}

/// Variants with unnamed fields are refused before this would be used.
pub enum VariantEncoder {}

impl ser::SerializeTupleVariant for VariantEncoder {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _value: &T) -> Result<(), SchemaError> {
        match *self {}
    }

    fn end(self) -> Result<(), SchemaError> {
        match self {}
    }
}

/// Serializers for one kind of value only: everything else is an error that says what was expected.
macro_rules! only {
    ($name:ident -> $output:ty, $expected:literal, { $($own:item)* }, [$($method:ident $type:ty),*]) => {
        struct $name;

        impl ser::Serializer for $name {
            type Ok = $output;
            type Error = SchemaError;
            type SerializeSeq = ser::Impossible<$output, SchemaError>;
            type SerializeTuple = ser::Impossible<$output, SchemaError>;
            type SerializeTupleStruct = ser::Impossible<$output, SchemaError>;
            type SerializeTupleVariant = ser::Impossible<$output, SchemaError>;
            type SerializeMap = ser::Impossible<$output, SchemaError>;
            type SerializeStruct = ser::Impossible<$output, SchemaError>;
            type SerializeStructVariant = ser::Impossible<$output, SchemaError>;

            $($own)*

            $(fn $method(self, _value: $type) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            })*

            fn serialize_bool(self, _value: bool) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_f32(self, _value: f32) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_f64(self, _value: f64) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_bytes(self, _value: &[u8]) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_none(self) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<$output, SchemaError> {
                value.serialize(self)
            }
            fn serialize_unit(self) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_unit_struct(self, _name: &'static str) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_newtype_struct<T: Serialize + ?Sized>(
                self,
                _name: &'static str,
                value: &T,
            ) -> Result<$output, SchemaError> {
                value.serialize(self)
            }
            fn serialize_newtype_variant<T: Serialize + ?Sized>(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
                _value: &T,
            ) -> Result<$output, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_seq(self, _length: Option<usize>) -> Result<Self::SerializeSeq, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_tuple(self, _length: usize) -> Result<Self::SerializeTuple, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_tuple_struct(
                self,
                _name: &'static str,
                _length: usize,
            ) -> Result<Self::SerializeTupleStruct, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_tuple_variant(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
                _length: usize,
            ) -> Result<Self::SerializeTupleVariant, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self::SerializeStruct, SchemaError> {
                Err(SchemaError::encode($expected))
            }
            fn serialize_struct_variant(
                self,
                _name: &'static str,
                _index: u32,
                _variant: &'static str,
                _length: usize,
            ) -> Result<Self::SerializeStructVariant, SchemaError> {
                Err(SchemaError::encode($expected))
            }
        }
    };
}

only!(Byte -> u8, "the schema says bytes, the value is a list of something else than u8", {
    fn serialize_u8(self, value: u8) -> Result<u8, SchemaError> {
        Ok(value)
    }
    fn serialize_unit_variant(self, _name: &'static str, _index: u32, _variant: &'static str) -> Result<u8, SchemaError> {
        Err(SchemaError::encode("the schema says bytes, the value is a list of something else than u8"))
    }
}, [
    serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u16 u16, serialize_u32 u32,
    serialize_u64 u64, serialize_char char, serialize_str &str
]);

only!(Key -> String, "the keys of an Avro map are strings", {
    fn serialize_str(self, value: &str) -> Result<String, SchemaError> {
        Ok(value.to_owned())
    }
    fn serialize_char(self, value: char) -> Result<String, SchemaError> {
        Ok(value.to_string())
    }
    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<String, SchemaError> {
        Ok(variant.to_owned())
    }
}, [
    serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u8 u8, serialize_u16 u16,
    serialize_u32 u32, serialize_u64 u64
]);
