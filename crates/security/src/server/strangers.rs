//! The places of clients that have not said who they are.
//!
//! There are so many and no more. When all are taken, who has had one for the longest makes room, so that clients which
//! come and say nothing keep nobody out for as long as they may be silent. Who has just come is let be: a flood ends
//! no handshake that gets on.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// So long nobody is asked to make room.
const YOUNG: Duration = Duration::from_secs(1);

pub struct Strangers {
    most: usize,
    young: Duration,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    /// In the order of coming.
    taken: BTreeMap<u64, Taken>,
}

struct Taken {
    since: Instant,
    ended: Arc<Notify>,
}

/// A place, until this is dropped or somebody else gets it.
pub struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    ended: Arc<Notify>,
}

impl Strangers {
    pub fn new(most: usize) -> Self {
        Self { most, young: YOUNG, places: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place of one that watches [`Stranger::displaced`], unless all are taken by others that have just come.
    pub fn admit(self: &Arc<Self>) -> Option<Stranger> {
        let mut places = self.lock();
        if places.taken.len() >= self.most {
            let oldest = places.taken.first_entry().filter(|one| one.get().since.elapsed() >= self.young)?;
            oldest.remove().ended.notify_one();
        }
        let number = places.next;
        places.next += 1;
        let ended: Arc<Notify> = Arc::default();
        places.taken.insert(number, Taken { since: Instant::now(), ended: Arc::clone(&ended) });
        Some(Stranger { strangers: Arc::clone(self), number, ended })
    }
}

impl Stranger {
    /// Returns when somebody else has got the place, and the connection is to end; never where there is none.
    pub async fn displaced(one: Option<&Self>) {
        match one {
            Some(one) => one.ended.notified().await,
            None => pending().await,
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strangers(most: usize, young: Duration) -> Arc<Strangers> {
        Arc::new(Strangers { young, ..Strangers::new(most) })
    }

    #[tokio::test]
    async fn who_came_first_makes_room_and_nobody_else() {
        let strangers = strangers(2, Duration::ZERO);
        let first = strangers.admit().unwrap();
        let second = strangers.admit().unwrap();
        let third = strangers.admit().expect("there is room");
        Stranger::displaced(Some(&first)).await;
        drop(first);
        assert_eq!(strangers.lock().taken.len(), 2, "the place is another's now");
        let waited = Duration::from_millis(20);
        assert!(tokio::time::timeout(waited, Stranger::displaced(Some(&second))).await.is_err());
        drop(second);
        let _fourth = strangers.admit().unwrap();
        assert!(
            tokio::time::timeout(waited, Stranger::displaced(Some(&third))).await.is_err(),
            "there was a place"
        );
    }

    #[test]
    fn who_has_just_come_keeps_its_place() {
        let young = strangers(2, Duration::from_secs(3600));
        let held = [young.admit().unwrap(), young.admit().unwrap()];
        assert!(young.admit().is_none());
        drop(held);
        assert!(young.admit().is_some());
    }
}
