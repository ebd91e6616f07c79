//! Work in the background, and one place where its failures arrive.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

/// Starts work in the background; clones share the place where failures arrive.
#[derive(Clone)]
pub struct Background {
    failures: mpsc::UnboundedSender<anyhow::Error>,
}

/// Where failures arrive.
pub struct Failures {
    failures: mpsc::UnboundedReceiver<anyhow::Error>,
}

impl Background {
    pub fn new() -> (Self, Failures) {
        let (sender, failures) = mpsc::unbounded_channel();
        (Self { failures: sender }, Failures { failures })
    }

    /// Runs `work`, of which the receiver gives the result. When it fails, the receiver closes.
    pub fn spawn<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        let failures = self.failures.clone();
        tokio::spawn(async move {
            // When nobody listens, the run has ended already.
            match work.await.context(what) {
                Ok(value) => drop(done.send(value)),
                Err(error) => drop(failures.send(error)),
            }
        });
        result
    }
}

impl Failures {
    /// Waits for the first failure.
    pub async fn first(&mut self) -> anyhow::Error {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

/// The result of work in the background. When the work has failed this never answers: the failure arrives where
/// failures arrive, and ends the run.
pub async fn result_of<T>(receiver: oneshot::Receiver<T>) -> T {
    match receiver.await {
        Ok(value) => value,
        Err(_) => std::future::pending().await,
    }
}
