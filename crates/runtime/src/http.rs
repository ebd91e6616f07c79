//! Questions over HTTP: health, metrics, the topology, and what the stores hold.
//!
//! Answers come from committed state only. Problems are RFC 9457 documents. Nothing here changes anything.

use std::sync::Arc;

use axum::extract::{Path, Query as Parameters, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headwater_streams::{
    KeyQuery, MultiVersionedKeyQuery, Query, QueryError, QueryableStore, RangeQuery, SessionQuery,
    StoreBackend, StoreKind, TaskId, VersionedKeyQuery, WindowRangeQuery,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::Shared;
use crate::board::Phase;
use crate::state::StoreId;

/// Rows returned unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 1000;
const LARGEST_LIMIT: usize = 100_000;

struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank", "title": self.title, "status": self.status.as_u16(), "detail": self.detail,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}

type Context = State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/topology", get(topology))
        .route("/stores", get(stores))
        .route("/stores/{store}", get(range))
        .route("/stores/{store}/{key}", get(by_key))
        .merge(crate::quarantine::routes())
        .fallback(|| async {
            let paths =
                "use /health, /ready, /metrics, /topology, /stores, /stores/{store} or /stores/{store}/{key}";
            Problem::new(StatusCode::NOT_FOUND, "no such page", paths)
        })
        .layer(from_fn_with_state(Arc::clone(&shared), as_itself))
        .with_state(shared)
}

/// The application id, in a request of whom it is for, in an answer of whom it is from: where a service answers is
/// what a catalog says, and whoever asked another one learns it.
const GROUP: &str = "headwater-group";

async fn as_itself(State(shared): Context, request: Request, next: Next) -> Response {
    let own = shared.config.application_id.as_bytes();
    let mut response = match request.headers().get(GROUP) {
        Some(meant) if meant.as_bytes() != own => {
            let detail = format!("this is {}, and the question is for another", shared.config.application_id);
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "not here", detail).into_response()
        }
        _ => next.run(request).await,
    };
    if let Ok(own) = HeaderValue::from_bytes(own) {
        response.headers_mut().insert(GROUP, own);
    }
    response
}

/// 200 as long as the processing threads live.
async fn health(State(shared): Context) -> Result<Json<Value>, Problem> {
    let phase = shared.board.phase();
    if phase == Phase::Stopped {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopped",
            "the processing threads have ended",
        ));
    }
    Ok(Json(
        json!({ "application_id": shared.config.application_id, "instance": shared.instance, "phase": phase }),
    ))
}

/// 200 once every assigned task runs; until then what is being restored.
async fn ready(State(shared): Context) -> Result<Json<Value>, Problem> {
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
    let held = || tasks.values().flat_map(|task| &task.held);
    for (name, value, help) in [
        ("tasks", tasks.len() as u64, "Tasks assigned to this instance."),
        ("standby_tasks", standbys.len() as u64, "Tasks of which this instance keeps a copy."),
        ("standby_lag", lag, "Changelog records that these copies lack."),
        ("tasks_running", running, "Tasks that are restored and run."),
        ("quarantined_keys", held().count() as u64, "Keys held in quarantine."),
        ("quarantined_records", held().map(|held| held.records).sum(), "Records held in quarantine."),
        ("restore_remaining", restoring, "Changelog records still to restore."),
        ("store_disk_bytes", disk, "Bytes that the stores use on disk."),
    ] {
        text.push_str(&format!(
            "# HELP headwater_streams_{name} {help}\n# TYPE headwater_streams_{name} gauge\n\
             headwater_streams_{name}{{application_id=\"{application_id}\"}} {value}\n"
        ));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
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
            (task.to_string(), json!({ "running": status.running, "restoring": status.restoring, "reprocessing": status.reprocessing }))
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
        "tasks": tasks,
        "standbys": standbys,
        "metrics": shared.metrics.snapshot(),
    }))
}

