//! Questions over HTTP: health, metrics, the topology, and what the stores hold.
//!
//! Answers come from committed state only. Problems are RFC 9457 documents. Nothing here changes anything.
//!
//! `admit` says who comes in and what they may, `parameters` reads what is asked of a store, `stores` answers it, `problem` says what is wrong.

mod admit;
mod origin;
mod parameters;
mod problem;
mod stores;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use headwater_streams::TaskId;
use serde_json::{Value, json};

use crate::app::Shared;
use crate::board::Phase;
use crate::external::TableSize;
use crate::queries::remote::{GROUP, PATH};
use admit::{Sees, admit};
use problem::Problem;

type Context = State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/topology", get(topology))
        .route("/stores", get(stores::list))
        .route("/stores/{store}", get(stores::range))
        .route("/stores/{store}/{key}", get(stores::by_key))
        .route("/stores/{store}/key/{key}", get(stores::by_key))
        .route("/stores/{store}/metadata/{key}", get(stores::metadata))
        .route(PATH, post(stores::question))
        .merge(crate::quarantine::routes())
        .fallback(|| async {
            let paths = "use /health, /ready, /metrics, /topology, /stores, /stores/{store}, \
                         /stores/{store}/key/{key} or /stores/{store}/metadata/{key}";
            Problem::new(StatusCode::NOT_FOUND, "no such page", paths)
        })
        .layer(from_fn_with_state(Arc::clone(&shared), as_itself))
        .layer(from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

/// Whoever asked another application than this one learns it.
async fn as_itself(State(shared): Context, request: Request, next: Next) -> Response {
    let own = shared.config.application_id.as_bytes();
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    if shared.door.is_open() && !origin::is_meant(shared.config.http, shared.endpoint(), host) {
        let detail = "this request came by a name that is not localhost; use http://127.0.0.1 and the same port, or say the name in application_server";
        return Problem::new(StatusCode::FORBIDDEN, "not by this name", detail).into_response();
    }
    let response = match request.headers().get(GROUP) {
        Some(meant) if meant.as_bytes() != own => {
            let detail = format!("this is {}, and the question is for another", shared.config.application_id);
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "not here", detail).into_response()
        }
        _ => next.run(request).await,
    };
    signed(&shared, response)
}

/// Says whose word an answer is.
fn signed(shared: &Shared, mut response: Response) -> Response {
    if let Ok(own) = HeaderValue::from_str(&shared.config.application_id) {
        response.headers_mut().insert(GROUP, own);
    }
    response
}

/// 200 as long as the processing threads live.
async fn health(State(shared): Context, Extension(sees): Extension<Sees>) -> Result<Json<Value>, Problem> {
    let phase = shared.board.phase();
    if phase == Phase::Stopped {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopped",
            "the processing threads have ended",
        ));
    }
    if !sees.0 {
        return Ok(Json(json!({ "phase": phase })));
    }
    Ok(Json(
        json!({ "application_id": shared.config.application_id, "instance": shared.instance, "phase": phase }),
    ))
}

/// 200 once every assigned task runs; until then what is being restored.
async fn ready(State(shared): Context, Extension(sees): Extension<Sees>) -> Result<Json<Value>, Problem> {
    if !sees.0 {
        let waiting = || {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not ready", "ask as somebody who may know more")
        };
        return if shared.board.ready() { Ok(Json(json!({ "ready": true }))) } else { Err(waiting()) };
    }
    if shared.board.ready() {
        return Ok(Json(json!({ "ready": true, "tasks": task_names(&shared) })));
    }
    Err(restoring(&shared))
}

