//! What the stores hold, on whichever instance.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Context;
use super::parameters::{Extracted, Wanted};
use super::problem::Problem;
use crate::app::Shared;
use crate::balance::names;
use crate::queries::ask::{Ask, Role, Told};
use crate::queries::remote::FORWARDED;
use crate::queries::{KeyQueryMetadata, Merged, route};

/// Who has answered: `host:port`, or several.
const HOST: &str = "headwater-host";
/// `active`, `standby` or `global`; `standby` if any part came from a copy.
const ROLE: &str = "headwater-role";
/// Changelog records that copies lacked, all together.
const LAG: &str = "headwater-lag";
/// Milliseconds since the copy that is furthest behind had everything.
const STALENESS: &str = "headwater-staleness-ms";
/// What the state had seen.
const POSITION: &str = "headwater-position";

/// The stores, which tasks of them are here, and where the others are.
pub(super) async fn list(State(shared): Context) -> Json<Value> {
    let rows: Vec<Value> = shared
        .topology
        .queryable_stores()
        .into_iter()
        .filter_map(|name| {
            let store = shared.topology.queryable(&name)?;
            let subtopology = shared.topology.subtopology_of(&name);
            let own = |task: &&headwater_streams::TaskId| Some(task.subtopology) == subtopology;
            let (tasks, standbys) = (shared.board.tasks(), shared.board.standbys());
            Some(json!({
                "store": name,
                "kind": store.kind(),
                "global": subtopology.is_none(),
                "partitions": shared.tasks.keys().filter(own).count(),
                "tasks": names(tasks.keys().filter(own)),
                "standbys": names(standbys.keys().filter(own)),
            }))
        })
        .collect();
    Json(json!({
        "application_server": shared.endpoint(), "stores": rows, "instances": shared.hosts.all(),
    }))
}

/// Rows of a store, in the order of key and time.
pub(super) async fn range(
    State(shared): Context,
    Path(store): Path<String>,
    parameters: Extracted,
) -> Result<Response, Problem> {
    let wanted = Wanted::of(parameters)?;
    let kind = route::find(&shared, &store)?.kind();
    let ask = wanted.rows(&store, kind)?;
    let merged = answer(&shared, &ask).await?;
    Ok(signed(&merged, many(&store, &merged, json!(kind))))
}

/// A key-value store answers with one row, windows and sessions with all rows of the key; a store that keeps versions with
/// the latest one, the one `as_of` a time, or all that held `from` one time `to` another.
pub(super) async fn by_key(
    State(shared): Context,
    Path((store, key)): Path<(String, String)>,
    parameters: Extracted,
) -> Result<Response, Problem> {
    let wanted = Wanted::of(parameters)?;
    let kind = route::find(&shared, &store)?.kind();
    let (ask, may_be_many) = wanted.of_key(&store, key.clone(), kind)?;
    let mut merged = answer(&shared, &ask).await?;
    if merged.rows.is_empty() {
        let detail = format!("store {store:?} has no row of key {key:?} that was asked for");
        return Ok(signed(&merged, Problem::new(StatusCode::NOT_FOUND, "no such key", detail)));
    }
    if may_be_many {
        return Ok(signed(&merged, many(&store, &merged, json!(kind))));
    }
    let row = merged.rows.swap_remove(0);
    Ok(signed(&merged, Json(row)))
}

/// Who has a key (KIP-535).
pub(super) async fn metadata(
    State(shared): Context,
    Path((store, key)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let queryable = route::find(&shared, &store)?;
    let Some(task) = route::task_of(&shared, &queryable, &key)? else {
        return Ok(Json(json!({ "store": store, "global": true })));
    };
    let KeyQueryMetadata { active_host, standby_hosts, partition } = shared.hosts.of(task);
    Ok(Json(json!({
        "store": store,
        "task": task.to_string(),
        "partition": partition,
        "active_host": active_host,
        "standby_hosts": standby_hosts,
    })))
}

/// A question as another instance or a program asks it.
pub(super) async fn question(
    State(shared): Context,
    headers: HeaderMap,
    ask: Result<Json<Ask>, JsonRejection>,
) -> Result<Json<Told>, Problem> {
    let Json(ask) = ask.map_err(|error| {
        Problem::bad(format!("{error}; are both sides of one version? Programs use headwater's Queries"))
    })?;
    Ok(Json(route::answer(&shared, &ask, headers.contains_key(FORWARDED)).await?))
}

async fn answer(shared: &Arc<Shared>, ask: &Ask) -> Result<Merged, Problem> {
    Ok(Merged::of(route::answer(shared, ask, false).await?, ask.limit())?)
}

fn many(store: &str, merged: &Merged, kind: Value) -> Json<Value> {
    let mut body = Map::new();
    body.insert("store".to_owned(), json!(store));
    body.insert("kind".to_owned(), kind);
    body.insert("rows".to_owned(), json!(merged.rows));
    if let Some(next) = &merged.next {
        body.insert("next".to_owned(), json!(next));
    }
    Json(Value::Object(body))
}

/// Says who has answered, and how far that state is.
fn signed(merged: &Merged, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let infos = || merged.infos.values();
    let role = match infos().map(|info| info.role).max_by_key(|role| *role == Role::Standby) {
        Some(Role::Standby) => "standby",
        Some(Role::Global) => "global",
        _ => "active",
    };
    let mut hosts: Vec<&str> = infos().filter_map(|info| info.host.as_deref()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let lag = infos().filter_map(|info| info.lag).reduce(u64::saturating_add).map(|lag| lag.to_string());
    let staleness = infos().filter_map(|info| info.staleness_ms).max().map(|ms| ms.to_string());
    let position = Some(merged.position()).filter(|position| !position.is_empty());
    let headers = response.headers_mut();
    for (name, value) in [
        (ROLE, Some(role.to_owned())),
        (HOST, Some(hosts.join(", ")).filter(|hosts| !hosts.is_empty())),
        (LAG, lag),
        (STALENESS, staleness),
        (POSITION, position.map(|position| position.to_string())),
    ] {
        // What is no header is an address that somebody made up; the answer is as good without it.
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
    response
}
