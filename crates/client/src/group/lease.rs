//! Until when a member may be sure that nobody else was given what it has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A member's word to others that its partitions are its own, renewed by each heartbeat that the coordinator has answered:
/// nobody else is given them before the session ends, which began no earlier than the heartbeat was sent. Clones share it.
///
/// Of the classic protocol, and of the streams protocol, whose broker does not tell how long sessions are: there it holds
/// for three heartbeat intervals, a third of a session by the broker's defaults. Under the consumer protocol it never holds. It does not know of a second process under the
/// same `group.instance.id`, which takes the place at once.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<Mutex<Option<Instant>>>);

impl Lease {
    /// One moment is all there is, so a panic elsewhere leaves it whole.
    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it does at this moment.
    pub fn holds(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn renew(&self, sent: Instant, term: Duration) {
        *self.until() = Some(sent + term);
    }

    pub(super) fn end(&self) {
        *self.until() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_its_term_from_when_the_heartbeat_was_sent() {
        let lease = Lease::default();
        assert!(!lease.holds());
        let now = Instant::now();
        lease.renew(now, Duration::from_secs(3600));
        assert!(lease.clone().holds());
        lease.end();
        assert!(!lease.holds());
        if let Some(before) = now.checked_sub(Duration::from_millis(20)) {
            lease.renew(before, Duration::from_millis(10));
            assert!(!lease.holds(), "the answer was longer under way than it lasts");
        }
    }
}
