//! The body of a request, read at once: as large, and for as long, as any request here needs. Only those get so far
//! whose client is known.
//!
//! Invariant: nobody holds back others' requests by being slow. A small body needs no room but its connection's; of the
//! room for large ones a client has a part, and holds it no longer than a body of that length takes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::refusal;
use super::share::{Sender, Shares};

/// A schema may have a mebibyte, and as JSON in JSON almost twice that.
const LARGEST: usize = 4 << 20;
/// So much each connection may hold besides.
const SMALL: usize = 64 << 10;
/// Of all large bodies that are being read or answered.
const TOGETHER: usize = 32 << 20;
/// Of one client's.
const OF_ONE: usize = 2 * LARGEST;
/// For any body, and in bytes a second for what is long.
const PATIENCE: Duration = Duration::from_secs(5);
const PACE: usize = 256 << 10;
/// For room.
const WAIT: Duration = Duration::from_secs(10);

/// The room for large bodies.
pub struct Bodies {
    together: Semaphore,
    shares: Shares,
}

impl Bodies {
    pub fn new() -> Self {
        Self { together: Semaphore::new(TOGETHER), shares: Shares::new(OF_ONE) }
    }
}

/// How long a body may take.
fn patience(length: usize) -> Duration {
    PATIENCE + Duration::from_secs_f64(length as f64 / PACE as f64)
}

pub async fn bounded(
    State(bodies): State<Arc<Bodies>>,
    Extension(sender): Extension<Sender>,
    request: Request,
    next: Next,
) -> Response {
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
    // What is held until the answer is there, the client's own part first: whoever has used it up waits for itself.
    let own = bodies.shares.of(sender);
    let wanted = if length > SMALL { u32::try_from(length).unwrap_or(u32::MAX) } else { 0 };
    let room = async { (own.acquire_many(wanted).await, bodies.together.acquire_many(wanted).await) };
    let Ok(_room) = timeout(WAIT, room).await else {
        let mut busy = refused(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at once; try again");
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return busy;
    };
    let (parts, body) = request.into_parts();
    // No more than there is room for: a body in chunks may have said another length, which then does not count.
    let Ok(read) = timeout(patience(length), to_bytes(body, length)).await else {
        let why = format!("a body of this length must arrive within {:.0} s", patience(length).as_secs_f64());
        return refused(StatusCode::REQUEST_TIMEOUT, &why);
    };
    match read {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(_) => {
            let why = "the body is broken off, or longer than it says or than 4 MiB";
            refused(StatusCode::PAYLOAD_TOO_LARGE, why)
        }
    }
}
