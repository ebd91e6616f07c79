//! The records of `_schemas`, as Confluent's registry writes and reads them.
//!
//! Keys are JSON whose bytes matter: the topic is compacted by them, so the order of their members is
//! Confluent's. Values may carry members this registry does not know; they are kept.

use bytes::Bytes;
use headwater_schema::CompatibilityLevel;
use serde_json::{Map, Value, json};

/// What a record says. Kinds this registry does not know are `Other`.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `None` removes the version for good.
    Version {
        subject: String,
        version: i32,
        value: Option<VersionValue>,
    },
    /// `None` removes the level; no subject means all.
    Level {
        subject: Option<String>,
        level: Option<CompatibilityLevel>,
    },
    /// All versions up to this one are soft-deleted.
    DeleteSubject {
        subject: String,
        version: i32,
    },
    /// All soft-deleted versions are removed for good.
    ClearSubject {
        subject: String,
    },
    /// The highest id ever given, written when its schema is removed for good.
    HighestId(u32),
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VersionValue {
    pub id: u32,
    pub schema: String,
    /// `None` is Avro.
    pub schema_type: Option<String>,
    pub deleted: bool,
    /// All members as they were read.
    pub members: Map<String, Value>,
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// Reads a record; what cannot be understood is an error for the log, and changes nothing.
pub fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Change, String> {
    let key = key.ok_or("a record without a key")?;
    let key: Map<String, Value> =
        serde_json::from_slice(key).map_err(|error| format!("its key is no JSON object: {error}"))?;
    let value: Option<Map<String, Value>> = match value {
        None => None,
        Some(value) => {
            serde_json::from_slice(value).map_err(|error| format!("its value is no JSON object: {error}"))?
        }
    };
    let subject = key.get("subject").and_then(Value::as_str).map(str::to_owned);
    // A context has ids of its own; this registry has none.
    if subject.as_deref().is_some_and(|subject| subject.starts_with(":.")) {
        return Ok(Change::Other);
    }
    let subject_of = |kind: &str| subject.clone().ok_or_else(|| format!("a {kind} key without a subject"));
    match key.get("keytype").and_then(Value::as_str).unwrap_or_default() {
        "SCHEMA" => {
            let version = integer(&key, "version")?;
            let value = value.map(version_value).transpose()?;
            Ok(Change::Version { subject: subject_of("SCHEMA")?, version, value })
        }
        "CONFIG" => Ok(Change::Level { subject, level: value.and_then(|value| level(&value)) }),
        "DELETE_SUBJECT" => match value {
            Some(value) => Ok(Change::DeleteSubject {
                subject: subject_of("DELETE_SUBJECT")?,
                version: integer(&value, "version")?,
            }),
            None => Ok(Change::Other),
        },
        "CLEAR_SUBJECT" => Ok(Change::ClearSubject { subject: subject_of("CLEAR_SUBJECT")? }),
        "NOOP" => {
            let highest = value.and_then(|value| value.get("headwater_highest_id").and_then(Value::as_u64));
            Ok(highest.and_then(|id| u32::try_from(id).ok()).map_or(Change::Other, Change::HighestId))
        }
        _ => Ok(Change::Other),
    }
}

fn integer(object: &Map<String, Value>, member: &str) -> Result<i32, String> {
    let number = object.get(member).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
    number.ok_or_else(|| format!("its \"{member}\" is no integer"))
}

fn version_value(members: Map<String, Value>) -> Result<VersionValue, String> {
    let id = members.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let text = |member: &str| members.get(member).and_then(Value::as_str).map(str::to_owned);
    Ok(VersionValue {
        id: id.ok_or("its \"id\" is no integer")?,
        schema: text("schema").ok_or("it has no \"schema\"")?,
        schema_type: text("schemaType").filter(|name| name != "AVRO"),
        deleted: members.get("deleted").and_then(Value::as_bool).unwrap_or(false),
        members,
    })
}

fn level(value: &Map<String, Value>) -> Option<CompatibilityLevel> {
    value.get("compatibilityLevel").and_then(Value::as_str)?.parse().ok()
}

fn text(value: &str) -> Value {
    Value::from(value)
}

fn version_key(subject: &str, version: i32) -> Bytes {
    Bytes::from(format!(
        r#"{{"keytype":"SCHEMA","subject":{},"version":{version},"magic":1}}"#,
        text(subject)
    ))
}

fn subject_key(kind: &str, subject: Option<&str>) -> Bytes {
    let subject = subject.map_or(Value::Null, text);
    Bytes::from(format!(r#"{{"keytype":"{kind}","subject":{subject},"magic":0}}"#))
}

pub fn new_version(subject: &str, version: i32, id: u32, schema: &str) -> Written {
    let value =
        json!({ "subject": subject, "version": version, "id": id, "schema": schema, "deleted": false });
    Written { key: version_key(subject, version), value: Some(Bytes::from(value.to_string())) }
}

/// The version's record again, with this mark.
pub fn marked(subject: &str, version: i32, members: &Map<String, Value>, deleted: bool) -> Written {
    let mut members = members.clone();
    members.insert("deleted".to_owned(), Value::Bool(deleted));
    Written {
        key: version_key(subject, version),
        value: Some(Bytes::from(Value::Object(members).to_string())),
    }
}

pub fn removed_version(subject: &str, version: i32) -> Written {
    Written { key: version_key(subject, version), value: None }
}

pub fn deleted_subject(subject: &str, version: i32) -> Written {
    let value = json!({ "subject": subject, "version": version });
    Written { key: subject_key("DELETE_SUBJECT", Some(subject)), value: Some(Bytes::from(value.to_string())) }
}

pub fn level_of(subject: Option<&str>, level: Option<CompatibilityLevel>) -> Written {
    let value = level.map(|level| json!({ "subject": subject, "compatibilityLevel": level.name() }));
    Written { key: subject_key("CONFIG", subject), value: value.map(|value| Bytes::from(value.to_string())) }
}

/// Confluent's registry ignores the value of this key.
pub fn highest_id(id: u32) -> Written {
    let value = json!({ "headwater_highest_id": id });
    Written {
        key: Bytes::from_static(br#"{"keytype":"NOOP","magic":0}"#),
        value: Some(Bytes::from(value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(key: &str, value: Option<&str>) -> Result<Change, String> {
        read(Some(key.as_bytes()), value.map(str::as_bytes))
    }

    #[test]
    fn keys_have_confluents_bytes() {
        let written = new_version("a-value", 1, 7, "\"string\"");
        assert_eq!(&written.key[..], br#"{"keytype":"SCHEMA","subject":"a-value","version":1,"magic":1}"#);
        let global = level_of(None, Some(CompatibilityLevel::Full));
        assert_eq!(&global.key[..], br#"{"keytype":"CONFIG","subject":null,"magic":0}"#);
        let deleted = deleted_subject("a-value", 3);
        assert_eq!(&deleted.key[..], br#"{"keytype":"DELETE_SUBJECT","subject":"a-value","magic":0}"#);
    }

    #[test]
    fn what_is_written_is_read() {
        let written = new_version("s", 2, 9, "\"int\"");
        let change = read(Some(&written.key), written.value.as_deref()).unwrap();
        let Change::Version { subject, version: 2, value: Some(value) } = change else {
            panic!("{change:?}")
        };
        assert_eq!(
            (subject.as_str(), value.id, value.schema.as_str(), value.deleted),
            ("s", 9, "\"int\"", false)
        );
        let removed = removed_version("s", 2);
        let change = read(Some(&removed.key), None).unwrap();
        assert_eq!(change, Change::Version { subject: "s".into(), version: 2, value: None });
        let marker = highest_id(12);
        assert_eq!(read(Some(&marker.key), marker.value.as_deref()), Ok(Change::HighestId(12)));
    }

    #[test]
    fn foreign_records_are_passed_over() {
        assert_eq!(read_text(r#"{"keytype":"NOOP","magic":0}"#, None), Ok(Change::Other));
        assert_eq!(
            read_text(r#"{"keytype":"MODE","subject":null,"magic":0}"#, Some(r#"{"mode":"READONLY"}"#)),
            Ok(Change::Other)
        );
        assert_eq!(read_text(r#"{"keytype":"WHATEVER","magic":9}"#, Some("{}")), Ok(Change::Other));
        let context = r#"{"keytype":"SCHEMA","subject":":.other:s","version":1,"magic":1}"#;
        assert_eq!(read_text(context, Some(r#"{"id":1,"schema":"\"int\""}"#)), Ok(Change::Other));
        assert!(read_text("garbage", None).is_err());
        assert!(read(None, None).is_err());
    }
}
