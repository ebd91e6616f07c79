//! Whether what is written is read soon after, as consumers that keep up do: for them it stays in the page cache.
//! Large frames that nobody follows go past it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::place::FileId;

/// Frames as long as this go past the page cache when nobody follows.
const LARGE: usize = 64 << 10;
/// The same of frames that are not synced: another thread waits for the disk then, and waking it must pay.
const LARGE_UNSYNCED: usize = 256 << 10;
/// After somebody has read what was lately written, so many bytes more are written for him.
const BYTES: u64 = 256 << 20;
/// What lies in the newest journal or so many before it was lately written.
const JOURNALS: u64 = 4;

#[derive(Default)]
pub struct Followed {
    newest: AtomicU64,
    read: AtomicBool,
    left: AtomicU64,
    /// The newest journal with a frame that went past the cache.
    past: AtomicU64,
}

impl Followed {
    /// Somebody reads from a file.
    pub fn note(&self, file: FileId) {
        let lately = !file.is_run() && file.number() + JOURNALS >= self.newest.load(Ordering::Relaxed);
        if lately && !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Relaxed);
        }
    }

    /// Decides about the next frame of a journal. One thread asks, once for each.
    pub fn goes_past(&self, journal: FileId, length: usize, synced: bool) -> bool {
        self.newest.store(journal.number(), Ordering::Relaxed);
        if self.read.swap(false, Ordering::Relaxed) {
            self.left.store(BYTES, Ordering::Relaxed);
        }
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(length as u64), Ordering::Relaxed);
        let large = if synced { LARGE } else { LARGE_UNSYNCED };
        let goes_past = length >= large && left == 0;
        if goes_past {
            self.past.store(journal.number(), Ordering::Relaxed);
        }
        goes_past
    }

    /// Whether something of this journal, or of a later one, has gone past the cache.
    pub fn has_gone_past(&self, journal: FileId) -> bool {
        self.past.load(Ordering::Relaxed) >= journal.number().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_followed_for_a_while() {
        let followed = Followed::default();
        let (old, newest) = (FileId::journal(3), FileId::journal(9));
        assert!(!followed.has_gone_past(newest) && followed.goes_past(newest, LARGE, true));
        assert!(followed.has_gone_past(newest) && !followed.has_gone_past(FileId::journal(10)));
        assert!(!followed.goes_past(newest, LARGE - 1, true), "small frames never do");
        assert!(
            !followed.goes_past(newest, LARGE, false) && followed.goes_past(newest, LARGE_UNSYNCED, false)
        );
        followed.note(old);
        followed.note(FileId::run(9));
        assert!(followed.goes_past(newest, LARGE, true), "who reads history does not follow");
        followed.note(newest);
        assert!(!followed.goes_past(newest, BYTES as usize - 1, true));
        assert!(!followed.goes_past(newest, LARGE, true), "the last byte of the while is in this frame");
        assert!(followed.goes_past(newest, LARGE, true), "he reads no more");
        followed.note(FileId::journal(5));
        assert!(!followed.goes_past(newest, LARGE, true));
    }
}
