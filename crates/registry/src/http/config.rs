//! `/config`: compatibility levels, and the one mode there is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use headwater_schema::CompatibilityLevel;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, Answered, Flags};
use crate::refusal::Refusal;
use crate::store::Store;

type Registry = State<Arc<Store>>;

#[derive(Deserialize)]
struct LevelBody {
    compatibility: Option<String>,
}

fn wanted_level(bytes: &Bytes) -> Result<CompatibilityLevel, Refusal> {
    let body: LevelBody = answer::body(bytes)?;
    let name = body.compatibility.unwrap_or_default();
    name.parse().map_err(|_| Refusal::InvalidLevel(name))
}

fn shown(level: CompatibilityLevel) -> Answer<Value> {
    Answer(json!({ "compatibilityLevel": level.name() }))
}

pub async fn global(State(store): Registry) -> Answer<Value> {
    shown(store.state().global_level())
}

pub async fn of_subject(
    State(store): Registry,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Answered<Value> {
    let state = store.state();
    match state.subject_level(&subject) {
        Some(level) => Ok(shown(level)),
        None if flags.default_to_global => Ok(shown(state.global_level())),
        None => Err(Refusal::LevelNotConfigured(subject)),
    }
}

pub async fn set_global(State(store): Registry, body: Bytes) -> Answered<Value> {
    let level = wanted_level(&body)?;
    store.set_level(None, Some(level)).await?;
    Ok(Answer(json!({ "compatibility": level.name() })))
}

pub async fn set_subject(
    State(store): Registry,
    Path(subject): Path<String>,
    body: Bytes,
) -> Answered<Value> {
    answer::check_subject(&subject)?;
    let level = wanted_level(&body)?;
    store.set_level(Some(&subject), Some(level)).await?;
    Ok(Answer(json!({ "compatibility": level.name() })))
}

/// Answers what held before.
pub async fn reset_global(State(store): Registry) -> Answered<Value> {
    let before = store.state().global_level();
    store.set_level(None, None).await?;
    Ok(shown(before))
}

pub async fn reset_subject(State(store): Registry, Path(subject): Path<String>) -> Answered<Value> {
    let Some(before) = store.state().subject_level(&subject) else {
        return Err(Refusal::LevelNotConfigured(subject));
    };
    store.set_level(Some(&subject), None).await?;
    Ok(shown(before))
}

pub async fn mode() -> Answer<Value> {
    Answer(json!({ "mode": "READWRITE" }))
}
