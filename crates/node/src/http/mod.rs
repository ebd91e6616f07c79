//! The HTTP address: connections within limits, each request's client known before anything is served to it.
//!
//! Owns what is the same for registry, console and operations: TLS and identities (by the broker's gate), the origin
//! of requests that change something, and how long and how large a request may be.

mod admit;
mod body;
mod origin;
mod refusal;
mod serve;
mod share;
mod until;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use headwater_broker::Gate;

pub use refusal::problem;
pub use serve::{Serving, serve};

/// Puts the checks that come before every path around what is served.
pub fn guarded(gate: &Arc<Gate>, app: Router) -> Router {
    let bodies = Arc::new(body::Bodies::new());
    app.layer(from_fn_with_state(bodies, body::bounded))
        .layer(from_fn_with_state(Arc::new(admit::Door::new(gate)), admit::admit))
}
