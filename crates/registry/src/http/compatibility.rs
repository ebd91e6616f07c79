//! `/compatibility`: would this schema be accepted?

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde::Serialize;

use super::answer::{self, Answer, Answered, Flags};
use crate::decide;
use crate::store::Store;

type Registry = State<Arc<Store>>;

#[derive(Serialize)]
pub struct Verdict {
    is_compatible: bool,
    /// Only when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<String>>,
}

fn verdict(reasons: Vec<String>, flags: &Flags) -> Answer<Verdict> {
    Answer(Verdict { is_compatible: reasons.is_empty(), messages: flags.verbose.then_some(reasons) })
}

/// With the versions that the subject's level looks at; anything may begin a new subject.
pub async fn with_all(
    State(store): Registry,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Answered<Verdict> {
    let schema = answer::schema(&body)?;
    let state = store.state();
    let versions = state.versions(&subject, false);
    Ok(verdict(decide::incompatibilities(state.level(&subject), &schema, &versions), &flags))
}

pub async fn with_one(
    State(store): Registry,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Answered<Verdict> {
    let wanted = answer::wanted(&version)?;
    let schema = answer::schema(&body)?;
    let state = store.state();
    let (number, found) = decide::version(&state, &subject, wanted, false)?;
    let reasons = decide::incompatibilities(state.level(&subject), &schema, &[(number, found)]);
    Ok(verdict(reasons, &flags))
}
