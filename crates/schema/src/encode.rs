//! A serde value straight to Avro's binary form.
//!
//! The schema decides: where the value and the schema do not meet, the error names the field. Numbers
//! widen only where nothing can be lost by their types.

use serde::ser::{self, Serialize};

use crate::binary::{MAX_DEPTH, put_bytes, put_long};
use crate::list_encoder::{MapEncoder, SeqEncoder};
use crate::node::{Fixed, Kind, NodeId, Types};
use crate::record_encoder::RecordEncoder;
use crate::{AvroSchema, SchemaError};

const USUAL_SIZE: usize = 256;

/// Encodes a value: fields of structs are matched to the schema's by name, in whatever order; `None` is
/// null; unit variants are an enum's symbols; variants with data are a union's named branches. A field
/// of the schema that the value leaves out takes its default; a field the schema does not know is an
/// error, because its data would be lost.
pub fn encode<T: Serialize + ?Sized>(schema: &AvroSchema, value: &T) -> Result<Vec<u8>, SchemaError> {
    let types = schema.types();
    let mut encoder = Encoder { types, out: Vec::with_capacity(USUAL_SIZE), depth: 0 };
    value.serialize(At { encoder: &mut encoder, node: types.root })?;
    Ok(encoder.out)
}

pub struct Encoder<'s> {
    pub types: &'s Types,
    pub out: Vec<u8>,
    depth: u32,
}

impl Encoder<'_> {
    pub fn enter(&mut self) -> Result<(), SchemaError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SchemaError::encode(format_args!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(())
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }
}

/// The place in the schema that the next value goes to.
pub struct At<'e, 's> {
    pub encoder: &'e mut Encoder<'s>,
    pub node: NodeId,
}

impl<'e, 's> At<'e, 's> {
    /// The type to write: this one, or the union's branch that fits best. `fit` is 0 for what cannot be.
    #[inline]
    fn choose(&mut self, value: &str, fit: impl Fn(&Kind) -> u8) -> Result<&'s Kind, SchemaError> {
        let types = self.encoder.types;
        let kind = types.kind(self.node);
        let Kind::Union(branches) = kind else {
            return if fit(kind) > 0 { Ok(kind) } else { Err(mismatch(value, kind)) };
        };
        let mut best = (0, 0);
        for (index, branch) in branches.iter().enumerate() {
            let fits = fit(types.kind(*branch));
            if fits > best.0 {
                best = (fits, index);
            }
        }
        if best.0 == 0 {
            return Err(mismatch_union(value, types, branches));
        }
        put_long(&mut self.encoder.out, best.1 as i64);
        Ok(types.kind(branches[best.1]))
    }

    fn integer(mut self, value: i64, narrow: bool) -> Result<(), SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Int if i32::try_from(value).is_ok() => 3 + u8::from(narrow),
            Kind::Long => 4 - u8::from(narrow),
            Kind::Double if narrow => 2,
            _ => 0,
        };
        match self.choose("an integer", fit) {
            Ok(Kind::Double) => self.encoder.out.extend_from_slice(&(value as f64).to_le_bytes()),
            Ok(_) => put_long(&mut self.encoder.out, value),
            Err(_) if matches!(self.encoder.types.kind(self.node), Kind::Int) => {
                return Err(SchemaError::encode(format_args!(
                    "{value} is out of the range of int; make the field a long"
                )));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn symbol(mut self, symbol: &str) -> Result<(), SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Enum(symbols) if symbols.by_symbol.contains_key(symbol) => 2,
            Kind::String => 1,
            _ => 0,
        };
        if let Kind::Enum(symbols) = self.encoder.types.kind(self.node)
            && !symbols.by_symbol.contains_key(symbol)
        {
            return Err(SchemaError::encode(format_args!(
                "{symbol} is no symbol of enum {}",
                symbols.name.full
            )));
        }
        match self.choose("an enum's variant", fit)? {
            Kind::Enum(symbols) => put_long(&mut self.encoder.out, symbols.by_symbol[symbol] as i64),
            _ => put_bytes(&mut self.encoder.out, symbol.as_bytes()),
        }
        Ok(())
    }

    /// The branch that a Rust variant with data stands for.
    fn variant(self, variant: &'static str) -> Result<At<'e, 's>, SchemaError> {
        let types = self.encoder.types;
        let named = |kind: &Kind| match kind.name() {
            Some(name) => name.simple() == variant || name.full == variant,
            None => kind.type_name().eq_ignore_ascii_case(variant),
        };
        let Kind::Union(branches) = types.kind(self.node) else {
            return Err(mismatch("an enum's variant with data", types.kind(self.node)));
        };
        let Some(index) = branches.iter().position(|branch| named(types.kind(*branch))) else {
            return Err(SchemaError::encode(format_args!("the union has no branch {variant}")));
        };
        put_long(&mut self.encoder.out, index as i64);
        Ok(At { encoder: self.encoder, node: branches[index] })
    }
}

#[cold]
fn mismatch(value: &str, kind: &Kind) -> SchemaError {
    SchemaError::encode(format_args!("the schema says {}, the value is {value}", kind.describe()))
}

#[cold]
fn mismatch_union(value: &str, types: &Types, branches: &[NodeId]) -> SchemaError {
    let names: Vec<String> = branches.iter().map(|branch| types.kind(*branch).describe()).collect();
    SchemaError::encode(format_args!("the schema says one of {}, the value is {value}", names.join(", ")))
}

