//! The HTTP listener: bound before any task starts, so that `/ready` tells how far restoring is.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::app::Shared;
use crate::error::AppError;
use crate::http::router;

/// Serves questions until the returned task is aborted; nothing if no address is configured.
pub(crate) async fn serve(shared: &Arc<Shared>) -> Result<Option<(SocketAddr, JoinHandle<()>)>, AppError> {
    let Some(address) = shared.config.http else { return Ok(None) };
    let failed = |source| AppError::Http { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = router(shared.clone());
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%bound, %error, "HTTP has ended; queries are not answered");
        }
    });
    Ok(Some((bound, serving)))
}
