//! `/schemas`: by id, whatever the subject.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use headwater_model::Caller;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Flags};
use super::rights;
use crate::refusal::Refusal;
use crate::state::Schema;
use crate::store::Store;

type Registry = State<Arc<Store>>;

pub async fn types() -> Answer<[&'static str; 1]> {
    Answer(["AVRO"])
}

fn find(store: &Store, id: &str) -> Result<(u32, Arc<Schema>), Refusal> {
    let number = id.parse::<u32>().map_err(|_| Refusal::BadRequest(format!("{id} is no schema id")))?;
    let schema = store.state().schema(number).cloned();
    schema.map(|schema| (number, schema)).ok_or(Refusal::IdNotFound(number))
}

pub async fn by_id(State(store): Registry, Path(id): Path<String>) -> Answered<Value> {
    let (_, schema) = find(&store, &id)?;
    let mut shown = json!({ "schema": schema.text });
    if let Some(schema_type) = &schema.schema_type {
        shown["schemaType"] = Value::from(schema_type.as_str());
    }
    Ok(Answer(shown))
}

pub async fn text_by_id(State(store): Registry, Path(id): Path<String>) -> Result<String, Refusal> {
    find(&store, &id).map(|(_, schema)| schema.text.clone())
}

pub async fn subjects(
    State(store): Registry,
    Path(id): Path<String>,
    Query(flags): Query<Flags>,
    caller: Option<Extension<Caller>>,
) -> Answered<Vec<String>> {
    let (id, _) = find(&store, &id)?;
    let state = store.state();
    let uses = state.uses(id, flags.deleted).into_iter().map(|(subject, _)| subject);
    let caller = caller.map_or_else(Caller::trusted, |Extension(caller)| caller);
    let mut subjects: Vec<String> =
        uses.filter(|subject| rights::sees(&caller, subject)).map(str::to_owned).collect();
    subjects.dedup();
    Ok(Answer(subjects))
}

pub async fn versions(
    State(store): Registry,
    Path(id): Path<String>,
    Query(flags): Query<Flags>,
    caller: Option<Extension<Caller>>,
) -> Answered<Vec<Value>> {
    let caller = caller.map_or_else(Caller::trusted, |Extension(caller)| caller);
    let (id, _) = find(&store, &id)?;
    let state = store.state();
    let uses = state.uses(id, flags.deleted);
    Ok(Answer(
        uses.into_iter()
            .filter(|(subject, _)| rights::sees(&caller, subject))
            .map(|(subject, version)| json!({ "subject": subject, "version": version }))
            .collect(),
    ))
}
