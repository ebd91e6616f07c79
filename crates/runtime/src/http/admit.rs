//! Before every path: who asks, whether they may, and whether a page of another origin made them ask.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_model::Principal;

use super::problem::Problem;
use super::{Context, origin, signed};
use crate::access::Need;
use crate::app::Shared;
use crate::queries::remote::PATH;
use crate::serve::Connection;

/// Whether an instance lives and is ready is told to everybody, and nothing else about it.
const OPEN: &[&str] = &["/health", "/ready"];

/// Whether details are for whoever asks.
#[derive(Clone, Copy)]
pub(super) struct Sees(pub bool);

fn need(method: &Method, path: &str) -> Need {
    match (method.is_safe(), path) {
        (true, "/metrics") => Need::Metrics,
        (true, _) | (false, PATH) => Need::Read,
        (false, _) => Need::Command,
    }
}

pub(super) async fn admit(
    State(shared): Context,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = &shared.door;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = connection.peer;
    let proof = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let principal = match door.authenticate(proof, &connection.certified).await {
        Ok(principal) => principal,
        Err(why) => {
            tracing::warn!(%peer, %method, user = why.user(), reason = %why, "authentication by HTTP failed");
            door.delay().await;
            return last(unauthenticated(&shared));
        }
    };
    let is_stranger = !door.is_open() && *principal == Principal::anonymous();
    if !is_stranger {
        connection.is_known();
    }
    if !method.is_safe()
        && let Err(why) = origin::check(request.headers())
    {
        tracing::warn!(%peer, %method, path, why, "refused by HTTP");
        let refused = Problem::new(StatusCode::FORBIDDEN, "not from there", why).into_response();
        return if is_stranger { last(refused) } else { refused };
    }
    let may = |need| door.may(&principal, need).unwrap_or(true);
    let need = need(&method, &path);
    let is_open = method.is_safe() && OPEN.contains(&path.as_str());
    if !(is_open || may(need)) {
        if is_stranger {
            return last(unauthenticated(&shared));
        }
        tracing::warn!(%peer, %method, path, %principal, "refused by HTTP: not allowed");
        return signed(&shared, forbidden(&principal, need).into_response());
    }
    let sees = Sees(may(Need::Read) || may(Need::Metrics));
    request.extensions_mut().insert(sees);
    let response = next.run(request).await;
    if is_stranger { last(response) } else { response }
}

/// Ends the connection: a stranger does not hold its place for longer than one answer.
fn last(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn unauthenticated(shared: &Arc<Shared>) -> Response {
    let challenge = shared.door.challenge();
    let detail = match challenge {
        Some(_) => {
            "say who you are: the certificate, or the user and the password, are missing or not accepted"
        }
        None => {
            "say who you are: show a certificate of an authority that this instance trusts (curl --cert FILE)"
        }
    };
    let mut response =
        Problem::new(StatusCode::UNAUTHORIZED, "who asks is not known", detail).into_response();
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

fn forbidden(principal: &Principal, need: Need) -> Problem {
    let (what, key) = match need {
        Need::Read => ("read what the stores hold", "headwater.http.readers"),
        Need::Command => ("command this instance", "headwater.http.commands"),
        Need::Metrics => ("read the metrics", "headwater.http.metrics"),
    };
    let detail = format!(
        "{principal} may not {what}: name it in {key} of the file that [runtime] http_config or HEADWATER_HTTP_CONFIG names"
    );
    Problem::new(StatusCode::FORBIDDEN, "not allowed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_a_command_and_what_is_not_known_is_read() {
        assert_eq!(need(&Method::GET, "/metrics"), Need::Metrics);
        assert_eq!(need(&Method::POST, "/quarantine/release"), Need::Command);
        assert_eq!(need(&Method::DELETE, "/metrics"), Need::Command);
        for path in ["/stores", "/stores/metrics", "/topology", "/quarantine", "/metrics/", "/anything"] {
            assert_eq!(need(&Method::GET, path), Need::Read, "{path}");
        }
        assert_eq!(need(&Method::POST, "/query"), Need::Read);
    }
}
