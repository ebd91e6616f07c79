//! What `_schemas` says, as a fold over its records in their order: no clock, no I/O.
//!
//! Every node folds the same records to the same state, so who won a race is decided here. A version or
//! an id that is taken stays with the schema that was first in the log; the record that came second is
//! ignored, and its version is *contested* until the winner's record stands last under that key again
//! (compaction would otherwise keep only the loser).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use headwater_schema::{AvroSchema, CompatibilityLevel};
use serde_json::{Map, Value};

use crate::record::{Change, VersionValue};

#[derive(Debug, Default)]
pub struct State {
    subjects: BTreeMap<String, BTreeMap<i32, Version>>,
    ids: BTreeMap<u32, Stored>,
    /// The lowest id of each schema.
    by_identity: HashMap<String, u32>,
    levels: HashMap<String, CompatibilityLevel>,
    global_level: Option<CompatibilityLevel>,
    highest_id: u32,
    contested: BTreeSet<(String, i32)>,
}

#[derive(Debug, Clone)]
pub struct Version {
    pub id: u32,
    pub deleted: bool,
    pub schema: Arc<Schema>,
    /// The record's members, for writing it again.
    pub members: Map<String, Value>,
}

#[derive(Debug)]
pub struct Schema {
    pub text: String,
    /// `None` is Avro.
    pub schema_type: Option<String>,
    /// `None` when it is another type, or refers to schemas elsewhere.
    pub avro: Option<AvroSchema>,
    /// Two schemas with the same are the same.
    identity: String,
}

#[derive(Debug)]
struct Stored {
    schema: Arc<Schema>,
    /// Versions with this id.
    uses: usize,
}

impl Schema {
    fn new(value: &VersionValue) -> Self {
        let avro = match value.schema_type {
            None => AvroSchema::parse(&value.schema).ok(),
            Some(_) => None,
        };
        let identity = match (&avro, &value.schema_type) {
            (Some(avro), _) => avro.canonical().to_owned(),
            (None, schema_type) => format!("{} {}", schema_type.as_deref().unwrap_or("AVRO"), value.schema),
        };
        Self { text: value.schema.clone(), schema_type: value.schema_type.clone(), avro, identity }
    }

    pub fn is(&self, schema: &AvroSchema) -> bool {
        self.identity == schema.canonical()
    }
}

