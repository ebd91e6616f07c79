//! The memory that the requests and answers of all connections share.
//!
//! Whoever needs more than a little of it takes a share first: as much as has arrived, not as much as was
//! promised. Who finds none waits, in the order of coming; meanwhile transfers that do not get on are given up,
//! and their connections with them, so that nobody keeps others waiting by sending or reading slowly. When all
//! that is taken belongs to those who wait, one of them may go beyond the limit and so makes room.
//!
//! Invariant: what is taken is at most the limit and one request.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// Up to so much nothing is taken: it is bounded by the number of connections.
pub const FREE: usize = 4 << 10;
/// What one partition takes in an answer that describes all of them, decoded and encoded.
pub const DESCRIBED_PARTITION: usize = 256;
const PATIENCE: Duration = Duration::from_millis(250);
const YOUNG: Duration = Duration::from_secs(1);
/// Bytes a second; who is slower is given up first.
const LEAST_RATE: u64 = 16 << 10;
const KIB: usize = 1 << 10;

/// The common memory.
pub struct Memory {
    room: Arc<Semaphore>,
    kib: u32,
    /// One may go beyond the limit.
    beyond: Arc<Semaphore>,
    transfers: Mutex<Transfers>,
    given_up: AtomicU64,
    /// How long somebody waits before another is given up for it.
    patience: Duration,
    /// A transfer that has taken no longer is never given up.
    young: Duration,
}

#[derive(Default)]
struct Transfers {
    next: u64,
    /// In the order in which they began.
    under_way: BTreeMap<u64, Arc<UnderWay>>,
}

struct UnderWay {
    since: Instant,
    moved: AtomicU64,
    given_up: Notify,
}

/// A part of the common memory, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Share {
    taken: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
}

/// A transfer between a connection and a share.
pub struct Transfer {
    memory: Arc<Memory>,
    number: u64,
    under_way: Arc<UnderWay>,
}

impl Memory {
    /// `bytes` is rounded to whole KiB.
    pub fn new(bytes: usize) -> Self {
        let kib = (bytes / KIB).clamp(1, (u32::MAX as usize).min(Semaphore::MAX_PERMITS)) as u32;
        Self {
            room: Arc::new(Semaphore::new(kib as usize)),
            kib,
            beyond: Arc::new(Semaphore::new(1)),
            transfers: Mutex::default(),
            given_up: AtomicU64::new(0),
            patience: PATIENCE,
            young: YOUNG,
        }
    }

    pub fn limit(&self) -> usize {
        self.kib as usize * KIB
    }

    pub fn used(&self) -> usize {
        self.limit().saturating_sub(self.room.available_permits() * KIB)
    }

