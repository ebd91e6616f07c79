//! Avro's binary form straight to a serde value, by a compiled [`Plan`].

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer, U8Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::access::{BlockAccess, MapBlocks, RecordAccess};
use crate::binary::Cursor;
use crate::node::Types;
use crate::plan::{Number, Plan, Step, StepId, Symbols};
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
        let value = T::deserialize(At::new(source, &mut cursor, self.plan.root))?;
        cursor.finish()?;
        Ok(value)
    }
}

#[derive(Clone, Copy)]
pub struct Source<'d> {
    plan: &'d Plan,
    pub writer: &'d Types,
}

/// The value that comes next.
pub struct At<'c, 'd> {
    source: Source<'d>,
    cursor: &'c mut Cursor<'d>,
    step: StepId,
    /// The reader's branch, once a union has been followed.
    branch: Option<&'d str>,
}

impl<'c, 'd> At<'c, 'd> {
    #[inline]
    pub fn new(source: Source<'d>, cursor: &'c mut Cursor<'d>, step: StepId) -> Self {
        Self { source, cursor, step, branch: None }
    }

    /// Follows unions to the value itself.
    #[inline]
    fn settle(mut self) -> Result<(Self, &'d Step), SchemaError> {
        loop {
            let step = self.source.plan.step(self.step);
            match step {
                Step::Union(branches) => self.step = branches[self.cursor.index("branch", branches.len())?],
                Step::Branch { name, inner } => {
                    self.branch = Some(name);
                    self.step = *inner;
                }
                Step::Fail(error) => return Err(error.clone()),
                _ => return Ok((self, step)),
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
                let mut access = RecordAccess::enter(source, cursor, record)?;
                let value = visitor.visit_map(&mut access)?;
                access.finish()?;
                Ok(value)
            }
            Step::Array(items) => {
                let mut access = BlockAccess::enter(source, cursor, *items)?;
                let value = visitor.visit_seq(&mut access)?;
                access.finish()?;
                Ok(value)
            }
            Step::Map(values) => {
                let mut access = MapBlocks::enter(source, cursor, *values)?;
                let value = visitor.visit_map(&mut access)?;
                access.finish()?;
                Ok(value)
            }
            // `settle` has followed these.
            Step::Union(_) | Step::Branch { .. } | Step::Fail(_) => {
                Err(SchemaError::decode("a union within a union"))
            }
        }
    }
}

#[inline]
fn number<'d, V: Visitor<'d>>(
    cursor: &mut Cursor<'d>,
    from: Number,
    to: Number,
    visitor: V,
) -> Result<V::Value, SchemaError> {
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
        let (at, step) = self.settle()?;
        at.visit(step, visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        match self.settle()? {
            (_, Step::Null) => visitor.visit_none(),
            (at, _) => visitor.visit_some(at),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes are also a list of `u8`, which is what `Vec<u8>` asks for.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        let (at, step) = self.settle()?;
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
        let (at, step) = self.settle()?;
        let name = match (step, at.branch) {
            (_, Some(branch)) if variants.contains(&branch) => branch,
            (Step::Enum(symbols), _) => {
                let symbol = symbol(at.cursor, symbols)?;
                return visitor.visit_enum(BorrowedStrDeserializer::new(symbol));
            }
            (Step::String, _) => {
                return visitor.visit_enum(BorrowedStrDeserializer::new(at.cursor.string()?));
            }
            // Names of primitive types begin with a small letter, variants do not.
            (_, Some(branch)) => {
                variants.iter().find(|variant| variant.eq_ignore_ascii_case(branch)).unwrap_or(&branch)
            }
            (_, None) => {
                return Err(SchemaError::decode("an enum is read from an Avro enum, a string or a union"));
            }
        };
        visitor.visit_enum(Variant { at, name })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct map struct
        identifier ignored_any
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

    fn struct_variant<V: Visitor<'d>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.deserialize_any(visitor)
    }
}
