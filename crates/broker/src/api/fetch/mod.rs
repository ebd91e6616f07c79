//! Fetch: a long poll that finds records in the log directly, without the engine.
//!
//! A request becomes the list of partitions it asks for ([`asked`]), in a session or not ([`sessions`]); the
//! list is looked at until there is enough ([`poll`]); what was found is written around the places where the
//! records are ([`scatter`]). The records themselves are never read here.

mod asked;
mod poll;
mod scatter;
mod session;
mod sessions;

use std::sync::Arc;

use bytes::Bytes;
use headwater_coordinator::QuotaKey;
use headwater_wire::ErrorCode;
use headwater_wire::messages::FetchRequestData;
use tokio::time::Instant;

use self::asked::{Asked, Limits, forgotten};
use self::scatter::Response;
pub use self::sessions::Sessions;
use super::spending::timed;
use super::{Call, CallError, Outgoing, Serving};

/// From here on a topic is named by its id.
const TOPIC_IDS: i16 = 13;

pub fn serve(call: Call, mut body: Bytes) -> Serving {
    Box::pin(async move {
        let request =
            FetchRequestData::read(&mut body, call.version).map_err(|error| call.malformed(error))?;
        drop(body);
        let (response, spent) = timed(call.is_timed(), fetch(&call, request)).await;
        let throttle = call.settle(spent);
        response.write(&call, throttle).map(Some)
    })
}

async fn fetch(call: &Call, request: FetchRequestData) -> Response {
    let (shared, now) = (&call.shared, Instant::now());
    let by_id = call.version >= TOPIC_IDS;
    let mut limits = Limits::of(&request, &shared.config, now);
    // More than a quota lets through at once would make the client wait for nothing.
    limits.lower(call.most_at_once(QuotaKey::ConsumerByteRate));
    let opening = sessions::Opening {
        owner: Arc::clone(&call.principal),
        id: request.session_id,
        epoch: request.session_epoch,
        by_id,
        forgotten: forgotten(&request),
        asked: Asked::all(request.topics),
    };
    let (context, asked) = match shared.fetch_sessions.open(opening, now) {
        Ok(opened) => opened,
        Err(code) => return Response::refused(code),
    };
    let poll = poll::Poll::new(call, asked, by_id, limits);
    let found = poll::prepare(shared, poll.run(shared).await).await;
    let answers = poll.answers(found);
    match call.may_bring(context.size(&answers)) {
        true => shared.fetch_sessions.close(context, answers, Instant::now()),
        false => context.hold_back(),
    }
}

impl Response {
    fn write(self, call: &Call, throttle: i32) -> Result<Outgoing, CallError> {
        let mut outgoing = call.begin(self.room());
        let written =
            self.scatter(&mut outgoing, call.version, throttle).map_err(|error| call.unwritable(error));
        written.and_then(|()| outgoing.seal().ok_or(CallError::TooLong { key: call.key }))
    }

    fn refused(code: ErrorCode) -> Self {
        Self { code, session_id: sessions::NONE, answers: Vec::new() }
    }
}