    /// How many connections were closed so that others could go on.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Makes the share at least so large, or all there is when that is less. Safe to cancel.
    pub async fn extend(&self, share: &mut Share, bytes: usize) {
        let wanted = (bytes.div_ceil(KIB) as u64).min(u64::from(self.kib)) as u32;
        let more = wanted.saturating_sub((share.bytes() / KIB) as u32);
        if more == 0 || share.beyond.is_some() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(more) {
            return share.add(permit);
        }
        let mut permit = pin!(Arc::clone(&self.room).acquire_many_owned(more));
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit.into_iter().for_each(|permit| share.add(permit)),
                () = sleep(self.patience) => {
                    if !self.give_up_slow() && let Ok(permit) = Arc::clone(&self.beyond).try_acquire_owned() {
                        share.beyond = Some(permit);
                        return;
                    }
                }
            }
        }
    }

    /// Tells that a share waits for a client until the transfer is dropped.
    pub fn transfer(self: &Arc<Self>, patience: Duration) -> Transfer {
        let since = Instant::now() + patience;
        let under_way = Arc::new(UnderWay { since, moved: AtomicU64::new(0), given_up: Notify::new() });
        let mut transfers = self.lock();
        let number = transfers.next;
        transfers.next += 1;
        transfers.under_way.insert(number, Arc::clone(&under_way));
        Transfer { memory: Arc::clone(self), number, under_way }
    }

    /// `false` when there is no transfer at all, so that nothing comes back by itself.
    fn give_up_slow(&self) -> bool {
        let now = Instant::now();
        let mut transfers = self.lock();
        let slow = transfers.under_way.iter().find(|(_, transfer)| transfer.is_slow(now, self.young));
        let slow = slow.map(|(number, _)| *number);
        if let Some(slow) = slow.and_then(|number| transfers.under_way.remove(&number)) {
            slow.given_up.notify_one();
            self.given_up.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        !transfers.under_way.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Transfers> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn is_slow(&self, now: Instant, young: Duration) -> bool {
        let age = now.saturating_duration_since(self.since);
        let least = age.as_millis() as u64 * LEAST_RATE / 1000;
        age > young && self.moved.load(Ordering::Relaxed) < least
    }
}

impl Share {
    pub fn bytes(&self) -> usize {
        self.taken.as_ref().map_or(0, |permit| permit.num_permits() * KIB)
    }

    pub fn is_empty(&self) -> bool {
        self.taken.is_none() && self.beyond.is_none()
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
    }

    /// Gives back what is more than so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        if bytes == 0 {
            *self = Self::default();
        }
        let Some(permit) = &mut self.taken else { return };
        let spare = permit.num_permits().saturating_sub(bytes.div_ceil(KIB));
        drop(permit.split(spare));
    }
}

impl Transfer {
    pub fn moved(&self, bytes: usize) {
        self.under_way.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns when the share is needed for others. Safe to cancel.
    pub async fn given_up(&self) {
        self.under_way.given_up.notified().await;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.memory.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(kib: usize) -> Arc<Memory> {
        let mut memory = Memory::new(kib * KIB);
        (memory.patience, memory.young) = (Duration::from_millis(1), Duration::from_millis(50));
        Arc::new(memory)
    }

    /// Holds a share until it is given up.
    fn hold(memory: &Arc<Memory>, kib: usize, moved: usize) -> tokio::task::JoinHandle<()> {
        let memory = Arc::clone(memory);
        tokio::spawn(async move {
            let mut share = Share::default();
            memory.extend(&mut share, kib * KIB).await;
            let transfer = memory.transfer(Duration::ZERO);
            transfer.moved(moved);
            transfer.given_up().await;
        })
    }

    #[tokio::test]
    async fn who_waits_gets_the_share_of_one_that_does_not_get_on() {
        let memory = memory(100);
        let begun = Instant::now();
        let (_quick, slow) = (hold(&memory, 40, 1 << 40), hold(&memory, 40, 0));
        while memory.used() < 80 * KIB {
            tokio::task::yield_now().await;
        }
        let mut share = Share::default();
        memory.extend(&mut share, 50 * KIB).await;
        assert!(begun.elapsed() >= memory.young, "what is not slow is not given up");
        slow.await.unwrap();
        assert_eq!(memory.given_up(), 1);
        drop(share);
        assert_eq!(memory.used(), 40 * KIB);
    }

    #[tokio::test]
    async fn when_all_wait_for_more_one_goes_beyond_the_limit_and_all_get_on() {
        let memory = memory(100);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let memory = Arc::clone(&memory);
            tasks.spawn(async move {
                let mut share = Share::default();
                for kib in [10, 40, 100] {
                    memory.extend(&mut share, kib * KIB).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        tasks.join_all().await;
        assert_eq!((memory.used(), memory.given_up()), (0, 0));
    }

    #[tokio::test]
    async fn a_share_is_never_more_than_there_is_and_shrinks() {
        let memory = memory(8);
        let mut share = Share::default();
        memory.extend(&mut share, 1 << 30).await;
        assert_eq!(memory.used(), 8 * KIB);
        share.shrink(KIB + 1);
        assert_eq!(memory.used(), 2 * KIB);
        share.shrink(1 << 30);
        assert_eq!(memory.used(), 2 * KIB);
        share.shrink(0);
        assert!(share.is_empty());
        assert_eq!(memory.used(), 0);
    }
}
