//! What is wrong with a request, as an RFC 9457 document.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::queries::StateQueryError;

/// Seconds after which what is not available is worth another question.
const RETRY_AFTER: &str = "1";
/// How far the store had come that has not seen a position yet.
const POSITION: &str = "headwater-position";

pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    position: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), position: None }
    }

    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad query", detail)
    }
}

impl From<StateQueryError> for Problem {
    fn from(error: StateQueryError) -> Self {
        let detail = error.to_string();
        match error {
            StateQueryError::UnknownStore { .. } => Self::new(StatusCode::NOT_FOUND, "no such store", detail),
            StateQueryError::Refused { .. } => Self::bad(detail),
            StateQueryError::Unavailable { .. }
            | StateQueryError::Unreachable { .. }
            | StateQueryError::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "not available", detail),
            StateQueryError::NotYet { seen, .. } => Self {
                position: Some(seen.to_string()),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "not yet", detail)
            },
            StateQueryError::Failed { .. } | StateQueryError::Unreadable { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store failed", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank", "title": self.title, "status": self.status.as_u16(), "detail": self.detail,
        });
        let problem = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, problem, body.to_string()).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(RETRY_AFTER));
        }
        if let Some(Ok(position)) = self.position.map(header::HeaderValue::try_from) {
            headers.insert(POSITION, position);
        }
        response
    }
}
