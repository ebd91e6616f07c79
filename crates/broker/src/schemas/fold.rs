//! The records of `_schemas`, folded to which schema an id stands for and to which subjects it belongs.
//!
//! As in the registry itself, an id and a version stay with the schema that was first in the log: the record of a
//! registration that lost a race changes nothing. What cannot be understood changes nothing, either; the registry says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use headwater_schema::AvroSchema;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

#[derive(Default)]
pub struct Fold {
    ids: HashMap<u32, Arc<Schema>>,
    subjects: HashMap<String, BTreeMap<i32, Version>>,
}

struct Version {
    id: u32,
    deleted: bool,
}

pub struct Schema {
    text: String,
    /// `AVRO`, `JSON`, `PROTOBUF`.
    pub kind: String,
    refers: bool,
    avro: OnceLock<Option<AvroSchema>>,
}

impl Schema {
    /// `None` for another kind of schema, and for one that refers to others.
    pub fn avro(&self) -> Option<&AvroSchema> {
        if self.kind != "AVRO" || self.refers {
            return None;
        }
        self.avro.get_or_init(|| AvroSchema::parse(&self.text).ok()).as_ref()
    }

    fn is(&self, other: &Schema) -> bool {
        self.kind == other.kind
            && (self.text == other.text
                || self.avro().zip(other.avro()).is_some_and(|(a, b)| a.canonical() == b.canonical()))
    }
}

fn text<'v>(object: &'v Object, member: &str) -> Option<&'v str> {
    object.get(member)?.as_str()
}

fn number<T: TryFrom<i64>>(object: &Object, member: &str) -> Option<T> {
    T::try_from(object.get(member)?.as_i64()?).ok()
}

impl Fold {
    pub fn schema(&self, id: u32) -> Option<&Arc<Schema>> {
        self.ids.get(&id)
    }

    /// Whether a version of the subject that is not deleted has this id.
    pub fn belongs(&self, id: u32, subject: &str) -> bool {
        self.subjects
            .get(subject)
            .is_some_and(|versions| versions.values().any(|version| version.id == id && !version.deleted))
    }

    /// Some subjects that the id belongs to and that may be named, in their order.
    pub fn subjects_of(&self, id: u32, sees: impl Fn(&str) -> bool) -> Vec<String> {
        let named = |name: &&String| self.belongs(id, name) && sees(name);
        let mut all: Vec<_> = self.subjects.keys().filter(named).cloned().collect();
        all.sort_unstable();
        all.truncate(3);
        all
    }

    pub fn apply(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(key) = key.and_then(|key| serde_json::from_slice::<Object>(key).ok()) else { return };
        let value = value.and_then(|value| serde_json::from_slice::<Option<Object>>(value).ok().flatten());
        // A context has ids of its own; there is one registry here, without any.
        let Some(subject) = text(&key, "subject").filter(|name| !name.starts_with(":.")) else { return };
        match (text(&key, "keytype"), value) {
            (Some("SCHEMA"), Some(value)) => drop(self.put(subject, &key, &value)),
            (Some("SCHEMA"), None) => {
                let version = number(&key, "version").unwrap_or(-1);
                self.remove(subject, |number, _| number == version);
            }
            (Some("DELETE_SUBJECT"), Some(value)) => {
                let last = number(&value, "version").unwrap_or(-1);
                let versions = self.subjects.entry(subject.to_owned()).or_default();
                versions.range_mut(..=last).for_each(|(_, version)| version.deleted = true);
            }
            (Some("CLEAR_SUBJECT"), _) => self.remove(subject, |_, version| version.deleted),
            _ => {}
        }
    }

