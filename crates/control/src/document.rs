//! Reading TOML with positions: tables whose keys are checked, so that every complaint names its line.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::ManifestError;

/// Where a manifest's text came from, and how byte positions become lines.
pub(crate) struct Source<'a> {
    pub text: &'a str,
    pub origin: &'a str,
}

impl Source<'_> {
    /// The 1-based line of a byte position.
    pub fn line(&self, position: usize) -> usize {
        self.text.as_bytes()[..position.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count()
            + 1
    }

    pub fn syntax(&self, error: &toml::de::Error) -> ManifestError {
        let at = error.span().map_or(0, |span| span.start).min(self.text.len());
        let line_start =
            self.text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |found| found + 1);
        ManifestError::Syntax {
            origin: self.origin.into(),
            line: self.line(at),
            column: at - line_start + 1,
            message: error.message().into(),
        }
    }
}

/// One table under its name, with the keys it may have.
pub(crate) struct Section<'a, 'i> {
    source: &'a Source<'a>,
    name: String,
    line: usize,
    table: &'a DeTable<'i>,
}

impl<'a, 'i> Section<'a, 'i> {
    /// Refuses keys that are not in `known`; an empty list accepts any name (a table of named tables).
    pub fn new(
        source: &'a Source<'a>,
        name: String,
        position: usize,
        table: &'a DeTable<'i>,
        known: &[&str],
    ) -> Result<Self, ManifestError> {
        let section = Self { source, name, line: source.line(position), table };
        for key in table.keys() {
            let written = key.get_ref().as_ref();
            if !known.is_empty() && !known.contains(&written) {
                return Err(ManifestError::UnknownKey {
                    origin: source.origin.into(),
                    line: source.line(key.span().start),
                    section: section.name.into(),
                    nearest: nearest(written, known).map(Into::into),
                    key: written.into(),
                    known: known.join(", ").into(),
                });
            }
        }
        Ok(section)
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &'static str) -> ManifestError {
        ManifestError::WrongType {
            origin: self.source.origin.into(),
            line: self.source.line(value.span().start),
            section: self.name.as_str().into(),
            key: key.into(),
            expected,
            found: kind(value.get_ref()),
        }
    }

    pub fn invalid(
        &self,
        key: &str,
        value: impl Into<Box<str>>,
        reason: impl Into<Box<str>>,
    ) -> ManifestError {
        let line = self.find(key).map_or(self.line, |found| self.source.line(found.span().start));
        ManifestError::Invalid {
            origin: self.source.origin.into(),
            line,
            section: self.name.as_str().into(),
            key: key.into(),
            value: value.into(),
            reason: reason.into(),
        }
    }

    pub fn missing(&self, key: &'static str, example: &'static str) -> ManifestError {
        ManifestError::MissingKey {
            origin: self.source.origin.into(),
            line: self.line,
            section: self.name.as_str().into(),
            key,
            example,
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<String>, ManifestError> {
        self.find(key)
            .map(|value| match value.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err(self.wrong(key, value, "a string")),
            })
            .transpose()
    }

    pub fn required_text(&self, key: &'static str, example: &'static str) -> Result<String, ManifestError> {
        self.text(key)?.ok_or_else(|| self.missing(key, example))
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>, ManifestError> {
        self.find(key)
            .map(|value| match value.get_ref() {
                DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                    .map_err(|error| self.invalid(key, number.as_str(), error.to_string())),
                _ => Err(self.wrong(key, value, "an integer")),
            })
            .transpose()
    }

    /// An integer of at least `least`.
    pub fn number<T: TryFrom<i64>>(&self, key: &str, least: i64) -> Result<Option<T>, ManifestError> {
        let Some(number) = self.integer(key)? else { return Ok(None) };
        match T::try_from(number) {
            Ok(fits) if number >= least => Ok(Some(fits)),
            _ => Err(self.invalid(key, number.to_string(), format!("use a number from {least} upwards"))),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Vec<String>, ManifestError> {
        let Some(value) = self.find(key) else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong(key, value, "an array of strings"));
        };
        items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err(self.wrong(key, item, "a string")),
            })
            .collect()
    }

    /// A table of scalars as text, such as topic settings.
    pub fn settings(&self, key: &str) -> Result<BTreeMap<String, String>, ManifestError> {
        let Some(value) = self.find(key) else { return Ok(BTreeMap::new()) };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong(key, value, "a table of settings"));
        };
        table
            .iter()
            .map(|(name, value)| {
                let text = match value.get_ref() {
                    DeValue::String(text) => text.to_string(),
                    // Kafka reads decimal digits only: those of 0x10 are 16.
                    DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                        .map_or_else(|_| number.to_string(), |number| number.to_string()),
                    DeValue::Float(number) => number.as_str().to_owned(),
                    DeValue::Boolean(flag) => flag.to_string(),
                    _ => return Err(self.wrong(name.get_ref(), value, "a string, a number or a boolean")),
                };
                Ok((name.get_ref().to_string(), text))
            })
            .collect()
    }

    pub fn table(&self, key: &str, known: &[&str]) -> Result<Option<Section<'a, 'i>>, ManifestError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let DeValue::Table(table) = value.get_ref() else { return Err(self.wrong(key, value, "a table")) };
        let at = self.table.get_key_value(key).map_or(0, |(name, _)| name.span().start);
        Section::new(self.source, format!("[{key}]"), at, table, known).map(Some)
    }

    /// `[key.name]` tables by name.
    pub fn tables(&self, key: &str, known: &[&str]) -> Result<Vec<(String, Section<'a, 'i>)>, ManifestError> {
        let Some(all) = self.table(key, &[])? else { return Ok(Vec::new()) };
        all.table
            .iter()
            .map(|(name, value)| {
                let DeValue::Table(table) = value.get_ref() else {
                    return Err(all.wrong(name.get_ref(), value, "a table"));
                };
                let title = format!("[{key}.{}]", name.get_ref());
                let section = Section::new(self.source, title, name.span().start, table, known)?;
                Ok((name.get_ref().to_string(), section))
            })
            .collect()
    }

    /// `[[key]]` tables in order.
    pub fn list(&self, key: &str, known: &[&str]) -> Result<Vec<Section<'a, 'i>>, ManifestError> {
        let Some(value) = self.find(key) else { return Ok(Vec::new()) };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong(key, value, "an array of tables"));
        };
        items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(table) => {
                    Section::new(self.source, format!("[[{key}]]"), item.span().start, table, known)
                }
                _ => Err(self.wrong(key, item, "a table")),
            })
            .collect()
    }
}

/// The known key most like the written one, if any is alike at all.
fn nearest(written: &str, known: &[&str]) -> Option<String> {
    let closeness = |name: &str| strsim::jaro_winkler(written, name);
    let best = known.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)))?;
    (closeness(best) > 0.7).then(|| (*best).to_owned())
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
