//! `/subjects`: names, versions, registration, deletion.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use headwater_model::Caller;
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, Answered, Flags};
use super::rights;
use crate::decide;
use crate::refusal::Refusal;
use crate::state::Version;
use crate::store::Store;

type Registry = State<Arc<Store>>;
type VersionPath = Path<(String, String)>;

/// A version as Confluent's registry shows it; Avro's type is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    subject: String,
    version: i32,
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<String>,
    schema: String,
}

fn show(subject: &str, (number, version): (i32, &Version)) -> Shown {
    Shown {
        subject: subject.to_owned(),
        version: number,
        id: version.id,
        schema_type: version.schema.schema_type.clone(),
        schema: version.schema.text.clone(),
    }
}

pub async fn list(
    State(store): Registry,
    Query(flags): Query<Flags>,
    caller: Option<Extension<Caller>>,
) -> Answered<Vec<String>> {
    let caller = caller.map_or_else(Caller::trusted, |Extension(caller)| caller);
    let state = store.state();
    let subjects = state
        .subjects(flags.deleted || flags.deleted_only)
        .filter(|subject| subject.starts_with(&flags.subject_prefix) && rights::sees(&caller, subject));
    let wanted = |subject: &&str| !flags.deleted_only || state.versions(subject, false).is_empty();
    Ok(Answer(subjects.filter(wanted).map(str::to_owned).collect()))
}

pub async fn versions(
    State(store): Registry,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Answered<Vec<i32>> {
    let state = store.state();
    let versions = state.versions(&subject, flags.deleted || flags.deleted_only);
    let numbers: Vec<i32> = versions
        .iter()
        .filter(|(_, version)| !flags.deleted_only || version.deleted)
        .map(|(number, _)| *number)
        .collect();
    if numbers.is_empty() {
        return Err(Refusal::SubjectNotFound(subject));
    }
    Ok(Answer(numbers))
}

pub async fn register(State(store): Registry, Path(subject): Path<String>, body: Bytes) -> Answered<Value> {
    answer::check_subject(&subject)?;
    let schema = answer::schema(&body)?;
    let id = store.register(&subject, &schema).await?;
    Ok(Answer(json!({ "id": id })))
}

/// Is this schema registered under the subject?
pub async fn find(
    State(store): Registry,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Answered<Shown> {
    let schema = answer::schema(&body)?;
    let state = store.state();
    if state.versions(&subject, flags.deleted).is_empty() {
        return Err(Refusal::SubjectNotFound(subject));
    }
    let found = state.find(&subject, &schema, flags.deleted).ok_or(Refusal::SchemaNotFound)?;
    Ok(Answer(show(&subject, found)))
}

pub async fn version(
    State(store): Registry,
    Path((subject, version)): VersionPath,
    Query(flags): Query<Flags>,
) -> Answered<Shown> {
    let state = store.state();
    let found = decide::version(&state, &subject, answer::wanted(&version)?, flags.deleted)?;
    Ok(Answer(show(&subject, found)))
}

/// The schema's own text, not as a string in JSON.
pub async fn schema(
    State(store): Registry,
    Path((subject, version)): VersionPath,
    Query(flags): Query<Flags>,
) -> Result<String, Refusal> {
    let state = store.state();
    let (_, found) = decide::version(&state, &subject, answer::wanted(&version)?, flags.deleted)?;
    Ok(found.schema.text.clone())
}

/// Nothing refers to a schema here: references are refused.
pub async fn referenced_by(
    State(store): Registry,
    Path((subject, version)): VersionPath,
) -> Answered<[u32; 0]> {
    decide::version(&store.state(), &subject, answer::wanted(&version)?, false)?;
    Ok(Answer([]))
}

pub async fn delete(
    State(store): Registry,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Answered<Vec<i32>> {
    store.delete_subject(&subject, flags.permanent).await.map(Answer)
}

pub async fn delete_version(
    State(store): Registry,
    Path((subject, version)): VersionPath,
    Query(flags): Query<Flags>,
) -> Answered<i32> {
    store.delete_version(&subject, answer::wanted(&version)?, flags.permanent).await.map(Answer)
}
