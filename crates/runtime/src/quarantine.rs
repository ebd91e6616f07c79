//! What is held in quarantine, as the outside sees it, and requests to let it go.
//!
//! A release is asked of this instance and carried out by the threads that have the tasks; one that could not be committed is
//! repeated, unless the task has moved to another instance.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use headwater_model::Bytes;
use headwater_streams::{HeldKey, TaskId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::Shared;

/// A task, and the key; without one, all of it.
pub(crate) type Release = (TaskId, Option<Bytes>);

/// What was asked for and is not done.
#[derive(Default)]
pub(crate) struct Releases {
    asked: Mutex<Vec<Release>>,
}

impl Releases {
    /// Every change is one call, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Release>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ask(&self, releases: impl IntoIterator<Item = Release>) {
        self.lock().extend(releases);
    }

    /// Those of tasks that `mine` holds for.
    pub fn take(&self, mine: impl Fn(TaskId) -> bool) -> Vec<Release> {
        let mut asked = self.lock();
        if asked.is_empty() { Vec::new() } else { asked.extract_if(.., |(task, _)| mine(*task)).collect() }
    }
}

/// Asks for the release of a key, or of all; returns what is held of it here, by what was committed last.
pub(crate) fn release(shared: &Shared, key: Option<&[u8]>) -> Vec<(TaskId, HeldKey)> {
    let chosen = |held: &HeldKey| key.is_none() || held.key.as_deref() == key;
    let held: Vec<_> = held(shared).into_iter().filter(|(_, held)| chosen(held)).collect();
    shared.releases.ask(held.iter().map(|(task, held)| (*task, held.key.clone())));
    held
}

/// All keys that are held in the tasks of this instance.
pub(crate) fn held(shared: &Shared) -> Vec<(TaskId, HeldKey)> {
    let tasks = shared.board.tasks().into_iter();
    tasks.flat_map(|(task, status)| status.held.into_iter().map(move |held| (task, held))).collect()
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/quarantine", get(list)).route("/quarantine/release", post(let_go))
}

fn told(held: &[(TaskId, HeldKey)]) -> Value {
    let one = |(task, held): &(TaskId, HeldKey)| {
        json!({
            "task": task.to_string(),
            "key": held.key.as_ref().map(|key| String::from_utf8_lossy(key)),
            "key_hex": held.key.as_ref().map(|key| key.iter().map(|b| format!("{b:02x}")).collect::<String>()),
            "records": held.records, "bytes": held.bytes, "node": held.node, "message": held.message, "since": held.since,
        })
    };
    held.iter().map(one).collect()
}

async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "keys": told(&held(&shared)) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    key: Option<String>,
    key_hex: Option<String>,
}

async fn let_go(State(shared): State<Arc<Shared>>, Query(which): Query<Which>) -> (StatusCode, Json<Value>) {
    let refused = |status: StatusCode, detail: &str| {
        (status, Json(json!({ "type": "about:blank", "status": status.as_u16(), "detail": detail })))
    };
    // Where it is asked who they are, the door has let in nobody else.
    if shared.door.is_open() && !shared.config.http_commands {
        return refused(
            StatusCode::FORBIDDEN,
            "this instance takes no commands over HTTP: set AppConfig::http_commands, or release in the program \
             (StreamsApp::release_quarantined) or with another Quarantine::version",
        );
    }
    let key = match (which.key, which.key_hex) {
        (Some(key), None) => Some(key.into_bytes()),
        (None, Some(hex)) => match bytes(&hex) {
            Some(key) => Some(key),
            None => return refused(StatusCode::BAD_REQUEST, "key_hex is no hexadecimal text"),
        },
        (None, None) => None,
        (Some(_), Some(_)) => return refused(StatusCode::BAD_REQUEST, "use key or key_hex"),
    };
    let asked = release(&shared, key.as_deref());
    if asked.is_empty() && key.is_some() {
        return refused(StatusCode::NOT_FOUND, "nothing of that key is held here; ask the other instances");
    }
    (StatusCode::ACCEPTED, Json(json!({ "released": told(&asked) })))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?) as u8);
    hex.as_bytes().chunks(2).map(pair).collect()
}
