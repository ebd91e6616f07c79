//! Which requests each client has sent, and in which version: the client says so of each one at level TRACE.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static ASKED: Mutex<Vec<Request>> = Mutex::new(Vec::new());

#[derive(Debug, Default)]
struct Request {
    client_id: String,
    api: String,
    version: i64,
}

impl Visit for Request {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "client_id" => value.clone_into(&mut self.client_id),
            "api" => value.clone_into(&mut self.api),
            _ => {}
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "version" {
            self.version = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

struct Connections;

impl<S: Subscriber> Layer<S> for Connections {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match metadata.target() {
            "headwater_client::connection" => Interest::always(),
            _ => Interest::never(),
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut request = Request::default();
        event.record(&mut request);
        ASKED.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
}

/// From the first call on.
pub fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        let subscriber = tracing_subscriber::registry().with(Connections);
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
    });
}

/// The versions in which the client of this id has sent this request.
pub fn asked(client_id: &str, api: &str) -> Vec<i64> {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let same = asked.iter().filter(|request| request.client_id == client_id && request.api == api);
    same.map(|request| request.version).collect()
}
