//! The HTTP listener: bound before any task starts, so that `/ready` tells how far restoring is.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::Shared;
use crate::config::AppConfig;
use crate::error::AppError;
use crate::http::router;

/// Where other instances reach what listens on `bound`.
pub(crate) fn endpoint(config: &AppConfig, bound: SocketAddr) -> Option<String> {
    if !bound.ip().is_loopback() {
        tracing::warn!(
            %bound,
            "whoever reaches this address may read all stores that can be queried: keep it within a network of services"
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
    mut close: watch::Receiver<bool>,
) -> Result<Option<(SocketAddr, JoinHandle<()>)>, AppError> {
    let Some(address) = shared.config.http else { return Ok(None) };
    let failed = |source| AppError::Http { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = router(shared.clone());
    let serving = tokio::spawn(async move {
        let closed = async move {
            // A sender that is gone means the same.
            let _ = close.wait_for(|close| *close).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(closed).await {
            tracing::error!(%bound, %error, "HTTP has ended; queries are not answered");
        }
    });
    Ok(Some((bound, serving)))
}
