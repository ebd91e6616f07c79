//! What a request means in a state: an answer, the records to write, or a refusal. Pure.

use headwater_schema::{AvroSchema, CompatibilityLevel, check};

use crate::record::{self, Written};
use crate::refusal::Refusal;
use crate::state::{State, Version};

/// Kafka refuses records of more than a mebibyte by default; JSON in JSON needs room for its escapes.
const MAX_RECORD: usize = 1_000_000;

/// A version that a subject is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Latest,
    Number(i32),
}

#[derive(Debug)]
pub enum Registration {
    /// The schema is there.
    Known(u32),
    New {
        version: i32,
        id: u32,
        record: Written,
    },
}

pub fn register(state: &State, subject: &str, schema: &AvroSchema) -> Result<Registration, Refusal> {
    if let Some((_, version)) = state.find(subject, schema, false) {
        return Ok(Registration::Known(version.id));
    }
    let level = state.level(subject);
    let reasons = incompatibilities(level, schema, &state.versions(subject, false));
    if !reasons.is_empty() {
        return Err(Refusal::Incompatible { subject: subject.to_owned(), reasons });
    }
    let id = match state.id_of(schema) {
        Some(id) => id,
        None => state
            .highest_id()
            .checked_add(1)
            .ok_or_else(|| Refusal::Store("all schema ids are used up".to_owned()))?,
    };
    let version = state.next_version(subject);
    let record = record::new_version(subject, version, id, schema.canonical());
    let size = record.key.len() + record.value.as_ref().map_or(0, |value| value.len());
    if size > MAX_RECORD {
        return Err(Refusal::InvalidSchema(format!(
            "its record would have {size} bytes, more than the limit of {MAX_RECORD}"
        )));
    }
    Ok(Registration::New { version, id, record })
}

/// Why a schema may not follow these versions (oldest first), as messages; the newest version comes first.
pub fn incompatibilities(
    level: CompatibilityLevel,
    schema: &AvroSchema,
    versions: &[(i32, &Version)],
) -> Vec<String> {
    if level == CompatibilityLevel::None {
        return Vec::new();
    }
    let counted =
        if level.is_transitive() { versions } else { &versions[versions.len().saturating_sub(1)..] };
    let mut reasons = Vec::new();
    for (number, version) in counted.iter().rev() {
        let Some(old) = &version.schema.avro else {
            let schema_type = version.schema.schema_type.as_deref().unwrap_or("AVRO with references");
            reasons.push(format!(
                "version {number} is {schema_type}, which Avro cannot be compared with ({level})"
            ));
            continue;
        };
        let found = check(level, schema, std::slice::from_ref(old));
        reasons.extend(found.iter().map(|problem| format!("{problem} (version {number}, {level})")));
    }
    reasons
}

/// The version asked for; without one, whether it is the subject or the version that is not there.
pub fn version<'s>(
    state: &'s State,
    subject: &str,
    wanted: Wanted,
    deleted: bool,
) -> Result<(i32, &'s Version), Refusal> {
    let visible = state.versions(subject, deleted);
    let Some((latest, _)) = visible.last() else { return Err(Refusal::SubjectNotFound(subject.to_owned())) };
    let number = match wanted {
        Wanted::Latest => *latest,
        Wanted::Number(number) => number,
    };
    match state.version(subject, number) {
        Some(version) if deleted || !version.deleted => Ok((number, version)),
        _ => Err(Refusal::VersionNotFound(number.to_string())),
    }
}

/// The versions that go, and the records that do it.
pub fn delete_subject(
    state: &State,
    subject: &str,
    permanent: bool,
) -> Result<(Vec<i32>, Vec<Written>), Refusal> {
    let all = state.versions(subject, true);
    let Some((last, _)) = all.last() else { return Err(Refusal::SubjectNotFound(subject.to_owned())) };
    let live: Vec<i32> =
        all.iter().filter(|(_, version)| !version.deleted).map(|(number, _)| *number).collect();
    if permanent {
        if !live.is_empty() {
            return Err(Refusal::SubjectNotSoftDeleted(subject.to_owned()));
        }
        let numbers: Vec<i32> = all.iter().map(|(number, _)| *number).collect();
        let mut records = vec![record::highest_id(state.highest_id())];
        records.extend(numbers.iter().map(|number| record::removed_version(subject, *number)));
        return Ok((numbers, records));
    }
    if live.is_empty() {
        return Err(Refusal::SubjectSoftDeleted(subject.to_owned()));
    }
    let mut records = vec![record::deleted_subject(subject, *last)];
    if state.subject_level(subject).is_some() {
        records.push(record::level_of(Some(subject), None));
    }
    Ok((live, records))
}

