//! Accepts connections, up to a limit, until told to stop; then waits for those that are open.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::broker::Shared;
use crate::connection;

/// After an error that concerns the process (no more file descriptors), not the client.
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&shared.connections).try_acquire_owned() {
                Ok(slot) => {
                    let serving = connection::serve(stream, peer, Arc::clone(&shared), stop.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(slot);
                    });
                }
                Err(_) => {
                    tracing::warn!(%peer, limit = shared.config.max_connections, "refused: too many connections");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