impl State {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Version { subject, version, value: Some(value) } => self.put(subject, version, value),
            Change::Version { subject, version, value: None } => self.remove(&subject, version),
            Change::Level { subject: Some(subject), level: Some(level) } => {
                self.levels.insert(subject, level);
            }
            Change::Level { subject: Some(subject), level: None } => {
                self.levels.remove(&subject);
            }
            Change::Level { subject: None, level } => self.global_level = level,
            Change::DeleteSubject { subject, version } => {
                let versions = self.subjects.entry(subject).or_default();
                versions.range_mut(..=version).for_each(|(_, version)| version.deleted = true);
            }
            Change::ClearSubject { subject } => {
                let versions = self.versions(&subject, true).into_iter();
                let gone = versions.filter(|(_, version)| version.deleted).map(|(number, _)| number);
                for number in gone.collect::<Vec<_>>() {
                    self.remove(&subject, number);
                }
            }
            Change::HighestId(id) => self.highest_id = self.highest_id.max(id),
            Change::Other => {}
        }
    }

    fn put(&mut self, subject: String, number: i32, value: VersionValue) {
        let schema = Schema::new(&value);
        let version_taken = self
            .version(&subject, number)
            .is_some_and(|v| v.id != value.id || v.schema.identity != schema.identity);
        let id_taken =
            self.ids.get(&value.id).is_some_and(|stored| stored.schema.identity != schema.identity);
        if version_taken || id_taken {
            self.contested.insert((subject, number));
            return;
        }
        self.contested.remove(&(subject.clone(), number));
        self.highest_id = self.highest_id.max(value.id);
        let versions = self.subjects.entry(subject).or_default();
        let stored = self.ids.entry(value.id).or_insert_with(|| Stored { schema: Arc::new(schema), uses: 0 });
        let version = Version {
            id: value.id,
            deleted: value.deleted,
            schema: Arc::clone(&stored.schema),
            members: value.members,
        };
        if versions.insert(number, version).is_none() {
            stored.uses += 1;
        }
        let lowest = self.by_identity.entry(stored.schema.identity.clone()).or_insert(value.id);
        *lowest = value.id.min(*lowest);
    }

    fn remove(&mut self, subject: &str, number: i32) {
        self.contested.remove(&(subject.to_owned(), number));
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let Some(version) = versions.remove(&number) else { return };
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(stored) = self.ids.get_mut(&version.id) else { return };
        stored.uses -= 1;
        if stored.uses > 0 {
            return;
        }
        self.ids.remove(&version.id);
        let identity = &version.schema.identity;
        match self.ids.iter().find(|(_, stored)| stored.schema.identity == *identity) {
            Some((id, _)) => self.by_identity.insert(identity.clone(), *id),
            None => self.by_identity.remove(identity),
        };
    }

    /// Subjects that have versions, soft-deleted ones on request.
    pub fn subjects(&self, deleted: bool) -> impl Iterator<Item = &str> {
        let visible = move |versions: &BTreeMap<i32, Version>| {
            versions.values().any(|version| deleted || !version.deleted)
        };
        self.subjects
            .iter()
            .filter(move |(_, versions)| visible(versions))
            .map(|(subject, _)| subject.as_str())
    }

    /// Oldest first.
    pub fn versions(&self, subject: &str, deleted: bool) -> Vec<(i32, &Version)> {
        let versions = self.subjects.get(subject).into_iter().flatten();
        versions
            .filter(|(_, version)| deleted || !version.deleted)
            .map(|(number, version)| (*number, version))
            .collect()
    }

    pub fn version(&self, subject: &str, number: i32) -> Option<&Version> {
        self.subjects.get(subject)?.get(&number)
    }

    pub fn schema(&self, id: u32) -> Option<&Arc<Schema>> {
        self.ids.get(&id).map(|stored| &stored.schema)
    }

    /// Where an id is used, as (subject, version).
    pub fn uses(&self, id: u32, deleted: bool) -> Vec<(&str, i32)> {
        let used = |version: &Version| version.id == id && (deleted || !version.deleted);
        let mut uses = Vec::new();
        for (subject, versions) in &self.subjects {
            uses.extend(
                versions
                    .iter()
                    .filter(|(_, version)| used(version))
                    .map(|(number, _)| (subject.as_str(), *number)),
            );
        }
        uses
    }

    pub fn id_of(&self, schema: &AvroSchema) -> Option<u32> {
        self.by_identity.get(schema.canonical()).copied()
    }

    /// The latest version of a subject that is this schema.
    pub fn find(&self, subject: &str, schema: &AvroSchema, deleted: bool) -> Option<(i32, &Version)> {
        let same = |version: &Version| version.schema.is(schema) && (deleted || !version.deleted);
        self.subjects
            .get(subject)?
            .iter()
            .rev()
            .find(|(_, version)| same(version))
            .map(|(number, version)| (*number, version))
    }

    pub fn next_version(&self, subject: &str) -> i32 {
        let last = self.subjects.get(subject).and_then(|versions| versions.keys().next_back());
        last.map_or(1, |last| last.saturating_add(1))
    }

    pub fn highest_id(&self) -> u32 {
        self.highest_id
    }

    pub fn subject_level(&self, subject: &str) -> Option<CompatibilityLevel> {
        self.levels.get(subject).copied()
    }

    pub fn global_level(&self) -> CompatibilityLevel {
        self.global_level.unwrap_or_default()
    }

    /// What holds for a subject.
    pub fn level(&self, subject: &str) -> CompatibilityLevel {
        self.subject_level(subject).unwrap_or_else(|| self.global_level())
    }

    /// Versions whose key does not end with the record that won it.
    pub fn contested(&self) -> impl Iterator<Item = (&str, i32, &Version)> {
        let winner = |(subject, number): &'_ (String, i32)| self.version(subject, *number);
        self.contested
            .iter()
            .filter_map(move |key| winner(key).map(|version| (key.0.as_str(), key.1, version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, Written};

    fn fold(records: &[Written]) -> State {
        let mut state = State::default();
        for written in records {
            state.apply(record::read(Some(&written.key), written.value.as_deref()).unwrap());
        }
        state
    }

    fn schema(text: &str) -> AvroSchema {
        AvroSchema::parse(text).unwrap()
    }

    #[test]
    fn one_schema_has_one_id_in_all_subjects() {
        let state = fold(&[
            record::new_version("a", 1, 1, "\"int\""),
            record::new_version("b", 1, 1, "{\"type\": \"int\"}"),
        ]);
        assert_eq!(state.id_of(&schema("\"int\"")), Some(1));
        assert_eq!(state.uses(1, false), [("a", 1), ("b", 1)]);
        assert!(state.contested().next().is_none());
    }

    #[test]
    fn a_version_stays_with_the_first_schema_in_the_log() {
        let first = record::new_version("s", 1, 1, "\"int\"");
        let second = record::new_version("s", 1, 1, "\"long\"");
        let mut state = fold(&[first.clone(), second]);
        assert_eq!(state.version("s", 1).unwrap().schema.text, "\"int\"");
        let contested: Vec<_> =
            state.contested().map(|(subject, number, _)| (subject.to_owned(), number)).collect();
        assert_eq!(contested, [("s".to_owned(), 1)]);
        state.apply(record::read(Some(&first.key), first.value.as_deref()).unwrap());
        assert!(state.contested().next().is_none());
    }

    #[test]
    fn an_id_stays_with_the_first_schema_in_the_log() {
        let state =
            fold(&[record::new_version("a", 1, 1, "\"int\""), record::new_version("b", 1, 1, "\"long\"")]);
        assert_eq!(state.schema(1).unwrap().text, "\"int\"");
        assert_eq!(state.id_of(&schema("\"long\"")), None);
        assert!(state.version("b", 1).is_none());
        assert_eq!(state.next_version("b"), 1);
    }

    #[test]
    fn deleting_a_subject_hides_its_versions_and_keeps_their_numbers() {
        let state = fold(&[
            record::new_version("s", 1, 1, "\"int\""),
            record::new_version("s", 2, 2, "\"long\""),
            record::deleted_subject("s", 2),
        ]);
        assert!(state.versions("s", false).is_empty());
        assert_eq!(state.versions("s", true).len(), 2);
        assert_eq!(state.subjects(false).count(), 0);
        assert_eq!(state.subjects(true).collect::<Vec<_>>(), ["s"]);
        assert_eq!(state.next_version("s"), 3);
        assert_eq!(state.id_of(&schema("\"int\"")), Some(1));
    }

    #[test]
    fn removed_ids_are_not_given_again() {
        let state = fold(&[
            record::new_version("s", 1, 5, "\"int\""),
            record::highest_id(5),
            record::removed_version("s", 1),
        ]);
        assert!(state.schema(5).is_none());
        assert_eq!((state.highest_id(), state.next_version("s")), (5, 1));
        // After compaction only the marker is left.
        assert_eq!(fold(&[record::highest_id(5)]).highest_id(), 5);
    }

    #[test]
    fn schemas_of_other_types_are_kept() {
        let key = br#"{"keytype":"SCHEMA","subject":"p","version":1,"magic":1}"#;
        let value = br#"{"subject":"p","version":1,"id":3,"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";","deleted":false}"#;
        let mut state = State::default();
        state.apply(record::read(Some(key), Some(value)).unwrap());
        assert_eq!(state.schema(3).unwrap().schema_type.as_deref(), Some("PROTOBUF"));
        assert_eq!(state.highest_id(), 3);
    }

    #[test]
    fn levels_fall_back_to_the_global_one() {
        let mut records = vec![record::level_of(None, Some(CompatibilityLevel::Full))];
        records.push(record::level_of(Some("s"), Some(CompatibilityLevel::None)));
        let state = fold(&records);
        assert_eq!(
            (state.level("s"), state.level("t")),
            (CompatibilityLevel::None, CompatibilityLevel::Full)
        );
        records.push(record::level_of(Some("s"), None));
        records.push(record::level_of(None, None));
        assert_eq!(fold(&records).level("s"), CompatibilityLevel::Backward);
    }
}
