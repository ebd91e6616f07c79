//! Confluent's REST interface: paths, bodies and error codes.

mod answer;
mod compatibility;
mod config;
mod rights;
mod schemas;
mod subjects;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::refusal::Refusal;
use crate::store::{GONE, Store};

/// A schema may have a mebibyte, and as JSON in JSON almost twice that.
const MAX_BODY: usize = 4 << 20;

pub fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/subjects", get(subjects::list))
        .route("/subjects/{subject}", post(subjects::find).delete(subjects::delete))
        .route("/subjects/{subject}/versions", get(subjects::versions).post(subjects::register))
        .route(
            "/subjects/{subject}/versions/{version}",
            get(subjects::version).delete(subjects::delete_version),
        )
        .route("/subjects/{subject}/versions/{version}/schema", get(subjects::schema))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(subjects::referenced_by))
        .route("/schemas/types", get(schemas::types))
        .route("/schemas/ids/{id}", get(schemas::by_id))
        .route("/schemas/ids/{id}/schema", get(schemas::text_by_id))
        .route("/schemas/ids/{id}/subjects", get(schemas::subjects))
        .route("/schemas/ids/{id}/versions", get(schemas::versions))
        .route("/compatibility/subjects/{subject}/versions", post(compatibility::with_all))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(compatibility::with_one))
        .route("/config", get(config::global).put(config::set_global).delete(config::reset_global))
        .route(
            "/config/{subject}",
            get(config::of_subject).put(config::set_subject).delete(config::reset_subject),
        )
        .route("/mode", get(config::mode))
        .route("/mode/{subject}", get(config::mode))
        .route_layer(from_fn_with_state(Arc::clone(&store), rights::admit))
        .route_layer(from_fn_with_state(Arc::clone(&store), refuse_when_lost))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(store)
}

/// What is remembered of a topic that was deleted is no answer.
async fn refuse_when_lost(State(store): State<Arc<Store>>, request: Request, next: Next) -> Response {
    match store.is_lost() {
        true => Refusal::Store(GONE.to_owned()).into_response(),
        false => next.run(request).await,
    }
}
