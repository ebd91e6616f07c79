//! Accepts the connections of one listener, up to a limit, until told to stop; then waits for those that are open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use crate::addresses::AddressLimits;
use crate::broker::Shared;
use crate::connection::{self, Arrived};
use crate::security::{Listener, Stranger};

/// After an error that concerns the process (no more file descriptors), not the client.
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(
    socket: TcpListener,
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let (own, unlimited) = (listener.is_internal(), AddressLimits::default());
    let limits = if own { &unlimited } else { &shared.config.max_connections_per_ip };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = shared.addresses.admit(limits, peer.ip());
                let place = place.inspect_err(|limit| {
                    tracing::warn!(%peer, limit, "refused: too many connections from its address");
                });
                let Ok(place) = place else { continue };
                let Some((slot, stranger)) = admit(&listener, &shared, peer) else { continue };
                let arrived = Arrived { stream, peer, listener: Arc::clone(&listener), stranger };
                let serving = connection::serve(arrived, Arc::clone(&shared), stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop((slot, place));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// A place among all connections and, where clients must say who they are, among those that have not. The parts of this
/// process take none that clients could have taken: those who prove nothing are few at its listener, and nobody else can.
fn admit(
    listener: &Listener,
    shared: &Shared,
    peer: SocketAddr,
) -> Option<(Option<OwnedSemaphorePermit>, Option<Stranger>)> {
    let authority = &shared.authority;
    let (slot, strangers) = match listener.is_internal() {
        true => (None, &authority.internal_strangers),
        false => {
            let Ok(slot) = Arc::clone(&shared.connections).try_acquire_owned() else {
                tracing::warn!(%peer, limit = shared.config.max_connections, "refused: too many connections");
                return None;
            };
            (Some(slot), &authority.strangers)
        }
    };
    if listener.is_open() {
        return Some((slot, None));
    }
    let Some(stranger) = strangers.admit() else {
        let listener = listener.name.as_str();
        tracing::warn!(%peer, listener, "refused: too many clients that have not said who they are");
        return None;
    };
    Some((slot, Some(stranger)))
}
