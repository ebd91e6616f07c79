//! Avro's binary form straight to a serde value, by a compiled [`Plan`].

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer, U8Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::binary::Cursor;
use crate::node::{Kind, NodeId, Types};
use crate::plan::{FieldStep, Fields, Number, Plan, Step, StepId, Symbols};
use crate::{AvroSchema, SchemaError};

/// A writer's and a reader's schema, resolved once; decodes any number of values.
#[derive(Debug)]
pub struct Resolver {
    writer: AvroSchema,
    plan: Plan,
}

impl Resolver {
    /// Fails when no value, or not every record, of the writer's schema could be read.
    pub fn new(writer: &AvroSchema, reader: &AvroSchema) -> Result<Self, SchemaError> {
        let plan = Plan::compile(writer.types(), reader.types())?;
        Ok(Self { writer: writer.clone(), plan })
    }

    /// One value, which takes up all of the body. Structs are filled by the reader's field names,
    /// `Option` by a union with null, enums by symbols or, with data, by the names of a union's branches.
    pub fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, SchemaError> {
        let mut cursor = Cursor::new(body);
        let source = Source { plan: &self.plan, writer: self.writer.types() };
        let value = T::deserialize(At { source, cursor: &mut cursor, step: self.plan.root })?;
        cursor.finish()?;
        Ok(value)
    }
}

#[derive(Clone, Copy)]
struct Source<'d> {
    plan: &'d Plan,
    writer: &'d Types,
}

/// The value that comes next.
struct At<'c, 'd> {
    source: Source<'d>,
    cursor: &'c mut Cursor<'d>,
    step: StepId,
}

impl<'c, 'd> At<'c, 'd> {
    /// Follows unions to the value itself; the name is that of the reader's branch.
    #[inline]
    fn settle(mut self) -> Result<(Self, &'d Step, Option<&'d str>), SchemaError> {
        let mut branch = None;
        loop {
            let step = self.source.plan.step(self.step);
            match step {
                Step::Union(branches) => self.step = branches[self.cursor.index("branch", branches.len())?],
                Step::Branch { name, inner } => {
                    branch = Some(&**name);
                    self.step = *inner;
                }
                Step::Fail(error) => return Err(error.clone()),
                _ => return Ok((self, step, branch)),
            }
        }
    }

    fn visit<V: Visitor<'d>>(self, step: &'d Step, visitor: V) -> Result<V::Value, SchemaError> {
        let Self { source, cursor, .. } = self;
        match step {
            Step::Null => visitor.visit_unit(),
            Step::Boolean => visitor.visit_bool(cursor.boolean()?),
            Step::Number { from, to } => number(cursor, *from, *to, visitor),
            Step::String => visitor.visit_borrowed_str(cursor.string()?),
            Step::Bytes => visitor.visit_borrowed_bytes(cursor.bytes()?),
            Step::Fixed(size) => visitor.visit_borrowed_bytes(cursor.take(*size)?),
            Step::Enum(symbols) => visitor.visit_borrowed_str(symbol(cursor, symbols)?),
            Step::Record(record) => {
                cursor.enter()?;
                let mut access = RecordAccess { source, cursor, record, next: 0, value: None };
                let value = visitor.visit_map(&mut access)?;
                access.finish()?;
                Ok(value)
            }
            Step::Array(items) => {
                cursor.enter()?;
                let mut access = BlockAccess { source, cursor, step: *items, left: 0, read: 0, ended: false };
                let value = visitor.visit_seq(&mut access)?;
                access.finish()?;
                Ok(value)
            }
            Step::Map(values) => {
                cursor.enter()?;
                let mut access = MapBlocks(BlockAccess { source, cursor, step: *values, left: 0, read: 0, ended: false }, "");
                let value = visitor.visit_map(&mut access)?;
                access.0.finish()?;
                Ok(value)
            }
            // `settle` has followed these.
            Step::Union(_) | Step::Branch { .. } | Step::Fail(_) => Err(SchemaError::decode("a union within a union")),
        }
    }
}

#[inline]
fn number<'d, V: Visitor<'d>>(cursor: &mut Cursor<'d>, from: Number, to: Number, visitor: V) -> Result<V::Value, SchemaError> {
    use Number::{Double, Float, Int, Long};
    match (from, to) {
        (Int, Int) => visitor.visit_i32(cursor.int()?),
        (Int, Float) => visitor.visit_f32(cursor.int()? as f32),
        (Int, Double) => visitor.visit_f64(f64::from(cursor.int()?)),
        (Int, Long) => visitor.visit_i64(i64::from(cursor.int()?)),
        (Long, Float) => visitor.visit_f32(cursor.long()? as f32),
        (Long, Double) => visitor.visit_f64(cursor.long()? as f64),
        (Long, _) => visitor.visit_i64(cursor.long()?),
        (Float, Double) => visitor.visit_f64(f64::from(cursor.float()?)),
        (Float, _) => visitor.visit_f32(cursor.float()?),
        (Double, _) => visitor.visit_f64(cursor.double()?),
    }
}

