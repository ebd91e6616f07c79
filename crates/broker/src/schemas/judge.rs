//! What one key or value is, by the schema it names.

use std::sync::Arc;

use headwater_coordinator::SubjectStrategy;
use headwater_log::LogError;

use super::fold::{Fold, Schema};
use super::{Schemas, Unreadable};
use crate::broker::Shared;

/// Confluent's wire format: a zero byte and the id, big-endian.
const HEADER: usize = 5;
/// Of all values of a batch together, so that a few bytes cannot keep a thread busy.
const FREE: usize = 1 << 20;

/// Judges the keys or the values of one topic.
pub struct Judge<'a> {
    shared: &'a Shared,
    topic: &'a str,
    part: &'static str,
    strategy: SubjectStrategy,
    /// Whether the producer may know of a subject.
    sees: &'a dyn Fn(&str) -> bool,
    /// The id that was right last; most batches have one.
    last: Option<(u32, Arc<Schema>, String)>,
    /// Parts without bytes that the values of this batch may still have.
    free: usize,
}

/// An id that is known.
enum Named {
    Right(Arc<Schema>, String),
    Wrong(String),
}

impl<'a> Judge<'a> {
    /// `part` is `key` or `value`.
    pub fn new(
        shared: &'a Shared,
        topic: &'a str,
        (part, strategy): (&'static str, SubjectStrategy),
        sees: &'a dyn Fn(&str) -> bool,
    ) -> Self {
        Self { shared, topic, part, strategy, sees, last: None, free: FREE }
    }

    /// `Some` says what is wrong with it.
    pub fn wrong(&mut self, bytes: &[u8]) -> Result<Option<String>, Unreadable> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(Some(self.unframed("it is shorter than the 5 bytes of a schema id")));
        };
        let [0, id @ ..] = *header else {
            return Ok(Some(self.unframed("its first byte is not 0")));
        };
        let id = u32::from_be_bytes(id);
        if let Some((_, schema, subject)) = self.last.take_if(|(last, ..)| *last == id) {
            let undecodable = self.undecodable(&schema, &subject, id, body);
            self.last = Some((id, schema, subject));
            return Ok(undecodable);
        }
        let schemas: &Schemas = &self.shared.schemas;
        let (catalog, reader) = (&self.shared.catalog, &self.shared.reader);
        let named = schemas.look(catalog, reader, |fold| self.named(fold, id));
        if let Err(Unreadable::Log(LogError::Far { id, .. })) = &named {
            self.shared.cold.begin(*id);
        }
        let named = named?;
        Ok(match named {
            None => Some(format!("the {} has schema id {id}, which is registered nowhere", self.part)),
            Some(Named::Wrong(message)) => Some(message),
            Some(Named::Right(schema, subject)) => {
                let undecodable = self.undecodable(&schema, &subject, id, body);
                self.last = Some((id, schema, subject));
                undecodable
            }
        })
    }

    fn unframed(&self, why: &str) -> String {
        format!(
            "the {} names no schema: {why}; use a serializer of the schema registry, or set headwater.schema.enforce=none on {}",
            self.part, self.topic
        )
    }

    fn named(&self, fold: &Fold, id: u32) -> Option<Named> {
        let schema = fold.schema(id)?;
        let subject = match self.subject(schema) {
            Ok(subject) => subject,
            Err(why) => return Some(Named::Wrong(format!("the {} has schema id {id}: {why}", self.part))),
        };
        if fold.belongs(id, &subject) {
            return Some(Named::Right(Arc::clone(schema), subject));
        }
        Some(Named::Wrong(self.misplaced(fold, id, &subject)))
    }

    /// Names no subject that the producer may not see: of others' schemas it learns nothing by trying their ids.
    fn misplaced(&self, fold: &Fold, id: u32, subject: &str) -> String {
        let part = self.part;
        if self.strategy != SubjectStrategy::TopicName && !(self.sees)(subject) {
            return format!(
                "the {part} has schema id {id}, which no version of the subject has that goes by its record's name: register the schema there"
            );
        }
        let others = match fold.subjects_of(id, self.sees).join(", ") {
            none if none.is_empty() => String::new(),
            others => format!(" (it is one of {others})"),
        };
        format!(
            "the {part} has schema id {id}, which no version of subject {subject} has{others}: register the schema under {subject}"
        )
    }

    fn subject(&self, schema: &Schema) -> Result<String, String> {
        let name = || match schema.avro().map(|avro| avro.name()) {
            Some(Some(name)) => Ok(name.to_owned()),
            Some(None) => Err("its schema has no name, which the subject would be by".to_owned()),
            None => Err(format!("the name of a {} schema is not known here", schema.kind)),
        };
        Ok(match self.strategy {
            SubjectStrategy::TopicName => format!("{}-{}", self.topic, self.part),
            SubjectStrategy::RecordName => name()?,
            SubjectStrategy::TopicRecordName => format!("{}-{}", self.topic, name()?),
        })
    }

    /// Of other kinds than Avro, id and subject are all that is looked at.
    fn undecodable(&mut self, schema: &Schema, subject: &str, id: u32, body: &[u8]) -> Option<String> {
        let error = schema.avro()?.verify_within(body, &mut self.free).err()?;
        Some(format!("the {} is not what schema id {id} of subject {subject} says: {error}", self.part))
    }
}
