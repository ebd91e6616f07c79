//! Routes: the overview page, its assets, its live feed and the same as JSON.

use std::convert::Infallible;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headwater_model::Caller;
use headwater_model::acl::{Operation, ResourceType};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};

use crate::events::{self, Form};
use crate::view::{self, Table};
use crate::{Inner, services};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const MOST_EVENTS: usize = 100;

pub fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/", get(overview_page))
        .route("/console/console.js", get(|| asset("text/javascript", include_str!("../assets/console.js"))))
        .route("/console/console.css", get(|| asset("text/css", include_str!("../assets/console.css"))))
        .route("/console/favicon.svg", get(|| asset("image/svg+xml", include_str!("../assets/favicon.svg"))))
        .route("/console/live", get(live))
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/streams/{topic}/latest", get(latest))
        .route("/api/v1/services/{service}/stores/{store}", get(store))
        .with_state(inner)
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage;

async fn overview_page() -> Response {
    let body = match OverviewPage.render() {
        Ok(body) => body,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let mut response = Html(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// Server-sent events: one `overview` a second, with as many streams as the table has room for; the picture comes along
/// only when it changed.
async fn live(
    State(inner): State<Arc<Inner>>,
    Query(table): Query<Table>,
    caller: Option<Extension<Caller>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let caller = known(caller);
    let mut last_graph = String::new();
    let feed = WatchStream::new(inner.observer.watch())
        .filter(|overview| overview.at_ms > 0 || overview.error.is_some());
    let events = feed.map(move |overview| {
        let mut overview = view::of(&overview, &caller);
        let chosen = table.chosen(&overview.streams);
        let more = table.cut(&mut overview.streams);
        let mut body = json!({ "overview": overview, "chosen": chosen, "more_streams": more });
        if overview.graph_svg != last_graph {
            last_graph.clone_from(&overview.graph_svg);
            body["graph"] = Value::String(last_graph.clone());
        }
        Ok(Event::default().event("overview").data(body.to_string()))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn overview(State(inner): State<Arc<Inner>>, caller: Option<Extension<Caller>>) -> Response {
    match inner.observer.seen().await {
        Ok(seen) => Json(view::of(&seen, &known(caller))).into_response(),
        Err(reason) => not_yet(&reason),
    }
}

#[derive(Deserialize)]
struct Latest {
    count: Option<usize>,
    /// Keys and values as text, as the page shows them.
    #[serde(default)]
    text: bool,
}

async fn latest(
    State(inner): State<Arc<Inner>>,
    Path(topic): Path<String>,
    Query(query): Query<Latest>,
    caller: Option<Extension<Caller>>,
) -> Response {
    if !known(caller).may(Operation::Read, ResourceType::Topic, &topic) {
        return not_allowed(&format!("the events of {topic} need READ on TOPIC {topic}"));
    }
    let count = query.count.unwrap_or(20).min(MOST_EVENTS);
    let form = if query.text { Form::Text } else { Form::Json };
    match events::latest(&inner.client, &inner.schemas, &topic, (count, form)).await {
        Ok(Some(events)) => Json(events).into_response(),
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            &format!("there is no stream {topic}; `headwater topic list` shows all"),
        ),
        Err(error) => problem(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// Passes a question on to the service that holds the store, so that the page needs one origin only.
async fn store(
    State(inner): State<Arc<Inner>>,
    Path((service, store)): Path<(String, String)>,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
    caller: Option<Extension<Caller>>,
) -> Response {
    let overview = match inner.observer.seen().await {
        Ok(seen) => seen,
        Err(reason) => return not_yet(&reason),
    };
    let Some(row) = overview.services.iter().find(|row| row.name == service) else {
        return problem(StatusCode::NOT_FOUND, &format!("no service {service} in the catalog"));
    };
    if !view::may_query(&known(caller), &row.group_id, &store) {
        let changelog = format!("{}-{store}-changelog", row.group_id);
        return not_allowed(&format!("store {store} needs READ on TOPIC {changelog}"));
    }
    let Some(base) = &row.http else {
        return problem(StatusCode::NOT_FOUND, &format!("service {service} serves no queries"));
    };
    let http = match &*inner.http {
        Ok(http) => http,
        Err(error) => return problem(StatusCode::BAD_GATEWAY, &format!("services cannot be asked: {error}")),
    };
    match services::ask(http, (base, &row.group_id), &store, query.as_deref()).await {
        Ok((status, body)) => {
            // It is data, whatever it looks like.
            let kind = (header::CONTENT_TYPE, "application/json");
            (status, [kind, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], body).into_response()
        }
        Err(refused) => problem(StatusCode::BAD_GATEWAY, &format!("service {service}: {refused}")),
    }
}

/// Who asks; whoever serves the console without a gate lets everybody see everything.
fn known(caller: Option<Extension<Caller>>) -> Caller {
    caller.map_or_else(Caller::trusted, |Extension(caller)| caller)
}

/// Nothing is known so far, which may soon be otherwise.
fn not_yet(reason: &str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, reason);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn not_allowed(detail: &str) -> Response {
    problem(StatusCode::FORBIDDEN, detail)
}

/// An RFC 9457 problem document.
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
