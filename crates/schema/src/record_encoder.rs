//! Structs to records. Fields are written in the schema's order. A value whose fields come in that order goes straight to
//! the output; a field that comes early waits in a buffer of its own.

use serde::ser::{self, Serialize};

use crate::SchemaError;
use crate::encode::{At, Encoder};
use crate::node::{Field, Record};

pub struct RecordEncoder<'e, 's> {
    pub encoder: &'e mut Encoder<'s>,
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
    pub fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), SchemaError> {
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
            return Err(SchemaError::encode(format_args!(
                "record {record} has no field {name}; add it to the schema or skip it"
            )));
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

    pub fn finish(mut self) -> Result<(), SchemaError> {
        while let Some(field) = self.record.fields.get(self.next) {
            let waiting = self.early.len();
            self.release();
            if self.early.len() < waiting {
                continue;
            }
            let Some(default) = &field.default_bytes else {
                let record = &self.record.name.full;
                return Err(SchemaError::encode(format_args!(
                    "field {} of {record} is missing and has no default",
                    field.name
                )));
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
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), SchemaError> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), SchemaError> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for RecordEncoder<'_, '_> {
    type Ok = ();
    type Error = SchemaError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), SchemaError> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), SchemaError> {
        self.finish()
    }
}