/// The version's number, and the records that delete it.
pub fn delete_version(
    state: &State,
    subject: &str,
    wanted: Wanted,
    permanent: bool,
) -> Result<(i32, Vec<Written>), Refusal> {
    if state.versions(subject, true).is_empty() {
        return Err(Refusal::SubjectNotFound(subject.to_owned()));
    }
    let number = match wanted {
        Wanted::Number(number) => number,
        Wanted::Latest => version(state, subject, Wanted::Latest, permanent)?.0,
    };
    let version =
        state.version(subject, number).ok_or_else(|| Refusal::VersionNotFound(number.to_string()))?;
    match (permanent, version.deleted) {
        (true, true) => Ok((
            number,
            vec![record::highest_id(state.highest_id()), record::removed_version(subject, number)],
        )),
        (true, false) => Err(Refusal::VersionNotSoftDeleted(subject.to_owned(), number)),
        (false, true) => Err(Refusal::VersionSoftDeleted(subject.to_owned(), number)),
        (false, false) => Ok((number, vec![record::marked(subject, number, &version.members, true)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(state: &mut State, records: &[Written]) {
        for written in records {
            state.apply(record::read(Some(&written.key), written.value.as_deref()).unwrap());
        }
    }

    fn record_schema(fields: &str) -> AvroSchema {
        AvroSchema::parse(&format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)).unwrap()
    }

    fn registered(state: &mut State, subject: &str, schema: &AvroSchema) -> u32 {
        match register(state, subject, schema).unwrap() {
            Registration::Known(id) => id,
            Registration::New { id, record, .. } => {
                apply(state, &[record]);
                id
            }
        }
    }

    #[test]
    fn a_schema_keeps_its_id() {
        let mut state = State::default();
        let (one, two) = (record_schema(""), record_schema(r#"{"name":"a","type":"int","default":0}"#));
        assert_eq!(registered(&mut state, "s", &one), 1);
        assert_eq!(registered(&mut state, "s", &two), 2);
        assert_eq!(registered(&mut state, "s", &one), 1);
        assert_eq!(registered(&mut state, "t", &two), 2);
        assert_eq!(state.next_version("s"), 3);
    }

    #[test]
    fn an_incompatible_schema_is_refused_with_its_reasons() {
        let mut state = State::default();
        registered(&mut state, "s", &record_schema(""));
        let refused = register(&state, "s", &record_schema(r#"{"name":"a","type":"int"}"#)).unwrap_err();
        assert_eq!(refused.codes(), (409, 409));
        let text = refused.to_string();
        assert!(
            text.contains("READER_FIELD_MISSING_DEFAULT_VALUE at /fields/0")
                && text.contains("(version 1, BACKWARD)"),
            "{text}"
        );
    }

    #[test]
    fn a_deleted_version_is_registered_again_as_a_new_version_with_its_old_id() {
        let mut state = State::default();
        let schema = record_schema("");
        registered(&mut state, "s", &schema);
        let (versions, records) = delete_subject(&state, "s", false).unwrap();
        assert_eq!(versions, [1]);
        apply(&mut state, &records);
        assert_eq!(delete_subject(&state, "s", false).unwrap_err().codes().1, 40404);
        assert_eq!(registered(&mut state, "s", &schema), 1);
        assert_eq!(state.versions("s", false).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_is_deleted_for_good_was_deleted_softly_before() {
        let mut state = State::default();
        registered(&mut state, "s", &record_schema(""));
        assert_eq!(delete_subject(&state, "s", true).unwrap_err().codes().1, 40405);
        assert_eq!(delete_version(&state, "s", Wanted::Latest, true).unwrap_err().codes().1, 40407);
        let (_, records) = delete_version(&state, "s", Wanted::Latest, false).unwrap();
        apply(&mut state, &records);
        assert_eq!(delete_version(&state, "s", Wanted::Number(1), false).unwrap_err().codes().1, 40406);
        let (_, records) = delete_version(&state, "s", Wanted::Number(1), true).unwrap();
        apply(&mut state, &records);
        assert_eq!(delete_version(&state, "s", Wanted::Number(1), true).unwrap_err().codes().1, 40401);
        assert_eq!(registered(&mut state, "s", &record_schema("")), 2);
    }
}
