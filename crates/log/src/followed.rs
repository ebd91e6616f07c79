//! Whether what is written is read soon after, as consumers that keep up do: for them it stays in the page cache.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::place::FileId;

/// After somebody has read what was lately written, so many bytes more are written for him.
const BYTES: u64 = 256 << 20;
/// What lies in the newest journal or so many before it was lately written.
const JOURNALS: u64 = 4;

#[derive(Default)]
pub struct Followed {
    newest: AtomicU64,
    read: AtomicBool,
    left: AtomicU64,
}

impl Followed {
    /// Somebody reads from a file.
    pub fn note(&self, file: FileId) {
        let lately = !file.is_run() && file.number() + JOURNALS >= self.newest.load(Ordering::Relaxed);
        if lately && !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the next `bytes`, of a journal, are for somebody who follows. One thread asks, once for each frame.
    pub fn covers(&self, journal: FileId, bytes: u64) -> bool {
        self.newest.store(journal.number(), Ordering::Relaxed);
        if self.read.swap(false, Ordering::Relaxed) {
            self.left.store(BYTES, Ordering::Relaxed);
        }
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(bytes), Ordering::Relaxed);
        left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_followed_for_a_while() {
        let followed = Followed::default();
        let (old, newest) = (FileId::journal(3), FileId::journal(9));
        assert!(!followed.covers(newest, BYTES));
        followed.note(old);
        followed.note(FileId::run(9));
        assert!(!followed.covers(newest, 1), "who reads history does not follow");
        followed.note(newest);
        assert!(followed.covers(newest, BYTES - 1));
        assert!(followed.covers(newest, BYTES), "the last byte of the while is in this frame");
        assert!(!followed.covers(newest, 1), "he reads no more");
        followed.note(FileId::journal(5));
        assert!(followed.covers(newest, 1));
    }
}
