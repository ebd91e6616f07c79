//! A write to the stores on a thread of its own.

use std::sync::{Arc, mpsc};

use headwater_streams::StoreError;
use tokio::runtime::Handle;

use crate::app::Shared;
use crate::state::Stores;

/// A write that goes on. Nobody else opens these stores before it has ended, so who drops this waits for it.
pub(super) struct Underway {
    /// What is written, for people.
    of: String,
    outcome: mpsc::Receiver<Result<(), StoreError>>,
}

impl Drop for Underway {
    fn drop(&mut self) {
        // Whoever asked how it ended has been told; nobody else hears of it.
        if let Ok(Err(error)) = self.outcome.recv() {
            tracing::error!(
                of = self.of, %error,
                "a write to the stores failed while their tasks were dropped: they are behind, and catch up from their changelogs when they are opened again"
            );
        }
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
        Self { of: "a store that is restored".to_owned(), outcome }
    }

    /// Says what is written.
    pub fn of(mut self, of: String) -> Self {
        self.of = of;
        self
    }

    /// How it ended; `None` while it goes on.
    pub fn ended(&self) -> Option<Result<(), StoreError>> {
        match self.outcome.try_recv() {
            Err(mpsc::TryRecvError::Empty) => None,
            ended => Some(ended.unwrap_or_else(|_| Err(unsaid()))),
        }
    }

    /// Waits until it has ended.
    pub fn end(&self) -> Result<(), StoreError> {
        self.outcome.recv().unwrap_or_else(|_| Err(unsaid()))
    }
}

fn unsaid() -> StoreError {
    StoreError::new("write the stores: the write ended without a word")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said_about(outcome: Result<(), StoreError>, asked: bool) -> String {
        let (said, (tell, ended)) = (Said::default(), mpsc::sync_channel(1));
        tell.send(outcome).unwrap();
        drop(tell);
        let writer = said.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let underway = Underway { of: "1_2 counts".to_owned(), outcome: ended };
            if asked {
                let _ = underway.end();
            }
        });
        let said = said.0.lock().unwrap();
        String::from_utf8(said.clone()).unwrap()
    }

    #[test]
    fn a_failure_that_nobody_waited_for_is_told_with_what_was_written() {
        let full = || Err(StoreError::new("the disk is full"));
        let said = said_about(full(), false);
        assert!(said.contains("1_2 counts") && said.contains("the disk is full"), "{said}");
        assert_eq!(said_about(full(), true), "", "it was told already");
        assert_eq!(said_about(Ok(()), false), "");
    }
}
