//! How long to wait before something is tried again, and when to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;

use super::waits::{Waiting, Waits};
use crate::ClientError;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const BRIEF_PAUSE: Duration = Duration::from_millis(5);

/// Exponential pauses with jitter, and an end.
pub(crate) struct Pause {
    begun: Instant,
    patience: Duration,
    next: Duration,
    /// Where it is told what is waited for.
    waits: Option<Waits>,
    waiting: Option<Waiting>,
}

impl Pause {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { begun: Instant::now(), patience, next: FIRST_PAUSE, waits: None, waiting: None }
    }

    pub(super) fn told(mut self, waits: &Waits) -> Self {
        self.waits = Some(waits.clone());
        self
    }

    /// What is waited for goes on: patience begins anew.
    pub(crate) fn begin_anew(&mut self) {
        (self.begun, self.next) = (Instant::now(), FIRST_PAUSE);
    }

    /// Waits, or gives up with what was wrong last.
    pub(crate) async fn wait(&mut self, what: &str, last: ClientError) -> Result<(), ClientError> {
        self.check(what, last)?;
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(self.next.mul_f64(jitter)).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// The same without the pauses growing, for what is known to be short.
    pub(crate) async fn wait_briefly(&mut self, what: &str, last: ClientError) -> Result<(), ClientError> {
        self.check(what, last)?;
        tokio::time::sleep(BRIEF_PAUSE).await;
        Ok(())
    }

    fn check(&mut self, what: &str, last: ClientError) -> Result<(), ClientError> {
        if let Some(waits) = &self.waits {
            let begun = self.begun;
            let waiting = self.waiting.get_or_insert_with(|| waits.begin(what.to_owned(), begun));
            waiting.refused(&last);
        }
        if self.begun.elapsed() >= self.patience {
            if matches!(last, ClientError::UnknownTopic(_)) {
                return Err(last);
            }
            return Err(ClientError::GaveUp {
                what: what.to_owned(),
                after: self.begun.elapsed(),
                last: Arc::new(last),
            });
        }
        tracing::debug!(what, %last, "trying again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn patience_that_begins_anew_has_not_ended() {
        let refused = || ClientError::State("not yet");
        let mut pause = Pause::new(Duration::from_secs(3600));
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(3601)) else { return };
        pause.begun = long_ago;
        assert!(matches!(pause.wait("try", refused()).await, Err(ClientError::GaveUp { .. })));
        pause.begin_anew();
        pause.wait("try", refused()).await.unwrap();
    }
}