fn put_fixed(out: &mut Vec<u8>, fixed: &Fixed, bytes: &[u8]) -> Result<(), SchemaError> {
    if bytes.len() != fixed.size {
        let (full, size) = (&fixed.name.full, fixed.size);
        return Err(SchemaError::encode(format_args!(
            "{} bytes for fixed {full}, which has {size}",
            bytes.len()
        )));
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// Only types that serde knows to be integers, so that each goes the same way.
macro_rules! integers {
    ($($method:ident $type:ty, $narrow:literal;)*) => {
        $(#[inline] fn $method(self, value: $type) -> Result<(), SchemaError> {
            self.integer(i64::from(value), $narrow)
        })*
    };
}

impl<'e, 's> ser::Serializer for At<'e, 's> {
    type Ok = ();
    type Error = SchemaError;
    type SerializeSeq = SeqEncoder<'e, 's>;
    type SerializeTuple = SeqEncoder<'e, 's>;
    type SerializeTupleStruct = SeqEncoder<'e, 's>;
    type SerializeTupleVariant = ser::Impossible<(), SchemaError>;
    type SerializeMap = MapEncoder<'e, 's>;
    type SerializeStruct = RecordEncoder<'e, 's>;
    type SerializeStructVariant = RecordEncoder<'e, 's>;

    integers! {
        serialize_i8 i8, true;
        serialize_i16 i16, true;
        serialize_i32 i32, true;
        serialize_i64 i64, false;
        serialize_u8 u8, true;
        serialize_u16 u16, true;
        serialize_u32 u32, false;
    }

    fn serialize_u64(self, value: u64) -> Result<(), SchemaError> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value, false),
            Err(_) => Err(SchemaError::encode(format_args!("{value} is out of the range of long"))),
        }
    }

    fn serialize_bool(mut self, value: bool) -> Result<(), SchemaError> {
        self.choose("a boolean", |kind| u8::from(matches!(kind, Kind::Boolean)))?;
        self.encoder.out.push(u8::from(value));
        Ok(())
    }

    fn serialize_f32(mut self, value: f32) -> Result<(), SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Float => 2,
            Kind::Double => 1,
            _ => 0,
        };
        match self.choose("a float", fit)? {
            Kind::Float => self.encoder.out.extend_from_slice(&value.to_le_bytes()),
            _ => self.encoder.out.extend_from_slice(&f64::from(value).to_le_bytes()),
        }
        Ok(())
    }

    fn serialize_f64(mut self, value: f64) -> Result<(), SchemaError> {
        self.choose("a double", |kind| u8::from(matches!(kind, Kind::Double)))?;
        self.encoder.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), SchemaError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(mut self, value: &str) -> Result<(), SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::String => 2,
            Kind::Enum(symbols) if symbols.by_symbol.contains_key(value) => 1,
            _ => 0,
        };
        match self.choose("a string", fit)? {
            Kind::Enum(symbols) => put_long(&mut self.encoder.out, symbols.by_symbol[value] as i64),
            _ => put_bytes(&mut self.encoder.out, value.as_bytes()),
        }
        Ok(())
    }

    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Bytes => 1,
            Kind::Fixed(fixed) => 1 + u8::from(fixed.size == value.len()),
            _ => 0,
        };
        match self.choose("bytes", fit)? {
            Kind::Fixed(fixed) => put_fixed(&mut self.encoder.out, fixed, value)?,
            _ => put_bytes(&mut self.encoder.out, value),
        }
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), SchemaError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), SchemaError> {
        value.serialize(self)
    }

    fn serialize_unit(mut self) -> Result<(), SchemaError> {
        self.choose("null", |kind| u8::from(matches!(kind, Kind::Null))).map(|_| ())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), SchemaError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), SchemaError> {
        self.symbol(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), SchemaError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), SchemaError> {
        value.serialize(self.variant(variant)?)
    }

    fn serialize_seq(mut self, length: Option<usize>) -> Result<SeqEncoder<'e, 's>, SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Array(_) => 2,
            Kind::Bytes | Kind::Fixed(_) => 1,
            _ => 0,
        };
        match self.choose("a list", fit)? {
            Kind::Array(items) => SeqEncoder::array(self.encoder, *items, length),
            Kind::Fixed(fixed) => Ok(SeqEncoder::bytes(self.encoder, Some(fixed.size))),
            _ => Ok(SeqEncoder::bytes(self.encoder, None)),
        }
    }

    fn serialize_tuple(self, length: usize) -> Result<SeqEncoder<'e, 's>, SchemaError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<SeqEncoder<'e, 's>, SchemaError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<ser::Impossible<(), SchemaError>, SchemaError> {
        Err(SchemaError::encode(format_args!(
            "variant {variant} has unnamed fields, which Avro has no type for; name them"
        )))
    }

    fn serialize_map(mut self, length: Option<usize>) -> Result<MapEncoder<'e, 's>, SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Map(_) => 2,
            Kind::Record(_) => 1,
            _ => 0,
        };
        match self.choose("a map", fit)? {
            Kind::Map(values) => MapEncoder::map(self.encoder, *values, length),
            Kind::Record(record) => Ok(MapEncoder::record(RecordEncoder::new(self.encoder, record)?)),
            other => Err(mismatch("a map", other)),
        }
    }

    #[inline]
    fn serialize_struct(
        mut self,
        name: &'static str,
        _length: usize,
    ) -> Result<RecordEncoder<'e, 's>, SchemaError> {
        let fit = |kind: &Kind| match kind {
            Kind::Record(record) => 1 + u8::from(record.name.simple() == name),
            _ => 0,
        };
        match self.choose("a struct", fit)? {
            Kind::Record(record) => RecordEncoder::new(self.encoder, record),
            other => Err(mismatch("a struct", other)),
        }
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<RecordEncoder<'e, 's>, SchemaError> {
        self.variant(variant)?.serialize_struct(variant, length)
    }
}
