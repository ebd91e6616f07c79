//! Refusals before a path is looked at: in Confluent's form where a registry's client reads them, else RFC 9457.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The first segments of the registry's paths.
const REGISTRY: &[&str] = &["subjects", "schemas", "compatibility", "config", "mode"];

const WHO: &str =
    "say who you are: the user, the password, the token or the certificate is missing or not accepted";

pub fn unauthenticated(path: &str, challenges: &[&'static str]) -> Response {
    let mut response = of(path, (StatusCode::UNAUTHORIZED, 40101), WHO);
    for challenge in challenges {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

pub fn foreign(path: &str, why: &str) -> Response {
    of(path, (StatusCode::FORBIDDEN, 40301), why)
}

pub fn of(path: &str, (status, error_code): (StatusCode, i32), why: &str) -> Response {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if !REGISTRY.contains(&first) {
        return problem(status, status.canonical_reason().unwrap_or_default(), why);
    }
    let body = json!({ "error_code": error_code, "message": why });
    let kind = "application/vnd.schemaregistry.v1+json";
    (status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response()
}

/// RFC 9457.
pub fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
