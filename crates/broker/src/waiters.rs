//! Who waits for data in which partition.
//!
//! A long poll registers for its partitions, looks once more, and sleeps; a commit wakes only those whose
//! partitions it touched. A wake-up between the two is not lost: `Notify` keeps it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_log::PartitionId;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Waiters {
    by_partition: Mutex<HashMap<PartitionId, Vec<Arc<Notify>>>>,
}

/// One registration; it ends with this value.
#[derive(Debug)]
pub struct Waiting<'a> {
    waiters: &'a Waiters,
    partitions: Vec<PartitionId>,
    notify: Arc<Notify>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<PartitionId, Vec<Arc<Notify>>>> {
        self.by_partition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn register(&self, partitions: Vec<PartitionId>) -> Waiting<'_> {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.lock();
        for partition in &partitions {
            waiting.entry(*partition).or_default().push(Arc::clone(&notify));
        }
        drop(waiting);
        Waiting { waiters: self, partitions, notify }
    }

    pub fn wake<'a>(&self, partitions: impl IntoIterator<Item = &'a PartitionId>) {
        let waiting = self.lock();
        for partition in partitions {
            for notify in waiting.get(partition).into_iter().flatten() {
                notify.notify_one();
            }
        }
    }
}

impl Waiting<'_> {
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        for partition in &self.partitions {
            if let Some(of_partition) = waiting.get_mut(partition) {
                of_partition.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
                if of_partition.is_empty() {
                    waiting.remove(partition);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionId = PartitionId { topic_id: [7; 16], partition: 0 };

    #[tokio::test]
    async fn a_wake_up_before_the_sleep_is_not_lost() {
        let waiters = Waiters::default();
        let waiting = waiters.register(vec![PARTITION]);
        waiters.wake([&PARTITION]);
        waiting.woken().await;
    }

    #[test]
    fn nothing_is_left_of_a_registration_that_ended() {
        let waiters = Waiters::default();
        drop(waiters.register(vec![PARTITION, PartitionId { partition: 1, ..PARTITION }]));
        assert!(waiters.lock().is_empty());
    }
}
