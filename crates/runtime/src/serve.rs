//! The HTTP listener: bound before any task starts, so that `/ready` tells how far restoring is.
//!
//! Serves HTTP/1.1 within limits: so many connections, and of those who have not said who they are so many; so long for a
//! handshake and for the head of a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use headwater_model::Principal;
use headwater_security::server::Stranger;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

use crate::access::{Door, Places};
use crate::app::Shared;
use crate::config::AppConfig;
use crate::error::AppError;
use crate::http::router;

/// After an error that concerns the process (no more file descriptors), not the client.
const PAUSE: Duration = Duration::from_millis(100);
const LARGEST_HEAD: usize = 16 << 10;

/// What a request knows of the connection it came by.
#[derive(Clone)]
pub(crate) struct Connection {
    pub peer: SocketAddr,
    /// Whom the client's certificate names.
    pub certified: Arc<Principal>,
    known: Arc<Notify>,
}

impl Connection {
    /// The client has said who it is: its place is free for another stranger.
    pub fn is_known(&self) {
        self.known.notify_one();
    }
}

/// Where other instances reach what listens on `bound`.
pub(crate) fn endpoint(config: &AppConfig, door: &Door, bound: SocketAddr) -> Option<String> {
    if !bound.ip().is_loopback() && door.is_open() {
        tracing::warn!(
            %bound,
            "whoever reaches this address may read all stores that can be queried (headwater.insecure): keep it within a network of services"
        );
    }
    if config.application_server.is_none() && bound.ip().is_unspecified() {
        tracing::warn!(
            %bound,
            "other instances do not know where this one answers: say host:port in application_server, or HEADWATER_APPLICATION_SERVER"
        );
        return None;
    }
    Some(config.application_server.clone().unwrap_or_else(|| bound.to_string()))
}

/// Serves questions until `close` says so, then ends connections; nothing if no address is configured.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    close: watch::Receiver<bool>,
) -> Result<Option<(SocketAddr, JoinHandle<()>)>, AppError> {
    let Some(address) = shared.config.http else { return Ok(None) };
    let failed = |source| AppError::Http { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (router, door) = (router(shared.clone()), Arc::clone(&shared.door));
    Ok(Some((bound, tokio::spawn(accept(listener, door, router, close)))))
}

async fn accept(listener: TcpListener, door: Arc<Door>, app: Router, close: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut closed = std::pin::pin!(closed(close.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = closed.as_mut() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(places) = door.admit() else {
                    tracing::warn!(%peer, "refused by HTTP: too many connections, or too many of strangers");
                    continue;
                };
                let arrived = Arrived { stream, peer, places };
                connections.spawn(arrived.serve(Arc::clone(&door), app.clone(), close.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection by HTTP; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    // Whoever stops the application waits as long as it likes; what still runs then is dropped with the set.
    while connections.join_next().await.is_some() {}
}

/// A sender that is gone means the same as one that says so.
async fn closed(mut close: watch::Receiver<bool>) {
    let _ = close.wait_for(|close| *close).await;
}

struct Arrived {
    stream: TcpStream,
    peer: SocketAddr,
    places: Places,
}

impl Arrived {
    async fn serve(self, door: Arc<Door>, app: Router, close: watch::Receiver<bool>) {
        let Self { stream, peer, mut places } = self;
        let mut closed = std::pin::pin!(closed(close));
        let handshake = tokio::time::timeout(door.patience(), door.secure(stream));
        let (stream, certified) = tokio::select! {
            secured = handshake => match secured {
                Ok(Ok(secured)) => secured,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS by HTTP"),
                Err(_) => return tracing::debug!(%peer, "no TLS by HTTP in time"),
            },
            () = Stranger::displaced(places.stranger.as_ref()) => {
                return tracing::debug!(%peer, "made room for another stranger");
            }
            () = closed.as_mut() => return,
        };
        let (reading, writing) = stream.into_split();
        let known = Arc::new(Notify::new());
        let connection = Connection { peer, certified: Arc::new(certified), known: Arc::clone(&known) };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            let request: Request = request.map(Body::new);
            app.clone().call(request)
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(door.patience())
            .max_header_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(tokio::io::join(reading, writing)), service);
        let mut serving = std::pin::pin!(serving);
        let ended = loop {
            tokio::select! {
                // Who has just said who it is makes no room.
                biased;
                ended = serving.as_mut() => break ended,
                () = known.notified(), if places.stranger.is_some() => places.stranger = None,
                () = Stranger::displaced(places.stranger.as_ref()) => {
                    return tracing::debug!(%peer, "made room for another stranger");
                }
                () = closed.as_mut() => {
                    serving.as_mut().graceful_shutdown();
                    break serving.await;
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "an HTTP connection ended");
        }
    }
}