fn symbol<'d>(cursor: &mut Cursor<'d>, symbols: &'d Symbols) -> Result<&'d str, SchemaError> {
    match &symbols.symbols[cursor.index("symbol", symbols.symbols.len())?] {
        Ok(symbol) => Ok(symbol),
        Err(unknown) => Err(SchemaError::decode(format_args!(
            "the reader's enum {} has no symbol {unknown}, and no default",
            symbols.name
        ))),
    }
}

impl<'de> Deserializer<'de> for At<'_, 'de> {
    type Error = SchemaError;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        let (at, step, _) = self.settle()?;
        at.visit(step, visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        match self.settle()? {
            (_, Step::Null, _) => visitor.visit_none(),
            (at, _, _) => visitor.visit_some(at),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, SchemaError> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes are also a list of `u8`, which is what `Vec<u8>` asks for.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        let (at, step, _) = self.settle()?;
        let bytes = match step {
            Step::Bytes => at.cursor.bytes()?,
            Step::Fixed(size) => at.cursor.take(*size)?,
            _ => return at.visit(step, visitor),
        };
        let items = bytes.iter().map(|byte| -> U8Deserializer<SchemaError> { byte.into_deserializer() });
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        let (at, step, branch) = self.settle()?;
        let name = match (step, branch) {
            (_, Some(branch)) if variants.contains(&branch) => branch,
            (Step::Enum(symbols), _) => {
                let symbol = symbol(at.cursor, symbols)?;
                return visitor.visit_enum(BorrowedStrDeserializer::new(symbol));
            }
            (Step::String, _) => return visitor.visit_enum(BorrowedStrDeserializer::new(at.cursor.string()?)),
            // Names of primitive types begin with a small letter, variants do not.
            (_, Some(branch)) => variants.iter().find(|variant| variant.eq_ignore_ascii_case(branch)).unwrap_or(&branch),
            (_, None) => return Err(SchemaError::decode("an enum is read from an Avro enum, a string or a union")),
        };
        visitor.visit_enum(Variant { at, name })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct map struct
        identifier ignored_any
    }
}

struct RecordAccess<'c, 'd> {
    source: Source<'d>,
    cursor: &'c mut Cursor<'d>,
    record: &'d Fields,
    /// Counts through the fields and then the defaults.
    next: usize,
    value: Option<Value<'d>>,
}

/// The value whose key has been handed out.
enum Value<'d> {
    Field(&'d str, StepId),
    Default(&'d str, StepId, &'d [u8]),
}

impl<'d> RecordAccess<'_, 'd> {
    #[inline]
    fn advance(&mut self) -> Result<Option<&'d str>, SchemaError> {
        while let Some(field) = self.record.fields.get(self.next) {
            self.next += 1;
            match field {
                FieldStep::Read { name, step } => {
                    self.value = Some(Value::Field(name, *step));
                    return Ok(Some(name));
                }
                FieldStep::Skip(node) => skip(self.source.writer, *node, self.cursor)?,
            }
        }
        let Some(default) = self.record.defaults.get(self.next - self.record.fields.len()) else { return Ok(None) };
        self.next += 1;
        self.value = Some(Value::Default(&default.name, default.step, &default.bytes));
        Ok(Some(&default.name))
    }

    /// Reads on to the record's end, whatever the visitor has left.
    fn finish(mut self) -> Result<(), SchemaError> {
        while self.value.is_some() || self.advance()?.is_some() {
            self.next_value_seed(std::marker::PhantomData::<serde::de::IgnoredAny>)?;
        }
        self.cursor.leave();
        Ok(())
    }
}

impl<'d> MapAccess<'d> for RecordAccess<'_, 'd> {
    type Error = SchemaError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'d>>(&mut self, seed: K) -> Result<Option<K::Value>, SchemaError> {
        match self.advance()? {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'d>>(&mut self, seed: V) -> Result<V::Value, SchemaError> {
        let source = self.source;
        match self.value.take() {
            Some(Value::Field(name, step)) => {
                seed.deserialize(At { source, cursor: self.cursor, step }).map_err(|error| error.at(name))
            }
            Some(Value::Default(name, step, bytes)) => {
                let cursor = &mut self.cursor.nested(bytes);
                seed.deserialize(At { source, cursor, step }).map_err(|error| error.at(name))
            }
            None => Err(SchemaError::decode("a value was asked for before its key")),
        }
    }
}

/// The items of an array, block after block.
struct BlockAccess<'c, 'd> {
    source: Source<'d>,
    cursor: &'c mut Cursor<'d>,
    step: StepId,
    left: usize,
    read: usize,
    ended: bool,
}

