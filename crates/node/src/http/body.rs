//! The body of a request, read at once: as large, and for as long, as any request here needs, and all bodies together
//! within a limit. Only those get so far whose client is known.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::refusal;

/// A schema may have a mebibyte, and as JSON in JSON almost twice that.
const LARGEST: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Of all bodies that are being read or answered.
static TOGETHER: Semaphore = Semaphore::const_new(64 << 20);

pub async fn bounded(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        // Nothing here reads the body of such a request.
        return next.run(request.map(|_| Body::empty())).await;
    }
    let path = request.uri().path().to_owned();
    let refused = |status, why: &str| refusal::of(&path, (status, i32::from(status.as_u16())), why);
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(LARGEST);
    if length > LARGEST {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 4 MiB");
    }
    let (parts, body) = request.into_parts();
    let read = async {
        let room = TOGETHER.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await;
        (room, to_bytes(body, LARGEST).await)
    };
    let Ok((_room, read)) = tokio::time::timeout(PATIENCE, read).await else {
        return refused(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 30 s");
    };
    match read {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(_) => refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is broken off or longer than 4 MiB"),
    }
}
