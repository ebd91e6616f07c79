//! Asks another instance of the group for what it has: one hop, and no further.

use std::time::Duration;

use axum::http::StatusCode;
use headwater_streams::TaskId;
use serde_json::Value;
use tokio::time::Instant;

use super::ask::{Ask, Told};
use crate::app::Shared;
use crate::balance::names;

/// Where questions of other instances, and of programs, are taken.
pub(crate) const PATH: &str = "/query";
/// By which a question says that it was passed on, and goes no further.
pub(crate) const FORWARDED: &str = "headwater-forwarded";
/// The application id, in a request of whom it is for, in an answer of whom it is from: where a service answers is
/// what others say, and whoever asked another one learns it.
pub(crate) const GROUP: &str = "headwater-group";

/// An instance that does not take a connection within this time counts as away.
const CONNECT: Duration = Duration::from_secs(1);
/// For reading and sending, beside what it may wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What instances are asked by: at the address itself, and at nothing that it points to.
pub(crate) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .build()
}

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
    let (status, body) = post(&shared.http_client, (host, group), &question, true).await?;
    if status != StatusCode::OK {
        return Err(format!("it answers {status}: {}", detail(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
}

/// Sends a question and takes the answer, if it is from the group that was asked.
pub(crate) async fn post(
    http: &reqwest::Client,
    (host, group): (&str, &str),
    ask: &Ask,
    forwarded: bool,
) -> Result<(StatusCode, Vec<u8>), String> {
    if !is_address(host) {
        return Err("that is no host:port".to_owned());
    }
    let mut request = http
        .post(format!("http://{host}{PATH}"))
        .header(GROUP, group)
        .timeout(ask.timeout().saturating_add(PATIENCE))
        .json(ask);
    if forwarded {
        request = request.header(FORWARDED, "1");
    }
    let answer = request.send().await.map_err(|error| reason(&error))?;
    if answer.headers().get(GROUP).map(|value| value.as_bytes()) != Some(group.as_bytes()) {
        return Err(format!("no instance of {group} answers there"));
    }
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = answer.bytes().await.map_err(|error| reason(&error))?;
    Ok((status, body.to_vec()))
}

/// What is part of a URL comes from others: it names a place, and nothing at it.
fn is_address(host: &str) -> bool {
    let url = reqwest::Url::parse(&format!("http://{host}/")).ok();
    url.is_some_and(|url| {
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        bare && url.username().is_empty() && url.password().is_none() && !host.contains('/')
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in ["127.0.0.1:7071", "service-3.internal:80", "[::1]:7071"] {
            assert!(is_address(address), "{address}");
        }
        for other in ["", "a/b", "a:1/", "a:1?x", "a:1#x", "user@a:1", "a b:1", "http://a:1"] {
            assert!(!is_address(other), "{other}");
        }
    }
}