impl<'d> BlockAccess<'_, 'd> {
    fn more(&mut self) -> Result<bool, SchemaError> {
        if self.left == 0 && !self.ended {
            self.left = self.cursor.block()?.items;
            self.ended = self.left == 0;
        }
        Ok(!self.ended)
    }

    fn item<T: DeserializeSeed<'d>>(&mut self, seed: T) -> Result<T::Value, SchemaError> {
        self.left -= 1;
        self.read += 1;
        let at = At { source: self.source, cursor: self.cursor, step: self.step };
        seed.deserialize(at).map_err(|error| error.at(self.read - 1))
    }

    fn finish(mut self) -> Result<(), SchemaError> {
        if self.more()? {
            return Err(SchemaError::decode(format_args!("there are more than {} items", self.read)));
        }
        self.cursor.leave();
        Ok(())
    }
}

impl<'d> SeqAccess<'d> for BlockAccess<'_, 'd> {
    type Error = SchemaError;

    fn next_element_seed<T: DeserializeSeed<'d>>(&mut self, seed: T) -> Result<Option<T::Value>, SchemaError> {
        if self.more()? { self.item(seed).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.cursor.remaining()))
    }
}

/// The entries of a map; the text is the key read last.
struct MapBlocks<'c, 'd>(BlockAccess<'c, 'd>, &'d str);

impl<'d> MapAccess<'d> for MapBlocks<'_, 'd> {
    type Error = SchemaError;

    fn next_key_seed<K: DeserializeSeed<'d>>(&mut self, seed: K) -> Result<Option<K::Value>, SchemaError> {
        if !self.0.more()? {
            return Ok(None);
        }
        self.1 = self.0.cursor.string()?;
        seed.deserialize(BorrowedStrDeserializer::new(self.1)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'d>>(&mut self, seed: V) -> Result<V::Value, SchemaError> {
        self.0.left -= 1;
        let at = At { source: self.0.source, cursor: self.0.cursor, step: self.0.step };
        seed.deserialize(at).map_err(|error| error.at(self.1))
    }
}

/// A union's branch as a variant that holds it.
struct Variant<'c, 'd> {
    at: At<'c, 'd>,
    name: &'d str,
}

impl<'c, 'd> EnumAccess<'d> for Variant<'c, 'd> {
    type Error = SchemaError;
    type Variant = At<'c, 'd>;

    fn variant_seed<V: DeserializeSeed<'d>>(self, seed: V) -> Result<(V::Value, At<'c, 'd>), SchemaError> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<SchemaError>::new(self.name))?;
        Ok((variant, self.at))
    }
}

impl<'d> VariantAccess<'d> for At<'_, 'd> {
    type Error = SchemaError;

    fn unit_variant(self) -> Result<(), SchemaError> {
        serde::de::Deserialize::deserialize(self).map(|_: serde::de::IgnoredAny| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'d>>(self, seed: T) -> Result<T::Value, SchemaError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'d>>(self, _length: usize, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'d>>(self, _fields: &'static [&'static str], visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_any(visitor)
    }
}

/// Passes over a value that the reader does not want.
fn skip(types: &Types, id: NodeId, cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    match types.kind(id) {
        Kind::Null => Ok(()),
        Kind::Boolean => cursor.boolean().map(|_| ()),
        Kind::Int | Kind::Long => cursor.long().map(|_| ()),
        Kind::Float => cursor.take(4).map(|_| ()),
        Kind::Double => cursor.take(8).map(|_| ()),
        Kind::Bytes | Kind::String => cursor.bytes().map(|_| ()),
        Kind::Fixed(fixed) => cursor.take(fixed.size).map(|_| ()),
        Kind::Enum(symbols) => cursor.index("symbol", symbols.symbols.len()).map(|_| ()),
        Kind::Union(branches) => {
            let index = cursor.index("branch", branches.len())?;
            skip(types, branches[index], cursor)
        }
        Kind::Record(record) => {
            cursor.enter()?;
            record.fields.iter().try_for_each(|field| skip(types, field.node, cursor))?;
            cursor.leave();
            Ok(())
        }
        Kind::Array(items) => skip_blocks(types, *items, false, cursor),
        Kind::Map(values) => skip_blocks(types, *values, true, cursor),
    }
}

fn skip_blocks(types: &Types, items: NodeId, keys: bool, cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    cursor.enter()?;
    loop {
        let block = cursor.block()?;
        if block.items == 0 {
            cursor.leave();
            return Ok(());
        }
        if let Some(size) = block.size {
            cursor.take(size)?;
            continue;
        }
        for _ in 0..block.items {
            if keys {
                cursor.bytes()?;
            }
            skip(types, items, cursor)?;
        }
    }
}
