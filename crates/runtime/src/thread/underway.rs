//! A write to the stores on a thread of its own.

use std::sync::{Arc, mpsc};

use headwater_streams::StoreError;
use tokio::runtime::Handle;

use crate::app::Shared;
use crate::state::Stores;

/// A write that goes on. Nobody else opens these stores before it has ended, so who drops this waits for it.
pub(super) struct Underway(mpsc::Receiver<Result<(), StoreError>>);

impl Drop for Underway {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}

impl Underway {
    /// Begins it on a thread of `runtime`, or does it here. It has the lock of the directory for as long as it takes.
    pub fn begin(
        runtime: Option<&Handle>,
        shared: &Arc<Shared>,
        write: impl FnOnce(&Stores) -> Result<(), StoreError> + Send + 'static,
    ) -> Self {
        let (shared, (tell, outcome)) = (Arc::clone(shared), mpsc::sync_channel(1));
        let job = move || {
            let outcome = write(&shared.stores);
            // Who is told that it has ended may be about to start on the directory anew.
            drop(shared);
            tell.send(outcome)
        };
        match runtime {
            Some(runtime) => drop(runtime.spawn_blocking(job)),
            // The other end is here.
            None => drop(job()),
        }
        Self(outcome)
    }

    /// How it ended; `None` while it goes on.
    pub fn ended(&self) -> Option<Result<(), StoreError>> {
        match self.0.try_recv() {
            Err(mpsc::TryRecvError::Empty) => None,
            ended => Some(ended.unwrap_or_else(|_| Err(unsaid()))),
        }
    }

    /// Waits until it has ended.
    pub fn end(&self) -> Result<(), StoreError> {
        self.0.recv().unwrap_or_else(|_| Err(unsaid()))
    }
}

fn unsaid() -> StoreError {
    StoreError::new("write the stores: the write ended without a word")
}