fn restoring(shared: &Shared) -> Problem {
    let waiting: Vec<String> = shared
        .board
        .tasks()
        .iter()
        .filter(|(_, status)| !status.running)
        .map(|(task, status)| format!("task {task} ({} records to go)", status.restoring))
        .collect();
    let detail = match (shared.board.phase(), waiting.is_empty()) {
        (Phase::Stopped, _) => "the application has stopped".to_owned(),
        (_, true) => "waiting for global tables or for an assignment".to_owned(),
        (_, false) => format!("restoring {}", waiting.join(", ")),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not ready", detail)
}

fn task_names(shared: &Shared) -> Vec<String> {
    shared.board.tasks().keys().map(TaskId::to_string).collect()
}

async fn metrics(State(shared): Context) -> impl IntoResponse {
    let application_id = &shared.config.application_id;
    let mut text = shared.metrics.snapshot().prometheus(application_id);
    let stores = shared.stores.clone();
    let disk = tokio::task::spawn_blocking(move || stores.disk_bytes()).await.unwrap_or(0);
    let tasks = shared.board.tasks();
    let running = tasks.values().filter(|task| task.running).count() as u64;
    let restoring: u64 = tasks.values().map(|task| task.restoring).sum();
    let standbys = shared.board.standbys();
    let lag: u64 = standbys.values().map(|standby| standby.lag).sum();
    let skews = || tasks.values().flat_map(|task| &task.skew);
    let held = || tasks.values().flat_map(|task| &task.held);
    for (name, value, help) in [
        ("tasks", tasks.len() as u64, "Tasks assigned to this instance."),
        ("standby_tasks", standbys.len() as u64, "Tasks of which this instance keeps a copy."),
        ("standby_lag", lag, "Changelog records that these copies lack."),
        ("tasks_running", running, "Tasks that are restored and run."),
        ("quarantined_keys", held().count() as u64, "Keys held in quarantine."),
        ("quarantined_records", held().map(|held| held.records).sum(), "Records held in quarantine."),
        (
            "future_records",
            skews().map(|(_, skew)| skew.future_records).sum(),
            "Records received since the tasks were assigned that were ahead of the clock here by more than the bound.",
        ),
        (
            "unread_partitions",
            shared.unread_partitions.load(Ordering::Relaxed),
            "Partitions that input topics have got since the start: they are read from the next one on.",
        ),
        ("restore_remaining", restoring, "Changelog records still to restore."),
        ("store_disk_bytes", disk, "Bytes that the stores use on disk."),
    ] {
        text.push_str(&format!(
            "# HELP headwater_streams_{name} {help}\n# TYPE headwater_streams_{name} gauge\n\
             headwater_streams_{name}{{application_id=\"{application_id}\"}} {value}\n"
        ));
    }
    let name = "headwater_streams_external_store_bytes";
    let sizes = external_sizes(&shared).await.unwrap_or_default();
    if !sizes.is_empty() {
        text.push_str(&format!(
            "# HELP {name} What a store takes in its database (reserved), and its rows of that, of all instances.\n# TYPE {name} gauge\n"
        ));
    }
    for TableSize { store, table, reserved_bytes, used_bytes } in sizes {
        for (part, bytes) in [("reserved", Some(reserved_bytes)), ("rows", used_bytes)] {
            let Some(bytes) = bytes else { continue };
            text.push_str(&format!(
                "{name}{{application_id=\"{application_id}\",store=\"{store}\",table=\"{table}\",of=\"{part}\"}} {bytes}\n"
            ));
        }
    }
    let name = "headwater_streams_clock_ahead_ms";
    text.push_str(&format!(
        "# HELP {name} The most that a record's time was ahead of the clock here, by input partition.\n# TYPE {name} gauge\n"
    ));
    for (input, skew) in skews() {
        let ahead = skew.ahead_ms;
        text.push_str(&format!("{name}{{application_id=\"{application_id}\",input=\"{input}\"}} {ahead}\n"));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// How large the tables of external stores are, as the database says.
async fn external_sizes(shared: &Shared) -> Result<Vec<TableSize>, String> {
    let Some(external) = shared.config.external.clone() else { return Ok(Vec::new()) };
    let id = shared.config.application_id.clone();
    let asked = tokio::task::spawn_blocking(move || external.database().sizes(&id)).await;
    asked.map_err(|ended| ended.to_string())?.map_err(|error| error.to_string())
}

/// Where external stores are, what becomes of them there and how large they are; null without any.
async fn external(shared: &Shared) -> Value {
    let Some(external) = &shared.config.external else { return Value::Null };
    let database = external.database();
    let mut told = json!({ "database": database.name(), "durability": database.durability() });
    match external_sizes(shared).await {
        Ok(sizes) => {
            let size = |of: &TableSize| json!({ "store": of.store, "table": of.table, "reserved_bytes": of.reserved_bytes, "used_bytes": of.used_bytes });
            told["stores"] = sizes.iter().map(size).collect();
        }
        Err(error) => told["error"] = error.into(),
    }
    told
}

/// The topology's description, with committed record counts per node and the state of this instance's tasks.
async fn topology(State(shared): Context) -> Json<Value> {
    let tasks = shared.board.tasks();
    let mut counts = serde_json::Map::new();
    for status in tasks.values() {
        for (node, count) in &status.node_counts {
            let sum = counts.get(node).and_then(Value::as_u64).unwrap_or(0) + count;
            counts.insert(node.clone(), sum.into());
        }
    }
    let tasks: serde_json::Map<String, Value> = tasks
        .iter()
        .map(|(task, status)| {
            (task.to_string(), json!({ "running": status.running, "restoring": status.restoring, "reprocessing": status.reprocessing, "skew": status.skew }))
        })
        .collect();
    let standbys: serde_json::Map<String, Value> = shared
        .board
        .standbys()
        .iter()
        .map(|(task, status)| (task.to_string(), json!({ "lag": status.lag })))
        .collect();
    Json(json!({
        "application_id": shared.config.application_id,
        "instance": shared.instance,
        "topology": shared.topology.describe(),
        "counts": counts,
        "paused": shared.is_paused(),
        "tasks": tasks,
        "standbys": standbys,
        "external": external(&shared).await,
        "metrics": shared.metrics.snapshot(),
    }))
}
