//! What a client waits for, so that whoever looks on can be told why nothing happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ClientError;

/// Something that is tried again, or asked and not answered.
#[derive(Debug, Clone)]
pub struct Wait {
    pub what: String,
    pub since: Instant,
    /// What was wrong last; `None` while the first answer is waited for.
    pub last: Option<ClientError>,
}

/// All that one client waits for, in the order in which it began.
#[derive(Clone, Default)]
pub(crate) struct Waits {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: u64,
    all: BTreeMap<u64, Wait>,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when what is returned is dropped.
    pub(crate) fn begin(&self, what: String, since: Instant) -> Waiting {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.all.insert(id, Wait { what, since, last: None });
        Waiting { id, waits: self.clone() }
    }

    /// The one that began first, with what was wrong last, be it with another one.
    pub(crate) fn longest(&self) -> Option<Wait> {
        let state = self.lock();
        let mut longest = state.all.values().min_by_key(|wait| wait.since)?.clone();
        if longest.last.is_none() {
            longest.last = state.all.values().find_map(|wait| wait.last.clone());
        }
        Some(longest)
    }
}

/// One wait that goes on.
pub(crate) struct Waiting {
    id: u64,
    waits: Waits,
}

impl Waiting {
    pub(crate) fn refused(&self, with: &ClientError) {
        if let Some(wait) = self.waits.lock().all.get_mut(&self.id) {
            wait.last = Some(with.clone());
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.lock().all.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_wait_is_told_with_what_was_wrong_last() {
        let (waits, now) = (Waits::default(), Instant::now());
        assert!(waits.longest().is_none());
        let second = waits.begin("second".to_owned(), now);
        let first = waits.begin("first".to_owned(), now - Duration::from_secs(1));
        assert!(waits.longest().is_some_and(|wait| wait.what == "first" && wait.last.is_none()));
        second.refused(&ClientError::State("not now"));
        let longest = waits.longest().unwrap();
        assert_eq!((longest.what.as_str(), longest.last.unwrap().to_string().as_str()), ("first", "not now"));
        drop(first);
        assert!(waits.longest().is_some_and(|wait| wait.what == "second"));
        drop(second);
        assert!(waits.longest().is_none());
    }
}
