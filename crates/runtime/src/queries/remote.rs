//! Asks another instance of the group for what it has: one hop, and no further.

use std::time::Duration;

use axum::http::StatusCode;
use headwater_streams::TaskId;
use serde_json::Value;
use tokio::time::Instant;

use super::ask::{Ask, Told};
use crate::access::Asker;
use crate::app::Shared;
use crate::balance::names;

/// Where questions of other instances, and of programs, are taken.
pub(crate) const PATH: &str = "/query";
/// By which a question says that it was passed on, and goes no further.
pub(crate) const FORWARDED: &str = "headwater-forwarded";
/// The application id, in a request of whom it is for, in an answer of whom it is from: where a service answers is
/// what others say, and whoever asked another one learns it.
pub(crate) const GROUP: &str = "headwater-group";

/// For reading and sending, beside what it may wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks `host:port` about some tasks that it is known to have.
pub(crate) async fn ask_host(
    shared: &Shared,
    host: &str,
    ask: &Ask,
    tasks: &[TaskId],
    deadline: Instant,
) -> Result<Told, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let question = Ask { tasks: Some(names(tasks)), timeout_ms, ..ask.clone() };
    let group = shared.config.application_id.as_str();
    let (status, body) = post(&shared.asker, (host, group), &question, true).await?;
    if status != StatusCode::OK {
        return Err(format!("it answers {status}: {}", detail(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
}

/// Sends a question and takes the answer, if it is from the group that was asked.
pub(crate) async fn post(
    asker: &Asker,
    (host, group): (&str, &str),
    ask: &Ask,
    forwarded: bool,
) -> Result<(StatusCode, Vec<u8>), String> {
    let request = asker.post(host, PATH).await?;
    let timeout = ask.timeout().saturating_add(PATIENCE);
    let mut request = request.header(GROUP, group).timeout(timeout).json(ask);
    if forwarded {
        request = request.header(FORWARDED, "1");
    }
    let answer = request.send().await.map_err(|error| reason(&error))?;
    let is_refused = answer.status() == reqwest::StatusCode::UNAUTHORIZED;
    if !is_refused && answer.headers().get(GROUP).map(|value| value.as_bytes()) != Some(group.as_bytes()) {
        return Err(format!("no instance of {group} answers there"));
    }
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = answer.bytes().await.map_err(|error| reason(&error))?;
    Ok((status, body.to_vec()))
}

fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = source.to_string();
        cause = source.source();
    }
    text
}

/// What a problem document says.
pub(crate) fn detail(body: &[u8]) -> String {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let detail = problem.and_then(|problem| problem["detail"].as_str().map(str::to_owned));
    detail.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}
