//! Records, arrays and maps, as serde walks through them.

use std::marker::PhantomData;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};

use crate::SchemaError;
use crate::binary::Cursor;
use crate::decode::{At, Source};
use crate::plan::{FieldStep, Fields, StepId};
use crate::skip::skip;

pub struct RecordAccess<'c, 'd> {
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

impl<'c, 'd> RecordAccess<'c, 'd> {
    pub fn enter(
        source: Source<'d>,
        cursor: &'c mut Cursor<'d>,
        record: &'d Fields,
    ) -> Result<Self, SchemaError> {
        cursor.enter()?;
        Ok(Self { source, cursor, record, next: 0, value: None })
    }

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
        let Some(default) = self.record.defaults.get(self.next - self.record.fields.len()) else {
            return Ok(None);
        };
        self.next += 1;
        self.value = Some(Value::Default(&default.name, default.step, &default.bytes));
        Ok(Some(&default.name))
    }

    /// Reads on to the record's end, whatever the visitor has left.
    pub fn finish(mut self) -> Result<(), SchemaError> {
        while self.value.is_some() || self.advance()?.is_some() {
            self.next_value_seed(PhantomData::<IgnoredAny>)?;
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
                seed.deserialize(At::new(source, self.cursor, step)).map_err(|error| error.at(name))
            }
            Some(Value::Default(name, step, bytes)) => {
                let cursor = &mut self.cursor.nested(bytes);
                seed.deserialize(At::new(source, cursor, step)).map_err(|error| error.at(name))
            }
            None => Err(SchemaError::decode("a value was asked for before its key")),
        }
    }
}

/// The items of an array, block after block.
pub struct BlockAccess<'c, 'd> {
    source: Source<'d>,
    cursor: &'c mut Cursor<'d>,
    step: StepId,
    left: usize,
    read: usize,
    ended: bool,
}

impl<'c, 'd> BlockAccess<'c, 'd> {
    pub fn enter(source: Source<'d>, cursor: &'c mut Cursor<'d>, step: StepId) -> Result<Self, SchemaError> {
        cursor.enter()?;
        Ok(Self { source, cursor, step, left: 0, read: 0, ended: false })
    }

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
        let at = At::new(self.source, self.cursor, self.step);
        seed.deserialize(at).map_err(|error| error.at(self.read - 1))
    }

    pub fn finish(mut self) -> Result<(), SchemaError> {
        if self.more()? {
            return Err(SchemaError::decode(format_args!("there are more than {} items", self.read)));
        }
        self.cursor.leave();
        Ok(())
    }
}

impl<'d> SeqAccess<'d> for BlockAccess<'_, 'd> {
    type Error = SchemaError;

    fn next_element_seed<T: DeserializeSeed<'d>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, SchemaError> {
        if self.more()? { self.item(seed).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.cursor.remaining()))
    }
}

/// The entries of a map; the text is the key read last.
pub struct MapBlocks<'c, 'd>(BlockAccess<'c, 'd>, &'d str);

impl<'c, 'd> MapBlocks<'c, 'd> {
    pub fn enter(source: Source<'d>, cursor: &'c mut Cursor<'d>, step: StepId) -> Result<Self, SchemaError> {
        BlockAccess::enter(source, cursor, step).map(|blocks| Self(blocks, ""))
    }

    pub fn finish(self) -> Result<(), SchemaError> {
        self.0.finish()
    }
}

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
        let at = At::new(self.0.source, self.0.cursor, self.0.step);
        seed.deserialize(at).map_err(|error| error.at(self.1))
    }
}
