//! Answers that have no end of their own, as the live page: they end when what proved their reader no longer counts.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

struct Until {
    body: Body,
    end: Pin<Box<Sleep>>,
}

/// Ends the answer at that moment, unless it ends before.
pub fn ended(response: Response, end: Instant) -> Response {
    response.map(|body| match hyper::body::Body::size_hint(&body).exact() {
        // It is all there; how fast it is read is up to the client.
        Some(_) => body,
        None => Body::new(Until { body, end: Box::pin(sleep_until(end)) }),
    })
}

impl hyper::body::Body for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
