//! Accepts connections until told to stop, and serves HTTP/1.1 on each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use headwater_broker::{Gate, Places, Stranger};
use headwater_model::Principal;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

use super::share::{Sender, Shares};

/// After an error that concerns the process (no more file descriptors), not the client.
const PAUSE: Duration = Duration::from_millis(100);
/// What answers that are under way may take at the end.
const LAST: Duration = Duration::from_secs(2);
const LARGEST_HEAD: usize = 16 << 10;

/// What a request knows of the connection it came by.
#[derive(Clone)]
pub struct Connection {
    pub peer: SocketAddr,
    /// Whom the client's certificate names.
    pub certified: Arc<Principal>,
    known: Arc<Notify>,
    /// Of whose share it is: the user's who came last by it.
    held: Arc<Mutex<Option<(Sender, OwnedSemaphorePermit)>>>,
}

impl Connection {
    /// Whether it is within the share of this user, or can be.
    pub fn is_held_by(&self, sender: &Sender, shares: &Shares) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|(holder, _)| holder == sender) {
            return true;
        }
        let place = shares.of(sender.clone()).try_acquire_owned().ok();
        *held = place.map(|place| (sender.clone(), place));
        held.is_some()
    }

    /// The client has said who it is: its place is free for another stranger.
    pub fn is_known(&self) {
        self.known.notify_one();
    }
}

/// A server until [`Serving::stop`].
pub struct Serving {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Returns when what was being answered is answered, or has taken too long.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "HTTP ended badly");
        }
    }
}

pub fn serve(listener: TcpListener, gate: Arc<Gate>, app: Router) -> Serving {
    let (stop, stopped) = watch::channel(false);
    Serving { stop, task: tokio::spawn(accept(listener, gate, app, stopped)) }
}

async fn accept(listener: TcpListener, gate: Arc<Gate>, app: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(places) = gate.admit() else {
                    tracing::warn!(%peer, "refused by HTTP: too many connections, or too many of strangers");
                    continue;
                };
                let arrived = Arrived { stream, peer, places };
                connections.spawn(arrived.serve(Arc::clone(&gate), app.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection by HTTP; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    // Live pages never end by themselves; what still runs after a while is dropped with the set.
    let _ = tokio::time::timeout(LAST, async { while connections.join_next().await.is_some() {} }).await;
}

struct Arrived {
    stream: TcpStream,
    peer: SocketAddr,
    places: Places,
}

impl Arrived {
    async fn serve(self, gate: Arc<Gate>, app: Router, mut stop: watch::Receiver<bool>) {
        let Self { stream, peer, mut places } = self;
        let handshake = tokio::time::timeout(gate.patience(), gate.secure(stream));
        let (stream, certified) = tokio::select! {
            secured = handshake => match secured {
                Ok(Ok(secured)) => secured,
                // Somebody whom the rules of names forget, and who is told nothing.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return tracing::warn!(%peer, reason = %error, "connection by HTTP closed");
                }
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS by HTTP"),
                Err(_) => return tracing::debug!(%peer, "no TLS by HTTP in time"),
            },
            () = Stranger::displaced(places.stranger.as_ref()) => {
                return tracing::debug!(%peer, "made room for another stranger");
            }
            _ = stop.changed() => return,
        };
        let (reading, writing) = stream.into_split();
        let known = Arc::new(Notify::new());
        let certified = Arc::new(certified);
        let connection = Connection { peer, certified, known: Arc::clone(&known), held: Arc::default() };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            let request: Request = request.map(Body::new);
            app.clone().call(request)
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(gate.patience())
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
                _ = stop.changed() => {
                    serving.as_mut().graceful_shutdown();
                    break serving.await;
                }
            }
        };
        if let Err(error) = ended {
            match error.is_parse() {
                true => {
                    tracing::warn!(%peer, %error, "what came by the HTTP port is no HTTP: is it a Kafka client, or one that speaks TLS where there is none?")
                }
                false => tracing::debug!(%peer, %error, "an HTTP connection ended"),
            }
        }
    }
}
