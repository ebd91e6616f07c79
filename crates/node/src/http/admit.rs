//! Before every path: who asks, and whether a page of another origin made them ask.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use headwater_broker::{Gate, Known};
use headwater_model::Principal;
use tokio::time::Instant;

use super::serve::Connection;
use super::share::{Sender, Shares};
use super::{origin, refusal, until};

/// Whether a node lives is told to everybody, and nothing else about it.
const OPEN: &[&str] = &["/health", "/health/live", "/health/ready"];
/// What is told of a client's own name for itself.
const LONGEST_AGENT: usize = 128;

/// As a session of Kafka's protocol: no clock counts further.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The gate, and how many of its connections each user has.
pub struct Door {
    gate: Arc<Gate>,
    connections: Shares,
}

impl Door {
    /// A user has half of the connections at most.
    pub fn new(gate: &Arc<Gate>) -> Self {
        Self { gate: Arc::clone(gate), connections: Shares::new(gate.most_connections().div_ceil(2)) }
    }
}

/// Lets a request through as the [`headwater_model::Caller`] that its client is.
pub async fn admit(
    State(door): State<Arc<Door>>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let gate = &door.gate;
    let path = request.uri().path().to_owned();
    let (headers, api) = (request.headers(), word(request.method()));
    let (host, agent) = (connection.peer.ip(), agent(headers));
    let proof = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let mut stranger = false;
    let Known { principal, valid_for } = match gate.authenticate(proof, &connection.certified).await {
        Ok(known) => {
            connection.is_known();
            known
        }
        Err(_) if proof.is_none() && OPEN.contains(&path.as_str()) => {
            stranger = true;
            Known { principal: Arc::new(Principal::anonymous()), valid_for: None }
        }
        Err(why) => {
            gate.failed(host, agent, api, &why).await;
            return last(refusal::unauthenticated(&path, &gate.challenges()));
        }
    };
    let believed = if gate.is_open() && gate.is_local() { origin::named(headers) } else { Ok(()) };
    let changes = !request.method().is_safe();
    let welcome = believed.and_then(|()| if changes { origin::check(headers) } else { Ok(()) });
    if let Err(why) = welcome {
        tracing::warn!(%host, api, path, why, "refused by HTTP");
        let refused = refusal::foreign(&path, why);
        return if stranger { last(refused) } else { refused };
    }
    let sender = Sender::new(&principal, host);
    // Whom nobody knows may be many, behind one address.
    if *principal != Principal::anonymous() && !connection.is_held_by(&sender, &door.connections) {
        let why = "this user has half of all connections already; close some, or raise headwater.http.max.connections";
        tracing::warn!(%host, api, %principal, "refused by HTTP: this user has half of all connections");
        return last(refusal::of(&path, (StatusCode::SERVICE_UNAVAILABLE, 503), why));
    }
    request.extensions_mut().insert(sender);
    let caller = if stranger { Gate::nobody() } else { gate.caller(principal, host, agent, api) };
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    match valid_for {
        _ if stranger => last(response),
        Some(valid_for) => until::ended(response, Instant::now() + valid_for.min(LONGEST)),
        None => response,
    }
}

/// Ends the connection: a stranger does not hold its place for longer than one answer.
fn last(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The API as the audit stream calls it.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "HTTP GET",
        Method::HEAD => "HTTP HEAD",
        Method::POST => "HTTP POST",
        Method::PUT => "HTTP PUT",
        Method::DELETE => "HTTP DELETE",
        _ => "HTTP",
    }
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.chars().take(LONGEST_AGENT).collect()
}