async fn stores(State(shared): Context) -> Json<Value> {
    let rows: Vec<Value> = shared
        .topology
        .queryable_stores()
        .into_iter()
        .filter_map(|name| {
            let store = shared.topology.queryable(&name)?;
            let subtopology = shared.topology.subtopology_of(&name);
            let tasks: Vec<String> =
                local_tasks(&shared, &name).iter().map(|(task, _)| task.to_string()).collect();
            let global = subtopology.is_none();
            Some(json!({ "store": name, "kind": store.kind(), "global": global, "tasks": tasks }))
        })
        .collect();
    Json(json!({ "stores": rows }))
}

/// The tasks of this instance that have a part of the store, and whether each one runs.
fn local_tasks(shared: &Shared, store: &str) -> Vec<(TaskId, bool)> {
    let Some(subtopology) = shared.topology.subtopology_of(store) else { return Vec::new() };
    let tasks = shared.board.tasks();
    tasks
        .iter()
        .filter(|(id, _)| id.subtopology == subtopology)
        .map(|(id, status)| (*id, status.running))
        .collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeParameters {
    key: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

impl RangeParameters {
    fn query(self, kind: StoreKind) -> Result<Query, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT).min(LARGEST_LIMIT);
        let time = |text: &Option<String>, otherwise| text.as_deref().map_or(Ok(otherwise), timestamp);
        Ok(match kind {
            StoreKind::KeyValue | StoreKind::Versioned => match self.key {
                Some(key) => Query::Key(KeyQuery { key }),
                None => Query::Range(RangeQuery { from: self.from, to: self.to, limit }),
            },
            StoreKind::Window => {
                let (from, to) = (time(&self.from, 0)?, time(&self.to, i64::MAX)?);
                Query::WindowRange(WindowRangeQuery { key: self.key, from, to, limit })
            }
            StoreKind::Session => {
                let (from, to) = (time(&self.from, 0)?, time(&self.to, i64::MAX)?);
                Query::Session(SessionQuery { key: self.key, from, to, limit })
            }
        })
    }
}

/// Milliseconds since 1970, or a moment as RFC 3339 writes it.
fn timestamp(text: &str) -> Result<i64, Problem> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms.max(0));
    }
    let moment: Result<jiff::Timestamp, _> = text.parse();
    moment.map(|moment| moment.as_millisecond().max(0)).map_err(|error| {
        let detail = format!("{text:?} is no time ({error}); use 1370044800000 or 2013-06-01T00:00:00Z");
        Problem::new(StatusCode::BAD_REQUEST, "bad time", detail)
    })
}

async fn range(
    State(shared): Context,
    Path(store): Path<String>,
    parameters: Result<Parameters<RangeParameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Parameters(parameters) = parameters.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad query", format!("{error}; use from, to, key and limit"))
    })?;
    let queryable = find(&shared, &store)?;
    let query = parameters.query(queryable.kind())?;
    let limit = match &query {
        Query::Range(RangeQuery { limit, .. })
        | Query::WindowRange(WindowRangeQuery { limit, .. })
        | Query::Session(SessionQuery { limit, .. }) => *limit,
        Query::Key(_) | Query::VersionedKey(_) | Query::MultiVersionedKey(_) => usize::MAX,
    };
    let kind = queryable.kind();
    let mut rows = answer(shared, queryable, query).await?;
    rows.truncate(limit);
    Ok(Json(json!({ "store": store, "kind": kind, "rows": rows })))
}

/// Which versions of a key are asked for; the latest if nothing is said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionParameters {
    as_of: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

