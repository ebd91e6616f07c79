//! A schema as the rest of Headwater holds it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::node::Types;
use crate::{SchemaError, canonical, parse};

/// A parsed Avro schema. Clones share it; two are equal when their canonical texts are.
#[derive(Clone)]
pub struct AvroSchema {
    inner: Arc<Inner>,
}

struct Inner {
    text: String,
    canonical: String,
    types: Types,
}

impl AvroSchema {
    /// Parses and checks a schema: names, references, unions, and defaults against their types.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let types = parse::parse(text)?;
        let canonical = canonical::write(&types);
        Ok(Self { inner: Arc::new(Inner { text: text.to_owned(), canonical, types }) })
    }

    /// Normalised JSON, as Avro for Java prints a schema: no white space, attributes in a fixed order,
    /// each name qualified once. Documentation, defaults, aliases and attributes stay: schemas that
    /// differ in them are different schemas to a registry.
    pub fn canonical(&self) -> &str {
        &self.inner.canonical
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The full name of a record, enum or fixed.
    pub fn name(&self) -> Option<&str> {
        let types = self.types();
        types.kind(types.root).name().map(|name| name.full.as_str())
    }

    pub(crate) fn types(&self) -> &Types {
        &self.inner.types
    }
}

impl PartialEq for AvroSchema {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.canonical() == other.canonical()
    }
}

impl Eq for AvroSchema {}

impl Hash for AvroSchema {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AvroSchema").field(&self.canonical()).finish()
    }
}

impl fmt::Display for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.canonical())
    }
}

impl FromStr for AvroSchema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        Self::parse(text)
    }
}
