//! The HTTP listener: bound before any task starts, so that `/ready` tells how far restoring is.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::Shared;
use crate::error::AppError;
use crate::http::router;

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