impl VersionParameters {
    /// The query, and whether it asks for more than one row.
    fn query(self, key: &str, kind: StoreKind) -> Result<(Query, bool), Problem> {
        let key = key.to_owned();
        let refused = |detail: &str| Err(Problem::new(StatusCode::BAD_REQUEST, "bad query", detail));
        let time = |text: &Option<String>| text.as_deref().map(timestamp).transpose();
        let (as_of, from, to) = (time(&self.as_of)?, time(&self.from)?, time(&self.to)?);
        let versions = from.is_some() || to.is_some() || self.limit.is_some();
        match (kind, as_of) {
            (StoreKind::Versioned, Some(_)) if versions => refused("use as_of, or from, to and limit"),
            (StoreKind::Versioned, _) if versions => {
                let limit = self.limit.unwrap_or(DEFAULT_LIMIT).min(LARGEST_LIMIT);
                let (from, to) = (from.unwrap_or(0), to.unwrap_or(i64::MAX));
                Ok((Query::MultiVersionedKey(MultiVersionedKeyQuery { key, from, to, limit }), true))
            }
            (StoreKind::Versioned, as_of) => {
                Ok((Query::VersionedKey(VersionedKeyQuery { key, as_of }), false))
            }
            (_, Some(_)) => refused("as_of is for stores that keep versions"),
            (_, None) if versions => refused("from, to and limit are for stores that keep versions"),
            (kind, None) => {
                let many = matches!(kind, StoreKind::Window | StoreKind::Session);
                Ok((Query::Key(KeyQuery { key }), many))
            }
        }
    }
}

/// A key-value store answers with one row, windows and sessions with all rows of the key; a store that keeps versions with
/// the latest one, the one `as_of` a time, or all that held `from` one time `to` another.
async fn by_key(
    State(shared): Context,
    Path((store, key)): Path<(String, String)>,
    parameters: Result<Parameters<VersionParameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Parameters(parameters) = parameters.map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad query",
            format!("{error}; use as_of, or from, to and limit"),
        )
    })?;
    let queryable = find(&shared, &store)?;
    let kind = queryable.kind();
    let (query, many) = parameters.query(&key, kind)?;
    let mut rows = answer(shared, queryable, query).await?;
    if rows.is_empty() {
        let detail =
            format!("store {store:?} has no key {key:?} on this instance; see /stores for the tasks it runs");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no such key", detail));
    }
    Ok(Json(if many { json!({ "store": store, "kind": kind, "rows": rows }) } else { rows.swap_remove(0) }))
}

fn find(shared: &Shared, store: &str) -> Result<QueryableStore, Problem> {
    shared.topology.queryable(store).ok_or_else(|| {
        let known = shared.topology.queryable_stores().join(", ");
        let detail =
            format!("no store {store:?} can be queried (its Materialized needs .json()); these can: {known}");
        Problem::new(StatusCode::NOT_FOUND, "no such store", detail)
    })
}

/// Asks every local part of the store; refuses while one of them is being restored.
async fn answer(shared: Arc<Shared>, store: QueryableStore, query: Query) -> Result<Vec<Value>, Problem> {
    let name = store.name().to_owned();
    let tasks = local_tasks(&shared, &name);
    if shared.board.phase() != Phase::Running || tasks.iter().any(|(_, running)| !running) {
        return Err(restoring(&shared));
    }
    let global = shared.topology.subtopology_of(&name).is_none();
    if !global && tasks.is_empty() {
        let detail = format!("no part of store {name:?} is on this instance; ask another one of the group");
        return Err(Problem::new(StatusCode::NOT_FOUND, "not here", detail));
    }
    let work = move || -> Result<Vec<Value>, QueryError> {
        let mut parts: Vec<Box<dyn StoreBackend>> = Vec::new();
        if global {
            parts.extend(
                shared.globals.backend(&name).map(|memory| Box::new(memory) as Box<dyn StoreBackend>),
            );
        }
        for (task, _) in tasks {
            let part = shared.stores.open(&StoreId::new(task, name.as_str()));
            parts.push(part.map_err(|source| QueryError::Store { store: name.clone(), source })?);
        }
        let mut rows = Vec::new();
        for part in &parts {
            rows.extend(store.query(part.as_ref(), &query)?);
        }
        Ok(rows)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error @ (QueryError::Key { .. } | QueryError::Kind { .. }))) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad query", error.to_string()))
        }
        Ok(Err(error)) => {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "store failed", error.to_string()))
        }
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "query failed", error.to_string())),
    }
}
