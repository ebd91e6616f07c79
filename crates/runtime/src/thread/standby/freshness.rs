//! How fresh a copy is: when it last had everything that was in its changelog.
//!
//! Where a changelog ends is asked for again and again, also when nothing comes: a copy that hears nothing does not know
//! whether there is nothing to hear.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use headwater_client::{ClientError, Isolation, OffsetSpec};
use headwater_model::{Offset, TopicPartition};

use super::super::led::AWAY_PAUSE;
use super::{Following, Trouble, Updater, heals};

/// How often the ends of changelogs are looked up while anybody may ask.
const ENDS: Duration = Duration::from_millis(250);
/// How long they are waited for: no copy is read on meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of one copy. The end of a moment includes what is in transactions that are open then, so whoever has read
/// up to it has all that was committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    looked_at: Instant,
    /// An end that was not reached yet, and when it was asked for.
    ahead: Option<(Offset, Instant)>,
    current_at: Option<Instant>,
}

impl Freshness {
    pub fn new(end: Offset, asked_at: Instant) -> Self {
        Self { looked_at: asked_at, ahead: Some((end, asked_at)), current_at: None }
    }

    /// The changelog ends there, as of the moment when that was asked for. An earlier end that is still ahead stays: a
    /// changelog that grows all the time is never read to its last one.
    pub fn looked_up(&mut self, end: Offset, asked_at: Instant) {
        self.looked_at = asked_at;
        self.ahead.get_or_insert((end, asked_at));
    }

    pub fn reached(&mut self, next: Offset) {
        if let Some((end, asked_at)) = self.ahead
            && next >= end
        {
            self.current_at = Some(asked_at);
            self.ahead = None;
        }
    }

    pub fn looked_at(&self) -> Instant {
        self.looked_at
    }

    pub fn current_at(&self) -> Option<Instant> {
        self.current_at
    }
}

impl Updater {
    /// Looks up where the changelogs end, if it is time. Those of source topics end for a copy where their task has
    /// committed, which is looked up elsewhere.
    pub(super) fn look_up_ends(&self, following: &mut Following) -> Result<(), Trouble> {
        let Following { copies, ends_at, .. } = following;
        let own: Vec<TopicPartition> =
            copies.iter().filter(|copy| !copy.info.source_topic).map(|copy| copy.changelog.clone()).collect();
        if own.is_empty() || ends_at.elapsed() < ENDS || !self.shared.is_asked() {
            return Ok(());
        }
        let asked_at = Instant::now();
        let mut stopped = self.stopped.clone();
        let told = self.runtime.block_on(async {
            tokio::select! {
                told = tokio::time::timeout(PATIENCE, self.ends(&own)) => Some(told),
                _ = stopped.wait_for(|stop| *stop) => None,
            }
        });
        *ends_at = Instant::now();
        let ends = match told {
            None => return Ok(()),
            Some(Ok(Ok(ends))) => ends,
            Some(Ok(Err(error))) if !heals(&error) => {
                return Err(Trouble::client("look up the ends of changelogs of standby tasks")(error));
            }
            // The copies are read on, and do not know how far they are behind.
            Some(untold) => {
                tracing::debug!(thread = self.index, ?untold, "the ends of changelogs are not told");
                *ends_at += AWAY_PAUSE;
                return Ok(());
            }
        };
        for copy in copies.iter_mut().filter(|copy| !copy.info.source_topic) {
            if let Some(end) = ends.get(&copy.changelog) {
                copy.end = copy.end.max(*end);
                copy.freshness.looked_up(*end, asked_at);
            }
        }
        Ok(())
    }

    /// Of those changelogs that have leaders.
    async fn ends(&self, of: &[TopicPartition]) -> Result<HashMap<TopicPartition, Offset>, ClientError> {
        let away = self.client.without_leader(of).await?;
        let led = of.iter().filter(|at| !away.contains(at));
        let asked: Vec<_> = led.map(|at| (at.clone(), OffsetSpec::Latest)).collect();
        self.client.list_offsets(&asked, Isolation::Uncommitted).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_fresh_as_the_last_end_that_it_has_reached() {
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let (first, second, third) = (at(1), at(2), at(3));
        let mut freshness = Freshness::new(10, first);
        freshness.reached(9);
        assert_eq!(freshness.current_at(), None);
        freshness.looked_up(20, second);
        freshness.reached(10);
        assert_eq!(freshness.current_at(), Some(first), "the end it was after did not move away");
        freshness.looked_up(30, third);
        freshness.reached(29);
        assert_eq!((freshness.current_at(), freshness.looked_at()), (Some(first), third));
        freshness.reached(30);
        assert_eq!(freshness.current_at(), Some(third));
    }
}