    fn put(&mut self, subject: &str, key: &Object, value: &Object) -> Option<()> {
        let (number, id) = (number(key, "version")?, number(value, "id")?);
        let schema = Schema {
            text: text(value, "schema")?.to_owned(),
            kind: text(value, "schemaType").unwrap_or("AVRO").to_owned(),
            refers: value.get("references").and_then(Value::as_array).is_some_and(|all| !all.is_empty()),
            avro: OnceLock::new(),
        };
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if versions.get(&number).is_some_and(|taken| taken.id != id)
            || self.ids.get(&id).is_some_and(|taken| !taken.is(&schema))
        {
            return None;
        }
        let deleted = value.get("deleted").and_then(Value::as_bool).unwrap_or(false);
        versions.insert(number, Version { id, deleted });
        self.ids.entry(id).or_insert_with(|| Arc::new(schema));
        Some(())
    }

    fn remove(&mut self, subject: &str, gone: impl Fn(i32, &Version) -> bool) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let mut removed = Vec::new();
        versions.retain(|number, version| {
            let stays = !gone(*number, version);
            removed.extend((!stays).then_some(version.id));
            stays
        });
        for id in removed {
            let mut all = self.subjects.values().flat_map(BTreeMap::values);
            if !all.any(|version| version.id == id) {
                self.ids.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(fold: &mut Fold, subject: &str, version: i32, id: u32, schema: &str, deleted: bool) {
        let key = format!(r#"{{"keytype":"SCHEMA","subject":"{subject}","version":{version},"magic":1}}"#);
        let value = serde_json::json!({ "subject": subject, "version": version, "id": id, "schema": schema, "deleted": deleted });
        fold.apply(Some(key.as_bytes()), Some(value.to_string().as_bytes()));
    }

    #[test]
    fn an_id_belongs_to_the_subjects_that_have_it_until_they_are_deleted() {
        let mut fold = Fold::default();
        put(&mut fold, "a-value", 1, 1, "\"int\"", false);
        put(&mut fold, "b-value", 1, 1, "\"int\"", false);
        put(&mut fold, "a-value", 2, 2, "\"long\"", false);
        assert!(fold.belongs(1, "a-value") && fold.belongs(1, "b-value") && !fold.belongs(2, "b-value"));
        assert_eq!(fold.subjects_of(1, |_| true), ["a-value", "b-value"]);
        assert_eq!(fold.subjects_of(1, |name| name == "b-value"), ["b-value"]);
        put(&mut fold, "a-value", 2, 2, "\"long\"", true);
        assert!(!fold.belongs(2, "a-value") && fold.schema(2).is_some(), "marked, and still known");
        let key = br#"{"keytype":"SCHEMA","subject":"a-value","version":2,"magic":1}"#;
        fold.apply(Some(key), None);
        assert!(fold.schema(2).is_none(), "removed for good");
        let key = br#"{"keytype":"DELETE_SUBJECT","subject":"a-value","magic":0}"#;
        fold.apply(Some(key), Some(br#"{"subject":"a-value","version":2}"#));
        assert!(!fold.belongs(1, "a-value") && fold.belongs(1, "b-value"));
    }

    #[test]
    fn who_came_second_for_an_id_or_a_version_changes_nothing() {
        let mut fold = Fold::default();
        put(&mut fold, "a-value", 1, 1, "\"int\"", false);
        put(&mut fold, "b-value", 1, 1, "\"string\"", false);
        assert!(!fold.belongs(1, "b-value"));
        put(&mut fold, "a-value", 1, 2, "\"string\"", false);
        assert!(fold.belongs(1, "a-value") && fold.schema(2).is_none());
        put(&mut fold, "c-value", 1, 1, r#"{"type": "int"}"#, false);
        assert!(fold.belongs(1, "c-value"), "the same schema in other words");
    }

    #[test]
    fn garbage_changes_nothing() {
        let mut fold = Fold::default();
        for (key, value) in [("x", "{}"), ("{}", "{}"), (r#"{"keytype":"SCHEMA","subject":"a"}"#, "[]")] {
            fold.apply(Some(key.as_bytes()), Some(value.as_bytes()));
        }
        fold.apply(None, None);
        assert!(fold.ids.is_empty());
    }
}
