//! What operators and their tools ask by HTTP: `/health`, `/metrics`, `/api/diagnosis`.
//!
//! Refuses to wait: nothing here depends on a commit, so that it answers when the disk does not.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use headwater_broker::{Exporter, Finding, Health, Observer, Place, Severity};
use headwater_model::Caller;
use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};
use headwater_registry::Registry;

use crate::http::problem;

struct Operations {
    /// `None` when the broker is an Apache Kafka.
    observer: Option<Observer>,
    exporter: Exporter,
    registry: Registry,
}

pub fn router(observer: Option<Observer>, registry: Registry) -> Router {
    let exporter = Exporter::new(observer.clone());
    Router::new()
        .route("/health", told(|health| health.live && health.ready))
        .route("/health/live", told(|health| health.live))
        .route("/health/ready", told(|health| health.ready))
        .route("/metrics", get(metrics))
        .route("/api/diagnosis", get(diagnosis))
        .with_state(Arc::new(Operations { observer, exporter, registry }))
}

/// Tells the health of the node, which may be good.
fn told(is_good: fn(&Health) -> bool) -> MethodRouter<Arc<Operations>> {
    get(
        move |State(state): State<Arc<Operations>>,
              Extension(caller): Extension<Caller>,
              headers: HeaderMap,
              RawQuery(query): RawQuery| async move {
            let health = state.health();
            let good = is_good(&health);
            answer(health, good, wants_json(&headers, query.as_deref()), &caller)
        },
    )
}

fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted.filter_map(|value| value.to_str().ok()).any(|value| value.contains(kind))
}

fn wants_json(headers: &HeaderMap, query: Option<&str>) -> bool {
    let asked = query.is_some_and(|query| query.split('&').any(|part| part == "json" || part == "json=true"));
    asked || accepts(headers, "application/json")
}

impl Operations {
    fn health(&self) -> Health {
        let mut health = self.observer.as_ref().map_or_else(Health::without_broker, Observer::health);
        if let Some(finding) = self.registry_lost() {
            health.ready = false;
            health.findings.push(finding);
        }
        health
    }

    fn registry_lost(&self) -> Option<Finding> {
        self.registry.has_lost_its_topic().then(|| {
            let what = "the topic _schemas was deleted: the registry has no schemas any more";
            Finding::new(Severity::Failure, "registry_lost", what)
                .at(Place { topic: Some("_schemas".to_owned()), ..Place::default() })
                .why("it refuses everything (500) instead of answering from memory what a restart would not know; producers that register or look up schemas fail")
                .next("restore a backup into a new directory (headwater restore), or restart the node, which makes an empty _schemas, and register the schemas again")
        })
    }
}

/// Findings are for those who may describe the cluster; that it lives, or not, is for everybody.
fn answer(mut health: Health, is_good: bool, as_json: bool, caller: &Caller) -> Response {
    if !sees(caller) {
        health.findings.clear();
    }
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if as_json {
        return (status, Json(&health)).into_response();
    }
    let mut text = String::from(if is_good { "ok\n" } else { "" });
    for finding in &health.findings {
        let line =
            format!("{}: {}; {}. Try: {}\n", finding.severity, finding.what, finding.why, finding.next);
        text.push_str(&line);
    }
    (status, text).into_response()
}

async fn metrics(
    State(state): State<Arc<Operations>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = check(&caller) {
        return *refusal;
    }
    let openmetrics = accepts(&headers, "application/openmetrics-text");
    state.exporter.prepare().await;
    let written = tokio::task::spawn_blocking(move || state.exporter.text(openmetrics)).await;
    match written {
        Ok((kind, text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be read",
            &format!("{error}; this is an error in Headwater"),
        ),
    }
}

async fn diagnosis(State(state): State<Arc<Operations>>, Extension(caller): Extension<Caller>) -> Response {
    if let Err(refusal) = check(&caller) {
        return *refusal;
    }
    let Some(observer) = &state.observer else {
        return problem(
            StatusCode::NOT_FOUND,
            "this node has no broker of its own",
            "it runs on another Kafka (--bootstrap), which has its own tools; ask a node that runs the embedded broker",
        );
    };
    match observer.diagnose().await {
        Some(mut diagnosis) => {
            diagnosis.findings.extend(state.registry_lost());
            diagnosis.findings.sort_by_key(|finding| finding.severity);
            Json(diagnosis).into_response()
        }
        None => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the broker is stopping or has ended",
            "start the node again: headwater up",
        ),
    }
}

/// Whether the client may see how the node does.
fn sees(caller: &Caller) -> bool {
    caller.sees(Operation::Describe, ResourceType::Cluster, CLUSTER_NAME)
}

fn check(caller: &Caller) -> Result<(), Box<Response>> {
    if caller.may(Operation::Describe, ResourceType::Cluster, CLUSTER_NAME) {
        return Ok(());
    }
    let why =
        "this needs DESCRIBE on the cluster: headwater acl add --cluster --principal User:NAME -o describe";
    Err(Box::new(problem(StatusCode::FORBIDDEN, "not allowed", why)))
}
