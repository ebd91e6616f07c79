//! Rows of a store in memory: what was read from the backend, and what was written since the last commit.
//!
//! Owns what may be kept. No order of rows can be observed but that of their keys.

use std::collections::hash_map::{Entry, HashMap};

use foldhash::fast::RandomState;
use headwater_model::{Bytes, TimestampMs};

/// What a row takes beside its key and its encoded value, in bytes: its place in the map, and what is decoded.
const OVERHEAD: usize = 128;

pub(super) struct Row<V> {
    pub value: Option<(TimestampMs, V)>,
    /// It was written since the last flush.
    pub dirty: bool,
    /// It was read or written again since it was last looked over.
    used: bool,
    bytes: usize,
}

pub(super) struct Overlay<V> {
    rows: HashMap<Bytes, Row<V>, RandomState>,
    /// Of all rows, as far as their values have been encoded or decoded.
    bytes: usize,
}

impl<V> Default for Overlay<V> {
    fn default() -> Self {
        Self { rows: HashMap::default(), bytes: 0 }
    }
}

/// How much is kept between commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub rows: usize,
    pub bytes: usize,
}

impl<V> Overlay<V> {
    /// The row, also one that is known not to be there.
    pub fn get(&mut self, key: &Bytes) -> Option<&mut Row<V>> {
        let row = self.rows.get_mut(key)?;
        row.used = true;
        Some(row)
    }

    /// What is here without its having been asked for.
    pub fn peek(&self, key: &Bytes) -> Option<&Row<V>> {
        self.rows.get(key)
    }

    /// A row as the backend has it, of so many bytes.
    pub fn keep(&mut self, key: Bytes, value: Option<(TimestampMs, V)>, encoded: usize) -> &Row<V> {
        let bytes = key.len() + encoded + OVERHEAD;
        self.bytes += bytes;
        let row = Row { value, dirty: false, used: false, bytes };
        match self.rows.entry(key) {
            Entry::Occupied(mut known) => {
                let before = known.insert(row);
                self.bytes -= before.bytes;
                known.into_mut()
            }
            Entry::Vacant(free) => free.insert(row),
        }
    }

    /// Whether this is the first change of the row since the last flush.
    pub fn put(&mut self, key: Bytes, value: Option<(TimestampMs, V)>) -> bool {
        let row = self.rows.entry(key).or_insert(Row { value: None, dirty: false, used: false, bytes: 0 });
        (row.value, row.used) = (value, true);
        !std::mem::replace(&mut row.dirty, true)
    }

    /// The row is encoded, in so many bytes.
    pub fn encoded(&mut self, key: &Bytes, encoded: usize) {
        if let Some(row) = self.rows.get_mut(key) {
            row.dirty = false;
            let bytes = key.len() + encoded + OVERHEAD;
            self.bytes = self.bytes + bytes - std::mem::replace(&mut row.bytes, bytes);
        }
    }

    pub fn remove(&mut self, key: &Bytes) {
        if let Some(row) = self.rows.remove(key) {
            self.bytes -= row.bytes;
        }
    }

    /// What lies before `end` is there no more.
    pub fn expire_before(&mut self, end: &[u8]) {
        for (_, row) in self.rows.iter_mut().filter(|(key, _)| &key[..] < end) {
            row.value = None;
            row.dirty = false;
        }
    }

    /// Lets rows go that the backend has: first those that were not used since the last time, and if that is not enough
    /// all of them.
    pub fn evict(&mut self, limits: Limits) {
        if self.is_within(limits) {
            return;
        }
        self.retain(|row| std::mem::take(&mut row.used));
        if !self.is_within(limits) {
            self.retain(|_| false);
        }
    }

    fn is_within(&self, limits: Limits) -> bool {
        self.rows.len() <= limits.rows && self.bytes <= limits.bytes
    }

    fn retain(&mut self, mut stays: impl FnMut(&mut Row<V>) -> bool) {
        let mut gone = 0;
        self.rows.retain(|_, row| {
            let kept = row.dirty || stays(row);
            gone += if kept { 0 } else { row.bytes };
            kept
        });
        self.bytes -= gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn rows_that_are_not_used_go_first_and_those_not_written_yet_never() {
        let mut overlay = Overlay::default();
        for number in 0..10 {
            overlay.keep(key(number), Some((0, number)), 20);
        }
        overlay.put(key(100), Some((0, 100)));
        overlay.get(&key(3)).expect("it was kept");
        let limits = Limits { rows: 5, bytes: usize::MAX };
        overlay.evict(limits);
        let kept = (0..=100).filter(|number| overlay.peek(&key(*number)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [3, 100]);
        assert_eq!(overlay.bytes, 4 + 20 + OVERHEAD, "what is not encoded yet is not counted");
        overlay.encoded(&key(100), 7);
        assert_eq!(overlay.bytes, 2 * (4 + OVERHEAD) + 27);
    }

    #[test]
    fn bytes_are_a_limit_of_their_own() {
        let mut overlay = Overlay::default();
        for number in 0..10 {
            overlay.keep(key(number), Some((0, number)), 1_000);
            overlay.get(&key(number)).expect("it was kept");
        }
        let limits = Limits { rows: usize::MAX, bytes: 9 * (1_004 + OVERHEAD) };
        overlay.evict(limits);
        assert!(
            (0..10).all(|number| overlay.peek(&key(number)).is_none()),
            "all were used, and it is too much"
        );
        assert_eq!(overlay.bytes, 0);
    }
}
